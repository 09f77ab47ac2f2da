"""The options that commands share, said once: what is read, and how results are shown.

A group of options is a function whose parameters are options, and which makes of them what commands work with. A
command takes the group as one of its parameters:

    @app.command()
    @with_options(source=make_source, running=make_running)
    def run(source: Source, running: Running) -> None: ...
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharkstat.errors import RequestError

if TYPE_CHECKING:
    from sharkstat.running.source import Source
    from sharkstat.tables.selection import Selection

PluginOption = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE", help="Load a plugin from this file, too: Python, or a tap's Lua."),
]
NoPluginsOption = Annotated[
    bool, typer.Option("--no-plugins", help="Load the built-in statistics only (also: SHARKSTAT_NO_PLUGINS=1).")
]


def make_source(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="FILE", help="Capture files, or - for standard input.")
    ] = None,
    display_filter: Annotated[
        str, typer.Option("-Y", metavar="FILTER", help="Only packets that match this display filter.")
    ] = "",
    interfaces: Annotated[
        list[str] | None, typer.Option("-i", metavar="INTERFACE", help="Capture live; repeat for more.")
    ] = None,
    capture_filter: Annotated[str, typer.Option("-f", metavar="FILTER", help="Capture filter, for -i.")] = "",
    autostop: Annotated[
        list[str] | None,
        typer.Option("-a", metavar="CONDITION", help="Stop condition for -i, as duration:60."),
    ] = None,
    write: Annotated[str, typer.Option("-w", metavar="FILE", help="Keep the packets in this file, too, for -i.")] = "",
    ring: Annotated[
        list[str] | None,
        typer.Option("-b", metavar="CONDITION", help="Change -w's file, as filesize:100000; files:5 keeps five."),
    ] = None,
    buffer_size: Annotated[
        int | None, typer.Option("-B", metavar="MIB", help="The kernel's buffer, for -i (32 by default).")
    ] = None,
    link_type: Annotated[str, typer.Option("-y", metavar="TYPE", help="Link type, for -i.")] = "",
    time_stamp_type: Annotated[
        str, typer.Option("--time-stamp-type", metavar="TYPE", help="Where times come from, for -i, as adapter.")
    ] = "",
    monitor: Annotated[bool, typer.Option("-I", help="In monitor mode, for -i.")] = False,
    max_drop: Annotated[
        float,
        typer.Option("--max-drop", metavar="PERCENT", help="Results are incomplete if more packets were dropped."),
    ] = 1.0,
    packets: Annotated[int | None, typer.Option("-c", metavar="COUNT", help="Stop after so many packets.")] = None,
    snaplen: Annotated[int | None, typer.Option("-s", metavar="BYTES", help="Snapshot length, for -i.")] = None,
    no_promiscuous: Annotated[bool, typer.Option("-p", help="Not in promiscuous mode, for -i.")] = False,
    no_names: Annotated[bool, typer.Option("-n", help="No name resolution (the default).")] = False,
    resolve: Annotated[str, typer.Option("-N", metavar="LETTERS", help="Resolve names: tshark's letters, as mn.")] = "",
    decode_as: Annotated[
        list[str] | None,
        typer.Option("-d", metavar="LAYER==VALUE,PROTOCOL", help="Decode as; repeat for more."),
    ] = None,
    preferences: Annotated[
        list[str] | None,
        typer.Option("-o", metavar="NAME:VALUE", help="A preference of tshark's; repeat for more."),
    ] = None,
    two_pass: Annotated[bool, typer.Option("-2", help="Let tshark read the file twice.")] = False,
    read_filter: Annotated[str, typer.Option("-R", metavar="FILTER", help="Read filter, with -2.")] = "",
    profile: Annotated[str, typer.Option("-C", metavar="PROFILE", help="Your Wireshark profile of that name.")] = "",
    heuristics: Annotated[
        list[str] | None,
        typer.Option("--enable-heuristic", metavar="NAME", help="Let this heuristic dissector try; repeat for more."),
    ] = None,
    reorder: Annotated[
        bool, typer.Option("--reorder", help="Read the packets in time order, whatever their order in the capture.")
    ] = False,
    dedup: Annotated[
        bool, typer.Option("--dedup", help="Leave out packets that were captured once more (mirror port, -i any).")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", help="Count what was read after so long, and end."),
    ] = None,
    keylog: Annotated[str, typer.Option("--keylog", metavar="FILE", help="TLS key log, to decrypt with.")] = "",
) -> Source:
    """What is read."""
    from sharkstat.running.source import Source

    if no_names and resolve:
        raise RequestError("-n and -N contradict each other: leave out one")
    return Source(
        files=tuple(files or ()),
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
        decode_as=tuple(decode_as or ()),
        preferences=tuple(preferences or ()),
        profile=profile,
        timeout=timeout,
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
    """How a run goes, and how its results are shown."""

    engine: str
    jobs: int | None
    per_file: bool
    output_format: str
    selection: Selection
    output: str
    force: bool
    raw: bool
    plugins: Sequence[Path]
    no_plugins: bool
    debug: bool


def make_running(
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            metavar="NAME",
            help="lua (a tap inside tshark), packets (in Python) or tshark (its own); the first that there is.",
        ),
    ] = "",
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", metavar="N", help="At most N tsharks at one time; else one a processor for large files."
        ),
    ] = None,
    per_file: Annotated[bool, typer.Option("--per-file", help="Each file by itself, not all as one capture.")] = False,
    output_format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="table, json, jsonl, csv, tsv, markdown, or one of tabulate's; else what the suffix of --output says.",
        ),
    ] = "",
    sort: Annotated[
        str,
        typer.Option(
            "--sort", metavar="COLUMN", help="Largest first, in tables that have it; COLUMN:asc for smallest."
        ),
    ] = "",
    top: Annotated[
        int | None,
        typer.Option(
            "--top", metavar="N", help="Only the first N rows (of a tree: of each level; intervals of time stay)."
        ),
    ] = None,
    columns: Annotated[
        str, typer.Option("--columns", metavar="A,B,...", help="Only these columns, in this order.")
    ] = "",
    share: Annotated[
        bool, typer.Option("--share", help="Show the percentage of the total beside every sum, in exports too.")
    ] = False,
    output: Annotated[
        str, typer.Option("--output", metavar="PATH", help="A file, or a folder for one file a table.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Let --output replace files that are there.")] = False,
    raw: Annotated[
        bool,
        typer.Option(
            "--raw", help="In CSV and TSV, leave text as it is, even if a spreadsheet would run it as a formula."
        ),
    ] = False,
    plugin: PluginOption = None,
    no_plugins: NoPluginsOption = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> Running:
    """How a run goes, and how its results are shown."""
    from sharkstat.tables.selection import Selection

    chosen = Selection(sort=sort, top=top, columns=columns, share="every" if share else "")
    return Running(engine, jobs, per_file, output_format, chosen, output, force, raw, plugin or (), no_plugins, debug)


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
    """A decorator: each parameter of that name is replaced by the options that its group has."""
    return lambda command: _Command(command, groups)


@functools.cache
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    # What only type checkers import stands for groups, never for an option.
    unread = dict.fromkeys(("Source", "Running", "Selection"), object)
    return typing.get_type_hints(function, localns=unread, include_extras=True)
