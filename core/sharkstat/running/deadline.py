"""Ends a run that takes too long: first by asking its programs to stop, then by killing them."""

from __future__ import annotations

import functools
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from types import TracebackType

from sharkstat.running.opened import GRACE, Opened


class Deadline:
    """A context in which a run ends at `ends` (on the monotonic clock; None: never), with the results so far.

    Programs that do not end with their input are killed: first the helpers, so that tshark can still report, then
    tshark, unless it is sending its results: `heard` is how many records came. A live capture with a duration ends on
    time even if its interface is gone, for which dumpcap would wait.
    """

    def __init__(
        self,
        ends: float | None,
        opened: Opened,
        process: subprocess.Popen[bytes],
        stop: Callable[[], None],
        heard: Callable[[], int],
    ) -> None:
        self.passed = False
        self._opened = opened
        self._process = process
        self._stop = stop
        self._heard = heard
        self._timers: list[threading.Timer] = []
        if ends is not None:
            self._at(max(0.0, ends - time.monotonic()), self._pass)
        for condition in opened.source.autostop:
            kind, _, seconds = condition.partition(":")
            if kind == "duration":
                self._at(float(seconds) + GRACE, opened.interrupt)

    def _at(self, seconds: float, action: Callable[[], None]) -> None:
        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), action)
        timer.daemon = True
        self._timers.append(timer)

    def _start(self, seconds: float, action: Callable[[], None]) -> None:
        self._at(seconds, action)
        self._timers[-1].start()

    def _pass(self) -> None:
        self.passed = True
        self._stop()
        if not self._heard():  # it has not even started: there is nothing to wait for
            self._start(1, functools.partial(self._kill_if_silent, 0))
            return
        self._start(GRACE, self._opened.kill)
        self._start(2 * GRACE, functools.partial(self._kill_if_silent, self._heard()))

    def _kill_if_silent(self, before: int) -> None:
        """Kill tshark, unless records have come since there were so many: many rows take their time."""
        heard = self._heard()
        if heard == before:
            self._opened.kill()
            self._process.kill()
        else:
            self._start(GRACE, functools.partial(self._kill_if_silent, heard))

    def __enter__(self) -> Deadline:
        for timer in tuple(self._timers):  # one that is due at once adds others
            timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for timer in self._timers:
            timer.cancel()


def resume(process: subprocess.Popen[bytes]) -> None:
    """Let a process that somebody stopped (SIGSTOP) go on, so that it can end."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
