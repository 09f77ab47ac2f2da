"""timeline: when how much was sent."""

from __future__ import annotations

from collections.abc import Sequence

from sharkstat import Row, Table, hookimpl
from sharkstat_plugins.shipped_tap import ShippedTap


class Timeline(ShippedTap):
    def align(self, tables: Sequence[Table]) -> Sequence[Sequence[Row]]:
        """Rows of the longest intervals that there are: each length is a multiple of those before it."""
        lengths = [value for table in tables for value in table["length"] if isinstance(value, int)]
        longest = max(lengths, default=1)
        return [
            [{**row, "start": _begin(row["start"], longest), "length": longest} for row in table] for table in tables
        ]


def _begin(time: object, length: int) -> int | None:
    return time // length * length if isinstance(time, int) else None


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(Timeline("timeline.lua"))
