"""A shipped tap as a statistic, with headings for the columns whose names in the tap's header would make bad ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import sharkstat_lua
from sharkstat import Column, Row, Table, TapFile, joined

FOLDER = Path(sharkstat_lua.__file__).parent


class ShippedTap(TapFile):
    """One of our own taps, by its file's name; `headings` are those of its columns that their names do not give."""

    def __init__(self, file: str, headings: Mapping[str, str] | None = None) -> None:
        super().__init__(FOLDER / file)
        self._headings = headings or {}

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return tuple(replace(c, title=self._headings.get(c.name, "")) for c in super().columns(arguments))

    @staticmethod
    def shown(table: Table, row: Row, names: str) -> str:
        """A value of a row as people read it; "address:port" joins two."""
        return joined(table, row, names)
