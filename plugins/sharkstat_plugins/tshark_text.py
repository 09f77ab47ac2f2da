"""What the readers of tshark's texts share."""

from __future__ import annotations

from collections.abc import Sequence

from sharkstat import Row, Table, TextError, Value


def decimal(text: str, unit: int) -> int:
    """A decimal number of units (`unit` nanoseconds each) as nanoseconds, never through a float.

    >>> decimal("  1.68", 10**6), decimal("-0.000001", 10**9)
    (1680000, -1000)
    """
    whole, _, fraction = text.strip().partition(".")
    return int(whole + fraction) * unit // int("1" + "0" * len(fraction))


def distinct(rows: list[list[Value]], keys: int) -> list[list[Value]]:
    """The rows. TextError if two have the same first `keys` values: nothing would tell them apart.

    >>> distinct([["a", 1], ["b", 1]], keys=1)
    [['a', 1], ['b', 1]]
    """
    seen = set()
    for row in rows:
        key = tuple(row[:keys])
        if key in seen:
            raise TextError(f"two rows are for {', '.join(map(str, key))}")
        seen.add(key)
    return rows


def keep_unknown(tables: Sequence[Table], names: Sequence[str]) -> list[list[Row]]:
    """The tables' rows for `Statistic.align`: what one table does not know of a key, none of them knows.

    Merging would take the other table's value for the whole one.
    """
    parts = [[dict(row) for row in table.rows] for table in tables]
    keys = [column.name for column in tables[0].keys]
    for name in names:
        lost = {tuple(row[key] for key in keys) for part in parts for row in part if row[name] is None}
        for part in parts:
            for row in part:
                if tuple(row[key] for key in keys) in lost:
                    row[name] = None
    return parts
