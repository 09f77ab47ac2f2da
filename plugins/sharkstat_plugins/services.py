"""services: what the traffic is made of, by connection."""

from __future__ import annotations

from sharkstat import hookimpl
from sharkstat_plugins.shipped_tap import ShippedTap

HEADINGS = {
    "server_name": "Server name",
    "server_address": "Server",
    "server_port": "Port",
    "connections": "Connec-\ntions",
    "bytes_to_server": "Bytes\nto server",
    "bytes_from_server": "Bytes\nfrom server",
    "packets_to_server": "Packets\nto server",
    "packets_from_server": "Packets\nfrom server",
}


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(ShippedTap("services.lua", HEADINGS))
