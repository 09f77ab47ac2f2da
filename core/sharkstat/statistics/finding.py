"""Finds plugins: entry points of installed distributions, and files in the user's plugin folder."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

GROUP = "sharkstat"
BUILT_IN = "sharkstat_plugins"
MOST_FILES = 2000  # that are looked at in the folders of packages


class Found(NamedTuple):
    """A plugin that was found but not loaded: its name, origin, and what to load.

    `target` is an entry point's "module" or "module:attribute", or a file's path; `folder` is where the distribution
    of an entry point lies, "" for a file.
    """

    name: str
    origin: str
    target: str
    folder: str = ""

    @property
    def is_built_in(self) -> bool:
        return bool(self.folder) and self.target.partition(":")[0].split(".")[0] == BUILT_IN

    @property
    def is_here(self) -> bool:
        """Whether its package is in the current directory, which Python may search first."""
        return bool(self.folder) and Path(self.folder).resolve() == Path.cwd()

    @property
    def package(self) -> str:
        """The first part of its module's name."""
        return self.target.partition(":")[0].split(".")[0] if self.folder else module_name(Path(self.target))

    def load(self) -> Any:
        """Import it. Passes on any exception of its code."""
        if not self.folder:
            return load_file(Path(self.target))
        name, _, attributes = self.target.partition(":")
        loaded = importlib.import_module(name.strip())
        for attribute in filter(None, attributes.strip().split(".")):
            loaded = getattr(loaded, attribute)
        return loaded


def installed() -> list[Found]:
    """The entry points of all distributions, the built-in ones first; reading them takes a while."""
    import importlib.metadata

    found = []
    for entry in importlib.metadata.entry_points(group=GROUP):
        origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
        value = entry.value.partition("[")[0].strip()
        folder = str(entry.dist.locate_file("")) if entry.dist else "."
        found.append(Found(entry.name, origin, value, folder))
    return sorted(found, key=lambda one: (not one.is_built_in, one.name))


def distributions() -> list[list[Any]] | None:
    """A stamp that changes where a distribution is installed, removed or changed; None where it cannot be told.

    It reads the folders of sys.path, not what is in the distributions.
    """
    for finder in sys.meta_path:
        # importlib_metadata, which some packages load, has one of its own that looks in the same places.
        name = getattr(finder, "__name__", type(finder).__name__)
        if hasattr(finder, "find_distributions") and name not in ("PathFinder", "MetadataPathFinder"):
            return None  # one that finds them elsewhere
    stamp: list[list[Any]] = []
    for path in dict.fromkeys(sys.path):
        try:
            with os.scandir(path or ".") as entries:
                folders = sorted(e.path for e in entries if e.name.endswith((".dist-info", ".egg-info")))
        except OSError:  # nothing, or an archive
            stamp.append([path, *_stamp(path)])
            continue
        stamp += [[folder, *_stamp(folder), *_stamp(f"{folder}/entry_points.txt")] for folder in folders]
    return stamp


def _stamp(path: str) -> list[int]:
    try:
        state = os.stat(path)
    except OSError:
        return [0, 0]
    return [state.st_mtime_ns, state.st_size]


def files_of(packages: set[str]) -> Iterator[str]:
    """The files and folders that loaded plugins are made of, as far as they can change without their distribution.

    These are the packages' own, with all that lies in their folders, and all other modules that lie in no place of
    installed distributions.
    """
    import sysconfig

    places = tuple({f"{sysconfig.get_path(name)}{os.sep}" for name in ("purelib", "platlib")})
    walked = set()
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or top in sys.stdlib_module_names or top == "__main__":
            continue
        if top in packages or not file.startswith(places):
            yield file
        if top in packages and "." not in name and getattr(module, "__path__", None):
            walked.add(os.path.dirname(file))
    left = MOST_FILES
    for folder in walked:
        for inside, folders, names in os.walk(folder):
            folders[:] = [name for name in folders if name != "__pycache__"]
            left -= len(names)
            if left < 0:
                return
            yield inside
            yield from (os.path.join(inside, name) for name in names)


def plugin_folder() -> Path:
    """Where the user's own plugins are: $XDG_CONFIG_HOME/sharkstat/plugins, or ~/.config/sharkstat/plugins."""
    chosen = os.environ.get("XDG_CONFIG_HOME")
    home = Path(os.path.expanduser("~"))  # stays as it is where nobody knows a home
    return (Path(chosen) if chosen else home / ".config") / "sharkstat" / "plugins"


def in_folder() -> tuple[list[Path], list[str]]:
    """The files in the user's plugin folder; what others could have put there is left out, with a warning for each."""
    folder = plugin_folder()
    try:
        state = folder.stat()
    except OSError:
        return [], []
    if not folder.is_absolute():
        return [], []
    fix = "others can write to it (fix with chmod go-w, or chown it to yourself)"
    if not _is_ours(state):
        return [], [f"plugin folder {folder} ignored: {fix}"]
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".py", ".lua"))
    ours = [path for path in paths if _is_ours(path.stat() if path.exists() else path.lstat())]
    return ours, [f"plugin file {path} ignored: {fix}" for path in paths if path not in ours]


def _is_ours(state: os.stat_result) -> bool:
    """Whether nobody but root and this user can have written it."""
    return state.st_uid in (0, os.geteuid()) and not state.st_mode & 0o022


def module_name(path: Path) -> str:
    """The name under which a plugin's file is imported."""
    return f"sharkstat_plugin_{path.stem}"


def load_file(path: Path) -> Any:
    """The plugin in a file of Python, or a tap's Lua file."""
    if path.suffix == ".lua":
        from sharkstat.statistics.tapfile import TapPlugin

        return TapPlugin(path)
    import importlib.util

    name = module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is neither a Python file nor a Lua tap")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
