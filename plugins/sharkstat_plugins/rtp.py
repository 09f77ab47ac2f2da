"""rtp,streams: what each RTP stream carried, lost and how evenly it came."""

from __future__ import annotations

import re

from sharkstat import (
    Column,
    Parsed,
    RequestError,
    Row,
    Statistic,
    Table,
    TextError,
    TsharkText,
    Value,
    hookimpl,
    text_of,
)
from sharkstat_plugins.tshark_text import decimal, distinct

FRAME = ("=" * 25 + " RTP Streams " + "=" * 24, "=" * 62)
HEADER = (
    "Start time,End time,Src IP addr,Port,Dest IP addr,Port,SSRC,Payload,Pkts,Lost,Min Delta(ms),Mean Delta(ms),"
    "Max Delta(ms),Min Jitter(ms),Mean Jitter(ms),Max Jitter(ms),Problems?"
)
_TIME, _SPAN = r" *(-?\d+\.\d{6})", r" +(-?\d+\.\d{3}|-?nan|-?inf)"
# The payload's name may hold anything, so the numbers right of it are read from the line's end.
_STREAM = re.compile(
    rf"{_TIME} {_TIME} +(\S+) +(\d+) +(\S+) +(\d+) 0x([0-9A-F]{{8}}) (.*?) +(\d+) +(-?\d+) \((-?\d+\.\d|-?nan|-?inf)%\)"
    rf"{_SPAN * 6} (X?)"
)
SPANS = ("min_delta", "mean_delta", "max_delta", "min_jitter", "mean_jitter", "max_jitter")


class RtpStreams(Statistic):
    name = "rtp,streams"
    title = "RTP streams"
    usage = "rtp,streams"
    description = (
        "Every RTP stream (one SSRC from one endpoint to another): its packets, lost packets by sequence number "
        "(negative if packets are duplicated), and the delta and jitter between packets."
    )

    def __init__(self) -> None:
        self.engines = (TsharkText(self.parse, takes_filter=False),)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        if arguments.strip():
            raise RequestError(f"tshark's rtp,streams takes no arguments: leave out {arguments!r}")
        return (
            Column("source", "address", role="key"),
            Column("source_port", "integer", role="key", local="dynamic"),
            Column("destination", "address", role="key"),
            Column("destination_port", "integer", role="key", local="dynamic"),
            Column("ssrc", "text", role="key", title="SSRC", local="always"),
            Column("payload", "text", merge="none"),
            Column("start", "time", merge="min", approximate=True),
            Column("end", "time", merge="max", approximate=True),
            Column("packets", "integer", "packets"),
            Column("lost", "integer", "packets", merge="none"),
            Column("lost_percent", "number", "percent", merge="none", approximate=True),
            *(Column(name, "duration", "seconds", merge="none", approximate=True) for name in SPANS),
            Column("problems", "boolean", merge="none"),
        )

    def filters(self, arguments: str) -> tuple[str, ...]:
        return ()

    def parse(self, text: bytes, arguments: str) -> Parsed:
        lines = text_of(text).split("\n")
        if len(lines) < 4 or lines[0] != FRAME[0] or lines[-2:] != [FRAME[1], ""]:
            raise TextError("the table has not its frame")
        if re.sub(" {2,}| (?=Src|Dest|Port|SSRC|Mean|Max|Min|Problems)", ",", lines[1].strip()) != HEADER:
            raise TextError("the table's columns are not those that are known")
        return Parsed(distinct([_stream(line) for line in lines[2:-2]], keys=5))

    def order(self, table: Table) -> None:
        def start(row: Row) -> tuple[int, str, int]:
            return (int(row["start"] or 0), str(row["source"]), int(row["source_port"] or 0))  # type: ignore[arg-type]

        table.rows.sort(key=start)


def _stream(line: str) -> list[Value]:
    found = _STREAM.fullmatch(line)
    if found is None:
        raise TextError(f"no stream in {line!r:.120}")
    start, end, source, source_port, destination, destination_port, ssrc, payload, packets, lost, percent, *spans = (
        found.groups()
    )
    return [
        *(source, int(source_port), destination, int(destination_port), f"0x{ssrc.lower()}", payload.strip()),
        *(decimal(start, 10**9), decimal(end, 10**9), int(packets), int(lost)),
        None if percent.lstrip("-")[0] in "ni" else float(percent),
        *map(_span, spans[:6]),
        spans[6] == "X",
    ]


def _span(text: str) -> int | None:
    """Milliseconds; tshark says -1 where there were none."""
    return None if text == "-1.000" or text.lstrip("-")[0] in "ni" else decimal(text, 10**6)


@hookimpl
def register_families(register):  # type: ignore[no-untyped-def]
    register("rtp", lambda name: RtpStreams() if name == RtpStreams.name else None)
