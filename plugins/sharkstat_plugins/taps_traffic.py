"""apps, talkers: what the traffic is, and whose."""

from __future__ import annotations

from sharkstat import hookimpl
from sharkstat_plugins.titles import TitledTap

TALKERS = {
    "bytes_in": "Bytes in",
    "bytes_out": "Bytes out",
    "packets_in": "Packets in",
    "packets_out": "Packets out",
}


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(TitledTap("apps.lua", {}))
    register(TitledTap("talkers.lua", TALKERS))
