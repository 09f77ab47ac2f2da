"""What rows are of, in a line each, for charts and graphs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sharkstat.tables.column import Column, Row
from sharkstat.tables.page import distinct, joined
from sharkstat.tables.table import Table
from sharkstat.tables.texts import safe, shortened
from sharkstat.tables.view import cell

_WORTH = 12  # letters


def labels_of(table: Table, rows: Sequence[Row], names: Sequence[Column], width: int) -> list[str]:
    """What each row is of, in a line of at most that width: no two are alike.

    Where a line is too long, its last keys are left out, as long as what is left says which row it is.
    """
    texts = [_texts(table, row, names) for row in rows]
    whole = [" ".join(parts) for parts in texts]
    labels = [
        line if len(line) <= width else _beginning(parts, width) for line, parts in zip(whole, texts, strict=True)
    ]
    many = Counter(labels)
    labels = [label if many[label] == 1 else line for label, line in zip(labels, whole, strict=True)]
    taken: Counter[str] = Counter()
    for at, label in enumerate(labels := distinct(labels, width)):
        taken[label] += 1
        if taken[label] > 1:
            labels[at] = f"{label} ({taken[label]})"
    return labels


def _beginning(parts: Sequence[str], width: int) -> str:
    """As many whole parts as there is room for, and of the next one what fits, if that still says something."""
    count = len(parts)
    while count > 1 and len(" ".join(parts[:count])) > width:
        count -= 1
    if width - len(" ".join(parts[:count])) >= _WORTH:
        count += 1
    return shortened(" ".join(parts[:count]), width)


def _texts(table: Table, row: Row, names: Sequence[Column]) -> list[str]:
    """The keys of a row as people write them: addresses with their ports."""
    parts: list[str] = []
    left = [column.name for column in names]
    for column in names:
        if column.name not in left:
            continue
        port = column.name.replace("address", "port")
        if row[column.name] is None:
            continue
        if isinstance(path := row[column.name], tuple) and column.type == "path":
            parts.append(safe(" / ".join(path[1:] or path)))  # all have one root
        elif column.type == "address" and port in left and port != column.name:
            left.remove(port)
            parts.append(joined(table, row, f"{column.name}:{port}"))
        else:
            parts.append(cell(table, column, row[column.name]))
    return parts or ["-"]
