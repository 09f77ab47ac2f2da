"""Capture files as workers look at them: where their packets are, which pair of hosts each is of, and when.

Files are looked at by groups, each by one worker. What a group says to where packets may go is its `Summary`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sharkstat.running.content import Content
from sharkstat.running.pairs import HEAD, pairs_of
from sharkstat.running.splitter import CHUNK
from sharkstat.running.walking import SECTION, Packets, Unsplittable, Walker

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

BATCH = 4 * CHUNK  # bytes of files that are looked at together
BUCKETS = 4096  # that pairs are dealt out by: so many numbers say how, however many pairs there are
NANOSECONDS = (b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d")  # what a pcap with such times begins with
NEVER = -(2**63)  # before the first packet
_INTERFACE, _SECRETS = 1, 10


@dataclass
class _Chunk:
    """Where the packets of a piece of a file are in it, which pair each is of (0: none), and when."""

    size: int
    begins: Array
    ends: Array
    pairs: Array
    times: Array


@dataclass
class LookedFile:
    """A file as its headers are: `head` is a pcap's, `interfaces` are a pcapng's blocks, each with when it is due."""

    number: int
    name: str
    size: int = 0
    head: bytes = b""
    interfaces: list[tuple[int, bytes]] = field(default_factory=list)
    chunks: list[_Chunk] = field(default_factory=list)

    @property
    def packets(self) -> int:
        return sum(len(chunk.begins) for chunk in self.chunks)


@dataclass
class Summary:
    """What a group of files says to which shard packets may go.

    `counts` are the plain packets of each bucket, `rest` the pairs that stay together. The other fields are as those of
    a `splitter.Scan`; `problem` is why the files are read in one piece.
    """

    problem: str = ""
    counts: Any = None
    rest: Any = None
    rest_packets: int = 0
    packets: int = 0
    size: int = 0
    since: int | None = None
    cut: bool = False
    announces: bool = False
    hides: bool = False
    heads: dict[int, bytes] = field(default_factory=dict)  # by the number of each file with packets
    interfaces: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)


@dataclass
class Looked:
    """A group of files, looked at."""

    files: list[LookedFile]
    summary: Summary

    def __sizeof__(self) -> int:
        return 1000 + 24 * self.summary.packets


def buckets_of(pairs: Array) -> Array:
    """The bucket of each pair."""
    import numpy as np

    found: Array = ((pairs * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(52)).astype(np.int64)
    return found


def look(files: Sequence[tuple[int, str]]) -> Looked:
    """Look at every packet's headers in these files, given with their numbers, which are in order."""
    summary = Summary()
    batch = _Batch(summary)
    try:
        looked = [_look_at(number, name, batch) for number, name in files]
        batch.finish()
    except Unsplittable as problem:
        return Looked([], Summary(problem=str(problem)))
    return Looked(looked, summary)


def _look_at(number: int, name: str, batch: _Batch) -> LookedFile:
    import numpy as np

    found, walker, summary = LookedFile(number, name), Walker(), batch.summary
    rest, newest = b"", NEVER
    early: list[bytes] = []  # interfaces before the first packet
    reader = Content([name], addresses=True).reader()
    while piece := reader.read(CHUNK):
        data = rest + piece if rest else piece
        packets = walker.walk(data)
        if not found.chunks:
            found.head = _head_of(data)
        times = packets.times
        if len(times):
            if int(times[0]) < newest or bool((times[1:] < times[:-1]).any()):
                raise Unsplittable(f"packets of {name} are not in time order")
            if newest == NEVER:
                found.interfaces += [(int(times[0]), block) for block in early]
                summary.since = int(times[0]) if summary.since is None else min(summary.since, int(times[0]))
        for begin, end in packets.others if not found.head else ():
            kind = int.from_bytes(data[begin : begin + 4], "little")
            if kind == _SECRETS:
                raise Unsplittable(f"{name} has secrets to decrypt with")
            if kind == _INTERFACE:
                before = int(np.searchsorted(packets.begins, begin))
                due = int(times[before - 1]) if before else newest
                if due == NEVER and not len(times):
                    early.append(data[begin:end])
                else:
                    found.interfaces.append((int(times[0]) if due == NEVER else due, data[begin:end]))
        newest = int(times[-1]) if len(times) else newest
        begins, ends = packets.begins.astype(np.uint32), packets.ends.astype(np.uint32)
        chunk = _Chunk(packets.end, begins, ends, np.zeros(0, np.uint64), times)
        found.chunks.append(chunk)
        if len(times):
            batch.add(chunk, data, packets)
        found.size += packets.end
        rest = data[packets.end :]
    if rest or not walker.known:
        raise Unsplittable(f"{name} is no whole pcap or pcapng")
    if found.head and newest != NEVER:
        found.interfaces = [(int(next(c.times[0] for c in found.chunks if len(c.times))), _interface_of(found.head))]
    if found.packets:
        summary.heads[number] = found.head
        summary.interfaces[number] = found.interfaces
    summary.packets += found.packets
    summary.size += found.size
    return found


class _Batch:
    """Looks at the packets of many pieces of files at once: of small files, each by itself would take far longer.

    Their pairs go to their chunks, and what they say to the summary.
    """

    def __init__(self, summary: Summary) -> None:
        self.summary = summary
        self._pieces: list[tuple[_Chunk, bytes, Packets]] = []
        self._size = 0
        self._pairs: list[tuple[Array, Array]] = []
        self._rest: set[int] = {0}

    def add(self, chunk: _Chunk, data: bytes, packets: Packets) -> None:
        if self._pieces and packets.link != self._pieces[0][2].link:
            self._look()
        self._pieces.append((chunk, data, packets))
        self._size += len(data)
        if self._size >= BATCH:
            self._look()

    def _look(self) -> None:
        import numpy as np

        pieces, self._pieces, self._size = self._pieces, [], 0
        if not pieces:
            return
        view = np.frombuffer(b"".join([*(data for _, data, _ in pieces), bytes(HEAD + 64)]), np.uint8)
        packets = _one(pieces)
        looked = pairs_of(view, packets)
        counts = [len(chunk.begins) for chunk, _, _ in pieces]
        for (chunk, _, _), pairs in zip(pieces, np.split(looked.pairs, np.cumsum(counts[:-1])), strict=True):
            chunk.pairs = pairs
        self._pairs.append(np.unique(looked.pairs, return_counts=True))
        self._rest |= looked.rests
        self.summary.cut |= bool((packets.kept < packets.lengths).any())
        self.summary.announces |= looked.announces
        self.summary.hides |= looked.hides

    def finish(self) -> None:
        """Have the summary tell of all of them."""
        import numpy as np

        self._look()
        names = np.concatenate([np.zeros(0, np.uint64), *(names for names, _ in self._pairs)])
        counts = np.concatenate([np.zeros(0, np.int64), *(counts for _, counts in self._pairs)])
        rest = np.fromiter(self._rest, np.uint64, len(self._rest))
        stays = np.isin(names, rest)
        self.summary.counts = np.bincount(buckets_of(names[~stays]), counts[~stays], BUCKETS).astype(np.int64)
        self.summary.rest, self.summary.rest_packets = np.sort(rest), int(counts[stays].sum())


def _one(pieces: Sequence[tuple[_Chunk, bytes, Packets]]) -> Packets:
    """The packets of all pieces, whose bytes follow one another."""
    import numpy as np

    if len(pieces) == 1:
        return pieces[0][2]
    at, begins = 0, []
    for _, data, packets in pieces:
        begins.append(np.full(len(packets.begins), at, np.int64))
        at += len(data)
    offsets = np.concatenate(begins)

    def of_all(name: str) -> Array:
        return np.concatenate([getattr(packets, name) for _, _, packets in pieces])

    return Packets(
        of_all("begins") + offsets,
        of_all("ends") + offsets,
        of_all("starts") + offsets,
        of_all("kept"),
        of_all("lengths"),
        of_all("times"),
        [],
        at,
        pieces[0][2].link,
    )


def _head_of(data: bytes) -> bytes:
    """The header of a pcap; b"" of a pcapng of the usual byte order."""
    if data[:4] != SECTION.to_bytes(4, "big"):
        return data[:24]
    if data[8:12] != b"\x4d\x3c\x2b\x1a":
        raise Unsplittable("its byte order is unusual")
    return b""


def summary_of(looked: Looked) -> Summary:
    """What the group says."""
    return looked.summary


def order_of(head: bytes) -> str:
    """The byte order of a pcap, by its header."""
    return "<" if head[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"


def _interface_of(head: bytes) -> bytes:
    """The block of the only interface that a pcap has, as a pcapng."""
    order = order_of(head)
    snaplen, link = struct.unpack(order + "II", head[16:24])
    options = struct.pack("<HHB3xHH", 9, 1, 9, 0, 0) if head[:4] in NANOSECONDS else b""
    length = 20 + len(options)
    return struct.pack("<IIHHI", _INTERFACE, length, link, 0, snaplen) + options + struct.pack("<I", length)
