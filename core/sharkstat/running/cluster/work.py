"""What a worker does for a run: says what it is, and reads a shard or all of the files with a tshark of its own."""

from __future__ import annotations

import functools
import hashlib
import os
import select
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sharkstat.engines.engine import Result
from sharkstat.errors import SharkstatError, SourceError, TsharkError
from sharkstat.running.addresses import as_files
from sharkstat.running.cluster.parts import Parts, Shard
from sharkstat.running.duplicates import Duplicates
from sharkstat.running.interruption import Interruption
from sharkstat.running.memory import available
from sharkstat.running.one_pass import Pass
from sharkstat.running.opened import Opened
from sharkstat.running.passes import Passes
from sharkstat.running.pipes import wait_for
from sharkstat.running.plan import Plan, make_plan
from sharkstat.running.results import Outcome
from sharkstat.running.screening import Screen, Screened
from sharkstat.running.source import Source
from sharkstat.running.watching import Ticker
from sharkstat.statistics import finding
from sharkstat.statistics.registry import Registry
from sharkstat.tshark.process import find_tshark, time_zone
from sharkstat.tshark.records import Failure, Records
from sharkstat.tshark.workspace import Workspace

ASKED_AGAIN = 0.5  # seconds between looks whether anybody still wants what a worker reads


@dataclass(frozen=True)
class Plugins:
    """Which plugins a run has, beside those that are installed: what `Registry.default` takes."""

    files: tuple[str, ...] = ()
    only_built_in: bool = False

    def registry(self) -> Registry:
        return Registry.default([Path(name) for name in self.files], only_built_in=self.only_built_in)


@dataclass(frozen=True)
class Order:
    """What is to be read, and counted: the requests, each with the name of its engine."""

    source: Source
    requests: tuple[tuple[str, str], ...]
    plugins: Plugins

    @classmethod
    def of(cls, plan: Plan, plugins: Plugins) -> Order:
        return cls(plan.source, tuple((one.text, one.engine.name) for one in plan.requests), plugins)

    def plan(self) -> Plan:
        """The plan that it is of. SharkstatError where there is none here."""
        registry = _registry(self.plugins)
        requests = [
            request
            for text, engine in self.requests
            for request in make_plan(self.source, [text], engine, registry).requests
        ]
        return Plan(self.source, requests)


_LOADING = threading.Lock()  # of plugins, which is not to be done twice at one time


def _registry(plugins: Plugins) -> Registry:
    with _LOADING:
        return _registries(plugins)


_registries = functools.lru_cache(maxsize=4)(Plugins.registry)


@dataclass
class Answered:
    """An `Answer`, whose request the other side knows."""

    result: Result | None
    failure: Failure | None
    skipped: int
    partial: int
    lacks: bool


@dataclass
class Given:
    """What a worker read: an outcome and its answers, or what kept it from having one.

    Of a shard also its packets, the host's records, where in the source the packets are that streams begin with, and
    the duplicates.
    """

    outcome: Outcome | None = None
    answers: list[Answered] = field(default_factory=list)
    problem: SharkstatError | None = None
    packets: int = 0
    records: Records = field(default_factory=Records)
    positions: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    duplicates: Duplicates | None = None

    @classmethod
    def of(cls, outcome: Outcome) -> Given:
        answers = [Answered(a.result, a.failure, a.skipped, a.partial, a.lacks) for a in outcome.answers]
        return cls(replace(outcome, answers=[]), answers)


def read_shard(
    order: Order,
    groups: Sequence[Parts],
    header: bytes,
    job: Sequence[tuple[str, ...]],
    cut: bool,
    looks: bool,
    wanted: Callable[[], bool],
) -> Given:
    """Have a tshark read what a shard has of all files."""
    shard, tshark = Shard(header, groups), find_tshark()
    with _abandoned_unless(wanted) as interruption:
        try:
            plan = order.plan()
            with (
                Workspace(tshark) as workspace,
                Ticker(None, workspace) as ticker,
                OpenedShard(order.source, workspace, interruption, shard, looks) as opened,
            ):
                reading = Pass(
                    plan,
                    tshark,
                    workspace,
                    opened,
                    None,
                    interruption,
                    None,
                    cut,
                    lambda: None,
                    ticker,
                    job,
                    most_memory=_most_memory(order.source),
                )
                outcome = reading.run()
        except SharkstatError as problem:
            return Given(problem=problem)
        if outcome is None:
            return Given(problem=TsharkError("its packets have unusual times, or are cut"))
        given = Given.of(outcome)
        given.packets = shard.packets
        records = reading.records
        given.records = Records(unannounced=records.unannounced, newest=records.newest, shard=records.shard)
        begins = {int(word) for kind, *words in records.shard if kind == "stream" for word in words[2:]} - {0}
        given.positions = {packet: shard.position(packet) for packet in begins}
        given.duplicates = opened.screen.duplicates
        if given.duplicates is not None:
            given.duplicates.forget()
        return given


def read_whole(order: Order, wanted: Callable[[], bool]) -> Given:
    """Have a tshark read all the files."""
    with _abandoned_unless(wanted) as interruption:
        try:
            with as_files(order.source.files) as files:
                here = replace(order, source=replace(order.source, files=tuple(files.values())))
                given = Given.of(Passes(find_tshark()).read(here.plan(), interruption))
        except SharkstatError as problem:
            return Given(problem=problem)
        if given.outcome is not None:
            given.outcome.warnings = [_renamed(text, files) for text in given.outcome.warnings]
        return given


def _renamed(text: str, files: Mapping[str, str]) -> str:
    """What is said of files, with the names that they were given by."""
    for name, file in files.items():
        text = text.replace(file, name)
    return text


def _most_memory(source: Source) -> int:
    return (available() or 0) * 3 // 4 if source.max_memory is None else source.max_memory


def screened(name: str) -> Screened | None:
    """What is found captured twice in a file that is read by itself: of a large one, only a sample is looked at."""
    try:
        with as_files([name]) as files, tempfile.TemporaryDirectory() as folder:
            screen = Screen(dedup=False, reorder=False, live=False, most=None, folder=Path(folder))
            screen.look_at(os.open(files[name], os.O_RDONLY | os.O_CLOEXEC))
            return screen.finish()
    except (OSError, SourceError):
        return None  # whoever reads it says why


class Abandoned(Exception):
    """Nobody wants any more what a worker reads."""


@contextmanager
def _abandoned_unless(wanted: Callable[[], bool]) -> Iterator[Interruption]:
    """A context that ends the tshark in it when nobody wants what it reads."""
    interruption, done = Interruption(), threading.Event()

    def watch() -> None:
        while not done.wait(ASKED_AGAIN):
            if not wanted():
                interruption.tell()
                interruption.tell()  # at once
                return

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield interruption
    except KeyboardInterrupt:
        raise Abandoned from None
    finally:
        done.set()
        watching.join()


class OpenedShard(Opened):
    """What one tshark reads of many files dealt out."""

    def __init__(
        self, source: Source, workspace: Workspace, interruption: Interruption, shard: Shard, looks: bool
    ) -> None:
        super().__init__(source, workspace, interruption)
        self._shard, self._looks = shard, looks
        self.is_part = True

    def _open(self) -> None:
        self.stdin, write_end = self.workspace.pipe()
        thread = threading.Thread(target=self._feed, args=(write_end,), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _feed(self, write_end: int) -> None:
        os.set_blocking(write_end, False)
        look = self.screen.look_along() if self._looks else None
        try:
            for piece in self._shard.pieces():
                view = memoryview(piece)
                while view:
                    if not wait_for(write_end, self._wake.watched, select.POLLOUT):
                        return  # tshark left, or nobody wants it any more
                    try:
                        view = view[os.write(write_end, view) :]
                    except BlockingIOError:
                        continue
                    except OSError:
                        return
                if look is not None:
                    look(bytes(piece))
            if look is not None:
                look(b"")
        finally:
            os.close(write_end)


@dataclass(frozen=True)
class Facts:
    """What must be the same on all machines for their tables to be: by name, and why there is no tshark."""

    versions: Mapping[str, str]
    problem: str = ""

    def check(self, there: Facts, worker: str) -> None:
        """TsharkError where a worker has something else than this machine."""
        if there.problem:
            raise TsharkError(f"worker {worker}: {there.problem}")
        for name in sorted({*self.versions, *there.versions}):
            ours, its = self.versions.get(name, "none"), there.versions.get(name, "none")
            if ours != its:
                raise TsharkError(f"worker {worker} has {name} {its}, this machine {ours}: make them the same")


@functools.lru_cache(maxsize=4)
def facts(plugins: Plugins) -> Facts:
    """What this machine has, as of the first time that it is asked."""
    versions = {"sharkstat": _version(), "time zone": time_zone()}
    try:
        for plugin in _registry(plugins).plugins:
            if not plugin.origin.startswith("sharkstat "):
                path = Path(plugin.origin)
                kept = _digest([path]) if path.is_file() else plugin.origin
                versions[f"plugin {plugin.name}"] = f"{kept}{': ' if plugin.problem else ''}{plugin.problem}"
        versions["tshark"] = find_tshark().check().version
    except SharkstatError as problem:
        return Facts(versions, str(problem))
    return Facts(versions)


def _version() -> str:
    """The version of sharkstat, and a digest of its files: two that are being worked on are seldom the same."""
    import importlib.metadata
    import importlib.util

    specs = [importlib.util.find_spec(name) for name in ("sharkstat", "sharkstat_lua", finding.BUILT_IN)]
    places = [Path(place) for spec in specs if spec for place in spec.submodule_search_locations or ()]
    files = [file for place in places for file in sorted(place.rglob("*")) if file.suffix in (".py", ".lua")]
    return f"{importlib.metadata.version('sharkstat')} ({_digest(files)})"


def _digest(files: Sequence[Path]) -> str:
    found = hashlib.sha256()
    for file in files:
        found.update(file.name.encode() + b"\0" + file.read_bytes())
    return found.hexdigest()[:12]
