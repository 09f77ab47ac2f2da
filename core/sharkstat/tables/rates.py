"""What came between two snapshots: a rate beside every sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sharkstat.tables.column import Column, Row, Value
from sharkstat.tables.table import Table

Counts = Mapping[tuple[Value, ...], Row]


class Rates:
    """Remembers the rows of each table, and says what came since, by the second."""

    def __init__(self) -> None:
        self._before: dict[int, Counts] = {}
        self._when: float | None = None

    def of(self, tables: Sequence[Table], when: float) -> list[Table]:
        """The tables, with a rate beside every sum that is shown; `when` is in seconds.

        The rate is that of the time since the tables before; a row that was not there counted nothing then. The first
        tables have rates since the time 0.
        """
        span = when - (self._when or 0.0)
        shown = [self._with_rates(number, table, span) for number, table in enumerate(tables)]
        self._when = when
        return shown

    def _with_rates(self, number: int, table: Table, span: float) -> Table:
        keys = [column.name for column in table.keys]
        before = self._before.get(number, {})
        rates = {column.name: _rate_of(column) for column in table.columns if _adds_up(column)}
        now: dict[tuple[Value, ...], Row] = {}
        rows: list[Row] = []
        for row in table.rows:
            key = tuple(row[name] for name in keys)
            now[key] = row
            old = before.get(key, {})
            rows.append({**row, **{rate.name: _per_second(row[n], old.get(n), span) for n, rate in rates.items()}})
        self._before[number] = now
        return replace(table, columns=tuple(rate_columns(table.columns)), rows=rows)


def rate_columns(columns: Sequence[Column]) -> list[Column]:
    """The columns, each sum followed by its rate."""
    return [one for column in columns for one in ((column, _rate_of(column)) if _adds_up(column) else (column,))]


def _adds_up(column: Column) -> bool:
    return column.merge == "sum" and column.type == "integer" and column.shown and column.role != "key"


def _rate_of(column: Column) -> Column:
    unit = f"{column.unit} per second" if column.unit == "bytes" else "per second"
    return Column(
        f"{column.name}_rate", "number", unit, role="derived", merge="none", title=f"{column.heading}/s", local="always"
    )


def _per_second(now: Value, before: Value, span: float) -> Value:
    if not isinstance(now, int) or span <= 0:
        return None
    return (now - (before if isinstance(before, int) else 0)) / span
