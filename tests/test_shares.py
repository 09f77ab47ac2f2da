"""Percentages add up to the whole; --sort and --top do what each table of a run has a use for."""

from __future__ import annotations

import csv
import io

import pytest
from tests.command import DATA, sharkstat

import sharkstat as library
from sharkstat.tables.shares import with_shares

STORY = DATA / "story-after.pcapng"
REQUESTS = ("conv,tcp", "endpoints,ip", "talkers", "apps", "io,stat,2,tcp,udp", "http_req,tree", "io,phs")


@pytest.fixture(scope="module")
def counted() -> dict[str, library.Table]:
    return dict(zip(REQUESTS, library.run(STORY, list(REQUESTS)), strict=True))


def test_shares_add_up_to_a_hundred_and_are_there_by_default_for_bytes(counted: dict[str, library.Table]) -> None:
    for request in ("conv,tcp", "apps"):
        table = with_shares(counted[request], every=False)
        assert (
            table.total("bytes_share") == pytest.approx(100) and len(table.columns) == len(counted[request].columns) + 1
        )
    for request in ("endpoints,ip", "talkers"):  # a packet counts for both its ends: who is in all of it has 100 %
        shares = [float(str(share)) for share in with_shares(counted[request], every=False)["bytes_share"]]
        assert sum(shares) == pytest.approx(200) and 99 < max(shares) <= 100


def test_of_a_tree_the_roots_are_the_whole(counted: dict[str, library.Table]) -> None:
    tree, phs = (with_shares(counted[request], every=True) for request in ("http_req,tree", "io,phs"))
    assert [row["count_share"] for row in tree if len(row["path"]) <= 2] == [100, 100]  # type: ignore[arg-type]
    assert phs.rows[0]["bytes_share"] == 100
    assert "bytes_share" not in (c.name for c in with_shares(counted["io,phs"], every=False).columns)


def test_all_packets_come_first_and_the_unmatched_last(counted: dict[str, library.Table]) -> None:
    table = counted["io,stat,2,tcp,udp"]
    names = [c.name for c in table.columns if c.role == "measure"]
    assert names == [f"{unit}{of}" for of in ("", "[tcp]", "[udp]", "[other]") for unit in ("frames", "bytes")]
    for unit in ("frames", "bytes"):
        for row in table:
            parts = [row[f"{unit}[{of}]"] for of in ("tcp", "udp", "other")]
            assert row[unit] == sum(parts)  # type: ignore[arg-type]
    assert (table.total("frames"), table.total("bytes")) == (table.reading.packets, table.reading.bytes)
    assert table.total("frames[other]") > 0  # ARP and ICMP


def test_sort_and_top_of_a_run_with_tables_of_several_kinds(counted: dict[str, library.Table]) -> None:
    whole = counted["apps"].reading.bytes
    statistics = [word for name in ("io,stat,2,tcp", "conv,tcp", "http_req,tree") for word in ("-z", name)]
    done = sharkstat("run", STORY, *statistics, "--sort", "packets:asc", "--top", "1", "--share", "--format", "csv")
    assert done.returncode == 0, done.stderr
    blocks = [list(csv.DictReader(io.StringIO(text.partition("\n")[2]))) for text in done.stdout.split("\n\n")]
    assert [row["start"] for row in blocks[0]] == ["0", "2", "4"]  # no interval is left out, and none moved
    assert [float(row["bytes_share"]) for row in blocks[0]] == [
        pytest.approx(100 * int(row["bytes"]) / whole) for row in blocks[0]
    ]
    least = min(counted["conv,tcp"], key=lambda row: row["packets"])  # type: ignore[arg-type, return-value]
    assert [row["packets"] for row in blocks[1]] == [str(least["packets"])]
    assert 0 < float(blocks[1][0]["bytes_share"]) < 5


def test_a_column_that_no_table_has_is_refused_before_anything_is_read() -> None:
    done = sharkstat("run", "no.pcap", "-z", "io,stat,2", "-z", "conv,tcp", "--sort", "sise")
    assert (done.returncode, done.stdout) == (2, "")
    assert "has no column 'sise'" in done.stderr
