"""What hangs is ended: a run has a deadline where one is set, and says what it counted by then."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.command import DATA, children, ended, in_namespaces, may_mount, public_folder, sharkstat, started

HTTP = DATA / "http.pcapng"


@pytest.fixture
def public() -> Iterator[Path]:
    with public_folder() as folder:
        yield folder


def child(process: subprocess.Popen[bytes], name: str) -> int:
    for _ in range(400):
        for pid, command in children(process.pid).items():
            if command.split() and Path(command.split()[0]).name == name:
                return pid
        time.sleep(0.02)
    raise AssertionError(f"no {name} was started")


@pytest.mark.parametrize("stopped", ["", "mergecap", "tshark"])
def test_what_hangs_ends_at_the_deadline(stopped: str, public: Path) -> None:
    """A writer that writes no more; a mergecap, and a tshark, that is stopped for good."""
    pipe = public / "pipe"
    os.mkfifo(pipe)
    env = {**os.environ, "TMPDIR": str(public)}
    sources = [DATA / "tls.pcapng", pipe] if stopped == "mergecap" else [pipe]
    process = started("run", *sources, "-z", "io,stat,0", "--timeout", "4", env=env)
    with pipe.open("wb") as writer:
        writer.write(HTTP.read_bytes()[:20000])
        writer.flush()
        if stopped:
            os.kill(child(process, stopped), signal.SIGSTOP)
        done = ended(process)
    waiting, _, told = done.stderr.rpartition("sharkstat: stopped")
    assert (done.returncode, "INCOMPLETE" in done.stdout) == (6, True)
    assert told == " after 4 s (--timeout): packets read by then are counted\n"
    assert bool(stopped) == (f"sharkstat: waiting: {stopped} (process" in waiting)  # nobody waits without a word
    assert list(public.iterdir()) == [pipe]


def test_an_overview_of_nothing_finds_no_health(public: Path) -> None:
    pipe = public / "pipe"
    os.mkfifo(pipe)
    process = started("overview", pipe, "--timeout", "2")
    with pipe.open("wb") as writer:
        writer.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        writer.flush()
        done = ended(process)
    assert (done.returncode, "no problems" in done.stdout) == (6, False)
    assert "Health: unknown, since no packets were read" in done.stdout


@pytest.mark.skipif(not may_mount() or not shutil.which("ip"), reason="needs root and networks of its own: NOT TESTED")
def test_a_capture_for_a_time_ends_where_its_interface_is_gone() -> None:
    script = 'ip link set lo up; (sleep 3; ip link set lo down) >/dev/null 2>&1 & exec "$@"'
    under = ["unshare", "--net", "sh", "-ec", script, "sh"]
    done = sharkstat("run", "-i", "lo", "-a", "duration:5", "-z", "io,stat,0", under=under)
    assert done.returncode in (0, 6), done.stderr
    assert "I/O statistics" in done.stdout and "Traceback" not in done.stderr


@pytest.mark.skipif(not may_mount(), reason="needs root and mounts of its own: NOT TESTED HERE")
def test_no_place_for_temporary_files() -> None:
    script = "\n".join(
        f"[ ! -d {place} ] || {{ mount --rbind {place} {place}; mount -o remount,ro,bind {place}; }}"
        for place in ("/tmp", "/var/tmp", "/usr/tmp")
    )
    under = in_namespaces(script)
    done = sharkstat("run", HTTP, "-z", "io,stat,0", under=under, env={"TMPDIR": "/nowhere"}, cwd="/sys")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("sharkstat: cannot write to /nowhere: ") and "set TMPDIR" in done.stderr


@pytest.mark.parametrize("limit", ["-n 14", "-u 1"])
def test_too_little_of_everything_is_told(limit: str) -> None:
    """Without descriptors or processes (which bind no root) there are results, or one line that says why not."""
    done = sharkstat("run", HTTP, "-z", "io,stat,0", under=["sh", "-c", f'ulimit {limit}; exec "$@"', "sh"])
    assert done.returncode in (0, 3, 4), done.stderr
    assert "Traceback" not in done.stderr


def test_a_user_without_an_entry_or_a_home() -> None:
    if os.geteuid() != 0 or not may_mount():
        pytest.skip("needs root and mounts of its own: NOT TESTED HERE")
    from tests.command import as_user

    done = sharkstat("run", HTTP, "-z", "io,stat,0", under=[*as_user(61000, 61000), "env", "-u", "HOME"])
    assert done.returncode == 0, done.stderr
    done = sharkstat("run", HTTP, "-z", "io,stat,0", "-C", "none", under=[*as_user(61000, 61000), "env", "-u", "HOME"])
    assert done.returncode == 2 and "no configuration profile 'none'" in done.stderr
