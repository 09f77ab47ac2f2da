"""Ctrl-C, SIGTERM and SIGHUP: where they end a run, and where they only make it come to its end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal came while the command did something else than to run; no library catches it on its way."""


def interrupt(number: int, frame: FrameType | None) -> None:
    """The command's own handler, so that SIGTERM and SIGHUP let nothing lie about, as Ctrl-C does."""
    raise Interrupted


class Interruption:
    """Within it the first signal is noted, and a KeyboardInterrupt is raised only where that is `allowed`.

    So none comes between making a folder or a process and writing down that it is there. Handlers of the
    application's own are left in place, and other threads than the main one get no signals.
    """

    def __init__(self) -> None:
        self.told = False
        self.number = 0  # of the first signal
        self._allowed = 0
        self._softly: Callable[[], None] | None = None
        self._at_last: Callable[[], None] = lambda: None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler, interrupt):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        first, self.told = not self.told, True
        self.number = self.number or number
        if first and self._softly is not None:
            self._softly()
        elif self._allowed:
            self._allowed = 0
            raise KeyboardInterrupt

    def tell(self) -> None:
        """What a signal does, in another thread than the main one: where it would end the run, `at_last` is called."""
        first, self.told = not self.told, True
        action = self._softly if first else self._at_last
        if action is not None:
            action()

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Where the run may end at once, at a signal that came before, too."""
        if self.told:
            raise KeyboardInterrupt
        with self._waiting():
            yield

    @contextlib.contextmanager
    def softly(self, action: Callable[[], None], at_last: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Where the first signal calls `action`, which lets the run come to its end, and only the second ends it.

        `at_last` does so for a run in another thread, where no signal comes (`tell`).
        """
        self._softly, self._at_last = action, at_last
        if self.told:
            action()
        try:
            with self._waiting():
                yield
        finally:
            self._softly, self._at_last = None, lambda: None

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[None]:
        self._allowed += 1
        try:
            yield
        finally:
            self._allowed = max(self._allowed - 1, 0)
