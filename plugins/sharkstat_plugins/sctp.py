"""sctp,stat: which chunks went over each direction of every SCTP association."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sharkstat import (
    Column,
    Parsed,
    RequestError,
    Statistic,
    Table,
    TextError,
    TsharkText,
    Value,
    hookimpl,
    sort_rows,
    text_of,
)

CHUNKS = (
    "data",
    "sack",
    "heartbeat",
    "heartbeat_ack",
    "init",
    "init_ack",
    "cookie_echo",
    "cookie_ack",
    "abort",
    "error",
)
_RULE = b"-" * 135
_HEADER = (
    b"|   Source IP   |PortA|    Dest. IP   |PortB|  DATA  |  SACK  |  HBEAT |HBEATACK|  INIT  | INITACK| COOKIE "
    b"|COOKIACK| ABORT  |  ERROR |"
)
_TITLE = b"%b SCTP Statistics %b" % (b"-" * 44, b"-" * 74)
_ROW = re.compile(rb"\| *([^|\s]*)\| *(\d+)\| *([^|\s]*)\| *(\d+)" + rb"\| *(\d+)" * len(CHUNKS) + rb"\|")
_LAYOUT = b"|%15b|%5d|%15b|%5d" + b"|%8d" * len(CHUNKS) + b"|"


class Sctp(Statistic):
    name = "sctp,stat"
    title = "SCTP chunks"
    usage = "sctp,stat"
    description = (
        "SCTP chunks from each address and port to each other, for the ten chunk types that tshark counts. The first "
        "row, without addresses, has the number of SCTP packets."
    )

    def __init__(self) -> None:
        self.engines = (TsharkText(self.parse, takes_filter=False),)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        if arguments.strip():
            raise RequestError("sctp,stat takes no arguments and no filter: write -z sctp,stat")
        return (
            Column("source", "address", role="key"),
            Column("source_port", "integer", role="key", local="dynamic"),
            Column("destination", "address", role="key"),
            Column("destination_port", "integer", role="key", local="dynamic"),
            Column("packets", "integer", "packets", description="all SCTP packets"),
            *(Column(f"{kind}_chunks", "integer", "chunks") for kind in CHUNKS),
        )

    def filters(self, arguments: str) -> Sequence[str]:
        return ()

    def parse(self, text: bytes, arguments: str) -> Parsed:
        lines = text.split(b"\n")
        total = re.fullmatch(rb"\|  Total packets RX/TX (\d+)", lines[1]) if len(lines) > 5 else None
        frame = [lines[0], *lines[2:5], *lines[-2:]]
        if total is None or frame != [_TITLE, _RULE, _HEADER, _RULE, _RULE, b""]:
            raise TextError("it is not framed as SCTP statistics")
        packets = int(total[1])
        rows: list[list[Value]] = [[*[None] * 4, packets, *[None] * len(CHUNKS)]] if packets else []
        for line in lines[5:-2]:
            match = _ROW.fullmatch(line)
            cells = match.groups() if match else ()
            numbers = [int(cell) for at, cell in enumerate(cells) if at not in (0, 2)]
            ends = cells[0:3:2]
            if match is None or line != _LAYOUT % (ends[0], numbers[0], ends[1], *numbers[1:]):
                raise TextError(f"the line {text_of(line)!r} is no association")
            # What came over something without addresses has empty ones.
            source, destination = (text_of(end) or None for end in ends)
            rows.append([source, numbers[0], destination, numbers[1], None, *numbers[2:]])
        if len({tuple(row[:4]) for row in rows}) != len(rows) or (rows and not packets):
            raise TextError("its associations are not what they seem")
        return Parsed(rows)

    def order(self, table: Table) -> None:
        def key(row: dict[str, Value]) -> tuple[Value, ...]:
            chunks = sum(row[f"{kind}_chunks"] or 0 for kind in CHUNKS)  # type: ignore[misc]
            ends = tuple(row[name] or 0 for name in ("source_port", "destination_port"))
            return row["source"] is not None, -chunks, row["source"] or "", row["destination"] or "", *ends

        sort_rows(table, key)


def take(name: str) -> Statistic | None:
    """The statistic of that name, if it is of this family."""
    return Sctp() if name == Sctp.name else None


@hookimpl
def register_families(register):  # type: ignore[no-untyped-def]
    register("sctp", take)
