"""endpoints,eth endpoints,ip endpoints,ipv6 endpoints,tcp endpoints,udp, and tshark's other endpoints: what each end
sent and received."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import sharkstat_lua
from sharkstat import (
    Column,
    Engine,
    Headers,
    OfWays,
    Packets,
    Parsed,
    Table,
    Tap,
    TextError,
    TsharkText,
    Value,
    Way,
    hookimpl,
    sort_rows,
)
from sharkstat_plugins.ends import (
    BROADCAST,
    EACH_FRAGMENT,
    PLAIN,
    WITH_PORTS,
    Ends,
    EndsCounter,
    frame,
    layer_of,
    register_kinds,
    size,
    title_of,
)

if TYPE_CHECKING:
    from sharkstat import Packet

TAP = Path(sharkstat_lua.__file__).with_name("endpoints.lua")

_SIZE = r" +(\d+)(?: (bytes|[kMGTPE]B))?"
_ENDPOINT = re.compile(
    rf"(?P<address>\S.*?)(?: +(?P<port>\d+))?? +(?P<packets>\d+){_SIZE} +(?P<tx>\d+){_SIZE} +(?P<rx>\d+){_SIZE} *"
)


class EndpointTable(Ends):
    """The table of endpoints, as tshark prints it."""

    family = "endpoints"

    def __init__(self, kind: str) -> None:
        self.engines: Sequence[Engine] = (TsharkText(self.parse, self.native, layer=layer_of(kind)),)
        self.kind = kind
        self.ports = kind in WITH_PORTS
        self.name = f"endpoints,{kind}"
        self.title = f"{title_of(kind)} endpoints"
        self.usage = f"endpoints,{kind}[,max=INTEGER][,FILTER]"
        self.description = (
            f"Every {title_of(kind)} address{' and port' if self.ports else ''} with the packets and bytes it "
            "sent (Tx) and received (Rx). Each packet counts for both its endpoints."
        )
        if kind == "ipv6":
            self.description += f" {EACH_FRAGMENT}"

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return self.columns_of(self.ports)

    def follows_time(self, arguments: str, engine: Engine) -> bool:
        return False

    @staticmethod
    def columns_of(ports: bool) -> tuple[Column, ...]:
        port = (Column("port", "integer", role="key", local="dynamic"),) if ports else ()
        return (
            Column("address", "address", role="key"),
            *port,
            Column("packets", "integer", "packets", role="derived", sum_of=("tx_packets", "rx_packets")),
            Column("bytes", "integer", "bytes", role="derived", share="tx_bytes", sum_of=("tx_bytes", "rx_bytes")),
            Column("tx_packets", "integer", "packets"),
            Column("tx_bytes", "integer", "bytes"),
            Column("rx_packets", "integer", "packets"),
            Column("rx_bytes", "integer", "bytes"),
        )

    def parse(self, text: bytes, arguments: str) -> Parsed:
        """Rows of tap-endpoints.c. tshark 4.6 rounds the bytes; before it they are exact."""
        rounded = False
        sums: dict[tuple[Value, ...], list[int]] = {}
        for line in frame(text, "Endpoints"):
            found = _ENDPOINT.fullmatch(line)
            if not found or (found["port"] is not None) != self.ports:
                raise TextError(f"no row of an endpoint: {line!r}")
            (_, all_unit), (tx_bytes, tx_unit), (rx_bytes, rx_unit) = (
                found.group(4, 5),
                found.group(7, 8),
                found.group(10, 11),
            )
            rounded = rounded or any(unit is not None and unit != "bytes" for unit in (all_unit, tx_unit, rx_unit))
            tx, rx = int(found["tx"]), int(found["rx"])
            if tx + rx != int(found["packets"]):
                raise TextError(f"the packets sent and received are not the total: {line!r}")
            address = BROADCAST.get(found["address"], found["address"])
            key = (address, int(found["port"])) if self.ports else (address,)
            # dccp's ports are not printed, so an address comes once a port.
            counts = sums.setdefault(key, [0, 0, 0, 0])
            for at, value in enumerate((tx, size(tx_bytes, tx_unit), rx, size(rx_bytes, rx_unit))):
                counts[at] += value
        columns = tuple(replace(c, approximate=rounded and "bytes" in c.name) for c in self.columns_of(self.ports))
        return Parsed([[*key, *counts] for key, counts in sums.items()], columns)

    def derive(self, table: Table) -> None:
        for row in table.rows:
            for unit in ("packets", "bytes"):
                row[unit] = row[f"tx_{unit}"] + row[f"rx_{unit}"]  # type: ignore[operator]

    def order(self, table: Table) -> None:
        sort_rows(table, lambda row: (-row["bytes"], -row["packets"], row["address"], row.get("port") or 0))  # type: ignore[operator]

    def ranking(self, arguments: str) -> Sequence[str]:
        return ("bytes descending", "packets descending", "address")


class TapEndpoints(EndpointTable):
    """Those that our own tap counts."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.engines = (Tap(TAP, layer_of(kind), call=self.call, split="hosts"), *self.engines)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        # tshark's text has not the ports of DCCP.
        return self.columns_of(self.ports or self.kind == "dccp")


class Endpoints(TapEndpoints):
    """Those that our own packet counter counts too."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        tap, text = self.engines
        self.engines = (tap, Packets(lambda filter, max=0: EndpointCounter(kind, filter)), text)
        if isinstance(tap, Tap) and kind in PLAIN:
            plain = OfWays(kind, _each_end)
            headers = Headers(tap, lambda arguments: None if self.filter_of(arguments) else plain)
            self.engines = (*self.engines[:-1], headers, text)


def _each_end(ways: Sequence[Way]) -> list[list[Value]]:
    """A row an end, of what it sent and received."""
    found: dict[tuple[Value, ...], list[int]] = {}
    for way in ways:
        ends = ((way.source, way.source_port), (way.destination, way.destination_port))
        for at, end in enumerate(ends):
            counts = found.setdefault(end, [0, 0, 0, 0])
            counts[2 * at] += way.packets
            counts[2 * at + 1] += way.bytes
    return [[address, *([] if port is None else [port]), *counts] for (address, port), counts in found.items()]


class EndpointCounter(EndsCounter):
    """The same counting as lua/sharkstat_lua/endpoints.lua, on packets."""

    def __init__(self, kind: str, display_filter: str) -> None:
        super().__init__(kind, display_filter)
        self._found: dict[tuple[Value, ...], list[int]] = {}

    def packet(self, packet: Packet) -> None:
        for header in self.headers(packet):
            source: tuple[Value, ...] = (header[0],)
            destination: tuple[Value, ...] = (header[1],)
            if self.ports:
                source, destination = (header[0], int(header[2])), (header[1], int(header[3]))
            for end, at in ((source, 0), (destination, 2)):
                counts = self._found.setdefault(end, [0, 0, 0, 0])
                counts[at] += 1
                counts[at + 1] += packet.length

    def rows(self) -> list[list[Value]]:
        return [[*end, *counts] for end, counts in self._found.items()]


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register_kinds(register, Endpoints, TapEndpoints)


@hookimpl
def register_families(register):  # type: ignore[no-untyped-def]
    register("endpoints", lambda name: EndpointTable(name[10:]) if name.startswith("endpoints,") else None)
