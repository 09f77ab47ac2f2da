"""`sharkstat run --every`: a result for each period of the clock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from sharkstat.commands.console import check_capture_file, load_registry, say
from sharkstat.errors import EXIT_INCOMPLETE, EXIT_INTERRUPTED, RequestError

if TYPE_CHECKING:
    from sharkstat.commands.options import Running
    from sharkstat.running.source import Source
    from sharkstat.tables.table import Table


def execute_periods(source: Source, running: Running, statistics: Sequence[str], every: str, keep: str) -> None:
    """Count the statistics, and write their tables for each period as soon as it is over."""
    from sharkstat.running.periods import check_periods, run_periods
    from sharkstat.running.plan import make_plan
    from sharkstat.tables.archive import Archive, length_of, period_length
    from sharkstat.tshark.process import find_tshark

    if not every:
        raise RequestError("--keep requires --every")
    length = period_length(every)
    age = length_of(keep, "--keep") if keep else None
    if not running.output:
        raise RequestError("--every writes one file per period: give their folder with --output DIR")
    chosen = running.selection
    if running.per_file or chosen.sort or chosen.top or chosen.columns or chosen.share:
        raise RequestError("--every keeps whole tables: leave out --per-file, --sort, --top, --columns and --share")
    check_periods(source)
    check_capture_file(source, running)
    registry = load_registry(running.plugins, running.no_plugins)
    plan = make_plan(source, statistics, running.engine, registry)
    archive = Archive(running.output, running.output_format or "json")
    archive.prepare()

    def take(start: int, tables: list[Table]) -> None:
        archive.write(start, length, tables)
        if age is not None:
            archive.keep(age, start + length)

    def capturing(since: float) -> None:
        clock = time.strftime("%H:%M:%S", time.gmtime(since))
        say(f"capturing on {', '.join(source.names)} since {clock} UTC, results in {archive.folder}")

    ended = run_periods(plan, length, find_tshark(), take, capturing)
    results = f"{ended.periods:,} result{'' if ended.periods == 1 else 's'}"
    say(f"{', '.join(source.names)}: {ended.packets:,} packets, {results} in {archive.folder}")
    for warning in ended.warnings:
        say(warning)
    for failure in ended.failures[:-1]:
        say(str(failure))
    if ended.failures:
        raise ended.failures[-1]
    if ended.interrupted and not source.live:
        raise typer.Exit(EXIT_INTERRUPTED)
    if not ended.complete:
        raise typer.Exit(EXIT_INCOMPLETE)
