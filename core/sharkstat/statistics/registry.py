"""Finds plugins and their statistics, and the statistic that a request names."""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pluggy

from sharkstat.engines.engine import Engine
from sharkstat.errors import RequestError
from sharkstat.statistics.native import Unparsed, listed
from sharkstat.statistics.statistic import Hooks, Statistic
from sharkstat.statistics.tapfile import TapPlugin
from sharkstat.tables.table import Table
from sharkstat.tshark.process import find_tshark

GROUP = "sharkstat"
Family = Callable[[str], Statistic | None]
Exporter = Callable[[Sequence[Table]], Iterable[str]]


@dataclass
class Plugin:
    """Where a plugin comes from, what it gives, and why it did not load."""

    name: str
    origin: str
    statistics: list[str] = field(default_factory=list)
    families: list[str] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)
    problem: str = ""


class Registry:
    """The statistics at hand. Plugins are loaded one by one: a broken one is reported, not fatal."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager("sharkstat")
        self._manager.add_hookspecs(Hooks)
        self.plugins: list[Plugin] = []
        self.statistics: dict[str, Statistic] = {}
        self.families: dict[str, Family] = {}
        self.exporters: dict[str, Exporter] = {}
        self.warnings: list[str] = []
        self._discovered: dict[str, Statistic] | None = None

    @classmethod
    def default(cls, files: Sequence[Path] = (), *, only_built_in: bool = False) -> Registry:
        """All installed plugins, those in the user's plugin folder, and the given plugin files.

        With `only_built_in`, or where the environment variable SHARKSTAT_NO_PLUGINS is set, no stranger's plugin is
        loaded but the given files. Nothing is loaded from the current directory by itself.
        """
        registry = cls()
        only_built_in = only_built_in or bool(os.environ.get("SHARKSTAT_NO_PLUGINS"))
        found = sorted(importlib.metadata.entry_points(group=GROUP), key=lambda e: (not _built_in(e), e.name))
        for entry_point in found:
            if not _built_in(entry_point) and (only_built_in or _is_here(entry_point)):
                continue
            origin = f"{entry_point.dist.name} {entry_point.dist.version}" if entry_point.dist else entry_point.value
            registry.add(entry_point.name, origin, entry_point.load)
        for path in [*([] if only_built_in else registry.in_folder()), *files]:
            registry.add(path.stem, str(path), lambda path=path: _load_file(path))  # type: ignore[misc]
        return registry

    def in_folder(self) -> list[Path]:
        """The files in the user's plugin folder; a warning where others could put files there."""
        folder = plugin_folder()
        try:
            state = folder.stat()
        except OSError:
            return []
        if state.st_uid not in (0, os.geteuid()) or state.st_mode & 0o022:
            self.warnings.append(f"{folder} is not loaded: others can write to it (chmod go-w, chown to yourself)")
            return []
        return sorted(path for path in folder.iterdir() if path.suffix in (".py", ".lua"))

    def add(self, name: str, origin: str, load: Callable[[], Any]) -> None:
        """Load a plugin and register what it gives; what fails is kept as its problem."""
        plugin = Plugin(name, origin)
        self.plugins.append(plugin)
        try:
            module = load()
            self._manager.register(module, name=f"{origin}:{name}")
            others = [p for p in self._manager.get_plugins() if p is not module]
            for hook, register in (
                ("register_statistics", lambda statistic: self._register(plugin, statistic)),
                ("register_families", lambda name, take: self._register_family(plugin, name, take)),
                ("register_exporters", lambda name, exporter: self._register_exporter(plugin, name, exporter)),
            ):
                self._manager.subset_hook_caller(hook, others)(register=register)
            if not (plugin.statistics or plugin.families or plugin.formats):
                raise ValueError("it registers nothing: mark its register_statistics with @sharkstat.hookimpl")
        except (Exception, SystemExit) as problem:  # whatever a stranger's plugin does, the others must work
            plugin.problem = f"{type(problem).__name__}: {problem}"
            for statistic in plugin.statistics:
                del self.statistics[statistic]
            for family in plugin.families:
                del self.families[family]
            for format_name in plugin.formats:
                del self.exporters[format_name]
            plugin.statistics, plugin.families, plugin.formats = [], [], []
            self.warnings.append(f"plugin {name} ({origin}) did not load: {plugin.problem}")

    def _register(self, plugin: Plugin, statistic: Statistic) -> None:
        if not statistic.name or not statistic.title:
            raise ValueError(f"{type(statistic).__name__} needs a name and a title")
        if statistic.name in self.statistics:
            owner = next(p for p in self.plugins if statistic.name in p.statistics)
            raise ValueError(f"the statistic {statistic.name} is already registered by {owner.name} ({owner.origin})")
        _check_engines(statistic)
        self.statistics[statistic.name] = statistic
        plugin.statistics.append(statistic.name)

    def _register_family(self, plugin: Plugin, name: str, take: Family) -> None:
        if name in self.families:
            raise ValueError(f"the family {name} is already registered")
        self.families[name] = take
        plugin.families.append(name)

    def _register_exporter(self, plugin: Plugin, name: str, exporter: Exporter) -> None:
        if name in self.exporters:
            raise ValueError(f"the format {name} is already registered")
        self.exporters[name] = exporter
        plugin.formats.append(name)

    def find(self, request: str) -> tuple[Statistic, str]:
        """The statistic that a request names, by the longest name that it begins with, and its arguments.

        >>> Registry.default().find("conv,tcp,port 80")[1]
        'port 80'
        """
        text = request.strip()
        # Asking tshark takes a while, so it is done only where it must be.
        return _longest(text, self.statistics) or _longest(text, self.discovered) or self._unknown(text)

    def _unknown(self, text: str) -> NoReturn:
        raise RequestError(f"unknown statistic {text!r}; {self._nearest(text)}")

    @property
    def discovered(self) -> dict[str, Statistic]:
        """The statistics that only the installed tshark has, each taken by a family, or unparsed."""
        if self._discovered is None:
            names = listed(find_tshark())
            self._discovered = {name: self.taken(name) for name in names if name not in self.statistics}
        return self._discovered

    def taken(self, name: str) -> Statistic:
        """The statistic for a name of tshark's: a family's, or its unparsed text."""
        for family, take in self.families.items():
            statistic = take(name)
            if statistic is not None:
                statistic.family = family
                return statistic
        return Unparsed(name)

    def all(self) -> dict[str, Statistic]:
        """Every statistic at hand, by name."""
        return {**self.statistics, **self.discovered}

    def _nearest(self, text: str) -> str:
        head = ",".join(text.split(",")[:2])
        known = list(self.all())
        near = difflib.get_close_matches(head, known, n=3, cutoff=0.5)
        near += [n for n in known if n.startswith(text.split(",")[0] + ",") and n not in near][: 5 - len(near)]
        if near:
            return f"the nearest: {', '.join(near)}"
        return "`sharkstat list` has them all"


def _longest(text: str, known: dict[str, Statistic]) -> tuple[Statistic, str] | None:
    """The statistic of the longest name that the text begins with, and its arguments."""
    names = [name for name in known if text == name or text.startswith(name + ",")]
    if not names:
        return None
    best = max(names, key=len)
    return known[best], text[len(best) + 1 :]


def _check_engines(statistic: Statistic) -> None:
    """ValueError where it has no engines, or what it has are none."""
    engines = statistic.engines
    fix = "write engines = (sharkstat.Packets(MyCounter),), or give it a Tap"
    if not engines:
        raise ValueError(f"{statistic.name} has no engine: {fix}")
    if not isinstance(engines, (tuple, list)) or not all(isinstance(engine, Engine) for engine in engines):
        raise ValueError(f"{statistic.name}: its engines are {engines!r:.80}: {fix}")
    if len({engine.name for engine in engines}) < len(engines):
        raise ValueError(f"{statistic.name} has two engines of one name: leave out one")


def plugin_folder() -> Path:
    """Where the user's own plugins are: $XDG_CONFIG_HOME/sharkstat/plugins, or ~/.config/sharkstat/plugins."""
    home = os.environ.get("XDG_CONFIG_HOME")
    own = os.path.expanduser("~/.config")  # noqa: PTH111 - Path's own fails for a user whom nothing gives a home
    return Path(home or own, "sharkstat", "plugins")


def _is_here(entry_point: importlib.metadata.EntryPoint) -> bool:
    """Whether its package lies in the current directory, which Python may search first."""
    return entry_point.dist is not None and Path(str(entry_point.dist.locate_file(""))).resolve() == Path.cwd()


def _built_in(entry_point: importlib.metadata.EntryPoint) -> bool:
    return entry_point.value.split(".")[0] == "sharkstat_plugins"


def _load_file(path: Path) -> Any:
    if path.suffix == ".lua":
        return TapPlugin(path)
    name = f"sharkstat_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is neither a Python file nor a tap's .lua")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
