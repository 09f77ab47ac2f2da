"""Requests and the responses that they got, paired by values that both have. The engines of `Joined` share it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sharkstat.statistics.expressions import Expression
from sharkstat.statistics.field_values import text_of_value
from sharkstat.statistics.keys import Counted, Key
from sharkstat.tables.column import Column, Type, Value
from sharkstat.tables.sketch import Sketch

REQUEST, RESPONSE = 1, 2

Pair = tuple[str | Expression, str | Expression]


@dataclass(frozen=True)
class Joint:
    """What is joined: filters for both sides, the values that pair them, and the columns of each side."""

    request: str
    response: str
    pairs: Sequence[Pair]
    keys: Sequence[Key]
    answer: Sequence[Key]
    timeout: int  # in nanoseconds
    each: bool

    def counted(self, side: int) -> list[Counted]:
        """What an engine reads of a packet of that side: the values that pair it, then those of its columns."""
        keys = self.keys if side == REQUEST else self.answer
        ends = (pair[side - REQUEST] for pair in self.pairs)
        return [*map(Counted.of, ends), *(Counted.of(key.field, key.occurrence, key.names) for key in keys)]

    def columns(self) -> tuple[Column, ...]:
        keys = [key.column for key in (*self.keys, *self.answer)]
        if self.each:
            return (
                Column("packet", "integer", role="key", description="number of the first packet"),
                Column("time", "time", role="key", description="time of the first packet"),
                *keys,
                Column("state", "text", merge="first", description="answered, late, unanswered or unasked"),
                Column("response_time", "duration", "seconds", merge="first"),
                Column("requests", "integer", "packets", description="packets of the request: more than 1 if repeated"),
                Column("responses", "integer", "packets", description="packets of the response, late ones included"),
            )
        total, count = "response_time_sum", "answered"
        return (
            *keys,
            Column("requests", "integer", "requests", description="requests, without repetitions"),
            Column(count, "integer", "requests", description="requests with a response in time"),
            Column("unanswered", "integer", "requests", description="requests without any response"),
            Column("late", "integer", "requests", description="requests whose response came after the timeout"),
            Column("repeated", "integer", "packets", description="requests that were sent again before the response"),
            Column("duplicates", "integer", "packets", description="responses behind the first"),
            Column("unasked", "integer", "packets", description="responses without a request"),
            Column(total, "duration", "seconds", shown=False, description="sum of the response times"),
            Column("mean_time", "duration", "seconds", role="derived", ratio=(total, count)),
            Column("min_time", "duration", "seconds", merge="min", shown=False),
            *(_percentile(percent) for percent in (50, 95, 99)),
            Column("max_time", "duration", "seconds", merge="max"),
            Column("times", "set", merge="sketch", shown=False, description="sketch of the response times"),
        )


def _percentile(percent: int) -> Column:
    name, of = f"p{percent}_time", (float(percent), "times", "min_time", "max_time")
    return Column(name, "duration", "seconds", role="derived", title=f"p{percent} time", percentile=of)


@dataclass
class Exchange:
    """A request, or a response without one, and what came of it."""

    packet: int
    time: int
    keys: tuple[Value, ...]
    answer: tuple[Value, ...]
    requests: int = 0
    responses: int = 0
    late: int = 0  # of the responses
    response_time: int | None = None

    @property
    def state(self) -> str:
        if not self.requests:
            return "unasked"
        if not self.responses:
            return "unanswered"
        return "late" if self.late == self.responses else "answered"


class Pairing:
    """Pairs packets, one after the other.

    A request that is there again before its response and the timeout is a repetition of the same one; later it is a new
    one. A response belongs to the last request with its values. It is late after the timeout, measured from the first
    packet of the request.
    """

    def __init__(self, joint: Joint, types: tuple[Sequence[Type], Sequence[Type]]) -> None:
        self._joint = joint
        self._changes = tuple(
            self._changes_of(side, kinds) for side, kinds in zip((REQUEST, RESPONSE), types, strict=True)
        )
        self._last: dict[tuple[str, ...], Exchange] = {}
        self.exchanges: list[Exchange] = []

    def _changes_of(self, side: int, types: Sequence[Type]) -> list[Callable[[Value], Value]]:
        keys = self._joint.keys if side == REQUEST else self._joint.answer
        given = [*(pair[side - REQUEST] for pair in self._joint.pairs), *(key.field for key in keys)]
        return [
            one.change(kind) if isinstance(one, Expression) else lambda value: value
            for one, kind in zip(given, types, strict=True)
        ]

    def add(self, packet: int, time: int, sides: int, request: Sequence[Value], response: Sequence[Value]) -> None:
        """The next packet: on which sides it is, and its values as `Joint.counted` has them for each."""
        if sides & RESPONSE:
            name, keys = self._read(RESPONSE, response)
            known = self._last.get(name) if name else None
            # One that may be either is a response where a request waits for it.
            if known and (not sides & REQUEST or not known.responses):
                self._respond(known, time, keys)
                return
            if not sides & REQUEST:
                nobody = (None,) * len(self._joint.keys)
                self._begin(name, Exchange(packet, time, nobody, keys, responses=1))
                return
        name, keys = self._read(REQUEST, request)
        known = self._last.get(name) if name else None
        if known and known.requests and not known.responses and time - known.time <= self._joint.timeout:
            known.requests += 1
            return
        self._begin(name, Exchange(packet, time, keys, (None,) * len(self._joint.answer), requests=1))

    def _read(self, side: int, values: Sequence[Value]) -> tuple[tuple[str, ...] | None, tuple[Value, ...]]:
        """The values that pair the packet, None where one is missing, and those of its columns."""
        made = [change(value) for change, value in zip(self._changes[side - REQUEST], values, strict=True)]
        count = len(self._joint.pairs)
        pair = None if None in made[:count] else tuple(map(text_of_value, made[:count]))
        return pair, tuple(made[count:])

    def _begin(self, name: tuple[str, ...] | None, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        if name is not None:
            self._last[name] = exchange

    def _respond(self, known: Exchange, time: int, answer: tuple[Value, ...]) -> None:
        known.responses += 1
        late = bool(known.requests) and time - known.time > self._joint.timeout
        known.late += late
        if known.requests and known.responses == 1:
            known.answer, known.response_time = answer, time - known.time

    def rows(self) -> Iterator[list[Value]]:
        """The table's rows, without derived columns."""
        if self._joint.each:
            for one in self.exchanges:
                counts = [one.state, one.response_time, one.requests, one.responses]
                yield [one.packet, one.time, *one.keys, *one.answer, *counts]
            return
        groups: dict[tuple[Value, ...], _Sums] = {}
        for one in self.exchanges:
            name = (*one.keys, *one.answer)
            if name not in groups:
                groups[name] = _Sums()
            groups[name].add(one)
        if not (groups or self._joint.keys or self._joint.answer):
            groups[()] = _Sums()
        for name, sums in groups.items():
            yield [*name, *sums.values()]


@dataclass
class _Sums:
    states: dict[str, int] = field(default_factory=dict)
    repeated: int = 0
    duplicates: int = 0
    unasked: int = 0
    times: list[int] = field(default_factory=list)  # their sum, the least and the largest
    sketch: Sketch = field(default_factory=Sketch)

    def add(self, one: Exchange) -> None:
        if not one.requests:
            self.unasked += one.responses
            return
        state = one.state
        self.states[state] = self.states.get(state, 0) + 1
        self.repeated += one.requests - 1
        self.duplicates += max(one.responses - 1, 0)
        if state == "answered" and one.response_time is not None:
            total, least, most = self.times or (0, one.response_time, one.response_time)
            self.sketch.add([one.response_time])
            self.times = [total + one.response_time, min(least, one.response_time), max(most, one.response_time)]

    def values(self) -> list[Value]:
        counts = [self.states.get(state, 0) for state in ("answered", "unanswered", "late")]
        times = [*self.times, self.sketch.texts()] if self.times else [None] * 4
        return [sum(counts), *counts, self.repeated, self.duplicates, self.unasked, *times]


class JoinedRows:
    """The fold of a tap's rows, which are packets with their values."""

    def __init__(self, joint: Joint) -> None:
        self._joint = joint
        self._counts = [len(joint.counted(side)) for side in (REQUEST, RESPONSE)]
        values = (Column(f"value {number}", "text", merge="none") for number in range(sum(self._counts)))
        kinds = (("packet", "integer"), ("time", "time"), ("sides", "integer"))
        self.columns: tuple[Column, ...] = (*(Column(n, k, merge="none") for n, k in kinds), *values)  # type: ignore[arg-type]

    def _apart(self, types: Sequence[Type]) -> tuple[Sequence[Type], Sequence[Type]]:
        return types[3 : 3 + self._counts[0]], types[3 + self._counts[0] :]

    def types(self, types: Sequence[Type]) -> list[Type]:
        return joined_types(self._joint, self._apart(types))

    def rows(self, rows: Iterable[Sequence[Value]], types: Sequence[Type]) -> Iterator[list[Value]]:
        pairing = Pairing(self._joint, self._apart(types))
        for packet, time, sides, *values in rows:
            request, response = values[: self._counts[0]], values[self._counts[0] :]
            pairing.add(packet, time or 0, sides, request, response)  # type: ignore[arg-type]
        return pairing.rows()


def joined_types(joint: Joint, types: tuple[Sequence[Type], Sequence[Type]]) -> list[Type]:
    """The types of the table's columns, without derived ones, for those of the values of each side."""
    kinds = [kind for side in types for kind in side[len(joint.pairs) :]]
    keys = [*joint.keys, *joint.answer]
    found: list[Type] = [
        "text" if isinstance(key.field, Expression) else kind for key, kind in zip(keys, kinds, strict=True)
    ]
    columns = [column for column in joint.columns() if column.role != "derived"]
    start = 2 if joint.each else 0
    return [*(c.type for c in columns[:start]), *found, *(c.type for c in columns[start + len(keys) :])]
