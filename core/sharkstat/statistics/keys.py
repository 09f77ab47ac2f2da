"""The keys of a group: what parts packets into rows.

by=FIELD[/FIELD...][:first|:last|:all]     a key: the first of these fields that a packet has
every=DURATION                             a key: the interval that the packet's time is in
tree=LEVEL[+LEVEL...]                      a key: a path; LEVEL is FIELD[/FIELD...][:splitC[:reverse]]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from sharkstat.statistics.field_names import fields_of, snake_case
from sharkstat.statistics.parameter import duration
from sharkstat.tables.column import Column

_OCCURRENCES = ("first", "last", "all")
LONGEST = 7 * 86400 * 10**9  # of an interval: what the tap can place exactly


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
        fields_of(self.field)
        if self.occurrence not in _OCCURRENCES:
            raise ValueError(f"{self.field}:{self.occurrence}: no such occurrence; choose first, last or all")

    @property
    def fields(self) -> tuple[str, ...]:
        return fields_of(self.field)

    @property
    def text(self) -> str:
        return f"by={self.field}" + (f":{self.occurrence}" if self.occurrence != "first" else "")

    @property
    def column(self) -> Column:
        name = self.name or snake_case(self.fields[0] if len(self.fields) == 1 else "_or_".join(self.fields))
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

# The words of a key in a request.
KEY_WORDS = ("by", "every", "tree")


def key_of(word: str, value: str) -> AnyKey:
    """The key that WORD=VALUE asks for. Raises ValueError if the value is invalid."""
    if word == "every":
        return Every(value)
    if word == "tree":
        return Tree(*value.split("+"))
    names, _, occurrence = value.partition(":")
    return Key(names, occurrence=occurrence or "first")  # type: ignore[arg-type]
