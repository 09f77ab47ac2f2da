"""From records to tables: the rows that taps and counters gave, typed, with what was read."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace

from sharkstat.errors import StatisticError, TextError, TsharkError
from sharkstat.running.diagnosis import Ending
from sharkstat.running.plan import Plan, Request
from sharkstat.running.remarks import remarks as doubts_of
from sharkstat.statistics.native import LINES, Printed, Unparsed, as_lines
from sharkstat.tables.column import Column, Reading, Row, Value
from sharkstat.tables.table import Table
from sharkstat.tshark.process import time_zone
from sharkstat.tshark.records import LIST, Failure, Records, described, unescape


def make_tables(plan: Plan, records: Records, ending: Ending, printed: Printed) -> list[Table]:
    """A table for every request, in order.

    Raises what kept the run from having results, or StatisticError with the tables of the statistics that
    did not fail.
    """
    ending.raise_failures()
    complete, warnings = ending.judge()
    reading = _reading(plan, records, ending)
    at_once, texts = printed.texts(len(plan.natives)) if plan.natives else (b"", [])
    tables: list[Table] = []
    failed: list[str] = []
    traces: list[str] = []
    for index, request in enumerate(plan.requests):
        failure = records.failures.get(str(index))
        if failure is None:
            try:
                remarks = plan.remarks(request)
                statistic = request.statistic
                if request.engine == "tshark":
                    text = texts[plan.natives.index(request.native)]
                    doubt = records.doubts.get(index, "")
                    statistic.tshark = records.version
                    columns, rows, remarks = _parsed(request, text, at_once, records.base_ns, doubt)
                    if columns == LINES:
                        statistic = Unparsed(statistic.name)
                else:
                    columns, rows = _columns(records, index, request), _rows(records, index, request, ending)
                table = Table(
                    name=statistic.name,
                    title=statistic.title,
                    request=request.text,
                    columns=columns,
                    rows=rows,
                    engine=request.engine,
                    tshark=records.version,
                    complete=complete,
                    reading=reading,
                    warnings=[*warnings, *doubts_of(plan, request, reading), *remarks],
                    names=records.names,
                    statistic=statistic,
                )
                statistic.derive(table)
                statistic.order(table)
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


def _parsed(
    request: Request, text: bytes, at_once: bytes, base: int | None, doubt: str
) -> tuple[tuple[Column, ...], list[Row], tuple[str, ...]]:
    """What tshark's text says, or its lines where nothing says what they mean."""
    if request.statistic.prints_at_once:
        text = at_once + text
    try:
        if doubt:
            raise TextError(f"what packet {doubt} holds could be mistaken for a part of it")
        parsed = request.statistic.parse(text, request.arguments)
        columns = parsed.columns or request.columns
        counted = [column for column in columns if column.role != "derived"]
        for values in parsed.rows:
            check_types(counted, values)
    except (TextError, ValueError, IndexError, KeyError) as problem:
        parsed = as_lines(text)
        cause = "cannot be read with certainty" if doubt else "has not the layout that is known"
        remark = f"{request.text}: tshark's text {cause}, so it is shown unparsed ({problem})"
        columns, counted = parsed.columns, list(parsed.columns)
        parsed = replace(parsed, warnings=(remark,))
    empty: Row = dict.fromkeys((c.name for c in columns), None)
    rows = []
    for values in parsed.rows:
        row = dict(empty)
        for column, value in zip(counted, values, strict=True):
            absolute = column.type == "time" and value is not None
            row[column.name] = (None if base is None else base + value) if absolute else value  # type: ignore[operator]
        rows.append(row)
    return columns, rows, parsed.warnings


_PYTHON: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("text", "address"), (str,)),
    **dict.fromkeys(("integer", "time", "duration"), (int,)),
    "number": (int, float),
    "boolean": (bool,),
    **dict.fromkeys(("path", "set"), (tuple,)),
}


def check_types(columns: Sequence[Column], values: Sequence[Value]) -> None:
    """TextError for a row that is not what its columns say."""
    if len(values) != len(columns):
        raise TextError(f"a row has {len(values)} values for {len(columns)} columns")
    for column, value in zip(columns, values, strict=True):
        if value is None:
            continue
        wanted = _PYTHON[column.type]
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            raise TextError(f"{column.name} is {value!r}, no {column.type}")


def _columns(records: Records, index: int, request: Request) -> tuple[Column, ...]:
    """The columns; "text" and "number" give way to what the engine says that the values are."""
    if request.counter is not None:
        types: Sequence[str] | None = request.counter.column_types()
    else:
        types = [words.rpartition(" ")[2] for words in records.columns.get(index, [])]
    if not types:
        return request.columns
    given = dict(zip((c.name for c in request.counted), types, strict=True))
    columns = [_typed(c, given.get(c.name, c.type)) for c in request.columns]
    now = {c.name: c.type for c in columns}
    return tuple(_typed(c, "duration") if c.ratio and now[c.ratio[0]] == "duration" else c for c in columns)


def _typed(column: Column, kind: str) -> Column:
    if kind == column.type or column.type not in ("text", "number"):
        return column
    return replace(column, type=kind, unit="seconds" if kind == "duration" else column.unit)  # type: ignore[arg-type]


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
    packets, size, first, last, unordered, lateness, cut = records.books
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
        out_of_order=int(unordered),
        late_by=int(lateness),
        cut=int(cut),
        time_zone=time_zone(),
    )


def _reader(column: Column, base: int | None) -> Callable[[str], Value]:
    if column.type in ("integer", "duration"):
        return int
    if column.type == "number":
        return lambda text: float(text) if set(text) & set(".en") else int(text)
    if column.type == "boolean":
        return lambda text: text in ("1", "true")
    if column.type == "time":
        # "@" stands before what is since 1970; the rest is since the capture's first packet.
        return lambda text: int(text[1:]) if text[0] == "@" else None if base is None else base + int(text)
    if column.type == "path":
        return lambda text: tuple(unescape(level) for level in text.split(LIST))
    if column.type == "set":
        return lambda text: tuple(sorted({unescape(value) for value in text.split(LIST)})) if text else ()
    return unescape


def _counted_row(columns: Sequence[Column], values: Sequence[Value], base: int | None, empty: Row) -> Row:
    if len(values) != len(columns):
        raise ValueError(f"a row has {len(values)} values for the {len(columns)} columns {[c.name for c in columns]}")
    row = dict(empty)
    for column, value in zip(columns, values, strict=True):
        row[column.name] = None if column.type == "time" and base is None else value
    return row
