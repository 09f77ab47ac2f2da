"""io,stat: frames, bytes and calculations over field values in every interval."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import sharkstat_lua
from sharkstat import (
    Column,
    Engine,
    Headers,
    Interval,
    Listen,
    OfIntervals,
    PacketCounter,
    Packets,
    Parsed,
    RequestError,
    Row,
    Statistic,
    Table,
    Tap,
    TextError,
    TsharkText,
    Type,
    Value,
    both_filters,
    hookimpl,
    sort_rows,
    text_of,
)

if TYPE_CHECKING:
    from sharkstat import Packet

CALCULATIONS = ("FRAMES", "BYTES", "COUNT", "SUM", "MIN", "MAX", "AVG", "LOAD")
_OPEN, _CLOSE = "{([", "})]"
_CALCULATION = re.compile(r"([A-Z]+)\s*\(\s*([\w.\-]*)\s*\)\s*(.*)$", re.DOTALL)

_MOST = re.compile(r"\s*max\s*=\s*(\d+)\s*")
MOST = 100_000
_ROW = re.compile(r"\| *(?P<start>\d+(?:\.\d+)?) +<> +(?:\d+(?:\.\d+)?|Dur) *\|(?P<cells>[ \d.|-]*)\|")


@dataclass(frozen=True)
class Part:
    """One column of the request: a filter, or a calculation over a field's values with a filter."""

    calculation: str
    field: str
    filter: str
    called: str = ""

    @property
    def shown_filter(self) -> str:
        return self.called or self.filter

    @property
    def label(self) -> str:
        """What the columns of this part are called: SUM(ip.len)tcp is sum(ip.len)[tcp]."""
        name = self.calculation.lower()
        if self.calculation not in ("FRAMES", "BYTES", ""):
            name = f"{name}({self.field})"
        return f"{name}[{self.shown_filter}]" if self.filter else name


def split(text: str) -> list[str]:
    """Split at commas outside quotes and brackets, so that `tcp.port in {80,443}` stays whole.

    >>> split('10,tcp.port in {80,443},udp')
    ['10', 'tcp.port in {80,443}', 'udp']
    """
    parts, depth, quote, start, at = [], 0, "", 0, 0
    while at < len(text):
        character = text[at]
        if quote:
            if character == "\\":
                at += 1
            elif character == quote:
                quote = ""
        elif character in "\"'":
            quote = character
        elif character in _OPEN:
            depth += 1
        elif character in _CLOSE:
            depth -= 1
        elif character == "," and depth <= 0:
            parts.append(text[start:at])
            start = at + 1
        at += 1
    return [*parts, text[start:]]


def parse(arguments: str) -> tuple[int, list[Part]]:
    """The interval in microseconds and the parts. RequestError if the arguments are bad."""
    interval_text, *columns = (text for text in split(arguments) if not _MOST.fullmatch(text))
    try:
        interval = Decimal(interval_text.strip() or "nothing")
    except InvalidOperation:
        raise RequestError(
            f"io,stat: invalid interval {interval_text!r}: give seconds, e.g. io,stat,10 or io,stat,0.001,tcp"
        ) from None
    microseconds = int((interval * 10**6).to_integral_value()) if interval.is_finite() else -1
    if microseconds < 0 or (microseconds == 0 and interval != 0) or microseconds > 10**15:
        raise RequestError(
            f"io,stat: invalid interval {interval_text!r}: give at least 0.000001 seconds, or 0 for one interval"
        )
    return microseconds, _completed([_part(text.strip()) for text in columns] or [Part("", "", "")])


def _most(arguments: str) -> int:
    """How many intervals have rows at most."""
    return next((int(found[1]) for text in split(arguments) if (found := _MOST.fullmatch(text))), MOST)


def _completed(parts: list[Part]) -> list[Part]:
    """Beside filters there are all packets, first, and what no filter took, last: so the columns add up."""
    plain = [part.filter for part in parts if not part.calculation]
    filters = [text for text in plain if text]
    if not filters:
        return parts
    rest = f"!({' || '.join(f'({text})' for text in filters)})"
    return [*([] if "" in plain else [Part("", "", "")]), *parts, Part("", "", rest, "other")]


def _part(text: str) -> Part:
    found = _CALCULATION.match(text)
    if not found:
        return Part("", "", text)
    calculation, field, filter_text = found.groups()
    if calculation not in CALCULATIONS:
        raise RequestError(f"io,stat: unknown calculation {calculation} in {text!r}: choose {', '.join(CALCULATIONS)}")
    if calculation in ("FRAMES", "BYTES"):
        return Part(calculation, "", filter_text)
    if not field:
        raise RequestError(f"io,stat: {calculation}() needs a field, e.g. {calculation}(frame.len)tcp")
    return Part(calculation, field, filter_text)


class IoStat(Statistic):
    name = "io,stat"
    title = "I/O statistics"
    usage = "io,stat,INTERVAL[,max=ROWS][,FILTER | CALC(field)FILTER]..."
    description = (
        "Frames and bytes per interval of INTERVAL seconds, for each filter; or a calculation over a field: FRAMES, "
        "BYTES, COUNT, SUM, MIN, MAX, AVG, LOAD. With filters, the first columns have all packets, and the last ones, "
        "`other`, those that match no filter, so that the columns add up. INTERVAL 0 is one interval for all. Time "
        "starts at the "
        "capture's first packet. Differences to tshark's own: packets out of time order count in their own interval; "
        "intervals without packets have no row; SUM and the like need no field in the filter; AVG is not rounded down. "
        "LOAD is the mean number of concurrent calls: each response time is spread over the intervals that it spans "
        "(tshark puts the remainder into the packet's own interval); intervals that it reaches over have rows. Of "
        f"more than max= intervals (by default {MOST:,}), the first have rows; one more row, without a start, adds "
        "up the others."
    )
    family = "io_stat"
    example = "10"

    def __init__(self) -> None:
        tap = Tap(Path(sharkstat_lua.__file__).with_name("io_stat.lua"), "transport", split="hosts")
        self.engines = (
            tap,
            Packets(lambda arguments: IoCounter(*parse(arguments), _most(arguments))),
            Headers(tap, _of_headers),
            TsharkText(self.parse, self.native, layer="transport"),
        )

    def bound(self, arguments: str) -> int | None:
        return _most(arguments)

    def filters(self, arguments: str) -> Sequence[str]:
        return [text for part in parse(arguments)[1] for text in (part.filter, part.field) if text]

    def follows_time(self, arguments: str, engine: Engine) -> bool:
        """tshark puts a packet that comes late into the interval that it has open, or leaves it out."""
        parts = parse(arguments)[1]
        return not engine.own or any(part.calculation == "LOAD" or "time" in part.field for part in parts)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        interval, parts = parse(arguments)
        columns = [Column("start", "duration", "seconds", role="key", title="Start", local="always")]
        taken = {"start", "stop"}

        def unique(name: str) -> str:
            number = 2
            chosen = name
            while chosen in taken:
                chosen, number = f"{name}#{number}", number + 1
            taken.add(chosen)
            return chosen

        derived = [Column("stop", "duration", "seconds", role="derived", title="Stop")] if interval else []
        for part in parts:
            suffix = f"[{part.shown_filter}]" if part.filter else ""
            heading = f"\n{part.shown_filter}" if part.filter else ""
            if part.calculation == "":
                columns.append(Column(unique(f"frames{suffix}"), "integer", "packets", title=f"Frames{heading}"))
                columns.append(Column(unique(f"bytes{suffix}"), "integer", "bytes", title=f"Bytes{heading}"))
                continue
            unit = {"FRAMES": "packets", "BYTES": "bytes"}.get(part.calculation, "")
            label, title = part.label, f"{part.calculation}({part.field}){heading}"
            if part.calculation == "AVG":
                total, count = unique(f"sum({part.field}){suffix}"), unique(f"count({part.field}){suffix}")
                columns.append(Column(total, "number", title=total, shown=False))
                columns.append(Column(count, "integer", title=count, shown=False))
                derived.append(Column(unique(label), "number", role="derived", title=title))
            elif part.calculation == "LOAD":
                busy = unique(f"busy({part.field}){suffix}")
                columns.append(Column(busy, "duration", "seconds", title=busy, shown=False))
                derived.append(Column(unique(label), "number", role="derived", title=title))
            else:
                merge = {"MIN": "min", "MAX": "max"}.get(part.calculation, "sum")
                integer = part.calculation in ("FRAMES", "BYTES", "COUNT")
                columns.append(
                    Column(unique(label), "integer" if integer else "number", unit, merge=merge, title=title)  # type: ignore[arg-type]
                )
        return (
            *columns[:1],
            *derived[: 1 if interval else 0],
            *_interleaved(columns[1:], derived[1 if interval else 0 :]),
        )

    def native(self, arguments: str, display_filter: str) -> str:
        interval, parts = parse(arguments)
        written = []
        for part in parts:
            # tshark gives 0, without a word, where a calculation's filter does not name its field.
            chosen = both_filters(display_filter, both_filters(part.field, part.filter))
            written.append(f"{part.calculation}({part.field}){chosen}" if part.calculation else chosen)
        if any("," in text for text in written):
            raise RequestError(
                "io,stat: tshark splits filters at commas: use a filter without commas, or leave out --engine"
            )
        return ",".join(["io,stat", f"{Decimal(interval) / 10**6:f}", *([] if written == [""] else written)])

    def parse(self, text: bytes, arguments: str) -> Parsed:
        """The rows of ui/cli/tap-iostat.c that are not all 0; times of fields are in seconds there."""
        interval, parts = parse(arguments)
        columns = [Column("start", "duration", "seconds", role="key", title="Start", local="always")]
        columns += [Column("stop", "duration", "seconds", role="derived", title="Stop")] if interval else []
        kinds: list[Callable[[str], int | float]] = []
        for part in parts:
            for calculation in (part.calculation,) if part.calculation else ("FRAMES", "BYTES"):
                count = calculation in ("FRAMES", "BYTES", "COUNT")
                label = replace(part, calculation=calculation).label
                heading = f"{calculation}({part.field})" if part.field else calculation.title()
                number = sum(c.name.partition("#")[0] == label for c in columns)
                rule = {"SUM": "sum", "MIN": "min", "MAX": "max"}.get(calculation, "sum" if count else "none")
                columns.append(
                    Column(
                        f"{label}#{number + 1}" if number else label,
                        "integer" if count else "number",
                        {"FRAMES": "packets", "BYTES": "bytes"}.get(calculation, ""),
                        merge=rule,  # type: ignore[arg-type]
                        title=heading + (f"\n{part.shown_filter}" if part.filter else ""),
                        approximate=not count,
                    )
                )
                kinds.append(int if count else _figure)
        lines = text_of(text).strip("\n").split("\n")
        if lines == [""]:
            return Parsed([], tuple(columns))
        first = (
            next((n for n, line in enumerate(lines) if line.startswith("| Interval ") and line.count("|") > 2), -3) + 2
        )
        if first < 0 or set(lines[0]) != {"="} or lines[-1] != lines[0]:
            raise TextError("no frame of io,stat")
        rows: list[list[Value]] = []
        for number, line in enumerate(lines[first:-1]):
            found = _ROW.fullmatch(line)
            cells = found["cells"].split("|") if found else []
            if len(cells) == len(kinds) + 1 and not cells[-1].strip():
                cells.pop()  # where the list of columns above is wider than the columns
            if not found or len(cells) != len(kinds):
                raise TextError(f"no row of io,stat: {line!r}")
            start, printed = number * interval, Decimal(found["start"])
            unit = Decimal(10) ** (6 + int(printed.as_tuple().exponent))
            if abs(printed * 10**6 - start) > unit:
                raise TextError(f"interval {number} does not start at {start} microseconds: {line!r}")
            values = [kind(cell.strip()) for kind, cell in zip(kinds, cells, strict=True)]
            if any(values):
                rows.append([start * 1000, *values])
        return Parsed(rows, tuple(columns))

    def derive(self, table: Table) -> None:
        interval = parse(_arguments(table))[0] * 1000
        for row in table.rows:
            start = row["start"]
            if interval and isinstance(start, int):
                row["stop"] = start + interval
        previous: list[Column] = []
        for column in table.columns:
            if column.role == "measure":
                previous = [*previous, column][-2:]
            elif column.name.startswith("avg("):
                total, count = previous
                for row in table.rows:
                    mean = _divided(row[total.name], row[count.name])
                    row[column.name] = round(mean) if mean is not None and total.type == "duration" else mean
                if total.type == "duration":
                    table.columns = tuple(
                        replace(c, type="duration", unit="seconds") if c is column else c for c in table.columns
                    )
            elif column.name.startswith("load("):
                for row in table.rows:
                    row[column.name] = None if row["start"] is None else _divided(row[previous[-1].name], interval)
        # A count of nothing is 0; a minimum of nothing is nothing.
        for column in table.columns:
            if column.role == "measure" and column.merge == "sum" and column.type == "integer":
                for row in table.rows:
                    if row[column.name] is None:
                        row[column.name] = 0

    def order(self, table: Table) -> None:
        sort_rows(table, lambda row: (row["start"] is None, row["start"]))

    def align_shards(self, tables: Sequence[Table]) -> Sequence[Sequence[Row]]:
        """Their intervals begin together."""
        return [table.rows for table in tables]

    def align(self, tables: Sequence[Table]) -> Sequence[Sequence[Row]]:
        microseconds, parts = parse(_arguments(tables[0]))
        interval = microseconds * 1000
        if len(tables) > 1 and any(part.calculation == "LOAD" for part in parts):
            raise self.refuse_merge(
                "LOAD reaches back before the start of a capture: read the captures in one run instead"
            )
        starts = [t.reading.start for t in tables if t.reading.start is not None]
        if not starts or not interval:
            return [table.rows for table in tables]
        origin = min(starts)
        aligned = []
        for table in tables:
            offset = (table.reading.start or origin) - origin
            if offset % interval and table.rows:
                raise self.refuse_merge("the captures' intervals are not aligned: read the captures in one run instead")
            aligned.append([{**row, "start": int(row["start"]) + offset} for row in table.rows])  # type: ignore[arg-type]
        return aligned


# What a filter takes of plain TCP and UDP: IP versions and protocols.
_TAKES = {
    "": [(4, "tcp"), (4, "udp"), (6, "tcp"), (6, "udp")],
    "ip": [(4, "tcp"), (4, "udp")],
    "ipv6": [(6, "tcp"), (6, "udp")],
    "tcp": [(4, "tcp"), (6, "tcp")],
    "udp": [(4, "udp"), (6, "udp")],
}


def _of_headers(arguments: str) -> OfIntervals | None:
    """What to count from headers; None where they do not tell it."""
    interval, parts = parse(arguments)
    named = [part for part in parts if not part.called]
    if any(part.field or part.filter not in _TAKES for part in named):
        return None
    other = [kind for kind in _TAKES[""] if not any(kind in _TAKES[part.filter] for part in named if part.filter)]
    takes = [other if part.called else _TAKES[part.filter] for part in parts]

    def rows(intervals: Sequence[Interval]) -> list[list[Value]]:
        found: dict[int, list[list[int]]] = {}
        for one in intervals:
            counts = found.setdefault(one.number, [[0, 0] for _ in parts])
            for count, kinds in zip(counts, takes, strict=True):
                if (one.version, one.protocol) in kinds:
                    count[0] += one.packets
                    count[1] += one.bytes
        wanted = [{"FRAMES": slice(1), "BYTES": slice(1, 2)}.get(part.calculation, slice(2)) for part in parts]
        return [
            [number * interval * 1000, *(v for count, cut in zip(counts, wanted, strict=True) for v in count[cut])]
            for number, counts in found.items()
        ]

    return OfIntervals(interval, rows)


def _interleaved(measures: list[Column], derived: list[Column]) -> list[Column]:
    """Each derived column behind the measures that it is computed from."""
    waiting = list(derived)
    result: list[Column] = []
    for column in measures:
        result.append(column)
        if not column.shown and (column.name.startswith(("count(", "busy("))) and waiting:
            result.append(waiting.pop(0))
    return result


def _arguments(table: Table) -> str:
    return table.request[len("io,stat,") :]


def _divided(total: Value, count: Value) -> float | None:
    if not isinstance(total, (int, float)) or not isinstance(count, (int, float)) or not count:
        return None
    return total / count


class IoCounter(PacketCounter):
    """The same counting as lua/sharkstat_lua/io_stat.lua, on packets."""

    def __init__(self, interval: int, parts: list[Part], most: int = MOST) -> None:
        self._interval = interval
        self._most = most
        self._filled: dict[
            int, Counter[int]
        ] = {}  # by slot of a LOAD: where calls begin to fill intervals, and cease to
        self._parts = parts
        self.listens = [Listen(filter=part.filter) for part in parts]
        if all(part.filter for part in parts):
            self.listens.append(Listen())
        self.fields = list(dict.fromkeys(part.field for part in parts if part.field))
        self._widths = [2 if part.calculation in ("", "AVG") else 1 for part in parts]
        self._offsets = [sum(self._widths[:index]) for index in range(len(parts))]
        self._buckets: dict[int, list[Value]] = {}

    def _slots(self, bucket: int) -> list[Value]:
        slots = self._buckets.get(bucket)
        if slots is None:
            slots = self._buckets[bucket] = [None] * sum(self._widths)
        return slots

    def packet(self, packet: Packet) -> None:
        bucket = 0
        if self._interval:
            # To the microsecond, halves up, as tshark rounds.
            bucket = (packet.relative_ns + 500) // 1000 // self._interval
        slots = self._slots(bucket)
        for part, at, hits in zip(self._parts, self._offsets, packet.hits, strict=False):
            if hits:
                self._count(part, at, slots, bucket, packet)

    def _count(self, part: Part, at: int, slots: list[Value], bucket: int, packet: Packet) -> None:
        if part.calculation in ("", "FRAMES"):
            _add(slots, at, 1)
        if part.calculation in ("", "BYTES"):
            _add(slots, at + (part.calculation == ""), packet.length)
        if not part.field:
            return
        values = packet.values(part.field)
        if part.calculation == "COUNT":
            _add(slots, at, len(values))
            return
        if part.calculation == "LOAD":
            for text in values:
                self._load(at, bucket, packet.relative_ns, _nanoseconds(text))
            return
        duration = self.types.get(part.field) == "RELATIVE_TIME"
        for text in values:
            value = _number(text, duration)
            known = slots[at]
            if part.calculation in ("SUM", "AVG"):
                _add(slots, at, value)
            elif not isinstance(known, (int, float)):
                slots[at] = value
            else:
                slots[at] = min(known, value) if part.calculation == "MIN" else max(known, value)
            if part.calculation == "AVG":
                _add(slots, at + 1, 1)

    def _load(self, at: int, bucket: int, relative_ns: int, response_ns: int) -> None:
        left = response_ns // 1000
        if left <= 0:
            return
        part = min((relative_ns + 500) // 1000 % self._interval, left) if self._interval else left
        _add(self._slots(bucket), at, part * 1000)
        left -= part
        if left <= 0 or bucket <= 0:
            return
        filled, rest = divmod(min(left, bucket * self._interval), self._interval)
        if filled:
            edges = self._filled.setdefault(at, Counter())
            edges[bucket - filled] += 1
            edges[bucket] -= 1
        if rest:
            _add(self._slots(bucket - filled - 1), at, rest * 1000)

    def column_types(self) -> list[Type]:
        types: list[Type] = ["duration"]
        for part in self._parts:
            duration = self.types.get(part.field) == "RELATIVE_TIME" and part.calculation != "COUNT"
            kind: Type = "duration" if duration else "number"
            types += [kind, "integer"] if part.calculation == "AVG" else [kind] * (2 if not part.calculation else 1)
        return types

    def rows(self) -> list[list[Value]]:
        return [
            [bucket * self._interval * 1000, *slots] for (bucket, _, slots) in islice(self._intervals(), self._most)
        ]

    def others(self) -> tuple[Sequence[Value], int] | None:
        rest: list[Value] = [None] * sum(self._widths)
        total = 0
        for _, count, slots in islice(self._intervals(), self._most, None):
            total += count
            for part, at, width in zip(self._parts, self._offsets, self._widths, strict=False):
                for slot in range(at, at + width):
                    known, value = rest[slot], slots[slot]
                    if known is None or value is None or part.calculation not in ("MIN", "MAX"):
                        if isinstance(value, (int, float)):
                            _add(rest, slot, value)
                    else:
                        rest[slot] = (min if part.calculation == "MIN" else max)(known, value)
        return ([None, *rest], total) if total else None

    def _intervals(self) -> Iterator[tuple[int, int, list[Value]]]:
        """The number of each interval that has a row, for how many it stands, and what their slots add up to.

        It stands for more than itself from the row `most` on, where none of them has a packet.
        """
        order = sorted(self._buckets)
        edges = sorted({edge for found in self._filled.values() for edge in found})
        calls: Counter[int] = Counter()
        rows = place = at = bucket = 0
        while place < len(order) or at < len(edges):
            if not any(calls.values()):
                bucket = min([*order[place : place + 1], *edges[at : at + 1]])
            if at < len(edges) and edges[at] == bucket:
                for slot, found in self._filled.items():
                    calls[slot] += found[bucket]
                at += 1
            own = place < len(order) and order[place] == bucket
            if not own and not any(calls.values()):
                continue
            slots: list[Value] = list(self._buckets[bucket]) if own else [None] * sum(self._widths)
            place += own
            count = 1
            if not own and rows >= self._most:
                count = min([*order[place : place + 1], *edges[at : at + 1]]) - bucket
            for slot, number in calls.items():
                if number:
                    _add(slots, slot, number * count * self._interval * 1000)
            yield bucket, count, slots
            rows += 1
            bucket += count


def _add(slots: list[Value], at: int, value: int | float) -> None:
    known = slots[at]
    slots[at] = value if not isinstance(known, (int, float)) else known + value


def _nanoseconds(text: str) -> int:
    return int((Decimal(text) * 10**9).to_integral_value())


def _number(text: str, duration: bool) -> int | float:
    """A field's value: a duration in nanoseconds, a whole number, or a float."""
    if duration:
        return _nanoseconds(text)
    try:
        return int(text)
    except ValueError:
        return float(text)


def _figure(text: str) -> int | float:
    return float(text) if "." in text else int(text)


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(IoStat())
