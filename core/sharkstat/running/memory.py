"""How much memory a run may take, and how much it takes."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from sharkstat.errors import RequestError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size_of(text: str) -> int:
    """A number of bytes, as 4G or 500M (1024-based); RequestError for anything else.

    >>> size_of("4G"), size_of("0")
    (4294967296, 0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not found:
        raise RequestError(f"--max-memory {text}: give a size such as 4G or 500M, or 0 for no limit")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def available() -> int | None:
    """How many bytes are free on this machine, or in this container; None where that is not known."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    free = [int(found[1]) << 10] if found else []
    try:
        group = Path("/sys/fs/cgroup", Path("/proc/self/cgroup").read_text().rpartition(":")[2].strip().lstrip("/"))
        free.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no control group, or one without a limit
        pass
    return max(0, min(free)) if free else None


def used(pid: int | None = None) -> int:
    """The resident bytes of this process and of all that it started."""
    total, waiting = 0, [os.getpid() if pid is None else pid]
    while waiting:
        folder = Path(f"/proc/{waiting.pop()}")
        try:
            total += int((folder / "statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for task in (folder / "task").iterdir():
                waiting += map(int, (task / "children").read_bytes().split())
        except (OSError, ValueError, IndexError):  # it has ended, or there is no /proc
            continue
    return total


class MemoryWatch:
    """A context in which a run ends that takes too much.

    `stop` is called when it takes more than half of `limit` (bytes; None or 0: no limit): reading ends then, and the
    rest is for the tables. `kill` is called when it takes all of it.
    """

    def __init__(self, limit: int | None, stop: Callable[[], None], kill: Callable[[], None]) -> None:
        self.limit = limit or 0
        self.passed = False
        self._steps = [(self.limit / 2, stop), (self.limit, kill)] if self.limit else []
        self._done = threading.Event()

    def _watch(self) -> None:
        while self._steps and not self._done.wait(0.25):
            taken = used()
            while self._steps and taken > self._steps[0][0]:
                _, action = self._steps.pop(0)
                self.passed = True
                action()

    def __enter__(self) -> MemoryWatch:
        if self._steps:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._done.set()
