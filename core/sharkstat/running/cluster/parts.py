"""Capture files dealt out to shards by workers: where the packets are, which shard each is of, and their bytes.

Files are looked at by groups, each by one worker. What all groups together say decides which pairs of hosts stay
together (`Dealing`); then each group gives a part to every shard. Packets are in time order, those of the same time in
the order of the files, as in one capture merged of all of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sharkstat.running.content import Content
from sharkstat.running.pairs import HEAD, pairs_of
from sharkstat.running.splitter import CHUNK, FULL, MOST
from sharkstat.running.walking import SECTION, Packets, Unsplittable, Walker

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

AMONG_REST = 1.3  # what tshark takes for a plain packet among the rest, as a multiple of what it takes elsewhere
BATCH = 4 * CHUNK  # bytes of files that are looked at together
BUCKETS = 4096  # that pairs are dealt out by: so many numbers say how, however many pairs there are
LARGE = 256 << 20  # bytes: of larger shards each worker has several, up to so many, so that all end together
SEVERAL = 4
_NANOSECONDS = (b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d")
NEVER = -(2**63)  # before the first packet
_INTERFACE, _ENHANCED, _SECRETS = 1, 6, 10
_HEADER = struct.pack("<IIIHHqI", SECTION, 28, 0x1A2B3C4D, 1, 0, -1, 28)


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


@dataclass
class Overview:
    """What is to be known of all files before any is read; `problem` is why they are read in one piece."""

    problem: str = ""
    shards: int = 0
    packets: int = 0
    size: int = 0
    rest: int = 0
    since: int = 0
    cut: bool = False
    announces: bool = False
    hides: bool = False


@dataclass
class Dealing:
    """Which packets go to which shard, and how they are written; the rest goes to the first shard.

    `interfaces` has by file the numbers that its interfaces have in what is written, if that is a pcapng.
    """

    overview: Overview
    shard_of: Any = None  # of each bucket
    rest: Any = None  # pairs, in order
    header: bytes = b""
    interfaces: dict[int, Any] = field(default_factory=dict)

    def shards_of(self, pairs: Array) -> Array:
        """The shard of each packet, by its pair."""
        import numpy as np

        places = np.minimum(np.searchsorted(self.rest, pairs), len(self.rest) - 1)
        found: Array = np.where(self.rest[places] == pairs, 0, self.shard_of[buckets_of(pairs)])
        return found


def deal_out(summaries: Sequence[Summary], workers: int, most: int, lean: bool) -> Dealing:
    """Deal the buckets out so that shards are about equal, and none exceeds `most` bytes.

    There is one for each worker, or several if they are large. With `lean`, plain packets take tshark less time than
    those of the first shard.
    """
    try:
        return _dealt(summaries, workers, most, lean)
    except Unsplittable as problem:
        return Dealing(Overview(problem=str(problem)))


def _dealt(summaries: Sequence[Summary], workers: int, most: int, lean: bool) -> Dealing:
    import numpy as np

    for summary in summaries:
        if summary.problem:
            raise Unsplittable(summary.problem)
    packets, size = sum(one.packets for one in summaries), sum(one.size for one in summaries)
    if not packets:
        raise Unsplittable("it has no packets")
    shards = max(workers * min(SEVERAL, max(1, size // (workers * LARGE))), -(-size // most))
    counts = sum(one.counts for one in summaries)
    rest = np.unique(np.concatenate([one.rest for one in summaries]))
    in_rest = sum(one.rest_packets for one in summaries)
    sizes, costs = [0] * shards, [0.0] * shards
    sizes[0], costs[0] = in_rest, in_rest * (FULL if lean else AMONG_REST)
    shard_of = np.zeros(BUCKETS, np.int16)
    for bucket in np.argsort(-counts, kind="stable").tolist():
        shard = min(range(shards), key=costs.__getitem__)
        count = int(counts[bucket])
        shard_of[bucket] = shard
        sizes[shard] += count
        costs[shard] += count * (1 if shard else AMONG_REST)
    largest = max(sizes)
    if largest > MOST * packets:
        raise Unsplittable(f"{largest:,} of {packets:,} packets would be in one shard")
    if largest * size / packets > 2 * most:
        raise Unsplittable("one shard would need more memory than a worker has for it")
    overview = Overview(
        "",
        shards,
        packets,
        size,
        in_rest,
        min(one.since for one in summaries if one.since is not None),
        any(one.cut for one in summaries),
        any(one.announces for one in summaries),
        any(one.hides for one in summaries),
    )
    heads = {number: head for one in summaries for number, head in one.heads.items()}
    interfaces = {number: blocks for one in summaries for number, blocks in one.interfaces.items()}
    return Dealing(overview, shard_of, rest, *_written_as(heads, interfaces))


def _written_as(
    heads: dict[int, bytes], interfaces: dict[int, list[tuple[int, bytes]]]
) -> tuple[bytes, dict[int, Array]]:
    """What a shard begins with, and the numbers of each file's interfaces in it, unless all are pcap and alike."""
    import numpy as np

    first = heads[min(heads)]
    if all(head and head[:16] + head[20:] == first[:16] + first[20:] for head in heads.values()):
        order = order_of(first)
        longest = [struct.unpack(order + "I", head[16:20])[0] for head in heads.values()]
        return first[:16] + struct.pack(order + "I", 0 if 0 in longest else max(longest)) + first[20:], {}
    if len(interfaces) == 1:  # a capture by itself: as it is
        ((number, own),) = interfaces.items()
        return b"".join([_HEADER, *(block for _, block in own)]), {number: np.arange(len(own), dtype=np.uint32)}
    due = sorted(
        (time, number, at, block) for number, own in interfaces.items() for at, (time, block) in enumerate(own)
    )
    known: dict[bytes, int] = {}
    for *_, block in due:
        known.setdefault(block, len(known))
    numbers = {number: np.array([known[block] for _, block in own], np.uint32) for number, own in interfaces.items()}
    return b"".join([_HEADER, *known]), numbers


def order_of(head: bytes) -> str:
    """The byte order of a pcap, by its header."""
    return "<" if head[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"


def _interface_of(head: bytes) -> bytes:
    """The block of the only interface that a pcap has, as a pcapng."""
    order = order_of(head)
    snaplen, link = struct.unpack(order + "II", head[16:24])
    options = struct.pack("<HHB3xHH", 9, 1, 9, 0, 0) if head[:4] in _NANOSECONDS else b""
    length = 20 + len(options)
    return struct.pack("<IIHHI", _INTERFACE, length, link, 0, snaplen) + options + struct.pack("<I", length)


def overview_of(dealing: Dealing) -> Overview:
    """What this machine is to know of it."""
    return dealing.overview


def header_of(dealing: Dealing) -> bytes:
    """What each shard begins with."""
    return dealing.header


def elsewhere_among(looked: Looked, dealing: Dealing, pairs: Sequence[int]) -> set[int]:
    """Those of the pairs that have packets in these files, and are of other shards than the first."""
    import numpy as np

    sought = np.array(pairs, np.uint64)
    sought = sought[dealing.shards_of(sought) > 0]
    chunks = [chunk.pairs for file in looked.files for chunk in file.chunks]
    return {pair for chunk in chunks for pair in sought[np.isin(sought, chunk)].tolist()}


@dataclass
class Part:
    """What one shard has of one file: the records one after the other, their lengths, times and numbers in the file."""

    file: int
    data: Any
    lengths: Any
    times: Any
    numbers: Any

    def __sizeof__(self) -> int:
        return 500 + int(self.data.nbytes) + 16 * len(self.lengths)


@dataclass
class Parts:
    """What one shard has of a group of files."""

    parts: list[Part]

    def __sizeof__(self) -> int:
        return 100 + sum(part.__sizeof__() for part in self.parts)


def deal(looked: Looked, dealing: Dealing) -> list[Parts]:
    """What each shard has of these files."""
    shards: list[Parts] = [Parts([]) for _ in range(dealing.overview.shards)]
    for file in looked.files:
        for number, part in enumerate(_parts_of(file, dealing)):
            if part is not None:
                shards[number].parts.append(part)
    return shards


def _parts_of(file: LookedFile, dealing: Dealing) -> Iterator[Part | None]:
    import numpy as np

    data: list[list[Any]] = [[] for _ in range(dealing.overview.shards)]
    lengths: list[list[Array]] = [[] for _ in data]
    times: list[list[Array]] = [[] for _ in data]
    numbers: list[list[Array]] = [[] for _ in data]
    before = 0
    for chunk, piece in zip(file.chunks, _same_pieces(file), strict=True):
        view = memoryview(piece)
        shards = dealing.shards_of(chunk.pairs)
        order = np.argsort(shards, kind="stable")
        bounds = np.searchsorted(shards[order], np.arange(len(data) + 1))
        begins, ends = chunk.begins[order].tolist(), chunk.ends[order].tolist()
        for shard in range(len(data)):
            one, other = int(bounds[shard]), int(bounds[shard + 1])
            if one == other:
                continue
            mine = order[one:other]
            data[shard] += [view[b:e] for b, e in zip(begins[one:other], ends[one:other], strict=True)]
            lengths[shard].append(chunk.ends[mine] - chunk.begins[mine])
            times[shard].append(chunk.times[mine])
            numbers[shard].append((mine + before).astype(np.uint32))
        before += len(shards)
    for shard, records in enumerate(data):
        if not records:
            yield None
            continue
        all_lengths, all_times = np.concatenate(lengths[shard]), np.concatenate(times[shard])
        known = dealing.interfaces.get(file.number)
        if known is not None and file.head:
            records, all_lengths = _as_blocks(records, file.head, int(known[0]))
        whole = np.frombuffer(b"".join(records), np.uint8)
        if known is not None and not file.head and known.tolist() != list(range(len(known))):
            whole = whole.copy()
            _renumber(whole, all_lengths, known)
        yield Part(file.number, whole, all_lengths, all_times, np.concatenate(numbers[shard]))


def _as_blocks(records: Sequence[bytes | memoryview], head: bytes, interface: int) -> tuple[list[bytes], Array]:
    """The records of a pcap as blocks of a pcapng, and their lengths."""
    import numpy as np

    units = 10**9 if head[:4] in _NANOSECONDS else 10**6
    unpack, pack = struct.Struct(order_of(head) + "IIII").unpack_from, struct.Struct("<IIIIIII").pack
    blocks = []
    for record in records:
        seconds, fraction, kept, length = unpack(record)
        time, padding = seconds * units + fraction, -kept % 4
        size = 32 + kept + padding
        begin = pack(_ENHANCED, size, interface, time >> 32, time & 0xFFFFFFFF, kept, length)
        blocks.append(b"".join([begin, record[16:], bytes(padding), struct.pack("<I", size)]))
    return blocks, np.array([len(block) for block in blocks], np.uint32)


def _renumber(data: Array, lengths: Array, interfaces: Array) -> None:
    """Give the packets' blocks other numbers of interfaces."""
    import numpy as np

    begins = np.concatenate([[0], np.cumsum(lengths[:-1], dtype=np.int64)])
    own = sum(data[begins + 8 + byte].astype(np.uint32) << np.uint32(8 * byte) for byte in range(4))
    numbers = interfaces[own]
    for byte in range(4):
        data[begins + 8 + byte] = (numbers >> np.uint32(8 * byte)) & np.uint32(255)


class Shard:
    """The packets of one shard of all files: a capture of its own."""

    def __init__(self, header: bytes, groups: Sequence[Parts]) -> None:
        import numpy as np

        self._header = header
        self._parts = sorted((part for group in groups for part in group.parts), key=lambda part: part.file)
        self.packets = sum(len(part.lengths) for part in self._parts)
        times = np.concatenate([part.times for part in self._parts]) if self._parts else np.zeros(0, np.int64)
        files = np.repeat(np.arange(len(self._parts)), [len(part.lengths) for part in self._parts])
        order = None if bool((times[1:] >= times[:-1]).all()) else np.argsort(times, kind="stable")
        self._order: Array | None = order
        self._times = times if order is None else times[order]
        self._of_parts = files if order is None else files[order]

    def position(self, packet: int) -> tuple[int, int, int]:
        """Where the packet of that number, from 1 on, is among all: its time, file, and number in the file."""
        import numpy as np

        at = packet - 1
        part = int(self._of_parts[at])
        place = at if self._order is None else int(self._order[at])
        place -= sum(len(one.lengths) for one in self._parts[:part])
        return int(self._times[at]), self._parts[part].file, int(np.int64(self._parts[part].numbers[place]))

    def pieces(self) -> Iterator[bytes | memoryview]:
        """The capture's bytes."""
        import numpy as np

        yield self._header
        if self._order is None:
            for part in self._parts:
                for at in range(0, len(part.data), CHUNK):
                    yield memoryview(part.data)[at : at + CHUNK]
            return
        views = [memoryview(part.data) for part in self._parts]
        ends = [np.cumsum(part.lengths, dtype=np.int64) for part in self._parts]
        seen = [0] * len(self._parts)  # packets of each part
        changes = np.nonzero(np.diff(self._of_parts))[0] + 1
        for begin, end in zip([0, *changes.tolist()], [*changes.tolist(), self.packets], strict=True):
            at = int(self._of_parts[begin])
            first = int(ends[at][seen[at] - 1]) if seen[at] else 0
            seen[at] += end - begin
            yield views[at][first : int(ends[at][seen[at] - 1])]


def _same_pieces(file: LookedFile) -> Iterator[bytes]:
    """The bytes of each of its chunks."""
    reader = Content([file.name], addresses=True).reader()
    for chunk in file.chunks:
        data = reader.read(chunk.size)
        if len(data) < chunk.size:
            raise Unsplittable(f"{file.name} has become shorter")
        yield data
