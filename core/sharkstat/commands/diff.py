"""`sharkstat diff`: why did this traffic change?"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from sharkstat.commands.console import drawn, exporter_of, load_registry, progress_bar, say, terminated_by_reader
from sharkstat.commands.options import Running, make_running, make_source, with_options
from sharkstat.errors import EXIT_CHANGED, EXIT_INCOMPLETE, EXIT_INTERRUPTED, RequestError

if TYPE_CHECKING:
    from sharkstat.running.source import Source
    from sharkstat.statistics.registry import Registry
    from sharkstat.tables.diff import Diff
    from sharkstat.tables.output import Output
    from sharkstat.tables.table import Table

SIDES = ("--before", "--after")


class DiffCommand(TyperCommand):
    """--before and --after take several files: all words up to the next option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _gathered(args))


def _gathered(words: Sequence[str]) -> list[str]:
    """Repeats the option in front of each file.

    >>> _gathered(["--before", "a", "b", "--after", "c", "--by", "packets"])
    ['--before', 'a', '--before', 'b', '--after', 'c', '--by', 'packets']
    """
    found: list[str] = []
    side = ""
    for number, word in enumerate(words):
        if word == "--":
            return [*found, *words[number:]]
        if word in SIDES:
            side = word
            if number + 1 == len(words) or words[number + 1].startswith("--"):
                found.append(word)  # no file follows: the parser will complain
        elif side and not (word.startswith("-") and len(word) > 1):
            found += [side, word]
        else:
            side = ""
            found.append(word)
    return found


def _limit(text: str) -> float | None:
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%?", text.strip())
    if not found:
        raise RequestError(f"--fail-over {text!r}: give a percentage, e.g. 20%")
    return float(found[1]) / 100


@with_options(source=make_source, running=make_running)
def diff(
    *,
    before: Annotated[
        list[str] | None, typer.Option("--before", metavar="FILE...", help="Several captures as the first side.")
    ] = None,
    after: Annotated[
        list[str] | None, typer.Option("--after", metavar="FILE...", help="Several captures as the second side.")
    ] = None,
    at: Annotated[
        str,
        typer.Option("--at", metavar="TIME", help="Split one capture in two: 300s after its start, or at 12:30 (UTC)."),
    ] = "",
    statistics: Annotated[
        list[str] | None,
        typer.Option("-z", "--statistic", metavar="NAME[,ARGUMENTS]", help="Compare this statistic; repeatable."),
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="MEASURE",
            help="Explain the change of bytes, packets, connections or requests; default: what changed.",
        ),
    ] = "",
    per: Annotated[
        str,
        typer.Option(
            "--per",
            metavar="UNIT",
            help="second (compare rates) or capture (totals); default: depends on the captures' lengths.",
        ),
    ] = "",
    fail_over: Annotated[
        str, typer.Option("--fail-over", metavar="PERCENT", help="Exit with status 8 if the change is larger.")
    ] = "",
    source: Source,
    running: Running,
) -> None:
    """Explain why traffic changed between two captures.

    sharkstat diff monday.pcapng tuesday.pcapng

    sharkstat diff --before monday-*.pcapng --after tuesday-*.pcapng --by packets

    sharkstat diff long.pcapng --at 12:30 -z conv,ip -z dns,names --top 10

    Either side may also be a result saved with --format json: of `run -z traffic`, or of the same -z.
    """
    from sharkstat.tables.output import Output, ending_of, format_for

    limit = _limit(fail_over)
    sides = _sides(source, before or [], after or [], at)
    if source.live:
        raise RequestError("diff compares files: save the capture first, e.g. with `dumpcap -w`")
    if running.per_file:
        raise RequestError("diff has no --per-file: the files of each side are read as one capture")
    if running.plot:
        raise RequestError("--plot is for run and group: a comparison as a page is --output why.html")
    registry = load_registry(running.plugins, running.no_plugins)
    output_format = format_for(running.output, running.output_format, registry.formats)
    read = [*sides[0], *(sides[1] or ()), *filter(None, [source.keylog]), *map(str, running.plugins)]
    output = Output(running.output, ending_of(output_format, registry.formats), running.force, read)
    result = _compared(sides, statistics or [], source, running, registry, (at, per, by))
    _print(result, running, output, output_format, registry)
    warnings = dict.fromkeys(warning for table in result.tables for warning in table.warnings)
    for warning in warnings:
        if warning != result.caution or output_format != "table":  # there it stands above the result
            say(warning)
    if any(warning.startswith("interrupted") for warning in warnings):
        raise typer.Exit(EXIT_INTERRUPTED)
    if not (result.before.complete and result.after.complete):
        raise typer.Exit(EXIT_INCOMPLETE)
    if limit is not None and abs(result.relative_change) > limit:
        raise typer.Exit(EXIT_CHANGED)


def _sides(source: Source, before: list[str], after: list[str], at: str) -> tuple[list[str], list[str] | None]:
    """The files of both sides; the second is None if one capture is to be split."""
    files = list(source.files)
    if before or after:
        if files:
            raise RequestError(f"{files[0]}: put it after --before or --after, like the others")
        if not (before and after) and not at:
            raise RequestError("give both --before and --after")
        return before or after, after if before and after else None
    if len(files) > 2:
        raise RequestError("diff takes two files; for more, use --before and --after")
    if not files:
        raise RequestError("nothing to compare: give two captures, or one with --at TIME")
    return files[:1], files[1:] or None


def _compared(
    sides: tuple[list[str], list[str] | None],
    statistics: list[str],
    source: Source,
    running: Running,
    registry: Registry,
    how: tuple[str, str, str],
) -> Diff:
    from sharkstat.running.comparison import diff as compare

    options: dict[str, Any] = {f.name: getattr(source, f.name) for f in fields(source) if f.name != "files"}
    at, per, by = how
    with progress_bar() as progress:
        options |= {"engine": running.engine, "registry": registry, "progress": progress}
        return compare(sides[0], sides[1], statistics, at=at, per=per, by=by, **options)


def _print(result: Diff, running: Running, output: Output, output_format: str, registry: Registry) -> None:

    chosen = running.selection
    if result.explanation is None or chosen.sort or chosen.columns or chosen.top:
        tables = result.tables if result.explanation is None else result.tables[1:]
        chosen.check([(table.name, table.columns) for table in tables])
        shown = [chosen.apply(table) for table in tables]
        result.tables = shown if result.explanation is None else [*result.tables[:1], *shown]
    exporter: Callable[[Sequence[Table]], Iterator[str]] | Any
    if output_format == "table":
        from sharkstat.tables.ink import ink_for

        wide = sys.stdout.isatty() and output.standard
        width = shutil.get_terminal_size().columns if wide else None

        def exporter(_: Sequence[Table]) -> Iterator[str]:
            yield "\n".join(result.lines(width, ink_for(wide).colours)) + "\n"

    elif output_format == "html" and not output.in_folder:
        exporter = drawn("html", result)
    else:
        exporter = exporter_of(output_format, registry, running.raw)
    with terminated_by_reader():
        output.write(result.tables, exporter)


def add_to(app: typer.Typer) -> None:
    app.command(name="diff", cls=DiffCommand)(diff)
