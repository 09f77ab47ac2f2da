"""Faults, tried for real: what was counted is given and marked, or one line says what is wrong; and nothing is left.

Each trial has a folder for temporary files of its own. What runs in the end, and has that name in its environment or on
its command line, is an orphan.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.command import DATA, TSHARK, children, in_namespaces, may_mount, public_folder, started

HTTP = DATA / "http.pcapng"
REQUESTS = ("-z", "http_req,tree", "-z", "io,stat,0")
STATUSES = {0, 1, 2, 3, 4, 5, 6, 7, 130, 141}  # docs/exit-statuses.md
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to capture: NOT TESTED HERE")
mounts = pytest.mark.skipif(not may_mount(), reason="needs root and mounts of its own: NOT TESTED HERE")


@dataclass
class Trial:
    """A run and what is done to it; `after` checks what must hold whatever that was."""

    arguments: Sequence[object]
    fault: Callable[[subprocess.Popen[bytes]], None] = lambda process: None
    under: Sequence[str] = ()
    env: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def begin(self, folder: Path) -> None:
        self.folder = folder
        env = {**os.environ, "TMPDIR": str(folder), **self.env}
        self.process = started(*self.arguments, under=self.under, env=env, **self.options)
        self.striking = threading.Thread(target=self.fault, args=(self.process,))
        self.striking.start()

    def after(self) -> tuple[int, str, str]:
        try:
            out, err = (part.decode() if part else "" for part in self.process.communicate(timeout=40))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.arguments} does not end") from None
        finally:
            self.process.kill()
            self.striking.join()
        status = self.process.returncode
        assert status in STATUSES or -status in (signal.SIGTERM, signal.SIGHUP), (status, err)
        assert "Traceback" not in err and "Exception" not in err
        assert status != 6 or "INCOMPLETE" in out
        if status in (2, 3, 4, 5):
            told = [line for line in err.splitlines() if " waiting: " not in line and " capturing on " not in line]
            assert len(told) == (0 if self.options.get("stderr") else 1), err
        until = time.monotonic() + 5
        while (left := [*self.folder.iterdir(), *orphans(self.folder)]) and time.monotonic() < until:
            time.sleep(0.1)
        assert not left
        return status, out, err


def orphans(folder: Path) -> Iterator[str]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                command = Path(entry.path, "cmdline").read_bytes()
                if str(folder).encode() in Path(entry.path, "environ").read_bytes() + command:
                    yield f"{entry.name} {command!r}"


def programs(process: subprocess.Popen[bytes], *names: str) -> dict[str, int]:
    """The numbers of these processes of a run, as soon as they are there."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        found = {Path(c.split()[0]).name: pid for pid, c in children(process.pid).items() if c.split()}
        if found.keys() >= set(names):
            return {name: found[name] for name in names}
        time.sleep(0.02)
    raise AssertionError(f"no {names}")


def to(name: str, number: int, delay: float = 0.0) -> Callable[[subprocess.Popen[bytes]], None]:
    """A fault: a program of the run gets a signal, so many seconds after its start."""

    def strike(process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + 10
        while process.poll() is None and time.monotonic() < until:
            for pid, command in children(process.pid).items():
                if command.split() and Path(command.split()[0]).name == name:
                    time.sleep(delay)
                    with contextlib.suppress(OSError):
                        os.kill(pid, number)
                    return
            time.sleep(0.01)

    return strike


def to_each(name: str, number: int, seconds: float = 10) -> Callable[[subprocess.Popen[bytes]], None]:
    """A fault: every program of that name gets a signal. mergecap may look at a file before it reads it."""

    def strike(process: subprocess.Popen[bytes]) -> None:
        struck = set()
        until = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < until:
            for pid, command in children(process.pid).items():
                if pid not in struck and command.split() and Path(command.split()[0]).name == name:
                    struck.add(pid)
                    with contextlib.suppress(OSError):
                        os.kill(pid, number)
            time.sleep(0.002)

    return strike


def to_itself(number: int, delay: float) -> Callable[[subprocess.Popen[bytes]], None]:
    def strike(process: subprocess.Popen[bytes]) -> None:
        time.sleep(delay)
        process.send_signal(number)

    return strike


def tried(trials: Sequence[Trial]) -> list[tuple[int, str, str]]:
    """What came of each trial; they run at the same time, which is as hard as it gets."""
    with contextlib.ExitStack() as stack:
        for trial in trials:
            trial.begin(stack.enter_context(public_folder()))
        return [trial.after() for trial in trials]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture that takes seconds: the packets of http.pcapng 400 times (as sections of one file)."""
    path = tmp_path_factory.mktemp("large") / "large.pcapng"
    path.write_bytes(HTTP.read_bytes() * 400)
    path.chmod(0o644)
    return path


@pytest.fixture(scope="module")
def foreign(large: Path) -> Path:
    """More of the same in a format that only mergecap reads, where there are several files; it takes a while."""
    path = large.with_name("large.snoop")
    more = [str(large)] * 6
    subprocess.run(["mergecap", "-a", "-F", "snoop", "-w", str(path), *more], check=True, capture_output=True)
    path.chmod(0o644)
    return path


def test_a_program_that_dies_or_is_stopped(large: Path, foreign: Path) -> None:
    """tshark: no results, and why. A stopped one goes on at the deadline, and gives what it counted."""
    limit = ("--timeout", 4, "--jobs", 1)
    with public_folder() as folder:
        alone = folder / "tshark"  # without mergecap
        alone.symlink_to(TSHARK)
        without = {"SHARKSTAT_TSHARK": str(alone), "PATH": str(folder)}
        (no_merge,) = tried([Trial(["run", foreign, HTTP, *REQUESTS], env=without)])
    killed, ended, stopped, merge_killed, merge_stopped, guard_stopped = tried(
        [
            Trial(["run", large, *REQUESTS], to("tshark", signal.SIGKILL, 0.6)),
            Trial(["run", large, *REQUESTS, "--jobs", 1], to("tshark", signal.SIGTERM, 0.6)),
            Trial(["run", large, *REQUESTS, *limit], to("tshark", signal.SIGSTOP, 0.6)),
            Trial(["run", foreign, HTTP, *REQUESTS, *limit], to_each("mergecap", signal.SIGKILL)),
            Trial(["run", foreign, HTTP, *REQUESTS, *limit], to_each("mergecap", signal.SIGSTOP)),
            Trial(["run", HTTP, *REQUESTS], to("sh", signal.SIGSTOP)),  # the guard
        ]
    )
    assert guard_stopped[0] == 0 and "I/O statistics" in guard_stopped[1]
    assert killed[0] == 3 and "tshark was killed (SIGKILL)" in killed[2]
    # tshark 4.6 ends without a word.
    assert ended[0] == 3 and ("tshark was killed (SIGTERM)" in ended[2] or "silently stopped early" in ended[2])
    assert stopped[0] == 6 and "waiting: tshark (process" in stopped[2] and "stopped after 4 s" in stopped[2]
    assert merge_killed[0] == 6 and "mergecap was killed (SIGKILL)" in merge_killed[2]
    assert "cut short" not in merge_killed[2]  # the file is not to blame
    assert merge_stopped[0] == 6 and "waiting: mergecap (process" in merge_stopped[2]
    assert no_merge[0] == 3 and "mergecap not found" in no_merge[2]


@root
def test_a_capture_whose_programs_die_or_are_stopped() -> None:
    def stopped_and_interrupted(name: str) -> Callable[[subprocess.Popen[bytes]], None]:
        def strike(process: subprocess.Popen[bytes]) -> None:
            to(name, signal.SIGSTOP, 1.5)(process)
            to_itself(signal.SIGINT, 0.5)(process)

        return strike

    live = ("run", "-i", "lo", "-f", "udp port 40997", "-z", "io,stat,0")
    tshark_killed, dumpcap_killed, ended, reached, *interrupted = tried(
        [
            Trial([*live, "-a", "duration:3"], to("tshark", signal.SIGKILL, 0.5)),
            Trial([*live, "-a", "duration:3"], to("dumpcap", signal.SIGKILL, 0.5)),
            Trial([*live, "-a", "duration:9"], to("dumpcap", signal.SIGTERM, 1.5)),
            Trial([*live, "-a", "duration:2"]),
            Trial(live, stopped_and_interrupted("dumpcap")),
            Trial(live, stopped_and_interrupted("tshark")),
        ]
    )
    assert tshark_killed[0] == 3 and "tshark was killed (SIGKILL)" in tshark_killed[2]
    assert dumpcap_killed[0] in (3, 6) and "dumpcap was killed (SIGKILL)" in dumpcap_killed[2]
    assert ended[0] in (3, 6) and "dumpcap was ended by another program" in ended[2]
    assert reached[0] == 0
    for status, out, _ in interrupted:  # Ctrl-C wakes what is stopped
        assert (status, "I/O statistics" in out) == (0, True)


BROKEN = {
    "garbage": "head -c 5000 /dev/urandom >$rows",
    "no numbers": r"printf 'H\t4.0.17\nR\tx\ty\nD\tz\nB\t1\nE\nZ\n' >$rows",
    "no line": r"printf 'H\t4.0.17\nC\t0\tpac' >$rows",
    "nothing": ":",
    "hung": "sleep 100",
}


def test_a_tshark_that_is_broken(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    trials = []
    for name, does in BROKEN.items():
        fake = tmp_path / name.replace(" ", "-") / "tshark"
        fake.parent.mkdir()
        fake.write_text(
            '#!/bin/sh\ncase "$*" in *--version*) exec ' + TSHARK + ' --version ;; esac\nfor word in "$@"; do\n'
            '  case $word in lua_script1:*) rows=$(grep -o "/dev/fd/[0-9]*" "${word#lua_script1:}" | head -1) ;; esac\n'
            f"done\n{does}\n"
        )
        fake.chmod(0o755)
        trials.append(Trial(["run", HTTP, *REQUESTS, "--timeout", 2], env={"SHARKSTAT_TSHARK": str(fake)}))
    if os.geteuid() == 0:  # pytest's folders are closed to the user that tshark runs as
        for folder in tmp_path.parents:
            if folder.name.startswith("pytest"):
                folder.chmod(0o755)
    for name, (status, out, err) in zip(BROKEN, tried(trials), strict=True):
        assert (name, status, out) == (name, 3, ""), err


def test_standard_streams_that_take_nothing() -> None:
    """Results are not lost with a message, and no message makes a status."""
    reader, writer = os.pipe()
    os.close(reader)
    with Path("/dev/full").open("wb") as full:
        commands = (
            ["show", "conv,tcp"],
            ["--help"],
            ["run", HTTP, *REQUESTS],
            ["run", DATA / "garbage.pcap", *REQUESTS],
        )
        results = tried(
            [
                *(Trial(words, options={"stdout": writer}) for words in commands[:2]),
                *(Trial(words, options={"stdout": full}) for words in commands[:2]),
                *(Trial(words, options={"stderr": full}) for words in commands[2:]),
            ]
        )
    os.close(writer)
    assert [status for status, _, _ in results] == [141, 141, 5, 5, 0, 4]
    assert [bool(out) for _, out, _ in results] == [False] * 4 + [True, False]


@pytest.mark.long
@pytest.mark.parametrize("name", ["tshark", "mergecap", "dumpcap"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGSTOP])
def test_every_program_gets_every_signal_at_many_moments(name: str, number: int, large: Path, foreign: Path) -> None:
    if name == "dumpcap" and os.geteuid() != 0:
        pytest.skip("needs root, to capture: NOT TESTED HERE")
    limit = (*REQUESTS, "--timeout", 4)
    sources: list[Sequence[object]] = [["run", foreign, HTTP, *limit]]
    if name == "dumpcap":
        sources = [["run", "-i", "lo", "-a", "duration:2", *limit]]
    elif name == "tshark":
        sources += [["run", large, *limit, *more] for more in ((), ("--jobs", 3), ("-2",), ("--engine", "tshark"))]
        sources += [["run", large, "-z", "conv,tcp", "--engine", "packets", "--timeout", 4]]
    for delay in (0.0, 0.1, 0.4, 1.0):
        tried([Trial(words, to(name, number, delay)) for words in sources])


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_sharkstat_gets_every_signal_at_many_moments(number: int, large: Path) -> None:
    for more in ((), ("-2",), ("--jobs", 3)):
        for tenth in range(2, 20, 3):
            (status, out, _), *_ = tried([Trial(["run", large, *REQUESTS, *more], to_itself(number, tenth / 10))])
            assert status in (130, 0, -signal.SIGTERM, -signal.SIGHUP) and (status or "INCOMPLETE" not in out)


@mounts
@pytest.mark.long
@pytest.mark.parametrize(
    "script",
    [
        "mount -t tmpfs -o size=8k,mode=777 none $TMPDIR",
        "mount -t tmpfs -o ro none $TMPDIR",
        "mount -t tmpfs -o size=4m,mode=700 none $TMPDIR",
        "mount -t tmpfs none /run; mkdir -m 777 /run/sharkstat; grep -v nobody /etc/passwd >/run/p; "
        "mount --bind /run/p /etc/passwd",
        "unset HOME LANG LC_ALL",
        *(f"ulimit -n {number}" for number in (5, 8, 12, 16, 20)),
        *(f"ulimit -v {number}" for number in (30000, 60000, 120000, 200000, 300000)),
        *(f"ulimit -f {number}" for number in (0, 1)),
    ],
)
def test_without_what_a_process_usually_has(script: str) -> None:
    tried([Trial(["run", HTTP, *REQUESTS, "--output", "-"], under=in_namespaces(script))])


def test_memory_has_a_limit(large: Path) -> None:
    """Half of it ends the reading, with what was counted by then; all of it ends the run, with a line."""
    half, whole, none, wrong = tried(
        [Trial(["run", large, *REQUESTS, "--jobs", 1, "--max-memory", size]) for size in ("300M", "10M", "0", "much")]
    )
    assert half[0] == 6 and "stopped at half of 300 MiB of memory (--max-memory)" in half[2]
    assert whole[0] == 3 and "takes more than 10 MiB of memory (--max-memory)" in whole[2]
    assert none[0] == 0 and "INCOMPLETE" not in none[1]
    assert wrong[0] == 2


@root
def test_the_file_of_a_capture_is_never_written_over_or_through_a_link(tmp_path: Path) -> None:
    there, link, other = tmp_path / "there.pcapng", tmp_path / "link.pcapng", tmp_path / "other"
    for path in (there, other):
        path.write_text("kept")
    link.symlink_to(other)
    live = ("run", "-i", "lo", "-f", "udp port 40996", "-z", "io,stat,0", "-a", "duration:1", "-w")
    refused, linked, followed = tried(
        [Trial([*live, there]), Trial([*live, link]), Trial([*live, link, "--force"])],
    )
    assert refused[0] == 5 and "--force" in refused[2] and there.read_text() == "kept"
    assert (linked[0], followed[0]) == (5, 5) and other.read_text() == "kept"
    (forced,) = tried([Trial([*live, there, "--force"])])
    assert forced[0] == 0 and there.read_bytes().startswith(bytes.fromhex("0a0d0d0a"))
