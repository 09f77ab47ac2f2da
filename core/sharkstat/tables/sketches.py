"""The sketches that a table may hold, by the merge rules of their columns, and what people are shown of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from sharkstat.tables.distinct import Distinct, number_of
from sharkstat.tables.frequent import Frequent, error_of, top
from sharkstat.tables.histogram import Histogram, told
from sharkstat.tables.sketch import Sketch


class Mergeable(Protocol):
    """What a sketch can do while it is made."""

    def merge(self, texts: Iterable[str]) -> None: ...
    def texts(self) -> tuple[str, ...]: ...


SKETCHES: dict[str, type[Mergeable]] = {
    "sketch": Sketch,
    "distinct": Distinct,
    "frequent": Frequent,
    "histogram": Histogram,
}


def merged(rule: str, one: Iterable[str], other: Iterable[str]) -> tuple[str, ...]:
    """The sketch of what both have."""
    made = SKETCHES[rule]()
    made.merge(one)
    made.merge(other)
    return made.texts()


def estimate(texts: tuple[str, ...], what: str, *more: str, unit: str = "") -> int | str | None:
    """What a column shows of a sketch (`Column.estimate`).

    `more` is how many of the most frequent values; of a histogram the column with the smallest value, and its labels.
    """
    if what == "distinct":
        return number_of(texts)
    if what == "error":
        return error_of(texts)
    if not texts:
        return None
    return top(texts, int(more[0])) if what == "top" else told(texts, more[1:], unit)
