"""conv,eth conv,ip conv,ipv6 conv,tcp conv,udp: who talked with whom, in both directions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import sharkstat_lua
from sharkstat import (
    Column,
    Listen,
    PacketCounter,
    Row,
    Statistic,
    Table,
    Value,
    hookimpl,
    sort_rows,
)

if TYPE_CHECKING:
    from sharkstat import Packet

# What tshark's taps tell of the two ends, for the taps that tell it.
ENDS = {
    "eth": ("src", "dst"),
    "ip": ("ip_src", "ip_dst"),
    "tcp": ("ip_src", "ip_dst", "th_sport", "th_dport", "th_stream"),
    "udp": ("ip_src", "ip_dst", "uh_sport", "uh_dport", "uh_stream"),
}
TITLES = {"eth": "Ethernet", "ip": "IPv4", "ipv6": "IPv6", "tcp": "TCP", "udp": "UDP"}


def addresses_of(kind: str) -> Callable[[Packet], Sequence[Sequence[str]]]:
    """How to read source and destination of every header of that kind in a packet.

    For ipv6 the tap tells nothing, so the fields are read; those behind the announced headers are quoted
    in ICMP errors.
    """
    if kind in ENDS:
        return lambda packet: packet.hits[0]
    source, destination = f"{kind}.src", f"{kind}.dst"

    def from_fields(packet: Packet) -> Sequence[Sequence[str]]:
        ends = zip(packet.values(source), packet.values(destination), strict=True)
        return list(ends)[: len(packet.hits[0])]

    return from_fields


class Conversations(Statistic):
    layer = "transport"
    tap = Path(sharkstat_lua.__file__).with_name("conversations.lua")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.ports = kind in ("tcp", "udp")
        self.name = f"conv,{kind}"
        self.title = f"{TITLES[kind]} conversations"
        self.usage = f"conv,{kind}[,FILTER]"
        self.description = (
            f"Every {TITLES[kind]} conversation with its packets and bytes in both directions, start and duration. "
            "A is the sender of the first packet; bytes are frame lengths on the wire."
        )
        if kind == "eth":
            self.description += " A pair of addresses has one row, also where tshark 4.4 parts it by its eth.stream."
        if self.ports:
            self.description += " A reused port is a new conversation, as tshark's stream number tells."

    def columns(self, arguments: str) -> tuple[Column, ...]:
        keys = [Column("address_a", "address", role="key"), Column("address_b", "address", role="key")]
        stream = []
        if self.ports:
            keys.insert(1, Column("port_a", "integer", role="key"))
            keys.append(Column("port_b", "integer", role="key"))
            stream = [Column("stream", "integer", role="key", description="tshark's number for it", shown=False)]
        return (
            *keys,
            Column("packets", "integer", "packets", role="derived"),
            Column("bytes", "integer", "bytes", role="derived"),
            Column("packets_a_to_b", "integer", "packets", title="Packets\nA → B"),
            Column("bytes_a_to_b", "integer", "bytes", title="Bytes\nA → B"),
            Column("packets_b_to_a", "integer", "packets", title="Packets\nB → A"),
            Column("bytes_b_to_a", "integer", "bytes", title="Bytes\nB → A"),
            Column("start", "time", merge="min"),
            Column("stop", "time", merge="max", shown=False),
            Column("duration", "duration", "seconds", role="derived"),
            *stream,
        )

    def counter(self, arguments: str) -> PacketCounter:
        return ConversationCounter(self.kind, arguments)

    def derive(self, table: Table) -> None:
        for row in table.rows:
            row["packets"] = _int(row["packets_a_to_b"]) + _int(row["packets_b_to_a"])
            row["bytes"] = _int(row["bytes_a_to_b"]) + _int(row["bytes_b_to_a"])
            if row["start"] is not None:
                row["duration"] = _int(row["stop"]) - _int(row["start"])

    def order(self, table: Table) -> None:
        sort_rows(table, lambda row: (-_int(row["bytes"]), -_int(row["packets"]), row["start"] or 0))

    def align(self, tables: Sequence[Table]) -> Sequence[Sequence[Row]]:
        """Rows turned so that A is the same end in every table: the end that sent first of all."""
        everything = sorted(
            (row for table in tables for row in table.rows),
            key=lambda row: (row["start"] is None, row["start"] or 0),
        )
        first: dict[tuple[Value, ...], tuple[Value, ...]] = {}
        for row in everything:
            first.setdefault(_pair(row), _ends(row))
        aligned = []
        owner: dict[tuple[Value, ...], int] = {}
        for number, table in enumerate(tables):
            rows = [row if _ends(row) == first[_pair(row)] else _turned(row) for row in table.rows]
            if self.ports:
                for row in rows:
                    if owner.setdefault(_pair(row), number) != number:
                        raise self.refuse_merge(
                            f"{row['address_a']}:{row['port_a']} <-> {row['address_b']}:{row['port_b']} is in two of "
                            "the captures, as one conversation or as a reused port; read the captures together instead"
                        )
                # tshark numbers streams within a capture: the number stays only where it tells rows apart.
                times = Counter(map(_pair, rows))
                rows = [row if times[_pair(row)] > 1 else {**row, "stream": None} for row in rows]
            aligned.append(rows)
        return aligned


def _int(value: Value) -> int:
    return value if isinstance(value, int) else 0


def _ends(row: Row) -> tuple[Value, ...]:
    return (row["address_a"], row.get("port_a"), row["address_b"], row.get("port_b"))


def _pair(row: Row) -> tuple[Value, ...]:
    """The two ends of a conversation in an order that does not depend on who spoke first."""
    a, port_a, b, port_b = _ends(row)
    one, other = (str(a), _int(port_a)), (str(b), _int(port_b))
    return (*min(one, other), *max(one, other))


def _turned(row: Row) -> Row:
    turned = dict(row)
    for name in row:
        if name.endswith("_a_to_b"):
            back = name.replace("_a_to_b", "_b_to_a")
            turned[name], turned[back] = row[back], row[name]
    for name in ("address", "port"):
        if f"{name}_a" in row:
            turned[f"{name}_a"], turned[f"{name}_b"] = row[f"{name}_b"], row[f"{name}_a"]
    return turned


class _Conversation:
    __slots__ = ("a", "b", "backward", "first", "forward", "last", "stream")

    def __init__(self, a: tuple[Value, ...], b: tuple[Value, ...], stream: int | None, time: int) -> None:
        self.a, self.b, self.stream = a, b, stream
        self.forward, self.backward = [0, 0], [0, 0]
        self.first = self.last = time


class ConversationCounter(PacketCounter):
    """The same counting as lua/sharkstat_lua/conversations.lua, on packets."""

    def __init__(self, kind: str, display_filter: str) -> None:
        self._ports = kind in ("tcp", "udp")
        self.listens = (Listen(kind, display_filter, ENDS.get(kind, ())),)
        self.fields = () if kind in ENDS else (f"{kind}.src", f"{kind}.dst")
        self._ends = addresses_of(kind)
        self._found: dict[object, _Conversation] = {}

    def packet(self, packet: Packet) -> None:
        for header in self._ends(packet):
            a: tuple[Value, ...]
            b: tuple[Value, ...]
            if self._ports:
                source, destination, source_port, destination_port, number = header
                a, b, stream = (source, int(source_port)), (destination, int(destination_port)), int(number)
                key: object = stream
            else:
                a, b, stream = (header[0],), (header[1],), None
                key = frozenset((a, b))
            conversation = self._found.get(key)
            if conversation is None:
                conversation = self._found[key] = _Conversation(a, b, stream, packet.time_ns)
            direction = conversation.forward if a == conversation.a else conversation.backward
            direction[0] += 1
            direction[1] += packet.length
            conversation.first = min(conversation.first, packet.time_ns)
            conversation.last = max(conversation.last, packet.time_ns)

    def rows(self) -> list[list[Value]]:
        return [
            [*c.a, *c.b, *c.forward, *c.backward, c.first, c.last, *([c.stream] if self._ports else [])]
            for c in self._found.values()
        ]


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    for kind in TITLES:
        register(Conversations(kind))
