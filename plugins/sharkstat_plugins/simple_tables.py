"""tshark's simple tables: messages counted by type, for DHCP, GSM, ANSI, H.225, CAMEL, MTP3, RSerPool and NetPerfMeter.

tshark prints a row for every type that it knows; those that never came are left out here. Shares, rates and totals
are computed here: in tshark's own text, a share is whatever the row above it printed last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sharkstat import Column, Parsed, Row, Statistic, Table, TextError, TsharkText, Value, hookimpl, text_of
from sharkstat_plugins.tshark_text import decimal, distinct

SECOND = 10**9

CELLS = {
    "text": r".*",
    "integer": r"0x[0-9a-f]+|[0-9]+",
    "time": r"-?[0-9]+\.[0-9]{6}",
    "": r"-?([0-9]+(\.[0-9]+)?|inf|nan)( %)?",  # not read
}


@dataclass(frozen=True)
class Layout:
    """How one kind of table is printed: its header, what each cell is, and what is computed from them.

    The header may have the protocol's name before it. `cells` names the column of each cell; "" for a cell that is
    not read. A row counts something where any of `counts` is not 0; the others may end early. `lengths` says how
    many cells a row may have that counts something, where that is not all.
    """

    header: str
    columns: tuple[Column, ...]
    cells: tuple[str, ...]
    counts: tuple[str, ...]
    lengths: tuple[int, ...] = ()
    derive: Callable[[Table], None] = lambda table: None


def _ratio(row: Row, name: str, over: str) -> float | None:
    return row[name] / row[over] if row[over] else None  # type: ignore[operator]


def _shares_and_rates(table: Table) -> None:
    for unit, share, rate in (("messages", "message_share", "message_rate"), ("bytes", "byte_share", "byte_rate")):
        whole = table.total(unit)
        for row in table.rows:
            row["interval"] = interval = row["last_seen"] - row["first_seen"]  # type: ignore[operator]
            row[share] = 100 * row[unit] / whole if whole else None  # type: ignore[operator]
            row[rate] = row[unit] * 10**9 / interval if interval > 0 else None  # type: ignore[operator]


def _mean_bytes(count: str) -> Callable[[Table], None]:
    def derive(table: Table) -> None:
        for row in table.rows:
            row["avg_bytes"] = _ratio(row, "bytes", count)

    return derive


def _map_totals(table: Table) -> None:
    for row in table.rows:
        row["total_bytes"] = row["invoke_bytes"] + row["result_bytes"]  # type: ignore[operator]
        row["avg_invoke_bytes"] = _ratio(row, "invoke_bytes", "invokes")
        row["avg_result_bytes"] = _ratio(row, "result_bytes", "results")
        messages = row["invokes"] + row["results"]  # type: ignore[operator]
        row["avg_bytes"] = row["total_bytes"] / messages if messages else None  # type: ignore[operator]


MESSAGE_COUNT = Column("messages", "integer", "messages")
BYTE_COUNT = Column("bytes", "integer", "bytes")
MEAN_BYTES = Column("avg_bytes", "number", "bytes", role="derived")


def _typed(header: str, count: Column) -> Layout:
    kind = Column("message_type", "text", role="key")
    return Layout(header, (kind, count), ("message_type", count.name), (count.name,))


NAMED = Layout(
    "IEI |Message Name |Count |",
    (
        Column("iei", "integer", role="key", title="IEI"),
        Column("message_name", "text", role="key"),
        Column("count", "integer", "messages"),
    ),
    ("iei", "message_name", "count"),
    ("count",),
)
COUNTED = _typed("Message Type or Reason |Count |", Column("count", "integer", "messages"))
DHCP = _typed("Message Type |Packets |", Column("packets", "integer", "packets"))
H225 = Layout(
    COUNTED.header,
    (Column("kind", "text", role="key"), Column("message_type_or_reason", "text", role="key"), COUNTED.columns[1]),
    ("message_type_or_reason", "count"),
    ("count",),
)
RATED = Layout(
    "Message Type |Messages  |Messages Share (%) |Bytes (B) |Bytes Share (%)  |First Seen (s) |Last Seen (s) "
    "|Interval (s) |Message Rate (Msg/s) |Byte Rate (B/s) |",
    (
        Column("message_type", "text", role="key"),
        MESSAGE_COUNT,
        Column("message_share", "number", "percent", role="derived"),
        BYTE_COUNT,
        Column("byte_share", "number", "percent", role="derived"),
        Column("first_seen", "time", merge="min", approximate=True),
        Column("last_seen", "time", merge="max", approximate=True),
        Column("interval", "duration", "seconds", role="derived", approximate=True),
        Column("message_rate", "number", "messages/s", role="derived", approximate=True),
        Column("byte_rate", "number", "bytes/s", role="derived", approximate=True),
    ),
    ("message_type", "messages", "", "bytes", "", "first_seen", "last_seen", "", "", ""),
    ("messages",),
    lengths=(7, 10),
    derive=_shares_and_rates,
)
OPERATIONS = Layout(
    "ID |Operation Code |Invokes |Num Bytes |Avg Bytes |Return Result |Num Bytes |Avg Bytes |Total Bytes |Avg Bytes |",
    (
        Column("operation_code", "integer", role="key"),
        Column("operation", "text", role="key"),
        Column("invokes", "integer", "messages"),
        Column("invoke_bytes", "integer", "bytes"),
        Column("avg_invoke_bytes", "number", "bytes", role="derived"),
        Column("results", "integer", "messages", title="Return Results"),
        Column("result_bytes", "integer", "bytes"),
        Column("avg_result_bytes", "number", "bytes", role="derived"),
        Column("total_bytes", "integer", "bytes", role="derived"),
        MEAN_BYTES,
    ),
    ("operation_code", "operation", "invokes", "invoke_bytes", "", "results", "result_bytes", "", "", ""),
    ("invokes", "invoke_bytes", "results", "result_bytes"),
    derive=_map_totals,
)
ANSI_MAP = Layout(
    "OpCode |Operation Name |Count |Total Bytes |Avg Bytes |",
    (
        Column("operation_code", "integer", role="key"),
        Column("operation", "text", role="key"),
        Column("count", "integer", "messages"),
        BYTE_COUNT,
        MEAN_BYTES,
    ),
    ("operation_code", "operation", "count", "bytes", ""),
    ("count", "bytes"),
    derive=_mean_bytes("count"),
)
UNITS = Layout(
    "OPC |DPC |SI |MSUs |Bytes |Avg Bytes |",
    (
        Column("opc", "text", role="key", title="OPC", description="originating point code"),
        Column("dpc", "text", role="key", title="DPC", description="destination point code"),
        Column("si", "text", role="key", title="SI", description="service indicator: the user part of the message"),
        Column("msus", "integer", "messages", title="MSUs"),
        BYTE_COUNT,
        MEAN_BYTES,
    ),
    ("opc", "dpc", "si", "msus", "bytes", ""),
    ("msus", "bytes"),
    derive=_mean_bytes("msus"),
)

TYPES = "Number of messages per message type."
RATES = (
    "Messages and bytes per message type, their share of the total, the times of the first and the last message, "
    "and the rate between them."
)
TABLES = {
    "ansi_a,bsmap": ("ANSI A-interface BSMAP messages", NAMED, TYPES),
    "ansi_a,dtap": ("ANSI A-interface DTAP messages", NAMED, TYPES),
    "ansi_map": ("ANSI MAP operations", ANSI_MAP, "Messages and bytes per operation."),
    "asap,stat": ("ASAP messages", RATED, RATES),
    "calcappprotocol,stat": ("CalcAppProtocol messages", RATED, RATES),
    "camel,counter": ("CAMEL messages", COUNTED, TYPES),
    "componentstatusprotocol,stat": ("ComponentStatusProtocol messages", RATED, RATES),
    "dhcp,stat": ("DHCP messages", DHCP, TYPES),
    "enrp,stat": ("ENRP messages", RATED, RATES),
    "fractalgeneratorprotocol,stat": ("FractalGeneratorProtocol messages", RATED, RATES),
    "gsm_a,bssmap": ("GSM A-interface BSSMAP messages", NAMED, TYPES),
    "gsm_a,dtap_cc": ("GSM A-interface DTAP call control messages", NAMED, TYPES),
    "gsm_a,dtap_gmm": ("GSM A-interface DTAP GPRS mobility management messages", NAMED, TYPES),
    "gsm_a,dtap_mm": ("GSM A-interface DTAP mobility management messages", NAMED, TYPES),
    "gsm_a,dtap_rr": ("GSM A-interface DTAP radio resource messages", NAMED, TYPES),
    "gsm_a,dtap_sacch": ("GSM A-interface SACCH messages", NAMED, TYPES),
    "gsm_a,dtap_sm": ("GSM A-interface DTAP GPRS session management messages", NAMED, TYPES),
    "gsm_a,dtap_sms": ("GSM A-interface DTAP short message service messages", NAMED, TYPES),
    "gsm_a,dtap_ss": ("GSM A-interface DTAP supplementary services messages", NAMED, TYPES),
    "gsm_a,dtap_tp": ("GSM A-interface DTAP conformance testing messages", NAMED, TYPES),
    "gsm_map,operation": (
        "GSM MAP operations",
        OPERATIONS,
        "Invocations and returned results per operation, with their bytes.",
    ),
    "h225,counter": (
        "H.225 messages and reasons",
        H225,
        "Number of messages per message type, and per reason that they give. The kind tells which messages they are, "
        "or which message the reason belongs to.",
    ),
    "mtp3,msus": (
        "MTP3 signal units",
        UNITS,
        "Message signal units (MSUs) and bytes per originating and destination point code and service indicator.",
    ),
    "npm,stat": ("NetPerfMeter messages", RATED, RATES),
    "pingpongprotocol,stat": ("PingPongProtocol messages", RATED, RATES),
    "ssprotocol,stat": ("ScriptingServiceProtocol messages", RATED, RATES),
}

# The kinds of messages and reasons that h225,counter prints one after the other, unnamed, and the first of each.
H225_KINDS = (
    ("gatekeeperRequest", "RAS message"),
    ("setup", "call signalling message"),
    ("resourceUnavailable", "gatekeeperReject reason"),
    ("discoveryRequired", "registrationReject reason"),
    ("reregistrationRequired", "unregistrationRequest reason"),
    ("notCurrentlyRegistered", "unregistrationReject reason"),
    ("calledPartyNotRegistered", "admissionReject reason"),
    ("notBound", "bandwidthReject reason"),
    ("forcedDrop", "disengageRequest reason"),
    ("notRegistered", "disengageReject reason"),
    ("notRegistered", "locationReject reason"),
    ("notRegistered", "infoRequestNak reason"),
    ("noBandwidth", "releaseComplete reason"),
    ("routeCallToGatekeeper", "facility reason"),
    ("Unknown H.225 message", "other"),
)


class SimpleTable(Statistic):
    def __init__(self, name: str) -> None:
        self.name = name
        # tshark keeps one table of each, whatever the filters (ui/cli/tap-simple_stattable.c)
        self.engines = (TsharkText(self.parse, once=True),)
        self.title, self._layout, self.description = TABLES[name]
        self.usage = f"{name}[,FILTER]"

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return self._layout.columns

    def parse(self, text: bytes, arguments: str) -> Parsed:
        layout = self._layout
        found = re.fullmatch(
            r"\n=+\n[^\n]+:\nFilter for statistics: [^\n]*\n([^\n]*)\n[^|\n]+\n((?:[^\n]*\n)*)=+\n", text_of(text)
        )
        if not found:
            raise TextError("it does not begin and end as it should")
        if not re.fullmatch(rf"(\w+ )?{re.escape(layout.header)}", found[1]):
            raise TextError("the table's header is another")
        rows = [self._row(line) for line in found[2].split("\n") if line]  # tshark has empty lines for no message
        if layout is H225:
            _add_kinds(rows)
        given = [column for column in layout.columns if column.role != "derived"]
        counted = [[row[c.name] for c in given] for row in rows if any(row[name] for name in layout.counts)]
        return Parsed(distinct(counted, keys=sum(column.role == "key" for column in given)))

    def _row(self, line: str) -> Row:
        layout = self._layout
        *cells, end = line.split("|")
        names = layout.cells[: len(cells)]
        if end or len(names) != len(cells) or not set(layout.counts) <= set(names):
            raise TextError(f"the line {line!r} is none that it should have")
        types = {column.name: column.type for column in layout.columns}
        row: Row = {}
        for name, cell in zip(names, map(str.strip, cells), strict=True):
            kind = types.get(name, "")
            if not re.fullmatch(CELLS[kind], cell):
                raise TextError(f"the line {line!r} is none that it should have")
            if name:
                row[name] = cell if kind == "text" else int(cell, 0) if kind == "integer" else decimal(cell, SECOND)
        if any(row[name] for name in layout.counts) and len(cells) not in (layout.lengths or (len(layout.cells),)):
            raise TextError(f"the line {line!r} ends too early")
        return row

    def derive(self, table: Table) -> None:
        self._layout.derive(table)


def _add_kinds(rows: Sequence[Row]) -> None:
    """Say which kind each row of h225,counter is of. TextError if they are not the kinds that are known."""
    passed = 0
    for row in rows:
        if passed < len(H225_KINDS) and row["message_type_or_reason"] == H225_KINDS[passed][0]:
            passed += 1
        row["kind"] = H225_KINDS[max(passed - 1, 0)][1]
    if passed < len(H225_KINDS) or rows[0]["message_type_or_reason"] != H225_KINDS[0][0]:
        raise TextError("its messages and reasons are not those that are known")


# oran-fh-cus,stat (4.6) --------------------------------------------------------------------------------

ORAN_TITLES = (
    " Plane", "eAxC ID ", "Direction  ", "Frames ", "Largest PDU  ", "Section Types                ",
    "Section IDs        ", "Extensions", "Highest Slot", "Missing SNs   ", "PRBs", "Zero-PRBs      ",
    "REs ", "Zero-REs",
)  # fmt: skip
# Lists end in a space, so two stand between them whatever their width.
ORAN_LIST = r" *(-|(?:[0-9]+ )+)"
ORAN_FLOW = r" +([0-9]+) +(UL|DL) +([0-9]+) +([0-9]+) "
ORAN_CONTROL = re.compile(rf" {{5}}(C){ORAN_FLOW}{ORAN_LIST} {ORAN_LIST} {ORAN_LIST} +([0-9]+) +([0-9]+)")
ORAN_USER = re.compile(
    rf" {{5}}(U){ORAN_FLOW} {{17}} {ORAN_LIST} {ORAN_LIST} +([0-9]+) +([0-9]+) +([0-9]+) +([0-9]+) +([0-9]+) +([0-9]+)"
)
ORAN_LONGEST = 62  # tshark cuts lists off


class OranFlows(Statistic):
    name = "oran-fh-cus,stat"
    title = "O-RAN fronthaul flows"
    usage = "oran-fh-cus,stat[,FILTER]"
    description = "O-RAN fronthaul control and user plane flows, with their frames and contents."

    def __init__(self) -> None:
        self.engines = (TsharkText(self.parse, once=True),)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return (
            Column("plane", "text", role="key"),
            Column("eaxc_id", "integer", role="key", title="eAxC ID"),
            Column("direction", "text", role="key"),
            Column("frames", "integer", "frames"),
            Column("largest_pdu", "integer", "bytes", merge="max", title="Largest PDU"),
            Column("section_types", "text", merge="none"),
            Column("section_ids", "text", merge="none", title="Section IDs"),
            Column("extensions", "text", merge="none"),
            Column("highest_slot", "integer", merge="max"),
            Column("missing_sns", "integer", title="Missing SNs"),
            Column("prbs", "integer", title="PRBs"),
            Column("zero_prbs", "integer", title="Zero PRBs"),
            Column("res", "integer", title="REs"),
            Column("zero_res", "integer", title="Zero REs"),
        )

    def parse(self, text: bytes, arguments: str) -> Parsed:
        header, frame, *lines = text_of(text).split("\n")
        if (
            header != "".join(f"{title}  " for title in ORAN_TITLES)
            or not re.fullmatch("=+", frame)
            or lines[-1:] != [""]
        ):
            raise TextError("the table's header is another")
        return Parsed(distinct(list(map(_flow, lines[:-1])), keys=3))


def _flow(line: str) -> list[Value]:
    found = ORAN_CONTROL.fullmatch(line) or ORAN_USER.fullmatch(line)
    if not found:
        raise TextError(f"the line {line!r} is none that it should have")
    plane, eaxc, direction, frames, largest, *rest = found.groups()
    lists = rest[:3] if plane == "C" else ["", *rest[:2]]
    numbers = rest[len(lists) if plane == "C" else 2 :]
    if any(len(text) >= ORAN_LONGEST for text in lists):
        raise TextError("a list may be cut off")
    shown: list[Value] = [text.replace("-", "").strip() or None for text in lists]
    resources: list[Value] = [None] * 4 if plane == "C" else [int(number) for number in numbers[2:]]
    flow: list[Value] = [plane, int(eaxc), direction, int(frames), int(largest), *shown]
    return [*flow, int(numbers[0]), int(numbers[1]), *resources]


def _take(name: str) -> Statistic | None:
    if name == OranFlows.name:
        return OranFlows()
    return SimpleTable(name) if name in TABLES else None


@hookimpl
def register_families(register):  # type: ignore[no-untyped-def]
    register("simple_stat", _take)
