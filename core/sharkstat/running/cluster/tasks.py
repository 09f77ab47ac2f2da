"""The tasks of workers that run a tshark: what they do is `work`, that they are Dask's is here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sharkstat.running.cluster.parts import Parts
from sharkstat.running.cluster.work import Given, Order, read_shard, read_whole


def shard(
    order: Order, groups: Sequence[Parts], header: bytes, job: Sequence[tuple[str, ...]], cut: bool, looks: bool
) -> Given:
    """What a worker read of a shard."""
    return read_shard(order, groups, header, job, cut, looks, _wanted())


def whole(order: Order) -> Given:
    """What a worker read of all files."""
    return read_whole(order, _wanted())


def _wanted() -> Callable[[], bool]:
    """Tells whether anybody still wants what this task gives: Dask marks it in the worker's state where nobody does."""
    from distributed import get_worker

    worker = get_worker()
    task, tasks = worker.get_current_task(), worker.state.tasks

    def wanted() -> bool:
        state = tasks.get(task)
        return state is not None and state.state in ("executing", "long-running")

    return wanted
