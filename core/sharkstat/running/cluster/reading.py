"""This machine's side of a run on a cluster: what workers are to do, and how what they give becomes one outcome."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Collection, Sequence, Set
from dataclasses import replace
from operator import getitem
from typing import TYPE_CHECKING, Any

from sharkstat.errors import RequestError, TsharkError
from sharkstat.running.cluster import tasks, work
from sharkstat.running.cluster.dealing import Overview, deal_out, elsewhere_among, header_of, overview_of
from sharkstat.running.cluster.looking import look, summary_of
from sharkstat.running.cluster.parts import deal
from sharkstat.running.cluster.work import Facts, Given, Order, Plugins, facts
from sharkstat.running.duplicates import Duplicates
from sharkstat.running.interruption import Interruption
from sharkstat.running.joining import Joining, is_certain, kept_whole
from sharkstat.running.one_pass import Progress
from sharkstat.running.plan import Plan
from sharkstat.running.results import Answer, Outcome
from sharkstat.running.screening import Screened
from sharkstat.running.walking import Unsplittable

if TYPE_CHECKING:
    from distributed import Client, Future
    from typing_extensions import Self

LOG = logging.getLogger("sharkstat")
MISSING = "--cluster needs Dask: pip install 'sharkstat[cluster]'"
LEAST, MOST = 64 << 20, 2 << 30  # bytes of a shard
GRACE = 30  # seconds beyond --timeout in which a worker must have begun, and come to an end
GROUPS = 2  # of files, for each thread of a worker: so all have something to do, however large the files are
RETRIES = 2  # of a task that failed for what may pass, such as a full disk
PATIENCE = 10  # seconds for the scheduler to answer


class Cluster:
    """The workers of a scheduler. They must see the files by the same names, and have the same versions of everything.

    A context where the client is its own.
    """

    def __init__(self, client: Client, plugins: Plugins | None = None) -> None:
        """RequestError for what is no client of Dask distributed."""
        if not hasattr(client, "scheduler_info") or not hasattr(client, "submit"):
            raise RequestError(f"client={client!r:.60}: give a dask.distributed.Client")
        if client.asynchronous:
            raise RequestError("the client is asynchronous: give one made with asynchronous=False")
        self.client = client
        self.plugins = plugins or Plugins()
        self._own = False

    @classmethod
    def at(cls, address: str, plugins: Plugins) -> Self:
        """The cluster whose scheduler is at the address. RequestError without Dask, TsharkError where none answers."""
        try:
            import distributed
        except ImportError:
            raise RequestError(MISSING) from None
        try:
            made = cls(distributed.Client(address, timeout=PATIENCE, set_as_default=False), plugins)
        except (OSError, ValueError) as problem:
            raise RequestError(
                f"--cluster {address}: no scheduler answers ({problem}): start one with `dask scheduler`"
            ) from None
        made._own = True
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        if self._own:
            self.client.close()

    def read(self, plan: Plan, interruption: Interruption, progress: Progress | None = None) -> Outcome:
        """What came of all requests of the plan. SharkstatError where that cannot be."""
        source = plan.source
        if source.live or "-" in source.files:
            raise RequestError("--cluster reads files that all workers see: name them")
        if source.profile:
            raise RequestError("-C is read on this machine alone: leave it out, or leave out --cluster")
        if plan.named and any(request.engine.instead for request in plan.requests):
            raise RequestError("--engine headers counts on one machine: leave it out, or leave out --cluster")
        here = facts(self.plugins)
        if here.problem:
            raise TsharkError(here.problem)
        with interruption.allowed():
            self._check_workers(here)
        return _Run(self, plan.instead().with_all_rows(), here, interruption, progress).outcome()

    def _check_workers(self, here: Facts) -> None:
        """Raise an error if there are no workers, or one has something else than this machine."""
        found: dict[str, Facts | BaseException] = self.client.run(facts, self.plugins, on_error="return")
        if not found:
            raise RequestError("the cluster has no workers: start some with `dask worker SCHEDULER`")
        for address, there in sorted(found.items()):
            if isinstance(there, BaseException):
                said = f"{type(there).__name__}: {there}"
                raise TsharkError(f"worker {address} cannot run sharkstat ({said}): install the same version there")
            here.check(there, address)

    @property
    def size(self) -> tuple[int, int]:
        """How many tsharks may run at one time, and how many bytes of packets each may have in memory."""
        workers = [one for one in self.client.scheduler_info(n_workers=-1)["workers"].values() if one["nthreads"]]
        least = min((one["memory_limit"] or MOST) // one["nthreads"] for one in workers)
        return sum(one["nthreads"] for one in workers), max(LEAST, min(MOST, least // 4))


class _Run:
    """One plan on one cluster."""

    def __init__(
        self, cluster: Cluster, plan: Plan, here: Facts, interruption: Interruption, progress: Progress | None
    ) -> None:
        self._client, self._plugins, self._plan, self._here = cluster.client, cluster.plugins, plan, here
        self._interruption, self._progress = interruption, progress
        self._threads, self._most = cluster.size
        self._name = uuid.uuid4().hex[:8]
        self._numbers: dict[str, int] = {}
        self._futures: list[Future] = []
        self._bytes = 0  # of all files, once that is known

    def outcome(self) -> Outcome:
        try:
            try:
                return self._in_shards()
            except Unsplittable as reason:
                LOG.debug("%s: read in one piece: %s", ", ".join(self._plan.source.names), reason)
                return self._whole(range(len(self._plan.requests)))
        except BaseException:
            self._client.cancel(self._futures)  # ends what workers still read
            raise

    def _submit(self, what: str, function: Callable[..., Any], *given: Any, **options: Any) -> Future:
        """A task, under a name that dashboards show."""
        number = self._numbers[what] = self._numbers.get(what, -1) + 1
        key = f"sharkstat-{what}-{self._name}-{number}"
        future = self._client.submit(function, *given, key=key, retries=RETRIES, pure=False, **options)
        self._futures.append(future)
        return future

    def _wait(self, futures: Collection[Future], seconds: float | None = None) -> list[Any]:
        """What the tasks gave, in their order, within so many seconds."""
        from distributed import KilledWorker, TimeoutError, as_completed

        try:
            with self._interruption.allowed():
                for future in as_completed(futures, loop=self._client.loop, timeout=seconds):
                    if future.status == "error":
                        future.result()  # the others do not matter any more
                    self._tell()
            return [future.result() for future in futures]
        except KilledWorker as problem:
            raise TsharkError(
                f"no results: {problem.last_worker} died, as others did before it with the same work: see their logs"
            ) from None
        except TimeoutError:
            raise TsharkError(f"no results within {seconds:g} s (--timeout): the workers have other work") from None

    def _tell(self) -> None:
        """Report to `progress`: how many bytes are done, if all tasks are about equal."""
        if self._progress is not None and self._bytes:
            done = sum(future.done() for future in self._futures)
            self._progress(self._bytes * done // len(self._futures), self._bytes)

    def _whole(self, numbers: Sequence[int]) -> Outcome:
        """Those requests, counted from all packets."""
        return self._of_whole(numbers, self._begin_whole(numbers))

    def _begin_whole(self, numbers: Sequence[int]) -> list[tuple[list[int], Future]]:
        """Have workers read all files for these requests, dealt out to them."""
        groups = [[numbers[at] for at in group] for group in self._plan.only(numbers).dealt(self._threads)]
        orders = [self._order(self._plan.only(group)) for group in groups]
        return [
            (group, self._submit("read-whole", tasks.whole, order, self._here))
            for group, order in zip(groups, orders, strict=True)
        ]

    def _of_whole(self, numbers: Sequence[int], begun: Sequence[tuple[list[int], Future]]) -> Outcome:
        timeout = self._plan.source.timeout
        given = self._wait([future for _, future in begun], None if timeout is None else timeout + GRACE)
        outcomes = [_outcome(self._plan.only(group), one) for (group, _), one in zip(begun, given, strict=True)]
        answers = {
            number: answer
            for (group, _), outcome in zip(begun, outcomes, strict=True)
            for number, answer in zip(group, outcome.answers, strict=True)
        }
        return replace(outcomes[0], answers=[answers[number] for number in numbers])

    def _order(self, plan: Plan) -> Order:
        return Order.of(plan, self._plugins)

    def _in_shards(self) -> Outcome:
        """Those requests that can be, from shards of all files; others beside them. Unsplittable where none can."""
        plan = self._plan
        reason = kept_whole(plan.source)
        if reason:
            raise Unsplittable(reason)
        split = [number for number, request in enumerate(plan.requests) if request.can_split]
        if not split:
            raise Unsplittable("nothing that is asked for can be counted in parts")
        if self._threads < 2:
            raise Unsplittable("the cluster has one processor")
        files = list(enumerate(plan.source.files))
        alone = self._submit("screen", work.screened, plan.source.files[0]) if len(files) == 1 else None
        count = min(len(files), GROUPS * self._threads)
        groups = [files[len(files) * at // count : len(files) * (at + 1) // count] for at in range(count)]
        looked = [self._submit("look", look, group) for group in groups]
        summaries = [self._submit("summary", summary_of, one) for one in looked]
        lean = plan.only(split).is_lean
        dealing = self._submit("deal-out", deal_out, summaries, self._threads, self._most, lean)
        (overview,) = self._wait([self._submit("overview", overview_of, dealing)])
        if overview.problem:
            raise Unsplittable(overview.problem)
        self._bytes = overview.size
        known = overview.announces, overview.hides, overview.rest, overview.packets
        uncertain = [number for number in split if not is_certain(plan.requests[number], *known)]
        split = [number for number in split if number not in uncertain]
        for number in uncertain:
            LOG.debug("%s: read in one piece: where its streams begin may be uncertain", plan.requests[number].text)
        if not split:
            raise Unsplittable("where its streams begin may be uncertain, and all that is asked for numbers them")
        others = [number for number in range(len(plan.requests)) if number not in split]
        beside = self._begin_whole(others) if others else []
        part = plan.only(split)
        protocols = sorted({c.numbering for request in part.requests for c in request.columns} - {""})
        dealt = [self._submit("deal", deal, one, dealing) for one in looked]
        order, header = self._order(part), self._submit("header", header_of, dealing)
        shards = []
        for number in range(overview.shards):
            mine = [self._submit("part", getitem, one, number) for one in dealt]
            job = (("since", str(overview.since)), ("shard", "plain" if number else "rest", *protocols))
            given = (order, self._here, mine, header, job, overview.cut, alone is None)
            shards.append(self._submit("read", tasks.shard, *given, priority=int(not number)))
        read: list[Given] = self._wait(shards)
        for one in read:
            if one.problem is not None:
                raise Unsplittable(f"a part of it failed: {one.problem}")
        joined, found = self._joined(part, overview, protocols, read, looked, dealing)
        screened = _screened(read) if alone is None else self._wait([alone])[0]
        reading = replace(
            joined.reading,
            duplicates=None if screened is None else screened.copies,
            forwarded=None if screened is None else screened.forwarded,
        )
        joined = replace(joined, screened=screened, reading=reading)
        answers = {split[at]: answer for at, answer in found.items()}
        if beside:
            answers.update(zip(others, self._of_whole(others, beside).answers, strict=True))
        missing = [number for number in range(len(plan.requests)) if number not in answers]
        if missing:
            answers.update(zip(missing, self._whole(missing).answers, strict=True))
        return replace(joined, answers=[answers[number] for number in range(len(plan.requests))])

    def _joined(
        self,
        plan: Plan,
        overview: Overview,
        protocols: Sequence[str],
        given: Sequence[Given],
        looked: Sequence[Future],
        dealing: Future,
    ) -> tuple[Outcome, dict[int, Answer]]:
        ordered = sorted({place for one in given for place in one.positions.values()})
        ranks = {place: rank for rank, place in enumerate(ordered, 1)}

        def elsewhere(pairs: Set[int]) -> Set[int]:
            found = self._wait([self._submit("find", elsewhere_among, one, dealing, sorted(pairs)) for one in looked])
            return set().union(*found)

        joining = Joining(
            [one.packets for one in given],
            overview.since,
            overview.announces,
            elsewhere,
            lambda shard, packet: ranks[given[shard].positions[packet]],
            protocols,
        )
        if sum(one.packets for one in given) != overview.packets:
            raise Unsplittable("its files changed meanwhile")
        outcomes = [_outcome(plan, one) for one in given]
        return joining.joined(outcomes, [one.records for one in given])


def _screened(given: Sequence[Given]) -> Screened | None:
    """What of all packets was captured twice: copies are in one shard."""
    all_found = [one.duplicates for one in given if one.duplicates is not None]
    if not all_found:
        return None
    total = Duplicates()
    for found in all_found:
        total.add(found)
    return Screened.of(total)


def _outcome(plan: Plan, given: Given) -> Outcome:
    """The outcome that a worker gave. Raises what kept it from having one."""
    if given.problem is not None:
        raise given.problem
    assert given.outcome is not None
    answers = [
        Answer(request, one.result, one.failure, one.skipped, one.partial, one.lacks)
        for request, one in zip(plan.requests, given.answers, strict=True)
    ]
    reading = replace(given.outcome.reading, sources=plan.source.names)
    return replace(given.outcome, answers=answers, reading=reading)
