"""http,stat rtsp,stat sip,stat wsp,stat gsm_a: how often each code, method or message type was seen."""

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

RULE = b"=" * 67
MILLISECOND = 10**6  # in nanoseconds

CODES = (
    Column("kind", "text", role="key", description="response or request (wsp: status or pdu)"),
    Column("code", "integer", role="key", description="status code; empty for requests"),
    Column("name", "text", role="key", description="meaning of the code, or request method"),
    Column("packets", "integer", "packets"),
)


class Lines:
    """The lines of a text, taken one after the other; what was not expected is a TextError."""

    def __init__(self, text: bytes) -> None:
        self._lines = text.split(b"\n")
        self._at = 0

    def expect(self, *wanted: bytes) -> None:
        for line in wanted:
            if self.next() != line:
                raise TextError(f"there is no line {text_of(line)!r} where it should be")

    def next(self) -> bytes:
        if self._at == len(self._lines):
            raise TextError("the text ends early")
        self._at += 1
        return self._lines[self._at - 1]

    def skip_to(self, wanted: bytes) -> None:
        while self.next() != wanted:
            pass

    def until(self, wanted: bytes) -> list[bytes]:
        """The lines before the next one that is this, which is passed, too."""
        start = self._at
        self.skip_to(wanted)
        return self._lines[start : self._at - 1]

    def end(self) -> None:
        if self._lines[self._at :] != [b""]:
            raise TextError("there is text after the end of the table")


def cells(lines: Sequence[bytes], pattern: bytes, layout: bytes) -> list[tuple[int | str, ...]]:
    """The cells of each line: numbers as integers, the others as text.

    Printing them again in tshark's layout must give the same line: then no name from a packet can pass for
    something else.
    """
    kinds = re.findall(rb"%[-\d]*([bd])", layout)
    found = []
    for line in lines:
        match = re.fullmatch(pattern, line, re.DOTALL)
        groups = match.groups() if match else ()
        raw = [int(cell) if kind == b"d" else cell for kind, cell in zip(kinds, groups, strict=False)]
        if match is None or line.rstrip(b" ") != (layout % tuple(raw)).rstrip(b" "):
            raise TextError(f"the line {text_of(line)!r} is none that is known")
        found.append(tuple(text_of(cell) if isinstance(cell, bytes) else cell for cell in raw))
    return found


def counted(rows: list[list[Value]], keys: int) -> list[list[Value]]:
    """Rows that count something. TextError where two have the same key, which are then not what they seem."""
    if len({tuple(row[:keys]) for row in rows}) != len(rows):
        raise TextError("two rows have the same name")
    return [row for row in rows if any(row[keys:])]


class CodeCounter(Statistic):
    """http,stat and rtsp,stat."""

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol.upper()
        self.engines = (TsharkText(self.parse),)
        self.name = f"{protocol},stat"
        self.title = f"{self.protocol} response codes and request methods"
        self.usage = f"{protocol},stat[,FILTER]"
        self.description = (
            f"Number of {self.protocol} messages per status code or request method. Status codes that tshark does not "
            "know count as the last of their hundred (199, 299, ...); those from 600 on do not count."
        )

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return CODES

    def parse(self, text: bytes, arguments: str) -> Parsed:
        name = self.protocol.encode()
        lines = Lines(text)
        lines.expect(b"", RULE)
        if not lines.next().startswith(name + b" Statistics"):
            raise TextError(f"it does not begin with {self.protocol} Statistics")
        lines.skip_to(b"* %-41b Packets" % (name + b" Response Status Codes"))  # past the filter's own lines
        responses = lines.until(b"* %-41b Packets" % (name + b" Request Methods"))
        requests = lines.until(RULE)
        lines.end()
        rows: list[list[Value]] = [
            ["response", code, meaning, packets]
            for code, meaning, packets in cells(responses, rb"  ( *\d+) (.*?) *( \d+)", b"  %3d %-35b %9d")
        ]
        rows += (
            ["request", None, method, packets]
            for method, packets in cells(requests, rb"  (.*?) *( \d+) ?", b"  %-39b %9d")
        )
        return Parsed(counted(rows, 3))

    def order(self, table: Table) -> None:
        by_code(table)


def by_code(table: Table) -> None:
    """Requests by their number, then responses by their code."""
    sort_rows(
        table,
        lambda row: (
            row["kind"] in ("response", "status"),
            row["code"] or 0,
            -(row["packets"] or 0),  # type: ignore[operator]
            row["name"] or "",
        ),
    )


class Sip(Statistic):
    name = "sip,stat"
    title = "SIP messages, response codes and request methods"
    usage = "sip,stat[,FILTER]"
    description = (
        "Number of SIP messages per status code or request method. The row 'all' has all messages, including "
        "continuations and resent messages, and the call setup times (in whole milliseconds)."
    )

    def __init__(self) -> None:
        self.engines = (TsharkText(self.parse),)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        setup = {"unit": "seconds", "approximate": True}
        return (
            *CODES,
            Column("messages", "integer", "messages", description="all SIP messages"),
            Column("resent_messages", "integer", "messages", description="messages that were resent"),
            Column("mean_setup_time", "duration", merge="none", **setup),  # type: ignore[arg-type]
            Column("min_setup_time", "duration", merge="min", **setup),  # type: ignore[arg-type]
            Column("max_setup_time", "duration", merge="max", **setup),  # type: ignore[arg-type]
        )

    def parse(self, text: bytes, arguments: str) -> Parsed:
        head, found, body = text.partition(b"\n\nNumber of SIP messages: ")
        if not found or not head.startswith(b"\n%b\nSIP Statistics" % RULE):
            raise TextError("it does not begin with SIP Statistics")
        lines = Lines(body)
        try:
            messages = int(lines.next())
            resent = self._number(lines, b"Number of resent SIP messages: ", b"")
            lines.expect(b"", b"* SIP Status Codes in reply packets")
            responses = lines.until(b"* List of SIP Request methods")
            requests = lines.until(b"")
            mean = self._number(lines, b"* Average setup time ", b" ms")
            least = self._number(lines, b" Min ", b" ms")
            most = self._number(lines, b" Max ", b" ms")
        except ValueError as problem:
            raise TextError(f"a total is no number ({problem})") from None
        lines.expect(RULE)
        lines.end()
        if responses.pop() != b"":
            raise TextError("there is no empty line after the status codes")
        nothing: list[Value] = [None] * 5
        rows: list[list[Value]] = [
            ["response", code, meaning, packets, *nothing]
            for code, meaning, packets in cells(
                responses, rb"  SIP ( *\d+) (.*?) * : ( *\d+) Packets", b"  SIP %3d %-15b : %5d Packets"
            )
        ]
        rows += (
            ["request", None, method, packets, *nothing]
            for method, packets in cells(requests, rb"  (.*?) * : ( *\d+) Packets", b"  %-15b : %5d Packets")
        )
        if sum(row[3] for row in rows) > messages:  # type: ignore[misc]
            raise TextError("its rows count more messages than there were")
        # tshark counts no call that was set up within a millisecond: zeros mean that there was none.
        setup = [time * MILLISECOND if most else None for time in (mean, least, most)]
        rows.append(["all", None, None, None, messages, resent, *setup])
        return Parsed(counted(rows, 3))

    def _number(self, lines: Lines, before: bytes, after: bytes) -> int:
        line = lines.next()
        if not line.startswith(before) or not line.endswith(after):
            raise ValueError(text_of(line))
        return int(line[len(before) : len(line) - len(after)])

    def order(self, table: Table) -> None:
        by_code(table)
        sort_rows(table, lambda row: row["kind"] != "all")


class Wsp(Statistic):
    name = "wsp,stat"
    title = "WSP PDU types and status codes"
    usage = "wsp,stat[,FILTER]"
    description = "Number of WSP PDUs per type, and of replies per status code. tshark does not count Put."

    def __init__(self) -> None:
        self.engines = (TsharkText(self.parse),)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return CODES

    def parse(self, text: bytes, arguments: str) -> Parsed:
        lines = Lines(text)
        lines.expect(b"", RULE, b"WSP Statistics:")
        lines.expect(b"%-23b %9b || %-23b %9b" % ((b"PDU Type", b"Packets") * 2))
        kinds = lines.until(b"")
        lines.expect(b"Status code in reply packets", b"Status Code    Packets  Description")
        codes = lines.until(RULE)
        lines.end()
        both = [half for line in kinds for half in re.split(rb" \|\| ", line) if half]
        rows: list[list[Value]] = [
            ["pdu", None, name, packets] for name, packets in cells(both, rb"(\S.*?) *( \d+)", b"%-23b %9d")
        ]
        for line in codes:
            match = re.fullmatch(rb" {7}0x([0-9A-F]{2,})  ( *\d+)  (.*)", line)
            if match is None:
                raise TextError(f"the line {text_of(line)!r} is no status code")
            # 4.0 and 4.4 print "(null)" for many codes that they know.
            name = None if match[3] == b"(null)" else text_of(match[3])
            rows.append(["status", int(match[1], 16), name, int(match[2])])
        return Parsed(counted(rows, 3))

    def order(self, table: Table) -> None:
        by_code(table)


class GsmA(Statistic):
    name = "gsm_a"
    title = "GSM A interface messages"
    usage = "gsm_a"
    description = (
        "Number of messages per type on the GSM A and Um interfaces, by protocol (BSSMAP, the DTAP protocols, SACCH). "
        "tshark does not count types that it has no name for."
    )

    _HEADER = b"Message (ID)Type                                        Number"

    def __init__(self) -> None:
        self.engines = (TsharkText(self.parse, takes_filter=False),)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        if arguments.strip():
            raise RequestError("gsm_a takes no arguments and no filter: write -z gsm_a")
        return (
            Column("protocol", "text", role="key"),
            Column("id", "integer", role="key", description="number of the message type"),
            Column("message", "text", role="key"),
            Column("count", "integer", "messages"),
        )

    def filters(self, arguments: str) -> Sequence[str]:
        return ()

    def parse(self, text: bytes, arguments: str) -> Parsed:
        lines = Lines(text)
        lines.expect(b"", b"=========== GS=M A-i/f Statistics ============================")
        body = lines.until(b"=" * 62)
        lines.end()
        rows: list[list[Value]] = []
        for section in b"\n".join(body).split(b"\n\n"):
            title, header, *types = section.split(b"\n")
            if header != self._HEADER:
                raise TextError("a part has not the header that is known")
            for line in types:
                # A name that fills its column and ends in a digit would run into the number.
                match = re.fullmatch(rb"0x([0-9a-f]{2,})  (?=.{50})(.*[^\d ]|.*\d(?= )) *(\d+)", line)
                if match is None or line[6:] != b"%-50b%b" % (match[2], match[3]):
                    raise TextError(f"the line {text_of(line)!r} is no message type")
                rows.append([text_of(title), int(match[1], 16), text_of(match[2]), int(match[3])])
        return Parsed(counted(rows, 3))


def take(name: str) -> Statistic | None:
    """The statistic of that name, if it is of this family."""
    if name in ("http,stat", "rtsp,stat"):
        return CodeCounter(name.partition(",")[0])
    return next((kind() for kind in (Sip, Wsp, GsmA) if kind.name == name), None)


@hookimpl
def register_families(register):  # type: ignore[no-untyped-def]
    register("code_counter", take)
