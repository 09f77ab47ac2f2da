"""tcp,servers: how TCP connections to each server fare."""

from __future__ import annotations

from sharkstat import hookimpl
from sharkstat_plugins.shipped_tap import ShippedTap


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(ShippedTap("tcp_servers.lua"))
