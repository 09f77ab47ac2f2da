"""`sharkstat overview`: a capture at a glance."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from sharkstat.commands.console import (
    check_capture_file,
    conclude,
    drawn,
    exporter_of,
    load_registry,
    progress_bar,
    say_capturing,
    say_warnings,
    stopped_by_user,
    terminated_by_reader,
)
from sharkstat.errors import EXIT_INCOMPLETE, RequestError
from sharkstat.tables.archive import archived
from sharkstat.tables.ink import ink_for

if TYPE_CHECKING:
    from sharkstat.commands.options import Running, Watched
    from sharkstat.running.overview import Overview
    from sharkstat.running.source import Source
    from sharkstat.running.watching import Snapshot
    from sharkstat.statistics.registry import Registry
    from sharkstat.tables.archive import Period
    from sharkstat.tables.table import Table


def _show_trend(name: str, periods: Sequence[Period], running: Running, registry: Registry) -> None:
    from sharkstat.running.trend import trend
    from sharkstat.tables.output import Output, ending_of, format_for

    output_format = format_for(running.output, running.output_format, registry.formats)
    output = Output(running.output, ending_of(output_format, registry.formats), running.force)
    found = trend(name, periods, registry)
    tables = [running.selection.apply(table) for table in found.tables]
    ink = ink_for(sys.stdout.isatty() and output.standard)

    def page(_tables: Sequence[Table]) -> Iterator[str]:
        width, rows = shutil.get_terminal_size().columns, running.selection.top or 10
        yield found.text(width, rows, ink.bold) + "\n"

    exporter = page if output_format == "table" else exporter_of(output_format, registry, running.raw)
    with terminated_by_reader():
        output.write(tables, exporter)
    if not found.periods.complete:
        raise typer.Exit(EXIT_INCOMPLETE)


def show(source: Source, running: Running, watched: Watched) -> None:
    """Read the source and show its overview."""
    from sharkstat.running.overview import overview
    from sharkstat.running.remarks import OfPackets
    from sharkstat.tables.output import Output, ending_of, format_for

    given = {
        "--per-file": running.per_file,
        "--engine": running.engine,
        "--plot": running.plot,
        "--cluster": running.cluster,
    }
    for option in (name for name, value in given.items() if value):
        raise RequestError(f"overview has no {option}: use `sharkstat run` with it")
    registry = load_registry(running.plugins, running.no_plugins)
    if len(source.files) == 1 and (periods := archived(source.files[0], time.time_ns())):
        _show_trend(source.files[0], periods, running, registry)
        return
    output_format = format_for(running.output, running.output_format, registry.formats)
    exporter = None if output_format == "table" else exporter_of(output_format, registry, running.raw)
    read = [*source.files, *filter(None, [source.keylog]), *map(str, running.plugins)]
    output = Output(running.output, ending_of(output_format, registry.formats), running.force, read)
    check_capture_file(source, running)
    if watched.every is not None:
        found, written = _watched(source, registry, running, watched)
    else:
        written = False
        with stopped_by_user(), progress_bar() as progress:
            found = overview(
                source,
                registry=registry,
                progress=progress,
                jobs=running.jobs,
                capturing=say_capturing(source),
                over_time=output_format == "html",
            )
    say_warnings(registry)  # it has loaded all plugins
    if exporter is None:
        if running.selection.top is not None:
            top = running.selection.top
            found.parts = [
                replace(part, section=replace(part.section, rows=top)) if part.section.rows else part
                for part in found.parts
            ]
        to_terminal = sys.stdout.isatty() and output.standard
        size = shutil.get_terminal_size()
        height = size.lines if to_terminal and running.selection.top is None else None

        def exporter(_tables: Sequence[Table]) -> Iterator[str]:
            yield found.text(size.columns, height, ink_for(to_terminal).colours) + "\n"

        tables = found.tables
    else:
        tables = [running.selection.apply(table) for table in found.tables]
        if output_format == "html" and not output.in_folder:
            exporter = drawn("html", found)
    if not (written and output.standard):
        with terminated_by_reader():
            output.write(tables, exporter)
    # The findings already say these.
    told = {text for table in found.tables for text in table.warnings if isinstance(text, OfPackets)}
    conclude(source, running, found.tables, list(found.failures), told, gather=True)


def _watched(source: Source, registry: Registry, running: Running, watched: Watched) -> tuple[Overview, bool]:
    """The overview, shown while it is counted; and whether the last one, too, has been written."""
    from sharkstat.commands.watch import Watching
    from sharkstat.running.overview import asked, made, overview

    if watched.rate:
        raise RequestError("overview has no --rate: its first line says how many packets come")
    requests = asked(source, registry)
    colours = ink_for(terminal=True).colours

    def page(snapshot: Snapshot, width: int, height: int) -> list[str]:
        return made(source, requests, snapshot, []).text(width, height, colours).splitlines()

    def whole(tables: Sequence[Table]) -> list[Table]:
        return made(source, requests, tables, []).tables

    with terminated_by_reader():
        with stopped_by_user(), Watching(source, running, watched, running.selection, page, whole) as shown:
            found = overview(source, registry=registry, capturing=shown.capturing, watch=shown.watch)
        shown.last([part.table for part in found.parts])
    return found, not shown.on_terminal
