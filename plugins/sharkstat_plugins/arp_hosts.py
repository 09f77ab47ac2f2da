"""arp,hosts: which addresses are on the network, and which MAC address claims each."""

from __future__ import annotations

from sharkstat import Column, hookimpl
from sharkstat_plugins.shipped_tap import ShippedTap


class ArpHosts(ShippedTap):
    def columns(self, arguments: str) -> tuple[Column, ...]:
        address, *rest = super().columns(arguments)
        several = Column(
            "mac_count",
            "integer",
            role="derived",
            size_of="macs",
            title="MACs",
            description="how many MAC addresses claimed it: more than one is a duplicate, or a handover",
        )
        return (address, several, *rest)


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(ArpHosts("arp_hosts.lua"))
