"""Snapshots: the tables of a run so far, from time to time."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from sharkstat.errors import RequestError, StatisticError
from sharkstat.running.pacing import Pacing
from sharkstat.tables.column import Reading
from sharkstat.tables.table import Table
from sharkstat.tshark.records import Records
from sharkstat.tshark.workspace import Workspace

if TYPE_CHECKING:
    from sharkstat.running.opened import Opened
    from sharkstat.running.plan import Plan

SHORTEST = 0.1  # seconds from one snapshot to the next


class Snapshot(list[Table]):
    """The tables of a run so far, one a request, in order: exactly those of the packets that were counted until then.

    `number` counts snapshots from 1. `time` is when it was taken (nanoseconds since 1970), `elapsed` how many seconds
    the run had been going; `packets` were counted by then, whatever the statistics see of them. The last one, of the
    whole run, is `final`.

    `dropped` packets were lost until then, `dropped_by_interface` of them by the interface itself; None where nobody
    tells before the end. `waiting` is how many captured bytes are not counted yet.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        number: int,
        time: int,
        elapsed: float,
        packets: int,
        final: bool = False,
        dropped: int | None = None,
        dropped_by_interface: int | None = None,
        waiting: int = 0,
    ) -> None:
        super().__init__(tables)
        self.number = number
        self.time = time
        self.elapsed = elapsed
        self.packets = packets
        self.final = final
        self.dropped = dropped
        self.dropped_by_interface = dropped_by_interface
        self.waiting = waiting


@dataclass
class Watch:
    """Who wants snapshots, and how often.

    `take` is called with each, every so many seconds, but not with the final tables. While it runs, tshark waits. What
    it raises ends the run.
    """

    every: float
    take: Callable[[Snapshot], None]
    given: int = field(default=0, init=False)
    problem: BaseException | None = field(default=None, init=False)  # what `take` raised: it ended the run
    began: float = field(default_factory=time.monotonic, init=False)
    _end: Callable[[], None] | None = field(default=None, init=False)
    _abort: Callable[[], None] | None = field(default=None, init=False)
    _stopped: bool = field(default=False, init=False)
    _taking: bool = field(default=False, init=False)

    def begin(self, end: Callable[[], None], abort: Callable[[], None]) -> None:
        """The run has begun; `end` ends it with its results, `abort` without."""
        self._end, self._abort = end, abort
        if self._stopped:
            end()

    def stop(self) -> None:
        """End the run: what came until now is counted."""
        self._stopped = True
        if self._end is not None:
            self._end()

    def insist(self, number: int, after: float) -> None:
        """A signal of that number ends the run: if `take` does not come back then, as where nobody reads a pipe, it is
        sent again after so many seconds, which aborts the run.
        """

        def again() -> None:
            main = threading.main_thread().ident
            if self._taking and main is not None:
                signal.pthread_kill(main, number)

        timer = threading.Timer(after, again)
        timer.daemon = True
        timer.start()

    @property
    def elapsed(self) -> float:
        """Seconds for which the run has been going."""
        return time.monotonic() - self.began

    def give(self, tables: Sequence[Table], when: int, packets: int, opened: Opened) -> None:
        """Hand on the tables of that moment (nanoseconds since 1970)."""
        if self.problem is not None:
            return
        self.given += 1
        elapsed = self.elapsed - (time.time_ns() - when) / 1e9
        kernel, interface = opened.kernel_dropped, opened.interface_dropped
        dropped = None if kernel is None else kernel + (interface or 0)
        self._taking = True
        try:
            self.take(
                Snapshot(tables, self.given, when, elapsed, packets, False, dropped, interface, waiting=opened.waiting)
            )
        except BaseException as problem:  # it may be called in any thread
            self.problem = problem
            if self._abort is not None:
                self._abort()
        finally:
            self._taking = False

    def final(self, tables: Sequence[Table]) -> Snapshot:
        """The last snapshot, of the whole run."""
        packets = max((t.reading.captured or t.reading.packets for t in tables), default=0)
        reading = tables[0].reading if tables else Reading()
        lost = reading.dropped, reading.dropped_by_interface
        return Snapshot(tables, self.given + 1, time.time_ns(), self.elapsed, packets, True, *lost)

    def check(self, plan: Plan) -> None:
        """RequestError where there can be no snapshots."""
        if not self.every >= SHORTEST:
            raise RequestError(f"--watch takes a number of seconds of at least {SHORTEST}, not {self.every:g}")
        if not plan.source.live and len(plan.source.files) != 1:
            raise RequestError("--watch needs a live source: -i INTERFACE, or one pipe")
        if plan.source.are_files:
            raise RequestError(
                f"--watch needs a live source (-i INTERFACE or a pipe): {plan.source.files[0]} is a file"
            )
        for request in plan.requests:
            if not request.engine.own:
                raise RequestError(
                    f"{request.text} is counted by tshark itself, which has no results before the end: "
                    "leave it out, or run it without --watch"
                )
        for part in plan.parts:
            if part.prints == "packets":
                whole = [r.text for r in plan.requests if r.task.part is type(part)]
                raise RequestError(
                    f"{', '.join(whole)} reads complete packets, which --watch does not support: declare its fields"
                )


class Ticker:
    """Asks for snapshots at their times, and hands on those that come. Without a watch it does nothing."""

    def __init__(self, watch: Watch | None, workspace: Workspace) -> None:
        self.watch = watch
        self.control: int | None = None  # the end of the pipe that is tshark's
        self.pacing: Pacing | None = None
        self._asked = 0
        self._asked_packets = 0
        self._pending = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._empty: list[Table] = []
        if watch is not None:
            self.control, write_end = workspace.pipe()
            self.pacing = Pacing(write_end)

    def __enter__(self) -> Ticker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.end()
        self.given()
        if self.pacing is not None:
            self.pacing.end()

    def given(self) -> None:
        """tshark has its end of the pipe."""
        if self.control is not None:
            os.close(self.control)
            self.control = None

    def came(self, plan: Plan, records: Records, opened: Opened) -> None:
        """The records of a snapshot are there."""
        from sharkstat.running.results import tables_so_far

        assert self.watch is not None
        try:
            tables = tables_so_far(plan, records, opened)
        except StatisticError as problem:
            tables = problem.tables
        if self._thread is None:  # the one before the first packet
            self._empty = tables
            if opened.capturing_since is not None:
                self.watch.began = time.monotonic() - (time.time() - opened.capturing_since)
            self._thread = threading.Thread(target=self._tick, args=(opened,), daemon=True)
            self._thread.start()
            return
        self._give(tables, self._asked, self._asked_packets, opened)
        self._pending.clear()

    def _give(self, tables: list[Table], when: int, packets: int, opened: Opened) -> None:
        assert self.watch is not None
        with self._lock:
            if not self._ended.is_set():
                self.watch.give(tables, when, packets, opened)

    def _tick(self, opened: Opened) -> None:
        assert self.watch is not None and self.pacing is not None
        every = self.watch.every
        while not self._ended.wait(every - self.watch.elapsed % every):
            if self._pending.is_set():  # the last one has not come yet
                continue
            now, packets = time.time_ns(), self.pacing.packets
            if not packets:
                self._give(self._empty, now, 0, opened)
                continue
            self._asked, self._asked_packets = now, packets
            self._pending.set()
            self.pacing.ask()

    def end(self) -> None:
        """No more snapshots."""
        self._ended.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(5)
