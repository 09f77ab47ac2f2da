"""The taps' files, and their installation in Wireshark's plugin folders, where plain tshark finds them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from sharkstat.errors import OutputError, RequestError, TsharkError
from sharkstat.statistics.statistic import Statistic
from sharkstat.statistics.tapfile import read_header
from sharkstat.tshark.process import Tshark
from sharkstat.tshark.users import User, unprivileged_user

Place = Literal["user", "system"]

# What only sharkstat's own runs use; Wireshark would run it as a script.
_HOSTED = frozenset(
    (
        "feed.lua",
        "first_rows.lua",
        "group.lua",
        "group_keys.lua",
        "group_measures.lua",
        "group_writer.lua",
        "host.lua",
        "joined.lua",
        "processes.lua",
        "values.lua",
    )
)
_MANIFEST = ".sharkstat-taps.json"
_FOLDERS = {"user": ("Personal Lua Plugins", "Personal Plugins"), "system": ("Global Lua Plugins", "Global Plugins")}
_REGISTERS = re.compile(r"\bsharkstat\.(?:tap|register)\b")


def lua_folder() -> Path:
    """The folder of the Lua files that sharkstat comes with."""
    return Path(str(files("sharkstat_lua")))


def shipped() -> list[Path]:
    """The files that an installation has: the built-in taps, and the library that they use."""
    return sorted(path for path in lua_folder().glob("*.lua") if path.name not in _HOSTED)


def is_tap(path: Path) -> bool:
    """Whether the file registers statistics, and is not what others use."""
    code = re.sub(r"^\s*--.*$", "", path.read_text(encoding="utf-8", errors="replace"), flags=re.MULTILINE)
    return bool(_REGISTERS.search(code)) and not re.search(r"^function sharkstat\.", code, re.MULTILINE)


def header_of(path: Path) -> dict[str, list[str]]:
    """What the file's header says; nothing where it has none."""
    try:
        return read_header(path)
    except (ValueError, OSError):
        return {}


def tap_of(statistic: Statistic) -> Path | None:
    """The Lua file that counts a statistic in plain tshark, too."""
    return next((engine.file for engine in statistic.engines if engine.file is not None), None)


def z_name(statistic: Statistic) -> str:
    """What a statistic's tap is called in plain tshark, where tshark's own name would win."""
    path = tap_of(statistic)
    text = path.read_text(encoding="utf-8", errors="replace") if path else ""
    return f"sharkstat,{statistic.name}" if re.search(r"\bz_name\b", text) else statistic.name


def plugin_folder(tshark: Tshark, place: Place) -> Path:
    """Where that tshark looks for Lua plugins, of this user or of all: it knows best."""
    said = _answer(tshark, "-G", "folders")
    for name in _FOLDERS[place]:
        found = re.search(rf"^{name}:\s*(/.*)$", said, re.MULTILINE)
        if found:
            return Path(found[1].strip())
    raise TsharkError(f"{tshark.path} -G folders lists no plugin folder for --{place}")


def _answer(tshark: Tshark, *arguments: str, user: User | None = None) -> str:
    """What tshark says as this user runs it, with this user's folders; or as another user, with none."""
    command = [tshark.path, *arguments]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    if user is not None:
        environment["HOME"] = "/nonexistent"
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=60,
            env=environment,
            stdin=subprocess.DEVNULL,
            user=user and user.uid,
            group=user and user.gid,
            extra_groups=None if user is None else (),
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise TsharkError(f"cannot run {' '.join(command)}: {problem}") from None
    return (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace")


@dataclass
class Report:
    """What an installation did, or its removal: the names of files."""

    folder: Path
    written: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)  # ours once, changed since: kept
    foreign: list[str] = field(default_factory=list)  # never ours: kept


class Installation:
    """The taps in one plugin folder, in a subfolder of their own, with a note of what was written.

    Nothing is overwritten or removed that was not written here, or that was changed since.
    """

    def __init__(self, plugins: Path) -> None:
        self.folder = plugins / "sharkstat"
        self._note = self.folder / _MANIFEST
        noted = self._read()
        self._sums: dict[str, list[str]] = noted.get("files", {})
        self._own: list[str] = noted.get("own", [])
        self._made: list[str] = noted.get("made", [])

    def _read(self) -> dict[str, Any]:
        try:
            noted: dict[str, Any] = json.loads(self._note.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as problem:
            raise OutputError(
                f"cannot read {self._note} ({problem}): remove it, and any outdated files in its folder"
            ) from None
        # What is not a file right there was not written here, whoever wrote the note.
        for name in [name for name in noted.get("files", {}) if Path(name).name != name]:
            del noted["files"][name]
        above = {str(folder) for folder in self.folder.parents}
        noted["made"] = [folder for folder in noted.get("made", []) if folder in above]
        return noted

    def _save(self) -> None:
        noted = {"by": "sharkstat", "files": self._sums, "own": self._own, "made": self._made}
        _write(self._note, (json.dumps(noted, indent=1, sort_keys=True) + "\n").encode())

    def has(self, name: str) -> bool:
        """Whether a file of that name was installed and is there."""
        return name in self._sums and (self.folder / name).exists()

    def own(self) -> list[Path]:
        """The user's taps that are installed, beside the built-in ones."""
        return [self.folder / name for name in self._own if self.has(name)]

    def install(self, sources: Sequence[Path], own: Sequence[Path] = ()) -> Report:
        """Bring these files in; those of an earlier version that are not among them go.

        `own` are a user's taps: they stay when the built-in ones are installed anew.
        """
        report = Report(self.folder)
        if self.folder.is_symlink():
            raise OutputError(
                f"{self.folder} is a symbolic link, and sharkstat does not write through links: remove it"
            )
        texts = {path.name: path.read_bytes() for path in (*sources, *own)}
        with _explained(self.folder):
            self._make_folder()
            writable = {name: text for name, text in texts.items() if self._may_write(name, text, report)}
            # Noted before it is written, so that nothing is left without an owner, however this ends.
            for name, text in writable.items():
                self._sums[name] = list(dict.fromkeys([*self._sums.get(name, []), _sum(text)]))
            self._own = sorted({*self._own, *(path.name for path in own)} & set(self._sums))
            self._save()
            for name, text in writable.items():
                if name in report.there:
                    continue
                _write(self.folder / name, text)
            for name in sorted(set(self._sums) - set(texts) - set(self._own)):
                self._remove(name, report)
            self._sums.update({name: [_sum(text)] for name, text in writable.items()})
            self._save()
        return report

    def uninstall(self) -> Report:
        """Remove what was installed, and the folders that were made for it if they are empty."""
        report = Report(self.folder)
        with _explained(self.folder):
            for name in sorted(self._sums):
                self._remove(name, report)
            self._note.unlink(missing_ok=True)
            for folder in [str(self.folder), *self._made]:
                with contextlib.suppress(OSError):  # it is not empty, or not there
                    Path(folder).rmdir()
        return report

    def _make_folder(self) -> None:
        missing = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(mode=0o755)
        self._made = [str(folder) for folder in missing if folder != self.folder] or self._made

    def _may_write(self, name: str, text: bytes, report: Report) -> bool:
        path = self.folder / name
        if not path.exists() and not path.is_symlink():
            report.written.append(name)
        elif name not in self._sums:
            report.foreign.append(name)
            return False
        elif path.is_symlink() or _sum(path.read_bytes()) not in self._sums[name]:
            report.changed.append(name)
            return False
        elif _sum(path.read_bytes()) == _sum(text):
            report.there.append(name)
        else:
            report.replaced.append(name)
        return True

    def _remove(self, name: str, report: Report) -> None:
        path = self.folder / name
        if path.is_symlink() or (path.exists() and _sum(path.read_bytes()) not in self._sums[name]):
            report.changed.append(name)
        elif path.exists():
            path.unlink()
            report.removed.append(name)
        del self._sums[name]


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    """The whole file or nothing, for all to read."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".sharkstat-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError:
        raise OutputError(f"{folder}: permission denied: install with --user, or as root with --system") from None
    except OSError as problem:
        raise OutputError(f"{folder}: {problem.strerror}") from None


def check_own(tshark: Tshark, paths: Sequence[Path]) -> None:
    """RequestError where a file is no tap, or no Lua, or would take a built-in file's place."""
    taken = {path.name for path in lua_folder().glob("*.lua")}
    for path in paths:
        if path.suffix != ".lua" or not path.is_file():
            raise RequestError(f"{path} is not a Lua file")
        if path.name in taken:
            raise RequestError(f"{path}: {path.name} is the name of a built-in file: rename yours")
        if not header_of(path) and not is_tap(path):
            raise RequestError(f"{path} is not a tap: it has no header and registers no statistic (see docs/taps.md)")
        if bad := _syntax_error(tshark, path):
            raise RequestError(f"{path} is not installed: {bad}")


def _syntax_error(tshark: Tshark, path: Path) -> str:
    """What tshark says of a file that is no Lua; or "".

    Where root asks, another user runs tshark, which loads no Lua as root from 4.4 on; so the file is copied to a place
    that others can read.
    """
    user = unprivileged_user()
    try:
        with tempfile.TemporaryDirectory(prefix="sharkstat-") as folder:
            copy = Path(folder) / path.name
            copy.parent.chmod(0o755)
            copy.write_bytes(path.read_bytes())
            copy.chmod(0o644)
            said = _answer(tshark, "-X", f"lua_script:{copy}", "-z", "help", user=user)
            bad = re.search(r"Lua: syntax error: (.+)", said)
            return bad[1].replace(str(copy), str(path)) if bad else ""
    finally:
        if user is not None:
            user.release()


def summary(report: Report) -> str:
    """What was done, in one line."""

    def counted(names: Sequence[str], what: str) -> str:
        return f"{len(names)} file{'' if len(names) == 1 else 's'} {what}"

    done = (
        (report.written, "written"),
        (report.replaced, "updated"),
        (report.removed, "removed"),
        (report.there, "already installed"),
    )
    said = ", ".join(counted(names, what) for names, what in done if names)
    return f"{report.folder}: {said or 'nothing to do'}"


def kept(report: Report) -> list[str]:
    """A line for each file that was left as it is."""
    said = [f"kept {report.folder / name}: it was changed since it was installed" for name in report.changed]
    return said + [f"kept {report.folder / name}: sharkstat did not install it" for name in report.foreign]


def names_in(tshark: Tshark, names: Sequence[str]) -> tuple[list[str], str]:
    """Those of the names that this user's tshark does not list, and why that may be; "" where it lists all."""
    listed = set(re.findall(r"^ {5}(\S+)$", _answer(tshark, "-z", "help"), re.MULTILINE))
    missing = [name for name in names if name not in listed]
    if not missing:
        return [], ""
    if 0 in (os.geteuid(), os.getegid()):
        return missing, "tshark 4.4 and later load no Lua as root or in group 0; other users do have them"
    return (
        missing,
        "check that Lua is enabled (enable_lua in init.lua), and that no other file of that name is loaded first",
    )


def installations(tshark: Tshark) -> Mapping[str, Installation]:
    """Where taps may be installed, by place."""
    return {place: Installation(plugin_folder(tshark, place)) for place in ("user", "system")}
