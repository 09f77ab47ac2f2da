"""loss: what RTP streams lose."""

from __future__ import annotations

from sharkstat import hookimpl
from sharkstat_plugins.shipped_tap import ShippedTap

HEADINGS = {
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


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(ShippedTap("loss.lua", HEADINGS))
