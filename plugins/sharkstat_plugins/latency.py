"""latency: how long servers take to answer."""

from __future__ import annotations

from sharkstat import hookimpl
from sharkstat_plugins.shipped_tap import ShippedTap

HEADINGS = {
    "server_address": "Server",
    "server_port": "Port",
    "min_time": "Min",
    "mean_time": "Mean",
    "max_time": "Max",
}


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(ShippedTap("latency.lua", HEADINGS))
