"""The tap files by themselves, in plain tshark: real -z names, with the numbers that sharkstat has."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.measure import DATA, PROJECT

import sharkstat
from sharkstat.tables.export import plain_value
from sharkstat.tables.figures import seconds
from sharkstat.tshark.process import clean_environment, find_tshark
from sharkstat.tshark.workspace import Workspace

LUA = PROJECT / "lua" / "sharkstat_lua"
TAPS = {
    "conversations.lua": [f"conv,{kind}" for kind in ("eth", "ip", "ipv6", "tcp", "udp")],
    "endpoints.lua": [f"endpoints,{kind}" for kind in ("eth", "ip", "ipv6", "tcp", "udp")],
    "http.lua": ["http,tree", "http_req,tree", "http_srv,tree"],
    "io_stat.lua": ["io,stat,0.1,,tcp,SUM(ip.len),MAX(tcp.len)tcp", "io,stat,0"],
}


def plain_tshark(
    taps: str | Sequence[str],
    requests: Sequence[str],
    capture: Path,
    prefix: str = "sharkstat,",
    before: Path | None = None,
) -> str:
    """What tshark prints with these taps and nothing else of sharkstat; never as root, which loads no Lua.

    A script that is given as `before` is loaded first, from the folder of the taps.
    """
    with Workspace(find_tshark()) as workspace:
        folder = workspace.readable(LUA, "taps")
        command = [workspace.tshark.path, "-q", "-n", "-r", str(workspace.readable(capture, capture.name))]
        files = [Path(tap) for tap in ([taps] if isinstance(taps, str) else taps)]
        for script in [before, *files] if before else files:
            place = folder / script.name
            if script.is_absolute():
                place.write_bytes(script.read_bytes())
                place.chmod(0o644)
            command += ["-X", f"lua_script:{place}"]
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
    if done.stderr.strip():
        pytest.fail(done.stderr.decode())
    assert done.returncode == 0
    return done.stdout.decode("utf-8", "backslashreplace")


def rows_of(text: str) -> list[list[str]]:
    """The rows of tab-separated values, without the heading."""
    return sorted(line.split("\t") for line in text.splitlines()[1:])


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
            if value == 0 and column.merge == "sum" and table.name == "io,stat":
                line.append("")  # a tap by itself knows no count of nothing
            elif isinstance(value, int) and column.type == "time":
                line.append(seconds(value - (base or 0)))
            else:
                line.append(plain_value(column, value))
        rows.append(line)
    return sorted(rows)


def as_rows(request: str, names: Sequence[str]) -> str:
    """The request of a tap by itself, for rows."""
    name = max((n for n in names if request == n or request.startswith(n + ",")), key=len)
    return f"{name},format=rows{request[len(name) :]}"


@pytest.mark.parametrize("capture", ["story-after.pcapng", "ipv6.pcapng", "tunnel.pcapng"])
def test_taps_by_themselves_print_the_same_numbers(capture: str) -> None:
    tables = sharkstat.run(DATA / capture, [request for requests in TAPS.values() for request in requests])
    text = plain_tshark(list(TAPS), [as_rows(t.request, [t.name for t in tables]) for t in tables], DATA / capture)
    blocks = text.split("\n\n")
    assert len(blocks) == len(tables)
    for table, block in zip(tables, reversed(blocks), strict=True):  # tshark draws the last one first
        counted = [c for c in table.columns if c.role != "derived"]
        names, *rows = (line.split("\t") for line in block.splitlines())
        if table.name == "io,stat":  # an average is there beside its sum and count
            rows = [[value for name, value in zip(names, row, strict=True) if ".mean" not in name] for row in rows]
        else:
            assert names == [c.name for c in counted]
        assert sorted(rows) == cells(table), table.request


def test_an_empty_capture_has_no_matching_packets() -> None:
    asked = [request for requests in TAPS.values() for request in requests]
    assert plain_tshark(list(TAPS), asked, DATA / "empty.pcap").count("no matching packets") == len(asked)


def test_a_filter_is_taken_from_the_name() -> None:
    text = plain_tshark("conversations.lua", ["conv,tcp,format=rows,tcp.port == 443"], DATA / "story-after.pcapng")
    [table] = sharkstat.run(DATA / "story-after.pcapng", "conv,tcp,tcp.port == 443")
    assert table.rows
    assert rows_of(text) == cells(table)


def test_no_control_character_of_a_packet_reaches_the_terminal() -> None:
    text = plain_tshark("http.lua", TAPS["http.lua"], DATA / "http.pcapng")
    assert "\\x09" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)


@pytest.mark.parametrize(
    ("request_text", "reason"),
    [
        ("io,stat,1,SUM(no.such)", r"io,stat: SUM\(\): no such field: no\.such"),
        ("io,stat,1,SUM(http.host)", r"io,stat: packet \d+: io,stat: SUM\(http\.host\): the field is not a number"),
        ("io,stat,x", "io,stat: the interval must be a number"),
        ("io,stat,format=xml,1", "io,stat: format=xml: choose rows or table"),
        ("io,stat,1,tcp ===", "io,stat: Filter.*tcp ==="),
    ],
)
def test_what_is_wrong_is_one_line(request_text: str, reason: str) -> None:
    with pytest.raises(pytest.fail.Exception) as failure:
        plain_tshark("io_stat.lua", [request_text], DATA / "http.pcapng")
    assert re.fullmatch(f"tshark: {reason}.*", str(failure.value).strip())


def test_loaded_and_not_asked_for_a_tap_prints_nothing() -> None:
    assert plain_tshark("http.lua", [], DATA / "story-after.pcapng") == ""
