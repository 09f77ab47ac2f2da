"""io,phs: which protocols packets are made of, and how many packets and bytes each carries."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sharkstat import Column, Parsed, Row, Statistic, Table, TextError, TsharkText, Value, hookimpl, sort_rows, text_of

LEVELS = 16  # how many levels tshark indents; what is deeper begins with three dots
LONGEST = 79  # how much of an indented name it keeps
DEEPER = "... "

_FRAME = re.compile(rb"\n={67}\nProtocol Hierarchy Statistics\nFilter: .*?\n\n(.*?)={67}\n", re.DOTALL)
_ROW = re.compile(rb"((?:  )*)(\.\.\.)?([^\s.]\S*) +frames:(\d+) bytes:(\d+)")


class Hierarchy(Statistic):
    name = "io,phs"
    title = "Protocol hierarchy"
    usage = "io,phs[,FILTER]"
    description = (
        "The protocol hierarchy, with the packets and bytes of each protocol including those inside it. Below the 16th "
        "protocol of a packet, tshark does not show the nesting: these protocols are marked '...' and numbered in its "
        "order, and the table cannot be merged."
    )

    def __init__(self) -> None:
        self.engines = (TsharkText(self.parse),)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return (
            Column("path", "path", role="key", title="Protocol", description="protocols, from the outermost"),
            Column("frames", "integer", "packets"),
            Column("bytes", "integer", "bytes", description="bytes of these whole packets"),
        )

    def parse(self, text: bytes, arguments: str) -> Parsed:
        frame = _FRAME.fullmatch(text)
        if frame is None:
            raise TextError("it is not framed as a protocol hierarchy")
        found: dict[tuple[str, ...], tuple[int, int]] = {}
        path: tuple[str, ...] = ()
        for line in frame[1].split(b"\n")[:-1]:
            match = _ROW.fullmatch(line)
            if match is None:
                raise TextError(f"the line {text_of(line)!r} is no protocol")
            depth, deeper, name = len(match[1]) // 2, match[2] or b"", text_of(match[3])
            label = match[1] + deeper + match[3]
            if line != b"%-40b frames:%b bytes:%b" % (label, match[4], match[5]) or len(label) >= LONGEST:
                raise TextError(f"the name in {text_of(line)!r} may be cut short")
            if depth > min(LEVELS, len(path)) or (deeper and (depth < LEVELS or len(path) <= LEVELS)):
                raise TextError(f"the line {text_of(line)!r} is inside nothing")
            if deeper:
                above = path[: LEVELS + 1]
                path = (*above, f"{DEEPER}{1 + sum(known[:-1] == above for known in found)} {name}")
            else:
                path = (*path[:depth], name)
            if path in found:
                raise TextError(f"the protocol in {text_of(line)!r} is there twice")
            found[path] = int(match[4]), int(match[5])
        return Parsed([[path, *counts] for path, counts in without_frame(found).items()])

    def order(self, table: Table) -> None:
        if is_deep(table.rows):
            return
        frames: dict[Value, int] = {row["path"]: row["frames"] for row in table.rows}  # type: ignore[misc]

        def key(row: Row) -> list[tuple[int, str]]:
            path: tuple[str, ...] = row["path"]  # type: ignore[assignment]
            return [(-frames.get(path[:end], 0), path[end - 1]) for end in range(1, len(path) + 1)]

        sort_rows(table, key)

    def align(self, tables: Sequence[Table]) -> Sequence[Sequence[Row]]:
        if len(tables) > 1 and any(is_deep(table.rows) for table in tables):
            raise self.refuse_merge("tshark does not show the nesting below the 16th protocol of a packet")
        return super().align(tables)


def is_deep(rows: Sequence[Row]) -> bool:
    """Whether some of the rows are marked with "..."."""
    return any(row["path"][-1].startswith(DEEPER) for row in rows)  # type: ignore[index]


def without_frame(found: dict[tuple[str, ...], tuple[int, int]]) -> dict[tuple[str, ...], tuple[int, int]]:
    """The rows without the level "frame".

    tshark 4.6 has every packet in it; 4.0 and 4.4 only if someone in the run names a field of it, as
    filters, other statistics and sharkstat's own marks do. It stays as a row for the packets that have nothing else.
    """
    kept: dict[tuple[str, ...], tuple[int, int]] = {}
    for path, (frames, size) in found.items():
        level = 1 if path[:1] == ("pkt_comment",) else 0  # a packet's comment stands before it
        if path[level : level + 1] != ("frame",):
            kept[path] = frames, size
            continue
        if len(path) > level + 1:
            kept[path[:level] + path[level + 1 :]] = frames, size
            continue
        inside = [counts for known, counts in found.items() if known[:-1] == path]
        alone = frames - sum(f for f, _ in inside), size - sum(s for _, s in inside)
        if any(alone):
            kept[path] = alone
    return kept


def take(name: str) -> Statistic | None:
    """The statistic of that name, if it is of this family."""
    return Hierarchy() if name == Hierarchy.name else None


@hookimpl
def register_families(register):  # type: ignore[no-untyped-def]
    register("hierarchy", take)
