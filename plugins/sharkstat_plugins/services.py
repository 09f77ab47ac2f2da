"""services: what the traffic is made of, by connection."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sharkstat import Column, Listen, PacketCounter, Packets, RequestError, Row, Table, Value, hookimpl
from sharkstat_plugins import service_rules as rules
from sharkstat_plugins.networks import VIRTUAL_NETWORKS, Networks
from sharkstat_plugins.service_intervals import NOBODY, Cell, Intervals, Keys, Service, aligned
from sharkstat_plugins.service_rules import Path, Peers
from sharkstat_plugins.shipped_tap import ShippedTap

if TYPE_CHECKING:
    from sharkstat import Packet

MOST_CONNECTIONS = MOST_NAMES = 100_000
MOST_FRAGMENTS = 10_000
LONGEST_NAME = 255

_NAMES = ("http.host", "http2.headers.authority", "tls.handshake.extensions_server_name")
_DNS = ("dns.resp.name", "dns.resp.type", "dns.cname", "dns.a", "dns.aaaa")
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


LONGEST = 7 * 86_400 * 10**9  # of an interval: what the tap can place exactly


class Services(ShippedTap):
    by_connection = "also"

    def __init__(self) -> None:
        super().__init__("services.lua")
        self.engines[0].shares = True
        self.engines = (*self.engines, Packets(self._counter))

    def _counter(self, filter: str, max: int, every: int | None, intervals: int | None) -> ServiceCounter:
        return ServiceCounter(max, filter, every, intervals)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        values = self.read(arguments)[0]
        every = values["every"]
        if every is not None and values["intervals"] is not None:
            raise RequestError("services: every= and intervals= exclude each other: leave out one")
        if every is not None and (every % 1000 or not 0 < every <= LONGEST):
            raise RequestError("services: every= takes whole microseconds, at most 7d, such as 500ms, 10s or 5m")
        return super().columns(arguments)

    def align(self, tables: Sequence[Table]) -> Sequence[Sequence[Row]]:
        if any(column.name == "length" for column in tables[0].columns):
            tables = [replace(table, rows=list(rows)) for table, rows in zip(tables, aligned(tables), strict=True)]
        return super().align(tables)


class _Connection:
    """One whose service is not known for certain: its ends, `a` first, and what each has sent."""

    def __init__(self, kind: str, key: object, a: tuple[str, int], b: tuple[str, int]) -> None:
        self.kind, self.key, self.a, self.b = kind, key, a, b
        self.second_serves: bool | None = None
        self.name: str | None = None
        self.protocol = self.carrier = ""
        self.met: tuple[str | None, str | None] = (None, None)  # what DNS called the ends then
        self.sent, self.got = [0, 0], [0, 0]
        self.first = self.last = 0
        self.cells: list[Cell] = []

    def client(self, second_serves: bool | None) -> str:
        return self.a[0] if second_serves else self.b[0]

    def ends(self) -> tuple[tuple[str, str, int], tuple[str, str, int]]:
        return (self.kind, *self.a), (self.kind, *self.b)

    def note(self, path: Path) -> None:
        if path.protocol and (not self.protocol or rules.INSTEAD_OF.get(path.protocol) == self.protocol):
            self.protocol = path.protocol
        self.carrier = self.carrier or path.carrier


class ServiceCounter(PacketCounter):
    """The same counting as lua/sharkstat_lua/services.lua, on packets."""

    knows_networks = True

    def __init__(self, most: int, display_filter: str, every: int | None, intervals: int | None) -> None:
        ends = ("pinfo.src", "pinfo.src_port", "pinfo.dst", "pinfo.dst_port")
        self.listens = (Listen("frame", display_filter, ends),)
        self.fields = (
            *("frame.protocols", "tcp.stream", "udp.stream", "tcp.flags", "sctp.chunk_type"),
            *("ip.fragment", "ipv6.fragment", *_NAMES, *_DNS, *rules.ASKING_FIELDS),
            *VIRTUAL_NETWORKS,
        )
        self._most = most
        self._paths: dict[str, Path] = {}
        self._known: dict[object, _Connection | Service] = {}
        self._waiting: list[_Connection] = []
        self._networks = {"tcp": Networks(), "udp": Networks()}
        self._peers = Peers(2 * MOST_CONNECTIONS)
        self._names: dict[str, str] = {}
        self._services: dict[tuple[Value, ...], Service] = {}
        self._other: Service | None = None
        self._held: dict[int, tuple[str, int, int]] = {}
        self._intervals = Intervals(most, every, intervals) if every or intervals is not None else None

    def packet(self, packet: Packet) -> None:
        text = packet.value("frame.protocols") or ""
        path = self._paths.get(text)
        if path is None:
            path = self._paths[text] = rules.read(text)
        if path.fragment:
            if len(self._held) == MOST_FRAGMENTS:
                self._let_go()
            self._held[packet.number] = (path.protocol, packet.length, packet.time_ns)
            if self._intervals:
                self._intervals.note(packet.time_ns)
            return
        found = [*(self._completed(packet) if self._held else ()), (packet.length, packet.time_ns)]
        packets, size = len(found), sum(length for length, _ in found)
        first, last = min(time for _, time in found), max(time for _, time in found)
        if "dns" in path.holds:
            self._learn(packet)
        if not path.transport:
            keys = (path.protocol, None, None, None, None)
            self._service(keys).count(packets, size, first, last)
            if self._intervals:
                self._intervals.add_to_service(keys, found, False)
            return
        source, source_port, destination, destination_port = packet.hits[0][0]
        a, b = (str(source), int(source_port or 0)), (str(destination), int(destination_port or 0))
        streams = packet.values(f"{path.transport}.stream") if path.transport != "sctp" else []
        key: tuple[str, object] = (path.transport, frozenset((a, b)))
        if streams:
            stream = int(streams[-1])
            key = (path.transport, self._networks[path.transport].key(stream, packet, a, b, path.virtual))
        known = self._known.get(key) or self._meet(packet, path.transport, key, a, b)
        if isinstance(known, Service):
            known.count(packets, size, first, last)
            from_server = None if known.ways is None else (a[1], a[0]) == (known.keys[3], known.keys[2])
            if from_server is not None:
                known.count_ways((0, 0) if from_server else (packets, size), (packets, size) if from_server else (0, 0))
            if self._intervals:
                self._intervals.add_to_service(known.keys, found, True, from_server, b[0] if from_server else a[0])
            return
        from_first = a[1] == known.a[1] if known.a[1] != known.b[1] else a[0] == known.a[0]
        self._look(known, path, packet, from_first)
        side = known.sent if from_first else known.got
        side[0] += packets
        side[1] += size
        known.first, known.last = min(known.first, first), max(known.last, last)
        if self._intervals and self._intervals.add(known.cells, from_first, found):
            self._settle()

    def _settle(self) -> None:
        """What is known of the connections until now is all that will be."""
        found = list(self._settled())
        for connection, service, _ in found:
            self._known[connection.key] = service
        if self._intervals:
            self._intervals.settle(_as_open(c, keys) for c, _, keys in found)
        self._waiting.clear()

    def _meet(
        self, packet: Packet, kind: str, key: tuple[str, object], a: tuple[str, int], b: tuple[str, int]
    ) -> _Connection:
        if len(self._waiting) == MOST_CONNECTIONS:
            self._settle()
        c = self._known[key] = _Connection(kind, key, a, b)
        self._waiting.append(c)
        c.first = c.last = packet.time_ns
        if self._intervals:
            c.cells = self._intervals.opened()
        c.met = self._names.get(a[0]), self._names.get(b[0])
        if kind == "tcp":
            flags = int((packet.values("tcp.flags") or ["0"])[-1])
            if flags & 0x02:
                c.second_serves = not flags & 0x10
        elif kind == "sctp":
            chunk = packet.value("sctp.chunk_type")
            if chunk in ("1", "2"):
                c.second_serves = chunk == "1"
        elif rules.of_many(b[0]) and b[1] not in rules.OF_CLIENTS:
            c.second_serves = True
        if rules.by_service(a[1], b[1]) is None:
            for end in c.ends():
                self._peers.add(end)
        return c

    def _look(self, c: _Connection, path: Path, packet: Packet, from_first: bool) -> None:
        if not path.above:
            return
        for protocol in path.above:
            if c.second_serves is None and protocol in rules.ASKING:
                asks = _asks(packet, protocol)
                c.second_serves = None if asks is None else asks == from_first
        if c.name is None:
            c.name = _own_name(packet, path)
        c.note(path)

    def _learn(self, packet: Packet) -> None:
        owners, types = packet.values("dns.resp.name"), packet.values("dns.resp.type")
        left = {kind: packet.values(name) for kind, name in (("1", "dns.a"), ("28", "dns.aaaa"), ("5", "dns.cname"))}
        if len(owners) != len(types) or any(types.count(kind) != len(values) for kind, values in left.items()):
            return
        aliases = [owner for owner, kind in zip(owners, types, strict=True) if kind == "5"]
        alias_of = dict(zip(left["5"], aliases, strict=True))
        for owner, kind in zip(owners, types, strict=True):
            if kind not in ("1", "28"):
                continue
            address, name, steps = left[kind].pop(0), owner, 0
            while name in alias_of and steps < len(types):
                name, steps = alias_of[name], steps + 1
            host = host_name(name)
            if host and (address in self._names or len(self._names) < MOST_NAMES):
                self._names[address] = host

    def _completed(self, packet: Packet) -> list[tuple[int, int]]:
        """The fragments that this packet completes: the bytes and time of each."""
        numbers = [*packet.values("ip.fragment"), *packet.values("ipv6.fragment")]
        return [fragment[1:] for number in numbers if (fragment := self._held.pop(int(number), None))]

    def _let_go(self) -> None:
        for protocol, length, time in self._held.values():
            keys = (protocol, None, None, None, None)
            self._service(keys).count(1, length, time, time)
            if self._intervals:
                self._intervals.add_to_service(keys, [(length, time)], False)
        self._held.clear()

    def _service(self, keys: tuple[Value, ...]) -> Service:
        service = self._services.get(keys)
        if service is None:
            if len(self._services) >= self._most:
                self._other = self._other or Service(NOBODY)
                return self._other
            service = self._services[keys] = Service(keys)
        return service

    def _second_serves(self, c: _Connection) -> bool | None:
        if c.second_serves is not None:
            return c.second_serves
        told = rules.by_service(c.a[1], c.b[1])
        return told if told is not None else self._peers.second_serves(*c.ends())

    def _settled(self) -> Iterator[tuple[_Connection, Service, tuple[Keys, bool | None]]]:
        """Add the connections that wait to their services; each with its row, its own service and which end serves."""
        serves = [self._second_serves(c) for c in self._waiting]
        ends = [None if at is None else c.ends()[at] for c, at in zip(self._waiting, serves, strict=True)]
        protocols: dict[object, set[str]] = {}
        own_names: dict[object, set[str]] = {}
        for c, end in zip(self._waiting, ends, strict=True):
            if end is not None:
                protocols.setdefault(end, set()).update(filter(None, [c.protocol or c.carrier]))
                own_names.setdefault(end, set()).update(filter(None, [c.name]))
        for c, second, end in zip(self._waiting, serves, ends, strict=True):
            protocol = c.protocol or c.carrier or _one(protocols.get(end)) or c.kind
            keys: Keys = (protocol, c.name, None, c.a[1] if c.a[1] == c.b[1] else None, c.kind)
            if second is not None and end is not None:
                name = c.name or c.met[second] or self._names.get(end[1]) or _one(own_names[end])
                keys = (protocol, name, end[1], end[2], c.kind)
            service = self._service(keys)
            service.count(c.sent[0] + c.got[0], c.sent[1] + c.got[1], c.first, c.last)
            service.connections = (service.connections or 0) + 1
            if second is not None and service is not self._other:
                service.add_client(c.client(second))
                service.count_ways(*((c.sent, c.got) if second else (c.got, c.sent)))
            yield c, service, (keys, second)

    def rows(self) -> Iterator[list[Value]]:
        found = [_as_open(c, told) for c, _, told in self._settled()]
        if self._intervals:
            held = [((protocol, None, None, None, None), (size, time)) for protocol, size, time in self._held.values()]
            yield from self._intervals.rows(found, held)
            return
        self._let_go()
        for service in (*self._services.values(), *filter(None, [self._other])):
            yield service.row()


def _as_open(c: _Connection, told: tuple[Keys, bool | None]) -> tuple[list[Cell], Keys, bool | None, str]:
    keys, second = told
    return c.cells, keys, second, c.client(second)


def _one(values: set[str] | None) -> str | None:
    return next(iter(values)) if values and len(values) == 1 else None


def _asks(packet: Packet, protocol: str) -> bool | None:
    """True where the packet asks, False where it answers."""
    field, *values = rules.ASKING[protocol]
    if len(values) == 1:
        return True if packet.values(field) else False if packet.values(values[0]) else None
    found = packet.value(field)
    return True if found == values[0] else False if found == values[1] else None


def _own_name(packet: Packet, path: Path) -> str | None:
    told = packet.value("http.host") if "http" in path.holds else None
    if told is None and "http2" in path.holds:
        told = packet.value("http2.headers.authority")
    if told is None and path.holds & {"tls", "quic", "dtls"}:
        told = packet.value("tls.handshake.extensions_server_name")
    return None if told is None else host_name(told)


def host_name(text: str) -> str | None:
    """A host's name as it is asked for, in lower case and without a port; None for what is no name.

    >>> host_name("WWW.Example.net.:8080"), host_name("192.0.2.1:80"), host_name("[2001:db8::1]:80")
    ('www.example.net', None, None)
    """
    if len(text.encode("utf-8", "surrogateescape")) > LONGEST_NAME:
        return None
    name = re.sub(r":[0-9]+\Z", "", text.translate(_LOWER).strip(" \t\n\v\f\r"))
    name = name.removesuffix(".")
    if not name or name == "<root>" or name.startswith("[") or re.fullmatch(r"(?:[0-9]+\.){3}[0-9]+", name):
        return None
    return name


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(Services())
