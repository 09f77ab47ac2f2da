"""icmp,errors: what could not be delivered, to whom, and who says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from sharkstat import (
    Column,
    HealthFinding,
    Listen,
    PacketCounter,
    Packets,
    Section,
    Statistic,
    Table,
    Value,
    both_filters,
    hookimpl,
    most_of,
    part_of,
)
from sharkstat_plugins.shipped_tap import ShippedTap

if TYPE_CHECKING:
    from sharkstat import Packet

# Names of types and codes: IANA's ICMP and ICMPv6 parameters (RFC 792, 1122, 1812, 4443).
_UNREACHABLE: dict[Value, str] = {
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    4: "fragmentation needed",
    5: "source route failed",
    6: "network unknown",
    7: "host unknown",
    9: "network prohibited",
    10: "host prohibited",
    11: "network unreachable for this type of service",
    12: "host unreachable for this type of service",
    13: "prohibited by a filter",
}
_UNREACHABLE_6: dict[Value, str] = {
    0: "no route",
    1: "prohibited by a filter",
    2: "beyond the scope of the source",
    3: "address unreachable",
    4: "port unreachable",
    5: "source address refused",
    6: "route rejected",
}
_TIME: dict[Value, str] = {0: "time to live exceeded", 1: "reassembly time exceeded"}
NAMES: dict[Value, dict[Value, dict[Value, str]]] = {
    4: {3: _UNREACHABLE, 4: {0: "source quench"}, 11: _TIME, 5: {0: "redirect of a network", 1: "redirect of a host"}},
    6: {1: _UNREACHABLE_6, 2: {0: "packet too big"}, 3: {0: "hop limit exceeded", 1: _TIME[1]}},
}


FILTER = "icmp.type in {3, 4, 5, 11, 12} || icmpv6.type in {1, 2, 3, 4}"
_IP, _ICMP, _PORTS = ("ip", "ipv6"), ("icmp", "icmpv6"), ("tcp", "udp")


class IcmpCounter(PacketCounter):
    """The same counting as lua/sharkstat_lua/icmp_errors.lua, on packets."""

    fields = (
        "frame.protocols",
        *(f"{name}.{field}" for name in _IP for field in ("src", "dst")),
        *(f"{name}.{field}" for name in _ICMP for field in ("type", "code")),
        *(f"{name}.dstport" for name in _PORTS),
    )

    def __init__(self, display_filter: str) -> None:
        self.listens = (Listen("frame", both_filters(FILTER, display_filter)),)
        self._rows: dict[tuple[Value, ...], list[int]] = {}

    def packet(self, packet: Packet) -> None:
        seen: Counter[str] = Counter()
        error, carrier, quoted = "", ("", 0), ("", 0)
        ports: dict[str, int] = {}
        for name in packet.values("frame.protocols")[0].split(":"):
            seen[name] += 1
            if name in _IP:
                if not error:
                    carrier = name, seen[name]
                elif not quoted[0]:
                    quoted = name, seen[name]
            elif name in _ICMP:
                error = error or name
            elif name in _PORTS and quoted[0]:
                ports.setdefault(name, seen[name])
        if not error:
            return

        def nth(field: str, number: int) -> str | None:
            values = packet.values(field) if number else []
            return values[number - 1] if 0 < number <= len(values) else None

        def number(field: str, at: int) -> int | None:
            text = nth(field, at)
            return None if text is None else int(text)

        key: tuple[Value, ...] = (
            nth(f"{carrier[0]}.src", carrier[1]),
            6 if carrier[0] == "ipv6" else 4,
            number(f"{error}.type", 1),
            number(f"{error}.code", 1),
            nth(f"{quoted[0]}.src", quoted[1]),
            nth(f"{quoted[0]}.dst", quoted[1]),
            *(number(f"{name}.dstport", ports.get(name, 0)) for name in _PORTS),
        )
        time = packet.time_ns
        counted = self._rows.setdefault(key, [0, time, time])
        self._rows[key] = [counted[0] + 1, min(counted[1], time), max(counted[2], time)]

    def rows(self) -> Iterable[Sequence[Value]]:
        return [[*key, *counted] for key, counted in self._rows.items()]


class IcmpErrors(ShippedTap):
    """icmp,errors, with the meaning of types and codes."""

    def __init__(self) -> None:
        super().__init__("icmp_errors.lua")
        self.engines = (*self.engines, Packets(IcmpCounter))
        self.section = Section(860, rows=0)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        error = Column("error", "text", role="derived", description="meaning of the type and code")
        reporter, *others = super().columns(arguments)
        return (reporter, error, *others)

    def derive(self, table: Table) -> None:
        for row in table:
            names = NAMES.get(row["version"], {}).get(row["type"], {})
            row["error"] = names.get(row["code"], f"type {row['type']}, code {row['code']}")

    def findings(self, table: Table) -> Iterator[HealthFinding]:
        kinds: dict[Value, int] = {}
        for row in table:
            kinds[row["error"]] = kinds.get(row["error"], 0) + int(str(row["errors"]))
        if kinds:
            frequent = max(kinds, key=lambda kind: kinds[kind])
            rows = [row for row in table if row["error"] == frequent]
            where = most_of(table, "errors", "destination", rows, "for")
            more = f": {frequent}{where}" if len(kinds) == 1 else f", {kinds[frequent]:,} of them {frequent}{where}"
            yield from part_of(table.total("errors"), table.reading.packets, "packets are ICMP errors", more)


@hookimpl
def register_statistics(register: Callable[[Statistic], None]) -> None:
    register(IcmpErrors())
