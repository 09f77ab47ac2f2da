"""What tshark's side sends, as packets: the lean feed's lines and PDML, given to the counters.

Importing this imports pyshark, so it is done only where packets are counted.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import IO, Any

from sharkstat.errors import RequestError, TsharkError
from sharkstat.running.plan import Plan
from sharkstat.statistics.packet import Packet, Shape
from sharkstat.statistics.statistic import PacketCounter
from sharkstat.tshark.records import ITEM, LIST, Failure, Records, described, unescape


class WholePackets:
    """tshark's PDML, packet by packet, read while the records come through their own pipe."""

    def __init__(self, stream: IO[bytes], outside: Callable[[bytes], None]) -> None:
        self._outside = outside
        self._last: tuple[int, Any] = (0, None)
        self._queue: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._pump, args=(stream,), daemon=True)
        self._thread.start()

    def _pump(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(ValueError, OSError):
            for number, text in enumerate(self._packets(stream), 1):
                self._queue.put((number, text))
        self._queue.put(None)

    def _packets(self, stream: IO[bytes]) -> Iterator[bytes]:
        lines: list[bytes] = []
        for line in stream:
            if line.startswith(b"<packet>"):
                lines = [line]
            elif line.startswith(b"</packet>"):
                yield b"".join([*lines, line])
                lines = []
            elif lines:
                lines.append(line)
            else:
                self._outside(line)

    def finish(self) -> None:
        """Wait until everything was read."""
        self._thread.join()

    def get(self, number: int) -> Any:
        """The pyshark packet of that number; numbers must be asked for in order."""
        import lxml.objectify
        from pyshark.tshark.output_parser.tshark_xml import packet_from_xml_packet

        if self._last[0] == number:
            return self._last[1]
        while (item := self._queue.get()) is not None:
            if item[0] == number:
                parser = lxml.objectify.makeparser(huge_tree=True, recover=True, encoding="utf-8")
                self._last = number, packet_from_xml_packet(lxml.objectify.fromstring(item[1], parser))
                return self._last[1]
        raise TsharkError(f"tshark gave no packet {number}")


class Feed:
    """Turns the feed's lines into packets and hands them to the counters that asked for them."""

    def __init__(self, plan: Plan, records: Records, pdml: IO[bytes] | None, outside: Callable[[bytes], None]) -> None:
        """`outside` is given what stands between the packets of the PDML."""
        self._records = records
        self._fields = plan.fields
        self._whole = WholePackets(pdml, outside) if pdml is not None else None
        self._shape: Shape | None = None
        self._number = 0
        # A line is P, number, length, time, a word for each listen, a word for each field.
        first = 4
        self._fields_at = first + len(plan.listens)
        self._counters: list[tuple[int, PacketCounter, range]] = []
        for index, request in enumerate(plan.requests):
            if request.counter is not None:
                request.counter.types = records.types
                end = first + len(request.counter.listens)
                self._counters.append((index, request.counter, range(first, end)))
                first = end

    def begin(self) -> None:
        """The types of the fields are known. RequestError where a counter cannot count them."""
        for index, counter, _ in self._counters:
            try:
                counter.begin()
            except RequestError:
                raise
            except Exception as problem:
                self._records.failures[str(index)] = Failure(described(problem), traceback=traceback.format_exc())

    def finish(self) -> None:
        """Wait until everything was read."""
        if self._whole is not None:
            self._whole.finish()

    def packet(self, line: bytes) -> None:
        words = line.decode("utf-8", "surrogateescape").rstrip("\n").split("\t")
        # Most numbers are one more than the last, and left out.
        self._number = number = int(words[1]) if words[1] else self._number + 1
        length, relative = int(words[2]), int(words[3])
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
        assert self._whole is not None
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
