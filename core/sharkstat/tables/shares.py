"""Percent of the total, beside what adds up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sharkstat.tables.column import Column, Row, Value
from sharkstat.tables.table import Table


def share_columns(columns: Sequence[Column], every: bool) -> dict[str, Column]:
    """The columns of percentages, each by the name of the column that it goes behind.

    With `every` sum has one, otherwise those that say so (`Column.share`).
    """
    taken = {column.name for column in columns}
    return {
        column.name: Column(name, "number", "percent", role="derived", title="Share")
        for column in columns
        if (column.share or (every and _adds_up(column))) and (name := f"{column.name}_share") not in taken
    }


def _adds_up(column: Column) -> bool:
    return column.merge == "sum" and column.shown and column.type in ("integer", "number", "duration")


def with_shares(table: Table, every: bool) -> Table:
    """The table with percentages of the totals: of all its rows, and of the uppermost in a tree.

    >>> bytes_ = Column("bytes", "integer", "bytes", share="bytes")
    >>> table = Table("x", "X", "x", (Column("host", "text", role="key"), bytes_),
    ...     [{"host": "a", "bytes": 30}, {"host": "b", "bytes": 90}])
    >>> with_shares(table, False)["bytes_share"]
    [25.0, 75.0]
    """
    added = share_columns(table.columns, every)
    if not added or any(name not in table.rows[0] for name in added if table.rows):
        return table
    rows: list[Row] = [dict(row) for row in table.rows]
    path = table.columns[0].name if table.columns[0].type == "path" else ""
    for name, share in added.items():
        whole = table.column(name).share or name
        counted = (_number(row[whole]) for row in table.rows if not path or _is_root(row[path]))
        total = table.totals[whole] if whole in table.totals else sum(counted)
        for row in rows:
            value = row[name]
            row[share.name] = 100 * _number(value) / total if total and value is not None else None
    columns: list[Column] = []
    for column in table.columns:
        columns += [column, added[column.name]] if column.name in added else [column]
    return replace(table, columns=tuple(columns), rows=rows)


def _number(value: Value) -> int | float:
    return value if isinstance(value, (int, float)) else 0


def _is_root(path: Value) -> bool:
    return not isinstance(path, tuple) or len(path) == 1
