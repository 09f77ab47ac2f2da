"""Which parts of traffic changed more than they would by chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sharkstat.tables.cells import Amount, By, Sum, Value, Weights

# The least part of all traffic, before or after, that is worth a word.
SUPPORT = 0.1
# Standard errors by which a total, or the mean size of a connection's part, must differ.
UNLIKELY_TOTAL, UNLIKELY_SIZE = 4.0, 5.0
# Less is asked of a large change of sizes that are so many times as large.
UNLIKELY_LARGE, MANY_TIMES = 3.0, 3.0
# More is asked of what is looked for only because bytes explained nothing, and comes in larger clusters.
UNLIKELY_COUNT = 5.0
# With fewer connections than this, chance cannot be told from a cause by counting: a large change counts as one.
FEW, FEW_FACTOR, FEW_SUPPORT = 3, 1.5, 0.2
# Of requests on so few connections, by which their number must differ all the same.
UNLIKELY_FEW = 2.5


class Judge:
    """Says which parts changed enough, and more than they would by chance."""

    def __init__(self, by: By, weights: Weights, total: Sum) -> None:
        self.by, self.weights = by, weights
        self.whole = max(total.before.of(by) * weights.before, total.after.of(by) * weights.after)

    def sizes(self, part: Sum, by: By | None = None) -> tuple[int, int]:
        by = by or self.by
        return part.before.of(by) * self.weights.before, part.after.of(by) * self.weights.after

    def support(self) -> float:
        """The least that is worth a word."""
        return SUPPORT * self.whole

    def change(self, part: Sum, by: By | None = None) -> int:
        before, after = self.sizes(part, by)
        return after - before

    def changed(self, part: Sum) -> bool:
        before, after = self.sizes(part)
        change = abs(after - before)
        if not change or change < self.support():
            return False
        spreads = self._spread(part, False), self._spread(part, True)
        on_both = bool(before and after)
        few = min(spread.connections for spread in spreads) <= FEW
        large = change >= FEW_SUPPORT * self.whole
        if large and self._is_plain(before, after, few):
            return True
        errors = UNLIKELY_TOTAL if self.by == "bytes" else UNLIKELY_COUNT
        if _errors_apart(before, after, spreads, self.weights) >= errors:
            return True
        return on_both and not few and self.by in ("bytes", "packets") and _unlikely_size(*spreads, large)

    def _is_plain(self, before: int, after: int, few: bool) -> bool:
        """Whether a large change counts as one although there are too few connections to judge by."""
        if self.by == "connections":  # their number is what is left to chance
            return False
        if self.by == "requests":
            single = _Spread(1, 1, 1.0)
            return few and _errors_apart(before, after, (single, single), self.weights) >= UNLIKELY_FEW
        return not before or not after or (few and max(before, after) >= FEW_FACTOR * min(before, after))

    def _spread(self, part: Sum, later: bool) -> _Spread:
        """How the measure is spread over connections, of which each may have parts in several cells."""
        groups: dict[tuple[Value, ...], list[Amount]] = {}
        for cell in part.cells:
            amount = cell.after if later else cell.before
            if amount.of(self.by):
                key = (cell.values.get("service"), cell.values.get("client"), cell.values.get("host"))
                groups.setdefault(key, []).append(amount)
        connections, total, squares = 0, 0, 0.0
        for amounts in groups.values():
            whole = amounts[0]
            for amount in amounts[1:]:
                whole += amount
            count = whole.of(self.by)
            number = max(whole.connections, *(amount.parts for amount in amounts), 1)
            connections, total = connections + number, total + count
            spread = whole.squares if len(amounts) == 1 else whole.products
            if self.by == "bytes":
                squares += spread
            elif self.by == "connections" or not whole.bytes:
                squares += count
            else:  # as its bytes are
                squares += max(count, count * count * spread / whole.bytes**2)
        return _Spread(connections, total, squares)


@dataclass(frozen=True)
class _Spread:
    """So many connections, what they have in all, and the sum of the squares of what each has."""

    connections: int
    total: int
    squares: float


def _errors_apart(before: int, after: int, spreads: Sequence[_Spread], weights: Weights) -> float:
    """By how many standard errors the totals of connections that come by chance (a compound Poisson process) differ.

    Square roots are compared, whose spread hardly depends on how many there are.
    """
    sizes = [spread.squares / spread.total if spread.total else 0.0 for spread in spreads]
    error = math.sqrt((sizes[0] * weights.before + sizes[1] * weights.after) / 4)
    return abs(math.sqrt(after) - math.sqrt(before)) / error if error else math.inf


def _unlikely_size(before: _Spread, after: _Spread, large: bool) -> bool:
    """Whether connections carry more or less each than their own differences allow (Welch's test).

    Of a large change, fewer connections are enough where they carry many times as much.
    """
    means, error = [], 0.0
    for spread in (before, after):
        mean = spread.total / spread.connections
        means.append(mean)
        error += max(spread.squares / spread.connections - mean * mean, 0.0) / (spread.connections - 1)
    difference = abs(means[1] - means[0])
    errors = UNLIKELY_LARGE if large and max(means) >= MANY_TIMES * min(means) else UNLIKELY_SIZE
    return difference > SUPPORT * max(means) and difference >= errors * math.sqrt(error)
