"""Runs several passes in parallel, one thread per tshark; the first error ends them all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from sharkstat.running.interruption import Interruption

T = TypeVar("T")


def together(works: Sequence[Callable[[Interruption], T]], interruption: Interruption) -> list[T]:
    """The results of all works, in order. The first signal lets all of them finish early, the second kills them.

    If some fail, raises the first error once all have ended.
    """
    each = [Interruption() for _ in works]
    given: list[T | None] = [None] * len(works)
    failed: list[BaseException] = []

    def tell_all() -> None:
        for one in each:
            one.tell()

    def work(number: int) -> None:
        try:
            given[number] = works[number](each[number])
        except BaseException as problem:
            failed.append(problem)
            tell_all()

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(works))]
    begun = []
    try:
        with interruption.softly(tell_all):
            for thread in threads:
                thread.start()
                begun.append(thread)
            for thread in threads:
                thread.join()
    finally:  # a second signal, or no more threads: abort each of them
        if any(thread.is_alive() for thread in begun):
            tell_all()
            tell_all()
            for thread in begun:
                thread.join()
    if failed:
        raise failed[0]
    return given  # type: ignore[return-value]
