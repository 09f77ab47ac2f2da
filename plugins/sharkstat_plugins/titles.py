"""Headings for the columns of a tap's file, whose header has names alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import sharkstat_lua
from sharkstat import Column, TapFile

FOLDER = Path(sharkstat_lua.__file__).parent


class TitledTap(TapFile):
    """One of our own taps, by its file's name, with headings where those made of the names are too wide or wrong."""

    def __init__(self, file: str, titles: Mapping[str, str]) -> None:
        super().__init__(FOLDER / file)
        self._titles = titles

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return tuple(replace(c, title=self._titles.get(c.name, "")) for c in super().columns(arguments))
