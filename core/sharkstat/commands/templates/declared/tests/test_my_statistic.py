"""my,statistic on a small capture of real DNS traffic."""

from pathlib import Path

from sharkstat.testing import Check, Run

CAPTURE = Path(__file__).with_name("dns.pcapng")
REQUEST = "my,statistic"


def test_names_are_counted(sharkstat_run: Run) -> None:
    table = sharkstat_run(CAPTURE, REQUEST)
    assert {row["name"]: row["packets"] for row in table}["www.example.net"] == 20


def test_every_packet_is_in_one_row(assert_balanced: Check) -> None:
    assert_balanced(CAPTURE, REQUEST, display_filter="dns")


def test_both_engines_agree(assert_engines_agree: Check) -> None:
    assert_engines_agree(CAPTURE, REQUEST)


def test_parts_merge_into_the_whole(assert_merges: Check) -> None:
    assert_merges(CAPTURE, REQUEST)


def test_it_survives_damaged_captures(assert_survives: Check) -> None:
    assert_survives(CAPTURE, REQUEST)
