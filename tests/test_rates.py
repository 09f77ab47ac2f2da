"""Rates of other columns: against the packets' own times, on both engines, by direction, merged and saved."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from tests import oracle
from tests.command import DATA
from tests.measure import engines

import sharkstat
from sharkstat import Table

CAPTURE = DATA / "story-after.pcapng"


PLUGIN = """
import sharkstat

class Sent(sharkstat.Declared):
    name = "hosts,sent"
    title = "What hosts send"
    keys = (sharkstat.Key("ip.src", "host"),)
    measures = (sharkstat.Sum("frame.len"), sharkstat.Rate("bytes"))

@sharkstat.hookimpl
def register_statistics(register):
    register(Sent())
"""


def test_a_rate_is_of_the_time_that_was_read_or_of_the_interval() -> None:
    lengths, times = zip(
        *((int(a[0]), Decimal(b[0])) for a, b in oracle.fields(CAPTURE, ("frame.len", "frame.time_relative"))),
        strict=True,
    )
    asked = [f"group,{key}sum=frame.len,rate=bytes" for key in ("", "every=500ms,", "by=host,")]
    for total, intervals, hosts in engines(CAPTURE, asked):
        span = float(max(times) - min(times))
        assert total["bytes_per_second"] == [pytest.approx(sum(lengths) / span)]
        assert all(row["bytes_per_second"] == row["bytes"] * 2 for row in intervals) and len(intervals) > 5  # type: ignore[operator]
        for way in ("", "_in", "_out"):
            assert hosts.total(f"bytes_per_second{way}") == pytest.approx(hosts.total(f"bytes{way}") / span)
        assert intervals.column("bytes_per_second").unit == "bytes per second"


def test_it_is_computed_again_when_tables_are_merged_and_kept_when_saved(tmp_path: Path) -> None:
    (tmp_path / "sent.py").write_text(PLUGIN)
    registry = sharkstat.Registry.default([tmp_path / "sent.py"])
    parts = [
        sharkstat.run(DATA / name, "hosts,sent", registry=registry)[0] for name in ("story-before.pcapng", CAPTURE.name)
    ]
    merged = Table.merge(parts)
    assert merged.reading.first is not None and merged.reading.last is not None
    span = (merged.reading.last - merged.reading.first) / 1e9
    assert all(row["bytes_per_second"] == pytest.approx(row["bytes"] / span) for row in merged)  # type: ignore[operator]
    file = tmp_path / "sent.json"
    file.write_text("".join(parts[1].to_json()))
    [again] = sharkstat.read(file)
    assert (again.columns, again.rows) == (parts[1].columns, parts[1].rows)


def test_a_rate_of_no_column_is_one_line() -> None:
    with pytest.raises(sharkstat.RequestError, match="rate=octets: no column octets; there are bytes"):
        sharkstat.run(CAPTURE, "group,sum=frame.len,rate=octets")
