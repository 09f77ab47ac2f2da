"""The registry of statistics. It finds the statistic that a request names, and loads its plugin only then."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sharkstat.errors import OutputError, RequestError, SharkstatError
from sharkstat.statistics import finding
from sharkstat.statistics.checking import check_statistic
from sharkstat.statistics.finding import Found
from sharkstat.statistics.index import Described, Index, Known, program_stamp
from sharkstat.tables.output import ENDINGS, FORMATS
from sharkstat.tshark.records import described

if TYPE_CHECKING:
    import pluggy

    from sharkstat.statistics.statistic import Statistic
    from sharkstat.tables.table import Table

    Family = Callable[[str], Statistic | None]
    Exporter = Callable[[Sequence[Table]], Iterable[str | bytes]]


@dataclass
class Plugin:
    """A plugin: its origin, what it registers, why it failed to load, and its load time in `nanoseconds`."""

    name: str
    origin: str
    load: Callable[[], Any]
    statistics: list[str] = field(default_factory=list)
    families: list[str] = field(default_factory=list)
    formats: dict[str, str] = field(default_factory=dict)  # and the ending of their files
    problem: str = ""
    faults: list[str] = field(default_factory=list)  # of statistics and formats that are left out
    nanoseconds: int = 0
    known: Known | None = None  # while it is not loaded

    @property
    def complaint(self) -> str:
        """Why it did not load, or what is left out of it."""
        return self.problem or "; ".join(self.faults)

    @property
    def gives(self) -> tuple[set[str], list[str], set[str]]:
        """What it registers; families in their order, since the first one takes a name."""
        return set(self.statistics), self.families, set(self.formats)


class Registry:
    """The available statistics. Plugins are loaded one by one: a broken one is reported, but is not fatal."""

    def __init__(self) -> None:
        self.plugins: list[Plugin] = []
        self.warnings: list[str] = []
        self._statistics: dict[str, Statistic] = {}
        self._families: dict[str, Family] = {}
        self._exporters: dict[str, Exporter] = {}
        self._discovered: dict[str, Statistic] | None = None
        self._index = Index()
        self._trusting = False  # what the index says
        self._clash = False  # two plugins gave the same
        self._keep: Callable[[], None] = lambda: None
        self._anew: Callable[[], Registry] = Registry
        self._manager: pluggy.PluginManager | None = None

    @classmethod
    def default(cls, files: Sequence[Path] = (), *, only_built_in: bool = False) -> Registry:
        """All installed plugins, those in the user's plugin folder, and the given plugin files.

        With `only_built_in`, or if the environment variable SHARKSTAT_NO_PLUGINS is set, only the built-in plugins and
        the given files. Nothing is loaded from the current directory unless named. Plugins in the index are loaded when
        one of their statistics is used, the others at once.
        """
        return cls._made(files, only_built_in or bool(os.environ.get("SHARKSTAT_NO_PLUGINS")), trusting=True)

    @classmethod
    def _made(cls, files: Sequence[Path], only_built_in: bool, *, trusting: bool) -> Registry:
        """The same; where it is not `trusting`, as if nothing was known of any plugin."""
        registry = cls()
        registry._anew = lambda: cls._made(files, only_built_in, trusting=False)
        index = Index.read(only_built_in=only_built_in) if trusting else Index(distributions=finding.distributions())
        registry._index, registry._trusting = index, index.found is not None
        since = time.time_ns()
        found = finding.installed() if index.found is None else index.found
        sought = [one for one in found if one.is_built_in or not (only_built_in or one.is_here)]
        if not only_built_in:
            paths, warnings = finding.in_folder()
            registry.warnings += warnings
            sought += [Found(path.stem, str(path), str(path)) for path in paths]
        for one in sought:
            registry._take(one.name, one.origin, one.load, index.known.get(one.target))
        if registry._clash and registry._trusting:
            return registry._anew()  # of two that give the same, the first in their order has it

        def keep() -> None:
            plugins = dict(zip((one.target for one in sought), registry.plugins, strict=False))
            index.found = found
            # One with faults is loaded each time, so that they are told.
            index.known = {
                target: known(plugin) for target, plugin in plugins.items() if not (plugin.problem or plugin.faults)
            }
            tops = {one.package for one in sought}
            lua = {str(e.file) for s in registry._statistics.values() for e in s.engines if e.file is not None}
            targets = {one.target for one in sought if not one.folder}
            index.write({*finding.files_of(tops), *lua, *targets}, since, only_built_in=only_built_in)

        def known(plugin: Plugin) -> Known:
            if plugin.known is not None:
                return plugin.known
            statistics = {name: _told(registry._statistics[name]) for name in plugin.statistics}
            return Known(statistics, tuple(plugin.families), dict(plugin.formats), plugin.nanoseconds)

        registry._keep = keep
        if any(plugin.known is None and not (plugin.problem or plugin.faults) for plugin in registry.plugins):
            keep()
        for path in files:
            registry.add(path.stem, str(path), lambda path=path: finding.load_file(path))  # type: ignore[misc]
        return registry

    def add(self, name: str, origin: str, load: Callable[[], Any]) -> None:
        """Load a plugin and register what it gives; what fails is kept as its problem."""
        self._take(name, origin, load, None)

    # Loading ------------------------------------------------------------------------------------

    def _take(self, name: str, origin: str, load: Callable[[], Any], known: Known | None) -> None:
        plugin = Plugin(name, origin, load)
        self.plugins.append(plugin)
        taken = {name for other in self.plugins for name in other.statistics}
        if known is None or taken & set(known.statistics):
            self._load(plugin)
            return
        plugin.known, plugin.nanoseconds = known, known.nanoseconds
        plugin.statistics = list(known.statistics)
        plugin.families, plugin.formats = list(known.families), dict(known.formats)

    def _load(self, plugin: Plugin) -> None:
        from sharkstat.statistics.statistic import Hooks

        if self._manager is None:
            import pluggy

            self._manager = pluggy.PluginManager("sharkstat")
            self._manager.add_hookspecs(Hooks)
        manager = self._manager
        plugin.known, plugin.statistics, plugin.families, plugin.formats = None, [], [], {}
        started = time.perf_counter_ns()
        try:
            with contextlib.redirect_stdout(sys.stderr):  # what a plugin prints is no result
                module = plugin.load()
            manager.register(module, name=f"{plugin.origin}:{plugin.name}")
            others = [p for p in manager.get_plugins() if p is not module]
            for hook, take in (
                ("register_statistics", self._register),
                ("register_families", self._register_family),
                ("register_exporters", self._register_exporter),
            ):
                self._call(manager.subset_hook_caller(hook, others), plugin, take)
            if not (plugin.statistics or plugin.families or plugin.formats or plugin.faults):
                raise ValueError("it registers nothing: mark register_statistics with @sharkstat.hookimpl")
        except (Exception, SystemExit) as problem:  # whatever a stranger's plugin does, the others must work
            plugin.problem, plugin.faults = described(problem), []
            left_out = [*plugin.statistics, *plugin.families, *plugin.formats]
            for statistic in plugin.statistics:
                del self._statistics[statistic]
            for family in plugin.families:
                del self._families[family]
            for format_name in plugin.formats:
                del self._exporters[format_name]
            plugin.statistics, plugin.families, plugin.formats = [], [], {}
            without = f" (so {', '.join(left_out)} is missing, too)" if left_out else ""
            self.warnings.append(f"plugin {plugin.name} ({plugin.origin}) failed to load: {plugin.problem}{without}")
        self.warnings += [f"plugin {plugin.name} ({plugin.origin}): {fault}" for fault in plugin.faults]
        plugin.nanoseconds = time.perf_counter_ns() - started

    def _call(self, hook: Callable[..., Any], plugin: Plugin, take: Callable[..., None]) -> None:
        """Have the plugin register; what is wrong with one thing leaves out that alone."""

        def register(*given: Any, **more: Any) -> None:
            try:
                take(plugin, *given, **more)
            except (ValueError, TypeError) as problem:
                plugin.faults.append(f"{problem}; it is left out")

        hook(register=register)

    def _load_known(self, plugins: Iterable[Plugin]) -> None:
        """Load those of the plugins that are not; all anew where one gives something else than was known."""
        for plugin in plugins:
            if plugin.known is None:
                continue
            promised = plugin.gives
            self._load(plugin)
            if plugin.gives != promised:
                self._start_again()
                return

    def _start_again(self) -> None:
        """What was known is wrong: everything anew, without it."""
        self.__dict__.update(self._anew().__dict__)

    def _register(self, plugin: Plugin, statistic: Statistic) -> None:
        check_statistic(statistic)
        owner = next((p for p in self.plugins if statistic.name in p.statistics), None)
        if owner is not None:
            self._clash = True
            raise ValueError(f"the statistic {statistic.name} is already registered by {owner.name} ({owner.origin})")
        from sharkstat.statistics.several import Several

        for part in statistic.statistics if isinstance(statistic, Several) else ():
            if self._statistics.get(part.name) is not part:
                self._register(plugin, part)
        self._statistics[statistic.name] = statistic
        plugin.statistics.append(statistic.name)

    def _register_family(self, plugin: Plugin, name: str, take: Family) -> None:
        if any(name in p.families for p in self.plugins):
            self._clash = True
            raise ValueError(f"the family {name} is already registered")
        self._families[name] = take
        plugin.families.append(name)

    def _register_exporter(self, plugin: Plugin, name: str, exporter: Exporter, ending: str = "") -> None:
        if any(name in p.formats for p in self.plugins):
            self._clash = True
            raise ValueError(f"the format {name} is already registered")
        if name in FORMATS:
            raise ValueError(f"the format {name} is sharkstat's own: call it otherwise")
        if not callable(exporter):
            raise ValueError(f"the exporter of {name} is {exporter!r:.60}: give a function that takes tables")
        ending = ending.removeprefix(".") or name
        if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", ending):
            raise ValueError(f"the ending {ending!r} of the format {name}: write letters and digits, as in txt")
        if ending != name and (ending in ("txt", *ENDINGS.values()) or ending in self.formats.values()):
            raise ValueError(f"the ending {ending} of the format {name} belongs to another format: choose another")
        self._exporters[name] = _guarded(name, plugin, exporter)
        plugin.formats[name] = ending

    # What there is ------------------------------------------------------------------------------

    @property
    def statistics(self) -> dict[str, Statistic]:
        """Every statistic that a plugin registers, by name. Loads all plugins."""
        self._load_known(self.plugins)
        return self._statistics

    @property
    def names(self) -> list[str]:
        """The names of these statistics, without loading plugins."""
        return list(dict.fromkeys([*self._statistics, *(name for p in self.plugins for name in p.statistics)]))

    def named(self, name: str) -> Statistic | None:
        """The statistic of exactly this name, if a plugin registers one."""
        self._load_known([plugin for plugin in self.plugins if name in plugin.statistics])
        return self._statistics.get(name)

    @property
    def formats(self) -> dict[str, str]:
        """The output formats of plugins, and the endings of their files."""
        return {name: ending for plugin in self.plugins for name, ending in plugin.formats.items()}

    def exporter(self, name: str) -> Exporter | None:
        """The exporter of a plugin's format."""
        self._load_known([plugin for plugin in self.plugins if name in plugin.formats])
        return self._exporters.get(name)

    def find(self, request: str) -> tuple[Statistic, str]:
        """The statistic of a request (the longest name that it starts with), and its arguments."""
        text = request.strip()
        # Asking tshark for its own takes a quarter of a second.
        found = self._registered(text) or self._listed(text) or _longest(text, self.discovered)
        if found is None and self._trusting:
            self._start_again()
            found = _longest(text, self.statistics) or _longest(text, self.discovered)
        found = found or self._in_other_case(text) or self._unknown(text)
        statistic, arguments = found
        other = f"{statistic.name.rpartition(',')[0]},{arguments}"
        if other in self.names and other != statistic.name:
            self._warn(f"{text}: {arguments} is a display filter here; for the statistic {other}, add -z {other}")
        return found

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def _in_other_case(self, text: str) -> tuple[Statistic, str] | None:
        """The statistic whose name differs only in case; a warning says so."""
        name = _longest_name(text.lower(), {name.lower() for name in self.all()})
        found = next((item for known, item in self.all().items() if known.lower() == name), None)
        if found is None:
            return None
        arguments = text[len(name) + 1 :]
        self._warn(f"{text}: read as {','.join(filter(None, (found.name, arguments)))}")
        return found, arguments

    def _registered(self, text: str) -> tuple[Statistic, str] | None:
        name = _longest_name(text, self.names)
        self._load_known([plugin for plugin in self.plugins if name in plugin.statistics])
        return _longest(text, self._statistics) if name == _longest_name(text, self.names) else self._registered(text)

    def _listed(self, text: str) -> tuple[Statistic, str] | None:
        """The same for what this tshark was seen to list."""
        listed = self._listed_before()
        name = _longest_name(text, listed)
        if not name:
            return None
        family = listed[name].family
        self._load_known([plugin for plugin in self.plugins if family in plugin.families])
        statistic = self._taken(name, [family]) if family in self._families else None
        return (statistic, text[len(name) + 1 :]) if statistic is not None else None

    def _listed_before(self) -> Mapping[str, Described]:
        from sharkstat.tshark.process import find_tshark

        return self._index.tshark.get(program_stamp(find_tshark().path), {}) if self._index.tshark else {}

    @property
    def families(self) -> dict[str, Family]:
        """What takes the names of tshark's own statistics; it loads the plugins that do."""
        self._load_known([plugin for plugin in self.plugins if plugin.families])
        order = [name for plugin in self.plugins for name in plugin.families]
        return dict(sorted(self._families.items(), key=lambda item: order.index(item[0])))

    @property
    def discovered(self) -> dict[str, Statistic]:
        """The statistics that only the installed tshark has, each taken by a family, or unparsed."""
        if self._discovered is None:
            from sharkstat.statistics.native import Unparsed, listed
            from sharkstat.tshark.process import find_tshark

            tshark = find_tshark()
            names = set(self.names)
            families = list(self.families)
            self._discovered = {
                name: self._taken(name, families) or Unparsed(name) for name in listed(tshark) if name not in names
            }
            stamp = program_stamp(tshark.path)
            if stamp:
                self._index.tshark[stamp] = {name: _told(s) for name, s in self._discovered.items()}
                self._keep()
        return self._discovered

    def taken(self, name: str) -> Statistic:
        """The statistic for a name of tshark's: a family's, or its unparsed text."""
        from sharkstat.statistics.native import Unparsed

        return self._taken(name, self.families) or Unparsed(name)

    def _taken(self, name: str, families: Iterable[str]) -> Statistic | None:
        for family in families:
            statistic = self._families[family](name)
            if statistic is not None:
                statistic.family = family
                return statistic
        return None

    def all(self) -> dict[str, Statistic]:
        """Every available statistic, by name. Loads all plugins."""
        return {**self.statistics, **self.discovered}

    def described(self, *, discovered: bool) -> Iterator[tuple[str, Described, str]]:
        """Each statistic's name, what there is to say of it, and whose it is; with those that only tshark has ("").

        Plugins of which that is known are not loaded.
        """
        for plugin in self.plugins:
            for name in plugin.statistics:
                told = plugin.known.statistics[name] if plugin.known else _told(self._statistics[name])
                yield name, told, plugin.origin
        if discovered:
            listed = self._listed_before() or {name: _told(s) for name, s in self.discovered.items()}
            yield from ((name, told, "") for name, told in listed.items() if name not in self.names)

    def _unknown(self, text: str) -> NoReturn:
        raise RequestError(f"unknown statistic {text!r}; {self._nearest(text)}")

    def _nearest(self, text: str) -> str:
        from sharkstat.statistics.searching import nearest

        if near := nearest(text, self.all()):
            return f"did you mean {', '.join(near)}?"
        return "see `sharkstat list`"


def _told(statistic: Statistic) -> Described:
    """What there is to say of a statistic."""
    engines = tuple(engine.name for engine in statistic.engines)
    return Described(str(statistic.title), str(statistic.usage), str(statistic.family), engines)


def _longest_name(text: str, names: Iterable[str]) -> str:
    """The longest of the names that the text begins with; "" where there is none."""
    return max((name for name in names if text == name or text.startswith(name + ",")), key=len, default="")


def _longest(text: str, known: Mapping[str, Statistic]) -> tuple[Statistic, str] | None:
    """The statistic of the longest name that the text begins with, and its arguments."""
    name = _longest_name(text, known)
    return (known[name], text[len(name) + 1 :]) if name else None


def _guarded(name: str, plugin: Plugin, exporter: Exporter) -> Exporter:
    """The exporter of a plugin; whatever it raises is its failure, in one line."""

    def export(tables: Sequence[Table]) -> Iterator[str | bytes]:
        try:
            for piece in exporter(tables):
                if not isinstance(piece, (str, bytes)):
                    raise TypeError(f"it gave {piece!r:.40}, neither text nor bytes")
                yield piece
        except (OSError, SharkstatError):
            raise
        except Exception as problem:
            raise OutputError(
                f"the format {name} of plugin {plugin.name} failed: {described(problem)}",
                traceback=traceback.format_exc(),
            ) from problem

    return export
