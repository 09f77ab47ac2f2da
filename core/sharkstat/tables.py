"""From records to tables: the rows that taps and counters gave, typed, with what was read."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace

from sharkstat.column import Column, Reading, Row, Value
from sharkstat.diagnosis import Ending
from sharkstat.errors import StatisticError, TsharkError
from sharkstat.plan import Plan, Request
from sharkstat.records import LIST, Failure, Records, described, unescape
from sharkstat.table import Table


def make_tables(plan: Plan, records: Records, ending: Ending) -> list[Table]:
    """A table for every request, in order.

    Raises what kept the run from having results, or StatisticError with the tables of the statistics that
    did not fail.
    """
    ending.raise_failures()
    complete, warnings = ending.judge()
    reading = _reading(plan, records, ending)
    tables: list[Table] = []
    failed: list[str] = []
    traces: list[str] = []
    for index, request in enumerate(plan.requests):
        failure = records.failures.get(str(index))
        if failure is None:
            try:
                table = Table(
                    name=request.statistic.name,
                    title=request.statistic.title,
                    request=request.text,
                    columns=_columns(records, index, request),
                    rows=_rows(records, index, request, ending),
                    engine=request.engine,
                    tshark=records.version,
                    complete=complete,
                    reading=reading,
                    warnings=list(warnings),
                    names=records.names,
                    statistic=request.statistic,
                )
                request.statistic.derive(table)
                request.statistic.order(table)
                tables.append(table)
                continue
            except Exception as problem:  # a stranger's statistic may do anything: the others go on
                failure = Failure(described(problem), traceback=traceback.format_exc())
        at = f" at packet {failure.packet}" if failure.packet else ""
        failed.append(f"{request.text} failed{at}: {failure.message}")
        traces.append(failure.traceback)
    if failed:
        raise StatisticError("; ".join(failed), tables, traceback="\n".join(traces))
    return tables


def _columns(records: Records, index: int, request: Request) -> tuple[Column, ...]:
    """The columns, with "number" made "duration" where the engine says that the values are."""
    if request.counter is not None:
        types: Sequence[str] | None = request.counter.column_types()
    else:
        types = [words.rpartition(" ")[2] for words in records.columns.get(index, [])]
    if not types:
        return request.columns
    given = dict(zip((c.name for c in request.counted), types, strict=True))
    return tuple(
        replace(c, type="duration", unit="seconds") if c.type == "number" and given.get(c.name) == "duration" else c
        for c in request.columns
    )


def _rows(records: Records, index: int, request: Request, ending: Ending) -> list[Row]:
    given = {column.name: column for column in _columns(records, index, request)}
    columns = [given[column.name] for column in request.counted]
    base = records.base_ns
    empty: Row = dict.fromkeys((c.name for c in request.columns), None)
    if request.counter is not None:
        return [_counted_row(columns, values, base, empty) for values in request.counter.rows()]
    raw = records.rows.pop(index, [])
    if records.counted.get(index) != len(raw):
        raise TsharkError(
            f"the tap did not reach its end (tshark says: {ending.last_words()}); "
            "nothing is shown, since it would not be whole"
        )
    names = [words.rpartition(" ")[0] for words in records.columns.get(index, [])]
    declared = [c.name for c in columns]
    if len(names) != len(declared) or any(n in declared and n != d for n, d in zip(names, declared, strict=True)):
        raise StatisticError(f"the tap gives the columns {names}, not {declared}")
    readers = [_reader(column, base) for column in columns]
    rows = []
    for values in raw:
        row = dict(empty)
        for column, reader, value in zip(columns, readers, values, strict=True):
            row[column.name] = None if value == "\\N" else reader(value)
        rows.append(row)
    return rows


def _reading(plan: Plan, records: Records, ending: Ending) -> Reading:
    packets, size, first, last = records.books[:4]
    base = records.base_ns

    def at(text: str) -> int | None:
        return None if text == "\\N" or base is None else base + int(text)

    captured, dropped = ending.capture_counts()
    return Reading(
        sources=plan.source.names,
        packets=int(packets),
        bytes=int(size),
        start=base,
        first=at(first),
        last=at(last),
        display_filter=plan.source.display_filter,
        capture_filter=plan.source.capture_filter,
        captured=captured,
        dropped=dropped,
    )


def _reader(column: Column, base: int | None) -> Callable[[str], Value]:
    if column.type in ("integer", "duration"):
        return int
    if column.type == "number":
        return lambda text: float(text) if set(text) & set(".en") else int(text)
    if column.type == "boolean":
        return lambda text: text in ("1", "true")
    if column.type == "time":
        return lambda text: None if base is None else base + int(text)
    if column.type == "path":
        return lambda text: tuple(unescape(level) for level in text.split(LIST))
    return unescape


def _counted_row(columns: Sequence[Column], values: Sequence[Value], base: int | None, empty: Row) -> Row:
    if len(values) != len(columns):
        raise ValueError(f"a row has {len(values)} values for the {len(columns)} columns {[c.name for c in columns]}")
    row = dict(empty)
    for column, value in zip(columns, values, strict=True):
        row[column.name] = None if column.type == "time" and base is None else value
    return row
