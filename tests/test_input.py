"""What is read: files that are no captures, archives, what ends too early, and who may not die unnoticed."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import shutil
import signal
import socket
import struct
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.command import DATA, children, ended, public_folder, started

import sharkstat as library
from sharkstat import SourceError, Table
from sharkstat.running import formats

HTTP = DATA / "http.pcapng"
FRAMES = 204  # capinfos -c


def tar_of(path: Path) -> bytes:
    with tarfile.open(fileobj=(archive := io.BytesIO()), mode="w") as tar:
        tar.add(path, arcname=path.name)
    return archive.getvalue()


FOREIGN = {
    "note": b"hello\n",
    "picture": b"\x89PNG\r\n\x1a\n" + struct.pack("!I4sIIBBBBBI", 13, b"IHDR", 1, 1, 8, 0, 0, 0, 0, 0x3A7E9B55),
    "program": b"\x7fELF\x02\x01\x01" + bytes(57),
    "json": b'{"a": [1, 2]}\n',
    "certificate": b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
    "log": b"01-01 00:00:00.000  1000  1000 I tag: text\n" * 3,  # Android's
    # In these tshark 4.0 finds no packet, and says nothing.
    "nothing": gzip.compress(b""),
    "archive": tar_of(HTTP),
}


def counted(*sources: Path, **options: Any) -> Table:
    (table,) = library.run(list(sources), "io,stat,0", **options)
    return table


@contextlib.contextmanager
def fed(folder: Path, data: bytes) -> Iterator[Path]:
    """A named pipe into which the bytes are written."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(data), daemon=True)
    writer.start()
    yield pipe
    writer.join(10)
    pipe.unlink()


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_capture_is_refused(kind: str, tmp_path: Path) -> None:
    """tshark takes each for a capture of one packet, or refuses it."""
    path = tmp_path / kind
    path.write_bytes(FOREIGN[kind])
    with pytest.raises(SourceError, match=f"{kind} is not a capture file"):
        counted(path)
    if kind == next(iter(FOREIGN)):
        with pytest.raises(SourceError, match=f"{kind} is not a capture file"):
            counted(path, display_filter="tcp")  # which lets no such packet through
    with pytest.raises(SourceError, match=f"{kind} is not a capture file"):
        counted(HTTP, path)
    with fed(tmp_path, FOREIGN[kind]) as pipe, pytest.raises(SourceError, match="pipe is not a capture file"):
        counted(pipe)


@pytest.mark.parametrize("whole", [HTTP, DATA / "nanosecond.pcap"])
def test_a_capture_that_ends_within_its_header_holds_no_packet(whole: Path, tmp_path: Path) -> None:
    data = whole.read_bytes()
    path = tmp_path / whole.name
    for length in (5, 12, formats.header_size(data) or 0):
        path.write_bytes(data[: length - 1])
        with pytest.raises(SourceError, match=r"is cut short in the file header|is not a capture file"):
            counted(path)
        with fed(tmp_path, data[: length - 1]) as pipe, pytest.raises(SourceError, match=r"cut short|not a capture"):
            counted(pipe)


def test_a_capture_that_is_cut_anywhere_is_incomplete_or_refused(tmp_path: Path) -> None:
    """In a description of the interface, in the first packet's header, and in a packet."""
    data, path = HTTP.read_bytes(), tmp_path / "cut.pcapng"
    for length in (150, 220, 300):
        path.write_bytes(data[:length])
        try:
            table = counted(path)
        except SourceError as problem:
            assert length == 150 and "cut short" in str(problem)
        else:
            assert not table.complete and table.reading.packets <= 1 and "cut short" in table.warnings[0]


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "zst": lambda data: piped(data, "zstd", "-c"),
    "lz4": lambda data: piped(data, "lz4", "-c"),
}


def piped(data: bytes, *command: str) -> bytes:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not here: NOT TESTED")
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


@pytest.mark.parametrize("ending", PACKED)
def test_archives_are_read_whole_or_are_incomplete(ending: str, tmp_path: Path) -> None:
    packed = PACKED[ending](HTTP.read_bytes())
    path, cut = tmp_path / f"http.pcapng.{ending}", tmp_path / f"cut.pcapng.{ending}"
    path.write_bytes(packed)
    cut.write_bytes(packed[: len(packed) * 2 // 3])
    alone = counted(path)
    assert (alone.complete, alone["frames"]) == (True, [FRAMES])
    both = counted(path, HTTP)
    assert (both.complete, both["frames"]) == (True, [2 * FRAMES])
    assert counted(path, two_pass=True, read_filter="tcp").complete
    with fed(tmp_path, packed) as pipe:
        assert counted(pipe)["frames"] == [FRAMES]
    with fed(tmp_path, packed[: len(packed) * 2 // 3]) as pipe:
        for sources in ([cut], [cut, HTTP], [pipe]):
            try:
                table = counted(*sources)
            except library.SourceError as problem:  # it is cut in its first block
                assert ending in ("zst", "lz4")
                said = str(problem)
            else:
                assert not table.complete and table.reading.packets < FRAMES * len(sources)
                assert ending in ("xz", "bz2") or sources == [pipe]
                said = next(text for text in table.warnings if "cut short" in text)  # beside a remark of copies
            assert "cut short" in said and sources[0].name in said


def test_a_damaged_archive_is_told(tmp_path: Path) -> None:
    for ending, pack in (("xz", lzma.compress), ("bz2", bz2.compress)):
        data = bytearray(pack(HTTP.read_bytes()))
        data[len(data) // 2] ^= 0xFF
        path = tmp_path / f"http.pcapng.{ending}"
        path.write_bytes(data)
        table = counted(path)
        assert not table.complete and "is damaged" in table.warnings[0]


@pytest.mark.long
@pytest.mark.parametrize("ending", ["zst", "lz4"])
def test_every_cut_of_an_archive_is_seen(ending: str, tmp_path: Path) -> None:
    packed = PACKED[ending](HTTP.read_bytes() * 3)
    path = tmp_path / "cut"
    for length in [*range(0, len(packed), 7), len(packed) - 1, len(packed)]:
        path.write_bytes(packed[:length])
        with path.open("rb") as file:
            whole = formats.frames_of(file.fileno(), {"zst": "zstd"}.get(ending, ending)).whole
        assert whole == (length in (0, len(packed)))


# Who may not die unnoticed


def child(process: subprocess.Popen[bytes], name: str) -> int:
    for _ in range(400):
        for pid, command in children(process.pid).items():
            if command.split() and Path(command.split()[0]).name == name:
                return pid
        time.sleep(0.02)
    raise AssertionError(f"no {name} was started")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_tables_are_incomplete_where_mergecap_died(number: int, tmp_path: Path) -> None:
    """It is killed when half of the packets of one of two files went through it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = started("run", DATA / "tls.pcapng", pipe, "-z", "io,stat,0", "--format", "json")
    with pipe.open("wb") as writer:
        writer.write(HTTP.read_bytes()[: HTTP.stat().st_size // 2])
        writer.flush()
        time.sleep(1)
        os.kill(child(process, "mergecap"), number)
        done = ended(process)
    assert done.returncode == 6
    assert (
        done.stderr
        == f"sharkstat: mergecap was killed ({signal.Signals(number).name}): packets before that are counted\n"
    )
    (table,) = json.loads(done.stdout)["tables"]
    assert not table["complete"] and table["read"]["packets"] < FRAMES


@pytest.mark.skipif(os.geteuid() != 0, reason="capturing takes root: NOT TESTED HERE")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_tables_are_incomplete_where_dumpcap_died(number: int) -> None:
    process = started("run", "-i", "lo", "-f", "udp port 40999", "-a", "duration:60", "-z", "io,stat,0")
    pid = child(process, "dumpcap")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(40):
            sender.sendto(b"x", ("127.0.0.1", 40999))
            time.sleep(0.05)
    os.kill(pid, number)
    done = ended(process)
    assert done.returncode == 6 and "INCOMPLETE" in done.stdout
    assert f"dumpcap was killed ({signal.Signals(number).name}): packets before that are counted" in done.stderr


# What waits can be ended


@pytest.fixture
def public() -> Iterator[Path]:
    with public_folder() as folder:
        yield folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_waiting_for_pipes_can_be_ended_at_once(number: int, public: Path) -> None:
    """A pipe that nobody writes to, two that somebody may write to, and a writer that stopped."""
    pipes = [public / "a", public / "b"]
    for pipe in pipes:
        os.mkfifo(pipe)

    def begun(*sources: Path) -> subprocess.Popen[bytes]:
        process = started("run", *sources, "-z", "io,stat,0", env={**os.environ, "TMPDIR": str(public)})
        for _ in range(400):
            if len(list(public.iterdir())) > len(pipes):  # its workspace
                break
            time.sleep(0.05)
        time.sleep(0.5)
        return process

    unwritten = begun(pipes[0])
    unwritten.send_signal(number)
    done = ended(unwritten)
    assert (done.returncode, done.stderr) == (130, "sharkstat: interrupted before there were results\n")
    writers = [os.open(pipe, os.O_RDWR) for pipe in pipes]
    try:
        idle = begun(*pipes)
        idle.send_signal(number)
        done = ended(idle)
        assert (done.returncode, done.stderr) == (130, "sharkstat: interrupted before there were results\n")
        for writer in writers:
            os.write(writer, HTTP.read_bytes()[:20000])
        slow = begun(*pipes)
        child(slow, "tshark")
        time.sleep(1)
        slow.send_signal(number)
        asked = time.monotonic()
        done = ended(slow)
        assert done.returncode == 130 and "INCOMPLETE" in done.stdout
        assert time.monotonic() - asked < 20  # it took 40 s
    finally:
        for writer in writers:
            os.close(writer)
    assert sorted(public.iterdir()) == pipes
