"""dns,seen counts what it should, and keeps what a statistic promises."""

from pathlib import Path

from sharkstat.testing import Capture, Check, Mutants, Run

REQUEST = "dns,seen"


def test_names_are_counted(sharkstat_run: Run, sharkstat_capture: Capture) -> None:
    table = sharkstat_run(sharkstat_capture("dns"), REQUEST)
    assert table.rows[0] == {"name": "www.example.net", "count": 20}


def test_parts_merge_into_the_whole(assert_merges: Check, sharkstat_capture: Capture) -> None:
    assert_merges(sharkstat_capture("dns"), REQUEST)


def test_it_survives_damaged_captures(assert_survives: Check, sharkstat_capture: Capture) -> None:
    assert_survives(sharkstat_capture("dns"), REQUEST)


def test_no_name_is_lost_on_a_bad_day(
    sharkstat_mutants: Mutants, sharkstat_capture: Capture, sharkstat_run: Run
) -> None:
    def names(capture: Path) -> int | float:
        return sharkstat_run(capture, "group,by=dns.qry.name,count=dns.qry.name").total("dns_qry_name_count")

    for capture in sharkstat_mutants(sharkstat_capture("dns"), seeds=range(2)):
        assert sharkstat_run(capture, REQUEST).total("count") == names(capture)
