"""endpoints,eth endpoints,ip endpoints,ipv6 endpoints,tcp endpoints,udp: what each end sent and received."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sharkstat_lua
from sharkstat import Column, Listen, PacketCounter, Statistic, Table, Value, hookimpl, sort_rows
from sharkstat_plugins.conversations import ENDS, TITLES, addresses_of

if TYPE_CHECKING:
    from sharkstat import Packet


class Endpoints(Statistic):
    layer = "transport"
    tap = Path(sharkstat_lua.__file__).with_name("endpoints.lua")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.ports = kind in ("tcp", "udp")
        self.name = f"endpoints,{kind}"
        self.title = f"{TITLES[kind]} endpoints"
        self.usage = f"endpoints,{kind}[,FILTER]"
        self.description = (
            f"Every {TITLES[kind]} address{' and port' if self.ports else ''} with the packets and bytes that it "
            "sent (Tx) and received (Rx). A packet counts at both its ends."
        )

    def columns(self, arguments: str) -> tuple[Column, ...]:
        port = (Column("port", "integer", role="key"),) if self.ports else ()
        return (
            Column("address", "address", role="key"),
            *port,
            Column("packets", "integer", "packets", role="derived"),
            Column("bytes", "integer", "bytes", role="derived"),
            Column("tx_packets", "integer", "packets"),
            Column("tx_bytes", "integer", "bytes"),
            Column("rx_packets", "integer", "packets"),
            Column("rx_bytes", "integer", "bytes"),
        )

    def counter(self, arguments: str) -> PacketCounter:
        return EndpointCounter(self.kind, arguments)

    def derive(self, table: Table) -> None:
        for row in table.rows:
            for unit in ("packets", "bytes"):
                row[unit] = row[f"tx_{unit}"] + row[f"rx_{unit}"]  # type: ignore[operator]

    def order(self, table: Table) -> None:
        sort_rows(table, lambda row: (-row["bytes"], -row["packets"], row["address"], row.get("port") or 0))  # type: ignore[operator]


class EndpointCounter(PacketCounter):
    """The same counting as lua/sharkstat_lua/endpoints.lua, on packets."""

    def __init__(self, kind: str, display_filter: str) -> None:
        self._ports = kind in ("tcp", "udp")
        self.listens = (Listen(kind, display_filter, ENDS.get(kind, ())),)
        self.fields = () if kind in ENDS else (f"{kind}.src", f"{kind}.dst")
        self._ends = addresses_of(kind)
        self._found: dict[tuple[Value, ...], list[int]] = {}

    def packet(self, packet: Packet) -> None:
        for header in self._ends(packet):
            source: tuple[Value, ...] = (header[0],)
            destination: tuple[Value, ...] = (header[1],)
            if self._ports:
                source, destination = (header[0], int(header[2])), (header[1], int(header[3]))
            for end, at in ((source, 0), (destination, 2)):
                counts = self._found.setdefault(end, [0, 0, 0, 0])
                counts[at] += 1
                counts[at + 1] += packet.length

    def rows(self) -> list[list[Value]]:
        return [[*end, *counts] for end, counts in self._found.items()]


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    for kind in TITLES:
        register(Endpoints(kind))
