"""`sharkstat.diff`: compares two captures, two saved results, or the two parts of one capture."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeAlias

from sharkstat.errors import RequestError, SourceError
from sharkstat.running.loading import read
from sharkstat.running.one_pass import Progress
from sharkstat.running.runner import run
from sharkstat.running.source import Options, Source
from sharkstat.running.trend import covered, read_period
from sharkstat.statistics.registry import Registry
from sharkstat.tables.archive import Period, archived
from sharkstat.tables.causes import explain, explain_first
from sharkstat.tables.cells import MEASURES, By, cells_of
from sharkstat.tables.column import Reading, Row
from sharkstat.tables.diff import Diff, Side, causes_table, caution_of, change_table, findings_of, make_scale
from sharkstat.tables.joining import joined
from sharkstat.tables.moves import Spans
from sharkstat.tables.saved import looks_saved
from sharkstat.tables.table import Table

if TYPE_CHECKING:
    from typing_extensions import Unpack

Given: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Source | Sequence[Table]"

# The statistic whose rows are the cells of an explanation.
CELLS = "traffic"
_SECONDS = {"": 1, "s": 1, "ms": 1e-3, "m": 60, "min": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|ms|m|min|h|d|)")
_CLOCK = re.compile(r"(?:(\d{4})-(\d\d)-(\d\d)[T ])?(\d\d?):(\d\d)(?::(\d\d(?:\.\d+)?))?Z?")


def diff(
    before: Given,
    after: Given | None = None,
    requests: str | Sequence[str] = (),
    *,
    at: str | float = "",
    per: str = "",
    by: str = "",
    engine: str = "",
    registry: Registry | None = None,
    progress: Progress | None = None,
    **options: Unpack[Options],
) -> Diff:
    """Compare two captures and explain why traffic changed.

    `before` and `after` are each a capture file, several files (read as one capture), a `Source`, a result saved with
    `--format json` or `jsonl`, or tables. Without `after`, the capture is split in two at the time `at`: seconds after
    its first packet (300, "300s", "5m"), or a time of day in UTC ("12:30", "2024-01-18 02:30").

    Without `requests`, the result explains the change: `findings` are its causes. With `requests`, each table is
    joined with that of the other side. Totals are compared if both captures are about equally long, rates otherwise;
    `per="second"` or `per="capture"` forces one of them. `by` is the measure to explain: "bytes", "packets",
    "connections" or "requests"; by default the first of these that changed more than by chance. `options` are those
    of `Source`.

    Raises a SharkstatError as `run` does, and RequestError if the two sides cannot be compared.

    >>> import sharkstat
    >>> found = sharkstat.diff("tests/data/story-before.pcapng", "tests/data/story-after.pcapng")
    >>> found.findings[0].path[0]
    'http store.example.net:80 (198.51.100.80)'
    """
    wanted = [requests] if isinstance(requests, str) else list(requests)
    if per not in ("", "second", "capture"):
        raise RequestError(f"--per {per!r}: choose second or capture")
    if by and not wanted and by not in MEASURES:
        raise RequestError(f"--by {by!r}: choose {', '.join(MEASURES[:-1])} or {MEASURES[-1]}")
    counting = _Counting(wanted or [CELLS], engine, registry or Registry.default(), progress, options)
    if after is None:
        sides = counting.halves(before, at)
    elif at != "":
        raise RequestError("--at splits one capture in two: give only one capture, or leave out --at")
    else:
        sides = counting.side(before), counting.side(after)
    scale, remarks = make_scale(sides[0].side.span, sides[1].side.span, per)
    result = Diff(sides[0].side, sides[1].side, scale, [], remarks=remarks)
    if wanted:
        pairs = zip(sides[0].tables, sides[1].tables, strict=True)
        result.tables = [joined(one, other, scale, by) for one, other in pairs]
        return result
    rows = [part.tables[0] for part in sides]
    for table in rows:
        if table.omitted:
            raise RequestError(f"{table.request}: the saved result lacks rows: save it without --top")
    cells = cells_of(rows[0].rows, rows[1].rows)
    measure: By | None = next((name for name in MEASURES if name == by), None)
    spans = _spans(result.before, result.after)
    found = explain(cells, measure, scale.weights, spans) if measure else explain_first(cells, scale.weights, spans)
    result.explanation, result.findings = found, findings_of(found, scale)
    result.caution = caution_of(rows[0].reading, rows[1].reading)
    reading = replace(rows[1].reading, sources=(*rows[0].reading.sources, *rows[1].reading.sources))
    warnings = [*rows[0].warnings, *(w for w in rows[1].warnings if w not in rows[0].warnings)]
    result.tables = [change_table(found, scale, reading), causes_table(found, scale, reading)]
    if result.caution:
        warnings.insert(0, result.caution)
    for table in result.tables:
        table.warnings, table.tshark, table.engine = warnings, rows[1].tshark, rows[1].engine
        table.complete = result.before.complete and result.after.complete
    return result


@dataclass
class _Part:
    side: Side
    tables: list[Table]


@dataclass
class _Counting:
    requests: list[str]
    engine: str
    registry: Registry
    progress: Progress | None
    options: Options

    def side(self, given: Given) -> _Part:
        """One side, counted from captures or read from a saved result."""
        if not isinstance(given, (str, os.PathLike, Source)) and any(isinstance(one, Table) for one in given):
            return self.of_tables([one for one in given if isinstance(one, Table)], "the tables")
        source = self.source(given)
        now = time.time_ns()
        kept = [archived(name, now) for name in source.files]
        if any(kept):
            if not all(kept):
                raise RequestError("one side mixes folders of results with others: give only one kind")
            return self.of_periods(source.files, [period for periods in kept for period in periods or ()])
        saved = [name for name in source.files if looks_saved(name)]
        if saved and len(saved) < len(source.files):
            raise RequestError("one side mixes captures and saved results: give only one kind")
        if saved:
            return self.of_saved(saved)
        tables = self.run(source)
        return _Part(self.extent(source, tables), tables)

    def source(self, given: Any) -> Source:
        return given if isinstance(given, Source) else Source.of(given, self.options)

    def run(self, source: Source, requests: Sequence[str] = ()) -> list[Table]:
        wanted = list(requests or self.requests)
        return run(source, wanted, engine=self.engine, registry=self.registry, progress=self.progress)

    def extent(self, source: Source, tables: Sequence[Table]) -> Side:
        """The start and length of a side; for several files the sum of their lengths, without the gaps between them."""
        reading = tables[0].reading
        spans = [(reading.first, reading.last)]
        if len(source.files) > 1 or source.display_filter:
            # Rates refer to the time captured, so a filter must not change the span.
            plain = replace(source, display_filter="")
            each = [replace(plain, files=(name,)) for name in source.files] if source.files else []
            readings = [run(one, ["io,stat,0"], registry=self.registry)[0].reading for one in each]
            spans = _united([(r.first, r.last) for r in readings])
        first = min((start for start, _ in spans if start is not None), default=None)
        complete = all(table.complete for table in tables)
        return Side(reading.sources, first, _length(spans), complete)

    def of_saved(self, names: Sequence[str]) -> _Part:
        found = [read(name, registry=self.registry) for name in names]
        tables = []
        for request in self.requests:
            chosen = [table for tables_ in found for table in tables_ if table.request == request]
            if len(chosen) < len(names):
                raise RequestError(
                    f"{names[0]} has no {request}: save it with `sharkstat run CAPTURE -z {request} --format json`"
                )
            tables.append(Table.merge(chosen))
        return self.of_tables(tables, names[0])

    def of_periods(self, names: Sequence[str], periods: Sequence[Period]) -> _Part:
        """What a folder has of a span of time, as one capture."""
        found = [(period, read_period(period, self.registry)) for period in periods]
        tables = []
        for request in self.requests:
            chosen = []
            for period, results in found:
                table = next((table for table in results if table.request == request), None)
                if table is None:
                    raise RequestError(
                        f"{period.paths[0]} has no {request}: keep it with `sharkstat run ... --every ... -z {request}`"
                    )
                chosen.append(table)
            tables.append(Table.merge(chosen))
        first = tables[0].reading.first
        complete = all(table.complete for table in tables)
        span = sum(covered(results[0].reading) for _, results in found)
        return _Part(Side(tuple(names), first, span, complete), tables)

    def of_tables(self, tables: Sequence[Table], name: str) -> _Part:
        by_request = {table.request: table for table in tables}
        missing = [request for request in self.requests if request not in by_request]
        if missing:
            raise RequestError(f"{name}: {missing[0]} is missing; it contains {', '.join(by_request) or 'no tables'}")
        chosen = [by_request[request] for request in self.requests]
        reading = chosen[0].reading
        span = _length([(reading.first, reading.last)])
        return _Part(Side(reading.sources, reading.first, span, all(t.complete for t in chosen)), chosen)

    # One capture split in two ---------------------------------------------------------------------------

    def halves(self, given: Given, at: str | float) -> tuple[_Part, _Part]:
        if at == "":
            raise RequestError("nothing to compare with: give a second capture, or --at TIME to split this one")
        source = self.source(given)
        if any(looks_saved(name) for name in source.files):
            raise RequestError("--at cannot split a saved result: give the capture")
        whole = self.run(replace(source, display_filter=""), ["io,stat,0"])[0].reading
        if whole.first is None or whole.last is None or whole.start is None:
            raise SourceError(f"{', '.join(whole.sources)}: no packets to compare")
        cut = _cut(at, whole)
        if not whole.first < whole.start + cut <= whole.last:
            length = f"{(whole.last - whole.start) / 10**9:g} s"
            raise RequestError(f"--at {at}: outside the capture, which is {length} long")
        moment = whole.start + cut
        sides = (
            Side(whole.sources, whole.first, moment - whole.first),
            Side(whole.sources, moment, whole.last - moment),
        )
        halves = self.cut_cells(source, cut) if self.requests == [CELLS] else self.cut_tables(source, cut)
        parts = [
            _Part(replace(side, complete=all(t.complete for t in tables)), tables)
            for side, tables in zip(sides, halves, strict=True)
        ]
        return parts[0], parts[1]

    def cut_cells(self, source: Source, cut: int) -> tuple[list[Table], list[Table]]:
        """Both parts in one pass, so that what a connection said before the split is known after it."""
        (table,) = self.run(source, [f"{CELLS},at={cut}ns"])
        rows: tuple[list[Row], list[Row]] = [], []
        for row in table.rows:
            rows[row["half"] == 2].append(row)
        return [table.with_rows(rows[0])], [table.with_rows(rows[1])]

    def cut_tables(self, source: Source, cut: int) -> tuple[list[Table], list[Table]]:
        found = []
        for sign in ("<", ">="):
            half = f"frame.time_relative {sign} {cut / 10**9:.9f}"
            wanted = f"({source.display_filter}) && ({half})" if source.display_filter else half
            found.append(self.run(replace(source, display_filter=wanted)))
        return found[0], found[1]


def _spans(before: Side, after: Side) -> Spans | None:
    if before.start is None or after.start is None:
        return None
    return Spans((before.start, after.start), (before.span, after.span))


def _length(spans: Sequence[tuple[int | None, int | None]]) -> int:
    return sum(last - first for first, last in spans if first is not None and last is not None)


def _united(spans: Sequence[tuple[int | None, int | None]]) -> list[tuple[int | None, int | None]]:
    """The spans, with overlaps removed."""
    known = sorted((first, last) for first, last in spans if first is not None and last is not None)
    united: list[tuple[int | None, int | None]] = []
    for first, last in known:
        previous = united[-1][1] if united else None
        if previous is not None and first <= previous:
            united[-1] = (united[-1][0], max(previous, last))
        else:
            united.append((first, last))
    return united


def _cut(at: str | float, whole: Reading) -> int:
    """Nanoseconds from the capture's first packet to the split."""
    start = whole.start or 0
    if isinstance(at, (int, float)):
        return round(at * 10**9)
    duration, clock = _DURATION.fullmatch(at.strip()), _CLOCK.fullmatch(at.strip())
    if duration:
        return round(float(duration[1]) * _SECONDS[duration[2]] * 10**9)
    if not clock:
        raise RequestError(
            f"--at {at}: give a time after the first packet, e.g. 300s or 5m, or a time of day, e.g. 12:30"
        )
    year, month, day, hour, minute, second = clock.groups()
    begun = datetime.fromtimestamp(start // 10**9, timezone.utc)
    try:
        date = (int(year), int(month), int(day)) if year else (begun.year, begun.month, begun.day)
        moment = datetime(*date, int(hour), int(minute), tzinfo=timezone.utc)
    except ValueError as problem:
        raise RequestError(f"--at {at}: {problem}") from None
    since = round((moment.timestamp() + float(second or 0)) * 10**9)
    if not year and since < start:  # a time of day after midnight
        since += 86400 * 10**9
    return since - start
