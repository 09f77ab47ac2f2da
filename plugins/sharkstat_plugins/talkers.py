"""talkers: who sends and receives what."""

from __future__ import annotations

from sharkstat import hookimpl
from sharkstat_plugins.shipped_tap import ShippedTap

HEADINGS = {
    "bytes_in": "Bytes in",
    "bytes_out": "Bytes out",
    "packets_in": "Packets in",
    "packets_out": "Packets out",
}


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(ShippedTap("talkers.lua", HEADINGS))
