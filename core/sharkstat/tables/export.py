"""Every output format: which there are, and where results go. docs/formats.md describes them."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sharkstat.errors import OutputError, RequestError
from sharkstat.tables import view
from sharkstat.tables.column import Column, Value
from sharkstat.tables.table import Table

SCHEMA = 1
# In JSON strings these may stand raw, but not on a terminal.
_ESCAPED_IN_JSON = re.compile(
    "[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufff9-\ufffb]"
)
Exporter = Callable[[Sequence[Table]], Iterable[str]]


def time_text(nanoseconds: int) -> str:
    """RFC 3339 in UTC, to the nanosecond.

    >>> time_text(1_700_000_000_000_116_222)
    '2023-11-14T22:13:20.000116222Z'
    """
    moment = view.clock(nanoseconds, "%Y-%m-%dT%H:%M:%S")
    return view.seconds(nanoseconds) if moment is None else f"{moment}.{nanoseconds % 10**9:09d}Z"


def dumps(value: Any) -> str:
    """JSON without a character that a terminal would act upon; it means the same."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return _ESCAPED_IN_JSON.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def json_value(column: Column, value: Value) -> Any:
    if value is None:
        return None
    if column.type == "time" and isinstance(value, int):
        return time_text(value)
    if column.type == "duration" and isinstance(value, int):
        return _Number(view.seconds(value))
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
            "out_of_order": reading.out_of_order,
            "late_by": reading.late_by / 10**9,
            "cut": reading.cut,
            "timeless": reading.timeless,
            "duplicates": reading.duplicates,
            "forwarded": reading.forwarded,
            "dedup": reading.dedup,
            "reorder": reading.reorder,
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
                "title": c.heading.replace("\n", " "),
                "description": c.description,
                "shown": c.shown,
                "ratio": None if c.ratio is None else list(c.ratio),
                "size_of": c.size_of,
                "local": c.local,
                "share": c.share,
            }
            for c in table.columns
        ],
        "names": table.names,
    }


def _json_row(table: Table, row: Mapping[str, Value]) -> dict[str, Any]:
    return {column.name: json_value(column, row[column.name]) for column in table.columns}


def to_json(tables: Sequence[Table]) -> Iterator[str]:
    """One document; a row a line, so that it can be compared line by line."""
    yield f'{{"schema": {SCHEMA}, "generator": "sharkstat", "tables": ['
    for number, table in enumerate(tables):
        head = _dumps_numbers(described(table))
        yield ("," if number else "") + "\n" + head[:-1] + ', "rows": ['
        for index, row in enumerate(table.rows):
            yield ("," if index else "") + "\n" + _dumps_numbers(_json_row(table, row))
        yield "\n]}" if table.rows else "]}"
    yield "\n]}\n"


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
        for row in table.rows:
            yield _dumps_numbers({"type": "row", "table": number, **_json_row(table, row)}) + "\n"


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
    return view.safe("".join(_BACKSLASHED.get(character, character) for character in text))


def _separated(tables: Sequence[Table], dialect: str) -> Iterator[str]:
    for number, table in enumerate(tables):
        out = io.StringIO()
        writer = csv.writer(out, delimiter="," if dialect == "csv" else "\t", lineterminator="\n")
        if len(tables) > 1:
            sources = ", ".join(table.reading.sources)
            out.write(("\n" if number else "") + f"# {_escaped(table.request)}: {_escaped(sources)}\n")
        # A set that nobody asked to see is for merging; it may hold millions.
        columns = [column for column in table.columns if column.shown or column.type != "set"]
        writer.writerow([_escaped(column.name) for column in columns])
        for row in table.rows:
            writer.writerow([plain_value(column, row[column.name]) for column in columns])
        yield out.getvalue()


def _tabulated(style: str) -> Exporter:
    def export(tables: Sequence[Table]) -> Iterator[str]:
        for number, table in enumerate(tables):
            body = view.lay_out(view.grid(table), style) if table.rows else "no matching packets"
            yield ("\n" if number else "") + f"{view.caption(table)}\n\n{body}{view.omitted(table)}\n"

    return export


def built_in() -> dict[str, Exporter]:
    """The formats that need no plugin; "table" is the view for people, made by `write`."""
    import tabulate

    formats: dict[str, Exporter] = {
        "json": to_json,
        "jsonl": to_jsonl,
        "csv": lambda tables: _separated(tables, "csv"),
        "tsv": lambda tables: _separated(tables, "tsv"),
        "markdown": _tabulated("pipe"),
    }
    for style in tabulate.tabulate_formats:
        if style not in ("tsv", "unsafehtml", "latex_raw"):  # these two would let a packet write markup
            formats.setdefault(style, _tabulated(style))
    return formats


# The formats for programs, whose columns are those that were counted.
LOSSLESS = ("json", "jsonl", "csv", "tsv")
ENDINGS = {"json": "json", "jsonl": "jsonl", "csv": "csv", "tsv": "tsv", "markdown": "md", "html": "html"}


def find(name: str, exporters: Mapping[str, Exporter]) -> Exporter:
    """The exporter of that name. RequestError with the names that there are."""
    found = exporters.get(name) or built_in().get(name)
    if found is None:
        known = ", ".join(["table", *built_in(), *exporters])
        raise RequestError(f"unknown format {name!r}: take one of {known}")
    return found


def check_output(output: str) -> None:
    """OutputError if results could not be written there, found before any work."""
    if not output or output == "-":
        return
    path = Path(output)
    if path.is_dir() or output.endswith("/"):
        target = path if path.exists() else path.parent
    else:
        target = path if path.exists() else path.parent
    if not target.exists():
        raise OutputError(f"{output}: the folder {target} does not exist: make it first")
    if not os.access(target, os.W_OK):
        raise OutputError(f"{output}: permission denied: choose a place where you may write")


def write(tables: Sequence[Table], exporter: Exporter, output: str, ending: str) -> None:
    """Write the tables to standard output ("" or "-"), to one file, or to a folder, one file a table."""
    if not output or output == "-":
        try:
            for piece in exporter(tables):
                sys.stdout.write(piece)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as problem:
            # What is still in the buffer must not be tried again at the end.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise OutputError(f"standard output: {problem.strerror}: nothing more can be written there") from None
        return
    path = Path(output)
    try:
        if path.is_dir() or output.endswith("/"):
            path.mkdir(exist_ok=True)
            taken: set[str] = set()
            for table in tables:
                _write_file(path / f"{_file_name(table, taken)}.{ending}", exporter([table]))
        else:
            _write_file(path, exporter(tables))
    except OSError as problem:
        raise OutputError(f"{output}: {problem.strerror}: the results were not written") from None


def _file_name(table: Table, taken: set[str]) -> str:
    base = re.sub(r"[^A-Za-z0-9]+", "_", table.request).strip("_")[:80]
    name, number = base, 2
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    taken.add(name)
    return name


def _write_file(path: Path, pieces: Iterable[str]) -> None:
    """Whole or not at all: a file that was there stays as it was until the new one is written."""
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8") as out:
            out.writelines(pieces)
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.writelines(pieces)
        mode = path.stat().st_mode & 0o7777 if path.exists() else 0o666 & ~_umask()
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
