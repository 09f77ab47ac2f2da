"""The folder that a run works in: what tshark's user can do there, and that nothing is left whatever ends."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.command import DATA, NOBODY, children, ended, in_namespaces, may_mount, public_folder, sharkstat, started

HTTP, TLS, KEYS = DATA / "http.pcapng", DATA / "tls.pcapng", DATA / "tls.keys"
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to drop: NOT TESTED HERE")

# What a process in the hands of somebody else may try, again and again: plant links, and put other files in place.
ATTACK = """
import os, signal, sys, time
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append("to stop"))
folder, victim, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
names = ["job", "first.pcap", "lua", "lua/host.lua", "config", "config/preferences", "capture", "tls.keys",
         "merged.pcapng", "taps", "x"]
def attempt(action, *arguments):
    try:
        action(*arguments)
        return True
    except OSError:
        return False
done, end = set(), time.monotonic() + seconds
while time.monotonic() < end and not told:
    places = [os.path.join(folder, name) for name in os.listdir(folder)] if "sharkstat-run-" not in folder else [folder]
    for place in places:
        for name in names:
            path = os.path.join(place, name)
            for action, words in ((os.symlink, (victim, path)), (os.rename, (path, path + "-away")),
                                  (os.unlink, (path,)), (os.mkdir, (path + "-made",)), (os.chmod, (place, 0o777))):
                if attempt(action, *words):
                    done.add(f"{action.__name__} {name}")
print(sorted(done))
"""


def attacker(uid: int, *words: object) -> list[str]:
    change = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    return [*change, python, "-c", ATTACK, *map(str, words)]


@pytest.fixture
def public() -> Iterator[Path]:
    with public_folder() as folder:
        yield folder


def workspace(folder: Path) -> Path:
    for _ in range(400):
        found = list(folder.glob("sharkstat-run-*"))
        if found:
            return found[0]
        time.sleep(0.02)
    raise AssertionError("no workspace was made")


def child(process: subprocess.Popen[bytes], name: str) -> int:
    for _ in range(400):
        for pid, command in children(process.pid).items():
            if command.split() and Path(command.split()[0]).name == name:
                return pid
        time.sleep(0.02)
    raise AssertionError(f"no {name} was started")


@only_root
def test_who_has_tshark_in_his_hands_can_do_nothing_in_the_folder(public: Path) -> None:
    """tshark waits for the rest of a capture, while its own user tries what he can, and so does nobody."""
    victim = public / "victim"
    victim.write_text("root's")
    secret = public / "keys"
    secret.write_bytes(KEYS.read_bytes())
    secret.chmod(0o600)
    process = started(
        *("run", "-", "-z", "http_req,tree", "--keylog", secret, "--format", "csv"),
        stdin=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(public)},
    )
    assert process.stdin is not None
    process.stdin.write(TLS.read_bytes()[:3000])
    process.stdin.flush()
    tshark = child(process, "tshark")
    folder = workspace(public)
    uid = Path(f"/proc/{tshark}").stat().st_uid
    assert uid not in (0, os.getuid())
    before = {path: path.lstat().st_mode for path in folder.rglob("*")}
    owned = [path.name for path in before if path.lstat().st_uid == uid]
    assert set(owned) <= {"first.pcap"}  # which tshark writes
    for who in {uid, NOBODY}:
        said = subprocess.run(attacker(who, folder, victim, 1), capture_output=True, text=True, check=True).stdout
        assert said == "[]\n"
    assert {path: path.lstat().st_mode for path in folder.rglob("*")} == before
    # Nobody else can read anything, and no file holds what was lent.
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [folder, *before]}
    assert not {path: oct(mode) for path, mode in modes.items() if mode & 0o027}
    first_key = KEYS.read_bytes()[:60]
    assert not [path for path in before if path.is_file() and first_key in path.read_bytes()]
    process.stdin.write(TLS.read_bytes()[3000:])
    done = ended(process)
    assert done.returncode == 0 and "shop.example.net" in done.stdout  # the keys were read
    assert (victim.read_text(), victim.stat().st_uid, secret.stat().st_uid) == ("root's", 0, 0)
    assert sorted(public.iterdir()) == [secret, victim]


@only_root
@pytest.mark.skipif(not may_mount(), reason="needs mounts of its own: NOT TESTED HERE")
def test_a_race_for_the_folder_is_lost_also_by_nobody(public: Path) -> None:
    """Where no user of our own can be had, tshark is nobody; so is the attacker, who waits for the folder to appear."""
    victim = public / "victim"
    victim.write_text("root's")
    temporary = public / "tmp"
    temporary.mkdir(mode=0o777)
    temporary.chmod(0o1777)
    racing = subprocess.Popen(attacker(NOBODY, temporary, victim, 12), stdout=subprocess.PIPE, text=True)
    under = in_namespaces("mount -t tmpfs -o mode=755 none /run\nmkdir -m 777 /run/sharkstat")
    for _ in range(3):
        done = sharkstat("run", HTTP, "-2", "-z", "io,stat,0", under=under, env={"TMPDIR": str(temporary)})
        assert done.returncode == 0, done.stderr
    racing.terminate()
    assert racing.communicate()[0] == "[]\n"
    assert (victim.read_text(), victim.stat().st_uid) == ("root's", 0)


@only_root
def test_a_capture_that_is_read_twice_is_nobody_elses(public: Path) -> None:
    capture = public / "secret.pcapng"
    capture.write_bytes(HTTP.read_bytes() * 40)
    capture.chmod(0o600)
    process = started("run", capture, "-2", "-z", "http,tree", env={**os.environ, "TMPDIR": str(public)})
    child(process, "tshark")
    folder = workspace(public)
    assert not [
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and path.stat().st_size > HTTP.stat().st_size
    ]
    process.kill()
    process.communicate()
    gone(folder)


def gone(*paths: Path) -> None:
    for _ in range(100):
        if not any(path.exists() for path in paths):
            return
        time.sleep(0.05)
    raise AssertionError(f"{[str(path) for path in paths if path.exists()]} is there after five seconds")


def test_a_kill_leaves_no_process_and_no_folder(public: Path) -> None:
    pipe = public / "pipe"
    os.mkfifo(pipe)
    env = {**os.environ, "TMPDIR": str(public)}
    files = started("run", HTTP, pipe, "-z", "io,stat,0", env=env)
    writer = os.open(pipe, os.O_RDWR)
    os.write(writer, HTTP.read_bytes()[:20000])
    runs = [(files, ("mergecap", "tshark"))]
    if os.geteuid() == 0:
        live = started("run", "-i", "lo", "-f", "udp port 40998", "-z", "io,stat,0", env=env)
        runs.append((live, ("dumpcap", "tshark")))
    left = []
    for process, names in runs:
        left += [Path(f"/proc/{child(process, name)}") for name in names]
        process.kill()
        process.communicate()
    os.close(writer)
    gone(*left)
    for _ in range(100):
        if sorted(public.iterdir()) == [pipe]:
            break
        time.sleep(0.05)
    assert sorted(public.iterdir()) == [pipe]


def test_what_even_the_guard_left_goes_at_the_next_start(public: Path) -> None:
    env = {**os.environ, "TMPDIR": str(public)}
    process = started("run", "-", "-z", "io,stat,0", stdin=subprocess.PIPE, env=env)
    folder = workspace(public)
    guard = child(process, "sh")
    used = started("run", "-", "-z", "io,stat,0", stdin=subprocess.PIPE, env=env)
    for _ in range(400):
        if len(list(public.iterdir())) == 2:
            break
        time.sleep(0.02)
    (other,) = [path for path in public.iterdir() if path != folder]
    os.kill(guard, signal.SIGKILL)
    process.kill()
    process.communicate()
    theirs = public / "sharkstat-run-theirs"
    theirs.symlink_to("/etc")
    for path in (folder, other):
        os.utime(path, (0, 0))
    assert sharkstat("run", HTTP, "-z", "io,stat,0", env=env).returncode == 0
    assert sorted(public.iterdir()) == sorted([other, theirs])  # one in use stays, and no link is followed
    assert used.stdin is not None
    used.stdin.write(HTTP.read_bytes())
    assert ended(used).returncode == 0


def test_ctrl_c_while_the_command_loads_is_no_traceback() -> None:
    """The first moments are Python's own; from then on there is a line, or no word."""
    for _ in range(4):
        process = started("run", HTTP, "-z", "io,stat,0", env={**os.environ, "PYTHONVERBOSE": "1"})
        assert process.stderr is not None
        begun = any(line.startswith(b"# code object from") and b"/sharkstat/" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert begun and b"Traceback" not in said
        assert process.wait(timeout=60) == 130 and b"sharkstat: interrupted" in said
        ended(process)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_any_time_leaves_nothing(number: int, public: Path) -> None:
    env = {**os.environ, "TMPDIR": str(public)}
    processes = []
    for delay in (0.2, 0.5, 0.8, 1.1, 1.5) if number == signal.SIGINT else (0.3, 0.9):
        process = started("run", HTTP, TLS, "-z", "io,stat,0", "-z", "http_req,tree", env=env, start_new_session=True)
        time.sleep(delay)
        process.send_signal(number)
        processes.append(process)
    for process in processes:
        done = ended(process)
        assert done.returncode in (0, 130, -number)
    for _ in range(100):
        if not list(public.iterdir()):
            break
        time.sleep(0.05)
    assert list(public.iterdir()) == []
