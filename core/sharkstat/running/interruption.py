"""Ctrl-C, SIGTERM and SIGHUP: where they abort a run, and where they let it finish early."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal arrived outside a run. A BaseException, so that no library catches it on the way."""


# Signals that `interrupt` got. What it raises is lost where Python calls us from a destructor or a weak reference.
_got: list[int] = []


def interrupt(number: int, frame: FrameType | None) -> None:
    """The command's signal handler: SIGTERM and SIGHUP clean up just as Ctrl-C does."""
    _got.append(number)
    raise Interrupted


class Interruption:
    """A context in which a signal is noted, and raised as KeyboardInterrupt only where that is `allowed`.

    So no signal hits between creating a folder or a process and recording that it exists. The application's own
    handlers stay in place. Only the main thread gets signals.
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
            if _got:
                self.told, self.number = True, _got[0]
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
        """Act as on a signal, but for a thread other than the main one: `at_last` is called to abort the run."""
        first, self.told = not self.told, True
        action = self._softly if first else self._at_last
        if action is not None:
            action()

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """A context in which the run may end at once, also because of an earlier signal."""
        if self.told:
            raise KeyboardInterrupt
        with self._waiting():
            yield

    @contextlib.contextmanager
    def softly(self, action: Callable[[], None], at_last: Callable[[], None] = lambda: None) -> Iterator[None]:
        """A context in which the first signal calls `action`, which lets the run finish; the second aborts it.

        In other threads, which get no signals, `at_last` aborts the run (see `tell`).
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
