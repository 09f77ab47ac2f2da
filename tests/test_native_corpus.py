"""tshark's conversations, endpoints and trees, read from its text, against sharkd's own, on every large capture.

It takes a quarter of an hour, so script/test leaves it out; script/test-long runs it.
"""

from __future__ import annotations

import threading
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests import oracle
from tests.measure import CORPUS, corpus_captures

import sharkstat
from sharkstat import Registry, Table
from sharkstat_plugins.ends import BROADCAST, WITH_PORTS

pytestmark = [pytest.mark.corpus, pytest.mark.long]

_local = threading.local()
LEFT_OUT = {
    # tshark itself aborts on it (4.0, 4.4 and 4.6).
    "tls_change_cipher.pcap": {"endpoints,mptcp", "conv,mptcp"},
    # Some packets are only counted where no tree is built; a Lua tap asks for one, as any filter does.
    "collectd.pcap": {"collectd,tree"},
    "sample_control4_2012-03-24.pcap": {"conv,zbee_nwk", "endpoints,zbee_nwk"},
}
# What is in them cannot be read with certainty, and is not: a node without a name, sizes less than nothing.
UNREADABLE = {"http-manipulated.pcap", "fuzz-2021-06-07-c6c72a0a56.pcap"}


def sharkd() -> oracle.Sharkd:
    if not hasattr(_local, "sharkd"):
        _local.sharkd = oracle.Sharkd()
    return _local.sharkd  # type: ignore[no-any-return]


@cache
def taps() -> dict[str, str]:
    """sharkd's tap for each statistic that both list."""
    listed = Registry.default().all()
    protocols = {}
    for line in oracle.output("tshark", "-G", "protocols").decode().splitlines():
        _, short, name, *_ = line.split("\t")
        protocols[short] = name
    found = {}
    info = sharkd().ask("info", {})
    for entry in info["convs"]:
        kind, _, short = entry["tap"].partition(":")
        found[f"{'conv' if kind == 'conv' else 'endpoints'},{protocols[short]}"] = entry["tap"]
    found |= {f"{entry['tap'].removeprefix('stat:')},tree": entry["tap"] for entry in info["stats"]}
    return {name: tap for name, tap in found.items() if name in listed}


def end(record: dict[str, Any], address: str, port: str, kind: str) -> tuple[Any, ...]:
    text = BROADCAST.get(record[address], record[address])
    return (text, int(record[port])) if kind in WITH_PORTS else (text,)


def keys(table: Table, row: sharkstat.Row) -> tuple[Any, ...]:
    return tuple(row[c.name] for c in table.keys if c.name != "occurrence")


def conversations(table: Table, theirs: list[dict[str, Any]], kind: str) -> None:
    ours = Counter((*keys(table, row), row["packets_a_to_b"], row["packets_b_to_a"]) for row in table.rows)
    assert ours == Counter(
        (*end(c, "saddr", "sport", kind), *end(c, "daddr", "dport", kind), c["txf"], c["rxf"]) for c in theirs
    )
    sizes = Counter((row["bytes_a_to_b"], row["bytes_b_to_a"]) for row in table.rows)
    assert sizes == Counter((shown(c["txb"]), shown(c["rxb"])) for c in theirs)
    starts = sorted(int(row["start"]) - int(table.reading.start or 0) for row in table.rows)  # type: ignore[arg-type]
    assert starts == sorted(oracle.nanoseconds(str(c["start"])) for c in theirs)


def shown(size: int) -> int:
    """What is left of a number of bytes in tshark's text (wsutil/str_util.c, format_size)."""
    for power in range(18, 0, -3):
        if size // 10**power >= 10:
            return int(size // 10**power * 10**power)
    return size


def endpoints(table: Table, theirs: list[dict[str, Any]], kind: str) -> None:
    expected: Counter[Any] = Counter()
    for host in theirs:
        for name in ("txf", "txb", "rxf", "rxb"):
            expected[end(host, "host", "port", kind), name] += host[name]
    names = {"txf": "tx_packets", "txb": "tx_bytes", "rxf": "rx_packets", "rxb": "rx_bytes"}
    ours: Counter[Any] = Counter()
    for row in table.rows:
        for name, column in names.items():
            ours[keys(table, row), name] += row[column]  # type: ignore[assignment, operator]
    assert ours == expected


def nodes(found: list[dict[str, Any]], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], dict[str, Any]]:
    result = {}
    for node in found:
        path = (*above, node["name"].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").strip(" "))
        result[path] = node
        result |= nodes(node.get("sub", []), path)
    return result


def root(path: Any) -> tuple[str, ...]:
    """A path whose root is without the menu that tshark 4.0 leaves out of the text."""
    return (path[0].rpartition("/")[2].strip(), *path[1:])


def tree(table: Table, theirs: list[dict[str, Any]]) -> None:
    # sharkd of 4.4 gives EDNS records, which have no TTL, that of a record before; tshark has "zero".
    stale = ("Response", "TTL", "Additionals")
    expected = {root(path): node for path, node in nodes(theirs).items() if path[:3] != stale}
    if not table.rows:  # nothing was counted
        expected = {path: node for path, node in expected.items() if node["count"]}
    ours = {root(row["path"]): row for row in table.rows if row["path"][:3] != stale}  # type: ignore[index]
    assert {path: row["count"] for path, row in ours.items()} == {path: n["count"] for path, n in expected.items()}
    for path, row in ours.items():
        node = expected[path]
        for column, name in (("minimum", "min"), ("maximum", "max")):
            if row[column] is not None and name in node:
                assert float(row[column]) == pytest.approx(float(node[name]), abs=0.01)  # type: ignore[arg-type]
        if row["average"] is not None and "avg" in node:
            assert float(row["average"]) == pytest.approx(float(node["avg"]), abs=0.0051)  # type: ignore[arg-type]


@pytest.mark.skipif(not CORPUS.exists(), reason="the large captures are not there")
@pytest.mark.parametrize("capture", corpus_captures() or [CORPUS], ids=lambda path: path.relative_to(CORPUS).as_posix())
def test_the_text_says_what_sharkd_says(capture: Path) -> None:
    names = {name: tap for name, tap in taps().items() if name not in LEFT_OUT.get(capture.name, ())}
    try:
        found = sharkstat.run(capture, list(names), engine="tshark", two_pass=True)
    except sharkstat.SourceError as problem:
        pytest.skip(str(problem))
    if not found[0].complete:
        pytest.skip("sharkd never answers for a file that is cut short")
    sharkd().ask("load", {"file": str(capture.absolute())})
    asked, theirs = list(names.values()), dict[str, Any]()
    for first in range(0, len(asked), 10):  # it takes 16 at most
        answer = sharkd().ask("tap", {f"tap{n}": tap for n, tap in enumerate(asked[first : first + 10])})
        theirs |= {tap["tap"].replace("stats:", "stat:"): tap for tap in answer["taps"]}
    unread = []
    for table, (name, tap) in zip(found, names.items(), strict=True):
        kind = name.partition(",")[2]
        if [c.name for c in table.columns] == ["line", "text"]:
            unread.append((name, table.warnings))
        elif name.startswith("conv,"):
            conversations(table, theirs[tap]["convs"], kind)
        elif name.startswith("endpoints,"):
            endpoints(table, theirs[tap]["hosts"], kind)
        else:
            tree(table, theirs[tap]["stats"])
    assert bool(unread) == (capture.name in UNREADABLE), unread
