"""The tshark process: found, checked, isolated, and never root.

A run gets a `Workspace`: a private folder that is tshark's HOME and configuration folder, so that no
result depends on this machine's preferences, plugins or locale; and, when started by root, a user
without rights that tshark runs as. That is also why the taps run at all: tshark 4.4 and later, as root
or in group 0, load no Lua script, and say nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from sharkstat.errors import RequestError, TsharkError

OLDEST = (4, 0)
INSTALL = (
    "install it (Debian, Ubuntu: apt install tshark; Fedora: dnf install wireshark-cli; macOS: brew install wireshark)"
)


@dataclass(frozen=True)
class Facts:
    """What a tshark says of itself: version, and the version of Lua that it was built with."""

    version: str
    lua: str


@dataclass(frozen=True)
class Tshark:
    """A tshark program. Asking it what it is takes as long as reading many packets, so only who must asks."""

    path: str

    def check(self) -> Facts:
        """TsharkError if it is no tshark, too old, or was built without Lua."""
        try:
            done = subprocess.run(
                [self.path, "--version"],
                capture_output=True,
                text=True,
                timeout=60,
                env=clean_environment(None),
            )
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise TsharkError(f"{self.path} does not run ({problem}): {INSTALL}") from None
        found = re.search(r"TShark \(Wireshark\) (\d+)\.(\d+)\.(\d+)", done.stdout)
        if not found:
            raise TsharkError(f"{self.path} does not tell its version, so it is no tshark: {INSTALL}")
        version = ".".join(found.groups())
        if tuple(map(int, found.groups()))[:2] < OLDEST:
            raise TsharkError(f"{self.path} is {version}: sharkstat needs tshark 4.0 or later; {INSTALL}")
        lua = re.search(r"(?:with\s+|\+)Lua\s+(\S+?)[,\s]", done.stdout.replace("\n", " "))  # "+Lua" since 4.6
        if not lua:
            raise TsharkError(
                f"{self.path} was built without Lua, which the taps need: install your system's own package"
            )
        return Facts(version, lua.group(1))


def find_tshark() -> Tshark:
    """The tshark to use: $SHARKSTAT_TSHARK, or the first on the PATH. TsharkError where there is none."""
    wanted = os.environ.get("SHARKSTAT_TSHARK", "tshark")
    path = shutil.which(wanted)
    if path is None:
        raise TsharkError(f"{wanted} was not found: {INSTALL}")
    return Tshark(path)


def find_tool(name: str, tshark: Tshark) -> str:
    """The path of a program that comes with tshark: dumpcap, mergecap."""
    beside = Path(tshark.path).parent / name
    path = str(beside) if beside.exists() else shutil.which(name)
    if path is None:
        raise TsharkError(
            f"{name} was not found beside tshark: install the rest of Wireshark (Debian: wireshark-common)"
        )
    return path


_KEPT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "DYLD_LIBRARY_PATH", "TZ", "TZDIR")


def time_zone() -> str:
    """The time zone in which tshark reads dates: TZ, or the system's. Its name, as "Europe/Berlin" or "UTC"."""
    chosen = os.environ.get("TZ")
    if chosen is not None:
        return chosen.removeprefix(":") or "UTC"
    _, found, name = os.path.realpath("/etc/localtime").partition("/zoneinfo/")
    return name.removeprefix("Etc/") if found else time.tzname[0]


def clean_environment(home: Path | None) -> dict[str, str]:
    """An environment in which tshark's output does not depend on the user's.

    The time zone stays the user's: tshark reads the dates in display filters in it.
    """
    kept = {k: v for k, v in os.environ.items() if k in _KEPT}
    kept.update(LC_ALL="C.UTF-8")
    if home is not None:
        kept.update(HOME=str(home), WIRESHARK_CONFIG_DIR=str(home / "config"), XDG_CONFIG_HOME=str(home / ".config"))
    return kept


@dataclass(frozen=True)
class User:
    uid: int
    gid: int


def unprivileged_user() -> User | None:
    """The user that tshark runs as: None for who we are, unless that is root."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return User(entry.pw_uid, entry.pw_gid)


class Workspace:
    """A private folder for one run, gone at its end."""

    def __init__(self, tshark: Tshark) -> None:
        self.tshark = tshark
        self.user = unprivileged_user()
        self._folder = tempfile.TemporaryDirectory(prefix="sharkstat-", ignore_cleanup_errors=True)
        self.path = Path(self._folder.name)
        (self.path / "config").mkdir()
        self._give(self.path)
        self._give(self.path / "config")

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._folder.cleanup()

    def _give(self, path: Path) -> None:
        if self.user is not None:
            os.chown(path, self.user.uid, self.user.gid)

    def write(self, name: str, text: str) -> Path:
        """A file in the workspace that tshark can read."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        self._give(path.parent)
        self._give(path)
        return path

    def readable(self, path: Path, name: str | None = None) -> Path:
        """The path of a file that tshark can read: itself, or, where tshark is another user, a copy."""
        if self.user is None:
            return path.absolute()
        target = self.path / (name or path.name)
        if path.is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True)
            for inside in [target, *target.rglob("*")]:
                self._give(inside)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            self._give(target.parent)
            self._give(target)
        return target

    def use_profile(self, profile: str) -> None:
        """Make the user's configuration profile of that name tshark's; RequestError where there is none."""
        own = Path(os.environ.get("WIRESHARK_CONFIG_DIR", ""))
        folders = [own] if own.name else [Path.home() / ".config" / "wireshark", Path.home() / ".wireshark"]
        for folder in folders:
            source = folder / "profiles" / profile
            if source.is_dir():
                shutil.copytree(source, self.path / "config" / "profiles" / profile)
                for inside in [
                    self.path / "config" / "profiles",
                    *(self.path / "config" / "profiles").rglob("*"),
                ]:
                    self._give(inside)
                return
        places = " or ".join(str(folder / "profiles") for folder in folders)
        raise RequestError(f"there is no profile {profile!r} in {places}")

    def pipe(self) -> tuple[int, int]:
        """A pipe whose ends tshark may open again by /dev/fd, whoever it runs as."""
        read_end, write_end = os.pipe()
        if hasattr(fcntl, "F_SETPIPE_SZ"):  # fewer changes between the two processes; refused where users have a quota
            with contextlib.suppress(OSError):
                fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 1 << 20)
        if self.user is not None:
            os.fchown(write_end, self.user.uid, self.user.gid)
            os.fchown(read_end, self.user.uid, self.user.gid)
        return read_end, write_end

    def start(
        self,
        command: Sequence[str],
        *,
        stdin: int | IO[Any] = subprocess.DEVNULL,
        stdout: int | IO[Any] = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
        privileged: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start a program of Wireshark's in the workspace, unprivileged unless it must capture.

        It is in a session of its own, so Ctrl-C reaches only sharkstat, which decides who stops.
        """
        as_user: dict[str, Any] = {}
        if self.user is not None and not privileged:
            as_user = {"user": self.user.uid, "group": self.user.gid, "extra_groups": []}
        try:
            return subprocess.Popen(
                list(command),
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                pass_fds=tuple(pass_fds),
                env=clean_environment(self.path),
                cwd="/" if self.user is not None and not privileged else None,
                start_new_session=True,
                **as_user,
            )
        except PermissionError as problem:
            raise TsharkError(
                f"cannot run {command[0]} as an unprivileged user ({problem.strerror}): run sharkstat as a normal user"
            ) from None
        except OSError as problem:
            raise TsharkError(f"cannot start {command[0]}: {problem.strerror}") from None


def answer(tshark: Tshark, *arguments: str) -> str:
    """What tshark says when it is only asked, run as a run would be: without the user's own scripts.

    TsharkError where it does not end.
    """
    with Workspace(tshark) as workspace:
        process = workspace.start([tshark.path, *arguments], stdout=subprocess.PIPE)
        try:
            said = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            asked = " ".join(arguments)
            raise TsharkError(f"{tshark.path} {asked} does not end: it is no tshark that sharkstat knows") from None
    return b"".join(part or b"" for part in said).decode("utf-8", "replace")
