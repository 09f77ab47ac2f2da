"""*,srt *,rtd rpc,programs: how long tshark saw services take to answer.

tshark pairs requests with responses; a pair whose halves lie in two captures is in neither's table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

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
    both_filters,
    hookimpl,
    text_of,
)
from sharkstat_plugins.tshark_text import decimal, distinct, keep_unknown

MICROSECOND, MILLISECOND, SECOND = 10**3, 10**6, 10**9

PROTOCOLS = {
    "afp": "AFP", "camel": "CAMEL", "dcerpc": "DCE/RPC", "diameter": "Diameter", "fc": "Fibre Channel", "gtp": "GTP",
    "gtpv2": "GTPv2", "h225_ras": "H.225 RAS", "icmp": "ICMP", "icmpv6": "ICMPv6", "kerberos": "Kerberos",
    "ldap": "LDAP", "megaco": "MEGACO", "mgcp": "MGCP", "ncp": "NCP", "nfsv4": "NFSv4", "pfcp": "PFCP",
    "radius": "RADIUS", "rpc": "ONC-RPC", "scsi": "SCSI", "smb": "SMB", "smb2": "SMB2", "snmp": "SNMP",
}  # fmt: skip

# What stands between a name and the filter: its grammar, the form of its parts, an example.
ARGUMENTS = {
    "dcerpc,srt": (
        "UUID,VERSION",
        r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12},\d+\.\d+",
        "12345778-1234-abcd-ef00-0123456789ac,1.0",
        "",
    ),
    "rpc,srt": ("PROGRAM,VERSION", r"\d+,\d+", "100003,3", " (NFS version 3)"),
    "scsi,srt": (
        "SET",
        r"(?:0|1|5|8|17)(?!\d)",
        "0",
        "; the command sets are 0 (block), 1 (stream), 5 (multimedia), 8 (media changer), 17 (object)",
    ),
}

SUB_TABLES = ("smb,srt", "ncp,srt")  # these print several, each with the field that its procedures are numbered by
NUMBERED_AS_FOUND = ("diameter,srt", "gtp,srt", "gtpv2,srt", "pfcp,srt")  # their index differs from capture to capture


def _duration(name: str, role: str = "", **more: object) -> Column:
    return Column(name, "duration", "seconds", approximate=True, **({"role": role} if role else {}), **more)  # type: ignore[arg-type]


FRAMES = (
    Column("min_frame", "integer", merge="none", description="frame number of the fastest response"),
    Column("max_frame", "integer", merge="none", description="frame number of the slowest response"),
)


class ServiceTimes(Statistic):
    def __init__(self, name: str) -> None:
        protocol = name.removesuffix(",srt")
        self.name = name
        once = name in NUMBERED_AS_FOUND  # a second one aborts tshark
        self.engines = (TsharkText(self.parse, self.native, once=once),)
        self.title = f"{PROTOCOLS.get(protocol, protocol)} service response times"
        self._grammar, self._form, self.example, self._hint = ARGUMENTS.get(name, ("", "", "", ""))
        self.usage = ",".join(filter(None, (name, self._grammar))) + "[,FILTER]"
        self.description = (
            "Service response times per procedure: number of calls, and minimum, maximum, average and total time from "
            "request to response."
        )

    def columns(self, arguments: str) -> tuple[Column, ...]:
        self._split(arguments)
        table = Column("table", "text", role="key", description="field that identifies the procedure")
        return (
            *((table,) if self.name in SUB_TABLES else ()),
            *((Column("index", "integer", role="key"),) if self._indexed else ()),
            Column("procedure", "text", role="key"),
            Column("calls", "integer", "calls"),
            _duration("min_srt", merge="min", title="Min SRT"),
            _duration("max_srt", merge="max", title="Max SRT"),
            _duration("avg_srt", role="derived", title="Avg SRT"),
            _duration("sum_srt", title="Sum SRT"),
        )

    @property
    def _indexed(self) -> bool:
        return self.name not in NUMBERED_AS_FOUND

    def _split(self, arguments: str) -> tuple[str, str]:
        """What tshark must be told, and the filter."""
        if not self._form:
            return "", arguments
        found = re.fullmatch(rf"({self._form})(?:,(.*))?", arguments.strip(), re.DOTALL)
        if not found:
            raise RequestError(f"{self.name} needs {self._grammar}, e.g. -z {self.name},{self.example}{self._hint}")
        return found[1], found[2] or ""

    def filters(self, arguments: str) -> Sequence[str]:
        text = self._split(arguments)[1]
        return (text,) if text.strip() else ()

    def native(self, arguments: str, display_filter: str) -> str:
        given, own = self._split(arguments)
        return ",".join(filter(None, (self.name, given, both_filters(display_filter, own))))

    def parse(self, text: bytes, arguments: str) -> Parsed:
        body = _framed(r"[^\n]+ SRT Statistics:\n", text)
        rows: list[list[Value]] = []
        table = ""
        lines = iter(body)
        for line in lines:
            if line.startswith("Filter: "):
                table = line.removeprefix("Filter: ")
                if not re.fullmatch(
                    r"Index  .{22,} Calls    Min SRT    Max SRT    Avg SRT    Sum SRT", next(lines, "")
                ):
                    raise TextError("the table's header is another")
            elif line:
                index, procedure, calls, *times = _match(SERVICE, line)
                key: list[Value] = [table, int(index), procedure]
                kept = key if self.name in SUB_TABLES else key[1:] if self._indexed else key[2:]
                low, high, total = (_clock(times[at]) for at in (0, 1, 3))
                rows.append([*kept, int(calls), low, high, _credible(total, low, high, int(calls))])
        lost = any(row[-1] is None for row in rows)
        remark = "some responses come before their requests: tshark's sum of times is wrong and not shown"
        return Parsed(distinct(rows, len(rows[0]) - 4 if rows else 0), warnings=(remark,) if lost else ())

    def derive(self, table: Table) -> None:
        for row in table.rows:
            calls, total = row["calls"], row["sum_srt"]
            row["avg_srt"] = (2 * total + calls) // (2 * calls) if total is not None else None  # type: ignore[operator]

    def align(self, tables: Sequence[Table]) -> Sequence[Sequence[Row]]:
        return keep_unknown(tables, ["sum_srt"])


# tshark adds up seconds and fractions apart, so a fraction may be 0.1000000 or have a sign of its own.
CLOCK = r" *(-?\d+\.-?\d{6,7}|-?\d+\.-\d{5})"
SERVICE = re.compile(rf" *(\d+)  (.{{22,}}?) +(\d+){f' {CLOCK}' * 4}")


def _clock(text: str) -> int:
    seconds, fraction = text.split(".")
    return int(seconds) * SECOND + int(fraction) * MICROSECOND


def _credible(total: int, low: int, high: int, count: int) -> int | None:
    """The sum of so many times between these; None for what tshark makes of a sum below zero."""
    slack = (count + 1) * MICROSECOND
    return total if low * count - slack <= total <= high * count + slack else None


def _framed(heading: str, text: bytes) -> list[str]:
    """The lines between a statistic's heading and its closing line."""
    found = re.fullmatch(rf"\n=+\n{heading}((?:[^\n]*\n)*)=+\n", text_of(text))
    if not found:
        raise TextError("it does not begin and end as it should")
    return found[1].split("\n")[:-1]


def _match(form: re.Pattern[str], line: str) -> Sequence[str]:
    found = form.fullmatch(line)
    if not found:
        raise TextError(f"the line {line!r} is none that it should have")
    return [value.rstrip(" ") for value in found.groups()]


# rtd ---------------------------------------------------------------------------------------------------

MSEC = r" *(-?\d+\.\d\d) msec "
DELAY = rf"(.+) \| +(\d+)    \|{MSEC}\|{MSEC}\|{MSEC}\| +(\d+)  \| +(\d+)  \|"
DELAYS = re.compile(DELAY)
DELAYS_AND_LOSSES = re.compile(DELAY + r" +(\d+)  \| +(\d+)  \| +(\d+) \( *\d+\.\d\d%\) \| +(\d+) \( *\d+\.\d\d%\)  \|")
DELAY_HEADER = "Type    | Messages   |    Min RTD    |    Max RTD    |    Avg RTD    | Min in Frame | Max in Frame |"
LOSSES_HEADER = " Open Requests | Discarded responses | Duplicate requests | Duplicate responses"
WHOLE = re.compile(
    r"Duplicate requests: (\d+)\nDuplicate responses: (\d+)\nOpen requests: (\d+)\nDiscarded responses: (\d+)"
)
OVERALL = {"megaco,rtd": "ALL"}  # what tshark calls its row for all types


class ResponseDelays(Statistic):
    def __init__(self, name: str) -> None:
        self.engines = (TsharkText(self.parse),)
        protocol = name.removesuffix(",rtd")
        self.name = name
        self.title = f"{PROTOCOLS.get(protocol, protocol)} response time delays"
        self.usage = f"{name}[,FILTER]"
        self._overall = OVERALL.get(name, "Overall")
        self.description = (
            "Response time delays per message type: number of messages, and minimum, maximum and average time from "
            "request to response. Open and duplicate requests are shown per type, or in the row "
            f"{self._overall} if tshark counts them only in total."
        )
        if name == "megaco,rtd":
            self.description += " It needs -o megaco.ctx_info:TRUE -o h248.ctx_info:TRUE."

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return (
            Column("type", "text", role="key"),
            Column("messages", "integer", "messages"),
            _duration("min_rtd", merge="min", title="Min RTD"),
            _duration("max_rtd", merge="max", title="Max RTD"),
            _duration("avg_rtd", merge="none", title="Avg RTD"),
            *FRAMES,
            Column("open_requests", "integer", "requests"),
            Column("discarded_responses", "integer", "responses"),
            Column("duplicate_requests", "integer", "requests"),
            Column("duplicate_responses", "integer", "responses"),
        )

    def parse(self, text: bytes, arguments: str) -> Parsed:
        lines = _framed(r"[^\n]+ Response Time Delay \(RTD\) Statistics:\nFilter for statistics: [^\n]*\n", text)
        if lines[:1] == [DELAY_HEADER + LOSSES_HEADER]:
            rows = [self._row(DELAYS_AND_LOSSES, line) for line in lines[1:]]
        elif lines[4:5] == [DELAY_HEADER]:
            twice, answered_twice, unanswered, discarded = map(int, _match(WHOLE, "\n".join(lines[:4])))
            losses = [unanswered, discarded, twice, answered_twice]
            rows = [[*self._row(DELAYS, line), None, None, None, None] for line in lines[5:]]
            overall = next((row for row in rows if row[0] == self._overall), None)
            if overall:
                overall[-4:] = losses
            elif any(losses):
                rows.append([self._overall, 0, *[None] * 5, *losses])
        else:
            raise TextError("the table's header is another")
        return Parsed(distinct(rows, keys=1))

    def _row(self, form: re.Pattern[str], line: str) -> list[Value]:
        kind, messages, *rest = _match(form, line)
        return [kind, int(messages), *(decimal(time, MILLISECOND) for time in rest[:3]), *map(int, rest[3:])]


# icmp,srt and icmpv6,srt -------------------------------------------------------------------------------

ECHO_HEADING = r"ICMP(?:v6)? Service Response Time \(SRT\) Statistics \(all times in ms\):\nFilter: [^\n]*\n"
ECHOES = re.compile(
    r"\nRequests  Replies   Lost      % Loss\n(\d+) +(\d+) +\d+ *\d+\.\d%\n\n"
    r"Minimum   Maximum   Mean      Median    SDeviation     Min Frame Max Frame\n"
    r"(-?\d+\.\d{3}) *(-?\d+\.\d{3}) *(-?\d+\.\d{3}) *(-?\d+\.\d{3}) *(-?\d+\.\d{3}) +(\d+) +(\d+) *"
)


class EchoTimes(Statistic):
    def __init__(self, name: str) -> None:
        self.engines = (TsharkText(self.parse),)
        protocol = PROTOCOLS[name.removesuffix(",srt")]
        self.name = name
        self.title = f"{protocol} service response times"
        self.usage = f"{name}[,FILTER]"
        self.description = (
            f"One row for all {protocol} echo requests: requests, replies, and response times. tshark shows nothing if "
            "no request matches."
        )

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return (
            Column("requests", "integer", "requests"),
            Column("replies", "integer", "replies"),
            Column("lost", "integer", "requests", role="derived"),
            Column("loss", "number", "percent", role="derived"),
            _duration("minimum", merge="min"),
            _duration("maximum", merge="max"),
            _duration("mean", merge="none"),
            _duration("median", merge="none"),
            _duration("standard_deviation", merge="none"),
            *FRAMES,
        )

    def parse(self, text: bytes, arguments: str) -> Parsed:
        requests, replies, *rest = _match(ECHOES, "\n".join(_framed(ECHO_HEADING, text)))
        if not int(requests):
            return Parsed([])
        times: list[Value] = [*(decimal(time, MILLISECOND) for time in rest[:5]), *map(int, rest[5:])]
        return Parsed([[int(requests), int(replies), *(times if int(replies) else [None] * 7)]])

    def derive(self, table: Table) -> None:
        for row in table.rows:
            lost = row["requests"] - row["replies"]  # type: ignore[operator]
            # More replies than requests: some answer requests that are not there, nobody knows how many.
            row["lost"] = lost if lost >= 0 else None
            row["loss"] = 100 * lost / row["requests"] if lost >= 0 else None  # type: ignore[operator]


# camel,srt ---------------------------------------------------------------------------------------------

PERCENTILES = ("5", "10", "75", "90", "95", "99", "99_9")
CAMEL_HEADING = (
    "|        Category         | Measure |  Min SRT  |  Max SRT  |  Avg SRT  | Min frame | Max frame |",
    "|-------------------------|---------|-----------|-----------|-----------|-----------|-----------|",
)
CAMEL_CRITERIA = (
    "|   Category/Criteria     |   5.00% |  10.00% |  75.00% |  90.00% |  95.00% |  99.00% |  99.90% |",
    "|-------------------------|---------|---------|---------|---------|---------|---------|---------|",
)
CATEGORY = re.compile(
    r"\| *(\S+) \| *(\d+) \| *(-?\d+\.\d\d) (s |ms)\| *(-?\d+\.\d\d) \4\| *(-?\d+\.\d\d) \4\| *(\d+) \| *(\d+) \|"
)
CRITERIA = re.compile(r"X *(\S+) \|" + r" *(-?\d+\.\d\d) \|" * len(PERCENTILES))
MOST = 9999 * MILLISECOND  # what tshark writes for anything longer


class CamelTimes(Statistic):
    name = "camel,srt"
    title = "CAMEL service response times"
    usage = "camel,srt[,FILTER]"
    description = (
        "Response times per pair of CAMEL operations (and per TCAP session): count, times, and percentiles from 5 % to "
        "99.9 %. tshark does not distinguish times longer than 9.999 s: they are not shown."
    )

    def __init__(self) -> None:
        self.engines = (TsharkText(self.parse),)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return (
            Column("category", "text", role="key"),
            Column("measures", "integer", "measures"),
            _duration("min_srt", merge="min", title="Min SRT"),
            _duration("max_srt", merge="max", title="Max SRT"),
            _duration("avg_srt", merge="none", title="Avg SRT"),
            *FRAMES,
            *(_duration(f"percentile_{p}", merge="none", title=f"{p.replace('_', '.')} %") for p in PERCENTILES),
        )

    def parse(self, text: bytes, arguments: str) -> Parsed:
        found = re.fullmatch(
            r"\nCamel Service Response Time \(SRT\) Statistics:\n=+\n((?:\|.*\n)+)=+\n(\|.*\n(?:.*\n)*)=+\n",
            text_of(text),
        )
        if not found:
            raise TextError("it does not begin and end as it should")
        above, below = (part.split("\n")[:-1] for part in found.groups())
        if tuple(above[:2]) != CAMEL_HEADING or tuple(below[:2]) != CAMEL_CRITERIA:
            raise TextError("the table's header is another")
        within = {name: times for name, *times in (_match(CRITERIA, line) for line in below[2:])}
        rows: list[list[Value]] = []
        for line in above[2:]:
            name, count, low, unit, high, mean, *frames = _match(CATEGORY, line)
            if int(count):
                times = [(time, SECOND if unit == "s" else MILLISECOND) for time in (low, high, mean)]
                shown = [_below_most(*time) for time in times]
                percentiles = [_below_most(time, MILLISECOND) for time in within.get(name, ())]
                rows.append([name, int(count), *shown, *map(int, frames), *(percentiles or [None] * len(PERCENTILES))])
        remark = "tshark writes 9999.00 ms for all longer times: they are not shown"
        lost = any(value is None for row in rows for value in row[2:5])
        return Parsed(distinct(rows, keys=1), warnings=(remark,) if lost else ())

    def align(self, tables: Sequence[Table]) -> Sequence[Sequence[Row]]:
        return keep_unknown(tables, ["min_srt", "max_srt"])


def _below_most(text: str, unit: int) -> int | None:
    time = decimal(text, unit)
    return None if unit == MILLISECOND and time == MOST else time


# rpc,programs ------------------------------------------------------------------------------------------

PROGRAM_HEADER = "Program    Version  Calls    Min SRT    Max SRT    Avg SRT"
PROGRAM = re.compile(rf"(.+)\((-?\d+)\) +(\d+) +(\d+){f' {CLOCK}' * 3}")


class Programs(Statistic):
    name = "rpc,programs"
    title = "ONC-RPC programs"
    usage = "rpc,programs"
    description = (
        "Response times per ONC-RPC program and version: number of calls, and minimum, maximum and average time from "
        "call to reply. tshark loses the minimum if a reply has the timestamp of its call; it is not shown where it "
        "cannot be right."
    )

    def __init__(self) -> None:
        self.engines = (TsharkText(self.parse, takes_filter=False),)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        if arguments.strip():
            raise RequestError("rpc,programs takes no arguments and no filter: write -z rpc,programs")
        return (
            Column("program_number", "integer", role="key"),
            Column("version", "integer", role="key"),
            Column("program", "text", merge="first"),
            Column("calls", "integer", "calls"),
            _duration("min_srt", merge="min", title="Min SRT"),
            _duration("max_srt", merge="max", title="Max SRT"),
            _duration("avg_srt", merge="none", title="Avg SRT"),
        )

    def parse(self, text: bytes, arguments: str) -> Parsed:
        lines = _framed("ONC-RPC Program Statistics:\n", text)
        if lines[:1] != [PROGRAM_HEADER]:
            raise TextError("the table's header is another")
        rows = list(map(_program, lines[1:]))
        remark = "tshark lost a minimum of zero, or misread a negative time: the minimum is not shown"
        lost = any(value is None for row in rows for value in row)
        return Parsed(distinct(rows, keys=2), warnings=(remark,) if lost else ())

    def align(self, tables: Sequence[Table]) -> Sequence[Sequence[Row]]:
        return keep_unknown(tables, ["min_srt"])


def _program(line: str) -> list[Value]:
    name, number, version, calls, *times = _match(PROGRAM, line)
    low, high, mean = map(_clock, times)
    total = mean * int(calls)
    slack = (int(calls) + 1) * MICROSECOND
    # Of all times, one is the longest and one the shortest; the others lie between.
    most, least = high * (int(calls) - 1) + low, low * (int(calls) - 1) + high
    right = least - slack <= total <= (most if int(calls) > 1 else high) + slack
    shortest = low if right else None
    return [int(number) & 0xFFFFFFFF, int(version), name, int(calls), shortest, high, mean if mean <= high else None]


def _take(suffix: str, family: type[ServiceTimes | ResponseDelays], *others: str):  # type: ignore[no-untyped-def]
    return lambda name: family(name) if name.endswith(suffix) and name not in others else None


@hookimpl
def register_families(register):  # type: ignore[no-untyped-def]
    echoes = ("icmp,srt", "icmpv6,srt")
    register("icmp_srt", lambda name: EchoTimes(name) if name in echoes else None)
    register("camel_srt", lambda name: CamelTimes() if name == "camel,srt" else None)
    register("srt", _take(",srt", ServiceTimes, "camel,srt", *echoes))
    register("rtd", _take(",rtd", ResponseDelays))
    register("rpc_programs", lambda name: Programs() if name == "rpc,programs" else None)
