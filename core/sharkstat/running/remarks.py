"""What is wrong with the packets that were read, said of the tables whose numbers it can change."""

from __future__ import annotations

from sharkstat.statistics.statistic import Statistic
from sharkstat.tables.column import Reading
from sharkstat.tables.view import humanised_duration


def remarks(statistic: Statistic, arguments: str, engine: str, reading: Reading) -> list[str]:
    """The warnings for a table of this statistic."""
    said = []
    if reading.out_of_order and statistic.follows_time(arguments, engine):
        said.append(
            f"{_part_of(reading.out_of_order, reading)} out of time order, by up to "
            f"{humanised_duration(reading.late_by)}: response times, retransmissions and whatever else depends on the "
            "order may be wrong; --reorder reads the packets in order"
        )
    return said


def _part_of(count: int, reading: Reading) -> str:
    """
    >>> _part_of(1, Reading(packets=200)), _part_of(3, Reading(packets=7))
    ('1 of 200 packets (0.5 %) is', '3 of 7 packets (42.9 %) are')
    """
    share = 100 * count / reading.packets
    digits = f"{share:.1f}" if share >= 0.05 else "less than 0.1"
    return f"{count:,} of {reading.packets:,} packets ({digits} %) {'is' if count == 1 else 'are'}"
