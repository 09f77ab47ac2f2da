"""Counts plain packets from their headers: who sent to whom, and when.

A *way* is what goes from one end to another. Packets are counted by way, a piece of the capture at a time, so memory
depends on the number of ways and not on that of packets.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sharkstat.engines.headers import Interval, OfIntervals, OfMessages, OfWays, Way
from sharkstat.running.messages import pairs_with_http
from sharkstat.running.pairs import Looked
from sharkstat.running.walking import Packets, Unsplittable, columns

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

NEVER = 2**62  # later than any packet
# The columns of a key: what tells one way from another.
SOURCE_LINK, TARGET_LINK, TAGS, PAIR, PORTS, SOURCE, TARGET = 0, 1, 2, 3, 4, slice(5, 7), slice(7, 9)
WIDTH = 9
# And of its counts: those that are added, those whose least is kept, and those whose greatest is.
PACKETS, BYTES, CUT = range(3)
FIRST, NUMBER, SYN, SYN_ACK, END, SYN_LEAST, SYN_ACK_LEAST = range(7)
LAST, LAST_SYN, SYN_MOST, SYN_ACK_MOST = range(4)
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_KINDS = {"ip": (4, 0), "ipv6": (6, 0), "tcp": (0, 6), "udp": (0, 17), "eth": (0, 0)}


@dataclass
class Ways:
    """Ways, each with its key and what was counted of it."""

    keys: Array
    sums: Array
    least: Array
    most: Array

    def only(self, rows: Array) -> Ways:
        return Ways(self.keys[rows], self.sums[rows], self.least[rows], self.most[rows])

    def apart(self, *columns: int | slice) -> Ways:
        """Those with the same values in these columns made one; what the others had is 0."""
        import numpy as np

        keys = np.zeros_like(self.keys)
        for column in columns:
            keys[:, column] = self.keys[:, column]
        return Ways(keys, self.sums, self.least, self.most).grouped()

    def grouped(self) -> Ways:
        """Equal ways made one."""
        import numpy as np

        if not len(self.keys):
            return self
        numbers = numbers_of(self.keys)
        order = np.argsort(numbers, kind="stable")
        sorted_numbers = numbers[order]
        begins = np.concatenate([[0], np.nonzero(sorted_numbers[1:] != sorted_numbers[:-1])[0] + 1])
        keys = self.keys[order]
        sizes = np.diff(np.append(begins, len(order)))
        if bool((np.repeat(keys[begins], sizes, axis=0) != keys).any()):
            raise Unsplittable("two of its ways have one number")
        return Ways(
            keys[begins],
            np.add.reduceat(self.sums[order], begins),
            np.minimum.reduceat(self.least[order], begins),
            np.maximum.reduceat(self.most[order], begins),
        )


def numbers_of(keys: Array) -> Array:
    """A number for each key, and hardly ever the same for two: who asks compares the keys."""
    import numpy as np

    total = np.zeros(len(keys), np.uint64)
    for column in range(keys.shape[1]):
        total = (total ^ keys[:, column]) * np.uint64(0x9E3779B97F4A7C15)
        total ^= total >> np.uint64(32)
    return total


class _Pile:
    """Ways that come in pieces, equal ones made one now and then."""

    def __init__(self) -> None:
        self._parts: list[Ways] = []
        self._size, self._most = 0, 1 << 16

    def add(self, ways: Ways) -> None:
        found = ways.grouped()
        self._parts.append(found)
        self._size += len(found.keys)
        if self._size > self._most:
            self._size = len(self.all().keys)
            self._most = max(self._most, 2 * self._size)

    def all(self) -> Ways:
        import numpy as np

        parts = self._parts
        if len(parts) > 1:
            parts[:] = [
                Ways(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0]))).grouped()
            ]
        return parts[0]


class Tally:
    """Counts what tasks ask for, of all plain packets of a capture, as they come."""

    def __init__(self, asked: Sequence[OfWays | OfIntervals | OfMessages]) -> None:
        self._looks_for_http = any(isinstance(one, OfMessages) for one in asked)
        self._with_http: set[int] = set()  # pairs
        self._ways = _Pile()
        self._intervals = {one.microseconds: _Pile() for one in asked if isinstance(one, OfIntervals)}
        self._since = 0

    def add(self, view: Array, packets: Packets, looked: Looked, before: int) -> None:
        """Count the plain ones of these packets, behind so many others."""
        import numpy as np

        if not before:
            self._since = int(packets.times[0])
            if not self._since:
                raise Unsplittable("its first packet may have no time")
        rows = np.nonzero(looked.tcp | looked.udp)[0]
        found = _ways_of(view, packets, looked, rows)
        found.least[:, NUMBER] = rows + (before + 1)
        _mark(found, looked, rows, np.nonzero(looked.tcp[rows])[0], before)
        self._ways.add(found)
        if self._looks_for_http:
            self._with_http |= pairs_with_http(view, packets, looked, rows, found.keys[:, PORTS])
        for microseconds, pile in self._intervals.items():
            into = (packets.times[rows] - self._since + 500) // 1000
            keys = np.zeros((len(rows), 3), np.uint64)
            keys[:, 0] = into // microseconds if microseconds else 0
            keys[:, 1] = looked.pairs[rows]
            keys[:, 2] = found.keys[:, PORTS] >> np.uint64(32)
            pile.add(Ways(keys, found.sums, found.least[:, :1], found.most[:, :1]))

    def uncertain(self) -> set[int]:
        """The pairs for which headers do not surely tell what tshark would: a port is used again, or VLANs differ.

        Those that may have HTTP messages are among them, where these are to be counted.
        """
        import numpy as np

        ways = self._ways.all()
        names, counts = np.unique(ways.apart(PAIR, TAGS).keys[:, PAIR], return_counts=True)
        tcp = ways.only(_protocol(ways) == 6).apart(PAIR, PORTS, SOURCE, TARGET)
        back, known = _back(tcp)
        mine, most = tcp.least, tcp.most
        other, other_last = mine[back], most[back, LAST_SYN]
        other[~known], other_last[~known] = NEVER, -NEVER
        syn, answer, other_syn = mine[:, SYN], mine[:, SYN_ACK], other[:, SYN]
        has_syn, has_answer = syn < NEVER, answer < NEVER
        doubt = has_syn & (other_syn < NEVER)
        doubt |= has_syn & (syn != np.minimum(mine[:, NUMBER], other[:, NUMBER]))
        doubt |= has_syn & (mine[:, SYN_LEAST] != most[:, SYN_MOST])
        doubt |= has_answer & ((other[:, SYN_ACK] < NEVER) | has_syn | (answer != mine[:, NUMBER]))
        doubt |= has_answer & (other[:, NUMBER] < answer) & (other_syn != other[:, NUMBER])
        doubt |= has_answer & (mine[:, SYN_ACK_LEAST] != most[:, SYN_ACK_MOST])
        doubt |= np.maximum(most[:, LAST_SYN], other_last) >= np.minimum(mine[:, END], other[:, END])
        # Two ends with one address: which of them sent a packet is not always told by its ports.
        doubt |= (tcp.keys[:, SOURCE] == tcp.keys[:, TARGET]).all(axis=1)
        return {*names[counts > 1].tolist(), *np.unique(tcp.keys[doubt, PAIR]).tolist(), *self._with_http}

    def results(self, rest: set[int]) -> Results:
        """What was counted of all pairs but those of the rest."""
        import numpy as np

        apart = np.fromiter(rest, np.uint64, len(rest))

        def plain(pile: _Pile, pair: int) -> Ways:
            found = pile.all()
            found = found.only(~np.isin(found.keys[:, pair], apart))
            found.keys[:, pair] = 0
            return found.grouped()

        return Results(plain(self._ways, PAIR), {key: plain(pile, 1) for key, pile in self._intervals.items()})


class Results:
    """What was counted, for one request after the other."""

    def __init__(self, ways: Ways, intervals: dict[int, Ways]) -> None:
        self.ways = ways
        self._intervals = intervals
        self._addresses: dict[bytes, str] = {}

    @property
    def books(self) -> tuple[int, int, int | None, int | None, int]:
        """Packets, bytes, the first and last time, and how many packets are cut."""
        ways = self.ways
        if not len(ways.keys):
            return 0, 0, None, None, 0
        packets, size, cut = ways.sums.sum(axis=0).tolist()
        return packets, size, int(ways.least[:, FIRST].min()), int(ways.most[:, LAST].max()), cut

    def of(self, asked: OfWays | OfIntervals | OfMessages) -> list[list[Any]]:
        """The rows that a task makes of it."""
        if isinstance(asked, OfMessages):
            return []
        if isinstance(asked, OfWays):
            return asked.rows(self._ways(asked.kind))
        found = self._intervals[asked.microseconds]
        return asked.rows(
            [
                Interval(number, kind >> 8, "tcp" if kind & 255 == 6 else "udp", packets, size)
                for (number, kind), (packets, size) in zip(
                    found.keys[:, ::2].tolist(), found.sums[:, :2].tolist(), strict=True
                )
            ]
        )

    def streams(self, protocol: str) -> Array:
        """The packet that begins each stream, in order."""
        import numpy as np

        ways = self.ways.only(_protocol(self.ways) == _KINDS[protocol][1]).apart(PORTS, SOURCE, TARGET)
        back, known = _back(ways)
        mine = ways.least[:, NUMBER]
        return np.unique(np.where(known, np.minimum(mine, mine[back]), mine))

    def _ways(self, kind: str) -> list[Way]:
        import numpy as np

        version, protocol = _KINDS[kind]
        ways, ports = self.ways, bool(protocol)
        if kind == "eth":
            ways = ways.only(ways.keys[:, SOURCE_LINK] > 0).apart(SOURCE_LINK, TARGET_LINK)
        elif ports:
            ways = ways.only(_protocol(ways) == protocol).apart(PORTS, SOURCE, TARGET)
        else:
            ways = ways.only(_version(ways) == version).apart(SOURCE, TARGET)
        order = np.argsort(ways.least[:, NUMBER])
        ways = ways.only(order)
        count = len(order)
        streams: list[Any] = [None] * count
        source_ports, target_ports = streams, streams
        if ports:
            back, known = _back(ways)
            mine = ways.least[:, NUMBER]
            began = np.where(known, np.minimum(mine, mine[back]), mine)
            streams = np.unique(began, return_inverse=True)[1].tolist()
            both = ways.keys[:, PORTS]
            source_ports = ((both >> np.uint64(16)) & np.uint64(0xFFFF)).tolist()
            target_ports = (both & np.uint64(0xFFFF)).tolist()
            versions = _version(ways).tolist()
        else:
            versions = [version] * count
        if kind == "eth":
            names = [_texts(ways.keys[:, at]) for at in (SOURCE_LINK, TARGET_LINK)]
        else:
            names = [self._texts(ways.keys[:, at], versions) for at in (SOURCE, TARGET)]
        sums, times = ways.sums.tolist(), zip(ways.least[:, FIRST].tolist(), ways.most[:, LAST].tolist(), strict=True)
        return [
            Way(a, port_a, b, port_b, stream, packets, size, first, last)
            for a, port_a, b, port_b, stream, (packets, size, _), (first, last) in zip(
                names[0], source_ports, names[1], target_ports, streams, sums, times, strict=True
            )
        ]

    def _texts(self, words: Array, versions: list[int]) -> list[str]:
        raw, known, texts = words.astype(">u8").tobytes(), self._addresses, []
        for at, version in enumerate(versions):
            packed = raw[at * 16 : at * 16 + (4 if version == 4 else 16)]
            text = known.get(packed)
            if text is None:
                text = known[packed] = socket.inet_ntop(socket.AF_INET if version == 4 else socket.AF_INET6, packed)
            texts.append(text)
        return texts


def _texts(words: Array) -> list[str]:
    """Ethernet addresses: bits 47 to 0."""
    return [":".join(f"{word >> at & 255:02x}" for at in range(40, -1, -8)) for word in words.tolist()]


def _protocol(ways: Ways) -> Array:
    import numpy as np

    protocol: Array = (ways.keys[:, PORTS] >> np.uint64(32)) & np.uint64(0xFF)
    return protocol


def _version(ways: Ways) -> Array:
    import numpy as np

    version: Array = ways.keys[:, PORTS] >> np.uint64(40)
    return version


def _back(ways: Ways) -> tuple[Array, Array]:
    """For each way, which is the way back, and whether there is one."""
    import numpy as np

    keys = ways.keys
    turned = keys.copy()
    turned[:, SOURCE], turned[:, TARGET] = keys[:, TARGET], keys[:, SOURCE]
    ports = keys[:, PORTS]
    low = np.uint64(0xFFFF)
    turned[:, PORTS] = (
        ports >> np.uint64(32) << np.uint64(32) | (ports & low) << np.uint64(16) | ports >> np.uint64(16) & low
    )
    numbers = numbers_of(keys)
    order = np.argsort(numbers)
    at = np.minimum(np.searchsorted(numbers, numbers_of(turned), sorter=order), max(len(keys) - 1, 0))
    back = order[at] if len(keys) else at
    known = (keys[back] == turned).all(axis=1)
    return back, known


def _ways_of(view: Array, packets: Packets, looked: Looked, rows: Array) -> Ways:
    """Each packet as a way of its own."""
    import numpy as np

    count = len(rows)
    head = looked.head[rows]
    v4 = looked.v4[rows]
    keys = np.zeros((count, WIDTH), np.uint64)
    if packets.link == 1:
        ends = np.zeros((count, 16), np.uint8)
        link = columns(view, packets.starts[rows], 12)
        ends[:, 2:8], ends[:, 10:16] = link[:, 6:], link[:, :6]
        keys[:, :2] = ends.view(">u8")
        keys[:, :2] |= np.uint64(1 << 48)
    keys[:, TAGS] = looked.tags[rows]
    keys[:, PAIR] = looked.pairs[rows]
    words = head.view(">u4").astype(np.uint64)
    half = np.uint64(32)
    ports = np.where(v4, words[:, 5], words[:, 10])
    kind = np.where(v4, np.uint64(4 << 8), np.uint64(6 << 8)) | np.where(looked.tcp[rows], np.uint64(6), np.uint64(17))
    keys[:, PORTS] = kind << half | ports
    keys[v4, SOURCE.start], keys[v4, TARGET.start] = words[v4, 3] << half, words[v4, 4] << half
    six = ~v4
    if bool(six.any()):
        keys[six, SOURCE.start : TARGET.stop] = words[six, 2:10:2] << half | words[six, 3:10:2]
    sums = np.ones((count, 3), np.int64)
    sums[:, BYTES] = packets.lengths[rows]
    sums[:, CUT] = packets.kept[rows] < packets.lengths[rows]
    least = np.full((count, 7), NEVER, np.int64)
    most = np.full((count, 4), -NEVER, np.int64)
    least[:, FIRST] = most[:, LAST] = packets.times[rows]
    return Ways(keys, sums, least, most)


def _mark(found: Ways, looked: Looked, rows: Array, tcp: Array, before: int) -> None:
    """Note in which packets connections of TCP begin and end, and with which numbers."""
    import numpy as np

    head, v4 = looked.head, looked.v4
    places = rows[tcp]
    flags = np.where(v4[places], head[places, 33], head[places, 53])
    special = np.nonzero(flags & (_SYN | _FIN | _RST))[0]
    tcp, places, flags = tcp[special], places[special], flags[special]
    words = head[places].view(">u4").astype(np.int64)
    sequence = np.where(v4[places], words[:, 6], words[:, 11])
    number = places + (before + 1)
    syn = flags & _SYN > 0
    for what, first, smallest, greatest in (
        (syn & (flags & _ACK == 0), SYN, SYN_LEAST, SYN_MOST),
        (syn & (flags & _ACK > 0), SYN_ACK, SYN_ACK_LEAST, SYN_ACK_MOST),
    ):
        at = tcp[what]
        found.least[at, first] = number[what]
        found.least[at, smallest] = found.most[at, greatest] = sequence[what]
    found.most[tcp[syn], LAST_SYN] = number[syn]
    ends = flags & (_FIN | _RST) > 0
    found.least[tcp[ends], END] = number[ends]
