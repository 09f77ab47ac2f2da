"""An index of names in the user's cache folder: what each plugin registered, so that only who is asked for is loaded.

It saves time and is never needed. What it says holds for one Python with one path, as long as no distribution and no
file of a plugin changes; what does not fit is thrown away. The registry loads a plugin before it gives anything of it,
and compares what it registers with what is written here.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sharkstat.statistics import finding
from sharkstat.statistics.finding import Found

LARGEST = 4 << 20  # bytes; anything larger is not ours
JUST_NOW = 50_000_000  # nanoseconds in which a file could change again without a new time
KEPT = 20  # indexes of other Pythons and paths
_LAYOUT = 2


@dataclass(frozen=True)
class Described:
    """What `sharkstat list` says of a statistic."""

    title: str
    usage: str
    family: str
    engines: tuple[str, ...]


@dataclass(frozen=True)
class Known:
    """What a plugin registered."""

    statistics: Mapping[str, Described]
    families: tuple[str, ...]
    formats: dict[str, str]
    nanoseconds: int


@dataclass
class Index:
    """What is written of the plugins, and of the names that a tshark lists.

    `found` are the installed plugins, None where they must be looked for; `known` says what those with the same target
    registered; `tshark` has, for a program's stamp, what each name is described as.
    """

    found: list[Found] | None = None
    known: dict[str, Known] = field(default_factory=dict)
    tshark: dict[str, dict[str, Described]] = field(default_factory=dict)
    distributions: list[list[Any]] | None = None
    files: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, *, only_built_in: bool) -> Index:
        """The index that holds here and now; an empty one where there is none."""
        now = finding.distributions()
        try:
            with _folder(make=False) as folder:
                written = json.loads(_checked(_contents(folder, _name(only_built_in))))
            if written["distributions"] != now or _changed(written["files"]):
                return cls(distributions=now)
            return cls(
                [Found(*_texts(found)) for found in written["found"]],
                {target: _known(told) for target, told in written["known"].items()},
                {stamp: _described(names) for stamp, names in written["tshark"].items()},
                now,
                written["files"],
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return cls(distributions=now)

    def write(self, files: Iterable[str], since: int, *, only_built_in: bool) -> None:
        """Keep it, if there is a place for it.

        `files` are those whose change makes it void; where one changed after `since`, when the plugins began to load,
        what was loaded may be older than the file: the next run will write.
        """
        for path in files:
            state = self.files.get(path) or _state(path)
            if state is None or (state[0] > since - JUST_NOW and not os.path.isdir(path)):
                return
            self.files[path] = state
        if self.found is None or self.distributions is None:
            return
        text = json.dumps(
            {
                "distributions": self.distributions,
                "files": self.files,
                "found": [[f.name, f.origin, f.target, f.folder] for f in self.found],
                "known": {target: asdict(known) for target, known in self.known.items()},
                "tshark": {
                    stamp: {name: asdict(told) for name, told in names.items()} for stamp, names in self.tshark.items()
                },
            }
        ).encode()
        with contextlib.suppress(OSError), _folder(make=True) as folder:
            _replace(folder, _name(only_built_in), b"%08x\n%b" % (zlib.crc32(text), text))
            _prune(folder)


def program_stamp(path: str) -> str:
    """What a program is now; "" for a script, which may be another program each time."""
    try:
        with open(path, "rb") as program:
            if program.read(2) == b"#!":
                return ""
            state = os.fstat(program.fileno())
    except OSError:
        return ""
    return f"{os.path.realpath(path)} {state.st_mtime_ns} {state.st_size}"


def _known(told: Mapping[str, Any]) -> Known:
    return Known(
        _described(told["statistics"]),
        _texts(told["families"]),
        {_text(name): _text(ending) for name, ending in told["formats"].items()},
        int(told["nanoseconds"]),
    )


def _described(names: Mapping[str, Mapping[str, Any]]) -> dict[str, Described]:
    return {
        _text(name): Described(
            _text(told["title"]), _text(told["usage"]), _text(told["family"]), _texts(told["engines"])
        )
        for name, told in names.items()
    }


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(map(_text, values))


def _state(path: str) -> list[int] | None:
    try:
        state = os.stat(path)
    except OSError:
        return None
    return [state.st_mtime_ns, state.st_size]


def _changed(files: Mapping[str, list[int]]) -> bool:
    return any(_state(path) != state for path, state in files.items())


def _name(only_built_in: bool) -> str:
    """The file for this Python and its path."""
    here = os.getcwd() if "" in sys.path else ""
    what = repr((_LAYOUT, sys.version, sys.path, here, str(finding.plugin_folder()), only_built_in))
    return f"index-{zlib.crc32(what.encode('utf-8', 'surrogateescape')):08x}.json"


# The folder: private, ours, and reached by its descriptor, so that nobody can put another in its place meanwhile.


@contextlib.contextmanager
def _folder(*, make: bool) -> Iterator[int]:
    """A descriptor of the cache folder. OSError where there is none that only we can write to."""
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    home = os.path.expanduser("~") if os.environ.get("HOME") != "" else ""
    above = chosen if os.path.isabs(chosen) else os.path.join(home, ".cache")
    if not os.path.isabs(above):
        raise FileNotFoundError("nobody knows a home")
    if make:
        _make(os.path.dirname(above), above)
        _make(above, os.path.join(above, "sharkstat"))
    folder = os.open(os.path.join(above, "sharkstat"), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check_ours(os.fstat(folder))
        yield folder
    finally:
        os.close(folder)


def _make(above: str, folder: str) -> None:
    """Make the folder, if what it is to lie in is ours: root leaves nothing in the home of another."""
    if not os.path.lexists(folder) and os.stat(above).st_uid == os.geteuid():
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)


def _check_ours(state: os.stat_result) -> None:
    if state.st_uid != os.geteuid() or state.st_mode & 0o022:
        raise PermissionError("others can write to it")


def _contents(folder: int, name: str) -> bytes:
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with open(file, "rb") as stream:
        state = os.fstat(file)
        _check_ours(state)
        if not stat.S_ISREG(state.st_mode) or state.st_size > LARGEST:
            raise PermissionError("it is no file of ours")
        return stream.read(LARGEST)


def _checked(contents: bytes) -> bytes:
    """What stands behind the checksum. ValueError where it does not fit."""
    checksum, _, text = contents.partition(b"\n")
    if int(checksum, 16) != zlib.crc32(text):
        raise ValueError("it is damaged")
    return text


def _replace(folder: int, name: str, contents: bytes) -> None:
    unfinished = f".{name}.{os.getpid()}"
    file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        with open(file, "wb") as stream:
            stream.write(contents)
        os.replace(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        os.unlink(unfinished, dir_fd=folder)
        raise


def _prune(folder: int) -> None:
    """Remove the oldest indexes, and what was left unfinished."""

    def age(name: str) -> int:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime_ns

    names = [name for name in os.listdir(folder) if name.startswith(("index-", ".index-"))]
    for name in sorted(names, key=age, reverse=True)[KEPT:]:
        os.unlink(name, dir_fd=folder)
