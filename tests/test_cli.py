"""The commands, and what a person sees: options for rows and columns, the terminal, progress."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import socket
import struct
import subprocess
import termios
from pathlib import Path

import pytest
from tests.command import DATA, SHARKSTAT, requests, sharkstat, tables

import sharkstat as library

HTTP = DATA / "http.pcapng"
NAMES = [
    f"{family},{kind}" for family in ("conv", "endpoints") for kind in ("eth", "ip", "ipv6", "ipx", "tcp", "udp", "usb")
]
NAMES += ["http,tree", "http_req,tree", "http_srv,tree", "io,stat"]


def test_list_names_every_statistic() -> None:
    done = sharkstat("list")
    assert (done.returncode, done.stderr) == (0, "")
    (table,) = json.loads(sharkstat("list", "--format", "json").stdout)["tables"]
    names = [row["name"] for row in table["rows"]]
    assert names == sorted(names)
    blocks = [block.splitlines() for block in done.stdout.split("\n\n")]
    assert [block[0] for block in blocks] == [
        "What is in the traffic? (list)",
        "Who talks to whom? (list)",
        "How well does it work? (list)",
        "tshark's own, by protocol (list)",
    ]
    assert sorted(line.split()[0] for block in blocks for line in block[3:]) == names
    ours = [row for row in table["rows"] if row["engines"] in ("lua, packets, tshark", "lua, packets, headers, tshark")]
    assert [row["name"] for row in ours] == NAMES
    assert all(row["usage"] and row["title"] and row["family"] for row in ours)


@pytest.mark.parametrize("name", NAMES)
def test_show_describes_a_statistic(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from sharkstat.commands.cli import app

    app(["show", name], standalone_mode=False)
    text = capsys.readouterr().out
    statistic, _ = library.Registry.default().find(name)
    assert text.startswith(f"{name}: {statistic.title}\n")
    assert f"Usage:    -z '{name}" in text
    arguments = "1" if name == "io,stat" else ""
    for column in statistic.columns(arguments):
        assert re.search(rf"^{re.escape(column.name)} +{column.type}\b", text, re.MULTILINE)


def test_show_takes_arguments_and_formats() -> None:
    (table,) = json.loads(sharkstat("show", "io,stat,1,AVG(ip.len)udp", "--format", "json").stdout)["tables"]
    assert "avg(ip.len)[udp]" in [row["column"] for row in table["rows"]]
    done = sharkstat("show", "conv,tpc")
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown statistic 'conv,tpc'; did you mean conv,tcp" in done.stderr


def test_doctor_finds_everything_well() -> None:
    done = sharkstat("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    lines = dict(line[6:].split(": ", 1) for line in done.stdout.splitlines())
    assert not re.search("^FAIL", done.stdout, re.MULTILINE)
    assert "with Lua" in lines["tshark"]
    assert lines["engines"] == "lua and packets count a test packet correctly"
    assert re.match(r"\d+ from \d+ plugins", lines["statistics"])


def test_a_report_has_what_a_bug_report_needs_and_nothing_private(tmp_path: Path) -> None:
    home = tmp_path / "secret"
    plugins = home / ".config" / "sharkstat" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "broken.py").write_text("raise OSError('no route to 198.51.100.77')")
    done = sharkstat("doctor", "--report", env={"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")})
    assert done.returncode == 3  # a plugin that does not load
    said = done.stdout
    assert f"sharkstat {library.__version__}" in said and "Lua" in said and "broken.py" in said
    assert "ok    engines: lua and packets count a test packet correctly" in said
    interfaces = [name for _, name in socket.if_nameindex() if name != "lo"]
    private = [str(tmp_path), "secret", "198.51.100.77", socket.gethostname(), *interfaces]
    assert not [word for word in private if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", said)]


def test_doctor_says_what_is_missing() -> None:
    done = sharkstat("doctor", env={"SHARKSTAT_TSHARK": "/nonexistent"})
    assert done.returncode == 3
    assert "FAIL  tshark: /nonexistent not found: install it" in done.stdout


def test_version_and_help() -> None:
    assert sharkstat("--version").stdout == f"sharkstat {library.__version__}\n"
    for arguments in (["--help"], ["-h"]):
        done = sharkstat(*arguments)
        assert done.returncode == 0
        assert all(
            re.search(rf"^ +{name} +\S", done.stdout, re.MULTILINE) for name in ("run", "list", "show", "doctor")
        )
    options = sharkstat("run", "--help").stdout
    for option in [
        "-z",
        "--engine",
        "-Y",
        "--per-file",
        "-i",
        "-f",
        "-a",
        "-c",
        "-s",
        "-p",
        "-n",
        "-N",
        "-d",
        "-o",
        "-2",
        "-R",
        "-C",
        "--keylog",
    ]:
        assert re.search(rf"(^|\W){option}\b", options), option
    for option in ["--format", "--sort", "--top", "--columns", "--output", "--plugin", "--debug"]:
        assert option in options


# Rows and columns


def test_sort_both_ways() -> None:
    column = [row["packets"] for row in tables(HTTP, "-z", "conv,tcp", "--sort", "packets")[0]["rows"]]
    assert column == sorted(column, reverse=True) and len(set(column)) > 1
    column = [row["packets"] for row in tables(HTTP, "-z", "conv,tcp", "--sort", "packets:asc")[0]["rows"]]
    assert column == sorted(column)
    ports = [row["port_a"] for row in tables(HTTP, "-z", "conv,tcp", "--sort", "port_a:desc")[0]["rows"]]
    assert ports == sorted(ports, reverse=True)


def test_trees_are_sorted_and_cut_level_by_level() -> None:
    (whole,) = tables(HTTP, "-z", "http_req,tree")
    (table,) = tables(HTTP, "-z", "http_req,tree", "--sort", "count:asc", "--top", "2")
    paths = [tuple(row["path"]) for row in table["rows"]]
    count = {tuple(row["path"]): row["count"] for row in whole["rows"]}
    for path in paths:
        assert path[:-1] in ((), *paths[: paths.index(path)]), "a parent stands before its children"
        shown = [p for p in paths if p[:-1] == path[:-1]]
        level = sorted(n for p, n in count.items() if p[:-1] == path[:-1])
        assert [count[p] for p in shown] == level[:2]
    assert table["omitted"] == len(whole["rows"]) - len(paths)


def test_top_says_how_many_rows_are_left_out() -> None:
    done = sharkstat("run", HTTP, "-z", "conv,tcp", "--top", "3", "--columns", "port_a,bytes")
    lines = done.stdout.splitlines()
    assert [line.split() for line in lines[1:2]] == [["Port", "A", "Bytes"]]
    assert len(lines) == 3 + 3 + 1
    (table,) = tables(HTTP, "-z", "conv,tcp")
    assert lines[-1] == f"… and {len(table['rows']) - 3} more rows"


def test_columns_are_chosen_and_ordered() -> None:
    (table,) = tables(HTTP, "-z", "conv,tcp", "--columns", "stream,bytes,address_a")
    assert [c["name"] for c in table["columns"]] == list(table["rows"][0]) == ["stream", "bytes", "address_a"]
    (table,) = tables(HTTP, "-z", "io,stat,1,tcp.port in {80,81}", "--columns", "bytes[tcp.port in {80,81}],start")
    assert list(table["rows"][0]) == ["bytes[tcp.port in {80,81}]", "start"]


def test_all_requests_and_engines_give_their_tables_in_order() -> None:
    asked = ["conv,tcp", "http,tree", "io,stat,1,tcp,udp", "conv,tcp,ip.addr == 192.0.2.20"]
    options = [word for request in asked for word in ("-z", request)]
    for engine in ("lua", "packets"):
        found = tables(HTTP, *options, "--engine", engine)
        assert [table["request"] for table in found] == asked
        assert {table["engine"] for table in found} == {engine}


# The terminal


def at_terminal(*arguments: object, columns: int = 80, **variables: str) -> tuple[str, str]:
    """What the command writes to a terminal of that width: standard output, standard error."""
    screens = [pty.openpty() for _ in range(2)]
    for _, inner in screens:
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [SHARKSTAT, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=screens[0][1],
        stderr=screens[1][1],
        env={**environment, "TERM": "xterm", **variables},
    )
    for _, inner in screens:
        os.close(inner)
    texts = {outer: b"" for outer, _ in screens}
    waiting = list(texts)
    while waiting:
        for outer in select.select(waiting, [], [], 60)[0]:
            try:
                chunk = os.read(outer, 65536)
            except OSError:  # the other side was closed
                chunk = b""
            texts[outer] += chunk
            if not chunk:
                waiting.remove(outer)
                os.close(outer)
    process.wait(timeout=60)
    out, err = (texts[outer].decode().replace("\r\n", "\n") for outer, _ in screens)
    return out, err


def test_tables_fit_the_terminal() -> None:
    for columns in (40, 80, 120):
        asked = ["run", HTTP, "-z", "conv,tcp", "-z", "http_req,tree"]
        out, err = at_terminal(*asked, columns=columns, NO_COLOR="1")
        assert "\x1b" not in out
        lines = [line for line in out.splitlines() if not line.endswith(("(conv,tcp)", "(http_req,tree)"))]
        assert max(map(len, lines)) <= columns
        if columns < 120:
            assert "conv,tcp: not shown for lack of width: " in err and "choose with --columns" in err
    # Every column that is left out is named; nothing is left out of a pipe.
    out, err = at_terminal("run", HTTP, "-z", "conv,tcp", "--columns", "bytes,packets,port_a,start", columns=30)
    named = re.search("not shown for lack of width: (.*) \\(", err)
    assert named and named.group(1) == "start"
    assert "Bytes" in out and "Start" not in out
    done = sharkstat("run", HTTP, "-z", "conv,tcp")
    assert "Duration" in done.stdout and done.stderr == ""


def test_a_terminal_marks_what_a_health_finding_counts() -> None:
    asked = ("run", DATA / "connections.pcapng", "-z", "tcp,connections")
    out, _ = at_terminal(*asked, columns=120)
    # Of 10 connections 2 were reset (20 %, a warning), of 3 all were refused; 0 is no fault.
    (reset,) = [line for line in out.splitlines() if "40001" in line and "192.0.2.20" in line]
    assert "\x1b[33m2\x1b[0m" in reset and "\x1b[1;31m" not in reset
    (refused,) = [line for line in out.splitlines() if "40009" in line]
    assert "\x1b[1;31m3\x1b[0m" in refused and refused.startswith("\x1b[2m192.0.2.20\x1b[0m")
    plain = re.sub("\x1b\\[[0-9;]*m", "", out)
    assert plain == at_terminal(*asked, columns=120, TERM="dumb")[0]


def test_wide_characters_count_twice(tmp_path: Path) -> None:
    capture = tmp_path / "wide.pcap"
    capture.write_bytes(requests(("日本語".encode() * 30, b"/")))
    out, _ = at_terminal("run", capture, "-z", "http_req,tree", columns=60, NO_COLOR="1")
    from wcwidth import wcswidth

    assert max(wcswidth(line) for line in out.splitlines()) <= 60


def test_a_terminal_sees_progress_and_a_pipe_does_not(tmp_path: Path) -> None:
    whole = tmp_path / "whole.pcap"
    from tests.command import frame, pcap

    whole.write_bytes(pcap([frame(b"x" * 900, sequence=1 + 900 * number) for number in range(30000)]))
    out, err = at_terminal("run", whole, "-z", "io,stat,0", NO_COLOR="1")
    assert "reading" in err and re.search(r"\d+(\.\d+)?/\d+\.\d+ MB", err)
    assert "reading" not in out and "\x1b" not in out
    assert out.splitlines()[0] == "I/O statistics (io,stat,0)"
    done = sharkstat("run", whole, "-z", "io,stat,0")
    assert done.stderr == ""


def test_the_command_alone_is_its_help() -> None:
    done = sharkstat()
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "overview" in done.stdout + done.stderr
