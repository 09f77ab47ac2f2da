"""Plain packets are counted from their headers alone, in numpy, and only the rest goes to a tap in tshark.

The run finds the plain packets and counts them; a statistic makes rows of what was counted. Where the run cannot, the
tap counts all packets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sharkstat.engines.engine import Engine, Question
from sharkstat.engines.tap import Tap, TapTask
from sharkstat.tables.column import Value


class Way(NamedTuple):
    """The packets from one end to another: an address, or of TCP and UDP also a port.

    `stream` is the number of their connection; times are nanoseconds since 1970.
    """

    source: str
    source_port: int | None
    destination: str
    destination_port: int | None
    stream: int | None
    packets: int
    bytes: int
    first: int
    last: int


class Interval(NamedTuple):
    """The packets of one protocol ("tcp" or "udp") over IP of a version, 4 or 6, in the interval of that number.

    Intervals count from the capture's first packet.
    """

    number: int
    version: int
    protocol: str
    packets: int
    bytes: int


@dataclass(frozen=True)
class OfWays:
    """A count by ends: their `kind` ("eth", "ip", "ipv6", "tcp" or "udp"), and what makes rows of them.

    They come in the order of their first packets.
    """

    kind: str
    rows: Callable[[Sequence[Way]], list[list[Value]]]


@dataclass(frozen=True)
class OfIntervals:
    """A count by intervals of so many `microseconds` (0: one for all), and what makes rows of them."""

    microseconds: int
    rows: Callable[[Sequence[Interval]], list[list[Value]]]


@dataclass(frozen=True)
class OfMessages:
    """A count of HTTP messages: connections that cannot have any have nothing to be counted."""


class Headers(Engine):
    """Counts plain TCP and UDP from the headers, and gives all other packets to a tap.

    `count` says for given arguments what is to be counted, or None where headers do not tell it.

    engines = (sharkstat.Headers(tap, lambda arguments: None if arguments else OfWays("ip", rows)), tap)
    """

    name = "headers"
    by_flow = True

    def __init__(self, tap: Tap, count: Callable[[str], OfWays | OfIntervals | OfMessages | None]) -> None:
        self.instead: Tap = tap
        self._count = count

    def ask(self, question: Question) -> TapTask:
        asked = self.instead.ask(question)
        limited = question.display_filter or question.resolve or question.by_flow
        plain = None if limited else self._count(question.arguments)
        return replace(asked, plain=plain)
