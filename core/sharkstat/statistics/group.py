"""Groups: packets grouped by the values of fields, and measures of each group.

A `Group` has keys (keys.py), measures (measures.py) and a filter. It runs inside tshark in one tap
(lua/sharkstat_lua/group.lua), which reads the text written by `Group.text`, and on packets in a counter (grouping.py),
with the same result. The text is KEY,...,MEASURE,...,FILTER; each file says how its part is written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from sharkstat.errors import RequestError
from sharkstat.statistics.keys import KEY_WORDS, AnyKey, Every, Key, Tree, key_of
from sharkstat.statistics.measures import MEASURES, Count, Measure
from sharkstat.tables.column import Column


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

        >>> from sharkstat import Count, Sum
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
                elif word in KEY_WORDS:
                    keys.append(key_of(word, value))
                else:
                    measures.append(MEASURES[word](value))
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
