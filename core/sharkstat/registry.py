"""Finds plugins and their statistics, and the statistic that a request names."""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pluggy

from sharkstat.errors import RequestError
from sharkstat.statistic import Hooks, Statistic
from sharkstat.table import Table

GROUP = "sharkstat"
Exporter = Callable[[Sequence[Table]], Iterable[str]]


@dataclass
class Plugin:
    """Where a plugin comes from, what it gives, and why it did not load."""

    name: str
    origin: str
    statistics: list[str] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)
    problem: str = ""


class Registry:
    """The statistics at hand. Plugins are loaded one by one: a broken one is reported, not fatal."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager("sharkstat")
        self._manager.add_hookspecs(Hooks)
        self.plugins: list[Plugin] = []
        self.statistics: dict[str, Statistic] = {}
        self.exporters: dict[str, Exporter] = {}
        self.warnings: list[str] = []

    @classmethod
    def default(cls, files: Sequence[Path] = ()) -> Registry:
        """All installed plugins, and the given plugin files."""
        registry = cls()
        found = sorted(importlib.metadata.entry_points(group=GROUP), key=lambda e: (not _built_in(e), e.name))
        for entry_point in found:
            origin = f"{entry_point.dist.name} {entry_point.dist.version}" if entry_point.dist else entry_point.value
            registry.add(entry_point.name, origin, entry_point.load)
        for path in files:
            registry.add(path.stem, str(path), lambda path=path: _load_file(path))  # type: ignore[misc]
        return registry

    def add(self, name: str, origin: str, load: Callable[[], Any]) -> None:
        """Load a plugin and register what it gives; what fails is kept as its problem."""
        plugin = Plugin(name, origin)
        self.plugins.append(plugin)
        try:
            module = load()
            self._manager.register(module, name=f"{origin}:{name}")
            hooks = self._manager.subset_hook_caller(
                "register_statistics", [p for p in self._manager.get_plugins() if p is not module]
            )
            hooks(register=lambda statistic: self._register(plugin, statistic))
            hooks = self._manager.subset_hook_caller(
                "register_exporters", [p for p in self._manager.get_plugins() if p is not module]
            )
            hooks(register=lambda name, exporter: self._register_exporter(plugin, name, exporter))
            if not plugin.statistics and not plugin.formats:
                raise ValueError("it registers nothing: mark its register_statistics with @sharkstat.hookimpl")
        except (Exception, SystemExit) as problem:  # whatever a stranger's plugin does, the others must work
            plugin.problem = f"{type(problem).__name__}: {problem}"
            for statistic in plugin.statistics:
                del self.statistics[statistic]
            for format_name in plugin.formats:
                del self.exporters[format_name]
            plugin.statistics, plugin.formats = [], []
            self.warnings.append(f"plugin {name} ({origin}) did not load: {plugin.problem}")

    def _register(self, plugin: Plugin, statistic: Statistic) -> None:
        if not statistic.name or not statistic.title:
            raise ValueError(f"{type(statistic).__name__} needs a name and a title")
        if statistic.name in self.statistics:
            owner = next(p for p in self.plugins if statistic.name in p.statistics)
            raise ValueError(f"the statistic {statistic.name} is already registered by {owner.name} ({owner.origin})")
        if not statistic.engines:
            raise ValueError(f"{statistic.name} has no engine: give it a tap or a counter")
        self.statistics[statistic.name] = statistic
        plugin.statistics.append(statistic.name)

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
        best = ""
        for name in self.statistics:
            if (text == name or text.startswith(name + ",")) and len(name) > len(best):
                best = name
        if best:
            return self.statistics[best], text[len(best) + 1 :]
        raise RequestError(f"unknown statistic {text!r}; {self._nearest(text)}")

    def _nearest(self, text: str) -> str:
        head = ",".join(text.split(",")[:2])
        near = difflib.get_close_matches(head, self.statistics, n=3, cutoff=0.5)
        near += [n for n in self.statistics if n.startswith(text.split(",")[0] + ",") and n not in near][
            : 5 - len(near)
        ]
        if near:
            return f"the nearest: {', '.join(near)}"
        return "`sharkstat list` has them all"


def _built_in(entry_point: importlib.metadata.EntryPoint) -> bool:
    return entry_point.value.split(".")[0] == "sharkstat_plugins"


def _load_file(path: Path) -> Any:
    name = f"sharkstat_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
