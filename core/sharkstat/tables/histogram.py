"""How many values are in each bucket of a histogram.

Buckets are from 1, 2, 5, 10, 20, 50, ..., and from such fractions, each up to and without the next; a table has them as
a set of texts LOWER:COUNT, where LOWER is `2e3` for 2,000 to 5,000, `-2e3` for such negative values, and `0`. Between
given bounds, a table has LABEL:COUNT with the labels of the function `bucket`. Counts of parts add up to those of the
whole. lua/sharkstat_lua/histogram.lua finds the same buckets inside tshark.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from sharkstat.tables.figures import humanised_duration, plain_number, scaled
from sharkstat.tables.sketch import LEAST, MOST

_DIGITS = "125"


def _name(index: int) -> str:
    power, digit = divmod(index, 3)
    return f"{_DIGITS[digit]}e{power}"


@lru_cache(maxsize=4096)
def _bound(index: int) -> float:
    return float(_name(index))


def bucket(value: int | float) -> str:
    """The bucket of a value.

    >>> bucket(1), bucket(4999), bucket(-0.03), bucket(0)
    ('1e0', '2e3', '-2e-2', '0')
    """
    size = min(abs(float(value)), MOST)
    if size < LEAST:
        return "0"
    index = 3 * math.floor(math.log10(size))
    while _bound(index + 1) <= size:
        index += 1
    while _bound(index) > size:
        index -= 1
    return f"-{_name(index)}" if value < 0 else _name(index)


class Histogram:
    """The buckets' counts of what is added; between `bounds`, whose buckets are called `labels`."""

    __slots__ = ("_bounds", "_counts", "_labels")

    def __init__(self, bounds: Sequence[int | float] = (), labels: Sequence[str] = ()) -> None:
        self._counts: Counter[str] = Counter()
        self._bounds, self._labels = bounds, labels

    def add(self, values: Iterable[int | float]) -> None:
        if self._bounds:
            self._counts.update(self._labels[bisect_right(self._bounds, value)] for value in values)
        else:
            self._counts.update(map(bucket, values))

    def merge(self, texts: Iterable[str]) -> None:
        for text in texts:
            name, _, count = text.rpartition(":")
            self._counts[name] += int(count)

    def texts(self) -> tuple[str, ...]:
        return tuple(sorted(f"{name}:{count}" for name, count in self._counts.items()))


def told(texts: Iterable[str], labels: Sequence[str], unit: str) -> str:
    """The buckets that have values and their counts, in order; durations, whose unit is seconds, are in nanoseconds.

    >>> told(("2e3:4", "5e2:1"), (), "bytes"), told(("5e5:2",), (), "seconds"), told(("from 64:2",), ("from 64",), "")
    ('500 B to 1.00 kB 1, 2.00 kB to 5.00 kB 4', '500 µs to 1 ms 2', 'from 64 2')
    """
    counts = {name: int(count) for name, _, count in (text.rpartition(":") for text in texts)}
    if labels:
        return ", ".join(f"{label} {counts[label]:,}" for label in labels if label in counts)
    names = sorted(counts, key=float)
    return ", ".join(f"{_span(name, unit)} {counts[name]:,}" for name in names)


def _span(name: str, unit: str) -> str:
    if name == "0":
        return _figure(0, unit)
    sign, lower = ("-", name[1:]) if name[0] == "-" else ("", name)
    digit, power = lower.split("e")
    upper = float(f"{digit.translate({49: '2', 50: '5', 53: '10'})}e{power}")
    low, high = _figure(float(lower), unit), _figure(upper, unit)
    return f"{sign}{low} to {sign}{high}"


def _figure(value: float, unit: str) -> str:
    if unit == "seconds":
        return humanised_duration(round(value))
    whole = int(value) if value.is_integer() and abs(value) < 1e15 else value if value else 0
    return scaled(unit, whole) or plain_number(whole)
