"""The trend: what a folder of results by period says of how traffic changed over time."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sharkstat.errors import RequestError
from sharkstat.running.loading import read
from sharkstat.statistics.registry import Registry
from sharkstat.tables.archive import Period
from sharkstat.tables.column import Column, Reading, Row, Value
from sharkstat.tables.figures import clock, humanised_bytes, humanised_rate
from sharkstat.tables.page import Block, lines, round_length
from sharkstat.tables.table import Table
from sharkstat.tables.texts import safe

_KEYS = ("protocol", "server_name", "server_address", "server_port")
_SOURCES = ("services", "traffic")  # which tell of servers, the first that is there
_SPARKS = " ▁▂▃▄▅▆▇█"
_CELLS = 16

PERIODS = (
    Column("start", "time", role="key", description="of the period"),
    Column("length", "duration", "seconds", merge="max"),
    Column("packets", "integer", "packets"),
    Column("bytes", "integer", "bytes", share="bytes"),
    Column("covered", "duration", "seconds", description="for how long its source was read"),
    Column("results", "integer", description="more than one after a restart"),
    Column("complete", "boolean", merge="none"),
)
SERVERS = (
    Column("protocol", "text", role="key"),
    Column("server_name", "text", role="key", title="Server name"),
    Column("server_address", "address", role="key", title="Server"),
    Column("server_port", "integer", role="key", title="Port"),
    Column("bytes", "integer", "bytes", share="bytes"),
    Column("trend", "text", merge="none", description="a bar for the bytes of each of equal parts of the time"),
    Column("earlier", "integer", "bytes", title="First half"),
    Column("later", "integer", "bytes", title="Second half"),
    Column("change", "number", "percent", merge="none", description="from the first half of the time to the second"),
)


@dataclass
class Trend:
    """What a trend shows: `periods` has a row for each period, `servers` one for each server, with its bytes."""

    name: str
    periods: Table
    servers: Table | None
    missing: int = 0  # periods without a result, between others
    loaded: list[str] = field(default_factory=list)

    @property
    def tables(self) -> list[Table]:
        return [self.periods, *([self.servers] if self.servers else [])]

    def text(self, width: int = 80, rows: int = 10, bold: Callable[[str], str] = str) -> str:
        """The page, for a terminal of that width."""
        rowed = self.periods.rows
        first, last = _int(rowed[0]["start"]), _int(rowed[-1]["start"]) + _int(rowed[-1]["length"])
        length = _int(rowed[0]["length"])
        size, packets = self.periods.total("bytes"), self.periods.total("packets")
        average = humanised_rate(size * 1e9 / (self.periods.total("covered") or 1))
        incomplete = sum(not row["complete"] for row in rowed)
        what = f"{len(rowed):,} result{'' if len(rowed) == 1 else 's'} of {round_length(length)}"
        page = [
            bold(safe(self.name)),
            f"  {what}, from {clock(first)} to {clock(last)} UTC",
            f"  {packets:,} packets, {humanised_bytes(int(size))}: {average} on average",
        ]
        odd = [f"{self.missing:,} missing"] if self.missing else []
        odd += [f"{incomplete:,} INCOMPLETE"] if incomplete else []
        if odd:
            page.append(f"  {', '.join(odd)}")
        page += ["", *lines(Block("Traffic over time", self.periods, bar="bytes"), width, rows, bold)]
        if self.servers is not None and self.servers.rows:
            columns = ("protocol", "server_name=name", "server_address:server_port=server", "trend", "bytes", "change")
            page += ["", *lines(Block("Services", self.servers, columns, rows), width, rows, bold)]
            hidden = len(self.servers.rows) - rows
            if hidden > 0:
                page.append(f"  {hidden:,} more: --top {len(self.servers.rows)}")
        if len(rowed) > 1:
            folder = shlex.quote(self.name.rpartition("@")[0] if "@" in self.name else self.name)
            days = [clock(_int(row["start"]), _pattern(length)) for row in rowed]
            page += ["", "Why did it change?", f"  sharkstat diff {folder}@{days[0]} {folder}@{days[-1]}"]
        return "\n".join(page)


def trend(name: str, periods: Sequence[Period], registry: Registry | None = None) -> Trend:
    """The trend of these results. RequestError where their periods have different lengths."""
    lengths = {period.length for period in periods}
    if len(lengths) > 1:
        raise RequestError(f"{name} has periods of different lengths: choose some of them, as in {name}@2026-11-01")
    [length] = lengths
    rows: dict[int, Row] = {}
    sizes: dict[tuple[Value, ...], dict[int, int]] = {}
    some: Table | None = None
    told_by = ""
    for period in periods:
        tables = read_period(period, registry)
        some = some or tables[0]
        reading = tables[0].reading
        row = rows.setdefault(
            period.start,
            {
                "start": period.start,
                "length": length,
                "packets": 0,
                "bytes": 0,
                "covered": 0,
                "results": 0,
                "complete": True,
            },
        )
        row["packets"] = _int(row["packets"]) + reading.packets
        row["bytes"] = _int(row["bytes"]) + reading.bytes
        row["covered"] = _int(row["covered"]) + covered(reading)
        row["results"] = _int(row["results"]) + 1
        row["complete"] = bool(row["complete"]) and all(table.complete for table in tables)
        named = {table.name: table for table in tables}
        table = next((named[one] for one in ((told_by,) if told_by else _SOURCES) if one in named), None)
        if table is not None:
            told_by = table.name
            for entry in table.rows:
                found = sizes.setdefault(tuple(entry[key] for key in _KEYS), {})
                found[period.start] = found.get(period.start, 0) + _int(entry["bytes"])
    assert some is not None
    starts = sorted(rows)
    reading = Reading(
        sources=(name,),
        packets=sum(_int(row["packets"]) for row in rows.values()),
        bytes=sum(_int(row["bytes"]) for row in rows.values()),
        start=starts[0],
        first=starts[0],
        last=starts[-1] + length,
    )
    complete = all(row["complete"] for row in rows.values())

    def table_of(name: str, title: str, columns: tuple[Column, ...], found: list[Row]) -> Table:
        return Table(name, title, name, columns, found, tshark=some.tshark, complete=complete, reading=reading)

    servers = None
    if told_by:
        each = [_server(keys, by_start, starts[0], starts[-1] + length, length) for keys, by_start in sizes.items()]
        each.sort(key=lambda row: (-_int(row["bytes"]), str([row[key] for key in _KEYS])))
        servers = table_of("trend,servers", "Servers over time", SERVERS, each)
    table = table_of("trend", "Traffic by period", PERIODS, [rows[start] for start in starts])
    return Trend(name, table, servers, missing=(starts[-1] - starts[0]) // length + 1 - len(starts))


def read_period(period: Period, registry: Registry | None = None) -> list[Table]:
    """The tables of one result."""
    return [table for path in period.paths for table in read(Path(path), registry=registry)]


def covered(reading: Reading) -> int:
    """For how many nanoseconds the source of a result was read."""
    since = reading.first if reading.since is None else reading.since
    until = reading.last if reading.until is None else reading.until
    return max(0, until - since) if since is not None and until is not None else 0


def _server(keys: tuple[Value, ...], by_start: dict[int, int], first: int, end: int, length: int) -> Row:
    parts = min(_CELLS, (end - first) // length)
    cells = [0] * parts
    halves = [0, 0]
    for start, size in by_start.items():
        cells[(start - first) * parts // (end - first)] += size
        halves[2 * (start - first) >= end - first] += size
    top = max(cells) or 1
    return {
        **dict(zip(_KEYS, keys, strict=True)),
        "bytes": sum(by_start.values()),
        "trend": "".join(_SPARKS[-(-size * 8 // top)] for size in cells),
        "earlier": halves[0],
        "later": halves[1],
        "change": 100 * (halves[1] - halves[0]) / halves[0] if halves[0] else None,
    }


def _int(value: Value) -> int:
    return value if isinstance(value, int) else 0


def _pattern(length: int) -> str:
    """How DIR@WHEN names the time of one period of that length, and of no other.

    >>> _pattern(10 * 10**9), _pattern(15 * 60 * 10**9), _pattern(7 * 86400 * 10**9)
    ('%Y-%m-%dT%H:%M:%S', '%Y-%m-%dT%H:%M', '%Y-%m-%d')
    """
    for unit, pattern in ((86400, "%Y-%m-%d"), (3600, "%Y-%m-%dT%H"), (60, "%Y-%m-%dT%H:%M")):
        if length >= unit * 10**9 and length % (unit * 10**9) == 0:
            return pattern
    return "%Y-%m-%dT%H:%M:%S"
