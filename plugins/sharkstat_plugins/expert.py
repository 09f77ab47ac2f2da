"""expert: what tshark remarks on packets: errors, warnings, notes, chats and comments."""

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
    both_filters,
    hookimpl,
    sort_rows,
    text_of,
)

# The word in a request, tshark's heading, and Wireshark's name for it, from the worst.
SEVERITIES = (
    ("error", b"Errors", "Error"),
    ("warn", b"Warns", "Warning"),
    ("note", b"Notes", "Note"),
    ("chat", b"Chats", "Chat"),
    ("comment", b"Comments", "Comment"),
)
WORDS = [word for word, _, _ in SEVERITIES]
RANK = {name: rank for rank, (_, _, name) in enumerate(SEVERITIES)}
NEARLY = {"errors": "error", "warning": "warn", "warnings": "warn", "warns": "warn"}
NEARLY |= {f"{word}s": word for word in ("note", "chat", "comment")}

_GROUPS = (
    rb"Checksum|Sequence|Response|Request|Undecoded|Reassemble|Malformed|Debug|Protocol|Security|Comments?|"
    rb"Decryption|Assumption|Deprecated|Receive|Interface|Dissector bug|Unknown \(-?\d+\)"
)
_HEADING = re.compile(
    rb"\n(Errors|Warns|Notes|Chats|Comments) \((\d+)\)\n={13}\n   Frequency      Group           Protocol  Summary\n"
)
_ROW = re.compile(rb"( *\d+) ( *(?:" + _GROUPS + rb")) ( .{17}|[^ ].{17,}?)  (.*)")


class Expert(Statistic):
    name = "expert"
    title = "Expert information"
    usage = "expert[,error|,warn|,note|,chat|,comment][,FILTER]"
    description = (
        "tshark's expert information: errors, warnings, notes, chats and packet comments, with their counts. If a "
        "severity is given, only that one and more severe ones. Summaries are truncated to 239 bytes; if one occurs in "
        "several groups, tshark names only the first."
    )

    def __init__(self) -> None:
        self.engines = (TsharkText(self.parse, self.native),)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        _asked(arguments)
        return (
            Column("severity", "text", role="key"),
            Column("group", "text", merge="first"),
            Column("protocol", "text", role="key"),
            Column("summary", "text", role="key"),
            Column("count", "integer", "remarks"),
        )

    def filters(self, arguments: str) -> Sequence[str]:
        _, own = _asked(arguments)
        return (own,) if own else ()

    def native(self, arguments: str, display_filter: str) -> str:
        # tshark has one severity for all the "expert" of a run, the last that it was told, and takes the
        # beginning of a filter such as "notes.x" for one: it is asked for everything.
        _, own = _asked(arguments)
        return ",".join(filter(None, ("expert,comment", both_filters(display_filter, own))))

    def parse(self, text: bytes, arguments: str) -> Parsed:
        least, _ = _asked(arguments)
        headings = list(_HEADING.finditer(text))
        if not headings and not text:
            return Parsed([])  # tshark prints nothing at all where there are no remarks
        if not headings or headings[0].start() != 0:
            raise TextError("it does not begin with a severity")
        order = [RANK[_name(heading[1])] for heading in headings]
        if order != sorted(set(order)):
            raise TextError("its severities are not in their order")
        ends = [heading.start() for heading in headings[1:]] + [len(text)]
        rows: list[list[Value]] = []
        for heading, end in zip(headings, ends, strict=True):
            found = _rows(_name(heading[1]), text[heading.end() : end])
            # A summary that spans lines may look like a row of its own, but cannot change the total above it.
            if sum(row[4] for row in found) != int(heading[2]) or not all(row[4] for row in found):  # type: ignore[misc]
                raise TextError("its rows do not add up to their total: a summary looks like a row")
            rows += found
        if len({(row[0], row[2], row[3]) for row in rows}) != len(rows):
            raise TextError("a summary is there twice")
        return Parsed([row for row in rows if RANK[str(row[0])] <= least])

    def order(self, table: Table) -> None:
        sort_rows(table, lambda row: (RANK[row["severity"]], -row["count"], row["protocol"], row["summary"]))  # type: ignore[index,operator]


def _asked(arguments: str) -> tuple[int, str]:
    """The rank of the least severity that is asked for, and the filter."""
    first, _, rest = arguments.strip().partition(",")
    word = first.strip().lower()
    if word in WORDS:
        return WORDS.index(word), rest.strip()
    if word in NEARLY:
        raise RequestError(f"expert has no severity {word!r}; did you mean {NEARLY[word]!r}?")
    return len(WORDS) - 1, arguments.strip()


def _name(heading: bytes) -> str:
    return next(name for _, known, name in SEVERITIES if known == heading)


def _rows(severity: str, body: bytes) -> list[list[Value]]:
    """The rows of one severity. A line that is no row goes on with the summary above it."""
    found: list[tuple[bytes, bytes, int, list[bytes]]] = []
    for line in body[:-1].split(b"\n"):
        match = _ROW.fullmatch(line)
        if match is not None:
            group, protocol = match[2].strip(b" "), match[3].strip(b" ")
            if line != b"%12d %10b %18b  %b" % (int(match[1]), group, protocol, match[4]):
                raise TextError(f"the line {text_of(line)!r} is no remark")
            found.append((group, protocol, int(match[1]), [match[4]]))
        elif found:
            found[-1][3].append(line)
        else:
            raise TextError(f"the line {text_of(line)!r} is no remark")
    return [
        [severity, text_of(group), text_of(protocol), text_of(b"\n".join(summary)), count]
        for group, protocol, count, summary in found
    ]


def take(name: str) -> Statistic | None:
    """The statistic of that name, if it is of this family."""
    return Expert() if name == Expert.name else None


@hookimpl
def register_families(register):  # type: ignore[no-untyped-def]
    register("expert", take)
