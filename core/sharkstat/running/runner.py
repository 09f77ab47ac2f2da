"""Runs a plan: starts one tshark process, reads its records, and makes the tables."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import sharkstat_lua
from sharkstat.errors import RequestError, SharkstatError, StatisticError, TsharkError
from sharkstat.running.deadline import Deadline
from sharkstat.running.interruption import Interruption
from sharkstat.running.opened import Opened
from sharkstat.running.plan import Plan, Request, make_plan
from sharkstat.running.source import Options, Source
from sharkstat.running.together import together
from sharkstat.running.watching import Ticker, Watch
from sharkstat.statistics.registry import Registry
from sharkstat.tables.table import Table
from sharkstat.tshark.output import Output
from sharkstat.tshark.process import Tshark, find_tshark
from sharkstat.tshark.records import Failure, Records
from sharkstat.tshark.workspace import Workspace

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from sharkstat.running.results import Outcome
    from sharkstat.running.sockets import Sockets

Progress = Callable[[int, int], None]
Taker = Callable[[bytes], None]

_LOG = logging.getLogger("sharkstat")


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
) -> list[Table]:
    """Read the source with at most so many tsharks at one time. Gives a table a request, in order.

    `meanwhile` is called while tshark starts, `capturing` when the interfaces are open, with the time (seconds since
    1970); `watch` gets snapshots; `interruption` is how another thread ends the run. `sockets` are given where somebody
    else captures what is read.
    """
    if watch is not None:
        watch.check(plan)
    try:
        tables = _run_plan(plan, tshark, progress, meanwhile, jobs, capturing, watch, interruption, sockets)
    except BaseException:
        if watch is None or watch.problem is None:
            raise
    if watch is not None and watch.problem is not None:
        raise watch.problem
    return tables


def _run_plan(
    plan: Plan,
    tshark: Tshark,
    progress: Progress | None,
    meanwhile: Callable[[], None],
    jobs: int,
    capturing: Callable[[float], None] | None,
    watch: Watch | None,
    interruption: Interruption | None,
    sockets: Sockets | None,
) -> list[Table]:
    try:

        def read(plan: Plan) -> Outcome:
            assert interruption is not None
            if plan.source.are_files:
                return _read(plan, tshark, progress, meanwhile, jobs, interruption)
            return _read_once(plan, tshark, progress, interruption, meanwhile, True, capturing, watch, sockets)

        with interruption or Interruption() as interruption:
            refused, plan, outcome = _with_what_starts(plan, read)
        from sharkstat.running.results import make_tables

        return make_tables(plan.source, outcome, refused)
    except RuntimeError as problem:
        if "new thread" not in str(problem):
            raise
        raise TsharkError("cannot start another thread: end other programs, or raise `ulimit -u`") from problem
    except OSError as problem:
        if problem.errno in _SCARCE:
            raise TsharkError(f"{problem.strerror}: end other programs, or raise {_SCARCE[problem.errno]}") from problem
        # shutil's own error is a list of (from, to, reason).
        reason = problem.args[0][0][2] if isinstance(problem, shutil.Error) else problem.strerror
        raise TsharkError(
            f"cannot write to {_temporary()}: {reason}: free some space, or set TMPDIR to another folder"
        ) from problem


def _with_what_starts(plan: Plan, read: Callable[[Plan], Outcome]) -> tuple[dict[str, Failure], Plan, Outcome]:
    """What came of the requests that could start; before them, the others, and why."""
    refused = dict(plan.refused)
    while True:
        try:
            return refused, plan, read(plan)
        except StatisticError as problem:
            others = plan.without(problem.failed)
            if not problem.failed or not others.requests or not (plan.source.live or plan.source.are_files):
                raise
            refused |= {text: Failure(said, traceback=problem.traceback) for text, said in problem.failed.items()}
            plan = others


def _read(
    plan: Plan,
    tshark: Tshark,
    progress: Progress | None,
    meanwhile: Callable[[], None],
    jobs: int,
    interruption: Interruption,
) -> Outcome:
    if jobs > 1 and plan.source.are_files:
        from sharkstat.running.walking import Unsplittable

        try:
            return _read_in_shards(plan, tshark, progress, meanwhile, jobs, interruption)
        except Unsplittable as reason:
            _LOG.debug("%s: read in one piece: %s", ", ".join(plan.source.names), reason)
    return _read_whole(plan, tshark, progress, meanwhile, jobs, interruption)


def _read_in_shards(
    plan: Plan,
    tshark: Tshark,
    progress: Progress | None,
    meanwhile: Callable[[], None],
    jobs: int,
    interruption: Interruption,
) -> Outcome:
    """Those requests that can be, from shards of the capture; the others beside them. Unsplittable where none can."""
    import importlib.util

    from sharkstat.running.walking import Unsplittable

    if importlib.util.find_spec("numpy") is None:
        raise Unsplittable("to deal out packets it needs numpy: pip install 'sharkstat[jobs]'")
    from sharkstat.running.shards import OpenedShard, Shards

    everything = range(len(plan.requests))
    split = [number for number in everything if plan.requests[number].can_split]
    whole = [number for number in everything if number not in split]
    if not split:
        raise Unsplittable("nothing that is asked for can be counted in parts")
    beside = plan.only(whole) if whole else None
    groups = beside.dealt(jobs // 2 or 1) if beside else []
    count = jobs - len(groups)
    if count < 2:
        raise Unsplittable("what can be counted in parts has one processor left")
    with Shards(plan.source, count, [plan.requests[number] for number in split], interruption) as shards:
        uncertain = [number for number in split if not shards.is_certain(plan.requests[number])]
        split = [number for number in split if number not in uncertain]
        for number in uncertain if split else ():
            _LOG.debug("%s: read in one piece: where its streams begin may be uncertain", plan.requests[number].text)
        if not split:
            raise Unsplittable("where its streams begin may be uncertain, and all that is asked for numbers them")
        records: dict[int, Records] = {}

        def read_shard(number: int, own: Interruption) -> Outcome:
            part, (shown, work) = plan.only(split), (progress, meanwhile) if number == 0 else (None, lambda: None)
            with (
                Workspace(tshark) as workspace,
                Ticker(None, workspace) as ticker,
                OpenedShard(plan.source, workspace, own, shards, number) as opened,
            ):
                job = shards.job(number)
                reading = _Pass(part, tshark, workspace, opened, shown, own, None, shards.cut, work, ticker, job)
                outcome = reading.run()
            if outcome is None:
                raise Unsplittable("its packets have unusual times, or are cut")
            records[number] = reading.records
            return outcome

        def read_group(number: int, own: Interruption) -> Outcome:
            assert beside is not None
            return _read_once(beside.only(groups[number]), tshark, None, own, lambda: None, looks=False)

        works = [partial(read_shard, number) for number in range(count)]
        works += [partial(read_group, number) for number in range(len(groups))]
        try:
            outcomes = together(works, interruption)
        except SharkstatError as problem:  # the pass over all packets says what is wrong with them
            raise Unsplittable(f"a part of it failed: {problem}") from problem
        joined, found = shards.joined(outcomes[:count], [records[number] for number in range(count)])
    answers = {split[number]: answer for number, answer in found.items()}
    for group, outcome in zip(groups, outcomes[count:], strict=True):
        answers.update(zip((whole[number] for number in group), outcome.answers, strict=True))
    missing = [number for number in everything if number not in answers]
    if missing:
        again = _read_whole(plan.only(missing), tshark, progress, meanwhile, jobs, interruption)
        answers.update(zip(missing, again.answers, strict=True))
    return replace(joined, answers=[answers[number] for number in everything])


def _read_whole(
    plan: Plan,
    tshark: Tshark,
    progress: Progress | None,
    meanwhile: Callable[[], None],
    jobs: int,
    interruption: Interruption,
) -> Outcome:
    """All packets in each pass, and the requests dealt out to as many as there may be."""
    groups = plan.dealt(jobs)
    if len(groups) == 1:
        return _read_once(plan, tshark, progress, interruption, meanwhile)

    def reader(number: int) -> Callable[[Interruption], Outcome]:
        part = plan.only(groups[number])
        if number:  # the first alone tells of what all of them see
            return lambda own: _read_once(part, tshark, None, own, lambda: None, looks=False)
        return lambda own: _read_once(part, tshark, progress, own, meanwhile)

    outcomes = together([reader(number) for number in range(len(groups))], interruption)
    answers = {
        number: answer
        for group, outcome in zip(groups, outcomes, strict=True)
        for number, answer in zip(group, outcome.answers, strict=True)
    }
    return replace(outcomes[0], answers=[answers[number] for number in range(len(plan.requests))])


def _read_once(
    plan: Plan,
    tshark: Tshark,
    progress: Progress | None,
    interruption: Interruption,
    meanwhile: Callable[[], None],
    looks: bool = True,
    capturing: Callable[[float], None] | None = None,
    watch: Watch | None = None,
    sockets: Sockets | None = None,
) -> Outcome:
    """Make one pass over the source, and a second, prepared one if the packets need it."""
    exact: str | None = None
    cut: bool | None = False
    for last in (False, False, True):
        with (
            Workspace(tshark) as workspace,
            Ticker(watch, workspace) as ticker,
            Opened(plan.source, workspace, interruption, looks, ticker.pacing, capturing, sockets) as opened,
        ):
            if not opened.again:  # prepare for everything from the start (see host.lua)
                exact = ""
                cut = True if plan.source.snaplen or not plan.source.live else None
            reading = _Pass(plan, tshark, workspace, opened, progress, interruption, exact, cut, meanwhile, ticker)
            outcome = reading.run()
        if outcome is not None:
            return outcome
        if last or not opened.again:
            break
        if reading.records.cut:
            cut = True
        else:
            exact = reading.records.first
        plan = plan.again()
    raise TsharkError(f"no results: tshark gives no exact times for {', '.join(plan.source.names)}")


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


class _Pass:
    def __init__(
        self,
        plan: Plan,
        tshark: Tshark,
        workspace: Workspace,
        opened: Opened,
        progress: Progress | None,
        interruption: Interruption,
        exact: str | None,
        cut: bool | None,
        meanwhile: Callable[[], None],
        ticker: Ticker,
        shard: Sequence[tuple[str, ...]] = (),
    ) -> None:
        self.shard = shard
        self.plan = plan
        self.tshark = tshark
        self.workspace = workspace
        self.opened = opened
        self.progress = progress
        self.interruption = interruption
        self.exact = exact
        self.meanwhile = meanwhile
        self.ticker = ticker
        self.cut = cut
        self.records = Records()
        self.output = Output()
        self.stderr: list[str] = []

    def run(self) -> Outcome | None:
        """What it gave; None if packets came that only another pass can tell, prepared for them."""
        read_end, write_end = self.workspace.pipe()
        with contextlib.ExitStack() as stack:
            command = self._command(write_end)
            printed = {part.prints for part in self.plan.parts} - {""}
            stdout = subprocess.PIPE if printed else subprocess.DEVNULL
            given = [fd for fd in (write_end, self.ticker.control) if fd is not None]
            try:
                process = self.workspace.start(command, stdin=self.opened.stdin, stdout=stdout, pass_fds=given)
            finally:
                os.close(write_end)
                self.ticker.given()
                self.opened.given()
            records = stack.enter_context(os.fdopen(read_end, "rb"))
            stack.callback(_reap, process)
            assert process.stderr is not None
            errors = threading.Thread(target=self._read_errors, args=(process.stderr,), daemon=True)
            errors.start()
            if process.stdout is not None:
                self.output.read(process.stdout, packets="packets" in printed)
            # tshark takes a while to start: meanwhile load what is needed once it has results.
            from sharkstat.running.diagnosis import Ending
            from sharkstat.running.results import outcome_of

            self.meanwhile()
            takers: dict[bytes, Taker] = {}
            for part in self.plan.parts:
                takers.update(part.start(self.records, self.output))
            deadline = Deadline(self.plan.source.timeout, self.opened, process, lambda: self._interrupt(process))
            stop = functools.partial(self._interrupt, process)
            if self.ticker.watch is not None:
                self.ticker.watch.begin(stop, functools.partial(self._abandon, process))
            with self._watched(), deadline, self.interruption.softly(stop, process.kill):
                self._read(records, process, takers)
                self.ticker.end()
                status = process.wait()
            interrupted = self.interruption.told
            errors.join(timeout=10)
            self.output.finish()
            self.opened.finish()
        if self.records.again and not (interrupted or deadline.passed):
            return None
        ending = Ending(
            self.plan, self.records, self.opened, self.tshark, status, self.stderr, interrupted, deadline.passed
        )
        self._name_files()
        return outcome_of(self.plan, self.records, ending)

    def _interrupt(self, process: subprocess.Popen[bytes]) -> None:
        """End the source, so that the packets read so far are counted."""
        self.opened.interrupt()
        if self.plan.source.two_pass:  # tshark reads the file itself
            process.kill()

    def _abandon(self, process: subprocess.Popen[bytes]) -> None:
        """Nobody wants results any more."""
        self.opened.interrupt()
        process.kill()

    def _command(self, write_end: int) -> list[str]:
        lua = Path(sharkstat_lua.__path__[0])
        library = lua.absolute() if self.workspace.sees(lua) else self.workspace.readable(lua, "lua")
        found: dict[Path, Path] = {}
        for number, path in (wanted for part in self.plan.parts for wanted in part.files()):
            if path in found:
                continue
            try:
                path.open("rb").close()
            except OSError as problem:
                text = self.plan.requests[number].text
                said = f"{text}: cannot read its tap {path}: {problem.strerror}"
                raise StatisticError(said, failed={text: said}) from None
            ours = path.parent == lua
            found[path] = library / path.name if ours else self.workspace.readable(path, f"taps/{path.name}")
        stranger = bool(self.opened.strangers)
        control = "" if self.ticker.control is None else f"/dev/fd/{self.ticker.control}"
        rows = f"/dev/fd/{write_end}"
        text = self.plan.job(rows, self.first_path, found, self.exact, self.cut, stranger, control, self.shard)
        job = self.workspace.write("job", text)
        return [
            self.tshark.path,
            "-q",
            *self.plan.leaf_options(plain=("shard", "plain") in [words[:2] for words in self.shard]),
            *self.opened.arguments(),
            "-X",
            f"lua_script:{library / 'host.lua'}",
            "-X",
            f"lua_script1:{job}",
            *self.plan.options(),
        ]

    def _name_files(self) -> None:
        """In what Lua says of an error, the file is the author's, not the copy that tshark was given."""
        for failure in self.records.failures.values():
            for _, path in (one for part in self.plan.parts for one in part.files()):
                failure.message = re.sub(rf"\S*/taps/{re.escape(path.name)}\b", lambda _: str(path), failure.message)  # noqa: B023

    @property
    def first_path(self) -> Path:
        """The file for the first packet, saved for its time."""
        return self.workspace.writable("first.pcap")

    def _read_errors(self, stream: IO[bytes]) -> None:
        for line in stream:
            self.stderr.append(line.decode("utf-8", "replace").rstrip("\n"))

    # Reading -----------------------------------------------------------------------------------

    def _read(self, stream: IO[bytes], process: subprocess.Popen[bytes], takers: Mapping[bytes, Taker]) -> None:
        for line in stream:
            if not line.endswith(b"\n"):  # tshark was killed in the middle of the line
                return
            take = takers.get(line[:1])
            if take is not None:
                take(line)
                continue
            if line.startswith(b"V"):
                self.ticker.came(self.plan, self.records, self.opened)
                continue
            self.records.take(line)
            if line.startswith(b"H\t"):
                for part in self.plan.parts:
                    part.ready()
            if self.records.again or self.records.stranger or (not self.records.ready and self.records.failures):
                process.kill()
                self.opened.interrupt()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Report the position in the files to `progress` from time to time."""
        if self.progress is None or not self.opened.size:
            yield
            return
        done = threading.Event()
        thread = threading.Thread(target=self._watch, args=(done,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _watch(self, done: threading.Event) -> None:
        assert self.progress is not None
        while not done.wait(0.1):
            self.progress(self.opened.position, self.opened.size)
        self.progress(self.opened.size, self.opened.size)


def _reap(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def run(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Source,
    requests: str | Sequence[str],
    *,
    engine: str = "",
    registry: Registry | None = None,
    progress: Progress | None = None,
    jobs: int | None = None,
    errors: Literal["raise", "keep"] = "raise",
    **options: Unpack[Options],
) -> list[Table]:
    """Read a capture once and return one table per request.

    `source` is a file, several files (read as one capture in time order), or a `Source`; `options` are those of
    `Source` (display_filter="ip", packets=1000, ...). `requests` are statistics, written as after tshark's -z.
    `engine` is "lua" (a tap inside tshark), "packets" (Python) or "tshark" (tshark's own statistic, read from its
    text); by default the first one that the statistic has. `progress` is called with the number of bytes read and
    the size of the files. `jobs` is the maximum number of tshark processes at a time, by default one per processor
    for large files; it does not change the tables.

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
    plan = make_plan(wanted, texts, engine, registry or Registry.default())
    try:
        return run_plan(plan, find_tshark(), progress, jobs=plan.source.jobs(jobs))
    except StatisticError as problem:
        if errors == "raise" or not problem.failed:
            raise
        others = iter(problem.tables)
        known = {request.text: request for request in plan.requests}
        stripped = [text.strip() for text in texts]
        return [
            _failed(text, problem.failed[text], known.get(text)) if text in problem.failed else next(others)
            for text in stripped
        ]


def _failed(text: str, why: str, request: Request | None) -> Table:
    """What stands for the table of a statistic that failed; where it could not even be asked, without columns."""
    name, title = (request.statistic.name, request.statistic.title) if request else (text, text)
    columns = request.columns if request else ()
    return Table(name, title, text, columns, [], complete=False, warnings=[why])
