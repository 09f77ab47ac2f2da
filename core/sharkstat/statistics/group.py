"""Groups: packets grouped by the values of fields, and measures of each group.

A `Group` has keys (keys.py), measures (measures.py) and a filter. It runs inside tshark in one tap
(lua/sharkstat_lua/group.lua), which reads the text written by `Group.text`, and on packets in a counter (grouping.py),
with the same result. The text is KEY,...,MEASURE,...,FILTER; each file says how its part is written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sharkstat.errors import RequestError
from sharkstat.statistics.expressions import Expression, end_of_word
from sharkstat.statistics.keys import KEY_WORDS, AnyKey, Directions, Every, Key, Tree, key_of, named
from sharkstat.statistics.measures import BARE, MEASURES, OF_COLUMNS, Count, Measure, OfColumns, measure_of
from sharkstat.statistics.parameter import duration
from sharkstat.tables.bounds import MOST_ROWS
from sharkstat.tables.column import Column


@dataclass(frozen=True)
class Group:
    """Keys, measures and a display filter.

    Its table has at most `most` rows; one more adds up the others (a tree has all of them). Raises ValueError for
    invalid keys or measures, and for two columns with the same name.
    """

    keys: Sequence[AnyKey | Expression | str] = ()
    measures: Sequence[Measure] = field(default_factory=lambda: (Count(),))
    filter: str = ""
    most: int = MOST_ROWS

    def __post_init__(self) -> None:
        for name, kind, example in (
            ("keys", (Key, Every, Tree, Directions, Expression, str), 'Key("ip.src")'),
            ("measures", Measure, "Count()"),
        ):
            given = getattr(self, name)
            if isinstance(given, (str, Expression, *AnyKey.__args__, Measure)):
                raise ValueError(f"{name} must be a tuple, e.g. {name} = ({example},)")
            for item in given:
                if not isinstance(item, kind):
                    raise ValueError(f"{name}: {item!r} is not valid: write e.g. {example}")
        keys = tuple(Key(key) if isinstance(key, (str, Expression)) else key for key in self.keys)
        if sum(isinstance(key, Directions) for key in keys) > 1:
            raise ValueError("host and conversation exclude each other: use one of them, once")
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "measures", tuple(self.measures) or (Count(),))
        seen: set[str] = set()
        for column in self.columns():
            if column.name in seen:
                raise ValueError(f"two columns are named {column.name}: rename one with name=, or `as NAME`")
            seen.add(column.name)
        for measure in self.measures:
            for name in measure.names if isinstance(measure, OfColumns) else ():
                if name not in seen:
                    others = {c.name for c in self.columns() if c.shown} - {c.name for c in measure.columns()}
                    raise ValueError(f"{measure.text}: no column {name}; there are {', '.join(sorted(others))}")

    def made_keys(self) -> tuple[AnyKey, ...]:
        return tuple(key for key in self.keys if not isinstance(key, (str, Expression)))

    def columns(self) -> tuple[Column, ...]:
        """The columns of its table. With a key of directions, every measure also has those of each direction."""
        keys = [column for key in self.made_keys() for column in key.columns]
        ways = next((key.ways for key in self.made_keys() if isinstance(key, Directions)), ())
        interval = next((duration(key.interval) for key in self.made_keys() if isinstance(key, Every)), 0)
        measures = [
            column
            for measure in self.measures
            for columns in [[_of_interval(column, interval) for column in measure.columns()]]
            for column in (*columns, *(_of_way(column, *way) for way in ways for column in columns))
        ]
        return (*keys, *measures)

    @property
    def folded(self) -> bool:
        """Whether engines count more rows, by the fields' own values, of which its rows are made (folding.py)."""
        return any(
            isinstance(key, Directions) or (isinstance(key, Key) and isinstance(key.field, Expression))
            for key in self.made_keys()
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields it reads, each once."""
        of_keys = (name for key in self.made_keys() for name in key.fields)
        return tuple(dict.fromkeys([*of_keys, *(m.field for m in self.counted_measures if m.field)]))

    def text(self, display_filter: str = "") -> str:
        """The request in the grammar above, followed by the filter.

        >>> Group([Key("ip.src"), Every("10s")], [Count()]).text("tcp")
        'by=ip.src,every=10s,count,tcp'
        """
        measures = [
            measure.text
            + (f" where ({measure.where})" if measure.where else "")
            + (f" as {measure.name}" if measure.name else "")
            for measure in self.measures
        ]
        return self._text([key.text for key in self.made_keys()], measures, display_filter)

    def counted_text(self, display_filter: str = "") -> str:
        """What the tap is asked for: to count by the fields' own values. A line for each filter of measures follows.

        "fold" is before it where the group's rows are made of those: then the tap may send them in parts.

        >>> Group([Key("lower(http.host)", "host")]).counted_text("tcp")
        'fold,by=http.host,count,tcp'
        """
        keys = [one.text for key in self.made_keys() for one in key.counted]
        text = self._text(keys, [measure.text for measure in self.counted_measures], display_filter)
        wheres = [" ".join(measure.where.split("\n")) for measure in self.counted_measures]
        text = f"fold,{text}" if self.folded else text
        return "\n".join([text.replace("\n", " "), *wheres] if any(wheres) else [text])

    @property
    def filters(self) -> list[str]:
        """The filters of measures, each once."""
        return list(dict.fromkeys(measure.where for measure in self.counted_measures if measure.where))

    @property
    def counted_measures(self) -> list[Measure]:
        """The measures that engines count: all but those made of columns."""
        return [measure for measure in self.measures if not isinstance(measure, OfColumns)]

    def _text(self, keys: Sequence[str], measures: Sequence[str], display_filter: str) -> str:
        parts = [*keys, *measures]
        return ",".join([*parts, display_filter] if display_filter.strip() else parts)

    @classmethod
    def parse(cls, text: str) -> Group:
        """Parse such a text; anything after its words is the filter. Raises RequestError if a word is invalid.

        >>> Group.parse("by=ip.src,sum=frame.len,tcp.port == 80").filter
        'tcp.port == 80'
        """
        keys: list[AnyKey] = []
        measures: list[Measure] = []
        names = False
        rest = text.strip()
        most = MOST_ROWS
        while found := _WORD.match(rest):
            word, is_given = found[1], found[2] == "="
            if not is_given and word not in BARE:
                break
            try:
                end = end_of_word(rest, found.end())
                value = rest[found.end() : end].strip()
                if word == "max" and value.isdecimal():  # no field has such a name
                    most = int(value)
                elif word == "names":
                    names = _CHOICES[value.lower()] if value.lower() in _CHOICES else _no_choice(value)
                elif word in KEY_WORDS:
                    keys.append(key_of(word, value))
                else:
                    field, name = named(value if is_given else f" {value}")
                    measures.append(measure_of(word, field.strip(), name))
            except ValueError as problem:
                raise RequestError(f"group: {problem}") from None
            rest = rest[end:].removeprefix(",").lstrip()
        try:
            return cls(list(map(_with_names, keys)) if names else keys, measures or (Count(),), rest, most)
        except ValueError as problem:
            raise RequestError(f"group: {problem}") from None


def holds_several(word: str) -> bool:
    """Whether a word has a comma at which the request would go on. RequestError for a parenthesis left open."""
    try:
        return end_of_word(word) < len(word)
    except ValueError as problem:
        raise RequestError(str(problem)) from None


# A word of the request, as `count` or `by=`; what is not one is the filter.
_WORD = re.compile(
    rf"({'|'.join(['names', *KEY_WORDS, *MEASURES, *OF_COLUMNS])})\s*(?:(=)(?![=,]|$)|(?=,|$|as\s|where\s))"
)


_CHOICES = {"yes": True, "no": False}


def _no_choice(value: str) -> bool:
    raise ValueError(f"names={value}: write yes or no")


def _with_names(key: AnyKey) -> AnyKey:
    """The key, which shows the names of its values if it is one field."""
    is_field = isinstance(key, Key) and isinstance(key.field, str) and len(key.fields) == 1
    return replace(key, names=True) if is_field else key  # type: ignore[type-var]


def _of_way_too(estimate: tuple[str, ...], ending: str) -> tuple[str, ...]:
    """The same with the columns of one direction: that of the sketch, and that of a histogram's smallest value."""
    columns = 3 if estimate[:1] == ("histogram",) else 2
    return (*estimate[:1], *(f"{name}_{ending}" for name in estimate[1:columns]), *estimate[columns:])


def _of_interval(column: Column, interval: int) -> Column:
    """The column where rows are intervals."""
    return replace(column, rate=(column.rate[0], interval)) if column.rate else column


def _of_way(column: Column, ending: str, title: str) -> Column:
    """The column for one direction."""
    return replace(
        column,
        name=f"{column.name}_{ending}",
        title=f"{column.heading}\n{title}",
        ratio=column.ratio and (f"{column.ratio[0]}_{ending}", f"{column.ratio[1]}_{ending}"),
        sum_of=column.sum_of and (f"{column.sum_of[0]}_{ending}", f"{column.sum_of[1]}_{ending}"),
        rate=column.rate and (f"{column.rate[0]}_{ending}", column.rate[1]),
        estimate=_of_way_too(column.estimate, ending),
        size_of=column.size_of and f"{column.size_of}_{ending}",
        percentile=column.percentile
        and (column.percentile[0], *(f"{name}_{ending}" for name in column.percentile[1:])),  # type: ignore[arg-type]
    )
