"""Loads saved results as tables that can be merged and compared."""

from __future__ import annotations

import os
from pathlib import Path

from sharkstat.statistics.registry import Registry
from sharkstat.tables.saved import read_tables
from sharkstat.tables.table import Table


def read(path: str | os.PathLike[str], *, registry: Registry | None = None) -> list[Table]:
    """Read the tables of a file written with `--format json` or `--format jsonl`.

    The tables have everything that the file has: exact values with their Python types, columns with units, roles and
    merge rules, and the facts about the capture. Tables of built-in statistics and of installed plugins can be merged.

    Raises SourceError if the file cannot be read or is not a saved result.

    >>> import pathlib, sharkstat, tempfile
    >>> table = sharkstat.run("tests/data/dns.pcapng", "conv,udp")[0]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     saved = pathlib.Path(folder, "saved.json")
    ...     _ = saved.write_text("".join(table.to_json()))
    ...     again = sharkstat.read(saved)[0]
    >>> again.rows == table.rows
    True
    """
    tables = read_tables(Path(path))
    at_hand = registry or Registry.default()
    for table in tables:
        table.statistic = at_hand.named(table.name)
    return tables
