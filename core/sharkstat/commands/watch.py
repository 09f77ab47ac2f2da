"""--watch: on a terminal tables that are drawn anew in place, elsewhere a JSON document a snapshot, one a line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from sharkstat.commands.console import say_capturing
from sharkstat.errors import RequestError
from sharkstat.running.watching import Snapshot, Watch
from sharkstat.tables.export import snapshot_line
from sharkstat.tables.figures import humanised_bytes
from sharkstat.tables.ink import ink_for
from sharkstat.tables.output import Output
from sharkstat.tables.page import shares_of_room
from sharkstat.tables.rates import Rates
from sharkstat.tables.selection import Selection, first_rows
from sharkstat.tables.table import Table
from sharkstat.tables.texts import safe
from sharkstat.tables.view import text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from sharkstat.commands.options import Running, Watched
    from sharkstat.running.source import Source

_STANDARD = Output("")
# tshark always has some bytes before it.
_WORTH_SAYING = 4 << 20


class Watching:
    """Shows snapshots while a run goes; used around the run.

    `page` makes the lines of a whole screen of a snapshot's tables, where that is not one table below the other;
    `whole` makes of them the tables that are written.
    """

    def __init__(
        self,
        source: Source,
        running: Running,
        watched: Watched,
        chosen: Selection,
        page: Callable[[Snapshot, int, int], list[str]] | None = None,
        whole: Callable[[Sequence[Table]], Sequence[Table]] = lambda tables: tables,
    ) -> None:
        assert watched.every is not None
        if running.output_format not in ("", "table", "json", "jsonl"):
            raise RequestError(f"--watch writes tables or JSON Lines, not {running.output_format}: leave out --format")
        self.on_terminal = sys.stdout.isatty() and running.output_format in ("", "table")
        self.watch = Watch(watched.every, self._take)
        self._source = source
        self._chosen = chosen
        self._rates = Rates() if watched.rate else None
        self._page = page or self._tables
        self._whole = whole
        self._console: Console | None = None
        self._ink = ink_for(self.on_terminal)
        self._live: Live | None = None
        self._shown: Snapshot | None = None
        self._speed = (0.0, 0.0)

    @property
    def capturing(self) -> Callable[[float], None] | None:
        """What says that the interfaces are open: on a terminal the first line does."""
        return None if self.on_terminal else say_capturing(self._source)

    def __enter__(self) -> Watching:
        if self.on_terminal:
            from rich.console import Console
            from rich.live import Live

            self._console = Console(highlight=False, markup=False, emoji=False)
            self._live = Live(
                console=self._console,
                screen=True,
                get_renderable=self._drawn,
                refresh_per_second=4,
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def _take(self, snapshot: Snapshot) -> None:
        if self._rates is not None:
            snapshot[:] = self._rates.of(snapshot, snapshot.elapsed)
        if self.on_terminal:
            self._note_speed(snapshot)
            self._shown = snapshot
        else:
            self._write(snapshot)

    def last(self, tables: Sequence[Table]) -> list[Table]:
        """The final tables, with all that the snapshots had; off a terminal they are written, too."""
        snapshot = self.watch.final(tables)
        if self._rates is not None:
            snapshot[:] = self._rates.of(snapshot, snapshot.elapsed)
        if not self.on_terminal:
            self._write(snapshot)
        return list(snapshot)

    def _write(self, snapshot: Snapshot) -> None:
        tables = [self._chosen.apply(table) for table in self._whole(snapshot)]
        about = {
            "number": snapshot.number,
            "time": snapshot.time,
            "elapsed": round(snapshot.elapsed, 3),
            "packets": snapshot.packets,
            "dropped": snapshot.dropped,
            "dropped_by_interface": snapshot.dropped_by_interface,
            "waiting": snapshot.waiting,
            "final": snapshot.final,
        }
        _STANDARD.write(tables, lambda some: [snapshot_line(some, about)])

    # On a terminal -----------------------------------------------------------------------------

    def _note_speed(self, snapshot: Snapshot) -> None:
        before = self._shown
        span = snapshot.elapsed - (before.elapsed if before else 0.0)
        if span > 0:
            packets = snapshot.packets - (before.packets if before else 0)
            size = _bytes(snapshot) - (_bytes(before) if before else 0)
            self._speed = (packets / span, size / span)

    def _drawn(self) -> Text:
        from rich.console import ConsoleDimensions
        from rich.text import Text

        size = os.get_terminal_size(sys.stdout.fileno())
        width, height = max(size.columns, 20), max(size.lines, 3)
        assert self._console is not None
        self._console.size = ConsoleDimensions(width, height)  # it may have other sizes from the environment
        lines = [self._head(), ""]
        if self._shown is not None:
            lines += self._page(self._shown, width, height - 3)
        drawn = Text.from_ansi("\n".join(lines[: height - 1]), no_wrap=True, overflow="crop", end="")
        drawn.truncate(width * height)
        return drawn

    def _head(self) -> str:
        parts = [safe(", ".join(self._source.names)), _clock(self.watch.elapsed)]
        if self._shown is not None:
            packets, size = self._speed
            parts += [
                f"{self._shown.packets:,} packets",
                f"{packets:,.0f}/s",
                f"{humanised_bytes(round(size))}/s",
                *_lost(self._shown),
            ]
        return "  ".join([*parts, "Ctrl-C for results"])

    def _tables(self, snapshot: Snapshot, width: int, height: int) -> list[str]:
        """The tables one below the other, each with as many rows as there is room for."""
        tables = [self._chosen.apply(table) for table in snapshot]
        # What a table takes besides its rows, an empty line between two included.
        besides = [len(text(first_rows(t, 1), width=width).splitlines()) + 1 if t.rows else 3 for t in tables]
        rows = shares_of_room([len(t.rows) for t in tables], height - sum(besides) + len(tables))
        lines: list[str] = []
        for table, count in zip(tables, rows, strict=True):
            part = first_rows(table, max(count, 1)) if len(table.rows) > count else table
            lines += [*text(part, width=width, ink=self._ink).splitlines(), ""]
        return lines


def _lost(snapshot: Snapshot) -> list[str]:
    """What is known of dropped packets before the end, and of those that are not counted yet."""
    said = []
    if snapshot.dropped is not None:
        said.append(f"{snapshot.dropped:,} dropped")
    elif snapshot.dropped_by_interface is not None:
        said.append(f"{snapshot.dropped_by_interface:,} dropped by the interface")
    if snapshot.waiting >= _WORTH_SAYING:
        said.append(f"{humanised_bytes(snapshot.waiting)} waiting")
    return said


def _bytes(snapshot: Snapshot) -> int:
    return max((table.reading.bytes for table in snapshot), default=0)


def _clock(seconds: float) -> str:
    """
    >>> _clock(61.2), _clock(3661)
    ('01:01', '1:01:01')
    """
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute:02d}:{second:02d}"
