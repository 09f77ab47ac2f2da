"""What happens when sharkstat itself is killed: a shell waits for that, ends what it started, and tidies up."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

# It reads what is written down for it: "start PID", "end PID", "done". Its input ends before that where sharkstat was
# killed: nothing else holds the other end.
_SCRIPT = """
running=
while read -r word pid; do
  case $word in
    start) running="$running $pid" ;;
    end) left=; for one in $running; do [ "$one" = "$pid" ] || left="$left $one"; done; running=$left ;;
    done) exit 0 ;;
  esac
done
for pid in $running; do kill -9 "-$pid" 2>/dev/null; kill -9 "$pid" 2>/dev/null; done
rm -rf -- "$1"
"""
PREFIX = "sharkstat-run-"
_YOUNG = 10.0  # seconds in which a folder may not be locked yet


class Guard:
    """Watches over a folder and processes."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "sharkstat", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", os.defpath)},
            cwd="/",
            start_new_session=True,
        )

    def tell(self, word: str, pid: int | str = "") -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # somebody ended it
            os.write(self._process.stdin.fileno(), f"{word} {pid}\n".encode())

    def release(self) -> None:
        self.tell("done")
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.send_signal(signal.SIGCONT)  # somebody may have stopped it
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Guarded(subprocess.Popen[bytes]):
    """A process that a guard knows of, as long as there is one."""

    def __init__(self, guard: Guard, *arguments: Any, **options: Any) -> None:
        self._guard = guard
        self._known = False
        super().__init__(*arguments, **options)
        self._known = True
        guard.tell("start", self.pid)

    def _end(self) -> None:
        if self._known and self.returncode is not None:
            self._known = False
            self._guard.tell("end", self.pid)

    def kill(self) -> None:
        """Kill it with all that it started: it is in a session of its own, and may be a script."""
        if self.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
            super().kill()

    def poll(self) -> int | None:
        status = super().poll()
        self._end()
        return status

    def wait(self, timeout: float | None = None) -> int:
        status = super().wait(timeout)
        self._end()
        return status


def lock(folder: Path) -> int:
    """A descriptor that says, as long as it is open, that the folder is in use."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def sweep() -> None:
    """Remove the folders of runs that ended so badly that not even their guard could: both were killed."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(tempfile.gettempdir()):
            if not entry.name.startswith(PREFIX):
                continue
            with contextlib.suppress(OSError):
                state = entry.stat(follow_symlinks=False)
                ours = state.st_uid == os.geteuid() and stat.S_ISDIR(state.st_mode)
                if not ours or time.time() - state.st_mtime < _YOUNG:
                    continue
                descriptor = lock(Path(entry.path))
                try:
                    shutil.rmtree(entry.path, ignore_errors=True)
                finally:
                    os.close(descriptor)
