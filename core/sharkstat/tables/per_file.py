"""Tables of several captures under one another, with a column that says which file each row is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from sharkstat.tables.column import Column
from sharkstat.tables.table import Table, read_together

FILE = Column("file", "text", role="key", description="the capture file")


def with_file(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns, and that of the file before them; a tree's stay as they are."""
    return columns if any(column.type == "path" for column in columns) else (FILE, *columns)


def of_file(name: str, text: str) -> str:
    """A message that says which file it is about.

    >>> of_file("a.pcap", "interrupted"), of_file("a.pcap", "a.pcap is cut short")
    ('a.pcap: interrupted', 'a.pcap is cut short')
    """
    return text if f" {name} " in f" {text} " else f"{name}: {text}"


def by_file(
    tables: Sequence[Table], missing: Mapping[str, Sequence[str]] = MappingProxyType({}), several: bool = True
) -> list[Table]:
    """One table for each request, whose first column is the file; the rows are those of its table, in the same order.

    Trees stay as they are, and so do tables whose columns are not those of the other files. Where there are `several`
    files, warnings name theirs. `missing` says by request why a file has no table of it: the others' is not complete.
    """
    if several:
        named = [(table, ", ".join(table.reading.sources)) for table in tables]
        tables = [replace(t, warnings=[of_file(name, text) for text in t.warnings]) for t, name in named]
    groups: dict[tuple[object, ...], list[Table]] = {}
    for number, table in enumerate(tables):
        is_tree = with_file(table.columns) == table.columns
        groups.setdefault((number,) if is_tree else (table.name, table.request, table.columns), []).append(table)
    joined = []
    for group in groups.values():
        head = group[0]
        if with_file(head.columns) == head.columns:
            joined.append(head)
            continue
        rows = [{FILE.name: ", ".join(table.reading.sources), **row} for table in group for row in table.rows]
        joined.append(
            replace(
                head,
                columns=with_file(head.columns),
                rows=rows,
                complete=all(table.complete for table in group) and not missing.get(head.request),
                capped=any(table.capped for table in group),
                reading=read_together([table.reading for table in group]),
                warnings=list(
                    dict.fromkeys(
                        [*(text for table in group for text in table.warnings), *missing.get(head.request, ())]
                    )
                ),
                names={digits: name for table in group for digits, name in table.names.items()},
                statistic=None,
            )
        )
    return joined
