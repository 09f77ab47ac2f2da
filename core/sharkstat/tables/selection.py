"""Selects the rows and columns to show: --sort, --top, --columns, --share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sharkstat.errors import RequestError
from sharkstat.tables.column import Column, Row, Value
from sharkstat.tables.shares import share_columns, with_shares
from sharkstat.tables.table import Table


@dataclass(frozen=True)
class Selection:
    """`sort` is a column's name, largest first, or "name:asc"; `columns` names, parted by commas.

    `share` puts the percentage of its total beside every sum; "declared" beside those that say so (`Column.share`),
    which is what people see by default.
    """

    sort: str = ""
    top: int | None = None
    columns: str = ""
    share: Literal["", "declared", "every"] = ""

    def check(self, tables: Sequence[tuple[str, Sequence[Column]]]) -> None:
        """RequestError for a column that a table, or for --sort all of them, does not have.

        Each table is a name and its columns.
        """
        if self.top is not None and self.top < 1:
            raise RequestError(f"--top {self.top}: give a number of at least 1")
        known = {name: self._known(columns) for name, columns in tables}
        # What people see is what they may want; hidden columns, such as sketches, would only hide it.
        seen = {name: self._known([c for c in columns if c.shown]) for name, columns in tables}
        for name, there in known.items():
            for column in self.wanted_columns(there):
                if column not in there:
                    raise RequestError(f"{name} has no column {column!r}; it has {', '.join(seen[name])}")
        if self.sort and known:
            self.check_sort(known, seen)

    def check_sort(self, known: Mapping[str, Sequence[str]], seen: Mapping[str, Sequence[str]]) -> None:
        """RequestError if no table has the column to sort by: those that have it are sorted."""
        column = self.sort_key()[0]
        if any(column in there for there in known.values()):
            return
        name, there = next(iter(seen.items()))
        raise RequestError(f"{name} has no column {column!r}; it has {', '.join(there)}")

    def _known(self, columns: Sequence[Column]) -> list[str]:
        return [*(c.name for c in columns), *(c.name for c in share_columns(columns, self.share == "every").values())]

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

    def sort_key(self) -> tuple[str, bool]:
        """The column to sort by, and whether the largest comes first."""
        name, colon, direction = self.sort.rpartition(":")
        if colon and direction in ("asc", "desc"):
            return name, direction == "desc"
        return self.sort, True

    def apply(self, table: Table) -> Table:
        """The table with the rows and columns that were asked for.

        A table without the column is not sorted, and one of intervals of time is left whole: its first rows are not
        its largest.
        """
        asked = self.wanted_columns(self._known(table.columns))
        if self.share and table.columns:
            table = with_shares(table, self.share == "every")
        name, descending = self.sort_key()
        if any(name == column.name for column in table.columns):
            table = table.with_rows(sorted_rows(table, name, descending))
        chosen = table
        if self.top is not None and not _is_of_intervals(table):
            chosen = first_rows(table, self.top)
        if asked:
            shares = {c.name for c in table.columns if c.name.endswith("_share")} if self.share == "every" else set()
            names = [n for name in asked for n in (name, f"{name}_share") if n == name or n in shares - {*asked}]
            chosen = replace(chosen, columns=tuple(replace(table.column(name), shown=True) for name in names))
        return chosen


def first_rows(table: Table, count: int) -> Table:
    """The first rows, of a tree those of each level; `omitted` counts the others."""
    tree = table.columns[0] if table.columns and table.columns[0].type == "path" else None
    rows = _top_of_tree(table.rows, tree.name, count) if tree else table.rows[:count]
    return replace(table, rows=rows, omitted=table.omitted + len(table.rows) - len(rows))


def sorted_rows(table: Table, name: str, descending: bool) -> list[Row]:
    """The table's rows in the order of a column; those of a tree level by level."""
    tree = table.columns[0] if table.columns and table.columns[0].type == "path" else None
    return _sorted_tree(table.rows, tree.name, name, descending) if tree else _sorted(table.rows, name, descending)


def _is_of_intervals(table: Table) -> bool:
    return [column.type for column in table.keys] in (["duration"], ["time"])


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


def walked(rows: Sequence[Row], path: str) -> list[Row]:
    """The rows of a tree, each behind its parent, those of a level in the order in which they are."""
    return _walk(_levels(rows, path), path)


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
