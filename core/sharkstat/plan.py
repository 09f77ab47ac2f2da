"""From requests to one pass: what the host in tshark is told to do, and what tshark may leave out."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sharkstat.errors import RequestError, SharkstatError, StatisticError
from sharkstat.registry import Registry
from sharkstat.source import Source
from sharkstat.statistic import Listen, PacketCounter, Statistic
from sharkstat.table import Column

ENGINES = ("lua", "packets")

# Ports whose traffic tshark hands, by the port alone, to a dissector that never carries IP, nor announces
# other conversations (as SIP, TFTP and SOCKS do: tshark's stream numbers would change). Where nobody asks about what is above TCP and UDP, that dissector is replaced by `data`, which claims the
# payload just as firmly: nothing falls through to another dissector, so no tunnel is seen that was not
# there before. (Disabling the dissector instead would let the next port or heuristic have a try.)
LEAF_PORTS = {
    "tcp.port": (
        22, 23, 25, 53, 80, 110, 139, 143, 179, 389, 443, 445, 465, 514, 515, 587, 631, 636, 873, 993, 995,
        1433, 1521, 1883, 3128, 3268, 3306, 3389, 5222, 5432, 5671, 5672, 6379, 8080, 8883, 9042,
        9092, 9418, 11211, 27017,
    ),
    "udp.port": (53, 67, 68, 88, 123, 137, 138, 161, 162, 389, 514, 1812, 1813, 1900, 5353, 5355),
}  # fmt: skip

# What may stand in a display filter without anyone looking above TCP and UDP.
_TRANSPORT_FIELDS = re.compile(
    r"(?:frame(?:\.(?:len|cap_len|number|time\w*|interface_\w+))?"
    r"|(?:eth|vlan|arp|ip|ipv6)(?:\.[\w.]+)?"
    r"|tcp(?:\.(?:(?:src|dst)?port|stream|flags[\w.]*|len|seq\w*|nxtseq|ack\w*|window_size\w*|hdr_len|time_\w+"
    r"|analysis\.[\w.]+|options[\w.]*))?"
    r"|udp(?:\.(?:(?:src|dst)?port|stream|length|time_\w+))?)$"
)
_WORDS = re.compile(r"""\$\{|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[A-Za-z_][\w.\-]*|[\d:][\w:.\-/]*""")
_OPERATORS = frozenset(
    "and or not xor in eq ne gt ge lt le contains matches bitwise_and any_eq all_eq any_ne all_ne "
    "any all len count true false True False".split()
)


def sees_only_transport(display_filter: str) -> bool:
    """Whether a display filter can be answered from TCP, UDP and what is below them.

    >>> sees_only_transport("tcp.port == 80 && ip.src == 10.0.0.1"), sees_only_transport("http")
    (True, False)
    """
    for word in _WORDS.findall(display_filter):
        if word == "${":
            return False
        if word[0] in "\"'0123456789:" or word in _OPERATORS:
            continue
        if not _TRANSPORT_FIELDS.match(word):
            return False
    return True


@dataclass
class Request:
    """One statistic with its arguments, on the engine that will run it."""

    text: str
    statistic: Statistic
    arguments: str
    engine: str
    columns: tuple[Column, ...]
    counter: PacketCounter | None = None

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

    def leaf_options(self) -> list[str]:
        """tshark's options that spare it the dissectors whose results nobody asked for."""
        if self.whole_packets or self.source.keylog or self.source.decode_as or self.source.profile or self.source.resolve:
            return []
        filters = [self.source.display_filter, self.source.read_filter]
        for request in self.requests:
            if request.statistic.layer != "transport":
                return []
            filters += request.statistic.filters(request.arguments)
            if request.counter is not None:
                filters += [listen.filter for listen in request.counter.listens]
                filters += request.counter.fields or ()
        if not all(sees_only_transport(f) for f in filters):
            return []
        return [
            part
            for table, ports in LEAF_PORTS.items()
            for port in ports
            for part in ("-d", f"{table}=={port},data")
        ]

    def job(self, rows: str, taps: dict[Path, Path]) -> str:
        """The text that tells host.lua what to do; `taps` says where each tap's file is for tshark."""
        lines: list[tuple[str, ...]] = [("rows", rows)]
        if self.source.display_filter:
            lines.append(("filter", self.source.display_filter))
        if self.source.resolve:
            lines.append(("names",))
        if self.whole_packets:
            lines.append(("prompt",))
        on_lua = [(i, r) for i, r in enumerate(self.requests) if r.engine == "lua"]
        loaded = dict.fromkeys(r.statistic.tap for _, r in on_lua)
        lines += [("load", str(taps[path])) for path in loaded if path is not None]
        lines += [("run", str(i), r.statistic.name, r.arguments) for i, r in on_lua]
        lines += [("listen", str(i), listen.tap, listen.filter, *listen.info) for i, listen in self.listens]
        lines += [("field", name) for name in self.fields]
        return "".join("\t".join(map(escape, words)) + "\n" for words in lines)


def escape(text: str) -> str:
    """A value as the job and the records have it."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def make_plan(source: Source, texts: Sequence[str], engine: str, registry: Registry) -> Plan:
    """Find the statistics, check their arguments and choose the engines. RequestError if anything is wrong."""
    source.check()
    if engine not in ENGINES:
        raise RequestError(f"unknown engine {engine!r}: take {' or '.join(ENGINES)}")
    if not texts:
        raise RequestError("no statistic asked for: give at least one -z NAME (`sharkstat list` has the names)")
    requests = []
    for text in texts:
        statistic, arguments = registry.find(text)
        try:
            columns = statistic.columns(arguments)
        except SharkstatError:
            raise
        except Exception as problem:  # a stranger's statistic may do anything
            raise StatisticError(
                f"{text}: its columns failed: {type(problem).__name__}: {problem}", traceback=traceback.format_exc()
            ) from problem
        if engine not in statistic.engines:
            raise RequestError(f"{statistic.name} does not run on {engine}: take --engine {statistic.engines[0]}")
        counter = statistic.counter(arguments) if engine == "packets" else None
        requests.append(Request(text.strip(), statistic, arguments, engine, columns, counter))
    return Plan(source, requests)
