"""Sketches of distributions, from which percentiles are estimated.

A sketch has its values as they are, up to 100 of them; percentiles are then exact. With more it is a DDSketch (Masson,
Rim, Lee, VLDB 2019, https://www.vldb.org/pvldb/vol12/p2195-masson.pdf) with a relative error of 1 %: how many values
are in each bucket. Positive values are in bucket `i` from gamma^(i-1), exclusive, to gamma^i; negative values are in
the bucket of their absolute value, apart. Sketches of parts add up to that of the whole.

A table has a sketch as a set of texts: `=VALUE`, or `=VALUE:COUNT` if it is there several times, or BUCKET:COUNT, where
BUCKET is `12`, `n12` for negative values, or `zero`. lua/sharkstat_lua/sketch.lua makes the same ones inside tshark.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache

EXACT = 100
ERROR = 0.01
GAMMA = 1.01 / 0.99
# What is nearer to zero counts as zero. No finite number is larger than the other.
LEAST, MOST = 1e-300, 1.7976931348623157e308

# The logarithm only guesses the bucket, since libraries differ in its last bit. The bounds are products in a fixed
# order, which are the same wherever numbers are IEEE 754 doubles.
_UP, _DOWN = [1.0], [1.0]


def bound(index: int) -> float:
    """The upper bound of a bucket: gamma to that power."""
    while index >= len(_UP):
        _UP.append(_UP[-1] * GAMMA)
    while -index >= len(_DOWN):
        _DOWN.append(_DOWN[-1] / GAMMA)
    return _UP[index] if index >= 0 else _DOWN[-index]


def bucket(value: int | float) -> str:
    """The bucket of a value.

    >>> bucket(1), bucket(-1000), bucket(0.5), bucket(0)
    ('0', 'n346', '-34', 'zero')
    """
    size = min(abs(float(value)), MOST)
    if size < LEAST:
        return "zero"
    index = math.ceil(math.log(size) / math.log(GAMMA))
    while bound(index) < size:
        index += 1
    while bound(index - 1) >= size:
        index -= 1
    return f"n{index}" if value < 0 else str(index)


class Sketch:
    """A sketch that is being made: values and other sketches are added, `texts` is what a table has of it.

    >>> sketch = Sketch()
    >>> sketch.add([12, 7, 12])
    >>> sketch.texts()
    ('=12:2', '=7')
    """

    __slots__ = ("_counts", "_exact", "_total")

    def __init__(self, *sketches: Iterable[str]) -> None:
        """ValueError if one is not a sketch."""
        self._counts: Counter[str] = Counter()
        self._total = 0
        self._exact = True
        for sketch in sketches:
            self.merge(sketch)

    def add(self, values: Iterable[int | float]) -> None:
        for value in values:
            # Adding 0 makes 0 of -0.0, which Lua does not tell from it.
            name = (
                f"={value if isinstance(value, int) else format(value + 0.0, '.17g')}" if self._exact else bucket(value)
            )
            self._counts[name] += 1
            self._total += 1
            self._bound()

    def merge(self, texts: Iterable[str]) -> None:
        for entry in texts:
            name, _, digits = entry.partition(":")
            count = int(digits) if digits else 1
            if name[:1] != "=" and self._exact:
                self._fold()
            self._counts[name if self._exact or name[:1] != "=" else bucket(_number(name[1:]))] += count
            self._total += count
        self._bound()

    def _bound(self) -> None:
        if self._exact and self._total > EXACT:
            self._fold()

    def _fold(self) -> None:
        values, self._counts, self._exact = self._counts, Counter(), False
        for name, count in values.items():
            self._counts[bucket(_number(name[1:]))] += count

    def texts(self) -> tuple[str, ...]:
        """The sketch as a table has it."""
        named = (name if count == 1 and name[0] == "=" else f"{name}:{count}" for name, count in self._counts.items())
        return tuple(sorted(named))

    def values(self) -> list[tuple[int | float, int]]:
        """Each value, or the middle of each bucket, with its count, from the least on."""
        middle = _exactly if self._exact else _middle
        return sorted((middle(name), count) for name, count in self._counts.items())


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdecimal() else float(text)


def _exactly(name: str) -> int | float:
    return _number(name[1:])


def _middle(name: str) -> float:
    """The value that is no more than 1 % from either bound of the bucket."""
    if name == "zero":
        return 0.0
    size = bound(int(name.removeprefix("n"))) * (1 - ERROR)
    return -size if name[0] == "n" else size


def percentile(sketch: tuple[str, ...], percent: float, least: int | float, most: int | float) -> int | float | None:
    """The least value that at least `percent` of the values do not exceed; of over 100 values at most 1 % more or less.

    `least` and `most` are the smallest and the largest value: the estimate is never beyond them. None without values.

    >>> exact, estimated = Sketch(), Sketch()
    >>> exact.add(range(1, 101))
    >>> percentile(exact.texts(), 95, 1, 100)
    95
    >>> estimated.add(range(1, 1001))
    >>> round(percentile(estimated.texts(), 95, 1, 1000))  # exactly: 950
    944
    """
    values, total = _in_order(sketch)
    if not total:
        return None
    rank = max(1, math.ceil(Fraction(str(percent)) * total / 100))
    if rank == total:
        return most
    if rank == 1:
        return least
    below = 0
    for value, count in values:
        below += count
        if below >= rank:
            return min(max(value, least), most)
    return most


@lru_cache(maxsize=8)  # a row has several percentiles of one sketch
def _in_order(sketch: tuple[str, ...]) -> tuple[list[tuple[int | float, int]], int]:
    """Its values and their counts, from the least on, and how many values there are."""
    values = Sketch(sketch).values()
    return values, sum(count for _, count in values)
