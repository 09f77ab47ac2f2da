"""`sharkstat.live`: the tables of what is still coming, again and again."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from sharkstat.errors import RequestError
from sharkstat.running.plan import Plan, make_plan
from sharkstat.running.runner import run_plan
from sharkstat.running.source import Options, Source
from sharkstat.running.watching import Snapshot, Watch
from sharkstat.statistics.registry import Registry
from sharkstat.tshark.process import find_tshark

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _Capture:
    """What the thread of a live run shares with whoever takes its snapshots."""

    def __init__(self, plan: Plan, every: float) -> None:
        self.plan = plan
        self.changed = threading.Condition()
        self.newest: Snapshot | None = None
        self.last: Snapshot | None = None
        self.problem: BaseException | None = None
        self.done = False
        self.capturing = threading.Event()
        self.watch = Watch(every, self.take)
        self.watch.check(plan)

    def run(self) -> None:
        try:
            tables = run_plan(self.plan, find_tshark(), capturing=lambda _: self.capturing.set(), watch=self.watch)
            last = self.watch.final(tables)
            with self.changed:
                self.last = last
        except BaseException as problem:
            self.problem = problem
        finally:
            with self.changed:
                self.done = True
                self.changed.notify_all()

    def take(self, snapshot: Snapshot) -> None:
        with self.changed:
            self.newest = snapshot
            self.changed.notify_all()


class Live:
    """A live run, from `sharkstat.live`: an iterator of `Snapshot`, and an asynchronous one.

    The run goes on by itself, in a thread. Who takes a snapshot late gets the newest there is. `stop()` ends the
    capture: the iterator then gives the final tables, and ends. Leaving a `with` block stops it, too, and so does
    leaving a loop once nothing else holds the object.
    """

    def __init__(self, plan: Plan, every: float) -> None:
        self._capture = _Capture(plan, every)
        self.capturing = self._capture.capturing  # set once the interfaces are open
        # The thread does not know this object: when nobody else does, the capture ends.
        weakref.finalize(self, self._capture.watch.stop).atexit = False
        self._thread = threading.Thread(target=self._capture.run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the capture; what came until now is counted, and the final tables follow."""
        self._capture.watch.stop()

    def __iter__(self) -> Iterator[Snapshot]:
        return self

    def __next__(self) -> Snapshot:
        capture = self._capture
        try:
            with capture.changed:
                while capture.newest is None and not capture.done:
                    capture.changed.wait()
                if capture.newest is not None and not capture.last:
                    snapshot, capture.newest = capture.newest, None
                    return snapshot
                capture.newest = None
                if capture.problem is not None:
                    problem, capture.problem = capture.problem, None
                    raise problem
                if capture.last is None:
                    raise StopIteration
                last, capture.last = capture.last, None
                return last
        except KeyboardInterrupt:
            self.stop()
            self._thread.join()
            raise

    def __aiter__(self) -> AsyncIterator[Snapshot]:
        return self

    async def __anext__(self) -> Snapshot:
        try:
            snapshot = await asyncio.to_thread(next, self, None)
        except asyncio.CancelledError:
            self.stop()
            raise
        if snapshot is None:
            raise StopAsyncIteration
        return snapshot

    def __enter__(self) -> Live:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
        self._thread.join()

    async def __aenter__(self) -> Live:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()
        await asyncio.to_thread(self._thread.join)


def live(
    source: str | os.PathLike[str] | Source,
    requests: str | Sequence[str],
    *,
    every: float = 1.0,
    engine: str = "",
    registry: Registry | None = None,
    **options: Unpack[Options],
) -> Live:
    """Count what is still coming, and give the tables so far every so many seconds.

    `source` is the name of an interface, "-" for standard input, the path of a named pipe, or a `Source`; `options` are
    `Source`'s (capture_filter="port 80", autostop=("duration:60",), ...). `requests`, `engine` and `registry` are those
    of `sharkstat.run`.

    Each `Snapshot` is a list with a table for each request, of exactly the packets that were counted until then; the
    last one is `final`. To take one changes nothing that is counted. RequestError for what gives its results at its end
    alone: a file, tshark's own statistics. What ends the run early is raised where the next snapshot would come.

        with sharkstat.live("eth0", ["services", "conv,tcp"], every=2) as snapshots:
            for services, conversations in snapshots:
                print(services.top(5, by="bytes"))

        async for tables in sharkstat.live("eth0", "services"): ...
    """
    if isinstance(source, Source):
        wanted = source
        if options:
            raise RequestError("with a Source, give the options in it, not as arguments")
    else:
        name = os.fspath(source)
        piped = name == "-" or os.path.exists(name)  # noqa: PTH110 - a name, not yet a path
        wanted = replace(Source(files=(name,)) if piped else Source(interfaces=(name,)), **options)
    texts = [requests] if isinstance(requests, str) else list(requests)
    return Live(make_plan(wanted, texts, engine, registry or Registry.default()), every)
