"""Groups: packets grouped by the values of fields, and measures of each group.

A `Group` has keys, measures and a filter. It runs inside tshark in one tap (lua/sharkstat_lua/group.lua), which reads
the text written by `Group.text`, and on packets in a counter (grouping.py), with the same result:

    by=FIELD[/FIELD...][:first|:last|:all]     a key: the first of these fields that a packet has
    every=DURATION                             a key: the interval that the packet's time is in
    tree=LEVEL[+LEVEL...]                      a key: a path; LEVEL is FIELD[/FIELD...][:splitC[:reverse]]
    count, count=FIELD, sum=FIELD, min=FIELD, max=FIELD, mean=FIELD, distinct=FIELD, seen
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from sharkstat.errors import RequestError
from sharkstat.statistics.parameter import duration
from sharkstat.tables.column import Column, Merge, Type

_FIELD = re.compile(r"\w[\w.\-]*")
_OCCURRENCES = ("first", "last", "all")
LONGEST = 7 * 86400 * 10**9  # of an interval: what the tap can place exactly

# Fields whose values are bytes, for the unit of what is counted of them.
_BYTES = frozenset(
    ("frame.len", "frame.cap_len", "ip.len", "ipv6.plen", "tcp.len", "udp.length", "http.content_length")
)


def _fields_of(text: str) -> tuple[str, ...]:
    names = tuple(text.split("/"))
    for name in names:
        if not _FIELD.fullmatch(name):
            raise ValueError(
                f"{name!r} is not a field name: write one like ip.src, or alternatives like ip.src/ipv6.src"
            )
    return names


def _snake(text: str) -> str:
    return re.sub(r"\W+", "_", text)


@dataclass(frozen=True)
class Key:
    """A key: one row per value of a field, e.g. `Key("ip.src")`. Raises ValueError for an invalid field name.

    `field` may list alternatives, e.g. "ip.src/ipv6.src": the first one that a packet has is used. If a packet has
    several values, `occurrence` picks the "first", the "last", or "all" (the packet counts in the row of each). Packets
    without the field are in a row without a value. `name` is the column's name, by default the field's name with
    underscores for dots.

    >>> Key("tls.handshake.extensions_server_name", "server_name").text
    'by=tls.handshake.extensions_server_name'
    """

    field: str
    name: str = ""
    occurrence: Literal["first", "last", "all"] = "first"
    title: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        _fields_of(self.field)
        if self.occurrence not in _OCCURRENCES:
            raise ValueError(f"{self.field}:{self.occurrence}: no such occurrence; choose first, last or all")

    @property
    def fields(self) -> tuple[str, ...]:
        return _fields_of(self.field)

    @property
    def text(self) -> str:
        return f"by={self.field}" + (f":{self.occurrence}" if self.occurrence != "first" else "")

    @property
    def column(self) -> Column:
        name = self.name or _snake(self.fields[0] if len(self.fields) == 1 else "_or_".join(self.fields))
        title = self.title or ("" if self.name else " or ".join(self.fields))
        return Column(name, "text", role="key", title=title, description=self.description or f"value of {self.field}")


@dataclass(frozen=True)
class Every:
    """A key: one row per time interval, e.g. `Every("10s")`. Intervals are aligned to UTC, so captures can be merged.

    Raises ValueError for an interval that is not above 0, or longer than 7 days.
    """

    interval: str
    name: str = "time"

    def __post_init__(self) -> None:
        if not 0 < duration(self.interval) <= LONGEST:
            raise ValueError(f"every={self.interval}: give an interval of at most 7d")

    fields: ClassVar[tuple[str, ...]] = ()

    @property
    def text(self) -> str:
        return f"every={self.interval}"

    @property
    def column(self) -> Column:
        return Column(self.name, "time", role="key", description=f"start of the interval of {self.interval}")


@dataclass(frozen=True)
class Level:
    """One level of a tree, or several: a field whose value is split."""

    fields: tuple[str, ...]
    split: str = ""
    reverse: bool = False

    @classmethod
    def of(cls, text: str) -> Level:
        names, *options = text.split(":")
        split, reverse = "", False
        for option in options:
            if option == "reverse":
                reverse = True
            elif option.startswith("split") and len(option) == 6 and option[5] not in ",+:":
                split = option[5]
            else:
                raise ValueError(f"{text}: write FIELD:splitC or FIELD:splitC:reverse, C being a character")
        return cls(_fields_of(names), split, reverse)


class Tree:
    """A key: a tree of fields with one row per node, e.g. `Tree("ip.src", "tcp.dstport")`.

    Splitting a field gives several levels: "dns.qry.name:split.:reverse" has one level per domain label, from the TLD.
    Raises ValueError for an invalid level.
    """

    def __init__(self, *levels: str, name: str = "path", title: str = "") -> None:
        if not levels:
            raise ValueError("a tree needs at least one level, e.g. Tree('ip.src', 'tcp.dstport')")
        self.text = f"tree={'+'.join(levels)}"
        self.levels = tuple(Level.of(level) for level in levels)
        self.name, self.title = name, title
        self.fields = tuple(name for level in self.levels for name in level.fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tree) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    @property
    def column(self) -> Column:
        title = self.title or " / ".join("/".join(level.fields) for level in self.levels)
        return Column(
            self.name,
            "path",
            role="key",
            title=title,
            description="node of the tree; counts include the nodes below it",
        )


AnyKey = Key | Every | Tree


@dataclass(frozen=True)
class Measure:
    """The base class of measures. `Count()` counts packets; the others use all values of a `field` in them.

    `name` is the column's name; it has a default. Use one of the subclasses.
    """

    field: str = ""
    name: str = ""
    unit: str = ""
    title: str = ""
    description: str = ""

    kind: ClassVar[str] = ""
    ending: ClassVar[str] = ""  # of the column's name, where none is given
    says: ClassVar[str] = "{}"

    def __post_init__(self) -> None:
        if not self.kind:
            raise ValueError("Measure is abstract: use Count, Sum, Min, Max, Mean, Distinct or Seen")
        if self.field or self.kind not in ("count", "seen"):
            _fields_of(self.field)
            if "/" in self.field:
                raise ValueError(f"{self.kind}={self.field}: a measure takes one field")

    @property
    def text(self) -> str:
        return f"{self.kind}={self.field}" if self.field else self.kind

    @property
    def column_name(self) -> str:
        return self.name or f"{_snake(self.field)}_{self.ending or self.kind}"

    def _column(self, name: str, kind: Type, merge: Merge, **more: Any) -> Column:
        unit = self.unit or ("bytes" if self.field in _BYTES else "")
        title = self.title or ("" if self.name else self.says.format(self.field))
        given = {"unit": unit, "title": title, "description": self.description or self.says.format(self.field), **more}
        return Column(name, kind, merge=merge, **given)

    def columns(self) -> tuple[Column, ...]:
        """The columns, those that are not derived first."""
        raise NotImplementedError


class Count(Measure):
    """Counts packets, or the values of a field: `Count()`, `Count("dns.qry.name")`."""

    kind = "count"
    says = "number of values of {}"

    @property
    def column_name(self) -> str:
        return self.name or (f"{_snake(self.field)}_count" if self.field else "packets")

    def columns(self) -> tuple[Column, ...]:
        if self.field:
            return (self._column(self.column_name, "integer", "sum", unit=self.unit or "values"),)
        return (Column(self.column_name, "integer", self.unit or "packets", title=self.title, merge="sum"),)


class Sum(Measure):
    """The sum of a field's values, e.g. `Sum("frame.len")`, whose column is called bytes."""

    kind = "sum"
    says = "sum of {}"

    @property
    def column_name(self) -> str:
        return self.name or ("bytes" if self.field == "frame.len" else f"{_snake(self.field)}_sum")

    def columns(self) -> tuple[Column, ...]:
        more = {"title": self.title} if self.column_name == "bytes" else {}
        return (self._column(self.column_name, "number", "sum", **more),)


class Min(Measure):
    """The smallest value of a field."""

    kind = "min"
    says = "smallest {}"

    def columns(self) -> tuple[Column, ...]:
        return (self._column(self.column_name, "number", "min"),)


class Max(Measure):
    """The largest value of a field."""

    kind = "max"
    says = "largest {}"

    def columns(self) -> tuple[Column, ...]:
        return (self._column(self.column_name, "number", "max"),)


class Mean(Measure):
    """The mean of a field's values. Hidden columns hold the sum and the count, so that it can be merged."""

    kind = "mean"
    says = "mean of {}"

    def columns(self) -> tuple[Column, ...]:
        total, count = f"{self.column_name}_sum", f"{self.column_name}_count"
        return (
            self._column(total, "number", "sum", shown=False, title="", description=f"sum of {self.field}"),
            Column(count, "integer", "values", shown=False, description=f"number of values of {self.field}"),
            self._column(self.column_name, "number", "", role="derived", ratio=(total, count)),
        )


class Distinct(Measure):
    """The number of distinct values of a field. A hidden column holds the values, so that it can be merged."""

    kind = "distinct"
    says = "distinct values of {}"

    def columns(self) -> tuple[Column, ...]:
        values = f"{self.column_name}_values"
        return (
            self._column(values, "set", "union", shown=False, title="", unit=""),
            self._column(self.column_name, "integer", "", role="derived", size_of=values, unit="values"),
        )


class Seen(Measure):
    """The times of a row's first and last packet."""

    kind = "seen"

    def columns(self) -> tuple[Column, ...]:
        prefix = f"{self.name}_" if self.name else ""
        return (
            Column(f"{prefix}first_seen", "time", merge="min", title="First seen"),
            Column(f"{prefix}last_seen", "time", merge="max", title="Last seen"),
        )


MEASURES: Mapping[str, type[Measure]] = {kind.kind: kind for kind in (Count, Sum, Min, Max, Mean, Distinct, Seen)}


@dataclass(frozen=True)
class Group:
    """Keys, measures and a display filter.

    Raises ValueError for invalid keys or measures, and for two columns with the same name.
    """

    keys: Sequence[AnyKey | str] = ()
    measures: Sequence[Measure] = field(default_factory=lambda: (Count(),))
    filter: str = ""

    def __post_init__(self) -> None:
        for name, kind, example in (
            ("keys", (Key, Every, Tree, str), 'Key("ip.src")'),
            ("measures", Measure, "Count()"),
        ):
            given = getattr(self, name)
            if isinstance(given, (str, *AnyKey.__args__, Measure)):
                raise ValueError(f"{name} must be a tuple, e.g. {name} = ({example},)")
            for item in given:
                if not isinstance(item, kind):
                    raise ValueError(f"{name}: {item!r} is not valid: write e.g. {example}")
        object.__setattr__(self, "keys", tuple(Key(key) if isinstance(key, str) else key for key in self.keys))
        object.__setattr__(self, "measures", tuple(self.measures) or (Count(),))
        seen: set[str] = set()
        for column in self.columns():
            if column.name in seen:
                raise ValueError(f"two columns are named {column.name}: rename one with name=")
            seen.add(column.name)

    def made_keys(self) -> tuple[AnyKey, ...]:
        return tuple(key for key in self.keys if not isinstance(key, str))

    def columns(self) -> tuple[Column, ...]:
        return (*(key.column for key in self.made_keys()), *(c for measure in self.measures for c in measure.columns()))

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields it reads, each once."""
        of_keys = (name for key in self.made_keys() for name in key.fields)
        return tuple(dict.fromkeys([*of_keys, *(m.field for m in self.measures if m.field)]))

    def text(self, display_filter: str = "") -> str:
        """The tap's arguments in the grammar above, followed by the filter.

        >>> Group([Key("ip.src"), Every("10s")], [Count(), Sum("frame.len")]).text("tcp")
        'by=ip.src,every=10s,count,sum=frame.len,tcp'
        """
        parts = [*(key.text for key in self.made_keys()), *(measure.text for measure in self.measures)]
        return ",".join([*parts, display_filter] if display_filter.strip() else parts)

    @classmethod
    def parse(cls, text: str) -> Group:
        """Parse such a text; anything after its words is the filter. Raises RequestError if a word is invalid.

        >>> Group.parse("by=ip.src,sum=frame.len,tcp.port == 80").filter
        'tcp.port == 80'
        """
        keys: list[AnyKey] = []
        measures: list[Measure] = []
        rest = text.strip()
        while found := _ITEM.match(rest):
            bare, word, value = found.groups()
            try:
                if bare:
                    measures.append(MEASURES[bare]())
                elif word in MEASURES:
                    measures.append(MEASURES[word](value))
                else:
                    keys.append(_key(word, value))
            except ValueError as problem:
                raise RequestError(f"group: {problem}") from None
            rest = rest[found.end() :].lstrip()
        try:
            return cls(keys, measures or (Count(),), rest)
        except ValueError as problem:
            raise RequestError(f"group: {problem}") from None


_ITEM = re.compile(
    r"(?:(count|seen)(?:,|$)|(by|every|tree|count|sum|min|max|mean|distinct)=(?!=)([^,]+?)(?:\s*,|\s*$))"
)


def _key(word: str, value: str) -> AnyKey:
    if word == "every":
        return Every(value)
    if word == "tree":
        return Tree(*value.split("+"))
    names, _, occurrence = value.partition(":")
    return Key(names, occurrence=occurrence or "first")  # type: ignore[arg-type]
