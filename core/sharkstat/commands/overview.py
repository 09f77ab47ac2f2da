"""`sharkstat overview`: a capture at a glance."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sharkstat.commands.console import (
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
from sharkstat.errors import RequestError

if TYPE_CHECKING:
    from sharkstat.commands.options import Running
    from sharkstat.running.source import Source
    from sharkstat.tables.table import Table


def show(source: Source, running: Running) -> None:
    """Read the source and show its overview."""
    from sharkstat.running.overview import overview
    from sharkstat.tables.output import ENDINGS, Output, format_for

    if running.per_file or running.engine:
        option = "--per-file" if running.per_file else "--engine"
        raise RequestError(f"overview has no {option}: use `sharkstat run` with it")
    registry = load_registry(running.plugins, running.no_plugins)
    output_format = format_for(running.output, running.output_format, registry.formats)
    exporter = None if output_format == "table" else exporter_of(output_format, registry, running.raw)
    read = [*source.files, *filter(None, [source.keylog]), *map(str, running.plugins)]
    output = Output(running.output, ENDINGS.get(output_format, "txt"), running.force, read)
    with stopped_by_user(), progress_bar() as progress:
        found = overview(
            source, registry=registry, progress=progress, jobs=running.jobs, capturing=say_capturing(source)
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
            yield found.text(size.columns, height, to_terminal and not os.environ.get("NO_COLOR")) + "\n"

        tables = found.tables
    else:
        tables = [running.selection.apply(table) for table in found.tables]
        if output_format == "html" and not output.in_folder:
            exporter = drawn("html", found)
    with terminated_by_reader():
        output.write(tables, exporter)
    # The findings already say these.
    told = {
        warning
        for table in found.tables
        for warning in table.warnings
        if any(
            words in warning for words in ("out of time order", "are duplicates", "is a duplicate", " are truncated ")
        )
    }
    conclude(source, running, found.tables, list(found.failures), told)
