"""Sketches of distributions, from which percentiles are estimated: how many values are in each bucket.

A sketch is a DDSketch (Masson, Rim, Lee, VLDB 2019, https://www.vldb.org/pvldb/vol12/p2195-masson.pdf) with a relative
error of 1 %. Positive values are in bucket `i` from gamma^(i-1), exclusive, to gamma^i; negative values are in the
bucket of their absolute value, apart. Sketches of parts add up to that of the whole.

A table has a sketch as a set of texts BUCKET:COUNT, where BUCKET is `12`, `n12` for negative values, or `zero`.
lua/sharkstat_lua/sketch.lua finds the same buckets inside tshark.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache

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


def counts_of(sketch: Iterable[str]) -> Counter[str]:
    """The count of each bucket. ValueError if it is not a sketch."""
    counts: Counter[str] = Counter()
    for entry in sketch:
        name, _, count = entry.partition(":")
        counts[name] += int(count)
    return counts


def sketch_of(counts: Counter[str]) -> tuple[str, ...]:
    """The sketch with these counts, as a table has it."""
    return tuple(sorted(f"{name}:{count}" for name, count in counts.items()))


def merged(one: Iterable[str], other: Iterable[str]) -> tuple[str, ...]:
    """The sketch of the values of both.

    >>> merged(("12:3", "zero:1"), ("12:2",))
    ('12:5', 'zero:1')
    """
    return sketch_of(counts_of(one) + counts_of(other))


def percentile(sketch: tuple[str, ...], percent: float, least: int | float, most: int | float) -> int | float | None:
    """The least value that at least `percent` of the values do not exceed, or at most 1 % more or less.

    `least` and `most` are the smallest and the largest value: the estimate is never beyond them. None without values.

    >>> round(percentile(sketch_of(Counter(map(bucket, range(1, 1001)))), 95, 1, 1000))  # exactly: 950
    944
    """
    buckets, total = _in_order(sketch)
    if not total:
        return None
    rank = max(1, math.ceil(Fraction(str(percent)) * total / 100))
    if rank == total:
        return most
    if rank == 1:
        return least
    below = 0
    for middle, count in buckets:
        below += count
        if below >= rank:
            return min(max(middle, least), most)
    return most


@lru_cache(maxsize=8)  # a row has several percentiles of one sketch
def _in_order(sketch: tuple[str, ...]) -> tuple[list[tuple[float, int]], int]:
    """The middle of each bucket and its count, from the least values on, and how many values there are."""
    counts = counts_of(sketch)
    return sorted((_middle(name), count) for name, count in counts.items()), counts.total()


def _middle(name: str) -> float:
    """The value that is no more than 1 % from either bound of the bucket."""
    if name == "zero":
        return 0.0
    size = bound(int(name.removeprefix("n"))) * (1 - ERROR)
    return -size if name[0] == "n" else size
