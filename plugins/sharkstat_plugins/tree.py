"""Statistics trees as tshark keeps them: counts, rates, shares and bursts on the nodes of a tree.

The counting mirrors lua/sharkstat_lua/tree.lua, which says where each figure comes from.
"""

from __future__ import annotations

from collections.abc import Sequence

from sharkstat import Column, Statistic, Table, Value, sort_rows

RESOLUTION_NS, WINDOW_BUCKETS, WINDOW_MS = 5_000_000, 20, 100

COLUMNS = (
    Column("path", "path", role="key", title="Topic / Item"),
    Column("count", "integer"),
    Column("percent", "number", "percent", role="derived"),
    Column("rate", "number", "per millisecond", role="derived", title="Rate (ms)"),
    Column("burst", "integer", merge="none", shown=False, description="the largest count within 100 ms"),
    Column("burst_rate", "number", "per millisecond", role="derived", title="Burst rate"),
    Column("burst_start", "duration", "seconds", merge="none", title="Burst start"),
    Column("first", "time", merge="min", shown=False, description="of all the tree's messages"),
    Column("last", "time", merge="max", shown=False, description="of all the tree's messages"),
)


class TreeStatistic(Statistic):
    """A statistic whose table is such a tree."""

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return COLUMNS

    def derive(self, table: Table) -> None:
        counts = {row["path"]: row["count"] for row in table.rows}
        firsts = [row["first"] for row in table.rows if isinstance(row["first"], int)]
        lasts = [row["last"] for row in table.rows if isinstance(row["last"], int)]
        first, last = min(firsts, default=None), max(lasts, default=None)
        for row in table.rows:
            path, count, burst = row["path"], row["count"], row["burst"]
            assert isinstance(path, tuple) and isinstance(count, int)
            # The extent is the tree's, also for nodes that came from one of several merged tables.
            row["first"], row["last"] = first, last
            whole = counts.get(path[:-1], count)
            row["percent"] = 100 * count / whole if isinstance(whole, int) and whole else None
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
