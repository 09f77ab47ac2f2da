"""The overview: what it finds in captures with known troubles, how it fits a terminal, and that plugins are in it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.command import DATA, TRUTH, sharkstat
from tests.oracle import tool

from sharkstat import Overview, Registry, overview
from sharkstat.tables.texts import display_width

TROUBLED = [DATA / f"{name}.pcapng" for name in ("connections", "waits", "arp", "story-after")]


@pytest.fixture(scope="module")
def troubled() -> Overview:
    return overview(TROUBLED)


def findings(found: Overview) -> dict[str, tuple[Any, Any]]:
    """Figure and base of each finding, by its sentence without figures and place."""
    return {
        re.sub(r"^[\d,]+ of [\d,]+ | \(.*", "", str(row["finding"])): (row["figure"], row["base"])
        for row in found.findings
    }


def test_what_is_wrong_is_found_with_its_figure_and_base(troubled: Overview) -> None:
    found = findings(troubled)
    servers = TRUTH["connections.pcapng"]["connections"]
    [connections] = {base for text, (_, base) in found.items() if text.startswith("TCP connections")}
    assert connections >= sum(server["connections"] for server in servers)
    for text, name in (
        ("TCP connections refused", "refused"),
        ("TCP connections reset", "reset"),
        ("TCP connections without any response", "timed_out"),
    ):
        assert found[text][0] == sum(server[name] for server in servers), text
    requests = sum(request["count"] for request in TRUTH["story-after.pcapng"]["http"]["requests"])
    missing = found["HTTP responses have a status of 4xx"]
    assert missing[0] == 2 and missing[1] >= requests + len(TRUTH["waits.pcapng"]["waits"]["http"])
    assert found["HTTP requests without a response"][0] == TRUTH["waits.pcapng"]["http_never_answered"]
    assert found["DNS answers are errors"][0] == 1  # broken.example.net
    assert any(text.startswith("2 MAC addresses claim 192.0.2.52: ") for text in found)
    ranks = [("bad", "warning", "note").index(str(row["severity"])) for row in troubled.findings]
    assert ranks == sorted(ranks) and len(set(ranks)) > 1
    # What is not wrong is not there.
    assert not any("RTP" in text or "certificate" in text for text in found)


@pytest.mark.parametrize("width", [80, 120])
def test_the_page_is_in_order_and_fits(troubled: Overview, width: int) -> None:
    page = troubled.text(width)
    lines = page.splitlines()
    assert max(map(display_width, lines)) <= width and not any(line != line.rstrip() for line in lines)
    at = [page.index(f"\n{title}") for title in ("Traffic over time", "Services", "Hosts", "HTTP", "DNS", "Health")]
    assert at == sorted(at)
    reading = troubled.capture.reading
    assert f"{reading.packets:,} packets" in page and "UTC" in page
    assert ("█" in page) and "share" in page and " %" in page
    assert "http" in page and "store.example.net" in page
    # A low terminal has fewer rows, and all blocks.
    low = troubled.text(width, 30)
    assert len(low.splitlines()) < len(lines) and "Health" in low and "Hosts" in low


def test_the_commands_of_the_page_show_what_the_page_has() -> None:
    page = sharkstat("story-after.pcapng", env={"COLUMNS": "110"}, cwd=DATA)
    assert page.returncode == 0 and "\x1b" not in page.stdout
    commands = re.findall(r"sharkstat (run .*)", page.stdout)
    assert len(commands) == 7
    for command in commands:
        assert sharkstat(*shlex.split(command), "--format", "json", cwd=DATA).returncode == 0
    more = re.search(r"(\d+) more: sharkstat (run .*http,requests.*)", page.stdout)
    assert more
    whole = json.loads(sharkstat(*shlex.split(more[2]), "--format", "json", cwd=DATA).stdout)["tables"][0]["rows"]
    block = page.stdout[page.stdout.index("\nHTTP") : more.start()].strip().splitlines()
    assert len(whole) == int(more[1]) + len(block) - 1


def test_every_format_has_the_tables_and_the_findings(tmp_path: Path) -> None:
    before = DATA / "story-before.pcapng"
    given = sharkstat("overview", "-", "--format", "json", given=before.read_bytes())
    tables = {table["name"]: table for table in json.loads(given.stdout)["tables"]}
    [capture] = tables["capture"]["rows"]
    facts = TRUTH[before.name]["file"]
    assert (capture["packets"], capture["bytes"]) == (facts["frames"], facts["bytes"])
    assert capture["facts"] == ["Ethernet"] and capture["complete"] is True
    assert capture["mean_rate"] < capture["peak_rate"]
    for name in ("timeline", "services", "links"):
        assert sum(row["bytes"] for row in tables[name]["rows"]) == facts["bytes"], name
    assert {column["name"]: column["type"] for column in tables["findings"]["columns"]}["figure"] == "number"
    assert {row["severity"] for row in tables["findings"]["rows"]} <= {"bad", "warning", "note"}
    folder = tmp_path / "out/"
    assert sharkstat("overview", before, "--format", "csv", "--output", f"{folder}/").returncode == 0
    assert (folder / "findings.csv").read_text().startswith("severity,finding,figure,base,share,")


def test_what_is_wrong_with_the_packets_themselves_is_found(tmp_path: Path) -> None:
    doubled = tmp_path / "doubled.pcapng"
    mergecap = [tool("mergecap"), "-w", str(doubled), *[str(DATA / "story-before.pcapng")] * 2]
    subprocess.run(mergecap, check=True, stderr=subprocess.DEVNULL)
    frames = TRUTH["story-before.pcapng"]["file"]["frames"]
    found = sharkstat("overview", doubled)
    assert f"{frames:,} of {2 * frames:,} packets captured more than once, or sent twice (50.0 %)" in found.stdout
    assert "duplicate" not in found.stderr
    without = sharkstat("overview", doubled, "--dedup").stdout
    assert "more than once" not in without and f"\n  {frames:,} packets, " in without


def test_a_capture_without_packets_or_cut_short_says_so() -> None:
    empty = sharkstat("overview", DATA / "empty.pcap")
    assert (empty.returncode, "no packets" in empty.stdout) == (0, True)
    cut = sharkstat("overview", DATA / "cut.pcapng")
    assert cut.returncode == 6 and "INCOMPLETE" in cut.stdout and "cut short" in cut.stderr
    missing = sharkstat("nothing.pcap")
    assert missing.returncode == 4 and missing.stderr.count("\n") == 1
    assert "overview has no --engine" in sharkstat(DATA / "dns.pcapng", "--engine", "packets").stderr


TAP = """\
-- name: ttl,low
-- title: Low TTLs
-- column: address address key
-- column: packets integer sum packets
-- column: low integer sum packets
-- section: 250 title=Far_hosts rows=2 bar=packets columns=address=host,low,packets
-- finding: low/packets warning=0.0 bad=0.5 worst=address IP packets have a TTL below 65
local sharkstat = require "sharkstat"
sharkstat.tap(__FILE__, function(run)
  local ttl, rows = sharkstat.field "ip.ttl", {}
  run:listen("frame", function(pinfo)
    local found = ttl()
    local address = run:address(pinfo.src)
    local row = rows[address] or { address, 0, 0 }
    rows[address] = row
    row[2] = row[2] + 1
    if found and found.value < 65 then row[3] = row[3] + 1 end
  end)
  return function() for _, row in pairs(rows) do run:row(row) end end
end)
"""


def test_a_plugin_is_a_part_of_it(tmp_path: Path) -> None:
    plugin = tmp_path / "ttl_low.lua"
    plugin.write_text(TAP)
    found = overview(DATA / "dns.pcapng", registry=Registry.default([plugin]))
    page = found.text(100)
    assert page.index("\nServices") < page.index("\nFar hosts") < page.index("\nHosts")
    [own] = [row for row in found.findings if row["statistic"] == "ttl,low"]
    table = found["ttl,low"]
    assert (own["figure"], own["base"]) == (table.total("low"), found.capture["packets"][0])
    for wrong, said in (
        (TAP.replace("rows=2", "rows=two"), "invalid section"),
        (TAP.replace("bar=packets", "bar=octets"), "it has no column octets"),
        (TAP.replace("finding: low/packets", "finding: low/all"), "it has no column all"),
        (TAP.replace("finding: low/packets", "finding: low"), "invalid finding"),
    ):
        plugin.write_text(wrong)
        assert said in Registry.default([plugin]).warnings[0]
