"""conv,eth conv,ip conv,ipv6 conv,tcp conv,udp, and tshark's other conv: who talked with whom, in both directions."""

from __future__ import annotations

import re
from collections import Counter
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
    Row,
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
from sharkstat_plugins.tshark_text import decimal

if TYPE_CHECKING:
    from sharkstat import Packet

TAP = Path(sharkstat_lua.__file__).with_name("conversations.lua")


class ConversationTable(Ends):
    """The table of conversations, as tshark prints it."""

    family = "conv"

    def __init__(self, kind: str) -> None:
        self.engines: Sequence[Engine] = (TsharkText(self.parse, self.native, layer=layer_of(kind)),)
        self.kind = kind
        self.ports = kind in WITH_PORTS
        self.name = f"conv,{kind}"
        self.title = f"{title_of(kind)} conversations"
        self.usage = f"conv,{kind}[,max=INTEGER][,FILTER]"
        self.description = (
            f"Every {title_of(kind)} conversation with its packets and bytes in both directions, start and duration. "
            "A is the sender of the first packet. Bytes are frame lengths on the wire."
        )
        if kind == "ipv6":
            self.description += f" {EACH_FRAGMENT}"
        if kind == "eth":
            self.description += " A pair of addresses has one row, even where tshark 4.4 splits it by eth.stream."
        if self.ports:
            self.description += " A reused port starts a new conversation, with a new stream number."

    def columns(self, arguments: str) -> tuple[Column, ...]:
        """Those of tshark's text, whose bytes and ends are rounded."""
        rounded = ("stop", "duration")
        exact = columns_of(self.ports)
        return (*(replace(c, approximate="bytes" in c.name or c.name in rounded) for c in exact), OCCURRENCE)

    def follows_time(self, arguments: str, engine: Engine) -> bool:
        return False

    def parse(self, text: bytes, arguments: str) -> Parsed:
        """Rows of tap-iousers.c: ends, packets and rounded bytes from B, to B and in all, start and duration."""
        rows = [self._conversation(line) for line in frame(text, "Conversations")]
        # Conversations of the same ends (a port that is used again; dccp, whose ports tshark does not print) have no
        # number in the text.
        seen: Counter[tuple[Value, ...]] = Counter()
        ends = 4 if self.ports else 2
        for row in sorted(rows, key=lambda row: int(str(row[-2]))):
            pair = tuple(row[:ends])
            seen[pair] += 1
            row.append(seen[pair])
        return Parsed(rows, ConversationTable.columns(self, arguments))

    def _conversation(self, line: str) -> list[Value]:
        found = _CONVERSATION.fullmatch(line)
        if not found or " <-> " in found["b"] or " <-> " in found["a"]:
            raise TextError(f"no row of a conversation: {line!r}")
        back, back_size, back_unit, ahead, ahead_size, ahead_unit, packets = found.group(3, 4, 5, 6, 7, 8, 9)
        if int(back) + int(ahead) != int(packets):
            raise TextError(f"the packets of both directions are not the total: {line!r}")
        start = decimal(found["start"], 10**9)
        return [
            *self._end(found["a"]),
            *self._end(found["b"]),
            int(ahead),
            size(ahead_size, ahead_unit),
            int(back),
            size(back_size, back_unit),
            start,
            start + decimal(found["duration"], 10**9),
        ]

    def _end(self, text: str) -> list[Value]:
        if not self.ports:
            return [BROADCAST.get(text, text)]
        address, colon, port = text.rpartition(":")
        if not colon or not port.isdigit():
            raise TextError(f"no address and port: {text!r}")
        return [address, int(port)]

    def derive(self, table: Table) -> None:
        for row in table.rows:
            row["packets"] = _int(row["packets_a_to_b"]) + _int(row["packets_b_to_a"])
            row["bytes"] = _int(row["bytes_a_to_b"]) + _int(row["bytes_b_to_a"])
            if row["start"] is not None:
                row["duration"] = _int(row["stop"]) - _int(row["start"])

    def order(self, table: Table) -> None:
        sort_rows(
            table,
            lambda row: (
                *(-_int(row["bytes"]), -_int(row["packets"]), row["start"] or 0, _int(row.get("stream"))),
                *_pair(row),
            ),
        )

    def ranking(self, arguments: str) -> Sequence[str]:
        stream = ["stream"] if any(column.name == "stream" for column in self.columns(arguments)) else []
        return ("bytes descending", "packets descending", "start", *stream)

    def align(self, tables: Sequence[Table]) -> Sequence[Sequence[Row]]:
        """Rows turned so that A is the same end in every table: the end that sent first of all."""
        everything = sorted(
            (row for table in tables for row in table.rows),
            key=lambda row: (row["start"] is None, row["start"] or 0),
        )
        first: dict[tuple[Value, ...], tuple[Value, ...]] = {}
        for row in everything:
            first.setdefault(_pair(row), _ends(row))
        aligned = [[row if _ends(row) == first[_pair(row)] else _turned(row) for row in table.rows] for table in tables]
        self._check_owners(aligned)
        if self.ports and any(c.name == "stream" for c in tables[0].columns):
            # tshark numbers streams within a capture: the number stays only where it tells rows apart.
            for number, rows in enumerate(aligned):
                times = Counter(map(_pair, rows))
                aligned[number] = [row if times[_pair(row)] > 1 else {**row, "stream": None} for row in rows]
        return aligned

    def align_shards(self, tables: Sequence[Table]) -> Sequence[Sequence[Row]]:
        """The same, with rows that are in one table as they are. MergeError where two ends spoke first at one time."""
        if self.ports:
            self._check_owners([table.rows for table in tables])
            return [table.rows for table in tables]
        starts: dict[tuple[Value, ...], dict[Value, set[tuple[Value, ...]]]] = {}
        for row in (row for table in tables for row in table.rows):
            starts.setdefault(_pair(row), {}).setdefault(row["start"], set()).add(_ends(row))
        for times in starts.values():
            if len(times[min(times, key=lambda time: (time is None, time or 0))]) > 1:
                raise self.refuse_merge("it is not known which of two ends spoke first")
        return self.align(tables)

    def _check_owners(self, parts: Sequence[Sequence[Row]]) -> None:
        """MergeError where two tables have a conversation of the same ends and ports."""
        owner: dict[tuple[Value, ...], int] = {}
        for number, rows in enumerate(parts):
            if self.ports or any(int(row.get("occurrence") or 1) > 1 for row in rows):  # type: ignore[arg-type]
                for row in rows:
                    if owner.setdefault(_pair(row), number) != number:
                        raise self.refuse_merge(
                            f"{_shown(row)} is in two of the captures, as one conversation or as a reused port: read "
                            "the captures in one run instead"
                        )


def _shown(row: Row) -> str:
    a, port_a, b, port_b = _ends(row)
    return f"{a} <-> {b}" if port_a is None else f"{a}:{port_a} <-> {b}:{port_b}"


class TapConversations(ConversationTable):
    """Those that our own tap counts exactly."""

    by_connection = "also"

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.engines = (
            Tap(TAP, layer_of(kind), call=self.call, split="whole" if kind == "dccp" else "hosts"),
            *self.engines,
        )

    def columns(self, arguments: str) -> tuple[Column, ...]:
        stream = Column(
            "stream",
            "integer",
            role="key",
            description="tshark's stream number",
            shown=False,
            local="always",
            numbering=self.kind if self.kind in ("tcp", "udp") else "",  # type: ignore[arg-type]
        )
        # tshark numbers no SCTP conversations; it does those of DCCP, whose ports its text has not.
        ports = self.ports or self.kind == "dccp"
        return (*columns_of(ports), *([stream] if ports and self.kind != "sctp" else []))


class Conversations(TapConversations):
    """Those that our own packet counter counts too."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        tap, text = self.engines
        self.engines = (tap, Packets(lambda filter, max=0: ConversationCounter(kind, filter)), text)
        if isinstance(tap, Tap) and kind in PLAIN:
            plain = OfWays(kind, _both_ways)
            headers = Headers(tap, lambda arguments: None if self.filter_of(arguments) else plain)
            self.engines = (*self.engines[:-1], headers, text)


def _both_ways(ways: Sequence[Way]) -> list[list[Value]]:
    """A row a conversation, of what each of its ends sent to the other."""
    found: dict[object, list[Value]] = {}
    for way in ways:
        a: tuple[Value, ...] = (way.source,) if way.source_port is None else (way.source, way.source_port)
        b: tuple[Value, ...] = (
            (way.destination,) if way.source_port is None else (way.destination, way.destination_port)
        )
        key = way.stream if way.stream is not None else (max(a, b), min(a, b))
        row = found.get(key)
        if row is None:
            stream = [] if way.stream is None else [way.stream]
            found[key] = [*a, *b, way.packets, way.bytes, 0, 0, way.first, way.last, *stream]
            continue
        at = 2 * len(a)
        row[at + 2], row[at + 3] = way.packets, way.bytes
        row[at + 5] = max(_int(row[at + 5]), way.last)
    return list(found.values())


def columns_of(ports: bool) -> tuple[Column, ...]:
    keys = [Column("address_a", "address", role="key"), Column("address_b", "address", role="key")]
    if ports:
        keys.insert(1, Column("port_a", "integer", role="key", local="dynamic"))
        keys.append(Column("port_b", "integer", role="key", local="dynamic"))
    return (
        *keys,
        Column("packets", "integer", "packets", role="derived", sum_of=("packets_a_to_b", "packets_b_to_a")),
        Column("bytes", "integer", "bytes", role="derived", share="bytes", sum_of=("bytes_a_to_b", "bytes_b_to_a")),
        Column("packets_a_to_b", "integer", "packets", title="Packets\nA → B"),
        Column("bytes_a_to_b", "integer", "bytes", title="Bytes\nA → B"),
        Column("packets_b_to_a", "integer", "packets", title="Packets\nB → A"),
        Column("bytes_b_to_a", "integer", "bytes", title="Bytes\nB → A"),
        Column("start", "time", merge="min"),
        Column("stop", "time", merge="max", shown=False),
        Column("duration", "duration", "seconds", role="derived"),
    )


# The text -------------------------------------------------------------------------------------------

OCCURRENCE = Column(
    "occurrence", "integer", role="key", shown=False, description="number of the conversation between these endpoints"
)
_SIZE = r" +(\d+) (\d+)(?: (bytes|[kMGTPE]B))?"
_CONVERSATION = re.compile(
    rf"(?P<a>\S.*?) +<-> (?P<b>\S.*?){_SIZE}{_SIZE}{_SIZE} +(?P<start>-?\d+\.\d+) +(?P<duration>\d+\.\d+) *"
)


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


class ConversationCounter(EndsCounter):
    """The same counting as lua/sharkstat_lua/conversations.lua, on packets."""

    def __init__(self, kind: str, display_filter: str) -> None:
        super().__init__(kind, display_filter)
        self._found: dict[object, _Conversation] = {}

    def packet(self, packet: Packet) -> None:
        for header in self.headers(packet):
            a: tuple[Value, ...]
            b: tuple[Value, ...]
            if self.ports:
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
            [*c.a, *c.b, *c.forward, *c.backward, c.first, c.last, *([c.stream] if self.ports else [])]
            for c in self._found.values()
        ]


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register_kinds(register, Conversations, TapConversations)


@hookimpl
def register_families(register):  # type: ignore[no-untyped-def]
    register("conv", lambda name: ConversationTable(name[5:]) if name.startswith("conv,") else None)
