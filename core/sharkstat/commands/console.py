"""What commands share. Results go to standard output, everything else to standard error."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sharkstat.errors import (
    EXIT_INCOMPLETE,
    EXIT_INTERRUPTED,
    RequestError,
    SharkstatError,
    SourceError,
    StatisticError,
    TsharkError,
)

if TYPE_CHECKING:
    from sharkstat.commands.options import Running, Watched
    from sharkstat.running.cluster.reading import Cluster
    from sharkstat.running.overview import Overview
    from sharkstat.running.plan import Plan
    from sharkstat.running.source import Source
    from sharkstat.running.watching import Watch
    from sharkstat.statistics.registry import Registry
    from sharkstat.tables.diff import Diff
    from sharkstat.tables.export import Exporter
    from sharkstat.tables.selection import Selection
    from sharkstat.tables.table import Table

_warned: set[str] = set()


def say(text: str) -> None:
    """Print one line on stderr."""
    from sharkstat.tables.texts import safe

    try:
        print(f"sharkstat: {safe(text)}", file=sys.stderr, flush=True)
    except OSError:  # it is full or closed: the status tells all the same, and Python is not to try again at the end
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115


def execute(
    source: Source,
    running: Running,
    statistics: Sequence[str],
    watched: Watched | None = None,
    watch: Watch | None = None,
) -> None:
    """Run the statistics and show the results; `watched` says how they are shown meanwhile, `watch` gets snapshots."""
    from sharkstat.running.plan import make_plan
    from sharkstat.tables.output import LOSSLESS, Output, ending_of, format_for

    if running.debug:
        import logging

        logging.basicConfig(format="sharkstat: %(message)s")
        logging.getLogger("sharkstat").setLevel(logging.DEBUG)
    registry = load_registry(running.plugins, running.no_plugins)
    per_file = running.per_file
    output_format = format_for(running.output, running.output_format, registry.formats)
    if running.plot and output_format != "table":
        raise RequestError("--plot draws on a terminal: for a file, take --output chart.svg, chart.png or page.html")
    exporter = None if output_format == "table" else exporter_of(output_format, registry, running.raw)
    chosen = running.selection
    if not chosen.share and output_format not in LOSSLESS:
        chosen = replace(chosen, share="declared")
    read = [*source.files, *filter(None, [source.keylog]), *map(str, running.plugins)]
    output = Output(running.output, ending_of(output_format, registry.formats), running.force, read)
    check_capture_file(source, running)
    sources = [replace(source, files=(name,)) for name in source.files] if per_file else [source]
    plans = [make_plan(source, statistics, running.engine, registry) for source in sources]
    output.expect(request.text for plan in plans for request in plan.requests)
    say_warnings(registry)
    remarks = dict.fromkeys(remark for plan in plans for request in plan.requests for remark in request.task.remarks)
    for remark in remarks:
        say(remark)  # before the run, since it explains why the run takes long
    watches = watched is not None and watched.every is not None
    if not per_file and watch is None:
        plans = [limited(plans[0], chosen, watched, not running.output)]
    written = False
    if watched is not None and watches:
        if per_file or running.cluster:
            raise RequestError(f"--watch shows one run: leave out {'--per-file' if per_file else '--cluster'}")
        tables, failures, written = watched_while_counted(plans[0], running, chosen, watched)
    else:
        with cluster_of(running) as cluster:
            tables, failures = counted(plans, chosen, running.jobs, watch, per_file, cluster)
    if written and output.standard:
        conclude(source, running, tables, failures, remarks)
        return
    if exporter is None:
        to_terminal = sys.stdout.isatty() and output.standard
        exporter = readable(to_terminal, per_file, running.plot)
    if tables or not failures:  # otherwise earlier results would be overwritten by nothing
        with terminated_by_reader():
            output.write(tables, exporter)
    conclude(source, running, tables, failures, remarks)


# No terminal has more lines, however it is resized.
_MOST_LINES = 500


def limited(plan: Plan, chosen: Selection, watched: Watched | None, to_terminal: bool) -> Plan:
    """The plan where tshark need not send rows that nobody will see."""
    if watched is not None and watched.rate:
        return plan  # rates are those of all rows, and any may be the fastest
    if chosen.top is not None:
        return plan.with_first_rows(chosen, chosen.top)
    if watched is not None and watched.every is not None and to_terminal and sys.stdout.isatty():
        return plan.with_first_rows(chosen, _MOST_LINES, final=False)
    return plan


def check_capture_file(source: Source, running: Running) -> None:
    """OutputError where -w would overwrite a file, without --force, or follow a link. (-b makes new names.)"""
    from sharkstat.tables.output import Output

    if source.write and not source.ring and os.path.lexists(source.write):
        Output(source.write, force=running.force)


def conclude(
    source: Source,
    running: Running,
    tables: Sequence[Table],
    failures: Sequence[SharkstatError],
    said: Iterable[str] = (),
    gather: bool = False,
) -> None:
    """Print warnings and errors after the results, and exit with the right status.

    With `gather`, what several statistics say of the same problem is said once, with what it means to each.
    """
    for name, counts in {t.reading.sources: t.reading for t in tables}.items():
        if source.live:
            dropped = "an unknown number" if counts.dropped is None else f"{counts.dropped:,}"
            say(f"{', '.join(name)}: {counts.captured or counts.packets:,} packets captured, {dropped} dropped")
    from sharkstat.tables.texts import safe

    told = [*said, *map(str, failures)]
    warnings = dict.fromkeys(w for t in tables for w in t.warnings if w not in told)
    for warning in gathered(list(warnings), [t.request for t in tables]) if gather else warnings:
        for line in warning.split("\n"):
            say(safe(line))
    for failure in failures:
        if running.debug and failure.traceback:
            print(failure.traceback, file=sys.stderr)
        if failure is not failures[-1]:
            say(str(failure))
    if failures:
        raise failures[-1]
    if interrupted(tables):
        raise typer.Exit(EXIT_INTERRUPTED)
    if not all(t.complete for t in tables):
        raise typer.Exit(EXIT_INCOMPLETE)


def gathered(warnings: Sequence[str], requests: Sequence[str]) -> list[str]:
    """Warnings of several statistics about the same problem as one.

    >>> gathered(["a: 2 are mixed: may be wrong", "b,c: 2 are mixed: may be wrong", "d: odd"], ["a", "b,c", "d"])
    ['2 are mixed:\\n  a, b,c: may be wrong', 'd: odd']
    """
    groups: dict[str, dict[str, list[str]]] = {}
    for warning in warnings:
        request = next((name for name in requests if warning.startswith(f"{name}: ")), "")
        problem, _, meaning = warning.removeprefix(f"{request}: ").rpartition(": ")
        if request and problem:
            groups.setdefault(problem, {}).setdefault(meaning, []).append(request)
        else:
            groups.setdefault(warning, {})
    texts = []
    for problem, meanings in groups.items():
        names = [name for some in meanings.values() for name in some]
        if len(names) > 1:
            texts.append("\n".join([f"{problem}:", *(f"  {', '.join(some)}: {m}" for m, some in meanings.items())]))
        else:
            texts += [f"{name}: {problem}: {m}" for m, (name,) in meanings.items()] or [problem]
    return texts


def counted(
    plans: Sequence[Plan],
    chosen: Selection,
    jobs: int | None = None,
    watch: Watch | None = None,
    per_file: bool = False,
    cluster: Cluster | None = None,
) -> tuple[list[Table], list[SharkstatError]]:
    """The tables of all sources, and the errors of the statistics or sources that failed."""
    from sharkstat.running.runner import run_plan
    from sharkstat.tables.per_file import by_file, of_file, with_file
    from sharkstat.tshark.process import find_tshark

    tables: list[Table] = []
    failures: list[SharkstatError] = []
    missing: dict[str, list[str]] = {}
    for plan in plans:
        # Where the columns are not known yet, they come from tshark's text.
        known = [(r.statistic.name, r.columns) for r in plan.requests if r.columns]
        chosen.check([(name, with_file(columns)) for name, columns in known] if per_file else known)
    with progress_bar() as progress:
        for plan in plans:
            (name,) = plan.source.files if per_file else ("",)
            asked = {request.text for request in plan.requests}
            if interrupted(tables):
                for text in asked:
                    missing.setdefault(text, []).append(of_file(name, "not counted: interrupted"))
                continue
            try:
                with stopped_by_user():
                    tables += run_plan(
                        plan,
                        find_tshark(),
                        progress,
                        load_view,
                        1 if cluster is not None else plan.source.jobs(jobs),
                        capturing=say_capturing(plan.source),
                        watch=watch,
                        cluster=cluster,
                    )
            except (SourceError, StatisticError, TsharkError) as problem:
                if isinstance(problem, TsharkError) and len(plans) == 1:
                    raise
                tables += getattr(problem, "tables", [])
                if per_file:
                    problem.args = (of_file(name, str(problem)),)
                    for text in getattr(problem, "failed", {}) or asked:
                        missing.setdefault(text, []).append(str(problem))
                failures.append(problem)
    if per_file:
        tables = by_file(tables, missing, len(plans) > 1)
    shown = []
    for table in tables:
        try:  # tshark's text may lack the promised columns: then the whole table is shown, and the error reported
            replace(chosen, sort="").check([(table.name, table.columns)])
            shown.append(chosen.apply(table))
        except RequestError as problem:
            shown.append(table)
            failures.append(problem)
    return shown, failures


@contextlib.contextmanager
def cluster_of(running: Running) -> Iterator[Cluster | None]:
    """The cluster of --cluster, if it was given."""
    if not running.cluster:
        yield None
        return
    from sharkstat.running.cluster.reading import Cluster
    from sharkstat.running.cluster.work import Plugins

    files = tuple(str(path) for path in running.plugins)
    with Cluster.at(running.cluster, Plugins(files, running.no_plugins)) as cluster:
        yield cluster


def watched_while_counted(
    plan: Plan, running: Running, chosen: Selection, watched: Watched
) -> tuple[list[Table], list[SharkstatError], bool]:
    """As `counted`, shown meanwhile; and whether the final tables, too, have been written."""
    from sharkstat.commands.watch import Watching
    from sharkstat.running.runner import run_plan
    from sharkstat.tables.rates import rate_columns
    from sharkstat.tshark.process import find_tshark

    with_rates = rate_columns if watched.rate else list
    chosen.check([(r.statistic.name, with_rates(r.columns)) for r in plan.requests if r.columns])
    failures: list[SharkstatError] = []
    with terminated_by_reader():
        with stopped_by_user(), Watching(plan.source, running, watched, chosen) as shown:
            try:
                tables = run_plan(plan, find_tshark(), None, load_view, capturing=shown.capturing, watch=shown.watch)
            except StatisticError as problem:
                tables = problem.tables
                failures.append(problem)
        tables = shown.last(tables)
    return [chosen.apply(table) for table in tables], failures, not shown.on_terminal


def say_capturing(source: Source) -> Callable[[float], None]:
    """What says that the interfaces are open: nothing that came before is captured."""

    def told(when: float) -> None:
        from sharkstat.tables.figures import clock

        moment = clock(int(when * 10**9), "%H:%M:%S")
        since = f"packets from {moment}.{int(when * 1000) % 1000:03d} UTC on"
        say(f"capturing on {', '.join(source.interfaces)}, Ctrl-C for results ({since})")

    return told


def load_view() -> None:
    """Load the modules that display tables."""
    from sharkstat.tables import texts, view  # noqa: F401


@contextlib.contextmanager
def stopped_by_user() -> Iterator[None]:
    """Exit cleanly when the user interrupts a run before it has results; a run that waits says so."""
    from sharkstat.running import vigil

    vigil.tell = say
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted before there were results")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def interrupted(tables: Sequence[Table]) -> bool:
    return any("interrupted: only" in warning for table in tables for warning in table.warnings)


def load_registry(files: Sequence[Path], only_built_in: bool = False) -> Registry:
    from sharkstat.statistics.registry import Registry

    if files and only_built_in:
        raise RequestError("--plugin and --no-plugins exclude each other: give only one")
    for path in files:
        if not path.is_file():
            raise RequestError(f"--plugin {path}: no such file")
    registry = Registry.default(files, only_built_in=only_built_in)
    say_warnings(registry)
    return registry


def say_warnings(registry: Registry) -> None:
    """Print the warnings about plugins that failed to load, each once."""
    for warning in registry.warnings:
        if warning not in _warned:
            say(warning)
        _warned.add(warning)


def exporter_of(name: str, registry: Registry, raw: bool) -> Exporter:
    """The exporter of an output format, a plugin's or a built-in one. Raises RequestError if there is none."""
    from sharkstat.tables import export
    from sharkstat.tables.output import DRAWN

    return registry.exporter(name) or (drawn(name) if name in DRAWN else export.find(name, [*registry.formats], raw))


def drawn(name: str, shown: Overview | Diff | None = None) -> Exporter:
    """The exporter of a page or a picture; of an overview or a comparison, which are more than their tables."""

    from sharkstat.tables import charts, drawing

    def page(tables: Sequence[Table]) -> Iterator[str | bytes]:
        from sharkstat.reports import report

        yield report(list(tables) if shown is None else shown, shlex.join(["sharkstat", *sys.argv[1:]]))

    def picture(tables: Sequence[Table]) -> Iterator[str | bytes]:
        if len(tables) != 1:
            raise RequestError(
                f"--format {name} draws one table, and there are {len(tables)}: take html, or --output FOLDER/"
            )
        chart = charts.chart(tables[0])
        yield drawing.svg(chart) if name == "svg" else drawing.png(chart)

    drawing.require(*(("jinja2",) if name == "html" else ()))
    return page if name == "html" else picture


def readable(
    to_terminal: bool, name_sources: bool = False, plot: bool = False
) -> Callable[[Sequence[Table]], Iterator[str]]:
    """The exporter of the default format, at a terminal's width and in colour there; with `plot`, tables are drawn."""
    from sharkstat.tables import texts, view
    from sharkstat.tables.ink import ink_for

    width = shutil.get_terminal_size().columns if to_terminal else None
    ink = ink_for(to_terminal)

    def left_out(request: str) -> Callable[[list[str]], None]:
        return lambda names: say(
            f"{request}: not shown for lack of width: {', '.join(names)} (choose with --columns; a pipe shows all)"
        )

    def export(tables: Sequence[Table]) -> Iterator[str]:
        for number, table in enumerate(tables):
            gap = "\n" if number else ""
            if name_sources and table.columns[0].name != "file":
                gap += f"{texts.safe(', '.join(table.reading.sources))}: "
            if plot:
                from sharkstat.tables.graphs import graph

                yield f"{gap}{graph(table, width, _shows_unicode())}\n"
                continue
            yield f"{gap}{view.text(table, width=width, on_left_out=left_out(table.request), ink=ink)}\n"

    return export


def _shows_unicode() -> bool:
    """Whether the terminal shows more than ASCII, as far as the locale says."""
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG") or "C.UTF-8"
    return "utf-8" in locale.lower() or "utf8" in locale.lower()


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar of the bytes read, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)

    def update(position: int, size: int) -> None:
        if not bar.tasks:
            bar.add_task("reading", total=size)
            bar.start()
        bar.update(bar.task_ids[0], completed=position)

    try:
        yield update
    finally:
        bar.stop()


@contextlib.contextmanager
def terminated_by_reader() -> Iterator[None]:
    """End quietly when the reader of the pipe (`| head`) closes it, with the status that a shell expects."""
    from sharkstat.tables.output import no_more_output

    try:
        yield
    except BrokenPipeError:
        no_more_output()
        raise typer.Exit(128 + signal.SIGPIPE) from None


def print_tables(tables: Sequence[Table], output_format: str, registry: Registry) -> None:
    from sharkstat.tables.output import Output

    if output_format == "table":
        exporter: Any = readable(sys.stdout.isatty())
    else:
        exporter = exporter_of(output_format, registry, raw=False)
    say_warnings(registry)
    with terminated_by_reader():
        Output("").write(tables, exporter)
