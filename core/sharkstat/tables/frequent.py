"""The most frequent values, without a count for each value that there is.

Up to 2,000 different values all have their count, which is exact. Beyond that it is a Misra-Gries summary, which has
what the space-saving algorithm has (Agarwal et al., Mergeable Summaries, PODS 2012): whenever there are more values,
the 1,001st largest count is taken from all of them, and those that have nothing left are forgotten. So a count is too
small by at most the sum of what was taken, the error, which is less than a thousandth of all values; and each value
that is more frequent than that is there. Summaries merge by adding counts and errors.

A table has it as a set of texts: COUNT:VALUE, and error:COUNT where something was taken.
lua/sharkstat_lua/frequent.lua makes the same ones inside tshark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

KEPT = 1000
MOST = 2 * KEPT

# How a table spells the text "(other)" where it stands alone (records.py): behind a count it needs no mark.
_OTHER, _SPELT = "(other)", "\\x28other)"


class Frequent:
    """The counts of what is added.

    >>> frequent = Frequent()
    >>> frequent.add(["GET", "PUT", "GET"])
    >>> frequent.texts(), top(frequent.texts(), 1)
    (('1:PUT', '2:GET'), 'GET 2')
    """

    __slots__ = ("_counts", "_less")

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._less = 0

    def add(self, values: Iterable[str]) -> None:
        for value in values:
            self._counts[_OTHER if value == _SPELT else value] += 1
            if len(self._counts) > MOST:
                self._shrink()

    def merge(self, texts: Iterable[str]) -> None:
        for text in texts:
            count, _, value = text.partition(":")
            if count == "error":
                self._less += int(value)
            else:
                self._counts[value] += int(count)
        if len(self._counts) > MOST:
            self._shrink()

    def _shrink(self) -> None:
        less = sorted(self._counts.values(), reverse=True)[KEPT]
        self._counts = Counter({value: count - less for value, count in self._counts.items() if count > less})
        self._less += less

    def texts(self) -> tuple[str, ...]:
        error = [f"error:{self._less}"] if self._less else []
        return tuple(sorted([*(f"{count}:{value}" for value, count in self._counts.items()), *error]))


def error_of(texts: Iterable[str]) -> int:
    """By how much a count may be too small."""
    return next((int(text.partition(":")[2]) for text in texts if text.startswith("error:")), 0)


def top(texts: tuple[str, ...], most: int) -> str:
    """The most frequent values and their counts, or between what they are.

    >>> top(("12:GET", "3:PUT", "error:2"), 10)
    'GET 12 to 14, PUT 3 to 5'
    """
    error = error_of(texts)
    counts = sorted((-int(count), value) for count, _, value in (t.partition(":") for t in texts) if count != "error")
    return ", ".join(f"{value} {-c:,}" + (f" to {error - c:,}" if error else "") for c, value in counts[:most])
