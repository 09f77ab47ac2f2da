"""diameter,avp sv proto,colinfo: statistics of tshark's with a row a packet. smb,sids: the one that cannot run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sharkstat import (
    Column,
    Listen,
    PacketCounter,
    Packets,
    Parsed,
    RequestError,
    Statistic,
    TextError,
    TsharkText,
    Value,
    both_filters,
    hookimpl,
    text_of,
)
from sharkstat_plugins.tshark_text import decimal, distinct

if TYPE_CHECKING:
    from sharkstat import Packet

ONE_CAPTURE = "its rows are single packets: read the files in one run instead"

_MESSAGE = re.compile(
    r"frame='(\d+)' time='(-?\d+\.\d+)' src='([^']*)' srcport='(\d+)' dst='([^']*)' dstport='(\d+)' proto='diameter' "
    r"msgnr='(\d+)' is_request='([01])' cmd='(\d+)' req_frame='(\d+)' ans_frame='(\d+)' resp_time='(\d+\.\d+)' "
    r"((?:[^='\n]+='[^'\n]*' )*)"
)
_AVP = re.compile(r"([^='\n]+)='([^'\n]*)' ")
_SUMMARY = re.compile(
    r"=== Diameter Summary ===\nrequ(?:est|set) count:\t(\d+)\nanswer count:\t(\d+)\nreq/ans pairs:\t(\d+)\n"
)


FIXED = (
    Column("packet", "integer", role="key"),
    Column("message", "integer", role="key", description="number of the message in the packet, from 0"),
    Column(
        "time_since_1970",
        "duration",
        "seconds",
        merge="none",
        approximate=True,
        shown=False,
        title="Epoch time",
    ),
    Column("source", "address", merge="none"),
    Column("source_port", "integer", merge="none"),
    Column("destination", "address", merge="none"),
    Column("destination_port", "integer", merge="none"),
    Column("request", "boolean", merge="none"),
    Column("command", "integer", merge="none"),
    Column("request_packet", "integer", merge="none"),
    Column("answer_packet", "integer", merge="none"),
    Column("response_time", "duration", "seconds", merge="none", approximate=True),
)


class DiameterAvp(Statistic):
    name = "diameter,avp"
    title = "Diameter messages"
    usage = "diameter,avp[,CMD[,AVP...]]"
    description = (
        "One row per Diameter message with this command code (0 for all), with the values of the given AVPs; several "
        "values of an AVP are separated by commas."
    )

    def __init__(self) -> None:
        self.engines = (TsharkText(self.parse, self.native, takes_filter=False, prints_at_once=True),)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        command, *avps = [word.strip() for word in arguments.split(",")]
        if command and not command.isdecimal():
            raise RequestError(
                f"diameter,avp: {command!r} is not a command code: give one before the AVPs, or 0 for all: "
                "diameter,avp,0,Session-Id"
            )
        if "" in avps or len(set(avps)) < len(avps):
            raise RequestError("diameter,avp: give the name of each AVP once, e.g. diameter,avp,0,Session-Id")
        return (*FIXED, *(_avp_column(name) for name in map(_avp_name, avps) if "." not in name))

    def filters(self, arguments: str) -> tuple[str, ...]:
        avps = [word.strip() for word in arguments.split(",")][1:]
        return tuple(name if "." in name else f"diameter.{name}" for name in avps)

    def native(self, arguments: str, display_filter: str) -> str:
        return ",".join([self.name, *(word.strip() for word in arguments.split(",") if arguments)])

    def parse(self, text: bytes, arguments: str) -> Parsed:
        whole = text_of(text)
        names = [column.name for column in self.columns(arguments)[len(FIXED) :]]
        found: list[tuple[list[Value], dict[str, list[str]]]] = []
        at = 0
        while not whole.startswith("===", at):
            message = _MESSAGE.match(whole, at)
            if message is None or whole[message.end() : message.end() + 1] != "\n":
                raise TextError(f"no message in {whole[at : at + 80]!r}")
            at = message.end() + 1
            avps: dict[str, list[str]] = {}
            for name, value in _AVP.findall(message[13]):
                avps.setdefault(name, []).append(value)
            found.append((_message(message), avps))
            names += [name for name in avps if name not in names]
        summary = _SUMMARY.fullmatch(whole, at)
        requests = sum(row[7] is True for row, _ in found)
        # A value that was made to look like a row is one row more than tshark counted.
        if summary is None or [requests, len(found) - requests] != [int(summary[1]), int(summary[2])]:
            raise TextError("the summary does not count the messages that are there")
        if clash := set(names) & {column.name for column in FIXED}:
            raise TextError(f"an AVP is named as another column is: {', '.join(sorted(clash))}")
        rows = [[*row, *(", ".join(avps[name]) if name in avps else None for name in names)] for row, avps in found]
        return Parsed(distinct(rows, keys=2), (*FIXED, *map(_avp_column, names)))

    def align(self, tables):  # type: ignore[no-untyped-def]
        raise self.refuse_merge(ONE_CAPTURE)


def _avp_name(name: str) -> str:
    return name.removeprefix("diameter.")


def _avp_column(name: str) -> Column:
    return Column(name, "text", merge="none", title=name)


def _message(found: re.Match[str]) -> list[Value]:
    frame, time, source, source_port, destination, destination_port, number, is_request = found.groups()[:8]
    command, request_frame, answer_frame, response = found.groups()[8:12]
    request = is_request == "1"
    return [
        *(int(frame), int(number), decimal(time, 10**9)),
        *(source, int(source_port), destination, int(destination_port), request, int(command)),
        *(int(request_frame) or None, int(answer_frame) or None),
        None if request or request_frame == "0" else decimal(response, 10**9),
    ]


_SAMPLE = re.compile(r"(-?\d+\.\d{6}) (\d+) ((?:-?\d+ )*)")


class SampledValues(Statistic):
    name = "sv"
    title = "IEC 61850 sampled values"
    usage = "sv"
    description = "One row per sampled values message, with its time, sample counter and measured values."

    def __init__(self) -> None:
        self.engines = (TsharkText(self.parse, takes_filter=False, prints_at_once=True),)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        if arguments.strip():
            raise RequestError(f"tshark's sv takes no arguments: leave out {arguments!r}")
        return ()

    def filters(self, arguments: str) -> tuple[str, ...]:
        return ()

    def parse(self, text: bytes, arguments: str) -> Parsed:
        lines = text_of(text).split("\n")
        if lines.pop():
            raise TextError("the last line has no end")
        rows: list[list[Value]] = []
        for number, line in enumerate(lines, 1):
            found = _SAMPLE.fullmatch(line)
            if found is None:
                raise TextError(f"no sample in {line!r:.80}")
            rows.append([number, decimal(found[1], 10**9), int(found[2]), *map(int, found[3].split())])
        columns = (
            Column("number", "integer", role="key", local="always", description="number of the message"),
            Column("time", "time", merge="none", approximate=True),
            Column("sample", "integer", merge="none", description="the sender's sample counter (smpCnt)"),
        )
        width = max(map(len, rows), default=3)
        values = tuple(Column(f"value_{at}", "integer", merge="none") for at in range(1, width - 2))
        return Parsed([[*row, *[None] * (width - len(row))] for row in rows], columns + values)

    def align(self, tables):  # type: ignore[no-untyped-def]
        raise self.refuse_merge(ONE_CAPTURE)


class ColumnInfo(Statistic):
    name = "proto,colinfo"
    title = "Values of a field"
    usage = "proto,colinfo,FILTER,FIELD"
    example = "http,http.host"
    description = (
        "One row per packet that has the field and matches the filter, with all values of the field. (tshark's own "
        "proto,colinfo adds them to the packet list and has no table.)"
    )

    def __init__(self) -> None:
        self.engines = (Packets(lambda arguments: FieldValues(*_filter_and_field(arguments))),)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        _filter_and_field(arguments)
        return (
            Column("packet", "integer", role="key"),
            Column("time", "time", merge="none"),
            Column("value", "text", merge="none", description="values, separated by commas"),
        )

    def filters(self, arguments: str) -> tuple[str, ...]:
        return tuple(filter(None, _filter_and_field(arguments)))

    def align(self, tables):  # type: ignore[no-untyped-def]
        raise self.refuse_merge(ONE_CAPTURE)


def _filter_and_field(arguments: str) -> tuple[str, str]:
    """The filter, which may hold commas, and the field, which holds none."""
    display_filter, comma, field = arguments.rpartition(",")
    if not comma or not re.fullmatch(r"[A-Za-z_][\w.\-]*", field.strip()):
        raise RequestError("proto,colinfo needs a filter and a field, e.g. proto,colinfo,http,http.host")
    return display_filter.strip(), field.strip()


class FieldValues(PacketCounter):
    def __init__(self, display_filter: str, field: str) -> None:
        # With the field in the filter, a packet whose only value is empty is a row, too.
        self.listens = (Listen("frame", both_filters(display_filter, field)),)
        self.fields = (field,)
        self._field = field
        self._rows: list[list[Value]] = []

    def packet(self, packet: Packet) -> None:
        self._rows.append([packet.number, packet.time_ns, ", ".join(packet.values(self._field))])

    def rows(self) -> list[list[Value]]:
        return self._rows


class SmbSids(Statistic):
    name = "smb,sids"
    title = "SMB security identifiers"
    usage = "smb,sids"
    description = (
        "tshark's own smb,sids fails in every version. Use proto,colinfo,nt.sid,nt.sid for the security identifiers in "
        "each packet."
    )

    def __init__(self) -> None:
        self.engines = (TsharkText(self.parse),)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        raise RequestError(
            "tshark's smb,sids always fails: use -z proto,colinfo,nt.sid,nt.sid for the SIDs of each packet"
        )

    def parse(self, text: bytes, arguments: str) -> Parsed:
        raise TextError("tshark's smb,sids always fails")


@hookimpl
def register_families(register):  # type: ignore[no-untyped-def]
    for statistic in (DiameterAvp(), SampledValues(), ColumnInfo(), SmbSids()):
        register(statistic.name, lambda name, statistic=statistic: statistic if name == statistic.name else None)
