"""The options that commands share: what to read, and how to show the results.

A group of options is a function whose parameters are the options and whose result is one object. A command
takes the group as one of its parameters:

    @app.command()
    @with_options(source=make_source, running=make_running)
    def run(source: Source, running: Running) -> None: ...
"""

import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharkstat.commands.completing import (
    complete_column,
    complete_engine,
    complete_format,
    complete_interface,
    completed_by,
)
from sharkstat.errors import RequestError

if TYPE_CHECKING:
    from sharkstat.running.source import Source
    from sharkstat.tables.selection import Selection

PluginOption = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE", help="Also load a plugin from this file (Python or a Lua tap)."),
]
NoPluginsOption = Annotated[
    bool, typer.Option("--no-plugins", help="Load only the built-in statistics (also SHARKSTAT_NO_PLUGINS=1).")
]


def make_source(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILE", help="Capture files, or - for standard input.")
    ] = None,
    read: Annotated[
        list[str] | None, typer.Option("-r", metavar="FILE", help="The same as FILE, as in tshark; repeatable.")
    ] = None,
    display_filter: Annotated[
        str, typer.Option("-Y", metavar="FILTER", help="Count only packets that match this display filter.")
    ] = "",
    interfaces: Annotated[
        list[str] | None,
        typer.Option(
            "-i",
            metavar="INTERFACE",
            autocompletion=completed_by(complete_interface),
            help="Capture on this interface; repeatable.",
        ),
    ] = None,
    capture_filter: Annotated[str, typer.Option("-f", metavar="FILTER", help="Capture filter (with -i).")] = "",
    autostop: Annotated[
        list[str] | None,
        typer.Option("-a", metavar="CONDITION", help="When to stop capturing, e.g. duration:60 (with -i)."),
    ] = None,
    write: Annotated[
        str, typer.Option("-w", metavar="FILE", help="Also write the captured packets to this file (with -i).")
    ] = "",
    ring: Annotated[
        list[str] | None,
        typer.Option(
            "-b", metavar="CONDITION", help="Ring buffer for -w: filesize:KB, duration:SECONDS, files:N; repeatable."
        ),
    ] = None,
    buffer_size: Annotated[
        int | None, typer.Option("-B", metavar="MIB", help="Capture buffer size (with -i; default: 32).")
    ] = None,
    link_type: Annotated[str, typer.Option("-y", metavar="TYPE", help="Link-layer header type (with -i).")] = "",
    time_stamp_type: Annotated[
        str, typer.Option("--time-stamp-type", metavar="TYPE", help="Timestamp type, e.g. adapter (with -i).")
    ] = "",
    monitor: Annotated[bool, typer.Option("-I", help="Capture in monitor mode (with -i).")] = False,
    max_drop: Annotated[
        float,
        typer.Option("--max-drop", metavar="PERCENT", help="Results are incomplete if more packets were dropped."),
    ] = 1.0,
    packets: Annotated[int | None, typer.Option("-c", metavar="COUNT", help="Stop after COUNT packets.")] = None,
    snaplen: Annotated[int | None, typer.Option("-s", metavar="BYTES", help="Snapshot length (with -i).")] = None,
    no_promiscuous: Annotated[bool, typer.Option("-p", help="Don't capture in promiscuous mode (with -i).")] = False,
    no_names: Annotated[bool, typer.Option("-n", help="Disable name resolution (the default).")] = False,
    resolve: Annotated[
        str, typer.Option("-N", metavar="LETTERS", help="Enable name resolution, with tshark's flags, e.g. mn.")
    ] = "",
    hosts: Annotated[str, typer.Option("-H", metavar="FILE", help="Show names from this hosts file.")] = "",
    decode_as: Annotated[
        list[str] | None,
        typer.Option(
            "-d", metavar="LAYER==VALUE,PROTOCOL", help="Decode a port or other value as a protocol; repeatable."
        ),
    ] = None,
    preferences: Annotated[
        list[str] | None,
        typer.Option("-o", metavar="NAME:VALUE", help="Set a tshark preference; repeatable."),
    ] = None,
    two_pass: Annotated[bool, typer.Option("-2", help="Perform a two-pass analysis.")] = False,
    read_filter: Annotated[str, typer.Option("-R", metavar="FILTER", help="Read filter (requires -2).")] = "",
    profile: Annotated[
        str, typer.Option("-C", metavar="PROFILE", help="Use this Wireshark configuration profile.")
    ] = "",
    heuristics: Annotated[
        list[str] | None,
        typer.Option("--enable-heuristic", metavar="NAME", help="Enable this heuristic dissector; repeatable."),
    ] = None,
    reorder: Annotated[bool, typer.Option("--reorder", help="Sort packets by time before counting.")] = False,
    dedup: Annotated[
        bool, typer.Option("--dedup", help="Ignore packets captured twice (mirror port, -i any).")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", help="Stop reading after SECONDS and show what was counted."),
    ] = None,
    max_memory: Annotated[
        str,
        typer.Option(
            "--max-memory",
            metavar="SIZE",
            help="Stop reading when half of SIZE (e.g. 4G) is used; default: 3/4 of what is free, 0: no limit.",
        ),
    ] = "",
    process: Annotated[
        bool, typer.Option("--process", help="Name the process of this host behind each connection (with -i).")
    ] = False,
    keylog: Annotated[str, typer.Option("--keylog", metavar="FILE", help="Decrypt TLS with this key log file.")] = "",
) -> "Source":
    """The source that the options describe."""
    from sharkstat.running.memory import size_of
    from sharkstat.running.source import Source

    if no_names and (resolve or hosts):
        raise RequestError(f"-n and {'-N' if resolve else '-H'} exclude each other: give only one")
    return Source(
        files=(*(files or ()), *(read or ())),
        interfaces=tuple(interfaces or ()),
        capture_filter=capture_filter,
        autostop=tuple(autostop or ()),
        snaplen=snaplen,
        promiscuous=not no_promiscuous,
        packets=packets,
        display_filter=display_filter,
        read_filter=read_filter,
        two_pass=two_pass,
        resolve=resolve,
        hosts=hosts,
        decode_as=tuple(decode_as or ()),
        preferences=tuple(preferences or ()),
        profile=profile,
        timeout=timeout,
        max_memory=size_of(max_memory) if max_memory else None,
        process=process,
        keylog=keylog,
        heuristics=tuple(heuristics or ()),
        dedup=dedup,
        reorder=reorder,
        write=write,
        ring=tuple(ring or ()),
        buffer_size=buffer_size,
        link_type=link_type,
        time_stamp_type=time_stamp_type,
        monitor=monitor,
        max_drop=max_drop,
    )


@dataclass(frozen=True)
class Running:
    """How to run the statistics, and how to show their results."""

    engine: str
    jobs: int | None
    cluster: str
    per_file: bool
    output_format: str
    selection: "Selection"
    output: str
    force: bool
    raw: bool
    plot: bool
    plugins: Sequence[Path]
    no_plugins: bool
    debug: bool


def make_running(
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            metavar="NAME",
            autocompletion=completed_by(complete_engine),
            help="lua (a tap in tshark), packets (Python), tshark (its own -z) or headers (fast, L2-L4 alone); "
            "default: the first available.",
        ),
    ] = "",
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            metavar="N",
            help="Run at most N tshark processes (default: one per processor for large files).",
        ),
    ] = None,
    cluster: Annotated[
        str,
        typer.Option(
            "--cluster",
            metavar="ADDRESS",
            help="Count on the workers of this Dask scheduler, e.g. tcp://scheduler:8786; they must see the files.",
        ),
    ] = "",
    per_file: Annotated[
        bool, typer.Option("--per-file", help="Count each file separately: one table, with a column for the file.")
    ] = False,
    output_format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            autocompletion=completed_by(complete_format),
            help="table (default), json, jsonl, csv, tsv, markdown or a tabulate format; or by the suffix of --output.",
        ),
    ] = "",
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            metavar="COLUMN",
            autocompletion=completed_by(complete_column),
            help="Sort by this column, largest first (COLUMN:asc: smallest first).",
        ),
    ] = "",
    top: Annotated[
        int | None,
        typer.Option(
            "--top",
            metavar="N",
            help="Show only the first N rows (in a tree, of each level; time intervals are all shown).",
        ),
    ] = None,
    columns: Annotated[
        str,
        typer.Option(
            "--columns",
            metavar="A,B,...",
            autocompletion=completed_by(complete_column),
            help="Show only these columns, in this order.",
        ),
    ] = "",
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw tables on the terminal: over time, or bars of the largest rows.")
    ] = False,
    share: Annotated[
        bool, typer.Option("--share", help="Add each sum's percentage of the total, also in exports.")
    ] = False,
    output: Annotated[
        str,
        typer.Option("--output", metavar="PATH", help="Write to this file, or one file per table into this folder."),
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Let --output and -w overwrite existing files.")] = False,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="In CSV and TSV, don't escape text that a spreadsheet would run as a formula."),
    ] = False,
    plugin: PluginOption = None,
    no_plugins: NoPluginsOption = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> Running:
    """How to run the statistics, and how to show their results."""
    from sharkstat.tables.selection import Selection

    if cluster and jobs is not None:
        raise RequestError("--jobs and --cluster exclude each other: the workers have their own number of threads")
    chosen = Selection(sort=sort, top=top, columns=columns, share="every" if share else "")
    return Running(
        engine,
        jobs,
        cluster,
        per_file,
        output_format,
        chosen,
        output,
        force,
        raw,
        plot,
        plugin or (),
        no_plugins,
        debug,
    )


@dataclass(frozen=True)
class Watched:
    """How often results are shown while they are counted, in seconds; None: at the end alone. With their rates?"""

    every: float | None
    rate: bool


def make_watched(
    watch: Annotated[
        float | None,
        typer.Option(
            "--watch",
            metavar="SECONDS",
            help="Show the results so far every SECONDS (with -i or a pipe).",
        ),
    ] = None,
    rate: Annotated[
        bool, typer.Option("--rate", help="With --watch: add each sum's rate since the last snapshot.")
    ] = False,
) -> Watched:
    """How often results are shown while they are counted."""
    if rate and watch is None:
        raise RequestError("--rate requires --watch: it shows the rates between two snapshots")
    return Watched(watch, rate)


class _Command:
    """A command whose groups are spread out to the options that they have.

    These are found out when they are asked for: of all commands, a start needs those of one.
    """

    def __init__(self, command: Callable[..., None], groups: Mapping[str, Callable[..., Any]]) -> None:
        self.__name__, self.__doc__, self.__module__ = command.__name__, command.__doc__, command.__module__
        self._command = command
        self._groups = groups

    def __call__(self, **given: Any) -> None:
        made = {
            name: make(**{option: given.pop(option) for option in inspect.signature(make).parameters})
            for name, make in self._groups.items()
        }
        self._command(**given, **made)

    @functools.cached_property
    def __signature__(self) -> inspect.Signature:
        parameters: list[inspect.Parameter] = []
        for name, parameter in inspect.signature(self._command).parameters.items():
            function = self._groups.get(name, self._command)
            options = inspect.signature(function).parameters.values() if name in self._groups else [parameter]
            parameters += [option.replace(annotation=_hints(function)[option.name]) for option in options]
        return inspect.Signature([p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters])

    @property
    def __annotations__(self) -> dict[str, Any]:  # type: ignore[override]
        return {name: parameter.annotation for name, parameter in self.__signature__.parameters.items()}


def with_options(**groups: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that replaces each named parameter by the options of its group."""
    return lambda command: _Command(command, groups)


@functools.cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    # Names that only type checkers import annotate groups, never options.
    unread = dict.fromkeys(("Source", "Running", "Selection", "Watched"), object)
    return typing.get_type_hints(function, localns=unread, include_extras=True)
