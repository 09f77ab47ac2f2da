"""Declared statistics: a group and its parameters, without code that counts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharkstat.engines.engine import Engine
from sharkstat.engines.packets import PacketCounter, Packets
from sharkstat.engines.tap import Tap
from sharkstat.errors import RequestError
from sharkstat.statistics.expressions import Expression
from sharkstat.statistics.folding import Fold
from sharkstat.statistics.functions import bucket_labels
from sharkstat.statistics.group import Group
from sharkstat.statistics.grouping import GroupCounter
from sharkstat.statistics.keys import AnyKey, Key
from sharkstat.statistics.measures import Count, Measure
from sharkstat.statistics.parameter import Parameter, read_arguments, usage_of
from sharkstat.statistics.statistic import Statistic
from sharkstat.tables.column import Column, Row, Value
from sharkstat.tshark.filters import both_filters

if TYPE_CHECKING:
    from sharkstat.tables.table import Table

GROUP_TAP = Path(str(files("sharkstat_lua"))) / "group.lua"
# Names of fields; protocols that tshark reads packet by packet; and what it tells of a packet by those before it.
_FIELDS = re.compile(r"\b[a-z][\w\-]*(?:\.[\w\-]+)+")
_OF_ONE_PACKET = frozenset(("frame", "eth", "vlan", "sll", "arp", "ip", "ipv6", "icmp", "icmpv6", "tcp", "udp", "dns"))
_OF_ORDER = re.compile(r"time|analysis|resp_|response|retrans|reassembled|stream|frame\.number")


class Declared(Statistic):
    """A statistic declared by its keys, measures, filter and parameters.

    import sharkstat

    class ServerNames(sharkstat.Declared):
        name = "tls,names"
        title = "TLS server names"
        filter = "tls.handshake.extensions_server_name"
        keys = (sharkstat.Key("tls.handshake.extensions_server_name", "server_name"),)
        measures = (sharkstat.Count(), sharkstat.Sum("frame.len"))

    Its arguments are its parameters (NAME=VALUE) and a display filter. Override `group` if parameters change what is
    counted. Rows are sorted by time and buckets, then by the first measure in descending order, unless `order` is
    overridden. The constructor raises ValueError for an invalid declaration.
    """

    filter: str = ""
    keys: Sequence[AnyKey | Expression | str] = ()
    measures: Sequence[Measure] = (Count(),)
    parameters: Sequence[Parameter] = ()

    def __init__(self) -> None:
        tap = Tap(
            GROUP_TAP, "transport", fields=self._fields, call=self._call, fold=self._fold
        )  # its fields say how far up it looks
        self.engines = (tap, Packets(self._counter))
        if not self.usage:
            self.usage = usage_of(self.name, self.parameters)
        try:
            self._made({parameter.name: parameter.value() for parameter in self.parameters})
        except ValueError as problem:
            raise ValueError(f"{type(self).__name__}: {problem}") from None

    def group(self, parameters: Mapping[str, Any]) -> Group:
        """What to count for these parameter values."""
        return Group(self.keys, self.measures, self.filter)

    def _made(self, parameters: Mapping[str, Any]) -> Group:
        made = self.group(parameters)
        if not isinstance(made, Group):
            raise ValueError(f"group() gave {made!r:.40}: it must return a Group")
        return made

    def asked(self, arguments: str) -> tuple[Group, str]:
        """The group, and the user's own filter."""
        values, rest = read_arguments(self.name, arguments, self.parameters)
        try:
            return self._made(values), rest
        except ValueError as problem:
            raise RequestError(f"{self.name}: {problem}") from None

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return self.asked(arguments)[0].columns()

    def filters(self, arguments: str) -> Sequence[str]:
        group, rest = self.asked(arguments)
        return [text for text in (group.filter, rest, *group.filters) if text.strip()]

    def _fields(self, arguments: str) -> Sequence[str]:
        return self.asked(arguments)[0].fields

    def _call(self, arguments: str) -> tuple[str, str]:
        group, rest = self.asked(arguments)
        return "group", group.counted_text(both_filters(group.filter, rest))

    def _fold(self, arguments: str) -> Fold | None:
        group, _ = self.asked(arguments)
        return Fold(group) if group.folded else None

    def follows_time(self, arguments: str, engine: Engine) -> bool:
        group, rest = self.asked(arguments)
        names = _FIELDS.findall(" ".join([*group.fields, *group.filters, group.filter, rest]))
        return any(_OF_ORDER.search(name) or name.partition(".")[0] not in _OF_ONE_PACKET for name in names)

    def _counter(self, filter: str, **parameters: Any) -> PacketCounter:
        group, rest = (self.group(parameters), filter) if parameters else self.asked(filter)
        return GroupCounter(group, both_filters(group.filter, rest))

    def bound(self, arguments: str) -> int | None:
        """That of its group, by default 100,000 rows."""
        return self.asked(arguments)[0].most

    def ranking(self, arguments: str) -> Sequence[str]:
        """The same order, unless a subclass has one of its own, or rows are a tree."""
        columns = self.columns(arguments)
        keys = [column for column in columns if column.role == "key"]
        if self.asked(arguments)[0].folded:  # then there may be buckets, and tshark has other rows
            return ()
        if type(self).order is not Declared.order or type(self).derive is not Statistic.derive:
            return ()
        if any(column.type == "path" for column in keys) or any(c.role != "key" and c.type == "text" for c in columns):
            return ()
        measures = [c.name for c in columns if c.role != "key" and c.shown and c.type != "set"]
        times = [column.name for column in keys if column.type == "time"]
        others = [column.name for column in keys if column.type != "time"]
        return [*times, *(f"{name} descending, none is 0" for name in measures[:1]), *others]

    def order(self, table: Table) -> None:
        measures = [c.name for c in table.columns if c.role != "key" and c.shown and c.type not in ("set", "text")]
        first = measures[0] if measures else ""
        times = [c.name for c in table.keys if c.type == "time"]
        trees = [c.name for c in table.keys if c.type == "path"]
        counts = (
            {row[trees[0]]: row[first] for row in table.rows} if len(table.keys) == len(trees) == 1 and first else {}
        )

        buckets = self._buckets(table)

        def key(row: Row) -> list[Any]:
            by_time: list[Any] = [_ascending(row[name]) for name in times]
            by_time += [places.get(row[name], -1) for name, places in buckets.items()]
            others = [_ascending(row[c.name]) for c in table.keys if c.type not in ("time", "path")]
            path = [
                (_descending(counts.get(level, row[first] if first else None)), level)
                for name in trees
                for level in _prefixes(row[name])
            ]
            if counts:
                return [*by_time, *path]
            return [*by_time, *([_descending(row[first])] if first else []), *others, *path]

        table.rows.sort(key=key)

    def _buckets(self, table: Table) -> dict[str, dict[Value, int]]:
        """The columns of buckets, and the place of each bucket in its column."""
        try:
            group, _ = self.asked(table.request[len(self.name) + 1 :])
        except RequestError:  # of another version
            return {}
        return {
            key.column.name: {label: place for place, label in enumerate(bucket_labels(key.field.arguments))}
            for key in group.made_keys()
            if isinstance(key, Key) and isinstance(key.field, Expression) and key.field.function == "bucket"
        }


def _prefixes(path: Value) -> Iterator[tuple[str, ...]]:
    if isinstance(path, tuple):
        yield from (path[: depth + 1] for depth in range(len(path)))


def _ascending(value: Value) -> tuple[bool, Any]:
    return (value is not None, value)


def _descending(value: Value) -> tuple[bool, Any]:
    return (False, 0) if value is None else (True, 0) if not isinstance(value, (int, float)) else (False, -value)
