"""A private folder for one run, and the processes in it: isolated, unprivileged, and gone at its end.

It is tshark's HOME and configuration folder, so that no result depends on this machine's preferences, plugins or
locale. Started by root, tshark runs as a user without rights. That is also why the taps run at all: tshark 4.4 and
later, as root or in group 0, load no Lua script, and say nothing.

A process of that user may be in the hands of whoever sent packets. So the folder stays root's: that user can read what
is there for it, but neither make, remove nor rename anything. The one file that tshark writes is made beforehand.
Captures and keys are lent without a name, readable by tshark alone, as long as it runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from sharkstat.errors import RequestError, TsharkError
from sharkstat.tshark.confinement import Confinement, paths_in, reason_without
from sharkstat.tshark.guard import PREFIX, Guard, Guarded, lock, sweep
from sharkstat.tshark.process import ANSWER, NAMES, Tshark, clean_environment, data_of
from sharkstat.tshark.users import User, unprivileged_user


class Workspace:
    """A private folder for one run, gone at its end."""

    def __init__(self, tshark: Tshark) -> None:
        self.tshark = tshark
        sweep()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX)).absolute()
        self.user: User | None = None
        self.network = False  # whether tshark may use it, to resolve names
        self._lent: list[int] = []
        self._allowed: list[Path] = []
        self._data: Path | None = None  # instead of tshark's own
        self._closing = contextlib.ExitStack()
        try:
            self._closing.callback(shutil.rmtree, self.path, ignore_errors=True)
            self._closing.callback(os.close, lock(self.path))
            self.guard = Guard(self.path)
            self._closing.callback(self.guard.release)
            self.user = unprivileged_user()
            if self.user is not None:
                self._closing.callback(self.user.release)
                self._check_way()
                self._own(self.path, 0o710)
            self._folder(self.path / "config")
        except BaseException:
            self._closing.close()
            raise

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for descriptor in self._lent:
            os.close(descriptor)
        self._closing.close()

    def _check_way(self) -> None:
        """TsharkError where the other user could not come to the folder."""
        assert self.user is not None
        for folder in self.path.parents:
            state = folder.stat()
            way = 0o010 if state.st_gid == self.user.gid else 0o001
            if not state.st_mode & way and state.st_uid != self.user.uid:
                raise TsharkError(
                    f"tshark, which runs as an unprivileged user, cannot access {folder}: set TMPDIR to another folder"
                )

    # What is in it -----------------------------------------------------------------------------

    def _own(self, path: Path, mode: int) -> None:
        """The file or folder stays ours, and is readable by tshark."""
        if self.user is not None:
            os.chown(path, 0, self.user.gid, follow_symlinks=False)
            path.chmod(mode)

    def _folder(self, path: Path) -> None:
        for folder in [*reversed(path.parents), path]:
            if self.path in folder.parents and not folder.exists():
                folder.mkdir()
                self._own(folder, 0o750)

    def _create(self, path: Path) -> int:
        self._folder(path.parent)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def write(self, name: str, text: str) -> Path:
        """A file in the workspace that tshark can read."""
        path = self.path / name
        with os.fdopen(self._create(path), "wb") as out:
            out.write(text.encode("utf-8", "surrogateescape"))
        self._own(path, 0o640)
        return path

    def writable(self, name: str) -> Path:
        """The path of a file that tshark may write."""
        path = self.path / name
        if self.user is not None and not path.exists():
            descriptor = self._create(path)
            os.fchown(descriptor, self.user.uid, self.user.gid)
            os.close(descriptor)
        return path

    def readable(self, path: Path, name: str | None = None) -> Path:
        """The path of a file or folder that tshark can read: itself, or, where tshark is another user, a copy.

        What is nobody's business is lent instead.
        """
        if self.user is None:
            self.allow(path if path.is_dir() else path.parent)  # a tap may read what is beside it
            return path.absolute()
        target = self.path / (name or path.name)
        self._copy(path, target)
        return target

    def allow(self, path: Path) -> None:
        """Let tshark read a file or folder outside, as far as its user may."""
        self._allowed.append(path)

    def sees(self, folder: Path) -> bool:
        """Whether tshark can read all files of a folder where they are: every user can, or tshark runs as this one."""
        if self.user is None:
            return True
        files = [inside.stat().st_mode for inside in os.scandir(folder) if inside.is_file()]
        ways = [way.stat().st_mode for way in (folder, *folder.parents)]
        return all(mode & 0o004 for mode in files) and all(mode & 0o001 for mode in ways)

    def _copy(self, source: Path, target: Path) -> None:
        """A copy of a file, or of a folder with all that is in it; each run makes some dozen."""
        if not source.is_dir():
            self._folder(target.parent)
            self._copy_file(str(source), str(target))
            return
        self._folder(target)
        for inside in os.scandir(source):
            if not inside.is_dir():
                self._copy_file(inside.path, f"{target}/{inside.name}")
            elif inside.name != "__pycache__":
                self._copy(Path(inside.path), target / inside.name)

    def _copy_file(self, source: str, target: str) -> None:
        copy = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(copy, "wb") as out, Path(source).open("rb") as content:
            shutil.copyfileobj(content, out)
            if self.user is not None:
                os.fchown(copy, 0, self.user.gid)
                os.fchmod(copy, 0o640)

    def lend(self, path: Path) -> str:
        """The path by which tshark, and no other process, can read a file as long as it runs.

        Where tshark is another user that is a copy without a name in any folder: nothing is left of it, whatever ends.
        """
        if self.user is None:
            self.allow(path)
            return str(path.absolute())
        with tempfile.NamedTemporaryFile(dir=self.path, delete=False) as out, path.open("rb") as content:
            Path(out.name).unlink()
            shutil.copyfileobj(content, out, 1 << 20)
            out.flush()
            descriptor = os.dup(out.fileno())
        os.fchown(descriptor, self.user.uid, self.user.gid)
        os.fchmod(descriptor, 0o400)
        os.lseek(descriptor, 0, os.SEEK_SET)
        self._lent.append(descriptor)
        return f"/dev/fd/{descriptor}"

    def use_hosts(self, path: Path) -> None:
        """Make a hosts file tshark's own, which it reads for -N n."""
        self.write("config/hosts", path.read_text(encoding="utf-8", errors="surrogateescape"))

    def use_profile(self, profile: str) -> None:
        """Make the user's configuration profile of that name tshark's; RequestError where there is none."""
        own = os.environ.get("WIRESHARK_CONFIG_DIR", "")
        home = os.path.expanduser("~")  # noqa: PTH111 - Path's own fails for a user whom nothing gives a home
        folders = [Path(own)] if own else [Path(home, ".config", "wireshark"), Path(home, ".wireshark")]
        for folder in folders:
            source = folder / "profiles" / profile
            if source.is_dir():
                self._copy(source, self.path / "config" / "profiles" / profile)
                for file in filter(Path.is_file, source.iterdir()):
                    for named in paths_in(file.read_text(encoding="utf-8", errors="surrogateescape")):
                        self.allow(named)
                return
        places = " or ".join(str(folder / "profiles") for folder in folders)
        raise RequestError(f"no configuration profile {profile!r} in {places}")

    def spare_names(self) -> None:
        """Let tshark start without its tables of names: makers of network cards, enterprises, services.

        tshark 4.0 reads these four megabytes of text whenever it starts, for a third of that time; later ones have them
        in the program. It gets a folder of links to its other data.
        """
        data = data_of(self.tshark.path)
        if self._data is not None or data is None:
            return
        self._data = self.path / "data"
        self._folder(self._data)
        for inside in os.scandir(data):
            if inside.name not in NAMES and not inside.name.endswith(".html"):
                os.symlink(inside.path, f"{self._data}/{inside.name}")  # noqa: PTH211 - a third of pathlib's time

    def pipe(self) -> tuple[int, int]:
        """A pipe whose ends tshark may open again by /dev/fd, whoever it runs as."""
        read_end, write_end = wide_pipe()
        if self.user is not None:
            os.fchown(write_end, self.user.uid, self.user.gid)
            os.fchown(read_end, self.user.uid, self.user.gid)
        return read_end, write_end

    # What runs in it ---------------------------------------------------------------------------

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

        def started() -> Guarded:
            return Guarded(
                self.guard,
                list(command),
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                pass_fds=(*pass_fds, *(() if privileged else self._lent)),
                env=clean_environment(self.path, self._data),
                cwd="/" if self.user is not None and not privileged else None,
                start_new_session=True,
                **as_user,
            )

        try:
            if privileged or reason_without(command[0]):
                return started()
            confinement = Confinement(command[0], self._allowed, [self.path], self.network)
            try:
                return confinement.start(started)
            finally:
                confinement.close()
        except PermissionError as problem:
            raise TsharkError(
                f"cannot run {command[0]} as an unprivileged user ({problem.strerror}): run sharkstat as a normal user"
            ) from None
        except OSError as problem:
            raise TsharkError(f"cannot start {command[0]}: {problem.strerror}") from None


def wide_pipe() -> tuple[int, int]:
    """A pipe that holds a megabyte, for fewer changes between two processes; refused where users have a quota."""
    read_end, write_end = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 1 << 20)
    return read_end, write_end


def answer(tshark: Tshark, *arguments: str) -> str:
    """What tshark says when it is only asked, run as a run would be: without the user's own scripts.

    TsharkError where it does not end.
    """
    with Workspace(tshark) as workspace:
        process = workspace.start([tshark.path, *arguments], stdout=subprocess.PIPE)
        try:
            said = process.communicate(timeout=ANSWER)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            asked = " ".join(arguments)
            raise TsharkError(f"{tshark.path} {asked} does not finish: is it really tshark?") from None
    if process.returncode < 0:
        how = signal.Signals(-process.returncode).name
        raise TsharkError(f"{tshark.path} {' '.join(arguments)} was killed ({how}): try again")
    return b"".join(part or b"" for part in said).decode("utf-8", "replace")
