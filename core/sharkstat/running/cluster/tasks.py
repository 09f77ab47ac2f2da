"""The tasks of workers that run a tshark: what they do is `work`, that they are Dask's is here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sharkstat.errors import SourceError
from sharkstat.running.cluster.parts import Parts
from sharkstat.running.cluster.work import Facts, Given, Order, facts, read_shard, read_whole


def shard(
    order: Order,
    here: Facts,
    groups: Sequence[Parts],
    header: bytes,
    job: Sequence[tuple[str, ...]],
    cut: bool,
    looks: bool,
) -> Given:
    """What a worker read of a shard. TsharkError where it has something else than `here` is."""
    return read_shard(order, groups, header, job, cut, looks, _wanted(order, here))


def whole(order: Order, here: Facts) -> Given:
    """What a worker read of all files. TsharkError where it has something else than `here` is."""
    from distributed import get_worker

    given = read_whole(order, _wanted(order, here))
    if isinstance(given.problem, SourceError):  # others may see the files
        given.problem = SourceError(f"{given.problem} (on worker {get_worker().address})")
    return given


def _wanted(order: Order, here: Facts) -> Callable[[], bool]:
    """Tells whether anybody still wants what this task gives: Dask marks it in the worker's state where nobody does."""
    from distributed import get_worker

    worker = get_worker()
    here.check(facts(order.plugins), worker.address)  # it may have come after the others were asked
    task, tasks = worker.get_current_task(), worker.state.tasks

    def wanted() -> bool:
        state = tasks.get(task)
        return state is not None and state.state in ("executing", "long-running")

    return wanted
