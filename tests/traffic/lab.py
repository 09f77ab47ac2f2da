"""A small network inside one process: namespaces, wires between them, threads that live in them, captures."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_TAP, IFF_NO_PI = 0x0001, 0x0002, 0x1000
SIOCETHTOOL = 0x8946
# ETHTOOL_SRXCSUM, STXCSUM, SSG, STSO, SGSO, SGRO: all off, so that a frame in a capture is a frame on a wire,
# with its checksum filled in.
OFFLOADS = (0x15, 0x17, 0x19, 0x1F, 0x24, 0x2C)
TIMEOUT = 5.0
NAMESPACES = Path("/run/netns")

_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The network could not be built, or the traffic did not go as it was meant to go."""


class CaptureTrouble(LabError):
    """The capture is not faithful (lost packets, times going back). Making it again usually helps."""


def run(*command: str) -> str:
    """Runs a command, and gives what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


@contextlib.contextmanager
def network_of(namespace: str) -> Iterator[None]:
    """Moves this thread into a namespace for as long as the block runs; sockets opened there stay there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _enter(home)
    finally:
        os.close(home)


def _enter(descriptor: int) -> None:
    # os.setns came with Python 3.12.
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@dataclass
class Host:
    """One machine of the lab."""

    name: str
    namespace: str

    def ip(self, *words: str) -> None:
        run("ip", "-n", self.namespace, *words)

    def set(self, setting: str, value: str) -> None:
        """Writes a sysctl, named as a path under /proc/sys/net."""
        with network_of(self.namespace):
            (Path("/proc/sys/net") / setting).write_text(value)

    def new_socket(self, family: socket.AddressFamily, kind: socket.SocketKind, protocol: int = 0) -> socket.socket:
        with network_of(self.namespace):
            opened = socket.socket(family, kind, protocol)
        opened.settimeout(TIMEOUT)
        return opened

    def listen(self, address: str, port: int) -> socket.socket:
        listener = self.new_socket(family_of(address), socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(16)
        return listener

    def connect(self, address: str, port: int, source_port: int = 0, source_address: str = "") -> socket.socket:
        """Opens a TCP connection. Without a source port the kernel chooses one."""
        connection = self.new_socket(family_of(address), socket.SOCK_STREAM)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source_port or source_address:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            connection.bind((source_address, source_port))
        try:
            connection.connect((address, port))
        except OSError:
            connection.close()
            raise
        return connection

    def address(self, interface: str, *addresses: str) -> None:
        for address in addresses:
            # Without duplicate address detection an IPv6 address can be used at once.
            extra = ("nodad",) if ":" in address else ()
            self.ip("addr", "add", address, "dev", interface, *extra)

    def up(self, interface: str) -> None:
        # No link-local address of the kernel's own: nothing chatters (router solicitations and the like)
        # but what a scene sends.
        self.ip("link", "set", interface, "addrgenmode", "none")
        self.without_offloads(interface)
        self.ip("link", "set", interface, "up")

    def without_offloads(self, interface: str) -> None:
        with self.new_socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            for offload in OFFLOADS:
                value = ctypes.create_string_buffer(struct.pack("=II", offload, 0))
                request = struct.pack("16sP", interface.encode(), ctypes.addressof(value))
                # Not every kind of interface has every offload.
                with contextlib.suppress(OSError):
                    fcntl.ioctl(control.fileno(), SIOCETHTOOL, request.ljust(40, b"\0"))

    def tun(self, interface: str, mode: int) -> int:
        """Makes a TUN or TAP interface, and gives the descriptor its packets come out of."""
        with network_of(self.namespace):
            descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                request = struct.pack("16sH", interface.encode(), mode | IFF_NO_PI)
                fcntl.ioctl(descriptor, TUNSETIFF, request.ljust(40, b"\0"))
            except OSError:
                os.close(descriptor)
                raise
        return descriptor


class Lab:
    """Hosts, wires and threads; leaving the `with` block takes all of it down again."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._hosts: list[Host] = []
        self._threads: list[threading.Thread] = []
        self._captures: list[Capture] = []
        self._descriptors: list[int] = []
        self._errors: list[BaseException] = []

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop.set()
        for capture in self._captures:
            capture.kill()
        for thread in self._threads:
            thread.join(TIMEOUT + 1)
        for descriptor in self._descriptors:
            os.close(descriptor)
        troubles: list[Exception] = []
        for host in self._hosts:
            if not (NAMESPACES / host.namespace).exists():
                continue
            try:
                run("ip", "netns", "del", host.namespace)
            except (LabError, subprocess.TimeoutExpired) as trouble:
                troubles.append(trouble)
        if error is None:
            self.check()
            if troubles:
                raise troubles[0]

    def check(self) -> None:
        """Raises what went wrong in a thread, if anything did."""
        if self._errors:
            raise LabError(f"a server failed: {self._errors[0]!r}") from self._errors[0]

    def host(self, name: str) -> Host:
        host = Host(name, f"traffic-{os.getpid()}-{name}")
        # Noted first: whatever happens from here on, it is taken down.
        self._hosts.append(host)
        run("ip", "netns", "add", host.namespace)
        host.ip("link", "set", "lo", "up")
        return host

    def wire(self, left: Host, right: Host, number: int = 1) -> None:
        """Joins two hosts by a veth pair; both ends are called eth0 unless the wire has another number."""
        name = f"eth{number - 1}"
        macs = [f"02:00:00:00:{number:02x}:{end:02x}" for end in (1, 2)]
        left.ip(
            *("link", "add", name, "address", macs[0], "type", "veth"),
            *("peer", "name", name, "address", macs[1], "netns", right.namespace),
        )
        left.up(name)
        right.up(name)

    def tun(self, host: Host, interface: str, mode: int) -> int:
        descriptor = host.tun(interface, mode)
        self._descriptors.append(descriptor)
        return descriptor

    def start(self, work: Callable[[], None]) -> None:
        """Runs something in a thread until it returns; it must watch `stop`."""

        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                if not self.stop.is_set():
                    self._errors.append(error)

        thread = threading.Thread(target=guarded, daemon=True)
        self._threads.append(thread)
        thread.start()

    def capture(self, host: Host, interface: str, path: Path, options: Sequence[str] = ()) -> Capture:
        capture = Capture(host, interface, path, options)
        self._captures.append(capture)
        return capture


class Capture:
    """dumpcap on one interface for as long as the `with` block runs."""

    def __init__(self, host: Host, interface: str, path: Path, options: Sequence[str]) -> None:
        self._said: list[str] = []
        self._opened = threading.Event()
        # `ip netns exec` becomes dumpcap, so the process id is dumpcap's own.
        self._process = subprocess.Popen(
            [
                *("ip", "netns", "exec", host.namespace),
                *("dumpcap", "-q", "-i", interface, "-w", str(path), *options),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line.strip())
            if line.startswith("File:"):
                self._opened.set()
        self._opened.set()

    def __enter__(self) -> Capture:
        self._opened.wait(TIMEOUT)
        time.sleep(0.2)
        if self._process.poll() is not None or not self._opened.is_set():
            raise LabError(f"dumpcap did not start: {' / '.join(self._said)}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What is still in the kernel's buffer when dumpcap stops is lost; it is handed over in time slices.
        time.sleep(0.7)
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise LabError("dumpcap did not stop") from None
        self._reader.join(TIMEOUT)
        counted = next((line for line in self._said if line.startswith("Packets received/dropped")), "")
        dropped = counted.partition("': ")[2].partition(" ")[0].partition("/")[2]
        if error is None and dropped != "0":
            raise CaptureTrouble(f"dumpcap: {' / '.join(self._said)}")

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(TIMEOUT)
