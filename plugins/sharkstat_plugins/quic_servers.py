"""quic,servers: which QUIC servers are spoken to, with what, and how long handshakes take."""

from __future__ import annotations

from sharkstat import hookimpl
from sharkstat_plugins.shipped_tap import ShippedTap


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(ShippedTap("quic_servers.lua"))
