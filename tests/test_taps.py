"""The tap files by themselves, in plain tshark: real -z names, with the numbers that sharkstat has."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.measure import DATA, PROJECT

import sharkstat
from sharkstat.tshark import Workspace, clean_environment, find_tshark

LUA = PROJECT / "lua" / "sharkstat_lua"
TAPS = {
    "conversations.lua": [f"conv,{kind}" for kind in ("eth", "ip", "ipv6", "tcp", "udp")],
    "endpoints.lua": [f"endpoints,{kind}" for kind in ("eth", "ip", "ipv6", "tcp", "udp")],
    "http.lua": ["http,tree", "http_req,tree", "http_srv,tree"],
    "io_stat.lua": ["io,stat,0.1,,tcp,SUM(ip.len),MAX(tcp.len)tcp", "io,stat,0"],
}


# tshark makes fields only while it loads scripts, so a tap must be told those of a calculation.
FIELDS = {"io_stat.lua": ["ip.len", "tcp.len"]}


def plain_tshark(tap: str, requests: Sequence[str], capture: Path, prefix: str = "sharkstat,") -> str:
    """What tshark prints with this tap and nothing else of sharkstat; never as root, which loads no Lua."""
    with Workspace(find_tshark()) as workspace:
        folder = workspace.readable(LUA, "taps")
        command = [workspace.tshark.path, "-q", "-n", "-r", str(workspace.readable(capture, capture.name))]
        command += ["-X", f"lua_script:{folder / tap}"]
        for field in FIELDS.get(tap, []):
            command += ["-X", f"lua_script1:{field}"]
        for request in requests:
            command += ["-z", f"{prefix}{request}"]
        user = workspace.user
        done = subprocess.run(
            command,
            capture_output=True,
            env=clean_environment(workspace.path),
            timeout=60,
            cwd="/",
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
    assert done.returncode == 0
    if done.stderr.strip():
        pytest.fail(done.stderr.decode())
    return done.stdout.decode("utf-8", "backslashreplace")


def printed(text: str) -> dict[str, list[list[str]]]:
    """The tables in the text by title: a row's cells, from two spaces to two spaces."""
    found = {}
    for block in text.strip().split("\n\n"):
        title, *lines = block.splitlines()
        found[title] = [re.split(r" {2,}", line.strip()) for line in lines[2:]]
    return found


def cells(table: sharkstat.Table) -> list[list[str]]:
    """The counted columns of the table as the taps print them."""
    base = table.reading.start
    rows = []
    for row in table:
        line = []
        for column in table.columns:
            value = row[column.name]
            if column.role == "derived":
                continue
            if isinstance(value, tuple):
                line.append(" / ".join(value))
            elif value is None or (value == 0 and column.merge == "sum" and table.name == "io,stat"):
                line.append("-")  # a tap by itself knows no count of nothing
            elif column.type in ("time", "duration"):
                line.append(f"{(value - (base if column.type == 'time' else 0)) / 1e9:.9f}")  # type: ignore[operator]
            else:
                line.append(str(value))
        rows.append(line)
    return sorted(rows)


@pytest.mark.parametrize("capture", ["story-after.pcapng", "ipv6.pcapng", "tunnel.pcapng"])
@pytest.mark.parametrize("tap", TAPS)
def test_a_tap_by_itself_prints_the_same_numbers(tap: str, capture: str) -> None:
    tables = sharkstat.run(DATA / capture, TAPS[tap])
    together = printed(plain_tshark(tap, TAPS[tap], DATA / capture))
    assert len(together) == len(tables)
    for table, (title, rows) in zip(tables, sorted_like(together, tables), strict=True):
        if table.rows:
            assert sorted(rows) == cells(table), title


def sorted_like(
    found: dict[str, list[list[str]]], tables: Sequence[sharkstat.Table]
) -> list[tuple[str, list[list[str]]]]:
    result = []
    for table in tables:
        arguments = table.request[len(table.name) + 1 :]
        title = f"{table.title}  [{arguments}]" if arguments else table.title
        result.append((title, found[title]))
    return result


@pytest.mark.parametrize("tap", TAPS)
def test_an_empty_capture_has_no_matching_packets(tap: str) -> None:
    text = plain_tshark(tap, TAPS[tap], DATA / "empty.pcap")
    assert text.count("no matching packets") == len(TAPS[tap])


def test_a_filter_is_taken_from_the_name() -> None:
    text = plain_tshark("conversations.lua", ["conv,tcp,tcp.port == 443"], DATA / "story-after.pcapng")
    [table] = sharkstat.run(DATA / "story-after.pcapng", "conv,tcp,tcp.port == 443")
    assert table.rows
    assert [sorted(rows) for rows in printed(text).values()] == [cells(table)]


def test_no_control_character_of_a_packet_reaches_the_terminal() -> None:
    text = plain_tshark("http.lua", TAPS["http.lua"], DATA / "http.pcapng")
    assert "\\x09" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)


def test_a_calculation_whose_field_was_not_named_says_how_to_name_it() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"lua_script1:udp\.length"):
        plain_tshark("io_stat.lua", ["io,stat,1,SUM(udp.length)"], DATA / "dns.pcapng")


def test_loaded_and_not_asked_for_a_tap_prints_nothing() -> None:
    assert plain_tshark("http.lua", [], DATA / "story-after.pcapng") == ""
