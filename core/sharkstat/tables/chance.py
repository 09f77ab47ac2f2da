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
# More is asked of what is looked for only because bytes explained nothing, and comes in larger clusters.
UNLIKELY_COUNT = 5.0
# With fewer connections than this, chance cannot be told from a cause by counting: a large change counts as one.
FEW, FEW_FACTOR, FEW_SUPPORT = 3, 1.5, 0.2


class Judge:
    """Says which parts changed enough, and more than they would by chance."""

    def __init__(self, by: By, weights: Weights, total: Sum) -> None:
        self.by, self.weights = by, weights
        self.whole = max(total.before.of(by) * weights.before, total.after.of(by) * weights.after)

    def sizes(self, part: Sum) -> tuple[int, int]:
        return part.before.of(self.by) * self.weights.before, part.after.of(self.by) * self.weights.after

    def change(self, part: Sum) -> int:
        before, after = self.sizes(part)
        return after - before

    def changed(self, part: Sum) -> bool:
        before, after = self.sizes(part)
        change = abs(after - before)
        if not change or change < SUPPORT * self.whole:
            return False
        spreads = self._spread(part, False), self._spread(part, True)
        few = min(spread.connections for spread in spreads if spread.connections or (before and after)) <= FEW
        if not before or not after:
            return not few or change >= FEW_SUPPORT * self.whole
        if few and max(before, after) >= FEW_FACTOR * min(before, after) and change >= FEW_SUPPORT * self.whole:
            return True
        errors = UNLIKELY_TOTAL if self.by == "bytes" else UNLIKELY_COUNT
        if _errors_apart(before, after, spreads, self.weights) >= errors:
            return True
        return self.by in ("bytes", "packets") and _unlikely_size(*spreads)

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


def _unlikely_size(before: _Spread, after: _Spread) -> bool:
    """Whether connections carry more or less each than their own differences allow (Welch's test)."""
    if min(before.connections, after.connections) <= FEW:
        return False
    means, error = [], 0.0
    for spread in (before, after):
        mean = spread.total / spread.connections
        means.append(mean)
        error += max(spread.squares / spread.connections - mean * mean, 0.0) / (spread.connections - 1)
    difference = abs(means[1] - means[0])
    return difference > SUPPORT * max(means) and difference >= UNLIKELY_SIZE * math.sqrt(error)
