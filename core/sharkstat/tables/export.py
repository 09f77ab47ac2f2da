"""Every output format; docs/formats.md describes them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sharkstat.errors import RequestError
from sharkstat.tables import figures, texts, view
from sharkstat.tables.column import Column, Value
from sharkstat.tables.output import FORMATS, TABULATED
from sharkstat.tables.table import Table

SCHEMA = 1
# In JSON strings these may stand raw, but not where people see them.
_ESCAPED_IN_JSON = re.compile(f"[{texts.ACTING}]")
_quoted = json.encoder.encode_basestring  # in C: a string of JSON, with all that need not be escaped as it is
Exporter = Callable[[Sequence[Table]], Iterable[str | bytes]]
TextExporter = Callable[[Sequence[Table]], Iterable[str]]


def time_text(nanoseconds: int) -> str:
    """RFC 3339 in UTC, to the nanosecond.

    >>> time_text(1_700_000_000_000_116_222)
    '2023-11-14T22:13:20.000116222Z'
    >>> time_text(-30_610_224_000_000_000_001)
    '0999-12-31T23:59:59.999999999Z'
    """
    moment = figures.clock(nanoseconds, "%Y-%m-%dT%H:%M:%S")
    return figures.seconds(nanoseconds) if moment is None else f"{moment.zfill(19)}.{nanoseconds % 10**9:09d}Z"


def dumps(value: Any) -> str:
    """JSON without a character that a terminal would act upon; it means the same."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _ESCAPED_IN_JSON.sub(_escaped_in_json, text)


def json_value(column: Column, value: Value) -> Any:
    if value is None:
        return None
    if column.type == "time" and isinstance(value, int):
        return time_text(value)
    if column.type == "duration" and isinstance(value, int):
        return _Number(figures.seconds(value))
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


class _Number(float):
    """A JSON number that keeps the digits it was given: json writes a float's repr."""

    text: str

    def __new__(cls, text: str) -> _Number:
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __repr__(self) -> str:
        return self.text


def described(table: Table) -> dict[str, Any]:
    """What the JSON layout says of a table, without its rows."""
    reading = table.reading
    return {
        "name": table.name,
        "title": table.title,
        "request": table.request,
        "engine": table.engine,
        "tshark": table.tshark,
        "complete": table.complete,
        "capped": table.capped,
        "omitted": table.omitted,
        "warnings": table.warnings,
        "read": {
            "sources": list(reading.sources),
            "packets": reading.packets,
            "bytes": reading.bytes,
            "start": None if reading.start is None else time_text(reading.start),
            "first": None if reading.first is None else time_text(reading.first),
            "last": None if reading.last is None else time_text(reading.last),
            "display_filter": reading.display_filter,
            "capture_filter": reading.capture_filter,
            "captured": reading.captured,
            "dropped": reading.dropped,
            "dropped_by_kernel": reading.dropped_by_kernel,
            "dropped_by_interface": reading.dropped_by_interface,
            "dropped_by_dumpcap": reading.dropped_by_dumpcap,
            "out_of_order": reading.out_of_order,
            "late_by": reading.late_by / 10**9,
            "cut": reading.cut,
            "timeless": reading.timeless,
            "duplicates": reading.duplicates,
            "forwarded": reading.forwarded,
            "dedup": reading.dedup,
            "reorder": reading.reorder,
            "since": None if reading.since is None else time_text(reading.since),
            "until": None if reading.until is None else time_text(reading.until),
            "time_zone": reading.time_zone,
        },
        "columns": [
            {
                "name": c.name,
                "type": c.type,
                "unit": c.unit,
                "role": c.role,
                "merge": c.merge,
                "approximate": c.approximate,
                "title": c.heading,
                "description": c.description,
                "shown": c.shown,
                "ratio": None if c.ratio is None else list(c.ratio),
                "sum_of": None if c.sum_of is None else list(c.sum_of),
                "size_of": c.size_of,
                "percentile": None if c.percentile is None else list(c.percentile),
                "rate": None if c.rate is None else list(c.rate),
                "named": c.named,
                "numbering": c.numbering,
                "estimate": list(c.estimate) or None,
                "local": c.local,
                "share": c.share,
            }
            for c in table.columns
        ],
        "names": table.names,
    }


def _json_text(text: str) -> str:
    quoted = _quoted(text)
    return quoted if text.isascii() and "\x7f" not in text else _ESCAPED_IN_JSON.sub(_escaped_in_json, quoted)


def _escaped_in_json(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\u{code:04x}" if code < 0x10000 else json.dumps(match.group())[1:-1]


def _json_of(column: Column) -> Callable[[Value], str]:
    """What writes a value of the column, seldom asking what it is: tables have hundreds of thousands of rows."""

    def other(value: Value) -> str:
        exact = json_value(column, value)
        return exact.text if isinstance(exact, _Number) else dumps(exact)

    def whole(value: Value) -> str:
        return str(value) if type(value) is int else other(value)

    def duration(value: Value) -> str:
        return figures.seconds(value) if type(value) is int else other(value)

    def text(value: Value) -> str:
        return _json_text(value) if type(value) is str else other(value)

    if column.type in ("integer", "number"):
        return whole
    return duration if column.type == "duration" else text if column.type in ("text", "address") else other


def _json_rows(table: Table, head: str = "") -> Iterator[str]:
    """A line for each row; `head` is what its object begins with."""
    columns = [(column.name, f"{dumps(column.name)}: ", _json_of(column)) for column in table.columns]
    for row in table.rows:
        yield "{" + head + ", ".join([key + write(row[name]) for name, key, write in columns]) + "}"


def to_json(tables: Sequence[Table]) -> Iterator[str]:
    """One document; a row a line, so that it can be compared line by line."""
    yield f'{{"schema": {SCHEMA}, "generator": "sharkstat", "tables": ['
    for number, table in enumerate(tables):
        head = _dumps_numbers(described(table))
        yield ("," if number else "") + "\n" + head[:-1] + ', "rows": ['
        between = "\n"
        for line in _json_rows(table):
            yield between + line
            between = ",\n"
        yield "\n]}" if table.rows else "]}"
    yield "\n]}\n"


def snapshot_line(tables: Sequence[Table], snapshot: Mapping[str, Any]) -> str:
    """The document of `to_json` as one line, which says of which snapshot it is."""
    about = {**snapshot, "time": time_text(snapshot["time"])}
    head = f'{{"schema": {SCHEMA}, "generator": "sharkstat", '
    whole = "".join(to_json(tables)).replace("\n", "")  # none is within a string of JSON
    return f'{head}"snapshot": {dumps(about)}, {whole.removeprefix(head)}\n'


def _dumps_numbers(value: dict[str, Any]) -> str:
    """json.dumps writes a subclass of float by float.__repr__, so the digits are put in by hand."""
    parts = []
    for key, item in value.items():
        parts.append(f"{dumps(key)}: {item.text if isinstance(item, _Number) else dumps(item)}")
    return "{" + ", ".join(parts) + "}"


def to_jsonl(tables: Sequence[Table]) -> Iterator[str]:
    """A line a table (type "table"), each followed by a line a row (type "row", with the table's number)."""
    for number, table in enumerate(tables):
        yield _dumps_numbers({"type": "table", "schema": SCHEMA, "table": number, **described(table)}) + "\n"
        for line in _json_rows(table, f'"type": "row", "table": {number}, '):
            yield line + "\n"


_BACKSLASHED = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


def plain_value(column: Column, value: Value) -> str:
    """A value in CSV and TSV: exact; a backslash and what a terminal would act upon are escaped.

    >>> plain_value(Column("path", "path"), ("a/b", "c"))
    'a\\\\/b/c'
    >>> plain_value(Column("codes", "set"), ("200", "404"))
    '200,404'
    """
    if value is None:
        return ""
    if isinstance(value, tuple):
        mark = "/" if column.type == "path" else ","
        return mark.join(_escaped(part).replace(mark, f"\\{mark}") for part in value)
    exact = json_value(column, value)
    if isinstance(exact, _Number):
        return exact.text
    if exact is None:
        return ""
    if isinstance(exact, bool):
        return "true" if exact else "false"
    return _escaped(str(exact)) if isinstance(exact, str) else str(exact)


def _escaped(text: str) -> str:
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return texts.safe("".join(_BACKSLASHED.get(character, character) for character in text))


# How a formula begins in the spreadsheets that there are, behind apostrophes or not. Source: OWASP, "CSV Injection".
_FORMULA = re.compile("'*[=+\\-@\uff1d\uff0b\uff0d\uff20]")


def defused(text: str) -> str:
    """A text that no spreadsheet takes for a formula: one that begins like a formula is behind an apostrophe.

    Whoever wants the text as it was takes an apostrophe away from each that begins so.

    >>> defused("=1+1"), defused("'=1+1"), defused("a=1"), defused("-")
    ("'=1+1", "''=1+1", 'a=1', '-')
    """
    return f"'{text}" if _FORMULA.match(text) and text != "-" else text


_AT_ONCE = 1000  # rows that are written in one piece


def _separated(tables: Sequence[Table], dialect: str, raw: bool) -> Iterator[str]:
    def written(column: Column) -> Callable[[Value], str]:
        if column.type == "integer":
            return lambda value: str(value) if type(value) is int else plain_value(column, value)
        if column.type == "duration":
            return lambda value: figures.seconds(value) if type(value) is int else plain_value(column, value)
        if raw or column.type not in ("text", "address", "path", "set"):
            return lambda value: plain_value(column, value)
        return lambda value: defused(plain_value(column, value))

    for number, table in enumerate(tables):
        out = io.StringIO()
        writer = csv.writer(out, delimiter="," if dialect == "csv" else "\t", lineterminator="\n")
        if len(tables) > 1:
            sources = ", ".join(table.reading.sources)
            out.write(("\n" if number else "") + f"# {_escaped(table.request)}: {_escaped(sources)}\n")
        # A set that nobody asked to see is for merging; it may hold millions.
        columns = [column for column in table.columns if column.shown or column.type != "set"]
        writer.writerow([_escaped(column.name) for column in columns])
        cells = [(column.name, written(column)) for column in columns]
        for at, row in enumerate(table.rows, 1):
            writer.writerow([write(row[name]) for name, write in cells])
            if not at % _AT_ONCE:
                yield out.getvalue()
                out.seek(0)
                out.truncate()
        yield out.getvalue()


def _tabulated(style: str) -> TextExporter:
    def export(tables: Sequence[Table]) -> Iterator[str]:
        for number, table in enumerate(tables):
            body = view.lay_out(view.grid(table), style) if table.rows else "no matching packets"
            yield ("\n" if number else "") + f"{view.caption(table, style)}\n\n{body}{view.omitted(table)}\n"

    return export


def built_in(raw: bool = False) -> dict[str, TextExporter]:
    """The formats that need no plugin; "table" is the view for people, made by `write`.

    `raw` leaves texts in CSV and TSV as they are that a spreadsheet would take for a formula.
    """
    return {
        "json": to_json,
        "jsonl": to_jsonl,
        "csv": lambda tables: _separated(tables, "csv", raw),
        "tsv": lambda tables: _separated(tables, "tsv", raw),
        "markdown": _tabulated("pipe"),
        **{style: _tabulated(style) for style in TABULATED},
    }


def find(name: str, others: Sequence[str] = (), raw: bool = False) -> Exporter:
    """The built-in exporter of that name; see `built_in`. RequestError names all formats, `others` among them."""
    if name in ("parquet", "arrow"):
        from sharkstat.tables.arrow import library, to_ipc, to_parquet

        library("pyarrow")  # or the whole capture would be read for nothing
        return to_parquet if name == "parquet" else to_ipc
    found = built_in(raw).get(name)
    if found is None:
        raise RequestError(f"unknown format {name!r}: choose one of {', '.join([*FORMATS, *others])}")
    return found
