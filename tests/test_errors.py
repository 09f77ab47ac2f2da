"""Every error is one line that names the fix, with its exit status, and loses nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.command import (
    DATA,
    PROJECT,
    TRUTH,
    TSHARK,
    as_user,
    children,
    ended,
    frame,
    in_namespaces,
    may_mount,
    pcap,
    public_folder,
    sharkstat,
    started,
)

HTTP = DATA / "http.pcapng"
needs_mounts = pytest.mark.skipif(not may_mount(), reason="needs root and mounts of its own: NOT TESTED HERE")


def one_line(text: str) -> str:
    assert text.startswith("sharkstat: ") and text.count("\n") == 1, text
    return text[len("sharkstat: ") : -1]


CASES: list[tuple[list[object], int, str]] = [
    ([HTTP, "-z", "conv,tpc"], 2, "unknown statistic 'conv,tpc'; did you mean conv,tcp"),
    ([HTTP, "-z", "nothing like it"], 2, "see `sharkstat list`"),
    ([HTTP], 2, "no statistic given: add -z NAME"),
    (["-z", "conv,ip"], 2, "nothing to read: give a capture file"),
    ([HTTP, "-z", "io,stat,x"], 2, "invalid interval 'x': give seconds"),
    ([HTTP, "-z", "io,stat"], 2, "invalid interval '': give seconds"),
    ([HTTP, "-z", "io,stat,-1"], 2, "invalid interval '-1': give at least"),
    ([HTTP, "-z", "io,stat,1,SUM(no.such)"], 2, r"SUM\(\): no such field: no.such; did you mean "),
    ([HTTP, "-z", "io,stat,1,SUM(no.such)", "--engine", "packets"], 2, "no.such.*did you mean "),
    ([HTTP, "-z", "io,stat,1,MEAN(ip.len)"], 2, "unknown calculation MEAN .*: choose FRAMES"),
    ([HTTP, "-z", "conv,ip", "-Y", "ip.foo =="], 2, '-Y: invalid display filter "ip.foo ==": .*expression'),
    (
        [HTTP, "-z", "conv,ip,tcp.foo"],
        2,
        "conv,ip,tcp.foo: invalid display filter .*(neither a field nor|not a valid) (a )?protocol",
    ),
    ([HTTP, "-z", "conv,ip,tcp.foo", "--engine", "packets"], 2, "(neither a field nor|not a valid) (a )?protocol"),
    ([HTTP, "-z", "conv,ip", "--engine", "magic"], 2, "conv,ip has no engine magic: use --engine lua or packets"),
    ([HTTP, "-z", "conv,ip", "--format", "xlsx"], 2, "unknown format 'xlsx': choose one of table, json"),
    ([HTTP, "-z", "conv,ip", "--sort", "size"], 2, "has no column 'size'; it has address_a"),
    ([HTTP, "-z", "conv,ip", "--columns", "bytes,size"], 2, "has no column 'size'; it has address_a"),
    ([HTTP, "-z", "conv,ip", "--top", "0"], 2, "--top 0: give a number of at least 1"),
    ([HTTP, "-z", "conv,ip", "-c", "0"], 2, "-c 0: give a number of packets, at least 1"),
    ([HTTP, "-z", "conv,ip", "-f", "tcp"], 2, "-f: only for live capture .*; for files, use -Y"),
    ([HTTP, "-z", "conv,ip", "-i", "lo"], 2, "cannot read files and capture with -i in one run"),
    ([HTTP, "-", "-z", "conv,ip"], 2, "give `-` alone"),
    ([HTTP, "-z", "conv,ip", "-R", "ip"], 2, "-R requires -2"),
    ([HTTP, "-z", "conv,ip", "-2", "-R", "ip.x"], 2, "ip.x.*(neither a field nor|not a valid) (a )?protocol"),
    (["-", "-z", "conv,ip", "-2"], 2, "-2 needs a file, since it reads twice: save the capture"),
    ([HTTP, "-z", "conv,ip", "-n", "-N", "m"], 2, "-n and -N exclude each other"),
    ([HTTP, "-z", "conv,ip", "-N", "x"], 2, "-N 'x': give tshark's flags"),
    ([HTTP, "-z", "conv,ip", "-d", "80,http"], 2, "-d '80,http': give LAYER==VALUE,PROTOCOL"),
    ([HTTP, "-z", "conv,ip", "-d", "tcp.port==80,nosuch"], 2, 'tshark rejected the request: .*"nosuch"'),
    ([HTTP, "-z", "conv,ip", "-o", "no.such:1"], 2, 'tshark rejected the request: .*"no.such:1".*unknown preference'),
    ([HTTP, "-z", "conv,ip", "-C", "nosuch"], 2, "no configuration profile 'nosuch' in .*profiles"),
    ([HTTP, "-z", "conv,ip", "--keylog", "/no/keys"], 4, "--keylog /no/keys: .*: give a readable TLS key log file"),
    ([HTTP, "-z", "conv,ip", "--plugin", "/no/plugin.py"], 2, "--plugin /no/plugin.py: no such file"),
    ([HTTP, "-z", "conv,ip", "--output", "/no/where"], 5, "the folder /no does not exist: create it first"),
    (
        [HTTP, "-z", "conv,ip", "--fomrat", "json"],
        2,
        "No such option: --fomrat.*see `sharkstat run --help`",
    ),
    ([HTTP, "-z", "conv,ip", "-c", "many"], 2, "Invalid value for '-c'.*see `sharkstat run --help`"),
    ([HTTP, "-z"], 2, "Option '-z' requires an argument.*see `sharkstat run --help`"),
    (["/no/such.pcap", "-z", "conv,ip"], 4, "/no/such.pcap: no such file"),
    ([DATA, "-z", "conv,ip"], 4, "is a folder: give the capture files in it"),
    (["/dev/null", "-z", "conv,ip"], 4, "/dev/null is neither a file nor a pipe: give a capture file"),
    (
        [DATA / "garbage.pcap", "-z", "conv,ip"],
        4,
        "garbage.pcap is not a capture file .*: check the name",
    ),
    (
        [HTTP, DATA / "garbage.pcap", "-z", "conv,ip"],
        4,
        "data/garbage.pcap is not a capture file .*: check the name",
    ),
    (
        ["-", "-z", "conv,ip"],
        4,
        "standard input is empty: the command before the pipe wrote nothing",
    ),
]


@pytest.fixture(scope="module")
def done() -> list[subprocess.CompletedProcess[str]]:
    """All of these, some at a time."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda case: sharkstat("run", *case[0]), CASES))


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{status} {said}" for _, status, said in CASES])
def test_what_cannot_be_done_is_told_in_one_line(number: int, done: list[subprocess.CompletedProcess[str]]) -> None:
    _, status, said = CASES[number]
    assert re.search(said, one_line(done[number].stderr))
    assert (done[number].returncode, done[number].stdout) == (status, "")


def test_an_unknown_option_is_a_usage_error() -> None:
    done = sharkstat("run", HTTP, "--nosuch")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such option: --nosuch" in done.stderr


def test_garbage_on_standard_input() -> None:
    done = sharkstat("run", "-", "-z", "conv,ip", given=bytes(range(255, 0, -1)) * 8)
    assert (
        one_line(done.stderr)
        == "standard input is not a capture file in a format that tshark understands: check the name"
    )
    assert (done.returncode, done.stdout) == (4, "")


def test_an_empty_file(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pcapng"
    empty.touch()
    done = sharkstat("run", empty, "-z", "conv,ip")
    assert one_line(done.stderr).endswith("empty.pcapng is empty: not even a capture file header")
    assert (done.returncode, done.stdout) == (4, "")


def test_a_file_of_a_version_that_tshark_does_not_support(tmp_path: Path) -> None:
    old = tmp_path / "old.pcap"
    old.write_bytes(b"\xd4\xc3\xb2\xa1\x01\x00\x04\x00" + (DATA / "edges.pcap").read_bytes()[8:])
    done = sharkstat("run", old, "-z", "conv,ip")
    assert "old.pcap contains record data that TShark doesn't support" in one_line(done.stderr)
    assert (done.returncode, done.stdout) == (4, "")


@pytest.mark.parametrize("engine", ["lua", "packets"])
def test_a_cut_file_gives_what_is_before_the_cut(engine: str) -> None:
    done = sharkstat("run", DATA / "cut.pcapng", "-z", "io,stat,0", "--engine", engine, "--format", "json")
    assert done.returncode == 6
    assert "cut.pcapng appears to have been cut short" in one_line(done.stderr)
    (table,) = json.loads(done.stdout)["tables"]
    assert not table["complete"]
    assert [row["frames"] for row in table["rows"]] == [TRUTH["cut.pcapng"]["whole_frames"]]
    assert "cut short" in table["warnings"][0]


def test_a_cut_file_among_several_is_named() -> None:
    done = sharkstat("run", HTTP, DATA / "cut.pcapng", "-z", "conv,ip")
    assert done.returncode == 6
    assert "data/cut.pcapng is cut short: packets before that point are counted" in done.stderr.splitlines()[0]
    assert "INCOMPLETE" in done.stdout


def test_with_per_file_a_bad_file_does_not_lose_the_others() -> None:
    """Nor does the table say that it is complete; and each warning names its file."""
    cut, bad = DATA / "cut.pcapng", DATA / "garbage.pcap"
    done = sharkstat("run", bad, HTTP, "-z", "io,stat,0", "--per-file", "--format", "json")
    assert done.returncode == 4
    assert "garbage.pcap is not a capture file" in one_line(done.stderr)
    (table,) = json.loads(done.stdout)["tables"]
    assert (table["read"]["packets"], table["complete"]) == (204, False)
    assert ["garbage.pcap is not a capture file" in text for text in table["warnings"]] == [True]
    done = sharkstat("run", HTTP, cut, "-z", "io,stat,0", "--per-file", "--timeout", "0.001")
    told = [line.split(": ")[1] for line in done.stderr.splitlines() if "(--timeout)" in line]
    assert (told, "Traceback" in done.stderr) == ([str(HTTP), str(cut)], False)


# tshark itself


@contextmanager
def acting_as_tshark(text: str) -> Iterator[dict[str, str]]:
    """The environment in which tshark is a shell script."""
    with public_folder() as folder:
        path = folder / "tshark"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        yield {"SHARKSTAT_TSHARK": str(path)}


def test_a_missing_tshark_says_how_to_install_it(tmp_path: Path) -> None:
    for env in ({"SHARKSTAT_TSHARK": "/nonexistent"}, {"PATH": str(tmp_path)}):
        done = sharkstat("run", HTTP, "-z", "conv,ip", env=env)
        assert "not found: install it (Debian, Ubuntu: apt install tshark" in one_line(done.stderr)
        assert (done.returncode, done.stdout) == (3, "")


MAKE = "echo 'TShark (Wireshark) {}'; echo 'Compiled with GLib, {}, zlib'; cat >/dev/null"
TSHARKS = {
    MAKE.format("3.6.2", "with Lua 5.2.4"): "is 3.6.2: sharkstat needs tshark 4.0 or later",
    MAKE.format("4.2.0", "without Lua"): "was built without Lua, which the taps need",
    MAKE.format("4.4.0", "with Lua 5.4.6"): "tshark silently ran no Lua script",
    "echo hello": "prints no version and is probably not tshark: install it",
    "exit 3": "prints no version and is probably not tshark: install it",
}


@pytest.mark.parametrize("script", TSHARKS)
def test_a_tshark_that_cannot_run_the_taps_is_refused(script: str) -> None:
    with acting_as_tshark(script) as env:
        done = sharkstat("run", HTTP, "-z", "conv,ip", env=env)
    assert TSHARKS[script] in one_line(done.stderr)
    assert (done.returncode, done.stdout) == (3, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be a user in group 0")
@needs_mounts
def test_group_0_runs_or_says_why_not() -> None:
    version = subprocess.run([TSHARK, "--version"], capture_output=True, text=True, check=False).stdout
    done = sharkstat("run", HTTP, "-z", "conv,ip", under=as_user(gid=0))
    if "(Wireshark) 4.0" in version:
        assert done.returncode == 0, done.stderr
        pytest.skip("tshark 4.0 runs Lua in group 0, so the error is NOT TESTED HERE")
    assert "in group 0: run sharkstat as a user outside the group root" in one_line(done.stderr)
    assert (done.returncode, done.stdout) == (3, "")


@pytest.fixture
def half_a_capture() -> bytes:
    """More than tshark reads at once, so that it counts some packets and then waits."""
    return pcap([frame(b"x" * 1000, sequence=1 + 1000 * number) for number in range(500)])


@pytest.fixture
def reading(half_a_capture: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """A run that has read some packets from a pipe that stays open."""
    process = started("run", "-", "-z", "conv,ip", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(half_a_capture)
    process.stdin.flush()
    tshark_of(process)
    time.sleep(0.7)
    yield process
    process.kill()
    process.wait()


def tshark_of(process: subprocess.Popen[bytes]) -> int:
    for _ in range(200):
        for pid, command in children(process.pid).items():
            if "lua_script:" in command and "tshark" in command.split()[0]:
                return pid
        time.sleep(0.05)
    raise AssertionError("no tshark was started")


def wait_until_it_reads(tshark: int) -> None:
    """Until it has read more than its own files: some MB of `large`."""
    for _ in range(600):
        if int(Path(f"/proc/{tshark}/io").read_text().split()[1]) > 16 << 20:
            return
        time.sleep(0.05)
    raise AssertionError("tshark does not read")


def test_a_killed_tshark_is_told(reading: subprocess.Popen[bytes]) -> None:
    os.kill(tshark_of(reading), signal.SIGKILL)
    done = ended(reading)
    assert "no results: tshark was killed (SIGKILL)" in one_line(done.stderr)
    assert (done.returncode, done.stdout) == (3, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_pipe_gives_what_was_read(reading: subprocess.Popen[bytes], number: int) -> None:
    reading.send_signal(number)
    reading.wait(timeout=20)
    done = ended(reading)
    assert done.returncode == 130
    assert one_line(done.stderr) == "interrupted: only part of the source was read"
    assert "INCOMPLETE" in done.stdout and "192.0.2.2" in done.stdout


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.pcap"
    make = PROJECT / "benchmarks" / "make_capture.py"
    subprocess.run([sys.executable, make, path, "--packets", "120000"], check=True)
    return path


@pytest.mark.parametrize("engine", ["lua", "packets"])
def test_an_interrupted_file_gives_what_was_read(large: Path, engine: str) -> None:
    process = started("run", large, "-z", "endpoints,ip", "-z", "http,tree", "--engine", engine, "--format", "json")
    wait_until_it_reads(tshark_of(process))
    process.send_signal(signal.SIGINT)
    done = ended(process)
    assert (done.returncode, one_line(done.stderr)) == (
        130,
        "interrupted: only part of the source was read",
    )
    ip, _ = json.loads(done.stdout)["tables"]
    assert not ip["complete"]
    assert 0 < ip["read"]["packets"] < 120_000
    assert ip["rows"]


def test_several_interrupted_files_give_what_was_read(large: Path) -> None:
    process = started("run", large, large, "-z", "conv,ip", "--top", "3", "--jobs", "1")
    wait_until_it_reads(tshark_of(process))
    process.send_signal(signal.SIGINT)
    done = ended(process)
    # The file is given twice, so its copies are told of as well.
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        130,
        "sharkstat: interrupted: only part of the source was read",
    )
    assert "INCOMPLETE" in done.stdout


def test_two_passes_that_are_interrupted_have_no_results(large: Path) -> None:
    process = started("run", large, "-2", "-z", "conv,ip")
    wait_until_it_reads(tshark_of(process))
    process.send_signal(signal.SIGINT)
    done = ended(process)
    assert (done.returncode, done.stdout) == (130, "")
    assert one_line(done.stderr) == "interrupted before there were results"


# Where results go


def test_a_full_standard_output() -> None:
    with Path("/dev/full").open("w") as full:
        done = sharkstat("run", HTTP, "-z", "conv,ip", stdout=full)
    assert "No space left on device" in one_line(done.stderr)
    assert done.returncode == 5


@needs_mounts
def test_a_full_disk_leaves_the_old_file() -> None:
    with public_folder() as folder:
        mount = f'mount -t tmpfs -o size=8k none "{folder}"\necho old >"{folder}/out.json"'
        look = f'"$@" || status=$?; cat "{folder}/out.json"; ls -A "{folder}"; exit $status'
        under = [*in_namespaces(mount), "sh", "-c", look, "sh"]
        output = ["--format", "json", "--force", "--output", folder / "out.json"]
        done = sharkstat("run", HTTP, "-z", "http_req,tree", "-z", "conv,tcp", *output, under=under)
    assert "No space left on device: results not written" in one_line(done.stderr)
    assert (done.returncode, done.stdout) == (5, "old\nout.json\n")


@needs_mounts
def test_a_full_temporary_folder() -> None:
    with public_folder() as folder:
        under = in_namespaces(f'mount -t tmpfs -o size=4k,nr_inodes=3 none "{folder}"')
        done = sharkstat("run", HTTP, "-z", "conv,tcp", under=under, env={"TMPDIR": str(folder)})
    assert re.search("No space left on device.*: free some space, or set TMPDIR", one_line(done.stderr))
    assert (done.returncode, done.stdout) == (3, "")


def test_a_closed_pipe_ends_without_a_word() -> None:
    for arguments in (
        ["run", HTTP, *(["-z", "http_req,tree"] * 40), "--format", "json"],
        ["list", "--format", "json"],
    ):
        read_end, write_end = os.pipe()
        os.close(read_end)
        done = sharkstat(*arguments, stdout=write_end)
        os.close(write_end)
        assert (done.returncode, done.stderr) == (141, "")


def test_head_takes_what_it_wants(tmp_path: Path) -> None:
    process = started("run", HTTP, *(["-z", "http_req,tree"] * 40))
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"HTTP requests by host and path (http_req,tree)\n"
    process.stdout.close()
    assert process.wait(timeout=30) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def test_closed_standard_streams() -> None:
    closed = ["sh", "-c", 'exec "$@" >&-', "sh"]
    done = sharkstat("run", HTTP, "-z", "conv,ip", under=closed)
    assert (done.returncode, one_line(done.stderr)[:25]) == (5, "standard output is closed")
    done = sharkstat("run", HTTP, "-z", "conv,ip", under=["sh", "-c", 'exec "$@" <&-', "sh"])
    assert (done.returncode, done.stderr) == (0, "")
    done = sharkstat("run", "-", "-z", "conv,ip", under=["sh", "-c", 'exec "$@" <&-', "sh"])
    assert (done.returncode, one_line(done.stderr)[:24]) == (4, "standard input is closed")
    done = sharkstat("run", "/no/file", "-z", "conv,ip", under=["sh", "-c", 'exec "$@" 2>&-', "sh"])
    assert (done.returncode, done.stdout) == (4, "")


# Permissions


@needs_mounts
def test_what_a_normal_user_may_not_do() -> None:
    with public_folder() as folder:
        secret = folder / "secret.pcapng"
        secret.write_bytes(HTTP.read_bytes())
        secret.chmod(0o600)
        closed = folder / "closed"
        closed.mkdir(mode=0o755)
        user = as_user()
        done = sharkstat("run", secret, "-z", "conv,ip", under=user)
        assert one_line(done.stderr).endswith(
            "secret.pcapng: permission denied: run sharkstat as a user who may read it"
        )
        assert (done.returncode, done.stdout) == (4, "")
        for output in (closed, closed / "out.json"):
            done = sharkstat("run", HTTP, "-z", "conv,ip", "--output", output, under=user)
            assert "permission denied: choose another folder" in one_line(done.stderr)
            assert (done.returncode, done.stdout) == (5, "")
        done = sharkstat("run", "-i", "lo", "-a", "duration:1", "-z", "conv,ip", under=user)
        said = one_line(done.stderr)
        assert (
            done.returncode == 4
            and "lo: run as root, or join the group that may capture (Debian: dpkg-reconfigure" in said
        )


@needs_mounts
def test_a_normal_user_gets_the_same_results() -> None:
    arguments = ["run", HTTP, "-z", "conv,tcp", "-z", "http_req,tree", "--format", "json"]
    assert sharkstat(*arguments, under=as_user()).stdout == sharkstat(*arguments).stdout
