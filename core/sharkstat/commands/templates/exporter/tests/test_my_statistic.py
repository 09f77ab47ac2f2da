"""The format my,statistic has every row, and nothing in it acts on a terminal."""

from pathlib import Path

from sharkstat import Column, Registry, Table
from sharkstat.testing import Run

CAPTURE = Path(__file__).with_name("dns.pcapng")


def export(table: Table) -> str:
    exporter = Registry.default().exporter("my,statistic")
    assert exporter is not None
    return "".join(map(str, exporter([table])))


def test_every_row_is_a_block(sharkstat_run: Run) -> None:
    table = sharkstat_run(CAPTURE, "dns,names")
    head, *blocks = export(table).split("\n\n")
    assert head == "DNS names (dns,names)"
    assert len(blocks) == len(table.rows)
    assert "Name: www.example.net\n" in blocks[0]


def test_what_packets_say_does_not_act_on_a_terminal() -> None:
    table = Table("names", "Names", "names", (Column("name", "text", role="key"),), [{"name": "\x1b[31mred"}])
    assert export(table) == "Names (names)\n\nName: \\x1b[31mred\n"
