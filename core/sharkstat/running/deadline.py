"""Ends a run that takes too long: first by asking its programs to stop, then by killing them."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from types import TracebackType

from sharkstat.running.opened import Opened

GRACE = 5.0  # seconds between asking and killing, and for dumpcap to stop by itself


class Deadline:
    """A context in which a run ends after `timeout` seconds (None: never), with the results so far.

    Programs that do not end with their input are killed: first the helpers, so that tshark can still report, then
    tshark. A live capture with a duration ends on time even if its interface is gone, for which dumpcap would wait.
    """

    def __init__(
        self, timeout: float | None, opened: Opened, process: subprocess.Popen[bytes], stop: Callable[[], None]
    ) -> None:
        self.passed = False
        self._opened = opened
        self._process = process
        self._stop = stop
        self._timers: list[threading.Timer] = []
        if timeout is not None:
            self._at(timeout, self._pass)
        for condition in opened.source.autostop:
            kind, _, seconds = condition.partition(":")
            if kind == "duration":
                self._at(float(seconds) + GRACE, opened.interrupt)

    def _at(self, seconds: float, action: Callable[[], None]) -> None:
        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), action)
        timer.daemon = True
        self._timers.append(timer)

    def _pass(self) -> None:
        self.passed = True
        for seconds, action in ((GRACE, self._opened.kill), (2 * GRACE, self._process.kill)):
            self._at(seconds, action)
            self._timers[-1].start()
        self._stop()

    def __enter__(self) -> Deadline:
        for timer in self._timers:
            timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for timer in self._timers:
            timer.cancel()
