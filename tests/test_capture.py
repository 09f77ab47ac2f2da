"""Live capture: what is dropped and kept, how it is watched, and how it ends; in a network namespace of its own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from tests.command import SHARKSTAT, children, ended, in_namespaces, may_mount
from tests.test_live import INSIDE, NAMESPACE, SEND, cable, capturing, frames_of, send  # noqa: F401

import sharkstat as library
from sharkstat.running.spool import Spool

pytestmark = pytest.mark.xdist_group("live")

FLOOD = """
import socket, sys, time
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
payload = bytes(int(sys.argv[2]))
for number in range(int(sys.argv[1])):
    out.sendto(payload, ("192.0.2.2", 9))
    if number % 50 == 0:
        time.sleep(float(sys.argv[3]))
"""
SINCE = rb"sharkstat: capturing on right since .*\n"
COUNT = ["-z", "io,stat,0", "--format", "json"]


def flood(count: int, size: int, pause: float = 0) -> None:
    """Send so many datagrams, with a pause after every 50."""
    subprocess.run([*INSIDE, "python3", "-c", FLOOD, *map(str, (count, size, pause))], check=True)


def child(process: subprocess.Popen[bytes], name: str) -> int:
    """The run's dumpcap or tshark."""
    for _ in range(100):  # dumpcap captures before tshark is started
        for pid, line in children(process.pid).items():
            if name in line.partition(" ")[0]:  # a child that has just begun has no command line
                return pid
        time.sleep(0.05)
    raise AssertionError(f"no {name} among {children(process.pid)}")


@contextmanager
def halted(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def interrupted(process: subprocess.Popen[bytes], number: int = signal.SIGINT) -> subprocess.CompletedProcess[str]:
    time.sleep(0.3)
    process.send_signal(number)
    return ended(process)


def programs() -> set[str]:
    inside = subprocess.run(["ip", "netns", "pids", NAMESPACE], capture_output=True, text=True, check=True)
    return set(inside.stdout.split())


def nothing_is_left(since: float) -> bool:
    """No program in the namespace, no folder of a run, five seconds after the run was to end."""
    while programs() and time.monotonic() - since < 5:
        time.sleep(0.1)
    return not programs()


@pytest.mark.parametrize("allowed", ["1", "100"])
def test_dropped_packets_are_said_and_too_many_make_tables_incomplete(allowed: str) -> None:
    with capturing("-B", "1", "--max-drop", allowed, *COUNT) as process:
        with halted(child(process, "dumpcap")):
            flood(6000, 1400)
        done = interrupted(process)
    [table] = frames_of(done.stdout)
    read = table["read"]
    counted = table["rows"][0]["frames"]
    assert counted == read["captured"] < 6000
    assert read["dropped"] == read["dropped_by_kernel"] == 6000 - counted
    assert (table["complete"], done.returncode) == ((True, 0) if allowed == "100" else (False, 6))
    [warning] = [text for text in table["warnings"] if "dropped" in text]
    assert re.match(rf"{6000 - counted:,} of 6,000 packets \(\d+\.\d %\) were dropped, .* by the kernel: ", warning)
    assert "-B 2 buffers more" in warning
    assert "-s 128 is enough" in warning
    assert warning in done.stderr


def test_drops_are_known_while_it_captures() -> None:
    with capturing("-B", "1", "--watch=0.5", "--max-drop", "100", "-z", "io,stat,0") as process:
        with halted(child(process, "dumpcap")):
            flood(6000, 1400)
            time.sleep(1.2)
        flood(100, 1400, 0.01)
        done = interrupted(process)
    shots = [json.loads(line) for line in done.stdout.splitlines()]
    seen = [shot["snapshot"]["dropped"] for shot in shots]
    [row] = shots[-1]["tables"][0]["rows"]
    assert seen[-1] == 6100 - row["frames"] > 0
    assert seen[-1] in seen[:-1] and seen == sorted(seen)  # known before the end, and none is counted twice
    told = [shot["tables"][0]["read"]["dropped"] for shot in shots]
    assert told[-1] == seen[-1] and told == sorted(told)


def test_each_period_says_what_was_dropped_in_it(tmp_path: Path) -> None:
    with capturing("-B", "1", "--every", "2s", "--output", tmp_path, "-z", "io,stat,0", said=SINCE) as process:
        dumpcap = child(process, "dumpcap")
        for number in range(2):  # nothing is dropped in the second
            time.sleep(2.2 - time.time() % 2)
            with halted(dumpcap) if number == 0 else nullcontext():
                flood(6000, 1400, 0 if number == 0 else 0.01)
        time.sleep(2.2 - time.time() % 2)
        done = interrupted(process)
    results = [library.read(path)[0] for path in sorted(tmp_path.iterdir())]
    lost = [table for table in results if table.reading.dropped]
    assert len(lost) == 1 and not lost[0].complete and "were dropped" in lost[0].warnings[0], done.stderr
    assert all(table.complete and table.reading.dropped == 0 for table in results if table is not lost[0])
    assert sum(table.total("frames") for table in results) + (lost[0].reading.dropped or 0) == 12000
    assert done.returncode == 6


def test_a_slow_tshark_makes_dumpcap_drop_nothing() -> None:
    """In the buffers of the kernel and of a pipe, 60 MB could not wait."""
    with capturing("-B", "16", *COUNT) as process:
        with halted(child(process, "tshark")):
            flood(40000, 1400, 0.003)
        done = interrupted(process)
    [table] = frames_of(done.stdout)
    assert (table["rows"][0]["frames"], table["read"]["dropped"], done.returncode) == (40000, 0, 0)


def test_what_waits_goes_through_memory_and_files_in_order(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    kept = bytearray()
    spool = Spool(read_end, tmp_path, kept.extend, memory=200_000, files=3_000_000)
    pieces = [bytes([number % 251]) * 50_000 for number in range(60)]
    for piece in pieces:
        os.write(write_end, piece)
    deadline = time.monotonic() + 10
    while spool.waiting < 3_000_000 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert spool.waiting == 3_000_000
    assert not spool.full
    os.set_blocking(write_end, False)
    blocked = 0
    while blocked < 10:  # now the writer has to wait
        try:
            pieces.append(b"x" * os.write(write_end, b"x" * 65536))
        except BlockingIOError:
            blocked += 1
            time.sleep(0.02)
    assert spool.full
    os.close(write_end)
    assert b"".join(spool.chunks()) == b"".join(pieces) == bytes(kept)
    spool.stop()


def test_what_is_captured_is_kept_in_a_file_or_in_the_last_files(tmp_path: Path) -> None:
    def packets(path: Path) -> int:
        said = subprocess.run(["capinfos", "-M", "-T", "-r", "-c", path], capture_output=True, text=True, check=True)
        return int(said.stdout.split("\t")[1])

    with capturing("-w", tmp_path / "one.pcapng", *COUNT) as process:
        send(50, pause=0)
        done = interrupted(process)
    assert (frames_of(done.stdout)[0]["rows"][0]["frames"], packets(tmp_path / "one.pcapng")) == (50, 50)
    ring = ["-b", "packets:20", "-b", "files:2"]
    with capturing("-w", tmp_path / "ring.pcapng", *ring, *COUNT) as process:
        send(90, pause=0)
        done = interrupted(process)
    files = sorted(tmp_path.glob("ring_*.pcapng"))
    assert [re.sub(r"_\d{14}", "", path.name) for path in files] == ["ring_00004.pcapng", "ring_00005.pcapng"]
    assert [packets(path) for path in files] == [20, 10]
    assert frames_of(done.stdout)[0]["rows"][0]["frames"] == 90


def test_a_full_disk_ends_the_capture_with_what_came_until_then() -> None:
    if not may_mount():
        pytest.skip("no mounts of one's own: NOT TESTED HERE")
    small = 'folder=$(mktemp -d); mount -t tmpfs -o size=100k none "$folder"; cd "$folder"'
    look = '"$0" "$@"; status=$?; capinfos -M -T -r -c w.pcapng | cut -f 2 >&2; exit $status'
    command = [*INSIDE, *in_namespaces(small), "sh", "-c", look, SHARKSTAT]
    arguments = ["run", "-i", "right", "-w", "w.pcapng", *COUNT]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    assert process.stderr is not None
    assert b"capturing on right" in process.stderr.readline()
    send(200, size=1000, pause=0)
    done = ended(process)  # it ends by itself
    [table] = frames_of(done.stdout)
    assert (done.returncode, table["complete"]) == (6, False)
    assert any("w.pcapng: No space left on device: the capture ended there" in text for text in table["warnings"])
    kept = int(done.stderr.split()[-1])
    assert 50 < kept < 110
    assert kept <= table["rows"][0]["frames"] <= 200


def kill_dumpcap(process: subprocess.Popen[bytes]) -> None:
    os.kill(child(process, "dumpcap"), signal.SIGKILL)


ENDS: dict[str, tuple[Callable[[subprocess.Popen[bytes]], None], int]] = {
    "SIGTERM": (lambda process: process.send_signal(signal.SIGTERM), 0),
    "SIGHUP": (lambda process: process.send_signal(signal.SIGHUP), 0),
    "a killed dumpcap": (kill_dumpcap, 6),
}


@pytest.mark.parametrize("how", ENDS)
def test_every_end_has_its_results_and_leaves_nothing(how: str) -> None:
    end, status = ENDS[how]
    with capturing("--watch=0.2", "-z", "io,stat,0") as process:
        send(30)
        time.sleep(0.7)
        since = time.monotonic()
        end(process)
        done = ended(process)
        assert nothing_is_left(since)
    snapshots = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == status, done.stderr
    assert [one["snapshot"]["final"] for one in snapshots] == [False] * (len(snapshots) - 1) + [True]
    for one in snapshots[-2:]:
        assert one["tables"][0]["rows"][0]["frames"] == 30
    assert snapshots[-1]["tables"][0]["complete"] is (status == 0)


def test_sigterm_does_not_wait_for_a_tshark_that_is_behind() -> None:
    with capturing("-z", "io,stat,0", "--format", "json") as process:
        tshark = child(process, "tshark")
        os.kill(tshark, signal.SIGSTOP)
        flood(20000, 1400)
        since = time.monotonic()
        process.send_signal(signal.SIGTERM)
        while time.monotonic() - since < 3.5:  # what is stopped is continued at the end of a run
            os.kill(tshark, signal.SIGSTOP)
            time.sleep(0.0005)
        os.kill(tshark, signal.SIGCONT)
        done = ended(process)
        assert nothing_is_left(since)
    [table] = frames_of(done.stdout)
    assert (done.returncode, table["complete"]) == (6, False)
    assert 0 < table["rows"][0]["frames"] < 20000
    assert any("bytes of the capture were not counted" in text for text in table["warnings"])


def test_a_reader_who_leaves_ends_a_watched_run() -> None:
    with capturing("--watch=0.2", "-z", "io,stat,0") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["snapshot"]["number"] == 1
        since = time.monotonic()
        process.stdout.close()
        process.stdout = None
        assert process.wait(timeout=5) == 128 + signal.SIGPIPE
        assert nothing_is_left(since)


def test_a_watched_run_tells_the_truth_while_packets_come_and_when_none_come() -> None:
    with capturing("--watch=0.3", "--rate", "-z", "endpoints,udp") as process:
        time.sleep(0.5)
        send(20)
        time.sleep(0.7)
        send(5)
        done = interrupted(process)
    snapshots = [json.loads(line) for line in done.stdout.splitlines()]
    seen = []
    for one in snapshots:
        [table] = one["tables"]
        sent = sum(row["tx_packets"] for row in table["rows"])
        assert table["read"]["packets"] == sent <= one["snapshot"]["packets"]
        seen.append((sent, any(row["tx_packets_rate"] for row in table["rows"])))
    assert seen[0] == (0, False)  # before the first packet
    assert (20, False) in seen  # nothing came in that interval
    assert seen[-1][0] == 25
    assert [one["snapshot"]["number"] for one in snapshots] == list(range(1, len(snapshots) + 1))


def on_terminal(rows: int, columns: int, *arguments: object) -> tuple[int, int]:
    """The command's process, and its terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        words = [*INSIDE, SHARKSTAT, *map(str, arguments)]
        os.execvp(words[0], words)
    resize(terminal, rows, columns)
    return pid, terminal


def resize(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def drawn(terminal: int, seconds: float) -> str:
    """What came on the terminal in that time."""
    until, parts = time.monotonic() + seconds, []
    while (left := until - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            try:
                parts.append(os.read(terminal, 65536))
            except OSError:
                break
    return re.sub(r"\x1b\[[\d;]*m", "", b"".join(parts).decode())  # without its colours


def test_on_a_terminal_tables_are_drawn_in_place_and_stay_at_the_end() -> None:
    pid, terminal = on_terminal(14, 90, "run", "-i", "right", "--watch=0.3", "-z", "conv,udp", "-z", "io,stat,0")
    try:
        assert "right  00:0" in drawn(terminal, 2)
        to_each_port = SEND.replace("port))", "port + _))")  # of 20
        subprocess.run([*INSIDE, "python3", "-c", to_each_port, "20", "9", "100", "0"], check=True)
        screen = drawn(terminal, 1.5).split("\x1b[H")[-2]  # the last one may not be whole
        assert re.search(r"^right  00:\d\d  20 packets  \d+/s  .*/s  0 dropped  Ctrl-C for results", screen)
        lines = screen.replace("\r", "").split("\n")
        assert len(lines) <= 14
        assert max(map(len, lines)) <= 90
        assert re.search(r"… and \d+ more rows", screen)
        assert "io,stat,0" in screen
        resize(terminal, 40, 60)
        lines = drawn(terminal, 1.2).split("\x1b[H")[-2].replace("\r", "").split("\n")
        assert max(map(len, lines)) <= 60
        assert len([line for line in lines if line.startswith("192.0.2.1")]) == 20
        os.kill(pid, signal.SIGINT)
        end = drawn(terminal, 4)
        assert "\x1b[?1049l" in end  # the screen from before is back
        final = end.split("\x1b[?1049l")[1]
        assert final.count("192.0.2.1 ") == 20
        assert "right: 20 packets captured, 0 dropped" in final
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(terminal)


def test_sigterm_ends_a_watch_whose_reader_has_stalled() -> None:
    """As a pager that nobody looks at: the pipe is full, and no result can be written."""
    with capturing("--watch=0.1", "-z", "conv,udp") as process:
        to_each_port = SEND.replace("port))", "port + _))")
        subprocess.run([*INSIDE, "python3", "-c", to_each_port, "300", "9", "100", "0"], check=True)
        time.sleep(2)
        process.send_signal(signal.SIGTERM)
        since = time.monotonic()
        assert process.wait(6) == 130
        assert nothing_is_left(since)


LEAVE = """
import asyncio, sharkstat, time
async def watch():
    async for tables in sharkstat.live("right", "io,stat,0", every=0.2):
        break
asyncio.run(watch())
for tables in sharkstat.live("right", "io,stat,0", every=0.2):
    break
print("left", flush=True)
time.sleep(60)
"""


def test_leaving_the_loop_of_a_live_run_ends_its_capture() -> None:
    process = subprocess.Popen([*INSIDE, sys.executable, "-c", LEAVE], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"left\n"
        since = time.monotonic()
        while children(process.pid) and time.monotonic() - since < 5:
            time.sleep(0.1)
        assert not children(process.pid)
    finally:
        process.kill()
        process.wait()
