"""Statistics trees as tshark keeps them: counts, rates, shares and bursts on the nodes of a tree.

The counting mirrors lua/sharkstat_lua/tree.lua, which says where each figure comes from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import IO

from sharkstat import Column, Parsed, Statistic, Table, TextError, Value, sort_rows, text_of
from sharkstat_plugins.tshark_text import decimal

RESOLUTION_NS, WINDOW_BUCKETS, WINDOW_MS = 5_000_000, 20, 100

COLUMNS = (
    Column("path", "path", role="key", title="Topic / Item"),
    Column("count", "integer"),
    Column("percent", "number", "percent", role="derived"),
    Column("rate", "number", "per millisecond", role="derived", title="Rate (ms)"),
    Column("burst", "integer", merge="none", shown=False, description="largest count within 100 ms"),
    Column("burst_rate", "number", "per millisecond", role="derived", title="Burst rate"),
    Column("burst_start", "duration", "seconds", merge="none", title="Burst start"),
    Column("first", "time", merge="min", shown=False, description="over all messages of the tree"),
    Column("last", "time", merge="max", shown=False, description="over all messages of the tree"),
)


# What tshark's text of a tree has.
TEXT_COLUMNS = (
    COLUMNS[0],
    COLUMNS[1],
    Column("average", "number", merge="none", approximate=True),
    Column("minimum", "number", merge="min"),
    Column("maximum", "number", merge="max"),
    COLUMNS[2],
    Column("rate", "number", "per millisecond", merge="none", title="Rate (ms)", approximate=True),
    *COLUMNS[4:6],
    Column("burst_start", "duration", "seconds", merge="none", title="Burst start", approximate=True),
)


class TreeStatistic(Statistic):
    """A statistic whose table is such a tree."""

    family = "stats_tree"
    known = True  # where the names come from

    def read_text(self, text: IO[bytes], arguments: str) -> Parsed:
        rows = list(tree_rows(text, self.known))
        return Parsed(rows if any(row[1] for row in rows) else [], TEXT_COLUMNS)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return COLUMNS

    def derive(self, table: Table) -> None:
        counts = {row["path"]: row["count"] for row in table.rows}
        firsts = [at for at in (row.get("first") for row in table.rows) if isinstance(at, int)]
        lasts = [at for at in (row.get("last") for row in table.rows) if isinstance(at, int)]
        first, last = min(firsts, default=None), max(lasts, default=None)
        for row in table.rows:
            path, count, burst = row["path"], row["count"], row["burst"]
            assert isinstance(path, tuple) and isinstance(count, int)
            whole = counts.get(path[:-1], count)
            row["percent"] = 100 * count / whole if isinstance(whole, int) and whole else None
            if "first" in row:  # tshark's text has it not, but the rate
                # The extent is the tree's, also for nodes that came from one of several merged tables.
                row["first"], row["last"] = first, last
                elapsed = last - first if first is not None and last is not None else 0
                row["rate"] = count / (elapsed / 1e6) if elapsed > 0 else None
            row["burst_rate"] = burst / WINDOW_MS if isinstance(burst, int) else None

    def order(self, table: Table) -> None:
        """Children below their parents, the most counted first, as they first came where they are equal."""
        rank = {row["path"]: number for number, row in enumerate(table.rows)}
        counts = {row["path"]: row["count"] for row in table.rows}

        def key(row: dict[str, Value]) -> list[tuple[int, int]]:
            path = row["path"]
            assert isinstance(path, tuple)
            levels = [path[: depth + 1] for depth in range(len(path))]
            return [(-int(counts.get(level) or 0), rank.get(level, 0)) for level in levels]  # type: ignore[arg-type]

        sort_rows(table, key)


_TITLES = (b"Count", b"Average", b"Min Val", b"Max Val", b"Rate (ms)", b"Percent", b"Burst Rate", b"Burst Start")
_NUMBER = rb"-?\d+(?:\.\d+)?|-|"
_SHARE = rb"\d+(?:\.\d+)?%|-|"
_CELLS = [
    re.compile(rb" (%b) *" % value) for value in (rb"-?\d+", *[_NUMBER] * 4, _SHARE, _NUMBER, rb"-?\d+\.\d{3}|-|")
]


def tree_rows(text: IO[bytes], known: bool = True) -> Iterator[list[Value]]:
    """The nodes of a tree as tshark prints it (epan/stats_tree.c, stats_tree_format_as_str).

    Names are printed raw, newlines too, and padded to the longest name's number of bytes: so each
    row is the bytes of that width, and then numbers to the line's end. TextError where it is not so.

    A name that begins with a blank seems to hang below its neighbour. Its share tells, but where the neighbour has
    all of their parent's count: where it is not `known` that names begin otherwise, that is a TextError too.
    """
    opening = [text.readline() for _ in range(5)]
    if not b"".join(opening).strip():
        return
    frame = re.fullmatch(rb"\n=+\n(?:[^\n]*):\n(?P<head>[^\n]+ Count [^\n]*)\n(?P<rule>-+)\n", b"".join(opening))
    if not frame:
        raise TextError("no frame of a tree")
    head = frame["head"]
    if head.split()[-len(b" ".join(_TITLES).split()) :] != b" ".join(_TITLES).split():
        raise TextError(f"other columns than those of a tree: {text_of(head)!r}")
    starts: list[int] = []
    for title in reversed(_TITLES):
        starts.insert(0, head.rindex(title, 0, starts[0] if starts else len(head)) - 1)
    # A title that is longer than all names moves the head, but not the rule and the rows.
    width = starts[0] - (len(head) - len(frame["rule"]))
    edges = [start - starts[0] for start in starts]
    tail = b"\n" + frame["rule"] + b"\n"
    path: list[str] = []
    counts: dict[tuple[str, ...], int] = {}
    while (line := (name := text.read(width)) + (values := text.readline())) != tail:
        if not values.endswith(b"\n"):
            raise TextError(f"no row of a tree: {text_of(line)!r}")
        values = values[:-1]
        # A cell is a blank and the value, padded to the next title; the last may be longer.
        cells = [values[start:stop] for start, stop in zip(edges, [*edges[1:], None], strict=True)]
        found = [cell.fullmatch(value) for cell, value in zip(_CELLS, cells, strict=True)]
        if None in found:
            raise TextError(f"no row of a tree: {text_of(name + values)!r}")
        counted, average, low, high, rate, percent, burst_rate, burst_start = (f[1] for f in found if f)
        depth = len(name) - len(name.lstrip(b" "))
        if depth > len(path):
            raise TextError(f"a name begins with spaces, so its place in the tree is unknown: {text_of(name)!r}")
        path = [*path[:depth], text_of(name.strip(b" "))]
        key, count = tuple(path), int(counted)
        if key in counts:
            raise TextError(f"two nodes of the same name: {text_of(name)!r}")
        counts[key] = count
        _check_share(percent, count, counts.get(key[:-1]) if depth else None, name)
        if depth > 1 and not known and counts.get(key[:-1]) == counts.get(key[:-2]):
            raise TextError(f"a node's name may begin with a blank, so its place in the tree is unknown: {key[-1]!r}")
        burst = _figure(burst_rate)
        yield [
            key,
            count,
            *map(_figure, (average, low, high, rate)),
            None if burst is None else round(burst * WINDOW_MS),
            None if burst_start in (b"", b"-") else decimal(burst_start.decode(), 10**9),
        ]
    if text.read(1):
        raise TextError("text after the end of a tree")


def _check_share(percent: bytes, count: int, whole: int | None, name: bytes) -> None:
    """A name that begins with spaces looks as if it hung below another node; its share tells."""
    if percent in (b"", b"-") or not whole:
        return
    if abs(float(percent.rstrip(b"%")) - 100 * count / whole) > 0.0051 + 1e-5 * count / whole:
        raise TextError(f"the share of {text_of(name).strip()!r} is not that of a child of its parent")


def _figure(text: bytes) -> int | float | None:
    if text in (b"", b"-"):
        return None
    return float(text) if b"." in text else int(text)


class _Node:
    __slots__ = ("buckets", "burst", "burst_start", "count", "max_burst", "path")

    def __init__(self, path: tuple[str, ...]) -> None:
        self.path = path
        self.count = self.burst = self.max_burst = 0
        self.burst_start: int | None = None
        # [bucket number, count, start]; tshark begins with an empty bucket at time 0.
        self.buckets: list[list[int]] = [[0, 0, 0]]

    def tick(self, now: int) -> None:
        self.count += 1
        bucket, buckets = now // RESOLUTION_NS, self.buckets
        if bucket > buckets[-1][0]:
            buckets.append([bucket, 1, now])
            self.burst += 1
            while bucket >= buckets[0][0] + WINDOW_BUCKETS:
                self.burst -= buckets.pop(0)[1]
        elif bucket < buckets[0][0]:
            if bucket + WINDOW_BUCKETS > buckets[-1][0]:
                buckets.insert(0, [bucket, 1, now])
                self.burst += 1
        else:
            at = len(buckets) - 1
            while bucket < buckets[at][0]:
                at -= 1
            if bucket == buckets[at][0]:
                buckets[at][1] += 1
                buckets[at][2] = min(buckets[at][2], now)
            else:
                buckets.insert(at + 1, [bucket, 1, now])
            self.burst += 1
        if self.burst > self.max_burst:
            self.max_burst = self.burst
            self.burst_start = buckets[0][2]


class Tree:
    """The nodes, ticked by path."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[str, ...], _Node] = {}
        self._now = 0
        self._first: int | None = None
        self._last = 0

    def at(self, relative_ns: int, time_ns: int) -> None:
        """Set the time of the ticks to come."""
        self._now, self._last = relative_ns, time_ns
        if self._first is None:
            self._first = time_ns

    def node(self, *path: str) -> _Node:
        """The node of that path, made where it is new."""
        found = self._nodes.get(path)
        if found is None:
            found = self._nodes[path] = _Node(path)
        return found

    def tick(self, *path: str) -> None:
        self.node(*path).tick(self._now)

    def rows(self) -> Sequence[Sequence[Value]]:
        return [(n.path, n.count, n.max_burst, n.burst_start, self._first, self._last) for n in self._nodes.values()]
