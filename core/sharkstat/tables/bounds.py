"""A table of at most so many rows: the others become one more, `(other)`, which adds them up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sharkstat.tables.column import Column, Row, Value

if TYPE_CHECKING:
    from sharkstat.tables.table import Table

# Of conversations, endpoints, groups and intervals, unless `max=` says otherwise; it is the default of our taps, too.
MOST_ROWS = 100_000
OTHER = "(other)"  # as tshark.records has it


def bounded(table: Table, most: int, rest: Row | None = None, count: int = 0) -> Table:
    """The table with its first `most` rows, and one more that adds up all others.

    `rest` is what `count` others, which are not in the table, add up to. A tree is left as it is. The table's rows must
    be in order, and its statistic must be known.
    """
    if (rest is None and len(table.rows) <= most) or any(column.type == "path" for column in table.columns):
        return table
    others = table.rows[most:]
    row = added_up(table.columns, [*([] if rest is None else [rest]), *others])
    alone = replace(table, rows=[row])
    if table.statistic is not None:
        table.statistic.derive(alone)
    count += len(others)
    of, larger = count + most, 10 ** len(str(count + most - 1))
    said = (
        f"{table.request}: {count:,} of {of:,} rows are added up in the last row, (other), since there are at most "
        f"{most:,}: max={larger} gives all"
    )
    return replace(
        table,
        rows=[*table.rows[:most], *alone.rows],
        columns=alone.columns,
        capped=True,
        warnings=[*table.warnings, said],
    )


def added_up(columns: Sequence[Column], rows: Sequence[Row]) -> Row:
    """What the rows add up to, by the merge rules of measures. The first key that is a text says `(other)`."""
    from sharkstat.tables.table import combine

    made: Row = dict.fromkeys((column.name for column in columns), None)
    for column in columns:
        if column.role == "measure" and column.merge not in ("first", "last", "none"):
            name, rule = column.name, column.merge
            value: Value = None
            if rule == "union":
                value = tuple(sorted({text for row in rows for text in row[name] or ()}))  # type: ignore[union-attr]
            else:
                for row in rows:
                    value = combine(rule, value, row[name])
            made[name] = value
    for column in columns:
        if column.role == "key" and column.type in ("text", "address"):
            made[column.name] = OTHER
            break
    return made
