"""Saved results (JSON, JSON Lines, Parquet, Arrow) as tables again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args

from sharkstat.errors import SourceError
from sharkstat.tables.column import Column, Local, Merge, Numbering, Reading, Role, Row, Type, Value
from sharkstat.tables.export import SCHEMA
from sharkstat.tables.table import Table

_MOMENT = re.compile(r"(\d{4,})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d{9})Z")
# How the files begin.
_ARROW_KINDS: Mapping[bytes, Literal["parquet", "arrow"]] = {b"PAR1": "parquet", b"ARRO": "arrow"}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class _Unreadable(ValueError):
    """What is wrong with a document; `read_tables` names the file."""


def looks_saved(path: str | Path) -> bool:
    """Whether the file begins as a saved result does, and no capture: with a brace, or as Parquet or Arrow.

    >>> looks_saved("tests/data/dns.pcapng")
    False
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(64)
            return head[:4] in _ARROW_KINDS or head.lstrip()[:1] == b"{"
    except OSError:
        return False


def read_tables(path: str | Path) -> list[Table]:
    """The tables of a file that was written with `--format json`, `jsonl`, `parquet` or `arrow`.

    SourceError where it cannot be read, or holds something else.

    >>> read_tables("tests/data/dns.pcapng")
    Traceback (most recent call last):
    sharkstat.errors.SourceError: tests/data/dns.pcapng is not a saved result: write one with --format json or jsonl
    """
    try:
        with Path(path).open("rb") as file:
            kind = _ARROW_KINDS.get(file.read(4))
        if kind:
            return [_of_arrow(str(path), kind)]
        text = Path(path).read_text(encoding="utf-8")
    except OSError as problem:
        raise SourceError(f"{path}: {problem.strerror}: check the name") from None
    except UnicodeDecodeError:
        raise SourceError(f"{path} is not a saved result: write one with --format json or jsonl") from None
    try:
        return tables_of(text)
    except _Unreadable as problem:
        raise SourceError(f"{path} is not a saved result ({problem}): write one with --format json or jsonl") from None


def _of_arrow(path: str, kind: Literal["parquet", "arrow"]) -> Table:
    from sharkstat.tables.arrow import from_file

    try:
        about, rows = from_file(path, kind)
        return replace(table_of({**about, "rows": []}), rows=rows)
    except ValueError as problem:
        raise SourceError(f"{path} is not a saved result ({problem}): write one with --format {kind}") from None


def tables_of(text: str) -> list[Table]:
    """The tables of a JSON or JSON Lines document. ValueError where it is neither."""
    try:
        document = json.loads(text, parse_float=Decimal)
    except ValueError:
        document = None
    if isinstance(document, dict) and "tables" in document:
        _check_schema(document)
        return [table_of(entry) for entry in _list(document["tables"], "tables")]
    return list(_from_lines(text))


def _from_lines(text: str) -> Iterator[Table]:
    found: list[dict[str, Any]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, parse_float=Decimal)
        except ValueError:
            raise _Unreadable(f"line {number} is not JSON") from None
        kind = record.get("type") if isinstance(record, dict) else None
        if kind == "table":
            _check_schema(record)
            found.append({**record, "rows": []})
        elif kind == "row" and found:
            found[-1]["rows"].append(record)
        else:
            raise _Unreadable(f"line {number} is neither a table nor a row")
    if not found:
        raise _Unreadable("it holds no table")
    yield from map(table_of, found)


def _check_schema(document: Mapping[str, Any]) -> None:
    if document.get("schema") != SCHEMA:
        raise _Unreadable(f"its schema is {document.get('schema')!r}, and only {SCHEMA} is supported")


def table_of(entry: Any) -> Table:
    """One table as JSON has it. ValueError, with what is wrong, where it is none."""
    if not isinstance(entry, dict):
        raise _Unreadable("a table is not an object")
    try:
        columns = tuple(_column(told) for told in _list(entry["columns"], "columns"))
        readers = [(column.name, _reader(column)) for column in columns]
        rows: list[Row] = []
        for row in _list(entry["rows"], "rows"):
            rows.append({name: None if (value := row[name]) is None else reader(value) for name, reader in readers})
        return Table(
            name=entry["name"],
            title=entry["title"],
            request=entry["request"],
            columns=columns,
            rows=rows,
            engine=entry["engine"],
            tshark=entry["tshark"],
            complete=entry["complete"],
            capped=entry.get("capped", False),
            reading=_reading(entry["read"]),
            warnings=list(entry["warnings"]),
            names=dict(entry["names"]),
            omitted=entry["omitted"],
        )
    except KeyError as problem:
        raise _Unreadable(f"a table lacks {problem}") from None
    except (TypeError, ArithmeticError) as problem:
        raise _Unreadable(f"a value does not match its column's type: {problem}") from None


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise _Unreadable(f"{name} is not a list")
    return value


def _one_of(value: Any, allowed: Sequence[Any], what: str) -> Any:
    if value not in allowed:
        raise _Unreadable(f"unknown {what} {value!r}")
    return value


def _column(told: Mapping[str, Any]) -> Column:
    plain = Column(told["name"], _one_of(told["type"], get_args(Type), "type"))
    ratio, percentile, rate = told.get("ratio"), told.get("percentile"), told.get("rate")
    sum_of = told.get("sum_of")
    return Column(
        name=told["name"],
        type=told["type"],
        unit=told["unit"],
        role=_one_of(told["role"], get_args(Role), "role"),
        merge=_one_of(told["merge"], get_args(Merge), "merge rule"),
        title="" if told["title"] == plain.heading else told["title"],
        description=told.get("description", ""),
        shown=told.get("shown", True),
        approximate=told["approximate"],
        ratio=None if ratio is None else (ratio[0], ratio[1]),
        sum_of=None if sum_of is None else (sum_of[0], sum_of[1]),
        size_of=told.get("size_of", ""),
        percentile=None if percentile is None else (float(percentile[0]), *percentile[1:]),
        rate=None if rate is None else (rate[0], int(rate[1])),
        named=told.get("named", ""),
        numbering=_one_of(told.get("numbering", ""), get_args(Numbering), "numbering"),
        estimate=tuple(told.get("estimate") or ()),
        local=_one_of(told.get("local", ""), get_args(Local), "local"),
        share=told.get("share", ""),
    )


def _reading(told: Mapping[str, Any]) -> Reading:
    def at(name: str) -> int | None:
        return None if told.get(name) is None else time_of(told[name])

    return Reading(
        sources=tuple(told["sources"]),
        packets=told["packets"],
        bytes=told["bytes"],
        start=at("start"),
        first=at("first"),
        last=at("last"),
        display_filter=told["display_filter"],
        capture_filter=told["capture_filter"],
        captured=told["captured"],
        dropped=told["dropped"],
        dropped_by_kernel=told.get("dropped_by_kernel"),
        dropped_by_interface=told.get("dropped_by_interface"),
        dropped_by_dumpcap=told.get("dropped_by_dumpcap"),
        out_of_order=told.get("out_of_order", 0),
        late_by=_nanoseconds(told.get("late_by", 0)),
        cut=told.get("cut", 0),
        timeless=told.get("timeless", 0),
        duplicates=told.get("duplicates"),
        forwarded=told.get("forwarded"),
        dedup=told.get("dedup", False),
        reorder=told.get("reorder", False),
        since=at("since"),
        until=at("until"),
        time_zone=told.get("time_zone", "UTC"),
    )


def time_of(text: str) -> int:
    """Nanoseconds since 1970 of a time as exports write it.

    >>> time_of("2023-11-14T22:13:20.000116222Z")
    1700000000000116222
    """
    match = _MOMENT.fullmatch(text)
    if not match:
        return _nanoseconds(Decimal(text))  # beyond the years that a date can have: seconds
    year, month, day, hour, minute, second, rest = map(int, match.groups())
    moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    since = moment - _EPOCH
    return (since.days * 86400 + since.seconds) * 10**9 + rest


def _nanoseconds(seconds: Decimal | int | float) -> int:
    # A float's shortest digits are those that were written, as far as a float can hold them.
    sign, digits, exponent = Decimal(str(seconds) if isinstance(seconds, float) else seconds).as_tuple()
    if not isinstance(exponent, int):
        raise _Unreadable(f"{seconds} is not a time")
    number = int("".join(map(str, digits)))
    shift = exponent + 9
    whole: int = number * 10**shift if shift >= 0 else number // 10**-shift
    return -whole if sign else whole


def _checked(kind: type | tuple[type, ...], column: Column) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise TypeError(f"{column.name} is {value!r}, but its type is {column.type}")
        return value

    return read


def _reader(column: Column) -> Callable[[Any], Value]:
    if column.type == "time":
        return time_of
    if column.type == "duration":
        return _nanoseconds
    if column.type == "number":
        number = _checked((int, float), column)
        return lambda value: float(value) if isinstance(value, Decimal) else number(value)
    if column.type in ("path", "set"):
        several = _checked(list, column)
        return lambda value: tuple(several(value))
    return _checked({"integer": int, "boolean": bool}.get(column.type, str), column)
