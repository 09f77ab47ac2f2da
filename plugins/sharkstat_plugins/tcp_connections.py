"""tcp,connections: how TCP connections begin and end."""

from __future__ import annotations

from collections.abc import Iterator

from sharkstat import HealthFinding, Table, hookimpl, part_of
from sharkstat_plugins.shipped_tap import ShippedTap


class TcpConnections(ShippedTap):
    def findings(self, table: Table) -> Iterator[HealthFinding]:
        yield from super().findings(table)
        never = ("established", "refused", "timed_out")
        half_open = table.total("started") - sum(table.total(name) for name in never)
        what = "TCP connections half-open (handshake never completed)"
        yield from part_of(max(half_open, 0), table.total("connections"), what, warning=0.02, bad=0.2)


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(TcpConnections("tcp_connections.lua"))
