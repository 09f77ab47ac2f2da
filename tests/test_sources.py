"""Files, several files, standard input, and the options that say how they are read."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.command import (
    DATA,
    TRUTH,
    TSHARK,
    children,
    ended,
    frame,
    pcap,
    public_folder,
    sharkstat,
    started,
    tables,
)

HTTP = DATA / "http.pcapng"
BEFORE, AFTER = DATA / "story-before.pcapng", DATA / "story-after.pcapng"
STORY = ["-z", "io,stat,1,tcp,udp", "-z", "conv,tcp", "-z", "http_req,tree"]


def rows(found: list[dict[str, Any]]) -> list[Any]:
    return [table["rows"] for table in found]


@pytest.mark.parametrize("form", ["pcap", "pcapng", "gzip"])
def test_standard_input_gives_what_the_file_gives(form: str, tmp_path: Path) -> None:
    path = DATA / {"pcap": "nanosecond.pcap", "pcapng": "http.pcapng", "gzip": "http.pcap.gz"}[form]
    from_file = tables(path, *STORY)
    piped = tables("-", *STORY, given=path.read_bytes())
    assert rows(piped) == rows(from_file)
    assert piped[0]["read"]["sources"] == ["standard input"]
    with path.open("rb") as stdin:
        assert rows(tables("-", *STORY, stdin=stdin)) == rows(from_file)


def test_a_slow_pipe_is_read_to_its_end() -> None:
    process = started("run", "-", "-z", "io,stat,0", stdin=subprocess.PIPE)
    assert process.stdin is not None
    data = HTTP.read_bytes()
    for at in range(0, len(data), 9000):
        process.stdin.write(data[at : at + 9000])
        process.stdin.flush()
        time.sleep(0.15)
    assert "204" in ended(process).stdout


def test_a_named_pipe_is_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(HTTP.read_bytes()))
    writer.start()
    assert tables(pipe, "-z", "io,stat,0")[0]["rows"][0]["frames"] == TRUTH["http.pcapng"]["file"]["frames"]
    writer.join()


@pytest.mark.parametrize("engine", ["lua", "packets"])
def test_several_files_are_one_capture_in_time_order(engine: str, tmp_path: Path) -> None:
    files = [AFTER, BEFORE, DATA / "http.pcap.gz"]
    whole = tmp_path / "whole.pcapng"
    subprocess.run([shutil.which("mergecap") or "mergecap", "-w", whole, *files], check=True, stderr=subprocess.DEVNULL)
    together = tables(*files, *STORY, "--engine", engine)
    assert rows(together) == rows(tables(whole, *STORY, "--engine", engine))
    assert together[0]["read"]["sources"] == [str(path) for path in files]
    assert together[0]["complete"]


def test_per_file_reads_each_by_itself() -> None:
    each = tables(BEFORE, AFTER, *STORY, "--per-file")
    apart = [tables(BEFORE, *STORY), tables(AFTER, *STORY)]
    flat = [pair for pair in zip(*apart, strict=True) if not any(c["type"] == "path" for c in pair[0]["columns"])]
    joined = [table for table in each if table["columns"][0]["name"] == "file"]
    assert len(joined) == len(flat) > 0
    for table, (before, after) in zip(joined, flat, strict=True):
        of_files = [(str(BEFORE), row) for row in before["rows"]] + [(str(AFTER), row) for row in after["rows"]]
        assert table["rows"] == [{"file": name, **row} for name, row in of_files]
        assert table["read"]["packets"] == before["read"]["packets"] + after["read"]["packets"]
    trees = [table for table in each if table not in joined]
    assert [t for t in trees if t["read"]["sources"] == [str(AFTER)]] == [
        t for t in apart[1] if t["request"] in {tree["request"] for tree in trees}
    ]
    done = sharkstat("run", BEFORE, AFTER, "-z", "conv,udp", "--per-file")
    assert done.stdout.count(str(BEFORE)) == len(tables(BEFORE, "-z", "conv,udp")[0]["rows"])


def test_the_display_filter_limits_what_statistics_see() -> None:
    udp = tables(BEFORE, "-Y", "udp", "-z", "io,stat,0,tcp,udp", "-z", "conv,tcp", "-z", "conv,udp")
    (row,) = udp[0]["rows"]
    assert (row["frames[tcp]"], udp[1]["rows"]) == (0, [])
    assert row["frames[udp]"] == udp[0]["read"]["packets"] == sum(r["packets"] for r in udp[2]["rows"]) > 0
    assert udp[0]["read"]["display_filter"] == "udp"


def test_counting_ends_at_the_packet_that_was_named() -> None:
    (table,) = tables(HTTP, "-c", "7", "-z", "io,stat,0")
    assert table["rows"][0]["frames"] == table["read"]["packets"] == 7
    (table,) = tables("-", "-c", "7", "-z", "io,stat,0", given=HTTP.read_bytes())
    assert table["rows"][0]["frames"] == 7


def test_a_read_filter_drops_packets_before_they_are_counted() -> None:
    (table,) = tables(BEFORE, "-2", "-R", "udp", "-z", "io,stat,0")
    (filtered,) = tables(BEFORE, "-Y", "udp", "-z", "io,stat,0")
    assert table["rows"][0]["frames"] == filtered["rows"][0]["frames"] > 0
    (merged,) = tables(BEFORE, AFTER, "-2", "-R", "udp", "-z", "io,stat,0")
    assert merged["rows"][0]["frames"] > table["rows"][0]["frames"]


def test_decode_as_preferences_and_profile_reach_tshark(tmp_path: Path) -> None:
    parts = [b"GET /x HTTP/1.1\r\nHost: odd.", b"example.net\r\n\r\n"]
    capture = tmp_path / "two-segments.pcap"
    capture.write_bytes(pcap([frame(parts[0]), frame(parts[1], sequence=1 + len(parts[0]))]))

    def found(*options: object, **more: Any) -> bool:
        (table,) = tables(capture, "-z", "http_req,tree", *options, **more)
        return ["HTTP Requests by HTTP Host", "odd.example.net", "/x"] in [row["path"] for row in table["rows"]]

    preference = "tcp.desegment_tcp_streams:FALSE"
    assert found()
    assert not found("-d", "tcp.port==80,data")
    assert not found("-o", preference)
    profile = tmp_path / "profiles" / "odd"
    profile.mkdir(parents=True)
    (profile / "preferences").write_text(preference + "\n")
    mine = {"WIRESHARK_CONFIG_DIR": str(tmp_path)}
    assert not found("-C", "odd", env=mine)
    # A preference of the user's own changes nothing, unless its profile is named.
    (tmp_path / "preferences").write_text(preference + "\n")
    assert found(env=mine)


def test_http_inside_tls_is_seen_with_the_keys_alone() -> None:
    tls = DATA / "tls.pcapng"
    assert tables(tls, "-z", "http_req,tree")[0]["rows"] == []
    found = tables(tls, "-z", "http_req,tree", "--keylog", DATA / "tls.keys")[0]["rows"]
    hosts = {row["path"][1]: row["count"] for row in found if len(row["path"]) == 2}
    assert hosts == TRUTH["tls.pcapng"]["http_inside"]["requests_by_host"]


@pytest.mark.parametrize("engine", ["lua", "packets"])
def test_names_are_shown_and_digits_are_exported(engine: str) -> None:
    asked = ["run", BEFORE, "-z", "conv,ip", "--engine", engine]
    with_names = sharkstat(*asked, "-N", "dn").stdout
    assert "store.example.net" in with_names
    assert "store.example.net" not in sharkstat(*asked).stdout
    assert "store.example.net" not in sharkstat(*asked, "-n").stdout
    (table,) = tables(*asked[1:], "-N", "dn")
    (digits,) = [digits for digits, name in table["names"].items() if name == "store.example.net"]
    assert digits in [row["address_b"] for row in table["rows"]]
    assert table["rows"] == tables(*asked[1:])[0]["rows"]
    (ethernet,) = tables(BEFORE, "-z", "endpoints,eth", "--engine", engine, "-N", "m")
    assert ethernet["names"]["ff:ff:ff:ff:ff:ff"] == "Broadcast"
    assert "ff:ff:ff:ff:ff:ff" in [row["address"] for row in ethernet["rows"]]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to drop: NOT TESTED HERE")
def test_dissection_never_runs_as_root() -> None:
    with public_folder() as folder:
        secret = folder / "secret.pcapng"
        secret.write_bytes(HTTP.read_bytes())
        secret.chmod(0o600)
        assert tables(secret, "-z", "conv,ip")[0]["rows"] == tables(HTTP, "-z", "conv,ip")[0]["rows"]
        assert tables(secret, "-2", "-z", "conv,ip")[0]["rows"] == tables(HTTP, "-z", "conv,ip")[0]["rows"]
    process = started("run", "-", "-z", "conv,ip", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(HTTP.read_bytes()[:5000])
    process.stdin.flush()
    deadline = time.monotonic() + 20
    found: dict[int, str] = {}
    while not found and time.monotonic() < deadline:
        found = {pid: line for pid, line in children(process.pid).items() if "lua_script:" in line}
        time.sleep(0.05)
    ((pid, command),) = found.items()
    assert command.split()[0].endswith(Path(TSHARK).name)
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    (uid,) = set(status["Uid"].split())
    assert uid != "0"
    assert "0" not in [*status["Gid"].split(), *status["Groups"].split()]
    assert int(status["CapEff"], 16) == 0
    process.stdin.write(HTTP.read_bytes()[5000:])
    assert ended(process).returncode == 0


def test_a_compressed_file_is_read_as_such(tmp_path: Path) -> None:
    packed = tmp_path / "edges.pcap.gz"
    packed.write_bytes(gzip.compress((DATA / "edges.pcap").read_bytes()))
    assert rows(tables(packed, "-z", "io,stat,10")) == rows(tables(DATA / "edges.pcap", "-z", "io,stat,10"))
