"""processes: which programs of this host cause the traffic."""

from __future__ import annotations

from sharkstat import hookimpl
from sharkstat_plugins.shipped_tap import ShippedTap


class Processes(ShippedTap):
    by_connection = "only"


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(Processes("processes.lua"))
