"""tshark's own statistics: which there are, and what becomes of those that no plugin reads."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from sharkstat.engines.text import LINES, Parsed, TsharkText, as_lines
from sharkstat.errors import TsharkError
from sharkstat.statistics.statistic import Statistic
from sharkstat.tables.column import Column
from sharkstat.tshark.process import Tshark
from sharkstat.tshark.workspace import answer


@functools.cache
def listed(tshark: Tshark) -> tuple[str, ...]:
    """The names that `tshark -z help` lists, asked once. TsharkError where tshark lists nothing."""
    names = re.findall(r"^ {5}(\S+)$", answer(tshark, "-z", "help"), re.MULTILINE)
    if not names:
        tshark.check()
        raise TsharkError(f"{tshark.path} -z help lists no statistics: is it really tshark?")
    return tuple(name for name in names if not name.startswith("sharkstat,"))  # taps that are installed for all users


class Unparsed(Statistic):
    """A tshark statistic that no family reads: its text, rather than a wrong table."""

    description = "A tshark statistic that sharkstat cannot parse. Its text is shown unchanged, line by line."

    def __init__(self, name: str) -> None:
        self.name = name
        self.title = f"{name} (text, unparsed)"
        self.usage = f"{name}[,ARGUMENTS]"
        self.engines = (TsharkText(self.parse, once=True),)  # once, for all that is known

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return LINES

    def filters(self, arguments: str) -> Sequence[str]:
        return ()  # nobody knows where its filter stands

    def parse(self, text: bytes, arguments: str) -> Parsed:
        return as_lines(text)

    def align(self, tables):  # type: ignore[no-untyped-def]
        raise self.refuse_merge("its text is not parsed; --per-file gives one table per file")
