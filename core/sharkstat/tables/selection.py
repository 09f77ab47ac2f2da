"""Which rows and columns of a table are shown: --sort, --top, --columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sharkstat.errors import RequestError
from sharkstat.tables.column import Column, Row, Value
from sharkstat.tables.table import Table


@dataclass(frozen=True)
class Selection:
    """`sort` is a column's name, largest first, or "name:asc"; `columns` names, parted by commas."""

    sort: str = ""
    top: int | None = None
    columns: str = ""

    def check(self, name: str, columns: Sequence[Column]) -> None:
        """RequestError for a column that the statistic does not have."""
        if self.top is not None and self.top < 1:
            raise RequestError(f"--top takes a number of at least 1, not {self.top}")
        known = [column.name for column in columns]
        wanted = self.wanted_columns(known)
        if self.sort:
            wanted = [*wanted, self._sort_key()[0]]
        for column in wanted:
            if column not in known:
                raise RequestError(f"{name} has no column {column!r}; it has {', '.join(known)}")

    def wanted_columns(self, known: Sequence[str]) -> list[str]:
        """The columns asked for. A name may hold commas, so known names are tried first."""
        names: list[str] = []
        rest = self.columns.strip()
        while rest:
            whole = [n for n in known if rest == n or rest.startswith(n + ",")]
            name = max(whole, key=len) if whole else rest.split(",")[0]
            names.append(name.strip())
            rest = rest[len(name) + 1 :].strip()
        return names

    def _sort_key(self) -> tuple[str, bool]:
        name, colon, direction = self.sort.rpartition(":")
        if colon and direction in ("asc", "desc"):
            return name, direction == "desc"
        return self.sort, True

    def apply(self, table: Table) -> Table:
        """The table with the rows and columns that were asked for."""
        rows = table.rows
        tree = table.columns[0] if table.columns and table.columns[0].type == "path" else None
        if self.sort:
            name, descending = self._sort_key()
            rows = sorted_rows(table, name, descending)
        if self.top is not None:
            rows = _top_of_tree(rows, tree.name, self.top) if tree else rows[: self.top]
        chosen = replace(table, rows=rows, omitted=table.omitted + len(table.rows) - len(rows))
        names = self.wanted_columns([column.name for column in table.columns])
        if names:
            chosen.columns = tuple(replace(table.column(name), shown=True) for name in names)
        return chosen


def sorted_rows(table: Table, name: str, descending: bool) -> list[Row]:
    """The table's rows in the order of a column; those of a tree level by level."""
    tree = table.columns[0] if table.columns and table.columns[0].type == "path" else None
    return _sorted_tree(table.rows, tree.name, name, descending) if tree else _sorted(table.rows, name, descending)


def _comparable(value: Value) -> tuple[int, Any]:
    """Any two values of a column compare; none is the least."""
    if value is None:
        return (0, 0)
    return (1, value)


def _sorted(rows: Sequence[Row], name: str, descending: bool) -> list[Row]:
    return sorted(rows, key=lambda row: _comparable(row[name]), reverse=descending)


def _levels(rows: Sequence[Row], path: str) -> dict[tuple[str, ...], list[Row]]:
    children: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        value = row[path]
        children.setdefault(value[:-1] if isinstance(value, tuple) else (), []).append(row)
    return children


def _sorted_tree(rows: Sequence[Row], path: str, name: str, descending: bool) -> list[Row]:
    children = _levels(rows, path)
    return _walk({key: _sorted(group, name, descending) for key, group in children.items()}, path)


def _top_of_tree(rows: Sequence[Row], path: str, top: int) -> list[Row]:
    return _walk({key: group[:top] for key, group in _levels(rows, path).items()}, path)


def _walk(children: dict[tuple[str, ...], list[Row]], path: str) -> list[Row]:
    """The rows depth first."""
    result: list[Row] = []
    waiting = list(reversed(children.get((), [])))
    while waiting:
        row = waiting.pop()
        result.append(row)
        value = row[path]
        if isinstance(value, tuple):
            waiting += reversed(children.get(value, []))
    return result
