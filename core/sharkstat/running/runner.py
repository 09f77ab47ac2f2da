"""Runs a plan: has its source read, and makes the tables; what went wrong becomes sharkstat's own errors."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from sharkstat.errors import RequestError, StatisticError, TsharkError
from sharkstat.running.interruption import Interruption
from sharkstat.running.one_pass import Progress
from sharkstat.running.passes import Passes
from sharkstat.running.plan import Plan, Request, make_plan
from sharkstat.running.source import Options, Source
from sharkstat.running.watching import Watch
from sharkstat.statistics.registry import Registry
from sharkstat.tables.table import Table
from sharkstat.tshark.process import Tshark, find_tshark
from sharkstat.tshark.records import Failure

if TYPE_CHECKING:
    from distributed import Client
    from typing_extensions import Unpack

    from sharkstat.running.cluster.reading import Cluster
    from sharkstat.running.results import Outcome
    from sharkstat.running.sockets import Sockets


def run_plan(
    plan: Plan,
    tshark: Tshark,
    progress: Progress | None = None,
    meanwhile: Callable[[], None] = lambda: None,
    jobs: int = 1,
    *,
    capturing: Callable[[float], None] | None = None,
    watch: Watch | None = None,
    sockets: Sockets | None = None,
    interruption: Interruption | None = None,
    cluster: Cluster | None = None,
) -> list[Table]:
    """Read the source with at most so many tsharks at one time. Gives a table a request, in order.

    `meanwhile` is called while tshark starts, `capturing` when the interfaces are open, with the time (seconds since
    1970); `watch` gets snapshots; `interruption` is how another thread ends the run. `sockets` are given where somebody
    else captures what is read. On a `cluster`, its workers read it.
    """
    if watch is not None:
        watch.check(plan)
    passes = Passes(tshark, progress, meanwhile, jobs, capturing, watch, sockets)
    try:
        tables = _run_plan(plan, passes, interruption or Interruption(), cluster)
    except BaseException:
        if watch is None or watch.problem is None:
            raise
    if watch is not None and watch.problem is not None:
        raise watch.problem
    return tables


def _run_plan(plan: Plan, passes: Passes, interruption: Interruption, cluster: Cluster | None) -> list[Table]:
    def read(plan: Plan) -> Outcome:
        if cluster is not None:
            return cluster.read(plan, interruption, passes.progress)
        return passes.read(plan, interruption)

    try:
        with interruption:
            again = cluster is not None or plan.source.live or plan.source.are_files
            refused, plan, outcome = _with_what_starts(plan, read, again)
            from sharkstat.running.results import make_tables

            with interruption.softly(lambda: None):  # everything is read: what is counted is not thrown away
                return make_tables(plan.source, outcome, refused)
    except RuntimeError as problem:
        if "new thread" not in str(problem):
            raise
        raise TsharkError(
            "cannot start another thread: end other programs, or raise `ulimit -u` or `ulimit -v`"
        ) from problem
    except OSError as problem:
        if problem.errno in _SCARCE:
            raise TsharkError(f"{problem.strerror}: end other programs, or raise {_SCARCE[problem.errno]}") from problem
        # shutil's own error is a list of (from, to, reason).
        reason = problem.args[0][0][2] if isinstance(problem, shutil.Error) else problem.strerror
        raise TsharkError(
            f"cannot write to {_temporary()}: {reason}: free some space, or set TMPDIR to another folder"
        ) from problem


def _with_what_starts(
    plan: Plan, read: Callable[[Plan], Outcome], again: bool
) -> tuple[dict[str, Failure], Plan, Outcome]:
    """What came of the requests that could start, if it can be read `again`; before them, the others, and why."""
    refused = dict(plan.refused)
    while True:
        try:
            return refused, plan, read(plan)
        except StatisticError as problem:
            others = plan.without(problem.failed)
            if not problem.failed or not others.requests or not again:
                raise
            refused |= {text: Failure(said, traceback=problem.traceback) for text, said in problem.failed.items()}
            plan = others


# The limit to raise for each resource that can run out.
_SCARCE = {
    errno.EAGAIN: "`ulimit -u`",
    errno.EMFILE: "`ulimit -n`",
    errno.ENFILE: "fs.file-max",
    errno.ENOMEM: "`ulimit -v`",
}


def _temporary() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:
        return os.environ.get("TMPDIR", "any folder for temporary files")


def run(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Source,
    requests: str | Sequence[str],
    *,
    engine: str = "",
    registry: Registry | None = None,
    progress: Progress | None = None,
    jobs: int | None = None,
    client: Client | None = None,
    errors: Literal["raise", "keep"] = "raise",
    **options: Unpack[Options],
) -> list[Table]:
    """Read a capture once and return one table per request.

    `source` is a file, several files (read as one capture in time order), or a `Source`; `options` are those of
    `Source` (display_filter="ip", packets=1000, ...). `requests` are statistics, written as after tshark's -z.
    `engine` is "lua" (a tap inside tshark), "packets" (Python), "tshark" (tshark's own, read from its text) or
    "headers" (plain TCP and UDP from their headers alone, where that is possible); by default the first one that the
    statistic has. `progress` is called with the number of bytes read and the size of the files. `jobs` is the maximum
    number of tshark processes at a time, by default one per processor for large files; it does not change the tables.
    With a `client` of Dask distributed, its workers read the files, which they must see by the same names
    (docs/cluster.md); that does not change the tables either.

    With errors="keep", a statistic that failed on the way has a table without rows that is not `complete`, with the
    reason in its `warnings`; the others are not affected.

    Raises a SharkstatError whose message says what is wrong and how to fix it. A StatisticError has the tables of the
    statistics that succeeded. If the source was cut short, a table is not `complete`.

    >>> import sharkstat
    >>> tables = sharkstat.run("tests/data/story-after.pcapng", ["conv,tcp", "io,stat,1"])
    >>> [table.name for table in tables]
    ['conv,tcp', 'io,stat']
    """
    if errors not in ("raise", "keep"):
        raise RequestError(f'errors is "raise" or "keep", not {errors!r}')
    wanted = Source.of(source, options)
    texts = [requests] if isinstance(requests, str) else list(requests)
    plan: Plan | None = None
    try:
        plan = make_plan(wanted, texts, engine, registry or Registry.default())
        if client is not None:
            from sharkstat.running.cluster.reading import Cluster

            if jobs is not None or registry is not None:
                given = "registry" if jobs is None else "jobs"
                raise RequestError(f"{given} is for this machine alone, and client for a cluster: leave out one")
            return run_plan(plan, find_tshark(), progress, cluster=Cluster(client))
        return run_plan(plan, find_tshark(), progress, jobs=plan.source.jobs(jobs))
    except StatisticError as problem:
        if errors == "raise" or not problem.failed:
            raise
        others = iter(problem.tables)
        known = {request.text: request for request in plan.requests} if plan else {}
        return [
            _failed(text, problem.failed[text], known.get(text)) if text in problem.failed else next(others)
            for text in map(str.strip, texts)
        ]


def _failed(text: str, why: str, request: Request | None) -> Table:
    """What stands for the table of a statistic that failed; where it could not even be asked, without columns."""
    name, title = (request.statistic.name, request.statistic.title) if request else (text, text)
    columns = request.columns if request else ()
    return Table(name, title, text, columns, [], complete=False, warnings=[why])
