"""Landlock: what tshark may open on Linux, whatever packets make of it (docs.kernel.org/userspace-api/landlock.html).

It may read its own program, libraries and data, and what it was given; it may write its pipes and its workspace. It may
open no socket (seccomp); started by root, it is also in a network namespace of its own, in which there is nothing.

A thread confines itself and starts the program, which inherits that: so nothing has to run between fork and exec, and
sharkstat itself stays as it is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import ctypes

T = TypeVar("T")

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_NO_NEW_PRIVILEGES = 38
_NEW_NETWORK = 0x40000000
_EXECUTE, _WRITE, _READ, _LIST, _TRUNCATE, _IOCTL = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _IOCTL
# By machine: what the kernel calls its interface (linux/audit.h), and the number of `socket` there.
_MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198), "riscv64": (0xC00000F3, 198)}
_SET_FILTER, _FILTER = 22, 2
_IO_URING_SETUP = 425  # by which sockets can be opened, too
_BIND_AND_CONNECT = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11

# What any program needs: libraries, and how names, times and numbers are written here.
_PROGRAMS = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/nix/store", "/gnu/store")
_DATA = (
    *("ld.so.cache", "ld.so.preload", "ld.so.conf", "ld.so.conf.d", "localtime", "timezone", "locale.alias"),
    *("passwd", "group", "nsswitch.conf", "host.conf", "hosts", "services", "protocols", "networks", "ethers"),
    *(
        "resolv.conf",
        "gai.conf",
        "wireshark",
        "gnutls",
        "gcrypt",
        "ssl/openssl.cnf",
        "crypto-policies",
        "snmp",
        "GeoIP",
    ),
)
_MORE = (
    *("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat"),
    *("/proc/sys", "/run/systemd/resolve", "/var/lib/GeoIP", "/var/lib/mibs", "/var/lib/snmp"),
)


@cache
def version() -> int:
    """The version of Landlock's interface that this kernel has; 0 where there is none."""
    try:
        return max(0, _call(_CREATE, None, 0, 1))
    except (OSError, AttributeError, ImportError):
        return 0


def reason_without(program: str) -> str:
    """Why that program cannot be confined, or ""."""
    if os.environ.get("SHARKSTAT_CONFINE", "") == "no":
        return "SHARKSTAT_CONFINE=no"
    if not version():
        return "this kernel has no Landlock"
    try:
        with Path(program).open("rb") as content:
            if content.read(4) != b"\x7fELF":  # nobody knows what a script starts
                return f"{program} is a script"
    except OSError:
        return f"{program} cannot be read"
    return ""


def forbids_sockets() -> bool:
    """Whether a program can be kept from opening sockets of any kind here."""
    return os.uname().machine in _MACHINES and sys.maxsize > 2**32 and _has_filters()


@cache
def _has_filters() -> bool:
    try:
        _prctl(_SET_FILTER, _FILTER, 0, 0, 0)
    except OSError as problem:
        return problem.errno == errno.EFAULT  # there are filters, and this was none
    except (AttributeError, ImportError):
        return False
    return False


def _forbid_sockets() -> None:
    """The thread, and what it starts, can open no socket: it is told that it may not. Others are as before.

    Unix sockets, too: whoever may connect to those of a user's services is no longer confined.
    """
    import ctypes

    architecture, socket = _MACHINES[os.uname().machine]
    load, is_at_least, equals, give = 0x20, 0x35, 0x15, 0x06
    allowed, refused, missing = 0x7FFF0000, 0x00050000 | errno.EACCES, 0x00050000 | errno.ENOSYS
    program = (
        *((load, 0, 0, 4), (equals, 1, 0, architecture), (give, 0, 0, missing)),  # of another kind of program
        *((load, 0, 0, 0), (is_at_least, 0, 1, 0x40000000), (give, 0, 0, missing)),  # x32
        *((equals, 2, 0, socket), (equals, 2, 0, _IO_URING_SETUP)),
        *((give, 0, 0, allowed), (give, 0, 0, refused), (give, 0, 0, missing)),
    )
    steps = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    prog = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(steps)))
    _prctl(_SET_FILTER, _FILTER, ctypes.addressof(prog), 0, 0)


def paths_in(text: str) -> Iterator[Path]:
    """The files and folders that a preference or a table of preferences names."""
    for word in (*re.findall(r'/[^"\n,]*', text), text.partition(":")[2]):
        path = Path(word.strip())
        if path.parts and path.absolute() != Path("/") and os.path.lexists(path):
            yield path.absolute()


class Confinement:
    """What one program may open. OSError where the kernel refuses."""

    def __init__(self, program: str, reads: Iterable[Path], writes: Iterable[Path], network: bool = False) -> None:
        """`reads` and `writes` are files and folders; with `network`, it may use the network."""
        self._network = network
        fs = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version(), 16)) - 1
        self._handled = fs
        attributes = struct.pack(
            "QQQ",
            fs,
            0 if network or version() < 4 else _BIND_AND_CONNECT,
            0 if version() < 6 else _ABSTRACT_SOCKETS_AND_SIGNALS,
        )[: 8 if version() < 4 else 16 if version() < 6 else 24]
        self._rules = _call(_CREATE, attributes, len(attributes), 0)
        try:
            for name in (*_PROGRAMS, *_beside(program)):
                self._allow(Path(name), _EXECUTE | _READ | _LIST)
            for name in (*(f"/etc/{name}" for name in _DATA), *_MORE):
                self._allow(Path(name), _READ | _LIST)
            for path in reads:
                self._allow(path, _READ | _LIST)
            for path in (*writes, Path("/dev/null")):
                self._allow(path, _READ | _LIST | _WRITE | _TRUNCATE)
            self._allow(Path("/proc"), _LIST)  # its own descriptors
        except BaseException:
            self.close()
            raise

    def _allow(self, path: Path, access: int) -> None:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:  # there is no such place here
            return
        try:
            if not os.path.isdir(f"/proc/self/fd/{descriptor}"):  # noqa: PTH112 - of the descriptor, not the name
                access &= _OF_FILES
            rule = struct.pack("=Qi", access & self._handled, descriptor)
            _call(_ADD, self._rules, 1, rule, 0)
        finally:
            os.close(descriptor)

    def start(self, starting: Callable[[], T]) -> T:
        """What `starting` gives, called in a thread that is confined."""
        given: list[T] = []
        failed: list[BaseException] = []

        def work() -> None:
            try:
                if not self._network and os.geteuid() == 0:
                    with contextlib.suppress(OSError):
                        _checked(_libc().unshare, _NEW_NETWORK)
                _prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
                _call(_RESTRICT, self._rules, 0)
                if not self._network and forbids_sockets():  # Landlock knows TCP alone
                    _forbid_sockets()
                given.append(starting())
            except BaseException as problem:
                failed.append(problem)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return given[0]

    def close(self) -> None:
        os.close(self._rules)


def _beside(program: str) -> Iterator[str]:
    """The folders of a program that is not among the system's, and of its libraries."""
    real = Path(program).resolve()
    yield str(real.parent)
    if not real.is_relative_to("/usr"):
        yield from (str(real.parent.parent / name) for name in ("lib", "lib64", "libexec", "share", "etc"))
    yield from filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":"))


@cache
def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: Any) -> int:
    return _checked(_libc().syscall, number, *arguments)


def _prctl(*arguments: int) -> int:
    return _checked(_libc().prctl, *arguments)


def _checked(function: Any, *arguments: Any) -> int:
    """Call a function of the C library with whole numbers as `long`; OSError where it fails."""
    import ctypes

    given = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = int(function(*given))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
