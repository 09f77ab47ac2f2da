"""A shipped tap as a statistic."""

from __future__ import annotations

from pathlib import Path

import sharkstat_lua
from sharkstat import Row, Table, TapFile, joined

FOLDER = Path(sharkstat_lua.__file__).parent


class ShippedTap(TapFile):
    """One of our own taps, by its file's name."""

    def __init__(self, file: str) -> None:
        super().__init__(FOLDER / file)

    @staticmethod
    def shown(table: Table, row: Row, names: str) -> str:
        """A value of a row as people read it; "address:port" joins two."""
        return joined(table, row, names)
