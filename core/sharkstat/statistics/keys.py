"""The keys of a group: what parts packets into rows.

by=FIELD[/FIELD...][:first|:last|:all]     a key: the first of these fields that a packet has
by=FIELD[:first|:last|:all]:names          a key whose values are shown by their names
every=DURATION                             a key: the interval that the packet's time is in
tree=LEVEL[+LEVEL...]                      a key: a path; LEVEL is FIELD[/FIELD...][:splitC[:reverse]]
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from sharkstat.statistics.expressions import Expression, read_call, read_expression
from sharkstat.statistics.field_names import fields_of, snake_case
from sharkstat.statistics.parameter import duration
from sharkstat.tables.column import Column, Type

_OCCURRENCES = ("first", "last", "all")
_NAME = re.compile(r"[^\W\d]\w*")
LONGEST = 7 * 86400 * 10**9  # of an interval: what the tap can place exactly


def field_or_expression(given: str | Expression) -> str | Expression:
    """The field or expression that is given, or that a text is. Raises ValueError if it is neither."""
    if isinstance(given, str):
        return read_expression(given)
    if not isinstance(given, Expression):
        raise ValueError(f'{given!r:.40} is no field: write its name, e.g. Key("ip.src")')
    return given


def _text_of(field: str | Expression) -> str:
    return field if isinstance(field, str) else field.text


def _fields(field: str | Expression) -> tuple[str, ...]:
    return fields_of(field) if isinstance(field, str) else field.fields


def _name(field: str | Expression) -> str:
    if isinstance(field, Expression):
        return field.name
    return snake_case("_or_".join(fields_of(field)))


def _title(field: str | Expression) -> str:
    return field.text if isinstance(field, Expression) else " or ".join(fields_of(field))


@dataclass(frozen=True)
class Counted:
    """What an engine counts by: the values of a field. With "set", all values of a packet are one value."""

    field: str
    occurrence: Literal["first", "last", "all", "set"] = "first"
    types: tuple[Type, ...] = ()  # that the field may have; all, if empty
    named: bool = False  # the values' names are told, too

    @classmethod
    def of(
        cls, given: str | Expression, occurrence: Literal["first", "last", "all", "set"] = "first", named: bool = False
    ) -> Counted:
        if isinstance(given, str):
            return cls(given, occurrence, named=named)
        return cls(given.source, "set" if occurrence == "all" else occurrence, given.types)

    @property
    def fields(self) -> tuple[str, ...]:
        return fields_of(self.field)

    @property
    def text(self) -> str:
        occurrence = f":{self.occurrence}" if self.occurrence != "first" or self.types else ""
        types = f":is+{'+'.join(self.types)}" if self.types else ""
        return f"by={self.field}{occurrence}{types}{':names' if self.named else ''}"


@dataclass(frozen=True)
class Key:
    """A key: one row per value of a field, e.g. `Key("ip.src")`, or of an expression: `Key(subnet("ip.src", 24))`.

    `field` may list alternatives, e.g. "ip.src/ipv6.src": the first one that a packet has is used. It may be an
    expression, or the text of one, as "ip.src/24" or "lower(http.host)". If a packet has several values, `occurrence`
    picks the "first", the "last", or "all" (the packet counts in the row of each). Packets without the field are in a
    row without a value. `name` is the column's name, by default the field's name with underscores for dots. With
    `names`, people see the names that Wireshark has for the values of a field, such as AAAA for 28 of dns.qry.type;
    exports have the numbers, and the names in `Table.names`. Raises ValueError for an invalid field name or expression.

    >>> Key("tls.handshake.extensions_server_name", "server_name").text
    'by=tls.handshake.extensions_server_name as server_name'
    """

    field: str | Expression
    name: str = ""
    occurrence: Literal["first", "last", "all"] = "first"
    title: str = ""
    description: str = ""
    names: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "field", field_or_expression(self.field))
        if self.occurrence not in _OCCURRENCES:
            raise ValueError(f"{self._written}:{self.occurrence}: no such occurrence; choose first, last or all")
        if self.name and not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no name for a column: use letters, digits and _")
        if self.names and (isinstance(self.field, Expression) or len(self.fields) > 1):
            raise ValueError(f"{self._written}:names: only the values of one field have names")
        if isinstance(self.field, Expression) and self.field.function == "bucket" and self.occurrence == "all":
            raise ValueError(f"{self.field.text}:all: a bucket takes the first or the last value")

    @property
    def _written(self) -> str:
        return _text_of(self.field)

    @property
    def fields(self) -> tuple[str, ...]:
        return _fields(self.field)

    @property
    def counted(self) -> tuple[Counted, ...]:
        return (Counted.of(self.field, self.occurrence, self.names),)

    @property
    def text(self) -> str:
        occurrence = f":{self.occurrence}" if self.occurrence != "first" else ""
        names = ":names" if self.names else ""
        return f"by={self._written}{occurrence}{names}" + (f" as {self.name}" if self.name else "")

    @property
    def column(self) -> Column:
        title = self.title or ("" if self.name else _title(self.field))
        return Column(
            self.name or _name(self.field),
            "text",
            role="key",
            title=title,
            description=self.description or f"value of {self._written}",
            named=self._written if self.names else "",
        )

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.column,)


@dataclass(frozen=True)
class Directions:
    """The base class of keys that count both directions of a packet; use `host` or `conversation`."""

    source: str | Expression
    destination: str | Expression
    name: str = ""

    word: ClassVar[str]
    ways: ClassVar[
        tuple[tuple[str, str], ...]
    ]  # the end of the columns' names, and of their titles, for each direction

    def __post_init__(self) -> None:
        for end in ("source", "destination"):
            object.__setattr__(self, end, field_or_expression(getattr(self, end)))
        if self.name and not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no name for a column: use letters, digits and _")

    @property
    def fields(self) -> tuple[str, ...]:
        return (*_fields(self.source), *_fields(self.destination))

    @property
    def counted(self) -> tuple[Counted, ...]:
        return (Counted.of(self.source), Counted.of(self.destination))

    @property
    def text(self) -> str:
        of = (
            ""
            if (self.source, self.destination) == ENDS
            else f"({_text_of(self.source)}, {_text_of(self.destination)})"
        )
        return f"by={self.word}{of}" + (f" as {self.name}" if self.name else "")


class Host(Directions):
    """Both ends of a packet: one row per host, with what it sent and what it received."""

    word = "host"
    ways = (("in", "in"), ("out", "out"))

    @property
    def columns(self) -> tuple[Column, ...]:
        said = f"{_text_of(self.source)} or {_text_of(self.destination)}"
        return (Column(self.name or "host", "text", role="key", title="" if self.name else "Host", description=said),)


class Conversation(Directions):
    """The pair of ends of a packet: one row for both directions. A is the lower address."""

    word = "conversation"
    ways = (("a_to_b", "A → B"), ("b_to_a", "B → A"))

    @property
    def columns(self) -> tuple[Column, ...]:
        ends = f"{_text_of(self.source)} and {_text_of(self.destination)}"
        name = self.name or "address"
        said = {"a": f"the lower of {ends}", "b": f"the higher of {ends}"}
        return tuple(Column(f"{name}_{end}", "text", role="key", description=text) for end, text in said.items())


ENDS = ("ip.src/ipv6.src", "ip.dst/ipv6.dst")


def host(source: str | Expression = ENDS[0], destination: str | Expression = ENDS[1], name: str = "") -> Host:
    """A key: both ends of a packet, which counts in the row of each.

    Every measure has a total and two more columns: what comes in, e.g. packets_in, and what goes out, packets_out.

    >>> host("ip.src", "ip.dst").text
    'by=host(ip.src, ip.dst)'
    """
    return Host(source, destination, name)


def conversation(
    source: str | Expression = ENDS[0], destination: str | Expression = ENDS[1], name: str = ""
) -> Conversation:
    """A key: the pair of ends of a packet, whose both directions are in one row.

    Every measure has a total and two more columns, e.g. packets_a_to_b and packets_b_to_a. A is the lower address.

    >>> conversation("eth.src", "eth.dst").text
    'by=conversation(eth.src, eth.dst)'
    """
    return Conversation(source, destination, name)


@dataclass(frozen=True)
class Every:
    """A key: one row per time interval, e.g. `Every("10s")`. Intervals are aligned to UTC, so captures can be merged.

    Raises ValueError for an interval that is not above 0, or longer than 7 days.
    """

    interval: str
    name: str = "time"

    def __post_init__(self) -> None:
        if not isinstance(self.interval, str):
            raise ValueError(f'Every({self.interval!r}): give the interval as text with a unit, e.g. Every("10s")')
        if not 0 < duration(self.interval) <= LONGEST:
            raise ValueError(f"every={self.interval}: give an interval of at most 7d")

    fields: ClassVar[tuple[str, ...]] = ()

    @property
    def counted(self) -> tuple[Every]:
        return (self,)

    @property
    def text(self) -> str:
        return f"every={self.interval}"

    @property
    def column(self) -> Column:
        return Column(self.name, "time", role="key", description=f"start of the interval of {self.interval}")

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.column,)


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
        return cls(fields_of(names), split, reverse)


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

    @property
    def counted(self) -> tuple[Tree]:
        return (self,)

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

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.column,)


AnyKey = Key | Every | Tree | Host | Conversation


def named(text: str) -> tuple[str, str]:
    """A word of a request and the name after ` as `, "" without one. Raises ValueError if that can be none."""
    found = re.fullmatch(r"(.*?)\s+as\s+(\S+)", text, re.DOTALL)
    if not found:
        return text, ""
    if not _NAME.fullmatch(found[2]):
        raise ValueError(f"{found[2]!r} is no name for a column: use letters, digits and _")
    return found[1], found[2]


# The words of a key in a request.
KEY_WORDS = ("by", "every", "tree")


def key_of(word: str, value: str) -> AnyKey:
    """The key that WORD=VALUE asks for. Raises ValueError if the value is invalid."""
    if word == "every":
        return Every(value)
    if word == "tree":
        return Tree(*value.split("+"))
    value, name = named(value)
    ends = re.fullmatch(r"(host|conversation)\s*(\(.*)?", value, re.DOTALL)
    if ends:
        arguments = read_call(value)[1] if ends[2] else ENDS
        kind = Host if ends[1] == "host" else Conversation
        if len(arguments) != 2 or not all(isinstance(one, Expression) or type(one) is str for one in arguments):
            raise ValueError(f"{value}: write {kind.word} or {kind.word}(SOURCE, DESTINATION), e.g. (eth.src, eth.dst)")
        source, destination = arguments
        return kind(source, destination, name)  # type: ignore[arg-type]
    names = value.endswith(":names")
    found = re.fullmatch(r"(.*?)(?::(\w*))?", value.removesuffix(":names"), re.DOTALL)
    assert found
    return Key(found[1], name, found[2] or "first", names=names)  # type: ignore[arg-type]
