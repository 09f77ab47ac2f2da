"""A result for each period of the clock: packets are dealt out to one tshark a period, by their time stamps.

Each result is that of a capture of the period's packets alone, so every statistic can be asked, tshark's own too, and
the memory that tshark takes ends with the period. Nothing is lost at the border: the capture goes on, and the tshark of
the next period reads while that of the last one still draws its results.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sharkstat.errors import RequestError, SharkstatError, StatisticError
from sharkstat.running.capturefile import NO_PACKET, CaptureReader
from sharkstat.running.diagnosis import Ending, judge_drops
from sharkstat.running.drops import DropHistory, Drops
from sharkstat.running.interruption import Interruption
from sharkstat.running.opened import Opened
from sharkstat.running.plan import Plan
from sharkstat.running.runner import run_plan
from sharkstat.running.source import Source
from sharkstat.tables.archive import period_start
from sharkstat.tables.table import Table
from sharkstat.tshark.process import Tshark
from sharkstat.tshark.records import Records
from sharkstat.tshark.workspace import Workspace, wide_pipe

# A packet may come so much later than one with a later time stamp: several interfaces, a busy machine.
GRACE = 2 * 10**9
MOST_AT_ONCE = 4  # periods to which packets are dealt, and as many that draw their results
MOST_EMPTY = 1000  # periods without packets in a row, as after a laptop's sleep
_CHUNK = 1 << 20
_IDLE = 500  # milliseconds

Take = Callable[[int, list[Table]], None]


@dataclass
class Ended:
    """How a run by periods ended: how many results it gave, and whether all packets are in them."""

    periods: int
    packets: int
    complete: bool
    interrupted: bool
    warnings: list[str]
    failures: list[SharkstatError]


def check_periods(source: Source) -> None:
    """RequestError for options that do not go with periods."""
    if source.two_pass or source.read_filter:
        raise RequestError("--every reads its source once: leave out -2 and -R")
    if source.timeout is not None:
        raise RequestError("--every goes on until its source ends: leave out --timeout, or capture with -a duration:")


def run_periods(
    plan: Plan, length: int, tshark: Tshark, take: Take, capturing: Callable[[float], None] | None = None
) -> Ended:
    """Read the plan's source, and call `take` with the beginning of each period and its tables as soon as it is over.

    `length` is that of a period in nanoseconds. Of a live source periods without packets have a result, too; of files
    they have none, since nobody knows whether anything was captured then. Raises a SharkstatError where there can be no
    results at all; what failed in one period is among `failures`, and the others go on.
    """
    check_periods(plan.source)
    with (
        Interruption() as interruption,
        Workspace(tshark) as workspace,
        Opened(plan.source, workspace, interruption, looks=False, capturing=capturing, plain=True) as opened,
    ):
        dealing = _Dealing(plan, length, tshark, opened, take)
        complete, warnings = False, list[str]()
        last: tuple[bool, list[str], Ending | None] = False, [], None
        with interruption.softly(opened.interrupt, dealing.kill):
            try:
                dealing.run()
                opened.given()
                opened.finish()
                records = Records(ready=True, ended=True, books=[str(dealing.packets)])
                ending = Ending(plan, records, opened, tshark, 0, [], interruption.told)
                ending.raise_failures()
                complete, warnings = ending.judge()
                if opened.kernel_dropped is None:  # in which periods packets were dropped nobody knows
                    last = complete, warnings, None
                else:
                    last = *ending.judge(with_drops=False), ending
            finally:
                dealing.end(*last)
        fatal = next((f for f in dealing.failures if isinstance(f, RequestError)), None)
        if fatal is not None:
            raise fatal
        return Ended(dealing.given, dealing.packets, complete, interruption.told, warnings, dealing.failures)


class _Dealing:
    """Deals out the packets of a source."""

    def __init__(self, plan: Plan, length: int, tshark: Tshark, opened: Opened, take: Take) -> None:
        self.packets = self.given = 0
        self.failures: list[SharkstatError] = []
        self._plan, self._length, self._tshark, self._opened, self._take = plan, length, tshark, opened, take
        self._live = plan.source.live
        self._most = None if self._live else plan.source.packets
        self._reader = CaptureReader()
        self._head: list[bytes] = []  # what every period must have before its packets
        self._open: dict[int, _Period] = {}
        self._ending: list[_Period] = []
        self._closed: set[int] = set()
        self._newest: int | None = None
        self._first: int | None = None
        self._last = 0
        self._lock = threading.Lock()
        self._dropped = (0, 0)  # in the periods that have been closed
        self._history = DropHistory(self._read_drops, length)

    def _read_drops(self) -> tuple[int, int] | None:
        kernel = self._opened.kernel_dropped
        return None if kernel is None else (kernel, self._opened.interface_dropped or 0)

    def run(self) -> None:
        """To the end of the source."""
        source, rest = self._opened.stdin, b""
        waiting = select.poll()
        waiting.register(source, select.POLLIN)
        while True:
            if self._live and not waiting.poll(_IDLE):
                self._idle()
                continue
            chunk = os.read(source, _CHUNK)
            if not chunk:
                break
            rest = self._deal(rest + chunk)
            if self._most is not None and self.packets >= self._most:
                break
            if any(isinstance(failure, RequestError) for failure in self.failures):
                self._opened.interrupt()
                break
        if rest and self._open:  # a record that is cut short: tshark says so
            self._at(max(self._open)).write(rest)

    def end(self, complete: bool, warnings: Sequence[str], ending: Ending | None = None) -> None:
        """Nothing more comes: end the periods that are open, the last with what there is to say of the capture.

        With an ending, that of the capture, it is known which period packets were dropped in.
        """
        self._history.end()
        if self._live and self._newest is not None:
            self._last = time.time_ns()
            self._at(max(self._newest, period_start(self._last, self._length)))
        for start in sorted(self._open):
            last = start == max(self._open)
            self._close(start, complete or not last, warnings if last else (), ending if last else None)
        for period in self._ending:
            period.join()

    def kill(self) -> None:
        """End all at once."""
        for period in [*self._open.values(), *self._ending]:
            period.interruption.tell()
            period.interruption.tell()

    def _deal(self, data: bytes) -> bytes:
        """Write the whole records to their periods; what is left is the beginning of the next one."""
        reader, begun, end = self._reader, 0, 0
        low, high, period = 0, 0, None
        for start, stop, _, _, moment, interface in reader.records(data):
            if interface == NO_PACKET:
                if period is not None:
                    period.write(data[begun:start])
                self._take_head(data[start:stop])
                begun = stop
            else:
                if not low <= moment < high or period is None:
                    if period is not None:
                        period.write(data[begun:start])
                    begun, low = start, period_start(moment, self._length)
                    high = low + self._length
                    if self._first is None:
                        since = self._opened.capturing_since
                        self._first = int(since * 1e9) if self._live and since is not None else moment
                    period = self._at(low, late=0 <= self._last - moment <= GRACE)
                    self._end_before(moment)
                self._last = max(self._last, moment)
                self.packets += 1
                period.packets += 1
                if self.packets == self._most:
                    end = stop
                    break
            end = stop
        if period is not None:
            period.write(data[begun:end])
            self._end_before(moment)
        if not reader.known:  # damaged: tshark says how
            self._at(max(self._open, default=period_start(time.time_ns(), self._length))).write(data[end:])
            return b""
        return data[end:]

    def _take_head(self, block: bytes) -> None:
        if block[:4] == b"\x0a\x0d\x0d\x0a":
            self._head = []
        # Interface statistics tell of the whole capture; they are at its end.
        if block[:4] not in (b"\x05\x00\x00\x00", b"\x00\x00\x00\x05"):
            self._head.append(block)
            for period in self._open.values():
                period.write(block)
        if self._live and not self._open and self._newest is None:
            self._at(period_start(time.time_ns(), self._length))  # so that what is wrong is said at once

    def _at(self, start: int, late: bool = False) -> _Period:
        found = self._open.get(start)
        if found is None:
            self._fill_gap(start)
            found = self._begin(start, late)
        return found

    def _begin(self, start: int, late: bool = False) -> _Period:
        while len(self._open) >= MOST_AT_ONCE:
            self._close(min(self._open))
        self._ending = [period for period in self._ending if period.running]
        if len(self._ending) >= MOST_AT_ONCE:
            self._ending[0].join()
        found = _Period(self._plan, start, self._tshark, self._opened, self._done)
        # Its time has been counted, or was not captured; but where the clock was set back, it passes again.
        found.again = start in self._closed or (late and self._newest is not None and start < self._newest)
        self._open[start] = found
        self._newest = max(start, self._newest or start)
        found.write(b"".join(self._head))
        return found

    def _fill_gap(self, start: int) -> None:
        """Of a live capture: the periods in which no packet came."""
        if self._live and self._newest is not None and start - self._newest <= MOST_EMPTY * self._length:
            for empty in range(self._newest + self._length, start, self._length):
                self._begin(empty)
                self._close(empty)

    def _idle(self) -> None:
        now = time.time_ns() - GRACE
        if self._newest is not None and now >= self._newest + self._length:
            self._at(period_start(now, self._length))
        self._end_before(now + GRACE)

    def _end_before(self, moment: int) -> None:
        for start in [start for start in self._open if start + self._length + GRACE <= moment]:
            self._close(start)

    def _close(
        self, start: int, complete: bool = True, warnings: Sequence[str] = (), ending: Ending | None = None
    ) -> None:
        period = self._open.pop(start)
        self._closed.add(start)
        if len(self._closed) > 2 * MOST_EMPTY:
            self._closed = set(sorted(self._closed)[-MOST_EMPTY:])
        stop = start + self._length
        if not period.again:  # or it has but what came too late
            period.since = self._first if self._first is not None and start <= self._first < stop else start
            period.until = min(stop, self._last) if self._newest == start else stop
        if ending is not None:  # dumpcap's own count is known, too
            period.drops = replace(ending.drops().plus(*(-count for count in self._dropped)), captured=period.packets)
        elif self._opened.kernel_dropped is not None:
            kernel, interface = self._history.before(stop)
            period.drops = Drops(period.packets, kernel, interface)
            self._dropped = self._dropped[0] + kernel, self._dropped[1] + interface
        period.end(complete, warnings)
        self._ending.append(period)
        if self._opened.sockets is not None:
            self._opened.sockets.forget(start)

    def _done(self, start: int, tables: list[Table], failure: SharkstatError | None) -> None:
        with self._lock:
            if failure is not None:
                self.failures.append(failure)
            if tables:
                self.given += 1
                try:
                    self._take(start, tables)
                except SharkstatError as problem:
                    self.failures.append(problem)


class _Period:
    """The tshark of one period, in a thread."""

    def __init__(
        self,
        plan: Plan,
        start: int,
        tshark: Tshark,
        opened: Opened,
        done: Callable[[int, list[Table], SharkstatError | None], None],
    ) -> None:
        self.start = self.since = self.until = start
        self.again = False
        self.packets = 0
        self.drops = Drops()
        self.interruption = Interruption()
        self._plan, self._tshark, self._opened, self._done = plan, tshark, opened, done
        self._complete, self._warnings = True, list[str]()
        self._read_end, self._write_end = wide_pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def write(self, data: bytes) -> None:
        """Give it bytes; where it ended too early they are gone, and its failure says so."""
        view = memoryview(data)
        with contextlib.suppress(BrokenPipeError):
            while view and self._write_end >= 0:
                view = view[os.write(self._write_end, view) :]

    def end(self, complete: bool, warnings: Sequence[str]) -> None:
        """No more packets."""
        self._complete, self._warnings = complete, list(warnings)
        os.close(self._write_end)
        self._write_end = -1

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        source, name = self._plan.source, f"/dev/fd/{self._read_end}"
        tables: list[Table] = []
        failure: SharkstatError | None = None
        try:
            plan = Plan(_of_bytes(source, name), [request.again() for request in self._plan.requests])
            tables = run_plan(plan, self._tshark, sockets=self._opened.sockets, interruption=self.interruption)
        except StatisticError as problem:
            tables, failure = problem.tables, problem
        except SharkstatError as problem:
            failure = problem
        except KeyboardInterrupt:
            pass
        finally:
            os.close(self._read_end)
        self._done(self.start, [self._told(table, name) for table in tables], failure)

    def _told(self, table: Table, name: str) -> Table:
        source = self._plan.source
        reading = replace(
            table.reading,
            sources=source.names,
            since=self.since,
            until=max(self.since, self.until),
            capture_filter=source.capture_filter,
            dedup=source.dedup,
            reorder=source.reorder,
            captured=self.drops.captured,
            dropped=self.drops.dropped,
            dropped_by_kernel=self.drops.kernel,
            dropped_by_interface=self.drops.interface,
            dropped_by_dumpcap=self.drops.dumpcap,
        )
        warnings = [text.replace(name, ", ".join(source.names)) for text in (*table.warnings, *self._warnings)]
        few, said = judge_drops(self._plan, self.drops, self.packets)
        warnings += said
        complete = table.complete and self._complete and few
        return replace(table, reading=reading, warnings=list(dict.fromkeys(warnings)), complete=complete)


def _of_bytes(source: Source, name: str) -> Source:
    """What reads the bytes of a period as the source was to be read."""
    return Source(
        files=(name,),
        display_filter=source.display_filter,
        resolve=source.resolve,
        decode_as=source.decode_as,
        preferences=source.preferences,
        profile=source.profile,
        keylog=source.keylog,
        heuristics=source.heuristics,
    )
