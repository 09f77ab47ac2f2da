"""The packets of shards: each group of files gives a part to every shard, and a shard is a capture of its parts.

Packets are in time order, those of the same time in the order of the files, as in one capture merged of all of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sharkstat.running.cluster.dealing import Dealing
from sharkstat.running.cluster.looking import NANOSECONDS, Looked, LookedFile, order_of
from sharkstat.running.content import Content
from sharkstat.running.splitter import CHUNK
from sharkstat.running.walking import Unsplittable

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_ENHANCED = 6


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

    units = 10**9 if head[:4] in NANOSECONDS else 10**6
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
