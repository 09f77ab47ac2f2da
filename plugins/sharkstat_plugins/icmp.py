"""icmp,errors: what could not be delivered, to whom, and who says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from sharkstat import (
    Column,
    Count,
    Declared,
    HealthFinding,
    Key,
    Section,
    Seen,
    Statistic,
    Table,
    Value,
    hookimpl,
    most_of,
    part_of,
)

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


class IcmpErrors(Declared):
    name = "icmp,errors"
    title = "ICMP errors"
    description = (
        "What could not be delivered, where to, and who says so? The errors of ICMP and ICMPv6 by who reports them, "
        "what they say, and the packet that they quote: who sent it, to which address and port."
    )
    filter = "icmp.type in {3, 4, 5, 11, 12} || icmpv6.type in {1, 2, 3, 4}"
    keys = (
        Key("ip.src/ipv6.src", "reporter", description="who sends the error"),
        Key("ip.version/ipv6.version", "version", description="of IP, in which the error comes"),
        Key("icmp.type/icmpv6.type", "type"),
        Key("icmp.code/icmpv6.code", "code"),
        Key("ip.src/ipv6.src", "sender", occurrence="last", description="of the packet that is quoted"),
        Key("ip.dst/ipv6.dst", "destination", occurrence="last", description="of the packet that is quoted"),
        Key("tcp.dstport", "tcp_port", title="TCP port", description="of the packet that is quoted"),
        Key("udp.dstport", "udp_port", title="UDP port", description="of the packet that is quoted"),
    )
    measures = (Count("", "errors", "packets"), Seen())
    section = Section(860, rows=0)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        error = Column("error", "text", role="derived", description="what the type and code mean")
        reporter, *others = super().columns(arguments)
        hidden = ("version", "type", "code", "first_seen", "last_seen")
        return (reporter, error, *(replace(c, shown=c.name not in hidden) for c in others))

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
