"""Every statistic against truth from outside: sharkd, tshark's own text, and counts from plain field dumps.

Where tshark is known to be wrong, the case says so, and sharkstat is held against an independent count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests import oracle
from tests.measure import DATA, TREES, IoRequest, Measured
from tests.oracle import Node, Row, near, seconds, shown

import sharkstat
from sharkstat import Table

COUNTS = ("packets_a_to_b", "bytes_a_to_b", "packets_b_to_a", "bytes_b_to_a")
ENDPOINT_COUNTS = ("tx_packets", "tx_bytes", "rx_packets", "rx_bytes")


def wrapped(size: Any) -> Any:
    """A frame of 2 GiB or more (a fuzzed header says so), as tshark's conversations have it: less than nothing."""
    return size + 2**64 - 2**32 if 2**31 <= size < 2**32 else size


def ends(table: Table, row: sharkstat.Row) -> Row:
    return tuple(row[c.name] for c in table.keys if c.name != "stream")


def times(table: Table, row: sharkstat.Row) -> tuple[int, int]:
    """Start and stop since the capture's first packet."""
    base = table.reading.start
    assert base is not None
    return row["start"] - base, row["stop"] - base  # type: ignore[operator, return-value]


def conversations(table: Table) -> list[Row]:
    """The rows as `oracle.Sharkd.tables` has them."""
    return [
        (*ends(table, row), *(wrapped(row[name]) for name in COUNTS), *map(shown, times(table, row)))
        for row in table.rows
    ]


def one_row_a_pair(table: Table, theirs: list[Row]) -> list[Row]:
    """tshark 4.4 parts a pair of addresses where its dissectors happened to open a second conversation.

    So IPX and NetBIOS between the same two Ethernet addresses are two rows. Here a pair is a pair.
    """
    if "stream" in (c.name for c in table.columns):
        return theirs
    found: dict[frozenset[Any], Row] = {}
    for row in sorted(theirs, key=lambda row: float(row[-2])):
        a, b, ab, bytes_ab, ba, bytes_ba, start, stop = row
        known = found.get(frozenset((a, b)))
        if known is not None:
            if known[0] != a:
                ab, bytes_ab, ba, bytes_ba = ba, bytes_ba, ab, bytes_ab
            ab, bytes_ab, ba, bytes_ba = (x + y for x, y in zip(known[2:6], (ab, bytes_ab, ba, bytes_ba), strict=True))
            a, b, start = known[0], known[1], known[-2]
            stop = max(stop, known[-1], key=float)
        found[frozenset((a, b))] = (a, b, ab, bytes_ab, ba, bytes_ba, start, stop)
    return list(found.values())


def endpoints(table: Table) -> list[Row]:
    return [(*ends(table, row), *(wrapped(row[name]) for name in ENDPOINT_COUNTS)) for row in table.rows]


def assert_same(rows: Iterable[Row], others: Iterable[Row]) -> None:
    ours, theirs = Counter(rows), Counter(others)
    assert ours == theirs, f"only sharkstat: {ours - theirs}; only the oracle: {theirs - ours}"


def test_conversations_and_endpoints_are_those_of_sharkd_even_without_application_dissectors(
    measured: Measured,
) -> None:
    if measured.sharkd is None:
        assert not measured.twice[0].complete
        text = oracle.tshark_text(measured.capture, [t.request for t in measured.twice], "-2")
        for table in measured.twice:
            compare_with_text(table, text)
        return
    for table in measured.twice:
        if not counts_as_tshark(table):
            continue
        if table.name.startswith("conv"):
            assert_same(conversations(table), one_row_a_pair(table, measured.sharkd[table.name]))
        elif table.name.startswith("endpoints"):
            assert_same(endpoints(table), measured.sharkd[table.name])


def test_conversations_and_endpoints_are_those_of_tshark_in_one_pass(measured: Measured) -> None:
    for table in measured.lua:
        compare_with_text(table, measured.text)


def counts_as_tshark(table: Table) -> bool:
    """tshark's own leave out all fragments of an IPv6 packet but the last, and headers cut in their options."""
    if table.reading.cut and table.name.endswith((",tcp", ",udp", ",ipv6")):
        return False
    return not (table.name.endswith(",ipv6") and table.reading.sources[0].endswith("fragments.pcapng"))


def compare_with_text(table: Table, text: oracle.Text) -> None:
    if not counts_as_tshark(table):
        return
    if table.name.startswith("endpoints"):
        assert_same(endpoints(table), text.endpoints[table.name])
    elif table.name.startswith("conv"):
        compare_conversations(table, text.conversations[table.name])


def compare_conversations(table: Table, theirs: list[Row]) -> None:
    """Ends, packets and times are exact in the text, bytes cut to thousands."""
    pairs = [frozenset(row[:-6]) for row in theirs]
    if len(set(pairs)) < len(pairs) and "stream" not in (c.name for c in table.columns):
        # Parted pairs, as in one_row_a_pair: their packets are those of the pair.
        by_pair: Counter[frozenset[Any]] = Counter()
        for pair, counted in zip(pairs, theirs, strict=True):
            by_pair[pair] += counted[-6] + counted[-4]
        assert by_pair == {frozenset(ends(table, row)): row["packets"] for row in table.rows}
        return
    ours: list[tuple[Row, list[Any]]] = []
    for row in table.rows:
        start, stop = times(table, row)
        duration = f"{seconds(stop) - seconds(start):.4f}"
        ab, bytes_ab, ba, bytes_ba = (row[name] for name in COUNTS)
        ours.append(((*ends(table, row), ab, ba, shown(start), duration), [bytes_ab, bytes_ba]))
    sizes: dict[Row, list[tuple[oracle.Size, oracle.Size]]] = {}
    for shape in theirs:
        *ends_, ab, size_ab, ba, size_ba, begun, lasted = shape
        sizes.setdefault((*ends_, ab, ba, begun, lasted), []).append((size_ab, size_ba))
    assert_same((key for key, _ in ours), (key for key, found in sizes.items() for _ in found))
    for key, both in ours:
        assert any(
            all(size.shows(number) or size.least == number - 2**32 for size, number in zip(seen, both, strict=True))
            for seen in sizes[key]
        ), (key, both, sizes[key])


def test_http_trees_are_those_of_tshark(measured: Measured) -> None:
    tables = [table for table in measured.lua if table.name in TREES]
    if any(not name.strip(" ") or "\n" in name for table in tables for row in table.rows for name in row["path"]):  # type: ignore[union-attr]
        # tshark's text has no place for such names.
        compare_trees_with_sharkd(measured.capture)
        return
    for table in tables:
        nodes = measured.text.trees[table.name]
        assert_same_counts(table, {path: node.count for path, node in nodes.items()}, tables)
        compare_tree(table, nodes, measured.known.ordered)


def compare_trees_with_sharkd(capture: Path) -> None:
    tables = sharkstat.run(capture, TREES, two_pass=True)
    one = oracle.Sharkd()
    try:
        found = one.tables(capture, trees=True)
    finally:
        one.close()
    for table in tables:
        assert_same_counts(table, dict(found[table.name]), tables)


def assert_same_counts(table: Table, theirs: dict[Any, int], tables: list[Table]) -> None:
    """Nodes that were never ticked are left out: tshark shows them even where the tree is empty."""
    ours = {row["path"]: int(row["count"]) for row in table.rows}  # type: ignore[arg-type]
    if table.name == "http_srv,tree" and oracle.version() < (4, 4):
        # To tshark 4.0, 100 Continue was an error.
        [packets] = [t for t in tables if t.name == "http,tree"]
        said = {row["path"][-1]: row["count"] for row in packets.rows}  # type: ignore[index]
        continues = int(said.get("100 Continue") or 0)  # type: ignore[arg-type]
        for path in [path for path in ours if path[-1] == "OK"]:  # type: ignore[index]
            moved = ours[path] - theirs.get(path, 0)
            error = (*path[:-1], "Error")  # type: ignore[index]
            assert 0 <= moved <= continues
            continues -= moved
            theirs = {**theirs, path: ours[path], error: theirs.get(error, 0) - moved}
        assert continues == 0
    assert_same(
        ((path, count) for path, count in ours.items() if count),
        ((path, count) for path, count in theirs.items() if count),
    )


def compare_tree(table: Table, nodes: dict[tuple[str, ...], Node], ordered: bool) -> None:
    """The other columns."""
    negative = table.rows and table.reading.start is not None and table.rows[0]["first"] < table.reading.start  # type: ignore[operator]
    for row in table.rows:
        node = nodes.get(row["path"])  # type: ignore[arg-type]
        if node is not None and node.count == row["count"] != 0:
            agrees(row["percent"], node.percent, 2)
            agrees(row["burst_rate"] or None, node.burst_rate, 4)
            agrees(row["burst_start"], node.burst_start, 3, 10**9)
            # Before the capture's first packet, tshark's tree starts anew with every message.
            if not (negative and not ordered):
                agrees(row["rate"], node.rate, 4)


def agrees(value: Any, theirs: float | None, digits: int, unit: int = 1) -> None:
    assert (value is None) == (theirs is None), (value, theirs)
    if value is not None and theirs is not None:
        assert near(value / unit, theirs, digits), (value, theirs)


# io,stat -----------------------------------------------------------------------------------------------


def test_io_stat_is_tsharks_or_an_independent_count(measured: Measured) -> None:
    """Counted anew for our own captures, and wherever tshark's io,stat is known to be wrong."""
    own = measured.capture.parent.name == "data"
    tables = measured.tables("io,stat")
    # tshark's own field of the length ends at 2 GiB; the sum is held against capinfos in test_books.
    asked = [] if measured.known.bytes >= 2**31 else measured.io
    counting = [request for request in asked if own or tshark_is_wrong(measured, request)]
    counted = dict(zip(counting, oracle.count_io(measured.capture, counting), strict=True))
    for request, table, theirs in zip(measured.io, tables, measured.text.io_stat, strict=True):
        if request not in asked:
            continue
        if request in counted:
            compare_with_count(table, request, counted[request])
        if not tshark_is_wrong(measured, request):
            compare_io(table, request, theirs)


def tshark_is_wrong(measured: Measured, request: IoRequest) -> bool:
    """Whether this is a case that tshark's own io,stat gets wrong.

    Packets at a last moment that is a whole number of intervals are lost; without any duration there are no
    rows; where times go back, packets land in the wrong interval or in none.
    """
    facts = measured.known
    if not facts.ordered or facts.span < 1000:
        return True
    return bool(request.interval) and (facts.span + 500) // 1000 % request.interval == 0


def values(table: Table, row: sharkstat.Row) -> list[Any]:
    """The columns that were asked for."""
    return [row[name] for name in asked_for(table)]


def asked_for(table: Table) -> list[str]:
    """Not the sums and counts that a mean is made of, nor all packets and others where there are but filters."""
    shown = [c.name for c in table.columns if c.shown and c.name not in ("start", "stop")]
    added = {"frames[other]", "bytes[other]"}
    if added <= set(shown) and ",," not in table.request:
        added |= {"frames", "bytes"}
    return [name for name in shown if name not in added]


def compare_with_count(table: Table, request: IoRequest, counted: dict[int, list[Any]]) -> None:
    rows = {row["start"]: values(table, row) for row in table.rows}
    starts = {bucket * request.interval * 1000 for bucket in counted}
    # A duration may reach back over intervals without a packet.
    reached = request.columns[-1][0] == "LOAD"
    assert starts <= rows.keys() if reached else starts == rows.keys()
    for bucket, theirs in counted.items():
        at = 0
        ours = rows[bucket * request.interval * 1000]
        for calculation, _, _ in request.columns:
            width = 1 if calculation else 2
            if calculation == "AVG":
                agree = ours[at] == theirs[at] or abs(ours[at] - theirs[at]) <= 1
            else:
                agree = calculation == "LOAD" or ours[at : at + width] == theirs[at : at + width]
            assert agree, (request.text, bucket, calculation, ours[at : at + width], theirs[at : at + width])
            at += width


def compare_io(table: Table, request: IoRequest, theirs: list[list[str]]) -> None:
    """tshark prints all intervals, sharkstat those with packets; nothing found is None here, 0 there."""
    rows = {int(row["start"]) // 1000 // request.interval if request.interval else 0: row for row in table.rows}  # type: ignore[arg-type]
    assert max(rows, default=-1) < len(theirs)
    names = asked_for(table)
    types = {c.name: c.type for c in table.columns}
    for bucket, cells in enumerate(theirs):
        row = rows.get(bucket)
        if row is None:
            # Durations are repeated from above where there are none.
            assert all(cell == "0" or "." in cell for cell in cells), cells
            continue
        for name, cell in zip(names, cells, strict=True):
            assert io_agrees(row[name], types[name], name, cell), (request.text, bucket, name, row[name], cell)


def io_agrees(value: Any, kind: str, name: str, cell: str) -> bool:
    if value is None:
        return float(cell) == 0 or "." in cell
    if kind == "duration":  # cut or rounded to microseconds
        return bool(abs(value - float(cell) * 10**9) <= 1001 + abs(value) * 1e-9)
    if name.startswith("load("):
        # tshark gives the rest of a duration, beyond whole intervals, to the packet's own interval, even where
        # the packet stands at its beginning; and it divides the last interval's by what there is of it.
        return True
    if name.startswith("avg("):  # cut to a whole number
        return int(value) == int(cell)
    return bool(value == int(cell))


def test_load_is_the_time_that_durations_cover() -> None:
    capture = DATA / "retransmissions.pcapng"
    [table] = sharkstat.run(capture, "io,stat,0.01,LOAD(tcp.time_relative)")
    busy = {int(row["start"]) // 10**7: row["busy(tcp.time_relative)"] for row in table}  # type: ignore[arg-type]
    counted = oracle.count_load(capture, 10**4, "tcp.time_relative")
    assert {k: v for k, v in busy.items() if v} == {k: v * 1000 for k, v in counted.items() if v}
    assert [row["load(tcp.time_relative)"] for row in table if row["busy(tcp.time_relative)"]] == [
        row["busy(tcp.time_relative)"] / 10**7  # type: ignore[operator]
        for row in table
        if row["busy(tcp.time_relative)"]
    ]
