"""Several capture files read as one, in time order.

What decides the order is the time of each file's next packet, as in mergecap. So a file is read from when its first
packet is due, a piece at a time, and is open only while a piece is read: there may be any number of files. If all are
pcap and alike, their records pass unchanged. Otherwise they become blocks of one section of pcapng, in which equal
interfaces are one.
"""

from __future__ import annotations

import heapq
import os
import select
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sharkstat.running.capturefile import NO_PACKET, CaptureReader, is_plain
from sharkstat.running.pipes import Wake, wait_for
from sharkstat.running.unpacking import PIECE, Damaged, FileBytes

_SECTION, _INTERFACE, _OBSOLETE, _SIMPLE, _NAMES, _STATISTICS, _ENHANCED, _SECRETS = 0x0A0D0D0A, 1, 2, 3, 4, 5, 6, 10
_LONGEST = 1 << 18  # of a packet; tshark takes longer ones for damage, but for these link types
_LONG_LINKS = {231, 249, 279}  # D-Bus, USBPcap, EBHSCR
_HEADER = struct.pack("<IIIHHqI", _SECTION, 28, 0x1A2B3C4D, 1, 0, -1, 28)

# Converts a file that is neither pcap nor pcapng: where its pcapng can be read from, and what ends that early.
Convert = Callable[[str], tuple[int, Callable[[], None]]]


class _Converted:
    """What a helper makes of a file: a pcapng."""

    def __init__(self, name: str, convert: Convert) -> None:
        self.position = 0
        self._name, self._convert = name, convert
        self._descriptor: int | None = None
        self._stop: Callable[[], None] = lambda: None
        self._ended = False

    def more(self) -> bytes:
        if self._descriptor is None and not self._ended:
            try:
                self._descriptor, self._stop = self._convert(self._name)
            except OSError as problem:
                raise Damaged(f"cannot be read to its end ({problem.strerror})") from None
        piece = os.read(self._descriptor, PIECE) if self._descriptor is not None else b""
        self._ended = not piece
        return piece

    def close(self) -> None:
        if self._descriptor is not None:
            if not self._ended:
                self._stop()
            os.close(self._descriptor)
        self._descriptor, self._ended = None, True


@dataclass
class _Kind:
    """What a file's beginning says of it."""

    head: bytes = b""  # of a pcap
    order: str = ""
    nanoseconds: int = 0  # a unit of a pcap's times
    link: int = 0

    @property
    def alike(self) -> tuple[object, ...]:
        """Files that agree in this can be one pcap."""
        return self.head[:16], self.head[20:24]


@dataclass
class _File:
    """One of the files: the records that are read, and where in them the next one is."""

    name: str
    number: int
    size: int
    open: Callable[[], FileBytes]
    source: FileBytes | _Converted | None = None
    reader: CaptureReader = field(default_factory=CaptureReader)
    kind: _Kind = field(default_factory=_Kind)
    interfaces: list[int] = field(default_factory=list)  # the number that each has in what is written
    foreign: bool = False  # neither pcap nor pcapng that can be read here
    begun: bool = False  # whether its first packet was reached
    data: bytes = b""
    records: list[Any] = field(default_factory=list)
    at: int = 0
    done: bool = False

    @property
    def position(self) -> int:
        if self.done:
            return self.size
        return min(self.source.position, self.size) if self.source is not None else 0


class Merged:
    """Several files as one capture.

    `problems` are the files that were not read to their end, and why.
    """

    def __init__(
        self,
        files: Sequence[tuple[str, int, Callable[[], FileBytes]]],
        convert: Convert,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """`files` are names, sizes, and what opens them. `convert` is called while pieces are read."""
        self.problems: list[tuple[str, str]] = []
        self.without: list[str] = []  # files without a packet that are neither pcap nor pcapng
        self.trailing: list[str] = []  # files in which something follows the compressed data
        self._files = [_File(name, number, size, open) for number, (name, size, open) in enumerate(files)]
        self._convert, self._stopped = convert, stopped
        self._known: dict[bytes, int] = {}  # interfaces by their blocks
        self._is_pcap = False

    @property
    def position(self) -> int:
        """How many bytes of the files have been read."""
        return sum(file.position for file in self._files)

    def close(self) -> None:
        """End helpers and let go of what was read."""
        for file in self._files:
            self._close(file)

    def pieces(self) -> Iterator[bytes]:
        """The capture that they are together, once."""
        due: list[tuple[int, int]] = []
        early: list[bytes] = []
        for file in self._files:
            if self._stopped():
                return
            try:
                time = self._first(file, early)
            except Damaged as problem:
                self._give_up(file, str(problem))
                continue
            if time is not None:
                due.append((time, file.number))
            else:
                file.done = True
                if file.foreign or not file.reader.order:
                    self.without.append(file.name)
        kinds = [file.kind for file in self._files if not file.done]
        self._is_pcap = len({kind.alike for kind in kinds}) == 1 and all(kind.head for kind in kinds)
        yield _common_header(kinds) if self._is_pcap else b"".join([_HEADER, *early])
        heapq.heapify(due)
        while due:
            _, number = heapq.heappop(due)
            file = self._files[number]
            try:
                yield from self._until(file, due[0] if due else None)
            except Damaged as problem:
                self._give_up(file, str(problem))
                continue
            if file.at < len(file.records):
                heapq.heappush(due, (file.records[file.at][4], number))
            else:
                file.done = True
                self._close(file)

    def _give_up(self, file: _File, problem: str) -> None:
        self.problems.append((file.name, problem))
        file.done = True
        self._close(file)

    def _close(self, file: _File) -> None:
        if isinstance(file.source, _Converted):
            file.source.close()
        elif file.source is not None and file.source.trailing:
            self.trailing.append(file.name)
        file.source, file.data, file.records, file.at = None, b"", [], 0

    def _first(self, file: _File, early: list[bytes]) -> int | None:
        """The time of its first packet, if it has one; names and secrets that come before it go to `early`."""
        self._begin(file)
        try:
            time = self._look(file, early)
            if time is None and file.foreign:
                self._begin(file)
                time = self._look(file, early)
        finally:
            self._close(file)
        return time

    def _begin(self, file: _File) -> None:
        file.source = _Converted(file.name, self._convert) if file.foreign else file.open()
        file.reader, file.interfaces, file.begun = CaptureReader(), [], False

    def _look(self, file: _File, early: list[bytes]) -> int | None:
        while self._read(file):
            if file.foreign and not file.reader.known:
                return None
            for begin, end, _, _, time, interface in file.records:
                if interface != NO_PACKET:
                    return int(time)
                if not file.kind.head and _block_kind(file.data, begin) in (_NAMES, _SECRETS):
                    early.append(file.data[begin:end])
        return None

    def _read(self, file: _File) -> bool:
        """Read the next records. False at the end; Damaged where the file ends otherwise."""
        rest = file.data[file.records[-1][1] :] if file.records else file.data
        file.records, file.at = [], 0
        assert file.source is not None
        while not file.records:
            more = self._more(file, len(rest))
            if not more:
                if rest:
                    raise Damaged("is cut short" if file.reader.known else "is damaged")
                return False
            rest += more
            if not file.reader.order and not file.foreign and not self._knows(file, rest):
                file.foreign, file.kind = True, _Kind()
                self._close(file)
                return False
            file.records = list(file.reader.records(rest))
            if not file.reader.known and not file.records:
                raise Damaged("is damaged")
        file.data = rest
        self._check(file)
        return True

    def _more(self, file: _File, least: int) -> bytes:
        """At least so many bytes, and enough to know the file by; fewer at its end."""
        assert file.source is not None
        pieces, size = [], 0
        while size < max(least, 40) and (piece := file.source.more()):
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)

    def _knows(self, file: _File, head: bytes) -> bool:
        """Whether the file can be read here, as far as its beginning says."""
        if not is_plain(head):
            return False
        if head[:4] == _SECTION.to_bytes(4, "big"):
            file.kind = _Kind(b"", "<" if head[8:12] == b"\x4d\x3c\x2b\x1a" else ">")
            return file.kind.order == "<"
        reader = CaptureReader()
        for _ in reader.records(head[:24]):
            pass
        order = reader.order
        if not order:
            return False
        version = struct.unpack_from(order + "HH", head, 4)
        (link,) = struct.unpack_from(order + "I", head, 20)
        file.kind = _Kind(head[:24], order, reader.interfaces[0].nanoseconds, link)
        if len(head) >= 40:
            fraction, kept, length = struct.unpack_from(order + "III", head, 28)
            if fraction * file.kind.nanoseconds >= 10**9 or kept > length:
                return False  # a variant that tshark alone can tell
        return version == (2, 4) and not link >> 16

    def _check(self, file: _File) -> None:
        """Leave out what is longer than a packet can be, and all behind it."""
        links = {interface.link for interface in file.reader.interfaces}
        if links & _LONG_LINKS:
            return
        for number, (_, _, begin, end, _, interface) in enumerate(file.records):
            if interface != NO_PACKET and end - begin > _LONGEST:
                file.records = file.records[:number]
                file.reader.known = False
                if not file.records:
                    raise Damaged("is damaged")
                return

    def _until(self, file: _File, limit: tuple[int, int] | None) -> Iterator[bytes]:
        """Its next packets: those that are due before what is due next of another file."""
        if file.source is None:
            self._begin(file)
        number = file.number
        while True:
            if file.at >= len(file.records):
                if file.records and not file.reader.known:
                    raise Damaged("is damaged")
                if not self._read(file):
                    return
            records, at = file.records, file.at
            if limit is None:
                at = len(records)
            else:
                while at < len(records) and (records[at][5] == NO_PACKET or (records[at][4], number) < limit):
                    at += 1
            if at > file.at:
                file.at, begun = at, file.at
                yield self._written(file, records[begun:at])
            if at < len(records):
                return

    def _written(self, file: _File, records: list[Any]) -> bytes:
        """The records as they are to be written."""
        if self._is_pcap:
            begin = records[0][1] if records[0][5] == NO_PACKET else records[0][0]
            return file.data[begin : records[-1][1]]
        return b"".join(self._enhanced(file, records) if file.kind.head else self._blocks(file, records))

    def _enhanced(self, file: _File, records: list[Any]) -> Iterator[bytes]:
        """Blocks for the records of a pcap."""
        kind, data = file.kind, file.data
        if not file.interfaces:
            snaplen = struct.unpack_from(kind.order + "I", kind.head, 16)[0]
            options = b"" if kind.nanoseconds == 1000 else struct.pack("<HHB3xHH", 9, 1, 9, 0, 0)
            length = 20 + len(options)
            block = struct.pack("<IIHHI", _INTERFACE, length, kind.link, 0, snaplen) + options
            yield from self._interface(file, block + struct.pack("<I", length))
        (interface,), units = file.interfaces, 10**9 // kind.nanoseconds
        unpack, pack = struct.Struct(kind.order + "IIII").unpack_from, struct.Struct("<IIIIIII").pack
        for begin, _, at, end, _, number in records:
            if number == NO_PACKET:
                continue
            seconds, fraction, kept, length = unpack(data, begin)
            time, padding = seconds * units + fraction, -kept % 4
            size = 32 + kept + padding
            yield pack(_ENHANCED, size, interface, time >> 32, time & 0xFFFFFFFF, kept, length)
            yield data[at:end] + bytes(padding) + struct.pack("<I", size)

    def _blocks(self, file: _File, records: list[Any]) -> Iterator[bytes]:
        """Blocks with the numbers that their interfaces have here."""
        data = file.data
        for begin, end, _, _, _, number in records:
            kind = _block_kind(data, begin)
            if number != NO_PACKET:
                file.begun = True
                known = file.interfaces[number]
                if kind == _SIMPLE and known:
                    raise Damaged("has packets without a time and an interface: convert it with editcap")
                same = kind == _SIMPLE or (kind == _ENHANCED and known == number)
                yield data[begin:end] if same else self._of_interface(data[begin:end], known)
            elif kind == _INTERFACE:
                yield from self._interface(file, data[begin:end])
            elif kind == _SECTION:
                if file.reader.order != "<":
                    raise Damaged("has sections of different byte orders: convert it with editcap")
                file.interfaces = []
            elif kind != _STATISTICS and (file.begun or kind not in (_NAMES, _SECRETS)):
                yield data[begin:end]

    def _of_interface(self, block: bytes, number: int) -> bytes:
        """A packet's block, which an obsolete one becomes by its head alone."""
        return struct.pack("<I", _ENHANCED) + block[4:8] + struct.pack("<I", number) + block[12:]

    def _interface(self, file: _File, block: bytes) -> Iterator[bytes]:
        if block not in self._known:
            self._known[block] = len(self._known)
            yield block
        file.interfaces.append(self._known[block])


class Merge:
    """Writes several files as one capture into a pipe, in a thread."""

    def __init__(self, files: Sequence[tuple[str, int]], write_end: int, wake: Wake, convert: Convert) -> None:
        """`files` are names and sizes. Takes over the write end; `convert` is called in the thread."""
        opened = [(name, size, partial(FileBytes, name)) for name, size in files]
        self._merged = Merged(opened, convert, lambda: wake.is_up)
        self._write_end, self._wake = write_end, wake
        self.failure: Exception | None = None  # what ended the reading of all files
        os.set_blocking(write_end, False)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def problems(self) -> list[tuple[str, str]]:
        """The files that were not read to their end, and why."""
        return self._merged.problems

    @property
    def trailing(self) -> list[str]:
        """Files in which something follows the compressed data: it is not read."""
        return list(dict.fromkeys(self._merged.trailing))

    @property
    def without(self) -> list[str]:
        """Files of other formats than pcap and pcapng in which no packet was found."""
        return self._merged.without

    @property
    def position(self) -> int:
        """How many bytes of the files have been read."""
        return self._merged.position

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            for piece in self._merged.pieces():
                view = memoryview(piece)
                while view:
                    if not wait_for(self._write_end, self._wake.watched, select.POLLOUT):
                        return  # tshark left, or the run ends
                    try:
                        view = view[os.write(self._write_end, view) :]
                    except BlockingIOError:
                        continue
                    except OSError:
                        return
        except Exception as problem:  # nobody else sees what ends a thread, and tables would seem complete
            self.failure = problem
        finally:
            os.close(self._write_end)
            self._merged.close()


def _common_header(kinds: Sequence[_Kind]) -> bytes:
    """The header of a pcap for all of them, whose longest packet is that of any."""
    first = kinds[0]
    lengths = [struct.unpack_from(first.order + "I", kind.head, 16)[0] for kind in kinds]
    longest = 0 if 0 in lengths else max(lengths)
    return first.head[:16] + struct.pack(first.order + "I", longest) + first.head[20:24]


def _block_kind(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")
