"""Saved results as tables that can be merged and compared."""

from __future__ import annotations

import os
from pathlib import Path

from sharkstat.statistics.registry import Registry
from sharkstat.tables.saved import read_tables
from sharkstat.tables.table import Table


def read(path: str | os.PathLike[str], *, registry: Registry | None = None) -> list[Table]:
    """The tables of a file that was written with `--format json` or `--format jsonl`.

    They hold what the file holds: exact values with their Python types, columns with units, roles and merge rules,
    and what was read. A table whose statistic is at hand (built in, or of a plugin that is installed) can be merged.

    Raises SourceError where the file cannot be read or is no saved result.

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
