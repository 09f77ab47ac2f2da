"""timeline: when how much was sent."""

from __future__ import annotations

from collections.abc import Sequence

from sharkstat import Row, Table, hookimpl
from sharkstat_plugins.service_intervals import aligned
from sharkstat_plugins.shipped_tap import ShippedTap


class Timeline(ShippedTap):
    def align(self, tables: Sequence[Table]) -> Sequence[Sequence[Row]]:
        return aligned(tables)


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(Timeline("timeline.lua"))
