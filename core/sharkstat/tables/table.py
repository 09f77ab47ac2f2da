"""The one contract: what every statistic gives, whatever it ran on.

A `Table` has typed columns and rows, and says how it was obtained. Values are exact and plain Python:

| type | Python value |
| --- | --- |
| text, address | str |
| integer | int |
| number | int or float |
| boolean | bool |
| time | int, nanoseconds since 1970-01-01 UTC |
| duration | int, nanoseconds |
| path | tuple of str, from the root down |
| set | tuple of different str, in order |

Any value may be None: there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from sharkstat.errors import MergeError
from sharkstat.tables.bounds import bounded
from sharkstat.tables.column import Column, Merge, Reading, Row, Value

if TYPE_CHECKING:
    import altair
    import pandas
    import polars
    import pyarrow


class Rules(Protocol):
    """What a table needs of its statistic when it is merged (sharkstat.Statistic has it)."""

    def align(self, tables: Sequence[Table]) -> Sequence[Sequence[Row]]: ...
    def derive(self, table: Table) -> None: ...
    def order(self, table: Table) -> None: ...
    def joins_packets(self, request: str) -> bool: ...
    def bound(self, arguments: str) -> int | None: ...


def _of_sketches(rule: str) -> Callable[[Any, Any], Value]:
    def merge(a: Any, b: Any) -> Value:
        from sharkstat.tables.sketches import merged  # few tables have any

        return merged(rule, a, b)

    return merge


_COMBINE: Mapping[str, Callable[[Any, Any], Value]] = {
    "sum": lambda a, b: a + b,
    "min": min,
    "max": max,
    "first": lambda a, b: a,
    "last": lambda a, b: b,
    "union": lambda a, b: tuple(sorted({*a, *b})),
    **{rule: _of_sketches(rule) for rule in ("sketch", "distinct", "frequent", "histogram")},
    "none": lambda a, b: None,
}


def combine(rule: Merge, a: Value, b: Value) -> Value:
    """Combine two values of a measure; None is no value, so it gives way to any other."""
    if rule == "none":
        return None
    if a is None or b is None:
        return b if a is None else a
    return _COMBINE[rule](a, b)


@dataclass(repr=False)
class Table:
    """The result of one request.

    `rows` holds a dict a row, with a value for every column. `complete` is False where the source
    ended early (a file that is cut short, a run that was interrupted), or packets are not counted since
    they were cut. `capped` is True where a bound kept some rows, or values of sets, from being told apart
    (a row `(other)` stands for them). `names` has names for
    addresses, where resolution was asked for; `omitted` counts the rows that `--top` left out, and `totals` has sums
    over all rows where some were left out from the start.
    """

    name: str
    title: str
    request: str
    columns: tuple[Column, ...]
    rows: list[Row]
    engine: str = ""
    tshark: str = ""
    complete: bool = True
    capped: bool = False
    reading: Reading = field(default_factory=Reading)
    warnings: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    omitted: int = 0
    totals: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    statistic: Rules | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, column: str) -> list[Value]:
        """The values of one column, in the order of the rows."""
        self.column(column)
        return [row[column] for row in self.rows]

    def column(self, name: str) -> Column:
        """The column of that name; KeyError where there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} has no column {name!r}; it has {', '.join(c.name for c in self.columns)}")

    @property
    def keys(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.role == "key")

    def total(self, column: str) -> int | float:
        """The sum of a numeric column; values that are None count as nothing.

        Raises KeyError for an unknown column, TypeError if it holds no numbers.
        """
        kind = self.column(column).type
        if kind not in ("integer", "number", "duration"):
            raise TypeError(f"{self.name}: {column} is of type {kind}; only numbers have a total")
        return sum(value for value in self[column] if isinstance(value, (int, float)))

    def with_rows(self, rows: list[Row]) -> Table:
        return replace(self, rows=rows)

    def sort(self, by: str, *, descending: bool = True) -> Table:
        """A table with the rows in the order of a column, the largest first; no value is less than any.

        A tree is sorted level by level. Raises KeyError for an unknown column.

        >>> table = Table("hosts", "Hosts", "hosts", (Column("packets", "integer"),), [{"packets": 1}, {"packets": 2}])
        >>> table.sort("packets")["packets"]
        [2, 1]
        """
        from sharkstat.tables.selection import sorted_rows

        self.column(by)
        return self.with_rows(sorted_rows(self, by, descending))

    def top(self, count: int, by: str = "") -> Table:
        """The first `count` rows, after sorting by a column where one is given; `omitted` counts the others.

        Of a tree: the first `count` of each level.
        """
        from sharkstat.tables.selection import first_rows

        return first_rows(self.sort(by) if by else self, count)

    def where(self, predicate: Callable[[Row], Any] | None = None, /, **values: Value) -> Table:
        """The rows for which `predicate` is true and whose columns have the given values.

        `reading` still describes everything that was read. Raises KeyError for an unknown column.

        >>> table = Table("hosts", "Hosts", "hosts", (Column("packets", "integer"),), [{"packets": 1}, {"packets": 2}])
        >>> len(table.where(packets=2)), len(table.where(lambda row: row["packets"] > 0))
        (1, 2)
        """
        for name in values:
            self.column(name)
        rows = [
            row
            for row in self.rows
            if all(row[name] == value for name, value in values.items()) and (predicate is None or predicate(row))
        ]
        return replace(self, rows=rows, totals={})

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The Arrow PyCapsule interface: polars, pandas, DuckDB and pyarrow take a table as it is. Needs pyarrow.

        https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
        """
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def to_arrow(self) -> pyarrow.Table:
        """The table as a `pyarrow.Table`, with units and roles as metadata of its fields.

        OutputError where pyarrow is not installed (pip install 'sharkstat[arrow]').
        """
        from sharkstat.tables.arrow import to_arrow

        return to_arrow(self)

    def to_polars(self) -> polars.DataFrame:
        """The table as a `polars.DataFrame`. Raises OutputError if polars or pyarrow is not installed."""
        from sharkstat.tables.arrow import library

        return library("polars").DataFrame(self)  # type: ignore[no-any-return]

    def to_pandas(self) -> pandas.DataFrame:
        """The table as a `pandas.DataFrame`. OutputError where pandas or pyarrow is not installed.

        Integers with missing values are pandas' Int64, times datetime64[ns, UTC], durations timedelta64[ns].
        """
        from sharkstat.tables.arrow import library

        pandas = library("pandas")
        whole, truth = pandas.Int64Dtype(), pandas.BooleanDtype()
        types = {"int64": whole, "bool": truth}
        return self.to_arrow().to_pandas(types_mapper=lambda kind: types.get(str(kind)))

    def plot(self) -> altair.Chart | altair.LayerChart:
        """The table as an altair chart: over time where its rows are intervals, else bars of the largest rows.

        OutputError where altair is not installed (pip install 'sharkstat[report]'), or there is nothing to draw.
        """
        from sharkstat.tables.charts import chart

        return chart(self)

    def heading(self, column: str) -> str:
        """The heading of a column as people see it, on one line, with its unit where the values do not show it.

        Raises KeyError for an unknown column.
        """
        from sharkstat.tables import view
        from sharkstat.tables.column import unbroken

        return unbroken(view.heading(self.column(column)))

    def shown(self, row: Row, column: str) -> str:
        """A value of a row as people see it: with units, names of addresses, and control characters escaped.

        Raises KeyError for an unknown column.

        >>> table = Table("hosts", "Hosts", "hosts", (Column("bytes", "integer", unit="bytes"),), [{"bytes": 2048}])
        >>> table.heading("bytes"), table.shown(table.rows[0], "bytes")
        ('Bytes', '2.05 kB')
        """
        from sharkstat.tables import view

        return view.cell(self, self.column(column), row[column])

    def __repr__(self) -> str:
        rows = f"{len(self.rows):,} row{'' if len(self.rows) == 1 else 's'}"
        return f"<Table {self.request!r}: {rows}, {len(self.columns)} columns{'' if self.complete else ', INCOMPLETE'}>"

    def _repr_html_(self) -> str:
        from sharkstat.tables import view

        return view.html(self)

    def __str__(self) -> str:
        from sharkstat.tables import view

        return view.text(self)

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Table:
        """One table of a parsed JSON document, as in `json.load(file)["tables"][0]`.

        Everything that JSON holds comes back, with its Python types. To keep every digit of durations, parse with
        `parse_float=decimal.Decimal`, as `sharkstat.read` does. Raises ValueError if it is not a table.

        >>> import json, sharkstat
        >>> table = sharkstat.run("tests/data/dns.pcapng", "conv,udp")[0]
        >>> again = Table.from_json(json.loads("".join(table.to_json()))["tables"][0])
        >>> again.rows == table.rows
        True
        """
        from sharkstat.tables.saved import table_of

        return table_of(document)

    def to_json(self) -> Iterator[str]:
        """The document that `--format json` writes, with this table, in pieces."""
        from sharkstat.tables.export import to_json

        return to_json([self])

    @staticmethod
    def merge(tables: Sequence[Table]) -> Table:
        """Make one table of several of the same statistic: of several files, hosts or days.

        Raises MergeError where the merged numbers would not be those of the whole.
        """
        if not tables:
            raise MergeError("nothing to merge: give at least one table")
        head = tables[0]
        for table in tables:
            if table.request != head.request:
                raise MergeError(f"cannot merge {head.request} with {table.request}: the requests must be equal")
            if _meaning(table) != _meaning(head):
                raise MergeError(
                    f"cannot merge {head.request}: the tables have different columns; if another version of sharkstat "
                    "saved one of them, make it again"
                )
            if table.reading.display_filter != head.reading.display_filter:
                raise MergeError(f"cannot merge {head.request}: the tables have different display filters")
            if table.omitted:
                raise MergeError(f"cannot merge {table.request}: --top removed rows; merge first, then use --top")
            if table.capped and len(tables) > 1:
                raise MergeError(
                    f"cannot merge {table.request}: it reached a limit and lumps rows together; use a larger "
                    "max=, or read the captures together"
                )
        if len(tables) == 1:
            return head
        statistic = head.statistic
        if statistic is None:
            raise MergeError(f"cannot merge {head.name}: its statistic is not installed here")
        in_time, apart = _in_time(tables)
        aligned = statistic.align(in_time)
        rows = merge_rows(head.columns, [row for part in aligned for row in part], apart)
        merged = replace(
            head,
            rows=rows,
            engine="+".join(sorted({t.engine for t in tables})),
            tshark="+".join(sorted({t.tshark for t in tables})),
            complete=all(t.complete for t in tables),
            reading=read_together([t.reading for t in tables]),
            warnings=list(dict.fromkeys([w for t in tables for w in t.warnings] + _of_two_parts(in_time, aligned))),
            names={k: v for t in tables for k, v in t.names.items()},
        )
        statistic.derive(merged)
        statistic.order(merged)
        most = statistic.bound(merged.request.strip()[len(merged.name) :].lstrip().removeprefix(","))
        return merged if most is None else bounded(merged, most)


# Captures that are so many nanoseconds apart have no connections in common.
_APART = 3600 * 10**9


def read_together(readings: Sequence[Reading]) -> Reading:
    """What was read for a table that is made of several."""
    starts = [reading.start for reading in readings if reading.start is not None]
    firsts = [reading.first for reading in readings if reading.first is not None]
    lasts = [reading.last for reading in readings if reading.last is not None]
    return replace(
        readings[0],
        sources=tuple(name for reading in readings for name in reading.sources),
        packets=sum(reading.packets for reading in readings),
        bytes=sum(reading.bytes for reading in readings),
        start=min(starts, default=None),
        first=min(firsts, default=None),
        last=max(lasts, default=None),
        captured=_sum(reading.captured for reading in readings),
        dropped=_sum(reading.dropped for reading in readings),
        dropped_by_kernel=_sum(reading.dropped_by_kernel for reading in readings),
        dropped_by_interface=_sum(reading.dropped_by_interface for reading in readings),
        dropped_by_dumpcap=_sum(reading.dropped_by_dumpcap for reading in readings),
        out_of_order=sum(reading.out_of_order for reading in readings),
        late_by=max(reading.late_by for reading in readings),
        cut=sum(reading.cut for reading in readings),
        since=min((reading.since for reading in readings if reading.since is not None), default=None),
        until=max((reading.until for reading in readings if reading.until is not None), default=None),
        timeless=sum(reading.timeless for reading in readings),
        duplicates=_sum(reading.duplicates for reading in readings),
        forwarded=_sum(reading.forwarded for reading in readings),
    )


def _meaning(table: Table) -> list[tuple[str, ...]]:
    """What must be equal of the columns of tables that are merged: headings may differ."""
    return [(c.name, c.type, c.unit, c.role, c.merge) for c in table.columns]


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _in_time(tables: Sequence[Table]) -> tuple[list[Table], bool]:
    """The tables in the order of their packets, and whether each ends before the next begins.

    Tables that do not say when their packets came are taken in the given order.
    """
    if any(table.rows and table.reading.first is None for table in tables):
        return list(tables), True
    ordered = sorted(tables, key=lambda table: (table.reading.first is None, table.reading.first or 0))
    spans = [(t.reading.first, t.reading.last) for t in ordered if t.reading.first is not None]
    apart = all(
        later[0] > max(before[1] or 0 for before in spans[:number]) for number, later in enumerate(spans) if number
    )
    return ordered, apart


def _of_two_parts(tables: Sequence[Table], aligned: Sequence[Sequence[Row]]) -> list[str]:
    """A warning where something may begin in one capture and end in another, which no table tells.

    The tables are in time order. Captures of one time, perhaps of several hosts, must have a row in common.
    """
    statistic = tables[0].statistic
    assert statistic is not None
    if not statistic.joins_packets(tables[0].request) or any(t.reading.since is not None for t in tables):
        return []  # results of --every count by periods, and are meant to
    names = [column.name for column in tables[0].keys]
    seen: set[tuple[Value, ...]] = set()
    ended: int | None = None
    for table, rows in zip(tables, aligned, strict=True):
        begins, ends = table.reading.first, table.reading.last
        keys = {tuple(row[name] for name in names) for row in rows}
        if ended is not None and begins is not None and begins - ended < _APART and (begins > ended or seen & keys):
            return [
                "a connection, request or message with packets in two of the captures is counted in each of them, or "
                "in none: read the captures in one run to count it once"
            ]
        seen |= keys
        ended = ends if ended is None else max(ended, ends or ended)
    return []


def merge_rows(columns: Sequence[Column], rows: Sequence[Row], in_time: bool = True) -> list[Row]:
    """Combine rows of equal key by the columns' merge rules, in the order of their first appearance.

    Unless the rows are `in_time`, nobody knows which of two different values was `first` or `last`: MergeError.
    """
    keys = [c.name for c in columns if c.role == "key"]
    measures = [c for c in columns if c.role == "measure"]
    merged: dict[tuple[Value, ...], Row] = {}
    for row in rows:
        key = tuple(row[name] for name in keys)
        known = merged.get(key)
        if known is None:
            merged[key] = dict(row)
            continue
        for column in measures:
            a, b = known[column.name], row[column.name]
            if not in_time and column.merge in ("first", "last") and a != b and a is not None and b is not None:
                raise MergeError(
                    f"cannot merge: {column.name} is the {column.merge} value, and the captures overlap in time; "
                    "read them together"
                )
            known[column.name] = combine(column.merge, a, b)
    return list(merged.values())
