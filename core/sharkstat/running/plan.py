"""From requests to one pass: what the host in tshark is told to do, and what tshark may leave out."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sharkstat.errors import RequestError, SharkstatError, StatisticError
from sharkstat.running.source import Source
from sharkstat.statistics.native import MARK
from sharkstat.statistics.registry import Registry
from sharkstat.statistics.statistic import Listen, PacketCounter, Statistic
from sharkstat.tables.column import Column
from sharkstat.tshark.records import escape

ENGINES = ("lua", "packets", "tshark")

# How far up the layers a statistic looks. What lies above is given to tshark's `data` dissector.
LEVELS = ("transport", "http", "messages", "application")

# Ports whose traffic tshark hands, by the port alone, to a dissector that never carries IP, nor announces
# conversations of its own (as SIP, SNMP, SOCKS and TFTP do: that changes tshark's stream numbers). Where
# nobody asks about what is above TCP and UDP, that dissector is replaced by `data`, which claims the
# payload just as firmly: nothing falls through to another dissector, so no tunnel is seen that was not
# there before. (Disabling the dissector instead would let the next port or heuristic have a try.)
LEAF_PORTS = {
    "tcp.port": (
        22, 23, 25, 53, 80, 110, 139, 143, 179, 389, 443, 445, 465, 514, 515, 587, 631, 636, 873, 993, 995,
        1433, 1521, 1883, 3268, 3306, 3389, 5222, 5432, 5671, 5672, 6379, 8080, 8883, 9042, 9092,
        9418, 11211, 27017,
    ),
    "udp.port": (53, 67, 68, 88, 123, 137, 138, 389, 514, 1812, 1813, 1900, 5353, 5355),
}  # fmt: skip

# Those of them that carry no HTTP either: no TLS (which may be decrypted), no proxy, no SSDP, no IPP.
LEAF_PORTS_BESIDE_HTTP = {
    "tcp.port": (22, 23, 53, 139, 179, 445, 1433, 1521, 3306, 5432, 6379, 9042, 11211),
    "udp.port": (53, 67, 68, 88, 123, 137, 138, 514, 1812, 1813, 5353, 5355),
}

# Bodies of HTTP messages that hold no HTTP message themselves. Dissecting a bucket listing as XML costs
# tshark several times what the message that carries it does.
LEAF_MEDIA_TYPES = (
    "application/javascript", "application/json", "application/octet-stream", "application/x-javascript",
    "application/x-www-form-urlencoded", "application/xml", "image/gif", "image/jpeg", "image/png",
    "image/svg+xml", "text/css", "text/html", "text/javascript", "text/plain", "text/xml",
)  # fmt: skip

# What may stand in a display filter without anyone looking above TCP and UDP, or above HTTP.
_TRANSPORT_FIELDS = (
    r"frame(?:\.(?:len|cap_len|number|time\w*|interface_\w+))?"
    r"|(?:eth|vlan|arp|ip|ipv6)(?:\.[\w.]+)?"
    r"|tcp(?:\.(?:(?:src|dst)?port|stream|flags[\w.]*|len|seq\w*|nxtseq|ack\w*|window_size\w*|hdr_len|time_\w+"
    r"|analysis\.[\w.]+|options[\w.]*))?"
    r"|udp(?:\.(?:(?:src|dst)?port|stream|length|time_\w+))?"
)
_FIELDS = {
    "transport": re.compile(rf"(?:{_TRANSPORT_FIELDS})$"),
    "http": re.compile(rf"(?:{_TRANSPORT_FIELDS}|http(?:\.[\w.]+)?)$"),
    # None of these is in a page, script or image that HTTP carries.
    "messages": re.compile(
        rf"(?:{_TRANSPORT_FIELDS}|(?:http|dns|mdns|llmnr|tls|quic|dhcp|icmp|icmpv6|ntp)(?:\.[\w.]+)?)$"
    ),
}
_WORDS = re.compile(r"""\$\{|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[A-Za-z_][\w.\-]*|[\d:][\w:.\-/]*""")
# Names from DNS that tshark prints raw under -N, and that no honest host has: with blanks and control characters, which
# the field holds escaped.
HOSTILE_NAMES = (r'(dns.a || dns.aaaa) && dns.resp.name matches "[\\x00-\\x20\\x7f\\\\]"',)
_OPERATORS = frozenset(
    """and or not xor in eq ne gt ge lt le contains matches bitwise_and any_eq all_eq any_ne all_ne
    any all len count true false True False""".split()  # noqa: SIM905 - a list of words reads best as words
)


def level_of(display_filter: str) -> str:
    """How far up the layers tshark must look to answer a display filter.

    >>> level_of("tcp.port == 80 && ip.src == 10.0.0.1"), level_of("http.host"), level_of("dns"), level_of("xml")
    ('transport', 'http', 'messages', 'application')
    """
    words = _WORDS.findall(display_filter)
    names = [word for word in words if word[0] not in "\"'0123456789:" and word not in _OPERATORS]
    return next((level for level, fields in _FIELDS.items() if all(map(fields.match, names))), "application")


@dataclass
class Request:
    """One statistic with its arguments, on the engine that will run it."""

    text: str
    statistic: Statistic
    arguments: str
    engine: str
    columns: tuple[Column, ...]
    counter: PacketCounter | None = None
    native: str = ""

    @property
    def counted(self) -> tuple[Column, ...]:
        """The columns whose values the engine gives."""
        return tuple(column for column in self.columns if column.role != "derived")


@dataclass
class Plan:
    """One pass: the requests that one tshark process serves, and what it is told."""

    source: Source
    requests: list[Request]
    listens: list[tuple[int, Listen]] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    whole_packets: bool = False
    natives: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        known: dict[str, None] = {}
        for index, request in enumerate(self.requests):
            if request.counter is None:
                continue
            self.listens += [(index, listen) for listen in request.counter.listens]
            if request.counter.fields is None:
                self.whole_packets = True
            else:
                known.update(dict.fromkeys(request.counter.fields))
        self.fields = list(known)
        # The same question twice is asked once: some of tshark's statistics can run but once.
        self.natives = list(dict.fromkeys(r.native for r in self.requests if r.engine == "tshark"))
        for statistic in {r.statistic.name: r.statistic for r in self.requests if r.engine == "tshark"}.values():
            asked = {r.native for r in self.requests if r.statistic is statistic}
            if statistic.once and len(asked) > 1:
                raise RequestError(f"tshark counts {statistic.name} but once a run: ask for one filter a run")
        talkers = {
            r.native: r.statistic.name for r in self.requests if r.engine == "tshark" and r.statistic.prints_at_once
        }
        if len(talkers) > 1:
            raise RequestError(f"{' and '.join(talkers.values())} print while packets are read: ask for one a run")

    def remarks(self, request: Request) -> tuple[str, ...]:
        """What there is to say of a request before it runs."""
        if request.counter is None or request.counter.fields is not None:
            return ()
        name = type(request.counter).__name__
        return (
            f"{request.text}: whole packets are slow, some hundreds a second: say in {name} what it reads, as in "
            'fields = ("ip.src", "tcp.len")',
        )

    def again(self) -> Plan:
        """The same plan with fresh counters."""
        for request in self.requests:
            if request.counter is not None:
                request.counter = request.statistic.counter(request.arguments)
        return Plan(self.source, self.requests)

    def level(self) -> str:
        """How far up the layers tshark must look for everything that was asked for."""
        source = self.source
        if (
            self.whole_packets
            or source.keylog
            or source.decode_as
            or source.preferences
            or source.profile
            or source.heuristics
        ):
            return "application"
        if source.resolve:  # names are learnt from DNS answers
            return "application"
        layers = [request.statistic.layer for request in self.requests if request.counter is None]
        return max([*layers, *map(level_of, self.filters_and_fields())], key=LEVELS.index)

    def filters_and_fields(self) -> list[str]:
        """Everything in which the user or a statistic names a field."""
        texts = [self.source.display_filter, self.source.read_filter]
        for request in self.requests:
            texts += request.statistic.filters(request.arguments)
            texts += request.statistic.tap_fields(request.arguments)
            if request.counter is not None:
                texts += (text for listen in request.counter.listens for text in (listen.tap, listen.filter))
                texts += request.counter.fields or ()
        return texts

    def leaf_options(self) -> list[str]:
        """tshark's options that spare it the work whose results nobody asked for."""
        level = self.level()
        if level == "application":
            return []
        ports = {"transport": LEAF_PORTS, "http": LEAF_PORTS_BESIDE_HTTP}.get(level, {})
        given = [f"{table}=={port}" for table, numbers in ports.items() for port in numbers]
        given += [f"media_type=={name}" for name in LEAF_MEDIA_TYPES] if level != "transport" else []
        options = [part for layer in given for part in ("-d", f"{layer},data")]
        if not any("analysis" in text for text in self.filters_and_fields()):
            # Only tcp.analysis.bytes_in_flight and push_bytes_sent need it, and it keeps a note of every segment.
            options += ["-o", "tcp.track_bytes_in_flight:FALSE"]
        return options

    def native_options(self) -> list[str]:
        """tshark's options for its own statistics, with marks around each (host.lua prints them)."""
        options = ["-z", f"{MARK},0"] if self.natives else []
        for number, native in enumerate(self.natives, 1):
            options += ["-z", native, "-z", f"{MARK},{number}"]
        return options

    def job(self, rows: str, first: Path, taps: dict[Path, Path], exact: bool, nonce: str) -> str:
        """The text that tells host.lua what to do.

        `rows` is the pipe for its records, `first` the file for the first packet; `taps` says where each
        tap's file is for tshark; with `exact`, times that a double cannot hold are read from a field;
        `nonce` is a word for the marks that nothing else holds.
        """
        lines: list[tuple[str, ...]] = [("rows", rows), ("first", str(first))]
        if exact:
            lines.append(("exact",))
        if self.source.display_filter:
            lines.append(("filter", self.source.display_filter))
        if self.source.resolve:
            lines.append(("names",))
        if self.whole_packets:
            lines.append(("prompt",))
        if self.natives:
            lines.append(("marks", nonce))
        lines += [
            ("check", str(i), text) for i, r in enumerate(self.requests) for text in r.statistic.filters(r.arguments)
        ]
        lines += [
            ("doubt", str(i), text)
            for i, r in enumerate(self.requests)
            if r.engine == "tshark"
            for text in (
                *r.statistic.doubts,
                *(HOSTILE_NAMES if self.source.resolve and not r.statistic.resolve else ()),
            )
        ]
        on_lua = [(i, r) for i, r in enumerate(self.requests) if r.engine == "lua"]
        loaded = dict.fromkeys(r.statistic.tap for _, r in on_lua)
        lines += [("load", str(taps[path])) for path in loaded if path is not None]
        lines += [("run", str(i), *r.statistic.tap_call(r.arguments)) for i, r in on_lua]
        lines += [("listen", str(i), listen.tap, listen.filter, *listen.info) for i, listen in self.listens]
        lines += [("field", name) for name in self.fields]
        return "".join("\t".join(map(escape, words)) + "\n" for words in lines)


def make_plan(source: Source, texts: Sequence[str], engine: str, registry: Registry) -> Plan:
    """Find the statistics, check their arguments and choose the engines: `engine`, or "" for each one's own first.

    RequestError if anything is wrong.
    """
    source.check()
    if engine and engine not in ENGINES:
        raise RequestError(f"unknown engine {engine!r}: take {' or '.join(ENGINES)}")
    if not texts:
        raise RequestError("no statistic asked for: give at least one -z NAME (`sharkstat list` has the names)")
    requests = []
    found = [(text, *registry.find(text)) for text in texts]
    wanting = [statistic for _, statistic, _ in found if statistic.resolve]
    if wanting and not source.resolve:
        letters = wanting[0].resolve
        if len(wanting) < len(found):
            raise RequestError(
                f"{wanting[0].name} shows names: add -N {letters} for the whole run, or ask for it alone"
            )
        source = replace(source, resolve=letters)
    for text, statistic, arguments in found:
        try:
            requests.append(_request(text.strip(), statistic, arguments, engine, source))
        except SharkstatError:
            raise
        except Exception as problem:  # a stranger's statistic may do anything
            raise StatisticError(
                f"{text}: it cannot be asked for: {type(problem).__name__}: {problem}",
                traceback=traceback.format_exc(),
            ) from problem
    return Plan(source, requests)


def _request(text: str, statistic: Statistic, arguments: str, engine: str, source: Source) -> Request:
    columns = statistic.columns(arguments)
    chosen = engine or statistic.engines[0]
    if chosen not in statistic.engines:
        raise RequestError(f"{statistic.name} does not run on {engine}: take --engine {statistic.engines[0]}")
    counter = statistic.counter(arguments) if chosen == "packets" else None
    native = statistic.native(arguments, source.display_filter) if chosen == "tshark" else ""
    for asked_later in (statistic.filters, statistic.tap_fields, statistic.tap_call):
        asked_later(arguments)  # what fails fails here, with its name
    return Request(text, statistic, arguments, chosen, columns, counter, native)
