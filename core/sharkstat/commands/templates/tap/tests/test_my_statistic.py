"""my,statistic on a small capture of real DNS traffic."""

from pathlib import Path

from sharkstat.testing import Check, Run

CAPTURE = Path(__file__).with_name("dns.pcapng")
REQUEST = "my,statistic"


def test_queries_and_answers_are_counted(sharkstat_run: Run) -> None:
    rows = {row["name"]: row for row in sharkstat_run(CAPTURE, REQUEST)}
    assert rows["www.example.net"] == {"name": "www.example.net", "queries": 10, "answers": 10, "answered": 100}
    assert rows["lost.example.net"]["answered"] == 0


def test_parts_merge_into_the_whole(assert_merges: Check) -> None:
    assert_merges(CAPTURE, REQUEST)


def test_it_survives_damaged_captures(assert_survives: Check) -> None:
    assert_survives(CAPTURE, REQUEST)
