"""The command line. It reads options, asks the library, and prints; nothing imports it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from sharkstat.errors import (
    EXIT_INCOMPLETE,
    EXIT_INTERRUPTED,
    OutputError,
    RequestError,
    SharkstatError,
    SourceError,
    StatisticError,
    TsharkError,
)
from sharkstat.options import NoPluginsOption, PluginOption, Running, make_running, make_source, with_options

if TYPE_CHECKING:
    from sharkstat.plan import Plan
    from sharkstat.registry import Registry
    from sharkstat.selection import Selection
    from sharkstat.source import Source
    from sharkstat.table import Table

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="What is this traffic made of, and why did it change? Statistics of captures and live traffic, as tables.",
)

# The base of all that is wrong with options and arguments; typer does not export it.
WRONG_USE = cast("type[typer.BadParameter]", typer.BadParameter.__bases__[0])


def say(text: str) -> None:
    """A line on stderr; results alone go to stdout."""
    from sharkstat.view import safe

    print(f"sharkstat: {safe(text)}", file=sys.stderr, flush=True)


@app.command()
@with_options(source=make_source, running=make_running)
def run(
    *,
    statistics: Annotated[
        list[str] | None,
        typer.Option("-z", "--statistic", metavar="NAME[,ARGUMENTS]", help="A statistic; repeat for more."),
    ] = None,
    source: Source,
    running: Running,
) -> None:
    """Count statistics over files, standard input or live interfaces, all in one pass.

    sharkstat run cap.pcapng -z io,stat,10,tcp,udp -z conv,tcp -z http_req,tree

    sharkstat run -i eth0 -f 'dst host 172.17.0.9' -a duration:60 -z conv,tcp

    ssh host dumpcap -w - | sharkstat run - -z conv,ip --format json
    """
    execute(source, running, statistics or [])


def _complete_field(incomplete: str) -> list[str]:
    """The fields that begin so, as many levels as were typed and one more."""
    from sharkstat.fields import completions
    from sharkstat.tshark import find_tshark

    try:
        return completions(find_tshark(), incomplete)
    except SharkstatError:
        return []


def field_option(flag: str, says: str) -> Any:
    return typer.Option(flag, metavar="FIELD", help=says, autocompletion=_complete_field)


@app.command()
@with_options(source=make_source, running=make_running)
def group(
    *,
    by: Annotated[
        list[str] | None,
        field_option("--by", "Rows by the value of this field (A/B: of the first there is; A:last, A:all); repeat."),
    ] = None,
    every: Annotated[str, typer.Option("--every", metavar="TIME", help="Rows by intervals of time, as 10s.")] = "",
    tree: Annotated[
        str, typer.Option("--tree", metavar="A,B,...", help="Rows by a path of fields (A:split. splits one).")
    ] = "",
    count: Annotated[bool, typer.Option("--count", help="Count packets, as where nothing else is asked.")] = False,
    sums: Annotated[list[str] | None, field_option("--sum", "The sum of this field; repeat for more.")] = None,
    least: Annotated[list[str] | None, field_option("--min", "The least value of this field.")] = None,
    largest: Annotated[list[str] | None, field_option("--max", "The largest value of this field.")] = None,
    means: Annotated[list[str] | None, field_option("--mean", "The mean of this field.")] = None,
    distinct: Annotated[list[str] | None, field_option("--distinct", "How many values this field has.")] = None,
    seen: Annotated[bool, typer.Option("--seen", help="When the first and last packet came.")] = False,
    source: Source,
    running: Running,
) -> None:
    """Group packets by any fields, and count, sum, or compare others.

    sharkstat group cap.pcapng --by ip.src --by tls.handshake.extensions_server_name --count --sum frame.len -Y tls

    sharkstat group cap.pcapng --every 10s --by tcp.dstport/udp.dstport --sum frame.len --top 20

    sharkstat group cap.pcapng --by dns.qry.name --mean dns.time --max dns.time --sort dns_time_max
    """
    asked = [f"every={every}"] if every else []
    asked += [f"by={key}" for key in by or ()]
    asked += ["tree=" + tree.replace(",", "+")] if tree else []
    asked += ["count"] if count else []
    for word, fields in {"sum": sums, "min": least, "max": largest, "mean": means, "distinct": distinct}.items():
        asked += [f"{word}={name}" for name in fields or ()]
    asked += ["seen"] if seen else []
    if not (by or every or tree):
        raise RequestError("what by? Give --by FIELD, --every TIME or --tree FIELD,FIELD")
    for text in asked:
        if "," in text:
            raise RequestError(f"{text}: give an option once for each field")
    execute(source, running, [",".join(["group", *asked])])


def execute(source: Source, running: Running, statistics: Sequence[str]) -> None:
    """Run the statistics and show what they gave."""
    from sharkstat import export
    from sharkstat.plan import make_plan
    from sharkstat.view import safe

    registry = load_registry(running.plugins, running.no_plugins)
    output_format, output, per_file = running.output_format, running.output, running.per_file
    exporter = None if output_format == "table" else export.find(output_format, registry.exporters)
    chosen = running.selection
    export.check_output(output)
    sources = [replace(source, files=(name,)) for name in source.files] if per_file else [source]
    plans = [make_plan(source, statistics, running.engine, registry) for source in sources]
    remarks = dict.fromkeys(remark for plan in plans for request in plan.requests for remark in plan.remarks(request))
    for remark in remarks:
        say(remark)  # before the run, since it tells why that takes long
    tables, failures = counted(plans, chosen)
    if exporter is None:
        to_terminal = sys.stdout.isatty() and output in ("", "-")
        exporter = readable(shutil.get_terminal_size().columns if to_terminal else None, per_file)
    with terminated_by_reader():
        export.write(tables, exporter, output, export.ENDINGS.get(output_format, "txt"))
    for name, counts in {t.reading.sources: t.reading for t in tables}.items():
        if source.live:
            dropped = "an unknown number" if counts.dropped is None else f"{counts.dropped:,}"
            say(f"{', '.join(name)}: {counts.captured or counts.packets:,} packets captured, {dropped} dropped")
    for warning in dict.fromkeys(w for t in tables for w in t.warnings if w not in remarks):
        say(safe(warning))
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


def counted(plans: Sequence[Plan], chosen: Selection) -> tuple[list[Table], list[SharkstatError]]:
    """The tables of all sources; what failed, a statistic or one source of several, beside those that did not."""
    from sharkstat.runner import run_plan
    from sharkstat.tshark import find_tshark

    tables: list[Table] = []
    failures: list[SharkstatError] = []
    for plan in plans:
        for request in plan.requests:
            if request.columns:  # or else tshark's text has them
                chosen.check(request.statistic.name, request.columns)
    with progress_bar() as progress:
        for plan in plans:
            try:
                tables += run_plan(plan, find_tshark(), progress)
            except (SourceError, StatisticError) as problem:
                tables += getattr(problem, "tables", [])
                failures.append(problem)
            except KeyboardInterrupt:
                say("interrupted before there were results")
                raise typer.Exit(EXIT_INTERRUPTED) from None
            if interrupted(tables):
                break
    shown = []
    for table in tables:
        try:  # tshark's text may have other columns than were promised: it is shown whole then, and the error told
            chosen.check(table.name, table.columns)
            shown.append(chosen.apply(table))
        except RequestError as problem:
            shown.append(table)
            failures.append(problem)
    return shown, failures


def interrupted(tables: Sequence[Table]) -> bool:
    return any(warning.startswith("interrupted") for table in tables for warning in table.warnings)


def load_registry(files: Sequence[Path], only_built_in: bool = False) -> Registry:
    from sharkstat.registry import Registry

    if files and only_built_in:
        raise RequestError("--plugin and --no-plugins contradict each other: leave out one")
    for path in files:
        if not path.is_file():
            raise RequestError(f"--plugin {path}: no such file")
    registry = Registry.default(files, only_built_in=only_built_in)
    for warning in registry.warnings:
        say(warning)
    return registry


def readable(width: int | None, name_sources: bool) -> Callable[[Sequence[Table]], Iterator[str]]:
    """The exporter of the default format, for a terminal of that width."""
    from sharkstat import view

    def left_out(request: str) -> Callable[[list[str]], None]:
        return lambda names: say(f"{request}: no room for {', '.join(names)} (--columns chooses; a pipe shows all)")

    def export(tables: Sequence[Table]) -> Iterator[str]:
        for number, table in enumerate(tables):
            gap = "\n" if number else ""
            if name_sources:
                gap += f"{view.safe(', '.join(table.reading.sources))}: "
            yield f"{gap}{view.text(table, width=width, on_left_out=left_out(table.request))}\n"

    return export


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal, from the bytes read; nothing where stderr is not one."""
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
    """`| head` ends the output without a word, with the status that a shell expects."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(128 + signal.SIGPIPE) from None


@app.command(name="list")
def list_statistics(
    output_format: Annotated[str, typer.Option("--format", metavar="NAME", help="As for run.")] = "table",
    plugin: PluginOption = None,
    no_plugins: NoPluginsOption = False,
) -> None:
    """List the statistics that can be asked for."""
    from sharkstat.listing import statistics_table
    from sharkstat.tshark import find_tshark

    registry = load_registry(plugin or [], no_plugins)
    tshark = ""
    try:
        tshark = f"tshark {find_tshark().check().version}"
    except TsharkError as problem:
        say(f"without tshark's own statistics: {problem}")
    print_tables([statistics_table(registry, tshark)], output_format, registry)


@app.command()
def plugins(
    output_format: Annotated[str, typer.Option("--format", metavar="NAME", help="As for run.")] = "table",
    plugin: PluginOption = None,
    no_plugins: NoPluginsOption = False,
) -> None:
    """Say for each plugin where it comes from, what it gives, and why it did not load."""
    from sharkstat.listing import plugins_table
    from sharkstat.registry import plugin_folder

    registry = load_registry(plugin or [], no_plugins)
    print_tables([plugins_table(registry)], output_format, registry)
    say(f"your plugin folder is {plugin_folder()}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A statistic, as conv,tcp.")],
    output_format: Annotated[str, typer.Option("--format", metavar="NAME", help="As for run.")] = "table",
    plugin: PluginOption = None,
    no_plugins: NoPluginsOption = False,
) -> None:
    """Describe one statistic: what it counts, its parameters, and its columns."""
    from sharkstat.listing import columns_table, parameters_table

    registry = load_registry(plugin or [], no_plugins)
    statistic, arguments = registry.find(name)
    shown = [parameters_table(statistic)] if statistic.parameters else []
    shown.append(columns_table(statistic, arguments, name))
    if output_format == "table":
        with terminated_by_reader():
            print(f"{statistic.name}: {statistic.title}\n")
            import textwrap

            print(textwrap.fill(str(statistic.description), min(100, shutil.get_terminal_size().columns)))
            print(f"\nUsage:    -z '{statistic.usage}'")
            print(f"Engines:  {', '.join(statistic.engines)}\n", flush=True)
    print_tables(shown, output_format, registry)


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the package is called, as dns-slow.")],
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="declared (fields to group by), packets (counted in Python) or tap (counted in Lua, inside tshark).",
        ),
    ] = "declared",
    statistic: Annotated[
        str,
        typer.Option("--statistic", metavar="NAME", help="What is asked for with -z; by default of NAME, as dns,slow."),
    ] = "",
    folder: Annotated[Path, typer.Option("--folder", metavar="DIR", help="Where the package is made.")] = Path(),
) -> None:
    """Make a package with a statistic of your own: code, a small capture, tests that pass, and how to publish it.

    sharkstat new dns-slow --kind packets
    """
    from sharkstat import scaffold

    made = scaffold.make(name, kind, folder, statistic, load_registry([]))
    print(f"made {made.folder}, with the statistic {made.statistic}: {', '.join(made.files)}", "next:", sep="\n")
    print(*(f"  {command}" for command in made.next_commands), sep="\n")


taps_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(taps_app, name="taps", help="The taps in plain tshark and in Wireshark: list, install, uninstall.")
UserOption = Annotated[bool, typer.Option("--user", help="For this user (the default).")]
SystemOption = Annotated[bool, typer.Option("--system", help="For all users; that takes root.")]


def place_of(user: bool, system: bool) -> Any:
    if user and system:
        raise RequestError("--user and --system contradict each other: leave out one")
    return "system" if system else "user"


@taps_app.command(name="list")
def taps_list(
    output_format: Annotated[str, typer.Option("--format", metavar="NAME", help="As for run.")] = "table",
    plugin: PluginOption = None,
    no_plugins: NoPluginsOption = False,
) -> None:
    """List the taps: their names in plain tshark, their files, and where they are installed."""
    from sharkstat.listing import taps_table
    from sharkstat.taps import installations
    from sharkstat.tshark import find_tshark

    registry = load_registry(plugin or [], no_plugins)
    print_tables([taps_table(registry, installations(find_tshark()))], output_format, registry)


@taps_app.command(name="path")
def taps_path() -> None:
    """Print the folder of the Lua files, for LUA_PATH and -X lua_script."""
    from sharkstat.taps import lua_folder

    print(lua_folder())


@taps_app.command(name="install")
def taps_install(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="Taps of your own, beside the built-in ones.")
    ] = None,
    user: UserOption = False,
    system: SystemOption = False,
) -> None:
    """Copy the taps into Wireshark's plugin folder: plain tshark and Wireshark have them then, without Python.

    sharkstat taps install

    tshark -q -z sharkstat,conv,tcp -r cap.pcapng
    """
    from sharkstat import taps
    from sharkstat.tshark import find_tshark

    place = place_of(user, system)
    taps.check_own(files or [])
    tshark = find_tshark()
    tshark.check()
    report = taps.Installation(taps.plugin_folder(tshark, place)).install(taps.shipped(), files or [])
    print(taps.summary(report))
    for line in taps.kept(report):
        say(line)
    statistics = load_registry(files or [], False).statistics.values()
    present = {*report.written, *report.replaced, *report.there}
    names = [taps.z_name(s) for s in statistics if s.tap is not None and s.tap.name in present]
    missing, why = taps.names_in(tshark, names)
    if missing:
        say(f"tshark -z help does not list {', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}: {why}")
    if report.foreign:
        raise OutputError(f"not installed: {', '.join(report.foreign)} (files of others are in their place)")


@taps_app.command(name="uninstall")
def taps_uninstall(user: UserOption = False, system: SystemOption = False) -> None:
    """Remove what `taps install` wrote, and nothing else."""
    from sharkstat import taps
    from sharkstat.tshark import find_tshark

    report = taps.Installation(taps.plugin_folder(find_tshark(), place_of(user, system))).uninstall()
    print(taps.summary(report))
    for line in taps.kept(report):
        say(line)


@app.command()
def doctor() -> None:
    """Check that everything sharkstat needs is there and works."""
    from sharkstat.doctor import examine

    ill = False
    with terminated_by_reader():
        for check in examine():
            ill = ill or check.mark == "FAIL"
            print(f"{check.mark:<4}  {check.name}: {check.text}", flush=True)
    if ill:
        raise typer.Exit(3)


def print_tables(tables: Sequence[Table], output_format: str, registry: Registry) -> None:
    from sharkstat import export

    if output_format == "table":
        exporter: Any = readable(shutil.get_terminal_size().columns if sys.stdout.isatty() else None, False)
    else:
        exporter = export.find(output_format, registry.exporters)
    with terminated_by_reader():
        export.write(tables, exporter, "", "")


def version(wanted: bool) -> None:
    if wanted:
        from sharkstat import __version__

        print(f"sharkstat {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """What is this traffic made of, and why did it change? Statistics of captures and live traffic, as tables."""


def prepare_streams() -> None:
    """Results are UTF-8, on a terminal of another encoding as good as it can; a closed stderr takes nothing."""
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    if sys.stdout is None:
        raise OutputError("standard output is closed: send the results somewhere, or name a place with --output")
    if sys.stdout.isatty():
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    else:
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]


def main() -> None:
    """The program's entry: errors become one line on stderr and an exit status (docs/exit-statuses.md)."""
    try:
        prepare_streams()
        sys.exit(app(standalone_mode=False) or 0)
    except WRONG_USE as problem:
        said = problem.format_message()
        if "\n" in said:  # no command at all: the help
            print(said, file=sys.stderr)
        else:
            say(f"{said.rstrip('.')} (`sharkstat {_command()}--help` has the options)")
        sys.exit(RequestError.exit_status)
    except SharkstatError as problem:
        if "--debug" in sys.argv:
            import traceback

            traceback.print_exc()
        say(str(problem))
        sys.exit(problem.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted")
        sys.exit(EXIT_INTERRUPTED)


def _command() -> str:
    """The command that was given, and a space."""
    if sys.argv[1:2] == ["taps"]:
        return "".join(f"{word} " for word in sys.argv[1:3] if not word.startswith("-"))
    names = [command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands]
    return next((f"{word} " for word in sys.argv[1:2] if word in names), "")


if __name__ == "__main__":
    main()
