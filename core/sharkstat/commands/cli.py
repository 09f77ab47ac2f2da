"""The command line: it reads options, calls the library and prints. Nothing imports it."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer
from typer.core import TyperGroup

from sharkstat.commands.completing import complete_statistic, completed_by
from sharkstat.commands.console import execute, load_registry, print_tables, say, terminated_by_reader
from sharkstat.commands.diff import add_to as add_diff
from sharkstat.commands.options import (
    NoPluginsOption,
    PluginOption,
    Running,
    Watched,
    make_running,
    make_source,
    make_watched,
    with_options,
)
from sharkstat.commands.taps import taps_app
from sharkstat.errors import (
    EXIT_INTERRUPTED,
    OutputError,
    RequestError,
    SharkstatError,
    TsharkError,
)
from sharkstat.running.interruption import SIGNALS, Interrupted, interrupt

if TYPE_CHECKING:
    from sharkstat.running.source import Source

_FIRST = ("overview", "diff", "run", "group", "list", "show")


class Commands(TyperGroup):
    """The commands in the order in which they are wanted: the two that answer a question first."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = super().list_commands(ctx)
        return [name for name in _FIRST if name in names] + [name for name in names if name not in _FIRST]


app = typer.Typer(
    cls=Commands,
    add_completion=True,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="What is this traffic made of, and why did it change? Statistics of captures and live traffic, as tables.",
)

# The base class of all usage errors; typer does not export it.
WRONG_USE = cast("type[typer.BadParameter]", typer.BadParameter.__bases__[0])


@app.command()
@with_options(source=make_source, running=make_running, watched=make_watched)
def run(
    *,
    statistics: Annotated[
        list[str] | None,
        typer.Option(
            "-z",
            "--statistic",
            metavar="NAME[,ARGUMENTS]",
            autocompletion=completed_by(complete_statistic),
            help="A statistic to count, e.g. conv,tcp; repeatable.",
        ),
    ] = None,
    every: Annotated[
        str,
        typer.Option("--every", metavar="TIME", help="Write results for each period, e.g. 1h, to the folder --output."),
    ] = "",
    keep: Annotated[
        str, typer.Option("--keep", metavar="TIME", help="With --every: delete results older than this, e.g. 90d.")
    ] = "",
    metrics: Annotated[
        str, typer.Option("--metrics", metavar="ADDRESS", help="Serve the results to Prometheus, at 127.0.0.1:9464.")
    ] = "",
    source: Source,
    running: Running,
    watched: Watched,
) -> None:
    """Count statistics of capture files, standard input or live traffic, in one pass.

    sharkstat run cap.pcapng -z io,stat,10,tcp,udp -z conv,tcp -z http_req,tree

    sharkstat run -i eth0 -f 'dst host 172.17.0.9' -a duration:60 -z conv,tcp

    ssh host dumpcap -w - | sharkstat run - -z conv,ip --format json

    sharkstat run -i eth0 -z traffic -z services --every 1h --output /var/lib/sharkstat --keep 90d

    sharkstat run -i eth0 -z services --metrics 127.0.0.1:9464 --top 100
    """
    if running.cluster and (metrics or every or keep):
        raise RequestError("--cluster reads files: leave out --metrics, --every and --keep")
    if metrics:
        from sharkstat.commands.metrics import execute_metrics

        if every or keep:
            raise RequestError("--metrics and --every exclude each other: use two runs")
        if watched.every is not None:
            raise RequestError("--metrics and --watch exclude each other: use two runs")
        execute_metrics(source, running, statistics or [], metrics)
    elif every or keep:
        from sharkstat.commands.periods import execute_periods

        if watched.every is not None:
            raise RequestError("--every and --watch exclude each other: use two runs")
        execute_periods(source, running, statistics or [], every, keep)
    else:
        execute(source, running, statistics or [], watched)


@app.command()
@with_options(source=make_source, running=make_running, watched=make_watched)
def overview(
    *,
    source: Source,
    running: Running,
    watched: Watched,
) -> None:
    """Show a capture at a glance: services, hosts, requests, and problems.

    sharkstat overview cap.pcapng

    sharkstat cap.pcapng

    sharkstat overview -i eth0 -a duration:60

    sharkstat overview before.pcapng --format json
    """
    from sharkstat.commands.overview import show

    show(source, running, watched)


def _complete_key(incomplete: str) -> list[str]:
    """The fields and functions that a key may go on with."""
    from sharkstat.statistics.functions import FUNCTIONS

    start = max(incomplete.rfind("("), incomplete.rfind(" "), incomplete.rfind(",")) + 1
    before, word = incomplete[:start], incomplete[start:]
    names = [f"{name}(" for name in FUNCTIONS] + ([] if before else ["host", "conversation"])
    found = [name for name in names if name.startswith(word)]
    return [before + name for name in [*found, *(_complete_field(word) if word or not found else [])]]


def _complete_field(incomplete: str) -> list[str]:
    """The fields that start with this text, down to one level below what was typed."""
    from sharkstat.tshark.fields import completions
    from sharkstat.tshark.process import find_tshark

    try:
        return completions(find_tshark(), incomplete)
    except SharkstatError:
        return []


def field_option(flag: str, says: str) -> Any:
    return typer.Option(flag, metavar="FIELD", help=says, autocompletion=completed_by(_complete_field))


@app.command()
@with_options(source=make_source, running=make_running, watched=make_watched)
def group(
    *,
    by: Annotated[
        list[str] | None,
        typer.Option(
            "--by",
            metavar="KEY",
            help="Group by this field or expression (ip.src/24); repeatable (A/B: the first present; A:last, A:all).",
            autocompletion=_complete_key,
        ),
    ] = None,
    every: Annotated[str, typer.Option("--every", metavar="TIME", help="Group by time interval, e.g. 10s.")] = "",
    tree: Annotated[
        str,
        typer.Option(
            "--tree", metavar="A,B,...", help="Group into a tree of these fields (A:split. splits a value at dots)."
        ),
    ] = "",
    count: Annotated[bool, typer.Option("--count", help="Count packets (the default).")] = False,
    sums: Annotated[list[str] | None, field_option("--sum", "Sum this field; repeatable.")] = None,
    least: Annotated[list[str] | None, field_option("--min", "Smallest value of this field; repeatable.")] = None,
    largest: Annotated[list[str] | None, field_option("--max", "Largest value of this field; repeatable.")] = None,
    means: Annotated[list[str] | None, field_option("--mean", "Mean of this field; repeatable.")] = None,
    percentiles: Annotated[
        list[str] | None,
        field_option(
            "--percentile", "p50, p95 and p99 of this field, FIELD:90/99.9 for others; within 1 %; repeatable."
        ),
    ] = None,
    distinct: Annotated[
        list[str] | None, field_option("--distinct", "Number of distinct values of this field; repeatable.")
    ] = None,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            "--measure",
            metavar="TEXT",
            help='Any measure in the grammar of -z group, e.g. "count where tcp as segments", percent=A/B; repeatable.',
        ),
    ] = None,
    names: Annotated[
        bool, typer.Option("--names", help="Show the names of values, e.g. AAAA for 28 of dns.qry.type.")
    ] = False,
    seen: Annotated[bool, typer.Option("--seen", help="Times of the first and last packet.")] = False,
    source: Source,
    running: Running,
    watched: Watched,
) -> None:
    """Group packets by any fields, and count them or sum up other fields.

    sharkstat group cap.pcapng --by ip.src --by tls.handshake.extensions_server_name --count --sum frame.len -Y tls

    sharkstat group cap.pcapng --by ip.src/24 --by "second_level(dns.qry.name)" -Y dns

    sharkstat group cap.pcapng --every 10s --by tcp.dstport/udp.dstport --sum frame.len --top 20

    sharkstat group cap.pcapng --by dns.qry.name --mean dns.time --max dns.time --sort dns_time_max
    """
    from sharkstat.statistics.group import holds_several

    asked = [f"every={every}"] if every else []
    asked += [f"by={key}" for key in by or ()]
    asked += ["tree=" + tree.replace(",", "+")] if tree else []
    asked += ["names=yes"] if names else []
    asked += ["count"] if count else []
    of_fields = {
        "sum": sums,
        "min": least,
        "max": largest,
        "mean": means,
        "percentile": percentiles,
        "distinct": distinct,
    }
    for word, fields in of_fields.items():
        asked += [f"{word}={name}" for name in fields or ()]
    asked += [*(measures or ()), *(["seen"] if seen else [])]
    for text in asked:
        if holds_several(text):
            raise RequestError(f"{text}: one field per option; repeat the option for more")
    execute(source, running, [",".join(["group", *asked])], watched)


@app.command(name="list")
def list_statistics(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORD", help="Only statistics about this, e.g. sni or retransmissions."),
    ] = None,
    output_format: Annotated[
        str, typer.Option("--format", metavar="NAME", help="Output format, as for run.")
    ] = "table",
    plugin: PluginOption = None,
    no_plugins: NoPluginsOption = False,
) -> None:
    """List the available statistics, or search them.

    sharkstat list

    sharkstat list response times
    """
    from sharkstat.commands.listing import by_question, statistics_table
    from sharkstat.tshark.process import find_tshark

    registry = load_registry(plugin or [], no_plugins)
    tshark = ""
    try:
        tshark = f"tshark {find_tshark().check().version}"
    except TsharkError as problem:
        say(f"tshark's own statistics are not listed: {problem}")
    table = statistics_table(registry, tshark, " ".join(words or []))
    if words and not table.rows:
        raise RequestError(f"no statistic matches {' '.join(words)!r}: see `sharkstat list`")
    grouped = output_format == "table" and not words
    print_tables(by_question(table) if grouped else [table], output_format, registry)


@app.command()
def plugins(
    output_format: Annotated[
        str, typer.Option("--format", metavar="NAME", help="Output format, as for run.")
    ] = "table",
    plugin: PluginOption = None,
    no_plugins: NoPluginsOption = False,
) -> None:
    """List the plugins: origin, contents, load time, and why one failed to load."""
    from sharkstat.commands.listing import plugins_table
    from sharkstat.statistics.finding import plugin_folder

    registry = load_registry(plugin or [], no_plugins)
    print_tables([plugins_table(registry)], output_format, registry)
    say(f"your plugin folder is {plugin_folder()}")


@app.command()
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            autocompletion=completed_by(complete_statistic),
            help="A statistic, e.g. conv,tcp.",
        ),
    ],
    output_format: Annotated[
        str, typer.Option("--format", metavar="NAME", help="Output format, as for run.")
    ] = "table",
    plugin: PluginOption = None,
    no_plugins: NoPluginsOption = False,
) -> None:
    """Describe a statistic: what it counts, its parameters and its columns."""
    from sharkstat.commands.listing import columns_table, parameters_table

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
            print(f"Engines:  {', '.join(engine.name for engine in statistic.engines)}\n", flush=True)
    print_tables(shown, output_format, registry)


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the package, e.g. dns-slow.")],
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            metavar="KIND",
            help="declared (groups packets by fields), packets (counts in Python), tap (counts in Lua, in tshark) or "
            "exporter (an output format).",
        ),
    ] = "declared",
    statistic: Annotated[
        str,
        typer.Option(
            "--statistic",
            metavar="NAME",
            help="Name of the statistic, or of the format; default: made from NAME, e.g. dns,slow.",
        ),
    ] = "",
    folder: Annotated[
        Path, typer.Option("--folder", metavar="DIR", help="Create the package in this folder.")
    ] = Path(),
) -> None:
    """Create a plugin package: a working statistic or output format, a small capture, and passing tests.

    sharkstat new dns-slow --kind packets
    """
    from sharkstat.commands import scaffold

    made = scaffold.make(name, kind, folder, statistic, load_registry([]))
    what = "format" if kind == "exporter" else "statistic"
    print(f"created {made.folder} with the {what} {made.statistic}: {', '.join(made.files)}", "next:", sep="\n")
    print(*(f"  {command}" for command in made.next_commands), sep="\n")


add_diff(app)
app.add_typer(taps_app, name="taps", help="Install the Lua taps for plain tshark and Wireshark.")


@app.command()
def doctor(
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Write what a bug report should say of this machine, in Markdown. User and host names, "
            "addresses, interfaces and paths in your home folder are left out.",
        ),
    ] = False,
) -> None:
    """Check that everything sharkstat needs is installed and works."""
    from sharkstat.commands.doctor import examine

    ill = False
    with terminated_by_reader():
        if report:
            from sharkstat.commands.bug_report import report as report_lines

            checks = list(examine())
            ill = any(check.mark == "FAIL" for check in checks)
            print("\n".join(report_lines(checks)), flush=True)
        else:
            for check in examine():
                ill = ill or check.mark == "FAIL"
                print(f"{check.mark:<4}  {check.name}: {check.text}", flush=True)
    if ill:
        raise typer.Exit(3)


def version(wanted: bool) -> None:
    if wanted:
        from sharkstat import __version__

        print(f"sharkstat {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What is this traffic made of, and why did it change? Statistics of captures and live traffic, as tables."""
    gc.freeze()
    gc.enable()  # it was off while the command was loaded (sharkstat_start)


def prepare_streams() -> None:
    """Make stdout UTF-8 (on a terminal of another encoding, replace what it cannot show); survive a closed stderr."""
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    if sys.stdout is None:
        raise OutputError("standard output is closed: redirect it, or give --output")
    if sys.stdout.isatty():
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    else:
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]


def leave_out_other_commands() -> None:
    """Once a command is named, drop the others: building their options takes as long as a short run."""
    named = sys.argv[1:2]
    if "_SHARKSTAT_COMPLETE" not in os.environ and named and _command():
        app.registered_commands = [command for command in app.registered_commands if _name(command) == named[0]]
        app.registered_groups = [group for group in app.registered_groups if group.name == named[0]]


def _name(command: Any) -> str:
    return str(command.name or getattr(command.callback, "__name__", ""))


def leave(status: int) -> NoReturn:
    """End the process without taking Python down module by module, which takes a tenth of a short run."""
    threading._shutdown()  # type: ignore[attr-defined] # as Python does: other threads, then what asked to be called
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """Entry point: errors become one line on stderr and an exit status (docs/exit-statuses.md)."""
    try:
        for number in SIGNALS:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, interrupt)
        sys.unraisablehook = _unless_interrupted
        prepare_streams()
        if _names_a_capture(sys.argv[1:2]):
            asks = any(word.startswith(("-z", "--statistic")) for word in sys.argv[1:])
            sys.argv.insert(1, "run" if asks else "overview")
        sys.argv[1:] = list(_watch_without_seconds(sys.argv[1:]))
        leave_out_other_commands()
        status = app(standalone_mode=False) or 0
        sys.stdout.flush()
        leave(status)
    except WRONG_USE as problem:
        said = problem.format_message()
        if "\n" in said:  # no command was given: this is the help
            print(said, file=sys.stderr)
        else:
            say(f"{said.rstrip('.')} (see `sharkstat {_command()}--help`)")
        sys.exit(RequestError.exit_status)
    except SharkstatError as problem:
        if "--debug" in sys.argv:
            import traceback

            traceback.print_exc()
        say(str(problem))
        sys.exit(problem.exit_status)
    except BrokenPipeError:
        _no_more_output()
        sys.exit(128 + signal.SIGPIPE)
    except OSError as problem:
        _no_more_output()
        where = problem.filename or "standard output"
        say(f"{os.fsdecode(where)}: {problem.strerror or problem}")
        sys.exit(OutputError.exit_status)
    except (Interrupted, KeyboardInterrupt, typer.Abort):
        say("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):  # click ends with 1 then
            _no_more_output()
            sys.exit(128 + signal.SIGPIPE)
        raise


def _unless_interrupted(unraisable: sys.UnraisableHookArgs) -> None:
    """A signal within a destructor is no error; the run is told of it all the same."""
    if unraisable.exc_type is not Interrupted:
        sys.__unraisablehook__(unraisable)


def _names_a_capture(words: list[str]) -> bool:
    """Whether the first argument is a capture file rather than a command."""
    commands = {*map(_name, app.registered_commands), *(group.name for group in app.registered_groups)}
    return any(
        word in ("-", "-r")
        or (word not in commands and not word.startswith("-") and ("." in word or Path(word).exists()))
        for word in words
    )


def _watch_without_seconds(words: list[str]) -> Iterator[str]:
    """click has no option whose value may be missing: --watch alone is every second."""
    for word, following in zip(words, [*words[1:], ""], strict=False):
        yield "--watch=1" if word == "--watch" and not following.replace(".", "", 1).isdigit() else word


def _no_more_output() -> None:
    from sharkstat.tables.output import no_more_output

    no_more_output()


def _command() -> str:
    """The command that was given, with a trailing space."""
    if sys.argv[1:2] == ["taps"]:
        return "".join(f"{word} " for word in sys.argv[1:3] if not word.startswith("-"))
    names = [_name(command) for command in app.registered_commands]
    return next((f"{word} " for word in sys.argv[1:2] if word in names), "")


if __name__ == "__main__":
    main()
