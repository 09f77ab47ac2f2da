"""What tshark's side sends, as packets: the lean feed's lines and PDML, given to the counters.

Importing this imports pyshark, so it is done only where packets are counted.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sharkstat.engines.packet import Packet, Shape
from sharkstat.errors import TsharkError
from sharkstat.tshark.records import ITEM, LIST, Failure, Records, described, unescape

if TYPE_CHECKING:
    from sharkstat.engines.packets import PacketCounter
    from sharkstat.tshark.output import Output


class WholePackets:
    """tshark's PDML as pyshark's packets, taken from its output while the records come through their own pipe."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._taken = 0
        self._last: Any = None

    def get(self, number: int) -> Any:
        """The pyshark packet of that number; numbers must be asked for in order."""
        import lxml.objectify
        from pyshark.tshark.output_parser.tshark_xml import packet_from_xml_packet

        if self._taken == number:
            return self._last
        text = self._output.packet(number)
        if text is None:
            raise TsharkError(f"tshark gave no packet {number}")
        parser = lxml.objectify.makeparser(huge_tree=True, recover=True, encoding="utf-8")
        self._taken, self._last = number, packet_from_xml_packet(lxml.objectify.fromstring(text, parser))
        return self._last


class Feed:
    """Turns the feed's lines into packets and hands them to the counters that asked for them."""

    def __init__(
        self, counters: Mapping[int, PacketCounter], fields: Sequence[str], records: Records, output: Output
    ) -> None:
        """`counters` are those of the pass, by their requests' numbers, in the order of the host's listens."""
        self._records = records
        self._fields = fields
        self._whole = WholePackets(output)
        self._shape: Shape | None = None
        self._number = 0
        # A line is P, number, length, time, a word for each listen, a word for each field.
        first = 4
        self._counters: list[tuple[int, PacketCounter, range]] = []
        for index, counter in counters.items():
            end = first + len(counter.listens)
            self._counters.append((index, counter, range(first, end)))
            first = end
        self._fields_at = first

    def packet(self, line: bytes) -> None:
        words = line.decode("utf-8", "surrogateescape").rstrip("\n").split("\t")
        # Most numbers are one more than the last, and left out.
        self._number = number = int(words[1]) if words[1] else self._number + 1
        length, relative = int(words[2]), int(words[3])
        if self._shape is not None:  # a packet without a time may have come before the capture's beginning was told
            self._shape.base_ns = self._records.base_ns or 0
        fields = words[self._fields_at :]
        for index, counter, where in self._counters:
            hits = [_hit(words[at]) for at in where]
            if not any(hits) or (self._records.failures and str(index) in self._records.failures):
                continue
            try:
                counter.packet(self._made(counter, number, length, relative, hits, fields))
            except Exception as problem:  # ends this statistic; the others go on
                self._records.failures[str(index)] = Failure(described(problem), str(number), traceback.format_exc())

    def _made(
        self, counter: PacketCounter, number: int, length: int, relative: int, hits: list[Hits], fields: list[str]
    ) -> Any:
        if self._shape is None:
            self._shape = Shape(self._fields, self._records.base_ns or 0)
        if counter.fields is not None:
            return Packet(number, length, relative, hits, fields, self._shape)
        packet = self._whole.get(number)
        packet.hits, packet.relative_ns, packet.time_ns = hits, relative, (self._records.base_ns or 0) + relative
        return packet


# What a tap told of one packet: a tuple a header or message. Most tell nothing but that it is there.
Hits = list[tuple[str | None, ...]]
_ONE: Hits = [("",)]


def _hit(raw: str) -> Hits:
    if not raw:
        return []
    if raw == LIST:
        return _ONE
    return [tuple(None if v == "\\N" else unescape(v) for v in one.split(ITEM)) for one in raw.split(LIST)[1:]]
