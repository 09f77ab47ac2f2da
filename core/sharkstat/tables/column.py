"""What a table is made of: columns with their types, rows of values, and what was read for them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from sharkstat.errors import TextError

Value: TypeAlias = str | int | float | bool | tuple[str, ...] | None
Row: TypeAlias = dict[str, Value]
Type = Literal["text", "integer", "number", "boolean", "time", "duration", "address", "path", "set"]
Role = Literal["key", "measure", "derived"]
Merge = Literal[
    "", "sum", "min", "max", "first", "last", "union", "sketch", "distinct", "frequent", "histogram", "none"
]
Local = Literal["", "always", "dynamic"]
Numbering = Literal["", "tcp", "udp"]

_PYTHON: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("text", "address"), (str,)),
    **dict.fromkeys(("integer", "time", "duration"), (int,)),
    "number": (int, float),
    "boolean": (bool,),
    **dict.fromkeys(("path", "set"), (tuple,)),
}


# A time has none; a duration, as of waiting, does.
_SUMMED = ("integer", "number", "duration")


@dataclass(frozen=True)
class Column:
    """One column: its name in exports, its type and unit, and how two of its values become one.

    `role` is "key" (identifies the row), "measure" (combined by `merge`) or "derived" (computed from
    measures by `Statistic.derive`, again after every merge). `merge` "none" means that the value of a
    merged row cannot be known: it becomes None. By default numbers and durations are summed, of sets the union is
    taken, and of anything else nothing is known. `title` is its heading for people; `shown` is False
    where people seldom want it (exports always have it); `approximate` is True where the value was
    rounded before it was had, as in tshark's text.

    Some kinds of derived column need no code: one with a `ratio` of two measures is their quotient (a mean, a rate;
    times 100 where the unit is "percent", times 10^9 where a "per second" is had from a duration), one with `size_of`
    is the number of a set's values, and one with a `percentile` (the percentage, then the names of a sketch and of the
    columns with the smallest and the largest value) is estimated from a sketch, a set whose `merge` is "sketch": it is
    exact for up to 100 values, and within 1 % for more; integers and durations are then rounded. One with a `rate` (a
    column, and an interval in nanoseconds) is what that column has for each second of the interval, or, where it is 0,
    of the time from the first packet that was read to the last. One with an `estimate` is had from another sketch:
    ("distinct", SET), ("top", SET, COUNT), ("error", SET) or ("histogram", SET, LEAST, LABEL...), as the measures
    Distinct, TopK and Histogram use it. `sum_of` says that a derived column is the sum of two
    measures, so that --sort and --top work on it before `derive` does.

    `local` is for comparing two captures. "always" says that the values mean something in one capture only, such as
    tshark's stream number or the time of a start; "dynamic" says so of ports from 32768 up, which clients get anew
    for each connection. `sharkstat diff` sums over local keys, by the merge rules, before it joins two tables.

    `share` names the measure whose total is 100 % of this one: the tables that people read have the percentage beside
    it. For most it is the column itself; where a packet counts in two rows, it is one that counts it once.

    `named` is the field whose values it has, where people see the names of values: `Table.names` has them for
    FIELD=VALUE, such as "dns.qry.type=28".

    `numbering` says of which protocol tshark's stream numbers are the values: they count on through the whole capture.

    >>> Column("packets", "integer", unit="packets").heading
    'Packets'
    >>> Column("mean_time", "duration", "seconds", role="derived", ratio=("total_time", "answers")).merge
    ''
    """

    name: str
    type: Type
    unit: str = ""
    role: Role = "measure"
    merge: Merge = ""
    title: str = ""
    description: str = ""
    shown: bool = True
    approximate: bool = False
    ratio: tuple[str, str] | None = None
    size_of: str = ""
    local: Local = ""
    share: str = ""
    numbering: Numbering = ""
    sum_of: tuple[str, str] | None = None
    percentile: tuple[float, str, str, str] | None = None
    rate: tuple[str, int] | None = None
    estimate: tuple[str, ...] = ()
    named: str = ""

    def __post_init__(self) -> None:
        """ValueError for a type, role or merge rule that there is not, or that does not go with the type."""
        for what, value, known in (("type", self.type, Type), ("role", self.role, Role), ("merge", self.merge, Merge)):
            if value not in get_args(known):
                names = ", ".join(name for name in get_args(known) if name)
                raise ValueError(f"column {self.name}: unknown {what} {value!r}: take one of {names}")
        if self.role == "measure" and not self.merge:
            merge = "sum" if self.type in _SUMMED else "union" if self.type == "set" else "none"
            object.__setattr__(self, "merge", merge)
        if self.title == self._plain_heading:  # so that a saved column, which has its heading, is equal to this one
            object.__setattr__(self, "title", "")
        if self.merge == "sum" and self.type not in _SUMMED:
            raise ValueError(f'column {self.name}: {self.type} has no sum: take merge="first", "last" or "none"')
        if self.merge in ("sketch", "distinct", "frequent", "histogram") and self.type != "set":
            raise ValueError(f"column {self.name}: {self.type} has no sketch: a sketch is a set")

    @property
    def computed(self) -> bool:
        """Whether `derived_from` computes it."""
        return bool(self.ratio or self.size_of or self.percentile or self.rate or self.estimate)

    @property
    def made_of(self) -> tuple[str, ...]:
        """The names of the columns that it is derived from, where it says so."""
        sizes = (*([self.size_of] if self.size_of else ()), *(self.rate or ())[:1], *self.estimate[1:2])
        return (*(self.ratio or ()), *(self.sum_of or ()), *sizes, *(self.percentile or ())[1:])

    def derived_from(self, row: Row, span: int | None = None) -> Value:
        """The value of a derived column that needs no code, in a row; `span` is the time that was read, in nanoseconds.

        None where a measure is missing, or the divisor is 0.

        >>> mean = Column("mean", "duration", role="derived", ratio=("total", "answers"))
        >>> mean.derived_from({"total": 3_000_000_005, "answers": 2})
        1500000002
        """
        if self.percentile:
            return self._estimate(*self.percentile, row)
        if self.rate:
            counted, time = row[self.rate[0]], self.rate[1] or span
            return counted * 10**9 / time if isinstance(counted, (int, float)) and time else None
        if self.estimate:
            texts = row[self.estimate[1]]
            if not isinstance(texts, tuple):
                return None
            from sharkstat.tables.sketches import estimate

            return estimate(texts, self.estimate[0], *self.estimate[2:], unit=self.unit)
        if self.ratio is None:
            values = row[self.size_of]
            return len(values) if isinstance(values, tuple) else None
        above, below = (row[name] for name in self.ratio)
        if not isinstance(above, (int, float)) or not isinstance(below, (int, float)) or not below:
            return None
        if self.type in ("duration", "integer") and isinstance(above, int) and isinstance(below, int):
            whole, rest = divmod(above, below)
            return whole + (2 * rest > below or (2 * rest == below and whole % 2))  # as round() does, but exactly
        return above / below * (100 if self.unit == "percent" else 10**9 if self.unit.endswith("per second") else 1)

    def _estimate(self, percent: float, sketch: str, least: str, most: str, row: Row) -> Value:
        counts, low, high = row[sketch], row[least], row[most]
        if not isinstance(counts, tuple) or not isinstance(low, (int, float)) or not isinstance(high, (int, float)):
            return None
        from sharkstat.tables.sketch import percentile

        found = percentile(counts, percent, low, high)
        return found if found is None or self.type == "number" else round(found)

    @property
    def heading(self) -> str:
        return self.title or self._plain_heading

    @property
    def _plain_heading(self) -> str:
        return self.name.replace("_", " ").title()

    @property
    def label(self) -> str:
        r"""The heading on one line: a word that it hyphenates is whole again.

        >>> Column("connections", "integer", title="Connec-\ntions\nopen").label
        'Connections open'
        """
        return unbroken(self.heading)


def unbroken(heading: str) -> str:
    """A heading on one line."""
    return re.sub(r"(?<=\w)-\n(?=[a-z])", "", heading).replace("\n", " ")


def check_columns(columns: object) -> None:
    """ValueError where these are not the columns of a table."""
    if not isinstance(columns, (tuple, list)) or not all(isinstance(column, Column) for column in columns):
        raise ValueError(f"its columns are {columns!r:.60}: give a tuple of sharkstat.Column")
    names = [column.name for column in columns]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two columns are called {name}: give one another name")
    for column in columns:
        for other in column.made_of:
            if other not in names:
                raise ValueError(f"column {column.name} is made of {other}, which is no column")


def check_types(columns: Sequence[Column], values: Sequence[Value]) -> None:
    """TextError for a row that is not what its columns say."""
    if len(values) != len(columns):
        raise TextError(f"a row has {len(values)} values for {len(columns)} columns")
    for column, value in zip(columns, values, strict=True):
        if value is None:
            continue
        wanted = _PYTHON[column.type]
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            raise TextError(f"the column {column.name} has {value!r:.40}, and its type is {column.type}")


def check_keys(columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """TextError for two rows of one key, if there are keys."""
    names = [column.name for column in columns if column.role == "key"]
    seen: set[tuple[Value, ...]] = set()
    for row in rows if names else ():
        key = tuple(row[name] for name in names)
        if key in seen:
            said = ", ".join(f"{name}={value!r:.40}" for name, value in zip(names, key, strict=True))
            raise TextError(f"two rows have the key {said}: give each key one row")
        seen.add(key)


def typed(columns: tuple[Column, ...], types: Sequence[str] | None) -> tuple[Column, ...]:
    """The columns; "text" and "number" give way to the types that the values turned out to have.

    `types` are those of the columns that are not derived; without any, the columns stay as they are.
    """
    if not types:
        return columns
    given = dict(zip((c.name for c in columns if c.role != "derived"), types, strict=True))
    known = [_typed(c, given.get(c.name, c.type)) for c in columns]
    now = {c.name: c.type for c in known}

    def derived(column: Column) -> Column:
        if column.percentile:
            return _typed(column, now[column.percentile[2]])
        if column.estimate[:1] == ("histogram",) and now[column.estimate[2]] == "duration":
            return replace(column, unit="seconds")
        return _typed(column, "duration") if column.ratio and now[column.ratio[0]] == "duration" else column

    return tuple(map(derived, known))


def _typed(column: Column, kind: str) -> Column:
    if kind == column.type or column.type not in ("text", "number"):
        return column
    return replace(column, type=kind, unit="seconds" if kind == "duration" else column.unit)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Reading:
    """What was read for a table: the source, and the packets that the statistic could see.

    `packets` and `bytes` count after the read and display filters; `first` and `last` are their
    times (nanoseconds since 1970, None without packets), `start` is the time of the capture's first
    packet. `captured` and `dropped` are dumpcap's figures for live runs; `dropped` is the sum of `dropped_by_kernel`
    (its buffer was full), `dropped_by_interface` and `dropped_by_dumpcap`.

    What is wrong with these packets is counted too: `out_of_order` have an earlier time than a packet before them,
    by `late_by` nanoseconds at most; `cut` were captured only in part (a snapshot length); `timeless` have no
    time, and count as if they came together with the packet before them.

    Of all packets of the source, whatever the filters, `duplicates` are copies of one before them (a mirror port,
    several interfaces), and `forwarded` came once more from a router; None where nobody looked, or where a look here
    and there into a large file found none. With `dedup` they were left out. With `reorder` packets were put in order.

    Of a result of --every, `since` and `until` say for what part of its period the source was read (nanoseconds since
    1970): all of it, but where the run began or ended.

    `time_zone` is that in which dates in display filters were read. All times of tables are UTC.
    """

    sources: tuple[str, ...] = ()
    packets: int = 0
    bytes: int = 0
    start: int | None = None
    first: int | None = None
    last: int | None = None
    display_filter: str = ""
    capture_filter: str = ""
    captured: int | None = None
    dropped: int | None = None
    out_of_order: int = 0
    late_by: int = 0
    cut: int = 0
    timeless: int = 0
    time_zone: str = "UTC"
    duplicates: int | None = None
    forwarded: int | None = None
    dedup: bool = False
    reorder: bool = False
    since: int | None = None
    until: int | None = None
    dropped_by_kernel: int | None = None
    dropped_by_interface: int | None = None
    dropped_by_dumpcap: int | None = None
