"""Says so when a run waits for a program that does nothing: nobody should wait without a word."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from sharkstat.running.opened import Opened

STOPPED = 2.0  # seconds for which a program is stopped
IDLE = 10.0  # and for which tshark does nothing, though it has what it needs


def tell(text: str) -> None:
    """Log a warning. The command puts a line on standard error in its place."""
    import logging  # late, since few runs have anything to say

    logging.getLogger("sharkstat").warning(text)


class Vigil:
    """A context in which a warning is logged, once, for each program of a pass that is stopped or does nothing.

    `ready` tells whether tshark has started. It needs /proc, and says nothing elsewhere.
    """

    def __init__(self, opened: Opened, process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
        self._opened = opened
        self._process = process
        self._ready = ready
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._since: dict[int, float] = {}  # for how many seconds a process has been stopped or idle
        self._before: tuple[int, int] = (0, 0)
        self._own = 0.0
        self._told: set[int] = set()

    def __enter__(self) -> Vigil:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._done.set()

    def _watch(self) -> None:
        while not self._done.wait(1):
            for name, process in [("tshark", self._process), *((h.name, h.process) for h in self._opened.helpers)]:
                state = state_of(process.pid)
                if process.returncode is None and state is not None:
                    self._look(name, process.pid, *state)

    def _look(self, name: str, pid: int, state: str, ticks: int) -> None:
        stopped = state in "Tt"
        idle = pid == self._process.pid and self._is_idle(ticks)
        self._since[pid] = self._since.get(pid, 0) + 1 if stopped or idle else 0
        if pid in self._told or self._since[pid] < (STOPPED if stopped else IDLE):
            return
        self._told.add(pid)
        if stopped:
            tell(f"waiting: {name} (process {pid}) is stopped: `kill -CONT {pid}` continues it")
        else:
            tell(f"waiting: {name} (process {pid}) has done nothing for {IDLE:.0f} s: Ctrl-C ends it")

    def _is_idle(self, ticks: int) -> bool:
        """Whether tshark has used no processor time and read nothing, though there is something to do."""
        now, own = (ticks, self._opened.position), time.process_time()
        same, busy = now == self._before, own - self._own > 0.2  # then tshark waits for us
        self._before, self._own = now, own
        return same and not busy and (not self._ready() or bool(self._opened.size and not self._opened.helpers))


def state_of(pid: int) -> tuple[str, int] | None:
    """A process's state (as in ps) and how many clock ticks it has run; None where that cannot be known."""
    try:
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return words[0].decode(), int(words[11]) + int(words[12])
    except (OSError, IndexError, ValueError):
        return None
