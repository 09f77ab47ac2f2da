"""Which process opened a connection, as the kernel tells it when that happens: so also one that lives for an instant.

Root may watch the kernel's tracepoints (perf_event_open(2)): a socket of TCP that begins to connect, and the look-up of
a route for datagrams, both in the process that asks for it. Nothing is left in the kernel when this process ends,
however it ends.
"""

from __future__ import annotations

import ctypes
import fcntl
import ipaddress
import mmap
import os
import platform
import re
import select
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Kind = Literal["tcp", "udp"]
End: TypeAlias = tuple[str, int]  # an address and a port

_FOLDERS = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
_CALL = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "loongarch64": 241, "ppc64le": 319, "s390x": 331}
# linux/perf_event.h
_TRACEPOINT, _TID_TIME_RAW, _CLOSE_ON_EXEC, _MONOTONIC = 2, 2 | 4 | 1024, 8, 1
_COMM, _TASK, _WATERMARK, _USE_CLOCK = 1 << 9, 1 << 13, 1 << 14, 1 << 25
_DISABLE, _SET_OUTPUT, _SET_FILTER = 0x2401, 0x2405, 0x40082406
_LOST, _NAME, _FORK, _SAMPLE = 2, 3, 7, 9
_HEAD, _TAIL = 1024, 1032
_PAGES = 64  # of the ring of each processor
_FIELD = re.compile(r"field:.*?(\w+)(?:\[\d+\])?;\s*offset:(\d+);")
# include/net/tcp_states.h; linux/trace_events.h
_SYN_SENT, _CLOSED = 2, 7
_IN_INTERRUPT = 0x08 | 0x10

_CONNECT = ("sock/inet_sock_set_state", "protocol == 6 && (newstate == 2 || oldstate == 2)")
_ROUTES = (
    ("fib/fib_table_lookup", "proto == 17 && sport != 0"),
    ("fib6/fib6_table_lookup", "proto == 17 && sport != 0"),
)

BEFORE = 10**9  # nanoseconds between the opening of a connection and its first packet
AFTER = 10**7  # and by how much a packet may seem to be earlier
_MOST = 0.2  # of a processor


@dataclass(frozen=True)
class Process:
    """A process as it was when it was seen with a socket. `unit` is its container or systemd unit, "" without one."""

    pid: int
    started: int
    parent: int
    program: str
    user: str
    unit: str


@dataclass(frozen=True)
class Opening:
    """A process that opened a connection, and when.

    `source` is its own address, "" where the kernel had not chosen it yet. Of a process that was gone before anybody
    looked, only its number and its name are known: no user, unit or `namespace`.
    """

    when: int
    source: str
    process: Process
    namespace: str


class _Event:
    """One tracepoint: its number and where its fields are."""

    def __init__(self, folder: Path, name: str, wanted: str) -> None:
        self.number = int((folder / "events" / name / "id").read_text())
        text = (folder / "events" / name / "format").read_text()
        self.offsets = {found[1]: int(found[2]) for found in _FIELD.finditer(text)}
        self.filter = wanted
        self.routes = name.startswith("fib")
        self.six = name.startswith("fib6")


class Openers:
    """Watches from `start` to `stop`. OSError where this may not be watched."""

    def __init__(self, process: Callable[[str], Process | None]) -> None:
        """`process` reads what /proc says of one."""
        self._process = process
        self._found: dict[tuple[Kind, int, End], list[Opening]] = {}
        self._connecting: dict[int, tuple[int, Process, str]] = {}
        self._begun: dict[int, tuple[Process, str]] = {}  # by its number, as it was when it or its program began
        self._lost: list[int] = []  # when events were lost
        self._blind = 0  # from when on datagrams are too many to be watched
        self._rings: list[mmap.mmap] = []
        self._descriptors: list[int] = []
        self._of_routes: list[int] = []
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        folder = next((one for one in _FOLDERS if (one / "events").is_dir()), None)
        number = _CALL.get(platform.machine())
        if folder is None or number is None:
            raise OSError("the kernel's events cannot be seen here")
        self._events = {e.number: e for e in (_Event(folder, *one) for one in (_CONNECT, *_ROUTES))}
        try:
            for cpu in _processors():
                self._open(number, cpu)
        except BaseException:
            self._close()
            raise

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take what has come, and watch no more."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._close()

    def opener(self, kind: Kind, local: End, remote: End, first: int, last: int) -> list[Opening]:
        """Who opened a connection whose packets came between these times; empty where that is not certain."""
        with self._lock:
            found = self._found.get((kind, local[1], remote), ())
            until = first + AFTER if kind == "tcp" else last + AFTER
            possible = [one for one in found if first - BEFORE <= one.when <= until and one.source in ("", local[0])]
            if any(first - BEFORE <= when <= until for when in self._lost):
                return []
        if kind == "udp" and self._blind and last >= self._blind:
            return []
        return possible if len({one.process.pid for one in possible}) == 1 else []

    def forget(self, moment: int) -> None:
        """Forget what was opened long before that time."""
        with self._lock:
            for key, found in list(self._found.items()):
                kept = [one for one in found if one.when >= moment - BEFORE]
                if kept:
                    self._found[key] = kept
                else:
                    del self._found[key]

    # The kernel --------------------------------------------------------------------------------

    def _open(self, call: int, cpu: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        first = -1
        for event in self._events.values():
            flags = _USE_CLOCK | _WATERMARK | (_COMM | _TASK if first < 0 else 0)
            attributes = struct.pack(
                "IIQQQQQIIQQQQIiQIHH",
                *(
                    _TRACEPOINT,
                    112,
                    event.number,
                    1,
                    _TID_TIME_RAW,
                    0,
                    flags,
                    1,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    _MONOTONIC,
                    0,
                    0,
                    0,
                    0,
                ),
            )
            descriptor = libc.syscall(call, attributes, -1, cpu, -1, _CLOSE_ON_EXEC)
            if descriptor < 0:
                raise OSError(ctypes.get_errno(), "perf_event_open")
            self._descriptors.append(descriptor)
            fcntl.ioctl(descriptor, _SET_FILTER, event.filter.encode() + b"\0")
            if event.routes:
                self._of_routes.append(descriptor)
            if first < 0:
                first = descriptor
                self._rings.append(mmap.mmap(descriptor, (1 + _PAGES) * mmap.PAGESIZE))
            else:
                fcntl.ioctl(descriptor, _SET_OUTPUT, first)

    def _close(self) -> None:
        for ring in self._rings:
            ring.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._rings, self._descriptors, self._of_routes = [], [], []

    def _watch(self) -> None:
        waiting = select.poll()
        for descriptor in self._descriptors:
            waiting.register(descriptor, select.POLLIN)
        since, used = time.monotonic(), time.thread_time()
        while not self._ended.is_set():
            waiting.poll(100)
            self._read()
            if time.monotonic() - since > 1:
                if time.thread_time() - used > _MOST * (time.monotonic() - since) and self._of_routes:
                    self._blind = time.time_ns()
                    for descriptor in self._of_routes:
                        fcntl.ioctl(descriptor, _DISABLE, 0)
                    self._of_routes = []
                since, used = time.monotonic(), time.thread_time()
        self._read()

    def _read(self) -> None:
        # A connection may begin on one processor, and be established on another.
        samples = []
        for kind, data in [record for ring in self._rings for record in _records(ring)]:
            if kind == _SAMPLE:
                pid, _, when, size = struct.unpack_from("IIQI", data)
                samples.append((when, pid, data[20 : 20 + size]))
            elif kind == _FORK:
                child, parent = struct.unpack_from("II", data)
                if child != parent:
                    self._forks(child, parent)
            elif kind == _NAME:
                pid, thread = struct.unpack_from("II", data)
                if pid == thread:
                    self._begins(pid, data[8:].split(b"\0")[0].decode(errors="replace"))
            elif kind == _LOST:
                self._lost = [*self._lost[-1000:], time.time_ns()]
        since_1970 = time.time_ns() - time.monotonic_ns()
        for moment, pid, raw in sorted(samples):
            when = moment + since_1970
            event = self._events.get(struct.unpack_from("H", raw)[0])
            if event is not None and event.routes:
                self._route(event, when, pid, raw)
            elif event is not None:
                self._state(event, when, pid, raw)

    def _forks(self, child: int, parent: int) -> None:
        """Until it has a program of its own it is the parent's."""
        found = self._begun.get(parent) or self._now(parent)
        if found is not None:
            self._begins(child, found[0].program)

    def _begins(self, pid: int, program: str) -> None:
        self._begun.pop(pid, None)
        self._begun[pid] = self._now(pid) or (Process(pid, 0, 0, program, "", ""), "")
        if len(self._begun) > 10000:
            del self._begun[next(iter(self._begun))]

    def _now(self, pid: int) -> tuple[Process, str] | None:
        process = self._process(str(pid))
        if process is None:
            return None
        try:
            return process, os.readlink(f"/proc/{pid}/ns/net")  # noqa: PTH115 - as in `sockets`
        except OSError:
            return None

    def _who(self, pid: int) -> tuple[Process, str] | None:
        """The process as it is, or as it was when its program began."""
        return self._now(pid) or self._begun.get(pid)

    def _state(self, event: _Event, when: int, pid: int, raw: bytes) -> None:
        at = event.offsets
        address, old, new = struct.unpack_from("Qii", raw, at["skaddr"])
        if new == _SYN_SENT:
            self._connecting.pop(address, None)
            who = self._who(pid)
            if old == _CLOSED and who is not None and not raw[at["common_flags"]] & _IN_INTERRUPT:
                self._connecting[address] = (when, *who)
                if len(self._connecting) > 100000:  # of which nothing more was said
                    del self._connecting[next(iter(self._connecting))]
            return
        begun = self._connecting.pop(address, None)
        if begun is None:
            return
        source_port, target_port, family = struct.unpack_from("HHH", raw, at["sport"])
        four = family == 2
        source = _text(raw, at["saddr"] if four else at["saddr_v6"], four)
        target = _text(raw, at["daddr"] if four else at["daddr_v6"], four)
        self._note("tcp", source_port, (target, target_port), Opening(begun[0], source, begun[1], begun[2]))

    def _route(self, event: _Event, when: int, pid: int, raw: bytes) -> None:
        at = event.offsets
        if raw[at["common_flags"]] & _IN_INTERRUPT or pid == 0:
            return
        source_port, target_port = struct.unpack_from("HH", raw, at["sport"])
        source, target = _text(raw, at["src"], not event.six), _text(raw, at["dst"], not event.six)
        end = (target, target_port)
        found = self._found.get(("udp", source_port, end), ())
        own = "" if source in ("0.0.0.0", "::") else source
        if any(f.process.pid == pid and f.source == own and when - f.when < BEFORE // 2 for f in found[-2:]):
            return  # one that sends again and again
        who = self._who(pid)
        if who is not None:
            self._note("udp", source_port, end, Opening(when, own, *who))

    def _note(self, kind: Kind, port: int, remote: End, opening: Opening) -> None:
        with self._lock:
            self._found.setdefault((kind, port, remote), []).append(opening)


def _processors() -> Iterator[int]:
    for part in Path("/sys/devices/system/cpu/online").read_text().strip().split(","):
        low, _, high = part.partition("-")
        yield from range(int(low), int(high or low) + 1)


def _records(ring: mmap.mmap) -> Iterator[tuple[int, bytes]]:
    """What has come into a ring: kind and data."""
    head, tail = struct.unpack_from("QQ", ring, _HEAD)
    size = _PAGES * mmap.PAGESIZE

    def piece(at: int, length: int) -> bytes:
        begin = at % size
        data = ring[mmap.PAGESIZE + begin : mmap.PAGESIZE + min(begin + length, size)]
        return data + ring[mmap.PAGESIZE : mmap.PAGESIZE + length - len(data)]

    while tail < head:
        kind, _, length = struct.unpack("IHH", piece(tail, 8))
        yield kind, piece(tail + 8, length - 8)
        tail += length
    struct.pack_into("Q", ring, _TAIL, tail)


def _text(raw: bytes, at: int, four: bool) -> str:
    address = ipaddress.ip_address(raw[at : at + (4 if four else 16)])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
