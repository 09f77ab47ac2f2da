"""tls,servers: which TLS servers are spoken to, with what, and how long handshakes take."""

from __future__ import annotations

from sharkstat import hookimpl
from sharkstat_plugins.shipped_tap import ShippedTap


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(ShippedTap("tls_servers.lua"))
