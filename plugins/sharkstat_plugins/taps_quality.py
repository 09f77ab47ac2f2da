"""latency, loss: how long answers take, and what RTP streams lose."""

from __future__ import annotations

from sharkstat import hookimpl
from sharkstat_plugins.titles import TitledTap

LOSS = {
    "source_address": "Source",
    "source_port": "Port",
    "destination_address": "Destination",
    "destination_port": "Port",
    "ssrc": "SSRC",
    "lost_percent": "Lost %",
    "out_of_order": "Out of\norder",
    "mean_jitter": "Jitter\nmean",
    "max_jitter": "Jitter\nmax",
    "max_delta": "Delta\nmax",
}


LATENCY = {
    "server_address": "Server",
    "server_port": "Port",
    "min_time": "Min",
    "mean_time": "Mean",
    "max_time": "Max",
}


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(TitledTap("latency.lua", LATENCY))
    register(TitledTap("loss.lua", LOSS))
