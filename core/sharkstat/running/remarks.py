"""What is wrong with the packets that were read, said of the tables whose numbers it can change."""

from __future__ import annotations

import re

from sharkstat.running.plan import Request
from sharkstat.running.screening import Screened
from sharkstat.running.source import Source
from sharkstat.tables.column import Reading
from sharkstat.tables.view import humanised_duration

# A date in a display filter, and its own time zone where it has one.
_DATE = re.compile(r"\b(?:\d{4}-\d\d-\d\d|[A-Z][a-z]{2} +\d\d?, \d{4})(?:[T ]\d[\d:.]*)? ?(Z|UTC|[+-]\d\d)?")

# In tshark, these look at no header; and where the books have the number of packets without a network header.
COUNTS_FRAMES = ("io_stat", "io,phs")
HEADLESS = 8
# A network doubles a packet now and then; who captures twice does so with many.
WORTH_SAYING = 0.02


def remarks(source: Source, request: Request, reading: Reading, screened: Screened | None) -> list[str]:
    """The warnings for the request's table."""
    said = []
    if reading.timeless:
        have = "has" if reading.timeless == 1 else "have"
        said.append(
            f"{_share(reading.timeless, reading.packets)} {have} no time in the capture, and count as if they came "
            "with the packet before"
        )
    filters = [source.display_filter, source.read_filter, *request.filters]
    if reading.time_zone not in ("UTC", "UTC0") and any(
        not date[1] for text in filters for date in _DATE.finditer(text)
    ):
        said.append(
            f"dates in filters are read in the time zone {reading.time_zone}, as tshark does; the times in tables are "
            "UTC. Set TZ=UTC to read both alike"
        )
    if screened is not None:
        said += _copies(screened, reading.dedup)
    if reading.out_of_order and request.statistic.follows_time(request.arguments, request.engine):
        said.append(
            f"{_part_of(reading.out_of_order, reading)} out of time order, by up to "
            f"{humanised_duration(reading.late_by)}: response times, retransmissions and whatever else depends on the "
            "order may be wrong; --reorder reads the packets in order"
        )
    return said


def cuts(request: Request, reading: Reading, headless: int, skipped: int, partial: int) -> list[str]:
    """What is missing in the request's table, since packets were captured only in part.

    Of those, so many are `headless` (cut before the end of their network header), and for this request so many were
    `skipped`, and so many counted in `partial`.
    """
    if not reading.cut:
        return []
    if not request.engine.own:
        if request.statistic.family in COUNTS_FRAMES and not request.filters:
            return []
        return [
            f"{_share(reading.cut, reading.packets)} are cut (a snapshot length): tshark leaves out those whose "
            "headers are cut, and what the others held"
        ]
    said = []
    if skipped:
        said.append(
            f"{_share(skipped, reading.packets)} are cut within the headers that are counted here, and left out"
        )
    elif headless and (request.filters or request.statistic.family != "io_stat"):
        said.append(
            f"{_share(headless, reading.packets)} are cut before the end of their network header: their addresses and "
            "ports are not known"
        )
    if partial:
        said.append(
            f"{_share(partial, reading.packets)} are cut (a snapshot length): what was in the rest is not counted"
        )
    return said


def _copies(screened: Screened, left_out: bool) -> list[str]:
    copies, forwarded = screened.copies, screened.forwarded
    found = copies + forwarded
    if not found or (found < screened.looked * WORTH_SAYING and not left_out):
        return []
    kinds = [f"{copies:,} the same, as from a mirror port or several interfaces"] if copies else []
    kinds += [f"{forwarded:,} with another time to live, as before and behind a router"] if forwarded else []
    are = "is a copy of another" if found == 1 else "are copies of others"
    said = f"{_share(found, screened.looked, 'captured packets')} {are} ({'; '.join(kinds)})"
    if left_out:
        return [f"{said}: left out"]
    return [f"{said}: they count again, and TCP takes them for retransmissions; --dedup leaves them out"]


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
