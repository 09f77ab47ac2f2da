"""How many packets were dropped before anybody could count them: by whom, and when.

dumpcap says so at its end. While it captures, Linux tells root of the drops of its packet sockets, and everybody of
those of the interfaces themselves.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Drops:
    """How many packets dumpcap captured, and how many were dropped by whom; None where nobody said."""

    captured: int | None = None
    kernel: int | None = None
    interface: int | None = None
    dumpcap: int | None = None

    @property
    def dropped(self) -> int | None:
        known = [count for count in (self.kernel, self.interface, self.dumpcap) if count is not None]
        return sum(known) if known else None

    def plus(self, kernel: int, interface: int = 0) -> Drops:
        """With so many more, or fewer, that the kernel and the interface dropped."""
        return replace(self, kernel=(self.kernel or 0) + kernel, interface=max(0, (self.interface or 0) + interface))

    def judged(self, packets: int, most: float, advice: Sequence[str]) -> tuple[bool, list[str]]:
        """Whether no more than `most` percent were dropped, and the warning. `packets` are those that were not."""
        lost = self.dropped or 0
        if not lost:
            return True, []
        seen = lost + packets
        share = 100 * lost / seen
        named = ((self.kernel, "the kernel"), (self.interface, "the interface"), (self.dumpcap, "dumpcap"))
        by = [f"{count:,} by {who}" for count, who in named if count]
        percent = f"{share:.1f}" if share >= 0.05 else "less than 0.1"
        said = f"{lost:,} of {seen:,} packets ({percent} %) were dropped, {' and '.join(by)}: they are in no table; "
        return share <= most, [said + ", ".join(advice)]


# Linux 5.6; the number is the same on all its architectures.
_PIDFD_GETFD = 438
# packet(7): asking sets the counts back.
_SOL_PACKET, _PACKET_STATISTICS = 263, 6


class KernelDrops:
    """The packets that the kernel drops since it has no room left for them in dumpcap's buffers.

    The kernel tells it to the owner of a packet socket alone, and sets the count back. So root asks on copies of
    dumpcap's sockets: what is read here is missing in what dumpcap says at its end, and has to be added.
    """

    def __init__(self, pid: int) -> None:
        """OSError where the sockets cannot be had: without the rights, or on an older kernel or another system."""
        self.count = 0
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        try:
            process = os.pidfd_open(pid)
        except AttributeError:
            raise OSError("this is not Linux") from None
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                if not str(entry.readlink()).startswith("socket:"):
                    continue
                copy = libc.syscall(_PIDFD_GETFD, process, int(entry.name), 0)
                if copy < 0:
                    raise OSError(ctypes.get_errno(), "pidfd_getfd")
                found = socket.socket(fileno=copy)
                if found.family == socket.AF_PACKET:
                    self._sockets.append(found)
                else:
                    found.close()
            if not self._sockets:
                raise OSError("it has no packet socket")
        except BaseException:
            self.close()
            raise
        finally:
            os.close(process)

    def read(self) -> int:
        """How many were dropped until now, as far as dumpcap has not asked itself."""
        with self._lock, contextlib.suppress(OSError):  # an interface may vanish
            for one in self._sockets:
                _, dropped = struct.unpack_from("II", one.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 12))
                self.count += dropped
        return self.count

    def close(self) -> None:
        """What comes from now on only dumpcap tells."""
        with self._lock:
            for one in self._sockets:
                one.close()
            self._sockets = []


# Of this network namespace; https://docs.kernel.org/networking/statistics.html
_DEVICES = Path("/proc/net/dev")
_DROP, _FIFO = 3, 4  # of what was received: without room (rx_dropped, rx_missed_errors), and overruns


class InterfaceDrops:
    """The packets that the interfaces drop from now on, before the kernel could give them to dumpcap."""

    def __init__(self, interfaces: Sequence[str]) -> None:
        self._interfaces = interfaces
        self._before = self._now()

    @property
    def count(self) -> int | None:
        """How many there were; None where nobody tells."""
        now = self._now()
        if not now:
            return None
        # One that is new, or had its counters set back, counts from 0.
        return sum(count - min(self._before.get(name, 0), count) for name, count in now.items())

    def _now(self) -> dict[str, int]:
        try:
            lines = _DEVICES.read_text().splitlines()[2:]
        except OSError:  # no Linux
            return {}
        found = {}
        for line in lines:
            name, _, counts = line.partition(":")
            words = counts.split()
            if name.strip() in self._interfaces or "any" in self._interfaces:
                found[name.strip()] = int(words[_DROP]) + int(words[_FIFO])
        return found


Counts = tuple[int, int]  # by the kernel, and by the interface


class DropHistory:
    """When packets were dropped: asks `read` for their numbers several times a second, and at every border of a period.

    `length` is that of a period in nanoseconds. `read` gives None where nobody tells.
    """

    _EVERY = 0.25

    def __init__(self, read: Callable[[], Counts | None], length: int) -> None:
        self._read, self._length = read, length
        self._asked = time.time_ns()
        self._before: Counts = (0, 0)
        self._found: list[tuple[int, Counts]] = []  # from when on, and how many until it was asked again
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def before(self, moment: int) -> Counts:
        """How many were dropped before that time (nanoseconds since 1970), of those that were not given yet."""
        self._note()
        with self._lock:
            given = [counts for when, counts in self._found if when < moment]
            self._found = [(when, counts) for when, counts in self._found if when >= moment]
        return sum(kernel for kernel, _ in given), sum(interface for _, interface in given)

    def _watch(self) -> None:
        while not self._ended.wait(min(self._EVERY, (self._length - time.time_ns() % self._length) / 1e9)):
            self._note()

    def _note(self) -> None:
        with self._lock:
            counts = self._read()
            if counts is not None and counts != self._before:
                (kernel, interface), (had_kernel, had_interface) = counts, self._before
                self._found.append((self._asked, (kernel - had_kernel, interface - had_interface)))
                self._before = counts
            self._asked = time.time_ns()

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()
        self._thread.join()
