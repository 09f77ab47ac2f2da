"""The measures of a group: what is counted of the packets of each row.

count, count=FIELD, sum=FIELD, min=FIELD, max=FIELD, mean=FIELD, distinct=FIELD, seen, percentile=FIELD:50/95/99,
top=FIELD:10, histogram=FIELD, histogram=FIELD:BOUND/BOUND
ratio=COLUMN/COLUMN, percent=COLUMN/COLUMN, rate=COLUMN

Any may be followed by ` where FILTER`, which packets must match to count, and by ` as NAME`, the name of its column. A
comma in the filter must be in parentheses or braces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

from sharkstat.statistics.field_names import fields_of, snake_case
from sharkstat.statistics.functions import bucket_labels
from sharkstat.statistics.parameter import duration
from sharkstat.tables.column import Column, Merge, Type

# Fields whose values are bytes, for the unit of what is counted of them.
_BYTES = frozenset(
    ("frame.len", "frame.cap_len", "ip.len", "ipv6.plen", "tcp.len", "udp.length", "http.content_length")
)


@dataclass(frozen=True)
class Measure:
    """The base class of measures. `Count()` counts packets; the others use all values of a `field` in them.

    `name` is the column's name; it has a default. With `where`, a display filter, only packets that match it count.
    Use one of the subclasses.
    """

    field: str = ""
    name: str = ""
    unit: str = ""
    title: str = ""
    description: str = ""
    where: str = ""

    kind: ClassVar[str] = ""
    ending: ClassVar[str] = ""  # of the column's name, where none is given
    says: ClassVar[str] = "{}"

    def __post_init__(self) -> None:
        if not self.kind:
            raise ValueError(
                "Measure is abstract: use Count, Sum, Min, Max, Mean, Percentile, Histogram, Distinct, TopK or Seen"
            )
        if self.field or self.kind not in ("count", "seen"):
            if not isinstance(self.field, str):
                raise ValueError(f"{type(self).__name__}: {self.field!r:.60} is no field: write its name as text")
            fields_of(self.field)
            if "/" in self.field:
                raise ValueError(f"{self.kind}={self.field}: a measure takes one field")

    @property
    def text(self) -> str:
        return f"{self.kind}={self.field}" if self.field else self.kind

    @property
    def column_name(self) -> str:
        return self.name or f"{snake_case(self.field)}_{self.ending or self.kind}"

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
        return self.name or (f"{snake_case(self.field)}_count" if self.field else "packets")

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
        return self.name or ("bytes" if self.field == "frame.len" else f"{snake_case(self.field)}_sum")

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


@dataclass(frozen=True, init=False)
class Percentile(Measure):
    """Percentiles of a field's values: `Percentile("dns.time", 50, 95, 99)`, which are the default.

    The column dns_time_p95 is the least value that at least 95 % of the values do not exceed: exactly for up to 100
    values, and with a relative error of at most 1 % for more; integers and durations are then rounded. Of one
    percentile, `name` is the column's name, and of several it is what their names begin with. Hidden columns hold a
    sketch (up to 100 values, or how many values are in each bucket of a width of 2 %), the smallest and the largest
    value, so that percentiles can be merged: those of the parts are those of the whole. ValueError for a percentile
    that is not above 0 and at most 100.

    >>> [column.name for column in Percentile("dns.time", 95, 99.9).columns() if column.shown]
    ['dns_time_p95', 'dns_time_p99_9']
    """

    percents: tuple[float, ...] = (50, 95, 99)

    kind = "percentile"

    def __init__(
        self,
        field: str,
        *percents: float,
        name: str = "",
        unit: str = "",
        title: str = "",
        description: str = "",
        where: str = "",
    ) -> None:
        object.__setattr__(self, "percents", percents or (50, 95, 99))
        super().__init__(field, name, unit, title, description, where)

    def __post_init__(self) -> None:
        super().__post_init__()
        for percent in self.percents:
            if not isinstance(percent, (int, float)) or not 0 < percent <= 100:
                raise ValueError(
                    f"{self.kind}={self.field}: {percent!r} is no percentile: write numbers above 0, up to 100"
                )

    @property
    def text(self) -> str:
        return f"{self.kind}={self.field}:{'/'.join(f'{percent:.10g}' for percent in self.percents)}"

    def columns(self) -> tuple[Column, ...]:
        prefix = self.name or snake_case(self.field)
        sketch, least, most = (f"{prefix}_{ending}" for ending in ("sketch", "sketch_min", "sketch_max"))

        def hidden(name: str, kind: Type, merge: Merge, says: str) -> Column:
            unit = "" if kind == "set" else self.unit
            says = f"{says} {self.field}"
            return self._column(name, kind, merge, shown=False, title="", unit=unit, description=says)

        def estimate(percent: float) -> Column:
            short = f"p{percent:.10g}"
            name = prefix if self.name and len(self.percents) == 1 else f"{prefix}_{short.replace('.', '_')}"
            title = self.title or self.name.replace("_", " ") or self.field
            if len(self.percents) > 1 or not (self.title or self.name):
                title = f"{short} of {title}"
            elif not self.title:
                title = ""
            said = self.description or f"{short} of {self.field}: exact for up to 100 values, within 1 % for more"
            percentile = (percent, sketch, least, most)
            more = {"title": title, "description": said, "percentile": percentile}
            return self._column(name, "number", "", role="derived", **more)

        return (
            hidden(sketch, "set", "sketch", "sketch of the values of"),
            hidden(least, "number", "min", "smallest"),
            hidden(most, "number", "max", "largest"),
            *map(estimate, self.percents),
        )


class Distinct(Measure):
    """The number of distinct values of a field: exact up to 10,000, estimated with a standard error of 0.81 % beyond.

    A hidden column holds the values, or a HyperLogLog of 16,384 registers, so that it can be merged: the number of the
    whole does not depend on its parts.
    """

    kind = "distinct"
    says = "distinct values of {}"

    def columns(self) -> tuple[Column, ...]:
        values = f"{self.column_name}_values"
        estimate = ("distinct", values)
        return (
            self._column(values, "set", "distinct", shown=False, title="", unit=""),
            self._column(self.column_name, "integer", "", role="derived", estimate=estimate, unit="values"),
        )


@dataclass(frozen=True, init=False)
class TopK(Measure):
    """The most frequent values of a field and how often each occurs: `TopK("http.host", 5)`.

    The column http_host_top is a text such as `a.example 12, b.example 3`. Up to 2,000 different values of a row are
    counted exactly. Of more, counts are too small by less than a thousandth of all values, and the column says between
    what they are: `a.example 12 to 14`. Exports also have http_host_top_error, the difference, and
    http_host_top_counts, all counts, so that it can be merged. ValueError for fewer than 1 or more than 1000 values.
    """

    most: int = 10

    kind = "top"
    says = "most frequent {}"

    def __init__(
        self,
        field: str,
        most: int = 10,
        *,
        name: str = "",
        title: str = "",
        description: str = "",
        where: str = "",
    ) -> None:
        object.__setattr__(self, "most", most)
        super().__init__(field, name, "", title, description, where)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.most, int) or not 1 <= self.most <= 1000:
            raise ValueError(f"top={self.field}:{self.most}: write how many values to show, from 1 to 1000")

    @property
    def text(self) -> str:
        return f"{self.kind}={self.field}:{self.most}"

    def columns(self) -> tuple[Column, ...]:
        name = self.column_name
        counts, hidden = f"{name}_counts", {"shown": False, "title": ""}
        said = {"description": f"by how much the counts of {name} may be too small", "estimate": ("error", counts)}
        return (
            self._column(counts, "set", "frequent", description=f"counts of values of {self.field}", **hidden),
            self._column(name, "text", "", role="derived", estimate=("top", counts, str(self.most))),
            self._column(f"{name}_error", "integer", "", role="derived", **said, **hidden),
        )


@dataclass(frozen=True, init=False)
class Histogram(Measure):
    """How many values of a field are in each bucket: `Histogram("frame.len")`.

    Buckets are from 1, 2, 5, 10, 20, 50, ... in the field's own unit, for durations in nanoseconds, or between given
    bounds, `Histogram("dns.time", "1ms", "10ms")`: below the first, from each to the next without it, and from the last
    on. The column frame_len_histogram is a text such as `50 B to 100 B 12, 100 B to 200 B 3`. Hidden columns have the
    counts, the smallest and the largest value, so that it can be merged. ValueError for bounds that do not rise.
    """

    bounds: tuple[str, ...] = ()

    kind = "histogram"
    says = "histogram of {}"

    def __init__(
        self,
        field: str,
        *bounds: int | float | str,
        name: str = "",
        unit: str = "",
        title: str = "",
        description: str = "",
        where: str = "",
    ) -> None:
        object.__setattr__(self, "bounds", tuple(str(bound) for bound in bounds))
        super().__init__(field, name, unit, title, description, where)

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers = [bound_of(bound) for bound in self.bounds]
        if len({of for _, of in numbers}) > 1 or any(a >= b for a, b in pairwise(number for number, _ in numbers)):
            raise ValueError(f"{self.text}: write its bounds in rising order, all with a unit or none")

    @property
    def text(self) -> str:
        return f"{self.kind}={self.field}" + (f":{'/'.join(self.bounds)}" if self.bounds else "")

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the buckets between the bounds."""
        return tuple(bucket_labels(self.bounds)) if self.bounds else ()

    def columns(self) -> tuple[Column, ...]:
        name = self.column_name
        counts, least, most = (f"{name}_{ending}" for ending in ("counts", "min", "max"))
        hidden = {"shown": False, "title": ""}
        said = f"{{}} {self.field}"
        estimate = ("histogram", counts, least, *self.labels)
        return (
            self._column(counts, "set", "histogram", unit="", description=said.format("buckets of"), **hidden),
            self._column(least, "number", "min", description=said.format("smallest"), **hidden),
            self._column(most, "number", "max", description=said.format("largest"), **hidden),
            self._column(name, "text", "", role="derived", estimate=estimate),
        )


def bound_of(text: str) -> tuple[int | float, str]:
    """A bound of a histogram as a number, and "duration" where it has a unit of time (nanoseconds), or "".

    ValueError if it is neither.

    >>> bound_of("1ms"), bound_of("64"), bound_of("-0.5")
    ((1000000, 'duration'), (64, ''), (-0.5, ''))
    """
    if re.fullmatch(r"-?\d+", text):
        return int(text), ""
    if re.fullmatch(r"-?\d*\.\d+(e-?\d+)?", text):
        return float(text), ""
    return (-duration(text[1:]) if text.startswith("-") else duration(text)), "duration"


class Seen(Measure):
    """The times of a row's first and last packet."""

    kind = "seen"

    def columns(self) -> tuple[Column, ...]:
        prefix = f"{self.name}_" if self.name else ""
        return (
            Column(f"{prefix}first_seen", "time", merge="min", title="First seen"),
            Column(f"{prefix}last_seen", "time", merge="max", title="Last seen"),
        )


class OfColumns(Measure):
    """The base class of measures that are made of other measures' columns: Ratio and Rate."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that it is made of."""
        return tuple(self.field.split("/"))


class Ratio(OfColumns):
    """The quotient of two of the other measures' columns: `Ratio("bytes", "packets")`, or their share in percent.

    >>> Ratio("lost", "packets", unit="percent").text
    'percent=lost/packets'
    """

    kind = "ratio"

    def __init__(
        self, above: str, below: str, name: str = "", unit: str = "", title: str = "", description: str = ""
    ) -> None:
        super().__init__(f"{above}/{below}", name, unit, title, description)

    def __post_init__(self) -> None:
        if len(self.names) != 2 or not all(self.names):
            raise ValueError(f"ratio={self.field}: write two columns, e.g. ratio=bytes/packets")

    @property
    def text(self) -> str:
        return f"{'percent' if self.unit == 'percent' else 'ratio'}={self.field}"

    @property
    def column_name(self) -> str:
        above, below = self.names
        return self.name or (f"{above}_percent" if self.unit == "percent" else f"{above}_per_{below}")

    def columns(self) -> tuple[Column, ...]:
        above, below = self.names
        said = self.description or f"{above} {'in percent of' if self.unit == 'percent' else 'divided by'} {below}"
        column = Column(self.column_name, "number", self.unit, role="derived", title=self.title, description=said)
        return (replace(column, ratio=(above, below)),)


class Rate(OfColumns):
    """What another measure's column has per second: `Rate("bytes")`, whose column is called bytes_per_second.

    Where rows are intervals (`Every`), per second of the interval; else per second from the first packet that was read
    to the last, whether it is in the row or not.
    """

    kind = "rate"

    def __init__(self, of: str, name: str = "", unit: str = "", title: str = "", description: str = "") -> None:
        super().__init__(of, name, unit, title, description)

    def __post_init__(self) -> None:
        if not self.field or "/" in self.field:
            raise ValueError(f"rate={self.field}: write a column, e.g. rate=bytes")

    @property
    def column_name(self) -> str:
        return self.name or f"{self.field}_per_second"

    def columns(self) -> tuple[Column, ...]:
        unit = self.unit or ("bytes per second" if self.field == "bytes" else "per second")
        title = self.title or ("" if self.name else f"{self.field.replace('_', ' ').capitalize()}/s")
        said = self.description or f"{self.field} per second"
        column = Column(self.column_name, "number", unit, role="derived", title=title, description=said)
        return (replace(column, rate=(self.field, 0)),)


MEASURES: Mapping[str, type[Measure]] = {
    kind.kind: kind for kind in (Count, Sum, Min, Max, Mean, Percentile, Histogram, Distinct, TopK, Seen)
}

# Words of those that are made of others' columns.
OF_COLUMNS = ("ratio", "percent", "rate")


def measure_of(word: str, value: str, name: str) -> Measure:
    """The measure that WORD=VALUE asks for, with the name of its column. Raises ValueError if the value is invalid."""
    if word == "rate":
        return Rate(value.strip(), name)
    if word in OF_COLUMNS:
        above, _, below = value.partition("/")
        return Ratio(above.strip(), below.strip(), name, unit="percent" if word == "percent" else "")
    found = re.fullmatch(r"(.*?)(?:\bwhere\s+(.*))?", value, re.DOTALL)
    assert found
    if word == "percentile":
        return _percentile(found[1].strip(), name, (found[2] or "").strip())
    if word in ("top", "histogram"):
        field, _, rest = found[1].strip().partition(":")
        where = (found[2] or "").strip()
        if word == "histogram":
            bounds = [bound.strip() for bound in rest.split("/") if bound.strip()]
            return Histogram(field.strip(), *bounds, name=name, where=where)
        most = int(rest) if rest.strip().isdecimal() else 10 if not rest.strip() else -1
        if most < 0:
            raise ValueError(f"top={found[1].strip()}: write how many values to show, e.g. top={field}:5")
        return TopK(field.strip(), most, name=name, where=where)
    return MEASURES[word](found[1].strip(), name, where=(found[2] or "").strip())


def _percentile(value: str, name: str, where: str) -> Percentile:
    field, _, percents = value.partition(":")
    try:
        asked = [int(one) if one.strip().isdecimal() else float(one) for one in percents.split("/") if percents.strip()]
    except ValueError:
        raise ValueError(f"percentile={value}: write numbers, e.g. percentile={field}:50/95/99") from None
    return Percentile(field.strip(), *asked, name=name, where=where)


# Those that need no field.
BARE = ("count", "seen")
