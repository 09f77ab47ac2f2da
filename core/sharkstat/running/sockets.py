"""Which process of this host holds which socket, and since when: sampled from /proc while packets are captured.

Sockets are read from /proc/PID/net of one process in every network namespace, so those of containers are found, too;
psutil reads one namespace. With 3,000 sockets a sample costs 7 ms, psutil's 40 ms, and pyroute2's sock_diag 199 ms.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import pwd
import re
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from sharkstat.errors import SourceError
from sharkstat.running.openers import End, Kind, Openers, Process

INTERVAL = 0.05  # seconds from one sample to the next, on a host where one costs little
SPARE = 4  # and at least so many times what a sample costs, so that a fifth of a processor does it
SHARED = 1.0  # seconds after which it is asked again who holds the sockets that are known

_FILES: tuple[tuple[str, Kind], ...] = (("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp"))
_LISTEN = b"0A"
_ANY = ("0.0.0.0", "::")


@dataclass
class Socket:
    """One socket: where it was seen, by which processes it was held last, and its two ends (`remote` None without).

    Times are nanoseconds since 1970. It was there from `first` to `last`; in the samples at `before` and `after` it was
    not (`after` is None while it is open).
    """

    namespace: str
    kind: Kind
    local: End
    remote: End | None
    listening: bool
    before: int
    first: int
    last: int
    after: int | None = None
    holders: frozenset[Process] = field(default_factory=frozenset)

    @property
    def any_address(self) -> bool:
        return self.local[0] in _ANY


class Sockets:
    """All sockets that were open between `start` and `stop`, and the addresses of this host.

    SourceError where this system has no /proc to read them from.
    """

    def __init__(self, interval: float = INTERVAL) -> None:
        if sys.platform != "linux" or not Path("/proc/self/net/tcp").exists():
            raise SourceError("--process needs Linux: it reads sockets from /proc")
        self.seen: list[Socket] = []
        self.addresses: dict[str, set[str]] = {}  # by namespace
        self.own = os.readlink("/proc/self/ns/net")
        self.samples = 0
        self.longest = 0.0  # seconds from one sample to the next
        self._interval = interval
        self._open: dict[tuple[str, str, bytes, bytes, bytes], Socket] = {}
        self._now = self._forgotten = 0
        self._held_at = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.openers: Openers | None = None
        with contextlib.suppress(OSError):
            self.openers = Openers(_process)

    def start(self) -> None:
        """Take the first sample, and go on in a thread."""
        if self.openers is not None:
            self.openers.start()
        self.sample()
        self._thread.start()

    def stop(self) -> None:
        """Take the last sample."""
        self._done.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.sample()
        if self.openers is not None:
            self.openers.stop()

    def _run(self) -> None:
        cost = 0.0
        while not self._done.wait(max(self._interval, SPARE * cost)):
            begun, used = time.monotonic(), time.thread_time()
            self.sample()
            cost = time.thread_time() - used
            self.longest = max(self.longest, time.monotonic() - begun + max(self._interval, SPARE * cost))

    def sample(self) -> None:
        """Look at all sockets once."""
        if self._forgotten:  # in the thread that adds to them
            self.seen = [one for one in self.seen if one.after is None or one.after >= self._forgotten]
            self._forgotten = 0
        earlier, self._now = self._now, time.time_ns()
        self.samples += 1
        there: dict[tuple[str, str, bytes, bytes, bytes], Socket] = {}
        new = []
        pids = [name for name in os.listdir("/proc") if name.isdigit()]
        namespaces = _namespaces(pids)
        for namespace, pid in namespaces.items():
            for name, kind in _FILES:
                for local, remote, state, inode in _rows(f"/proc/{pid}/net/{name}"):
                    key = (namespace, name, local, remote, inode)
                    known = self._open.get(key) or there.get(key)
                    if known is None:
                        known = _socket(namespace, kind, local, remote, state, earlier)
                        new.append(key)
                        self.seen.append(known)
                    there[key] = known
        # All were there at some time between the beginning of the sample and its end.
        read = time.time_ns()
        for known in there.values():
            if not known.first:
                known.first = read
            known.last = max(known.first, self._now)
        for key, known in self._open.items():
            if key not in there:
                known.after = read
        self._open = there
        if new or time.monotonic() - self._held_at > SHARED:
            self._hold(pids)
        if self.samples == 1 or new:
            for namespace, pid in namespaces.items():
                self.addresses.setdefault(namespace, set()).update(_addresses(pid))

    def forget(self, time: int) -> None:
        """Forget sockets that were closed before that time (nanoseconds since 1970)."""
        self._forgotten = max(time, self._forgotten)
        if self.openers is not None:
            self.openers.forget(time)

    def _hold(self, pids: Iterable[str]) -> None:
        """Find out who holds the sockets that are open."""
        self._held_at = time.monotonic()
        wanted = {key[4]: [] for key in self._open}  # type: dict[bytes, list[Process]]
        for pid in pids:
            for inode in _held(pid) & wanted.keys():
                process = _process(pid)
                if process is not None:
                    wanted[inode].append(process)
        for key, known in self._open.items():
            if holders := wanted[key[4]]:
                known.holders = frozenset(holders)


def _namespaces(pids: Iterable[str]) -> dict[str, str]:
    """The network namespaces that can be seen, each with a process in it."""
    found: dict[str, str] = {os.readlink("/proc/self/ns/net"): "self"}
    for pid in pids:
        try:
            found.setdefault(os.readlink(f"/proc/{pid}/ns/net"), pid)
        except OSError:  # it is gone, or another user's
            continue
    return found


def _rows(path: str) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    """Local and remote end, state and inode of every socket that somebody holds, as the kernel writes them."""
    try:
        with open(path, "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines[1:]:
        words = line.split(None, 10)
        if len(words) > 9 and words[9] != b"0":
            yield words[1], words[2], words[3], words[9]


def _socket(namespace: str, kind: Kind, local: bytes, remote: bytes, state: bytes, before: int) -> Socket:
    far = _end(remote)
    return Socket(
        namespace, kind, _end(local), far if far[1] else None, kind == "tcp" and state == _LISTEN, before, 0, 0
    )


@lru_cache(maxsize=4096)
def _address(digits: bytes) -> str:
    """
    >>> _address(b"0100007F"), _address(b"0000000000000000FFFF00000100007F")
    ('127.0.0.1', '127.0.0.1')
    """
    raw = bytes.fromhex(digits.decode())
    if sys.byteorder == "little":  # each word of 32 bits is in the processor's order
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    if len(raw) == 4:
        return socket.inet_ntop(socket.AF_INET, raw)
    mapped = ipaddress.IPv6Address(raw).ipv4_mapped
    return str(mapped) if mapped else socket.inet_ntop(socket.AF_INET6, raw)


def _end(text: bytes) -> End:
    address, _, port = text.partition(b":")
    return _address(address), int(port, 16)


def _held(pid: str) -> set[bytes]:
    """The inodes of the sockets that a process holds."""
    folder = f"/proc/{pid}/fd/"
    found = set()
    try:
        for name in os.listdir(folder):
            try:
                target = os.readlink(folder + name)
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(target[8:-1].encode())
    except OSError:  # it is gone, or another user's
        pass
    return found


def _process(pid: str) -> Process | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        user = os.stat(f"/proc/{pid}").st_uid
        begin, end = text.index("("), text.rindex(")")
        program, words = text[begin + 1 : end], text[end + 2 :].split()
        if len(program) == 15:  # the kernel keeps no more of it
            first = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
            longer = first.rpartition("/")[2]
            program = longer if longer.startswith(program) else program
        return Process(int(pid), int(words[19]), int(words[1]), program, _user(user), unit_of(_cgroup(pid)))
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=1024)
def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _cgroup(pid: str) -> str:
    for line in Path(f"/proc/{pid}/cgroup").read_text(errors="replace").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "name=systemd"):
            return path
    return ""


_CONTAINER = re.compile(r"(?:(docker|libpod|cri-containerd|crio)-)?([0-9a-f]{64})(?:\.scope)?")
_ENGINES: Mapping[str, str] = {"libpod": "podman", "cri-containerd": "containerd"}


def unit_of(path: str) -> str:
    """The container or systemd unit of a control group; "" where it names none.

    >>> unit_of("/system.slice/nginx.service"), unit_of("/docker/" + "4f" * 32), unit_of("/")
    ('nginx.service', 'docker:4f4f4f4f4f4f', '')
    """
    for part in reversed(path.split("/")):
        if match := _CONTAINER.fullmatch(part):
            engine = match[1] or ("docker" if "/docker/" in path else "container")
            return f"{_ENGINES.get(engine, engine)}:{match[2][:12]}"
        if part.startswith(("lxc.payload.", "machine-")):
            return part.removesuffix(".scope")
        if part.endswith((".service", ".scope")) and part != "init.scope":
            return part
    return ""


def _addresses(pid: str) -> Iterator[str]:
    """The addresses of the namespace that a process is in."""
    try:
        last = ""
        for line in Path(f"/proc/{pid}/net/fib_trie").read_text().splitlines():
            text = line.strip()
            if text.startswith(("|-- ", "+-- ")):
                last = text[4:].split("/")[0]
            elif text == "/32 host LOCAL":
                yield last
    except OSError:
        pass
    try:
        for line in Path(f"/proc/{pid}/net/if_inet6").read_text().splitlines():
            yield socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0]))
    except OSError:
        pass
