"""A statistic that is several tables: those of its parts, from one pass, on each engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.command import DATA, sharkstat, tables

import sharkstat as library
from sharkstat import Registry

PLUGIN = """
import sharkstat

class Names(sharkstat.Declared):
    name = "dns,names-asked"
    title = "Names"
    keys = ("dns.qry.name",)
    filter = "dns"

class Total(sharkstat.Declared):
    name = "dns,total"
    title = "Total"
    filter = "dns"

class Report(sharkstat.Several):
    name = "dns,report"
    title = "DNS at a glance"
    statistics = (Names(), Total())

@sharkstat.hookimpl
def register_statistics(register):
    register(Report())
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "report.py"
    path.write_text(PLUGIN)
    return path


def test_one_request_gives_the_tables_of_its_parts(plugin: Path) -> None:
    registry = Registry.default([plugin])
    parts = ["dns,names-asked,ip.src == 192.0.2.10", "dns,total,ip.src == 192.0.2.10"]
    for engine in ("lua", "packets"):
        together = library.run(DATA / "dns.pcapng", "dns,report,ip.src == 192.0.2.10", engine=engine, registry=registry)
        alone = library.run(DATA / "dns.pcapng", parts, engine=engine, registry=registry)
        assert [table.request for table in together] == parts
        assert [table.rows for table in together] == [table.rows for table in alone]
        assert together[0].total("packets") == together[1].total("packets") > 0
        again = [library.Table.merge([table, table]) for table in together]
        assert again[1].total("packets") == 2 * together[1].total("packets")


def test_it_is_listed_and_shown(plugin: Path) -> None:
    found = tables(DATA / "dns.pcapng", "--plugin", plugin, "-z", "dns,report", "-z", "conv,udp")
    assert [table["request"] for table in found] == ["dns,names-asked", "dns,total", "conv,udp"]
    shown = sharkstat("show", "dns,report", "--plugin", plugin)
    assert shown.returncode == 0 and "The tables of dns,names-asked, dns,total" in shown.stdout
    assert "dns,report" in sharkstat("list", "--plugin", plugin).stdout


def test_one_without_parts_is_told(tmp_path: Path, plugin: Path) -> None:
    plugin.write_text(PLUGIN.replace("(Names(), Total())", "(Names, Total)"))
    (loaded,) = [one for one in Registry.default([plugin]).plugins if one.name == "report"]
    assert "Report: statistics = " in loaded.problem and "give objects" in loaded.problem
