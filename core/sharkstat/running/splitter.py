"""A capture split into shards: each has all packets of its pairs of hosts, as the capture has them.

What tshark says of a packet depends on those before it: of its connection, of its datagram, and now and then of
others. So packets of two hosts stay together. Those of pairs that have nothing but *plain* TCP and UDP may go to any
shard. All else is the rest, and stays in one shard: other protocols, fragments, tunnels, protocols that announce
conversations of others, and pairs that an ICMP error quotes.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any

from sharkstat.running.pairs import HEAD, pairs_of
from sharkstat.running.pipes import Wake, wait_for
from sharkstat.running.walking import Unsplittable, Walker

if TYPE_CHECKING:
    import numpy as np

    from sharkstat.running.content import Content
    from sharkstat.running.tally import Tally

CHUNK = 8 << 20
MOST = 0.85  # of all packets in one shard: more is not worth it
FULL = 2  # what tshark takes for a packet of the rest, as a multiple of what it takes for a plain one


@dataclass
class _Chunk:
    """Where the packets of a piece of the capture are in it, and which pair each is of (0: none)."""

    size: int
    begins: np.ndarray[Any, Any]
    ends: np.ndarray[Any, Any]
    pairs: np.ndarray[Any, Any]
    others: list[tuple[int, int]]  # what is no packet


@dataclass
class Scan:
    """What a look at all headers of a capture gave."""

    chunks: list[_Chunk] = field(default_factory=list)
    packets: int = 0
    since: int = 0  # the first packet's time, in nanoseconds since 1970
    cut: bool = False  # some packets were captured only in part
    announces: bool = False  # a protocol that announces conversations of others is in it
    hides: bool = False  # tshark may begin streams of TCP that no packet tells
    secrets: bool = False  # it has keys, with which tshark decrypts
    counts: dict[int, int] = field(default_factory=dict)  # packets of each pair
    rest: set[int] = field(default_factory=set)  # the pairs that stay together


def scan(content: Content, stopped: threading.Event, tally: Tally | None = None, most: int | None = None) -> Scan:
    """Look at every packet's headers. Unsplittable where it is no capture of that kind, or not in order.

    A `tally` counts those that are plain; the pairs that it is not certain of stay together, too. Where there are more
    than `most` pairs, it is Unsplittable, too.
    """
    import numpy as np

    walker, found, rest = Walker(), Scan(), b""
    newest = -(2**63)
    reader = content.reader(stopped.is_set)
    while chunk := reader.read(CHUNK):
        if stopped.is_set():
            raise Unsplittable("it was interrupted")
        data = rest + chunk
        packets = walker.walk(data)
        if len(packets.begins):
            times = packets.times
            if not found.packets:
                found.since = int(times[0])
            if int(times[0]) < newest or bool((times[1:] < times[:-1]).any()):
                raise Unsplittable("its packets are not in time order")
            newest = int(times[-1])
            found.cut = found.cut or bool((packets.kept < packets.lengths).any())
            view = np.frombuffer(data + bytes(HEAD + 64), np.uint8)
            looked = pairs_of(view, packets)
            pairs, rests, announces = looked.pairs, looked.rests, looked.announces
            if tally is not None:
                tally.add(view, packets, looked, found.packets)
            names, counts = np.unique(pairs, return_counts=True)
            for name, count in zip(names.tolist(), counts.tolist(), strict=True):
                found.counts[name] = found.counts.get(name, 0) + count
            if most is not None and len(found.counts) > most:
                raise Unsplittable(f"it has more than {most:,} pairs of hosts")
            found.rest.update(rests)
            found.announces = found.announces or announces
            found.hides = found.hides or looked.hides
        else:
            pairs = np.zeros(0, np.uint64)
        found.chunks.append(
            _Chunk(packets.end, packets.begins.astype(np.uint32), packets.ends.astype(np.uint32), pairs, packets.others)
        )
        found.packets += len(packets.begins)
        rest = data[packets.end :]
    if stopped.is_set():
        raise Unsplittable("it was interrupted")
    if rest or not walker.known:
        raise Unsplittable("it is no whole pcap or pcapng")
    if not found.packets:
        raise Unsplittable("it has no packets")
    found.secrets = walker.secrets
    found.rest.add(0)
    if tally is not None and found.packets:
        found.rest |= tally.uncertain()
    return found


@dataclass
class Split:
    """Which pair goes to which shard; the rest goes to the first."""

    scan: Scan
    shards: int
    shard_of: dict[int, int]
    sizes: list[int]  # packets of each shard
    readers: int = 0  # how many of them are read; 0: all

    def __post_init__(self) -> None:
        self.readers = self.readers or self.shards

    def numbers(self) -> list[np.ndarray[Any, Any]]:
        """For each shard: the numbers that its packets have in the capture, from 1 on."""
        import numpy as np

        each: list[list[Any]] = [[] for _ in range(self.shards)]
        before = 1
        for shards in map(self.shards_of, self.scan.chunks):
            for number in range(self.shards):
                each[number].append(np.nonzero(shards == number)[0] + before)
            before += len(shards)
        return [np.concatenate(parts) if parts else np.zeros(0, np.int64) for parts in each]

    def shards_of(self, chunk: _Chunk) -> np.ndarray[Any, Any]:
        """The shard of each packet of the chunk."""
        import numpy as np

        if not len(chunk.pairs):
            return np.zeros(0, np.int8)
        names, places = np.unique(chunk.pairs, return_inverse=True)
        return np.array([self.shard_of[name] for name in names.tolist()], np.int8)[places]


def split(found: Scan, shards: int) -> Split:
    """Deal out the pairs, so that the shards are about equal. Unsplittable where one would have nearly all."""
    sizes, costs = [0] * shards, [0] * shards
    shard_of = {}
    for name, count in sorted(found.counts.items(), key=lambda one: (one[0] not in found.rest, -one[1], one[0])):
        shard = 0 if name in found.rest else min(range(shards), key=costs.__getitem__)
        shard_of[name] = shard
        costs[shard] += count * (1 if shard else FULL)
        sizes[shard] += count
    if max(sizes) > MOST * found.packets:
        raise Unsplittable(f"{max(sizes):,} of {found.packets:,} packets would be in one shard")
    return Split(found, shards, shard_of, sizes)


def apart(found: Scan) -> Split:
    """The rest, and all else in a second shard that nobody reads."""
    shard_of = {name: int(name not in found.rest) for name in found.counts}
    rest = sum(count for name, count in found.counts.items() if name in found.rest)
    return Split(found, 2, shard_of, [rest, found.packets - rest], readers=1)


class Feed:
    """Gives each shard its packets, through a pipe."""

    def __init__(self, content: Content, parts: Split) -> None:
        self._split = parts
        self.beside: Callable[[bytes], None] | None = None  # is given everything, in order; b"" is the end
        self._wake = Wake()
        self._pipes: dict[int, int] = {}
        self._queues: list[Queue[bytes]] = [Queue(8) for _ in range(parts.readers)]
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.stopped = threading.Event()
        self._reader = content.reader(self.stopped.is_set)
        self.problem = ""  # why not everything was dealt out

    @property
    def position(self) -> int:
        """How many bytes of the files were dealt out."""
        return self._reader.position

    def attach(self, number: int, write_end: int) -> None:
        """Where the shard of that number is to be written to; when all are there, it begins."""
        with self._lock:
            self._pipes[number] = write_end
            if len(self._pipes) < self._split.readers:
                return
        works = [threading.Thread(target=self._write, args=(n,), daemon=True) for n in range(self._split.readers)]
        works.append(threading.Thread(target=self._deal, daemon=True))
        for thread in works:
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """What was not written yet never is."""
        self.stopped.set()
        self._wake.up()
        with self._lock:
            if not self._threads:
                for write_end in self._pipes.values():
                    os.close(write_end)
                self._pipes = {}

    def close(self) -> None:
        self.stop()
        for thread in self._threads:
            thread.join()
        self._wake.close()

    def _deal(self) -> None:
        try:
            for chunk in self._split.scan.chunks:
                data = self._reader.read(chunk.size)
                if len(data) < chunk.size:
                    raise Unsplittable("it has become shorter")
                for number, piece in enumerate(self._pieces(chunk, data)):
                    self._put(number, piece)
                if self.stopped.is_set():
                    break
                if self.beside is not None:
                    self.beside(data)
        except Unsplittable as problem:
            self.problem = str(problem)
        finally:
            self._reader.close()
            if self.beside is not None:
                self.beside(b"")
            for number in range(self._split.readers):
                self._put(number, b"")

    def _pieces(self, chunk: _Chunk, given: bytes) -> Iterator[bytes]:
        """What each shard has of a chunk."""
        import numpy as np

        data = memoryview(given)
        shards = self._split.shards_of(chunk)
        for number in range(self._split.readers):
            mine = np.nonzero(shards == number)[0]
            slices = list(zip(chunk.begins[mine].tolist(), chunk.ends[mine].tolist(), strict=True))
            if chunk.others:
                slices = sorted([*slices, *chunk.others])
            yield b"".join([data[begin:end] for begin, end in slices])

    def _put(self, number: int, piece: bytes) -> None:
        while not self.stopped.is_set():
            try:
                self._queues[number].put(piece, timeout=0.2)
                return
            except Full:
                continue

    def _write(self, number: int) -> None:
        write_end = self._pipes[number]
        os.set_blocking(write_end, False)
        try:
            while piece := self._next(number):
                view = memoryview(piece)
                while view:
                    if not wait_for(write_end, self._wake.watched, select.POLLOUT):
                        break  # tshark left, or the feed was stopped
                    try:
                        view = view[os.write(write_end, view) :]
                    except BlockingIOError:
                        continue
                    except OSError:
                        break
        finally:
            os.close(write_end)

    def _next(self, number: int) -> bytes:
        while not self.stopped.is_set():
            try:
                return self._queues[number].get(timeout=0.2)
            except Empty:
                continue
        return b""
