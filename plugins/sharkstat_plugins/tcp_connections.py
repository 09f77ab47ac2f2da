"""tcp,connections: how TCP connections begin and end."""

from __future__ import annotations

from sharkstat import hookimpl
from sharkstat_plugins.shipped_tap import ShippedTap

HEADINGS = {
    "server_address": "Server",
    "server_port": "Port",
    "connections": "Connec-\ntions",
    "established": "Estab-\nlished",
    "timed_out": "Timed\nout",
}


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(ShippedTap("tcp_connections.lua", HEADINGS))
