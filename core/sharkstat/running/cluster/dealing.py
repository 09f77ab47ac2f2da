"""How the packets of many files are dealt out to shards: what all groups of files together say decides (`Dealing`)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sharkstat.running.cluster.looking import BUCKETS, Looked, Summary, buckets_of, order_of
from sharkstat.running.splitter import FULL, MOST
from sharkstat.running.walking import SECTION, Unsplittable

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

AMONG_REST = 1.3  # what tshark takes for a plain packet among the rest, as a multiple of what it takes elsewhere
LARGE = 256 << 20  # bytes: of larger shards each worker has several, up to so many, so that all end together
SEVERAL = 4
_HEADER = struct.pack("<IIIHHqI", SECTION, 28, 0x1A2B3C4D, 1, 0, -1, 28)


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
