"""`sharkstat taps`: the Lua taps in plain tshark and Wireshark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sharkstat.commands.console import load_registry, print_tables, say
from sharkstat.commands.options import NoPluginsOption, PluginOption
from sharkstat.errors import OutputError, RequestError

taps_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
UserOption = Annotated[bool, typer.Option("--user", help="For the current user (the default).")]
SystemOption = Annotated[bool, typer.Option("--system", help="For all users (requires root).")]


def place_of(user: bool, system: bool) -> Any:
    if user and system:
        raise RequestError("--user and --system exclude each other: give only one")
    return "system" if system else "user"


@taps_app.command(name="list")
def taps_list(
    output_format: Annotated[str, typer.Option("--format", metavar="NAME", help="As for run.")] = "table",
    plugin: PluginOption = None,
    no_plugins: NoPluginsOption = False,
) -> None:
    """List the taps: name in plain tshark, file, and where it is installed."""
    from sharkstat.commands.listing import taps_table
    from sharkstat.statistics.installed_taps import installations
    from sharkstat.tshark.process import find_tshark

    registry = load_registry(plugin or [], no_plugins)
    print_tables([taps_table(registry, installations(find_tshark()))], output_format, registry)


@taps_app.command(name="path")
def taps_path() -> None:
    """Print the folder of the Lua files (for LUA_PATH and -X lua_script)."""
    from sharkstat.statistics.installed_taps import lua_folder

    print(lua_folder())


@taps_app.command(name="install")
def taps_install(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="Your own taps, in addition to the built-in ones.")
    ] = None,
    user: UserOption = False,
    system: SystemOption = False,
) -> None:
    """Copy the taps into Wireshark's plugin folder, for use in plain tshark and Wireshark without Python.

    sharkstat taps install

    tshark -q -z sharkstat,conv,tcp -r cap.pcapng
    """
    from sharkstat.statistics import installed_taps as taps
    from sharkstat.tshark.process import find_tshark

    place = place_of(user, system)
    tshark = find_tshark()
    tshark.check()
    taps.check_own(tshark, files or [])
    report = taps.Installation(taps.plugin_folder(tshark, place)).install(taps.shipped(), files or [])
    print(taps.summary(report))
    for line in taps.kept(report):
        say(line)
    statistics = load_registry(files or [], False).statistics.values()
    present = {*report.written, *report.replaced, *report.there}
    names = [taps.z_name(s) for s in statistics if (path := taps.tap_of(s)) is not None and path.name in present]
    missing, why = taps.names_in(tshark, names)
    if missing:
        say(f"tshark -z help does not list {', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}: {why}")
    if report.foreign:
        raise OutputError(f"not installed: {', '.join(report.foreign)}: move the foreign file of that name away")


@taps_app.command(name="uninstall")
def taps_uninstall(user: UserOption = False, system: SystemOption = False) -> None:
    """Remove the files that `taps install` wrote, and no others."""
    from sharkstat.statistics import installed_taps as taps
    from sharkstat.tshark.process import find_tshark

    report = taps.Installation(taps.plugin_folder(find_tshark(), place_of(user, system))).uninstall()
    print(taps.summary(report))
    for line in taps.kept(report):
        say(line)
