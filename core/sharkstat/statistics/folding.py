"""Keys that are expressions: engines count by the fields' own values, and here these rows become the group's.

So every engine gives the same table, and no function has to be written in Lua too. It is exact, since a measure's
columns merge: what a row counted is the sum, the least or the union of what its parts counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import ip_address
from typing import Any

from sharkstat.errors import RequestError
from sharkstat.statistics.counted_measures import initial, measured
from sharkstat.statistics.expressions import Expression
from sharkstat.statistics.group import Group
from sharkstat.statistics.keys import Conversation, Directions, Key
from sharkstat.tables.column import Column, Type, Value
from sharkstat.tables.sketches import SKETCHES
from sharkstat.tables.table import combine

# The values of one key in a row, and the directions in which its packets went, as numbers of `Directions.ways`.
Place = tuple[tuple[Value, ...], tuple[int, ...]]
NO_WAY: tuple[int, ...] = ()


class Fold:
    """Makes a group's rows of those that were counted by the fields' own values. RequestError if a library is missing.

    `columns` are the columns of the counted rows, `types` gives the types of the group's columns for those of them,
    and `rows` the group's rows, in both cases without derived columns.
    """

    def __init__(self, group: Group) -> None:
        self._keys = group.made_keys()
        self._measures = group.counted_measures
        self._counted = [counted for key in self._keys for counted in key.counted]
        keys = (Column(f"key {number}", "text", role="key") for number in range(len(self._counted)))
        self._measure_columns = [[c for c in m.columns() if c.role != "derived"] for m in self._measures]
        self.columns: tuple[Column, ...] = (*keys, *(c for columns in self._measure_columns for c in columns))
        self._ways = next((len(key.ways) for key in self._keys if isinstance(key, Directions)), 0)
        for expression in self._expressions():
            expression.check()

    def _expressions(self) -> Iterator[Expression]:
        for key in self._keys:
            if isinstance(key, Key):
                given = [key.field]
            else:
                given = [key.source, key.destination] if isinstance(key, Directions) else []
            yield from (one for one in given if isinstance(one, Expression))

    def types(self, types: Sequence[Type]) -> list[Type]:
        """The types of the group's columns, without derived ones, for those of the counted columns."""
        of_keys, of_measures = list(types[: len(self._counted)]), list(types[len(self._counted) :])
        found: list[Type] = []
        for key in self._keys:
            mine, of_keys = of_keys[: len(key.counted)], of_keys[len(key.counted) :]
            if isinstance(key, Directions):
                plain = isinstance(key.source, str) and isinstance(key.destination, str) and len({*mine}) == 1
                found += [mine[0] if plain else "text"] * len(key.columns)
            else:
                found += ["text"] if isinstance(key, Key) and isinstance(key.field, Expression) else mine
        for columns in self._measure_columns:
            mine, of_measures = of_measures[: len(columns)], of_measures[len(columns) :]
            found += mine * (1 + self._ways)
        return found

    def rows(self, rows: Iterable[Sequence[Value]], types: Sequence[Type]) -> Iterator[list[Value]]:
        """The group's rows, without derived columns, of the counted ones. RequestError if a value has a wrong type."""
        places = []
        at = 0
        for key in self._keys:
            try:
                places.append((at, at + len(key.counted), _placing(key, types[at : at + len(key.counted)])))
            except ValueError as problem:
                raise RequestError(f"group: {problem}") from None
            at += len(key.counted)
        merging = _Merging([column for columns in self._measure_columns for column in columns])
        nothing = [value for measure in self._measures for value in measured(measure, initial(measure))]
        totals: dict[tuple[Value, ...], list[Any]] = {}
        ways: list[dict[tuple[Value, ...], list[Any]]] = [{} for _ in range(self._ways)]
        for row in rows:
            values = row[at:]
            found: list[Place] = [((), NO_WAY)]
            for start, end, place in places:
                more = place(row[start:end])
                found = [((*before, *new), way or new_way) for before, way in found for new, new_way in more]
            for name, way in found:
                merging.add(totals, name, values)
                for number in way:
                    merging.add(ways[number], name, values)
        for name, total in totals.items():
            slots = [merging.finished(total), *(merging.finished(way.get(name) or nothing) for way in ways)]
            out = [*name]
            first = 0
            for columns in self._measure_columns:
                for slot in slots:
                    out += slot[first : first + len(columns)]
                first += len(columns)
            yield out

    def together(self, rows: Iterable[Sequence[Value]]) -> list[Sequence[Value]]:
        """The group's rows of the rows of its parts: those with the same keys become one."""
        keys = sum(len(key.columns) for key in self._keys)
        measures = [c for columns in self._measure_columns for _ in range(1 + self._ways) for c in columns]
        merging = _Merging(measures)
        totals: dict[tuple[Value, ...], list[Any]] = {}
        for row in rows:
            merging.add(totals, tuple(row[:keys]), row[keys:])
        return [[*name, *merging.finished(total)] for name, total in totals.items()]


class _Merging:
    """Adds up rows by their columns' merge rules; sets and sketches become tuples when all is added."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._rules = [column.merge for column in columns]

    def add(self, rows: dict[tuple[Value, ...], list[Any]], name: tuple[Value, ...], values: Sequence[Value]) -> None:
        known = rows.get(name)
        if known is None:
            known = rows[name] = [None] * len(values)
        for at, (rule, value) in enumerate(zip(self._rules, values, strict=True)):
            if rule in SKETCHES and isinstance(value, tuple):
                known[at] = known[at] or SKETCHES[rule]()
                known[at].merge(value)
            elif rule != "union":
                known[at] = combine(rule, known[at], value)
            elif isinstance(value, tuple):
                known[at] = known[at] or set()
                known[at].update(value)

    def finished(self, values: Sequence[Any]) -> list[Value]:
        return [
            tuple(sorted(value)) if isinstance(value, set) else value.texts() if hasattr(value, "texts") else value
            for value in values
        ]


def _placing(key: object, types: Sequence[Type]) -> Callable[[Sequence[Value]], Sequence[Place]]:
    """What gives the rows of one key that a counted row belongs to."""
    if isinstance(key, Directions):
        return _both_ways(key, types)
    if not isinstance(key, Key) or not isinstance(key.field, Expression):
        return lambda values: [((values[0],), NO_WAY)]
    if key.occurrence == "all":
        change = key.field.change("text")

        def each(values: Sequence[Value]) -> list[Place]:
            several = values[0] if isinstance(values[0], tuple) else (values[0],)
            return [((value,), NO_WAY) for value in dict.fromkeys(map(change, several))]

        return each
    change = key.field.change(types[0])
    return lambda values: [((change(values[0]),), NO_WAY)]


def _both_ways(key: Directions, types: Sequence[Type]) -> Callable[[Sequence[Value]], Sequence[Place]]:
    changes = [
        end.change(kind) if isinstance(end, Expression) else lambda value: value
        for end, kind in zip((key.source, key.destination), types, strict=True)
    ]

    def host(values: Sequence[Value]) -> list[Place]:
        source, destination = (change(value) for change, value in zip(changes, values, strict=True))
        if source == destination:
            return [((source,), () if source is None else (0, 1))]
        return [((name,), (way,)) for way, name in ((1, source), (0, destination)) if name is not None]

    def conversation(values: Sequence[Value]) -> list[Place]:
        source, destination = (change(value) for change, value in zip(changes, values, strict=True))
        if source is None and destination is None:
            return [((None, None), ())]
        if _rank(source) <= _rank(destination):
            return [((source, destination), (0,))]
        return [((destination, source), (1,))]

    return conversation if isinstance(key, Conversation) else host


def _rank(end: Value) -> tuple[int, int, Any]:
    """Where an end comes: addresses by their number, numbers by their size, other texts by their letters, none last."""
    if end is None:
        return (4, 0, 0)
    if isinstance(end, (int, float)):
        return (0, 0, end)
    text = str(end)
    try:
        address = ip_address(text.partition("/")[0])
    except ValueError:
        return (3, 0, text)
    return (1, address.version, int(address))
