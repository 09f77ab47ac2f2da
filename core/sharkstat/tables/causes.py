"""Why did traffic change? Causes of a change, level by level, so that the parts of each level add up to it.

The input is the finest table there is: cells, each with what its packets have in common (service, client, request,
status, ...) and what was counted before and after. A cause is a set of cells that share values of some of these
dimensions. Every packet is in one cell, so nothing is counted twice, and a level with its rest has every cell.

Which dimension explains a set of cells is chosen as in Adtributor (Bhagwan et al., NSDI 2014): of the dimensions in
which few elements make up most of the change (explanatory power, succinctness), the one whose elements change their
part of the whole the most (surprise, by the Jensen-Shannon divergence). Elements must have support, as in the DIFF
operator (Abuzaid et al., VLDB 2019): a part of all traffic below which nothing is blamed; and what would also come by
chance is no cause. docs/diff.md describes all of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sharkstat.tables.cells import MEASURES, Amount, By, Cell, Sum, Value, Weights, by_value
from sharkstat.tables.chance import Judge
from sharkstat.tables.moves import Several, Spans, Time, moved_together, moves, shift

Kind = Literal["changed", "new", "gone", "moved", "rest"]

# What a dimension's elements must make up of what went up and down in it, and by how many of them.
EXPLAINED, ENOUGH, MOST_ELEMENTS = 0.5, 0.67, 8
# One dimension explains as much as another if it explains so much of what that does.
AS_MUCH = 0.9
# In which parts of a service, or of what a client does, something may have come at another time.
PARTS_IN_TIME = ("client", "request", "host")
# Below this an element's part of the whole is what it was: everything grew alike.
SURPRISE = 0.005
MOST_CHILDREN = 6


@dataclass
class Cause:
    """A part of a change: what the cells of `total` share is `dimension` = `value`, within the cause above it.

    A cause of the kind "moved" has gone from `source` to `target`, elements of the dimension (or several of them); one
    of the kind "rest" is all that the others of its level are not.
    """

    dimension: str
    value: Value
    total: Sum
    kind: Kind = "changed"
    source: Value = None
    target: Value = None
    elements: int = 1
    children: list[Cause] = field(default_factory=list)

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Cause]]:
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)


@dataclass
class Explanation:
    """The causes of a change of one measure, the largest first, with the rest that makes them add up."""

    by: By
    total: Sum
    weights: Weights
    causes: list[Cause]

    def change(self, part: Sum, by: By | None = None) -> int:
        """How much more there is after, in weighted units: exact."""
        by = by or self.by
        return part.after.of(by) * self.weights.after - part.before.of(by) * self.weights.before

    def sides(self, part: Sum) -> tuple[tuple[Amount, int], tuple[Amount, int]]:
        """What there is of it on both sides, each with its weight."""
        return (part.before, self.weights.before), (part.after, self.weights.after)

    def weight(self, cause: Cause) -> int:
        """How much a cause matters: what went up or down in all, and what moved within."""
        return abs(self.change(cause.total)) + 2 * self.moved(cause)

    def gross(self) -> int:
        """All that went up and all that went down, on the first level."""
        return sum(map(self.weight, self.causes))

    def share(self, way: Sequence[Cause]) -> float:
        """A cause's part of all that went up and down, from 0 to 1; `way` leads to it from the first level.

        The shares of a level add up to that of the cause above.
        """
        share, level = 1.0, self.causes
        for cause in way:
            gross = sum(map(self.weight, level))
            share *= self.weight(cause) / gross if gross else 0.0
            level = cause.children
        return share

    def moved(self, cause: Cause) -> int:
        """How much of it moved: what went down on one side and up on the other."""
        if cause.kind == "moved":
            return _moved(self, cause)
        return sum(self.moved(child) for child in cause.children)

    @property
    def nothing(self) -> bool:
        return all(cause.kind == "rest" for cause in self.causes)


def _moved(explanation: Explanation, cause: Cause) -> int:
    if cause.dimension == "time":  # all of it fell at one time, and rose at another
        return min(side.of(explanation.by) * weight for side, weight in explanation.sides(cause.total))
    changes = [explanation.change(part) for part in by_value(cause.total.cells, cause.dimension).values()]
    return min(sum(c for c in changes if c > 0), -sum(c for c in changes if c < 0))


# Dimensions ---------------------------------------------------------------------------------------------

ROOT = ("service", "client", "host")
# Where none of these explains much: many small services of one kind.
LAST = "port"
INSIDE = ("client", "host", "request", "query", "status", "resent", "service", LAST)


def _applicable(used: Sequence[str]) -> list[str]:
    """The dimensions by which cells can be told apart further."""
    if not used:
        return [*ROOT, LAST]
    found = [name for name in INSIDE if name not in used]
    if "request" not in used:
        found.remove("query")
    if "service" not in used:  # what is asked for means something within a service
        return [name for name in found if name in ("service", "host", LAST)]
    found.remove(LAST)
    return found


def _surprise(part: float, after: float) -> float:
    """An element's term of the Jensen-Shannon divergence, of its parts of the whole before and after, in bits / 2."""
    middle = (part + after) / 2
    terms = [p * math.log2(p / middle) / 2 for p in (part, after) if p]
    return sum(terms)


# The search ----------------------------------------------------------------------------------------------


@dataclass
class _Level:
    """What one dimension says of a set of cells: the elements that changed, and how well they explain it."""

    dimension: str
    elements: dict[Value, Sum]
    changed: list[Value]
    inner: dict[Value, list[Cause]]
    needed: int
    explained: float
    surprise: float
    together: tuple[Several, Several] | None = None


class _Search:
    def __init__(self, by: By, weights: Weights, total: Sum, spans: Spans | None) -> None:
        self.judge, self.spans = Judge(by, weights, total), spans
        self.explanation = Explanation(by, total, weights, [])

    def causes(self, whole: Sum, used: tuple[str, ...]) -> list[Cause]:
        """The causes of a change within these cells, with the rest; none where no few elements explain it."""
        levels = [level for name in _applicable(used) if (level := self.level(whole, name, used)) is not None]
        if not levels:
            return self.shifts(whole, used) if used else []
        if not used:
            first = self.first(levels)
            return self.told(first, used) if first else []
        return self.told(min(levels, key=lambda level: (level.needed, -round(level.surprise, 6))), used)

    def shifts(self, whole: Sum, used: tuple[str, ...]) -> list[Cause]:
        """What came at another time, of cells that are no more and no fewer: all of them, or the largest part."""
        if ends := self.shift(whole):
            return [Cause("time", None, whole, "moved", *ends)]
        for dimension in PARTS_IN_TIME:
            if dimension in used:
                continue
            elements = by_value(whole.cells, dimension)
            for value, part in sorted(
                elements.items(), key=lambda element: (-min(self.judge.sizes(element[1])), str(element[0]))
            ):
                if ends := self.shift(part):
                    cause = Cause(dimension, value, part, children=[Cause("time", None, part, "moved", *ends)])
                    others = [cell for other, rest in elements.items() if other != value for cell in rest.cells]
                    rest = Cause(dimension, None, Sum.of(others), "rest", elements=len(elements) - 1)
                    return [cause, rest] if others else [cause]
        return []

    def shift(self, part: Sum) -> tuple[Time, Time] | None:
        return shift(part, self.spans, self.judge) if self.spans else None

    def first(self, levels: Sequence[_Level]) -> _Level | None:
        """A service, unless fewer clients or hosts explain as much; a port, where many services explain little each."""
        best, *others = levels
        if best.dimension == LAST and not self.many_services(best):
            return None
        for level in others:
            if level.dimension == LAST:
                better = best.explained < EXPLAINED <= level.explained and self.many_services(level)
            else:
                better = level.explained >= AS_MUCH * best.explained and level.needed < best.needed
            if better:
                best = level
        return best

    def many_services(self, level: _Level) -> bool:
        """Whether it is services together that changed, and not one among them."""
        for value in level.changed:
            changes = [self.judge.change(part) for part in by_value(level.elements[value].cells, "service").values()]
            if max(map(abs, changes)) > EXPLAINED * abs(sum(changes)):
                return False
        return True

    def level(self, whole: Sum, dimension: str, used: tuple[str, ...]) -> _Level | None:
        elements = by_value(whole.cells, dimension)
        if len(elements) < 2 and used:
            return None
        judge = self.judge
        change = {value: judge.change(part) for value, part in elements.items()}
        changed = [value for value, part in elements.items() if judge.changed(part)]
        together = moved_together(dimension, whole, elements, judge) if used else None
        if together:
            changed = [value for end in together for value in end.values]
        inner: dict[Value, list[Cause]] = {}
        if not used and dimension == "service":
            # What moved within a service, from one address to another, need not change the service.
            for value, part in elements.items():
                if max(judge.sizes(part)) >= judge.support():
                    inner[value] = self.causes(part, (dimension,))
            changed = [value for value in elements if value in set(changed) or inner.get(value)]
        if not changed:
            return None
        moved = {value: sum(self.explanation.moved(cause) for cause in inner.get(value, ())) for value in changed}
        weight = {value: abs(change[value]) + 2 * moved[value] for value in changed}
        changed.sort(key=lambda value: (-weight[value], str(value)))
        told = sum(weight.values())
        # What the others went up and down by chance is nothing to explain, but what they did together is.
        gross = told + abs(sum(change.values()) - sum(change[value] for value in changed))
        if used and told < EXPLAINED * gross:
            return None
        needed, reached = 0, 0
        for value in changed:
            needed, reached = needed + 1, reached + weight[value]
            if reached >= ENOUGH * told:
                break
        if together:
            needed = 1
        if used and needed > MOST_ELEMENTS:
            return None
        surprise = self.surprise(whole, [elements[value] for value in changed])
        if used and surprise < SURPRISE:
            return None
        return _Level(dimension, elements, changed, inner, needed, told / gross if gross else 0.0, surprise, together)

    def surprise(self, whole: Sum, parts: Sequence[Sum]) -> float:
        before, after = self.judge.sizes(whole)
        if not before or not after:
            return 0.0
        sizes = [self.judge.sizes(part) for part in parts]
        return sum(_surprise(b / before, a / after) for b, a in sizes)

    def told(self, level: _Level, used: tuple[str, ...]) -> list[Cause]:
        """The elements that changed as causes, those that offset each other as one, and the rest."""
        pairs: list[tuple[Value, Value]] = [level.together] if level.together else []
        pairs = pairs or moves(level.dimension, level.elements, {*level.changed}, self.judge)
        found: list[Cause] = []
        paired: set[Value] = set()
        for source, target in pairs:
            cause = Cause(level.dimension, None, Sum.of(()), "moved", source, target)
            cause.total = Sum.of(cell for value in _values(cause) for cell in level.elements[value].cells)
            paired.update(_values(cause))
            found.append(cause)
        for value in level.changed:
            if value in paired:
                continue
            part = level.elements[value]
            before, after = self.judge.sizes(part)
            kind: Kind = "new" if not before else "gone" if not after else "changed"
            cause = Cause(level.dimension, value, part, kind)
            if value in level.inner:
                cause.children = level.inner[value]
            elif kind == "changed":
                cause.children = self.causes(part, (*used, level.dimension))
            found.append(cause)
        found.sort(
            key=lambda cause: (-self.explanation.weight(cause), str(cause.value), str(cause.source), str(cause.target))
        )
        kept = found[:MOST_CHILDREN]
        told = {value for cause in kept for value in _values(cause)}
        others = [value for value in level.elements if value not in told]
        if others:
            rest = Sum.of(cell for value in others for cell in level.elements[value].cells)
            kept.append(Cause(level.dimension, None, rest, "rest", elements=len(others)))
        return kept


def _values(cause: Cause) -> tuple[Value, ...]:
    """The elements of its dimension that a cause is about."""
    ends = (cause.source, cause.target) if cause.kind == "moved" else (cause.value,)
    return tuple(value for end in ends for value in (end.values if isinstance(end, Several) else (end,)))


def explain(cells: Sequence[Cell], by: By, weights: Weights, spans: Spans | None = None) -> Explanation:
    """Why the measure changed. The causes of a level, and the rest, add up to the change of the level above.

    With `spans`, the times of both sides, what came at another time is a cause, too.

    >>> a = Cell({"service": "a"}, Amount(bytes=100, packets=1, parts=1), Amount(bytes=900, packets=9, parts=1))
    >>> b = Cell({"service": "b"}, Amount(bytes=50, packets=1, parts=1), Amount(bytes=50, packets=1, parts=1))
    >>> found = explain([a, b], "bytes", Weights())
    >>> [(cause.value, cause.kind, found.change(cause.total)) for cause in found.causes]
    [('a', 'changed', 800), (None, 'rest', 0)]
    """
    total = Sum.of(cells)
    search = _Search(by, weights, total, spans)
    causes = search.causes(total, ())
    if not causes and total.cells:
        causes = [Cause("service", None, total, "rest", elements=len(by_value(total.cells, "service")))]
    return Explanation(by, total, weights, causes)


def explain_first(cells: Sequence[Cell], weights: Weights, spans: Spans | None = None) -> Explanation:
    """The explanation of the first measure that something explains, or else of the first."""
    found = [explain(cells, MEASURES[0], weights, spans)]
    for by in MEASURES[1:]:
        if not found[-1].nothing:
            break
        found.append(explain(cells, by, weights, spans))
    return found[0] if found[-1].nothing else found[-1]


def split(counts: tuple[float, float], amounts: tuple[float, float]) -> tuple[float, float]:
    """How much of a change comes of more of them, and how much of larger ones; both add up to the change.

    Symmetric: of more at the mean size, of larger ones at the mean number.

    >>> split((6, 21), (6.0, 98.7))
    (42.75, 49.95)
    """
    sizes = [amount / count if count else 0.0 for count, amount in zip(counts, amounts, strict=True)]
    if not counts[0] or not counts[1]:
        return amounts[1] - amounts[0], 0.0
    more = (counts[1] - counts[0]) * (sizes[0] + sizes[1]) / 2
    return more, amounts[1] - amounts[0] - more
