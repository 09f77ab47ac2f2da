"""One pass: starts a tshark, reads its records, and says what came of it."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import sharkstat_lua
from sharkstat.errors import StatisticError, TsharkError
from sharkstat.running.deadline import Deadline, resume
from sharkstat.running.interruption import Interruption
from sharkstat.running.memory import MemoryWatch
from sharkstat.running.opened import LAST_SECONDS, Opened
from sharkstat.running.plan import Plan
from sharkstat.running.vigil import Vigil
from sharkstat.running.watching import Ticker
from sharkstat.tshark.output import Output
from sharkstat.tshark.process import Tshark
from sharkstat.tshark.records import Records
from sharkstat.tshark.workspace import Workspace

if TYPE_CHECKING:
    from sharkstat.running.results import Outcome

# How much nicer than this process the tshark of a live capture is.
YIELDS = 10

Progress = Callable[[int, int], None]
Taker = Callable[[bytes], None]


class Pass:
    """One tshark over one opened source.

    `exact`, `cut` and `networks` are as in `Plan.job`, `shard` has the lines of a part. It is asked
    to stop at `ends`, on the monotonic clock.
    """

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
        networks: bool = False,
        ends: float | None = None,
        most_memory: int = 0,
    ) -> None:
        self.networks = networks
        self.shard = shard
        self.ends = ends
        self.most_memory = most_memory
        self.heard = 0  # records
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
            if self.plan.source.live:  # packets wait for it in the spool, but not for dumpcap or the spool
                with contextlib.suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, process.pid, min(19, os.getpriority(os.PRIO_PROCESS, 0) + YIELDS))
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
            stop = functools.partial(self._interrupt, process)
            deadline = Deadline(self.ends, self.opened, process, stop, lambda: self.heard)
            vigil = Vigil(self.opened, process, lambda: self.records.ready)
            if self.ticker.watch is not None:
                self.ticker.watch.begin(stop, functools.partial(self._abandon, process))
            memory = MemoryWatch(self.most_memory, stop, process.kill)
            with self._watched(), vigil, deadline, memory, self.interruption.softly(stop, process.kill):
                self._read(records, process, takers)
                self.ticker.end()
                status = process.wait()
            interrupted = self.interruption.told
            errors.join(timeout=10)
            self.output.finish()
            self.opened.finish()
        if self.records.again and not (interrupted or deadline.passed or memory.passed):
            return None
        ending = Ending(
            self.plan,
            self.records,
            self.opened,
            self.tshark,
            status,
            self.stderr,
            interrupted,
            deadline.passed,
            memory.limit if memory.passed else 0,
        )
        self._name_files()
        return outcome_of(self.plan, self.records, ending)

    def _interrupt(self, process: subprocess.Popen[bytes]) -> None:
        """End the source, so that the packets read so far are counted."""
        self.opened.interrupt()
        number = self.interruption.number
        if self.ticker.watch is not None and number in (signal.SIGTERM, signal.SIGHUP):
            self.ticker.watch.insist(number, LAST_SECONDS + 1)
        if self.plan.source.two_pass:  # tshark reads the file itself
            process.kill()
        resume(process)

    def _abandon(self, process: subprocess.Popen[bytes]) -> None:
        """Nobody wants results any more."""
        self.opened.interrupt()
        process.kill()

    def _command(self, write_end: int) -> list[str]:
        lua = Path(sharkstat_lua.__path__[0])
        library = lua.absolute() if self.workspace.sees(lua) else self.workspace.readable(lua, "lua")
        if library == lua.absolute():
            self.workspace.allow(lua)
        found: dict[Path, Path] = {}
        if not self.plan.needs_names and all(
            path.parent == lua for part in self.plan.parts for _, path in part.files()
        ):
            self.workspace.spare_names()  # a tap of somebody else's may read fields that nobody knows of
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
        text = self.plan.job(
            rows, self.first_path, found, self.exact, self.cut, stranger, control, self.shard, self.networks
        )
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
            self.heard += 1
            if not line.endswith(b"\n"):  # tshark was killed in the middle of the line
                return
            try:
                take = takers.get(line[:1])
                if take is not None:
                    take(line)
                    continue
                if line.startswith(b"V"):
                    self.ticker.came(self.plan, self.records, self.opened)
                    continue
                self.records.take(line)
            except (ValueError, IndexError, KeyError) as problem:
                raise TsharkError(
                    f"{self.tshark.path} sent what is no record ({line[:60]!r}): is it really tshark?"
                ) from problem
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
