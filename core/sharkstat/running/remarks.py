"""Warnings about the packets, for the tables whose numbers they may affect."""

from __future__ import annotations

import re

from sharkstat.engines.engine import Result
from sharkstat.running.plan import Request
from sharkstat.running.screening import Screened
from sharkstat.running.source import Source
from sharkstat.tables.column import Reading
from sharkstat.tables.figures import humanised_duration

# A date in a display filter, with its time zone if given.
_DATE = re.compile(r"\b(?:\d{4}-\d\d-\d\d|[A-Z][a-z]{2} +\d\d?, \d{4})(?:[T ]\d[\d:.]*)? ?(Z|UTC|[+-]\d\d)?")

# Statistics of tshark's that read no header; and the index of the count of packets without a network header.
COUNTS_FRAMES = ("io_stat", "io,phs")
HEADLESS = 8
_REPLACED = "\ufffd"
# A network duplicates a packet now and then; a capture that has packets twice has many of them.
WORTH_SAYING = 0.02


class OfPackets(str):
    """A warning about the packets themselves, whatever counts them: an overview has a finding that says the same."""


def remarks(source: Source, request: Request, reading: Reading, screened: Screened | None) -> list[str]:
    """The warnings for the request's table."""
    said: list[str] = []
    if reading.timeless:
        have = "has" if reading.timeless == 1 else "have"
        share = _share(reading.timeless, reading.packets)
        said.append(OfPackets(f"{share} {have} no timestamp: the time of the previous packet is used"))
    filters = [source.display_filter, source.read_filter, *request.filters]
    if reading.time_zone not in ("UTC", "UTC0") and any(
        not date[1] for text in filters for date in _DATE.finditer(text)
    ):
        said.append(
            f"tshark reads dates in filters in the local time zone ({reading.time_zone}), but times in tables are UTC: "
            "set TZ=UTC to use UTC for both"
        )
    if screened is None and reading.dedup and reading.packets:
        said.append("--dedup cannot compare packets of this link type: any duplicates are counted")
    if screened is not None:
        said += map(OfPackets, _copies(screened, reading.dedup))
    if reading.out_of_order and request.statistic.follows_time(request.arguments, request.engine):
        said.append(
            OfPackets(
                f"{_part_of(reading.out_of_order, reading)} out of time order, by up to "
                f"{humanised_duration(reading.late_by)}: response times, retransmissions and other results that depend "
                "on packet order may be wrong; --reorder sorts the packets"
            )
        )
    return said


def cuts(request: Request, reading: Reading, headless: int, skipped: int, partial: int) -> list[OfPackets]:
    """Warnings about what a request's table lacks because packets are truncated.

    `headless` of them end within a network header, or where one may follow in a tunnel; this request `skipped` some and
    counted others in `partial`.
    """
    if not reading.cut:
        return []
    if not request.engine.own:
        if request.statistic.family in COUNTS_FRAMES and not request.filters:
            return []
        return [
            OfPackets(
                f"{_share(reading.cut, reading.packets)} are truncated (snapshot length): tshark ignores those "
                "with truncated headers, and the missing data of the others"
            )
        ]
    said = []
    if skipped:
        said.append(f"{_share(skipped, reading.packets)} are truncated within the headers counted here, and ignored")
    elif headless and (request.filters or request.statistic.family != "io_stat"):
        said.append(
            f"{_share(headless, reading.packets)} are truncated within the network header, or where a tunnel may "
            "begin: not all of their addresses and ports are known"
        )
    if partial and not (said and not skipped and partial <= headless):
        said.append(
            f"{_share(partial, reading.packets)} are truncated (snapshot length): their missing data is not counted"
        )
    return [OfPackets(text) for text in said]


def replaced(result: Result) -> list[str]:
    """A warning if tshark put U+FFFD in place of bytes of a key: keys that differ in nothing else are in one row."""
    keys = [c.name for c in result.columns if c.role == "key" and c.type in ("text", "path")]
    count = result.replaced
    if count is None:
        count = sum(any(_REPLACED in str(row[key]) for key in keys) for row in result.rows) if keys else 0
    if not count:
        return []
    rows = "1 row has a name" if count == 1 else f"{count:,} rows have names"
    return [
        f"{rows} with the character U+FFFD, by which tshark replaces bytes that are not text: different names may "
        "be in one row"
    ]


def _copies(screened: Screened, left_out: bool) -> list[str]:
    copies, forwarded = screened.copies, screened.forwarded
    found = copies + forwarded
    if not found or (found < screened.looked * WORTH_SAYING and not left_out):
        return []
    kinds = [f"{copies:,} identical, as from a mirror port or several interfaces"] if copies else []
    kinds += [f"{forwarded:,} with another TTL, as on both sides of a router"] if forwarded else []
    are = "is a duplicate" if found == 1 else "are duplicates"
    if not screened.certain:
        are = "may be a duplicate, or sent twice" if found == 1 else "may be duplicates, or sent twice"
    said = f"{_share(found, screened.looked, 'captured packets')} {are} ({'; '.join(kinds)})"
    if left_out:
        return [f"{said}: ignored"]
    again = "they are counted again" + (", and look like TCP retransmissions" if screened.of_tcp else "")
    return [f"{said}: {again}; --dedup ignores them"]


def _part_of(count: int, reading: Reading) -> str:
    """
    >>> _part_of(1, Reading(packets=200)), _part_of(3, Reading(packets=7))
    ('1 of 200 packets (0.5 %) is', '3 of 7 packets (42.9 %) are')
    """
    return f"{_share(count, reading.packets)} {'is' if count == 1 else 'are'}"


def _share(count: int, packets: int, noun: str = "packets") -> str:
    share = 100 * count / packets
    digits = f"{share:.1f}" if share >= 0.05 else "less than 0.1"
    return f"{count:,} of {packets:,} {noun} ({digits} %)"
