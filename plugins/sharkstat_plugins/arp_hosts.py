"""arp,hosts: which addresses are on the network, and which MAC address claims each."""

from __future__ import annotations

from collections.abc import Iterator

from sharkstat import Column, HealthFinding, Table, hookimpl
from sharkstat_plugins.shipped_tap import ShippedTap


class ArpHosts(ShippedTap):
    def findings(self, table: Table) -> Iterator[HealthFinding]:
        for row in [row for row in table if isinstance(row["mac_count"], int) and row["mac_count"] > 1][:3]:
            sentence = f"{row['mac_count']} MAC addresses claim {row['address']}: {self.shown(table, row, 'macs')}"
            yield HealthFinding(sentence, int(str(row["mac_count"])), 1)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        address, *rest = super().columns(arguments)
        several = Column(
            "mac_count",
            "integer",
            role="derived",
            size_of="macs",
            title="MACs",
            description="number of MAC addresses that claimed it; more than one is a duplicate or a failover",
        )
        return (address, several, *rest)


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(ArpHosts("arp_hosts.lua"))
