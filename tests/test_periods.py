"""--every: a result for each period of the clock, and what is done with a folder of them."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.command import DATA, TSHARK, ended, sharkstat, started
from tests.traffic.capturefiles import udp_frame, write_pcap

import sharkstat as library
from sharkstat import Table
from sharkstat.tables.archive import Archive

AFTER = DATA / "story-after.pcapng"
BORDER = 1795396420  # 2026-11-23 01:13:40 UTC, in the middle of it
FIRST, SECOND = "2026-11-23T011330Z_10s", "2026-11-23T011340Z_10s"
ADDITIVE = ["conv,ip", "endpoints,ip", "endpoints,tcp", "io,stat,0"]
ASKED = [*ADDITIVE, "services", "traffic", "http,requests", "io,phs"]


def asked(*names: str) -> list[str]:
    return [word for name in names for word in ("-z", name)]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of story-after by periods of 10 s."""
    made = tmp_path_factory.mktemp("periods") / "kept"
    done = sharkstat("run", AFTER, "--every", "10s", "--output", made, *asked(*ASKED))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"sharkstat: {AFTER}: 243 packets, 2 results in {made}\n"
    assert names_in(made) == [f"{FIRST}.json", f"{SECOND}.json"]
    return made


def test_each_result_is_that_of_a_capture_of_its_packets(folder: Path, tmp_path: Path) -> None:
    """Cut by tshark itself."""
    for name, sign in ((FIRST, "<"), (SECOND, ">=")):
        cut = tmp_path / f"{name}.pcapng"
        subprocess.run([TSHARK, "-r", AFTER, "-Y", f"frame.time_epoch {sign} {BORDER}", "-w", cut], check=True)
        found = library.read(folder / f"{name}.json")
        whole = library.run(cut, ASKED)
        assert [table.request for table in found] == ASKED
        for table, other in zip(found, whole, strict=True):
            assert table.rows == other.rows, table.request
            assert (table.complete, table.reading.packets) == (True, other.reading.packets)
            assert table.reading.sources == (str(AFTER),)


def test_the_periods_together_are_the_whole(folder: Path) -> None:
    parts = [library.read(folder / f"{name}.json") for name in (FIRST, SECOND)]
    whole = library.run(AFTER, ADDITIVE)
    for one, other, table in zip(*parts, whole, strict=False):
        assert Table.merge([one, other]).rows == table.rows, table.request


def test_parquet_holds_the_same_tables_as_json(folder: Path, tmp_path: Path) -> None:
    done = sharkstat("run", AFTER, "--every", "10s", "--output", tmp_path, "--format", "parquet", *asked(*ASKED))
    assert done.returncode == 0, done.stderr
    assert len(names_in(tmp_path)) == 2 * len(ASKED)
    for table in library.read(folder / f"{SECOND}.json"):
        slug = table.request.replace(",", "_")
        assert library.read(tmp_path / f"{SECOND}.{slug}.parquet") == [table]
    duckdb = pytest.importorskip("duckdb")
    [(packets,)] = duckdb.sql(f"select sum(packets) from '{tmp_path}/*.traffic.parquet'").fetchall()
    assert packets == 243


def test_restarts_go_on_and_what_is_old_is_removed(tmp_path: Path) -> None:
    for _ in range(2):
        assert sharkstat("run", AFTER, "--every", "1h", "--output", tmp_path, "-z", "conv,ip").returncode == 0
    (tmp_path / "notes.txt").write_text("not ours")
    name = "2026-11-23T010000Z_1h"
    assert names_in(tmp_path) == [f"{name}.2.json", f"{name}.json", "notes.txt"]
    early = tmp_path.parent / "early.pcapng"
    subprocess.run(["editcap", "-t", "-172800", AFTER, early], check=True)
    assert sharkstat("run", early, "--every", "1d", "--output", tmp_path, "-z", "conv,ip").returncode == 0
    assert len(names_in(tmp_path)) == 4
    done = sharkstat("run", AFTER, "--every", "1h", "--output", tmp_path, "-z", "conv,ip", "--keep", "1d")
    assert done.returncode == 0
    assert names_in(tmp_path) == [f"{name}.2.json", f"{name}.3.json", f"{name}.json", "notes.txt"]


@pytest.mark.parametrize("suffix", [".gz", ".pcap", "-"])
def test_packed_files_and_pipes(folder: Path, tmp_path: Path, suffix: str) -> None:
    """What is no plain pcapng becomes one on its way."""
    out = tmp_path / "kept"
    if suffix == "-":
        done = sharkstat("run", "-", "--every", "10s", "--output", out, "-z", "traffic", given=AFTER.read_bytes())
    else:
        file = tmp_path / f"other{suffix}"
        if suffix == ".gz":
            import gzip

            file.write_bytes(gzip.compress(AFTER.read_bytes()))
        else:
            subprocess.run(["editcap", "-F", "nsecpcap", AFTER, file], check=True)
        done = sharkstat("run", file, "--every", "10s", "--output", out, "-z", "traffic")
    assert done.returncode == 0, done.stderr
    for name in (FIRST, SECOND):
        [table] = library.read(out / f"{name}.json")
        [same] = [t for t in library.read(folder / f"{name}.json") if t.name == "traffic"]
        assert table.rows == same.rows


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--every", "7m", "--output", "kept"], 2, "--every 7m: periods must divide a day"),
        (["--every", "soon", "--output", "kept"], 2, "--every takes a number with s, m, h or d"),
        (["--every", "1h"], 2, "give their folder with --output DIR"),
        (["--keep", "1d"], 2, "--keep requires --every"),
        (["--every", "1h", "--output", "kept", "--format", "csv"], 2, "--every writes json or parquet, not csv"),
        (["--every", "1h", "--output", "kept", "--top", "3"], 2, "--every keeps whole tables"),
        (["--every", "1h", "--output", "kept", "-Y", "no such"], 2, "-Y: invalid display filter"),
        (["--every", "1h", "--output", "file.txt"], 5, "file.txt: File exists"),
    ],
)
def test_what_cannot_be_kept_is_said(tmp_path: Path, arguments: list[str], status: int, said: str) -> None:
    (tmp_path / "file.txt").write_text("")
    done = sharkstat("run", AFTER, "-z", "conv,ip", *arguments, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


# Folders of results ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The story by days: two days as before, a day without a result, and two as after."""
    made = tmp_path_factory.mktemp("story")
    for day, name in ((1, "before"), (2, "before"), (4, "after"), (5, "after")):
        shifted = made.parent / f"{day}.pcapng"
        subprocess.run(["editcap", "-t", str(86400 * (day - 23)), DATA / f"story-{name}.pcapng", shifted], check=True)
        done = sharkstat("run", shifted, "--every", "1d", "--output", made, "-z", "traffic", "-z", "services")
        assert done.returncode == 0, done.stderr
    return made


def test_diff_names_what_changed_between_two_spans_of_time(story: Path) -> None:
    """As it does for the captures themselves."""
    done = sharkstat("diff", f"{story}@2026-11-01..2026-11-02", f"{story}@2026-11-05")
    assert done.returncode == 0, done.stderr
    assert "GET /backup?list-type&max-keys&prefix[&continuation-token]: requests" in done.stdout.splitlines()[1]
    of_captures = library.diff(DATA / "story-before.pcapng", DATA / "story-after.pcapng", per="second")
    of_results = library.diff(f"{story}@2026-11-01", f"{story}@2026-11-04..2026-11-05", per="second")
    assert of_results.findings[0].path == of_captures.findings[0].path
    same = library.diff(f"{story}@2026-11-01", f"{story}@2026-11-02")
    assert same.findings == []
    twice = library.diff(f"{story}@2026-11-01..2026-11-02", f"{story}@2026-11-02")
    assert twice.before.span == 2 * twice.after.span  # the days without a result do not count


def test_the_command_that_compares_the_ends_compares_two_periods(folder: Path) -> None:
    _, command, *sides = sharkstat("overview", folder).stdout.splitlines()[-1].split()
    assert sides == [f"{folder}@2026-11-23T01:13:30", f"{folder}@2026-11-23T01:13:40"]
    told = sharkstat(command, *sides).stdout
    assert "2026-11-23 01:13:35" in told and "2026-11-23 01:13:40" in told


def test_overview_shows_the_trend(story: Path) -> None:
    done = sharkstat("overview", story)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1] == "  4 results of 1 d, from 2026-11-01 00:00:00 to 2026-11-06 00:00:00 UTC"
    assert "1 missing" in lines[3]
    [server] = [line for line in lines if "store.example.net" in line]
    assert "▂▂ ██" in server
    found = json.loads(sharkstat("overview", f"{story}@2026-11-02..2026-11-04", "--format", "json").stdout)["tables"]
    assert [table["name"] for table in found] == ["trend", "trend,servers"]
    packets = [library.run(DATA / f"story-{name}.pcapng", "io,stat,0")[0].reading for name in ("before", "after")]
    assert [row["bytes"] for row in found[0]["rows"]] == [reading.bytes for reading in packets]
    assert sum(row["bytes"] for row in found[1]["rows"]) == sum(reading.bytes for reading in packets)


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("2026-12-01", "no period began then; it has 2026-11-01T000000Z_1d to 2026-11-05T000000Z_1d"),
        ("someday", "give a day (2026-11-01), a span of days"),
        ("2026-11-32", "give a day (2026-11-01), a span of days"),
    ],
)
def test_times_without_results_are_said(story: Path, when: str, said: str) -> None:
    done = sharkstat("diff", f"{story}@{when}", f"{story}@2026-11-01")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_table_that_was_not_kept_is_named(story: Path) -> None:
    done = sharkstat("diff", f"{story}@2026-11-01", f"{story}@2026-11-02", "-z", "conv,ip")
    assert done.returncode == 2
    assert "has no conv,ip: keep it with `sharkstat run ... --every ... -z conv,ip`" in done.stderr


# Live ----------------------------------------------------------------------------------------------------------

NAMESPACE = f"kept{os.getpid()}"
CABLE = f"""
ip netns add {NAMESPACE}
ip netns exec {NAMESPACE} sh -c "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6" 2>/dev/null || :
ip -n {NAMESPACE} link add left type veth peer name right
ip -n {NAMESPACE} link set left up
ip -n {NAMESPACE} link set right up
ip -n {NAMESPACE} address add 192.0.2.1/24 dev left
ip -n {NAMESPACE} neighbour add 192.0.2.2 lladdr 02:00:00:00:00:02 dev left
"""
SEND = """
import socket, time
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for burst in range(50):
    for _ in range(100): out.sendto(b"x" * 100, ("192.0.2.2", 9))
    time.sleep(0.05)
"""


@pytest.fixture
def cable() -> Iterator[list[str]]:
    if os.geteuid() != 0:
        pytest.skip("live capture needs root: NOT TESTED HERE")
    made = subprocess.run(["sh", "-ec", CABLE], capture_output=True, text=True, check=False)
    try:
        if made.returncode:
            pytest.skip(f"no network namespace can be made, live capture is NOT TESTED HERE: {made.stderr.strip()}")
        yield ["ip", "netns", "exec", NAMESPACE]
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], capture_output=True, check=False)


@pytest.mark.xdist_group("live")
def test_no_packet_is_lost_or_counted_twice_at_the_border(cable: list[str], tmp_path: Path) -> None:
    """Every packet is in the period of its own time stamp, and a period without packets has a result, too."""
    process = started(
        "run", "-i", "right", "-f", "udp", "--every", "1s", "--output", tmp_path, *asked("io,stat,0", "conv,udp"),
        under=cable,
    )  # fmt: skip
    assert process.stderr is not None
    assert b"capturing on right" in process.stderr.readline()
    subprocess.run([*cable, "python3", "-c", SEND], check=True)
    time.sleep(4)
    process.send_signal(signal.SIGTERM)
    done = ended(process)
    assert done.returncode == 0, done.stderr
    periods = [(path.name, library.read(path)) for path in sorted(tmp_path.iterdir())]
    assert sum(row["frames"] for _, (frames, _) in periods for row in frames) == 5000  # type: ignore[misc]
    starts: list[int] = []
    for name, (frames, _) in periods:
        begin = Archive(tmp_path).periods()[len(starts)].start
        starts.append(begin)
        reading = frames.reading
        if reading.first is not None and reading.last is not None:
            assert begin <= reading.first <= reading.last < begin + 10**9, name
        assert frames.complete, frames.warnings
    assert {later - before for before, later in itertools.pairwise(starts)} == {10**9}
    counts = [frames.reading.packets for _, (frames, _) in periods]
    assert counts[-2] == 0  # nothing was sent any more
    assert sum(count > 0 for count in counts) >= 3


def test_json_is_whole_or_not_there(folder: Path) -> None:
    assert all(json.loads(path.read_text())["tables"] for path in folder.iterdir())
    assert not list(folder.glob(".*"))


def test_a_clock_that_was_set_back_loses_no_packet_and_no_time(tmp_path: Path) -> None:
    """Ten seconds of packets, then ten that say to be of a thousand seconds before."""
    frame = udp_frame(("192.0.2.1", 9), ("192.0.2.2", 9), b"x")
    steps = (1_700_000_000, 1_699_999_000, 1_700_000_020)
    packets = [((step + at) * 10**9 + 10**8, frame) for step in steps for at in range(10)]
    write_pcap(tmp_path / "steps.pcap", packets)
    kept = tmp_path / "kept"
    with (tmp_path / "steps.pcap").open("rb") as capture:
        done = sharkstat("run", "-", "--every", "2s", "--output", kept, "-z", "io,stat,0", stdin=capture)
    assert done.returncode == 0, done.stderr
    results = [library.read(path)[0] for path in sorted(kept.iterdir())]
    assert [table.total("frames") for table in results] == [2] * 15
    spans = [(t.reading.until or 0) - (t.reading.since or 0) for t in results]
    assert all(span > 10**9 for span in spans), spans  # all of each period was read, but for the first and the last
