"""Runs the sharkstat command as a user does, and makes small captures; for the tests of the command line."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.warm import AT_START, Warm

PROJECT = Path(__file__).resolve().parent.parent
DATA = PROJECT / "tests" / "data"
SHARKSTAT = str(Path(sys.executable).with_name("sharkstat"))
TSHARK = shutil.which(os.environ.get("SHARKSTAT_TSHARK", "tshark")) or "tshark"
TRUTH: dict[str, Any] = json.loads((DATA / "truth.json").read_text(encoding="utf-8"))["captures"]
NOBODY = 65534
_warm = Warm(SHARKSTAT)


def sharkstat(
    *arguments: object,
    given: bytes | None = None,
    under: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """The finished command; `given` is its standard input, `under` a command that runs it.

    A process of its own, but one that is warm (tests/warm.py) where nothing speaks against it.
    """
    if not under and options.keys() <= {"cwd"} and not any(name.startswith(AT_START) for name in env or ()):
        words, here = [str(word) for word in arguments], str(options.get("cwd") or Path.cwd())
        status, out, err = _warm.run(words, {**os.environ, "COLUMNS": "", **(env or {})}, here, given or b"", 100)
        return subprocess.CompletedProcess([SHARKSTAT, *words], status, out.decode(), err.decode())
    done = subprocess.run(
        [*under, SHARKSTAT, *map(str, arguments)],
        input=b"" if given is None and "stdin" not in options else given,
        env={**os.environ, "COLUMNS": "", **(env or {})},
        timeout=100,
        check=False,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, (done.stdout or b"").decode(), (done.stderr or b"").decode()
    )


def started(*arguments: object, under: Sequence[str] = (), **options: Any) -> subprocess.Popen[bytes]:
    """The running command, in which Ctrl-C and a closed terminal count even where the tests ignore them (nohup, &)."""
    streams: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
    }
    return subprocess.Popen(
        [*under, SHARKSTAT, *map(str, arguments)],
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)],
        **{**streams, **options},
    )


def ended(process: subprocess.Popen[bytes]) -> subprocess.CompletedProcess[str]:
    """What a started command gave at its end."""
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out.decode(), err.decode())


def tables(*arguments: object, **options: Any) -> list[dict[str, Any]]:
    """The tables of a run that must succeed, as its JSON has them."""
    done = sharkstat("run", *arguments, "--format", "json", **options)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["tables"]
    return found


def children(pid: int) -> dict[int, str]:
    """The processes that a process started, with their command lines."""
    found = {}
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").glob("*/children"):
            for number in thread.read_text().split():
                line = Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ")
                found[int(number)] = line.decode(errors="replace")
    return found


def frame(payload: bytes, *, source_port: int = 40000, port: int = 80, host: int = 2, sequence: int = 1) -> bytes:
    """A TCP segment from 192.0.2.HOST to port 80 of 192.0.2.1."""
    tcp = struct.pack("!HHIIBBHHH", source_port, port, sequence, 1, 0x50, 0x18, 8192, 0, 0) + payload
    addresses = bytes([192, 0, 2, host, 192, 0, 2, 1])
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + addresses + tcp
    return bytes.fromhex("020000000001020000000002") + b"\x08\x00" + ip


def pcap(frames: Sequence[bytes], start: int = 1_700_000_000) -> bytes:
    """A capture file of the frames, a millisecond apart."""
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)]
    for number, data in enumerate(frames):
        parts.append(struct.pack("<IIII", start, 1000 * number, len(data), len(data)) + data)
    return b"".join(parts)


def requests(*hosts_and_paths: tuple[bytes, bytes]) -> bytes:
    """A capture of one HTTP request each, on connections of their own."""
    return pcap(
        [
            frame(b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", source_port=40000 + number)
            for number, (host, path) in enumerate(hosts_and_paths)
        ]
    )


@contextmanager
def public_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="sharkstat-test-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


def in_namespaces(script: str, *words: str) -> list[str]:
    """A command that runs the shell script, and then what follows, with mounts of its own."""
    return [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        script + '\nexec "$@"',
        *(words or ("sh",)),
    ]


def may_mount() -> bool:
    return os.geteuid() == 0 and subprocess.run([*in_namespaces(":"), "true"], stderr=-3, check=False).returncode == 0


def as_user(uid: int = NOBODY, gid: int = NOBODY) -> list[str]:
    """A command that runs what follows as another user, who sees Python and the project even in closed folders."""
    needed = [Path(p).resolve() for p in (sys.base_prefix, sys.prefix, PROJECT)]
    closed = {
        folder for place in needed for folder in [*reversed(place.parents), place] if not folder.stat().st_mode & 1
    }
    outermost = [folder for folder in closed if not any(other in folder.parents for other in closed)]
    script = []
    for folder in outermost:
        # The folder is hidden by an empty open one, in which only what is needed is seen.
        script += [
            "aside=$(mktemp -d)",
            f'mount --rbind "{folder}" "$aside"',
            f'mount -t tmpfs -o mode=755 none "{folder}"',
        ]
        for place in needed:
            if folder in [place, *place.parents]:
                relative = place.relative_to(folder)
                script += [f'mkdir -p "{place}"', f'mount --rbind "$aside/{relative}" "{place}"']
    change = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs"]
    return [*in_namespaces("\n".join(script) or ":"), *change]
