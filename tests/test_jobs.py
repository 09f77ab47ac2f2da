"""Several tsharks at one time give the tables of one, to the last digit."""

from __future__ import annotations

import bz2
import gzip
import logging
import lzma
import os
import random
import shutil
import struct
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.command import DATA
from tests.measure import ADDRESSES, CORPUS, OURS, corpus_captures

import sharkstat
from sharkstat.running import splitter
from sharkstat.running.capturefile import CaptureReader

REQUESTS = [*OURS, "services", "traffic", "timeline", "group,by=ip.src,distinct=tcp.stream,sum=frame.len"]


# What can be counted in parts of a capture.
SPLIT = ["io,stat,1,tcp,udp", "http,tree", *ADDRESSES, "icmp,errors", "arp,hosts"]


def _same(path: Path, requests: list[str]) -> None:
    one = sharkstat.run(path, requests, jobs=1)
    several = sharkstat.run(path, requests, jobs=3)
    for alone, table in zip(one, several, strict=True):
        assert alone == table, alone.request


def _packed_by(program: str, data: bytes) -> bytes:
    return subprocess.run([program, "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


def _tool(name: str, *arguments: object) -> None:
    subprocess.run([name, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


PACKED: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, lzma.compress, bz2.compress]
PACKED += [partial(_packed_by, program) for program in ("zstd", "lz4") if shutil.which(program)]


def _in_files(path: Path, folder: Path, seed: int) -> list[Path]:
    """The capture cut at random places into files, some of them packed; two overlap in time."""
    dice = random.Random(seed)
    whole = folder / "whole.pcapng"
    _tool("editcap", "-F", "pcapng", path, whole)
    count = len(list(CaptureReader().records(whole.read_bytes())))
    cuts = sorted(dice.sample(range(2, count - 3), 4))
    made = []
    for number, (first, last) in enumerate(zip([0, *cuts], [*cuts, count], strict=True)):
        kind = dice.choice(["pcapng", "pcap", "nsecpcap"]) if path.suffix == ".pcap" else "pcapng"
        part = folder / f"part{number}"
        _tool("editcap", "-r", "-F", kind, path, part, f"{first + 1}-{last}")
        made.append(part)
    odd = [str(number) for number in range(1, cuts[1] - cuts[0], 2)][:200]
    _tool("editcap", "-F", "pcapng", made[1], folder / "even", *odd)
    _tool("editcap", "-r", "-F", "pcapng", made[1], folder / "odd", *odd)
    made[1:2] = [folder / "even", folder / "odd"]
    for part in made:
        part.write_bytes(dice.choice(PACKED)(part.read_bytes()))
    dice.shuffle(made)
    return made


@pytest.mark.parametrize("name", ["story-after.pcapng", "dns.pcapng"])
def test_more_jobs_change_no_digit(name: str) -> None:
    _same(DATA / name, REQUESTS)


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.exists(), reason="the large captures are not there: ../shared/captures")
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.relative_to(CORPUS).as_posix(), marks=[pytest.mark.long] if number % 120 else [])
        for number, path in enumerate(corpus_captures())
    ],
)
def test_a_large_capture_in_shards_gives_the_same_tables(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitter, "MOST", 0.999)  # also where it is not worth it
    try:
        _same(path, SPLIT)
    except sharkstat.SourceError as problem:  # of cases/: both say the same
        with pytest.raises(sharkstat.SourceError) as several:
            sharkstat.run(path, SPLIT, jobs=3)
        assert str(several.value) == str(problem)


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.exists(), reason="the large captures are not there: ../shared/captures")
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.relative_to(CORPUS).as_posix(), marks=[pytest.mark.long] if number % 150 else [])
        for number, path in enumerate(corpus_captures())
    ],
)
def test_a_large_capture_in_many_files_in_shards_gives_the_same_tables(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splitter, "MOST", 0.999)
    try:
        parts = _in_files(path, tmp_path, 1)
    except (subprocess.CalledProcessError, ValueError):
        pytest.skip("it is no whole capture, or has too few packets to cut")
    one = sharkstat.run(parts, SPLIT, jobs=1)
    several = sharkstat.run(parts, SPLIT, jobs=3)
    for alone, table in zip(one, several, strict=True):
        assert alone == table, alone.request


@pytest.mark.corpus
@pytest.mark.long
@pytest.mark.skipif(not CORPUS.exists(), reason="the large captures are not there: ../shared/captures")
@pytest.mark.parametrize("path", corpus_captures()[::10], ids=lambda path: path.name)
def test_requests_dealt_out_give_the_same_tables(path: Path) -> None:
    _same(path, REQUESTS)


IN_SHARDS = ["io,stat,0.5,tcp,udp", "conv,tcp", "conv,ip", "conv,eth", "endpoints,tcp", "endpoints,ip", "icmp,errors"]


def mixed(path: Path, pcapng: bool = False, late: int = 0) -> Counter[str]:
    """3,000 packets of 40 clients and 5 servers, with ports that are used again, ICMP errors and a tunnel.

    Gives how many of each there are. With `late`, that packet comes a second too late.
    """
    dice = random.Random(7)

    def ip(protocol: int, source: int, destination: int, body: bytes) -> bytes:
        ends = struct.pack(">II", 0x0A000000 + source, 0x0A010000 + destination)
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0) + ends
        total = sum(struct.unpack(">10H", head))
        total = (total & 0xFFFF) + (total >> 16)
        return head[:10] + struct.pack(">H", 0xFFFF - (total & 0xFFFF) - (total >> 16)) + head[12:] + body

    records, counts = [], Counter[str]()
    for number in range(3000):
        client, server = dice.randrange(40), dice.randrange(5)
        ports = 40000 + dice.randrange(3), (80, 443, 8123)[server % 3]
        flags = dice.choice((0x02, 0x12, 0x10, 0x18, 0x18, 0x11))
        payload = bytes(dice.randrange(200)) if flags == 0x18 else b""
        if dice.random() < 0.2:
            kind, packet = "udp", ip(17, client, server, struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload)
        else:
            segment = struct.pack(">HHIIBBHHH", *ports, number * 1000, 1, 0x50, flags, 1000, 0, 0) + payload
            kind, packet = "tcp", ip(6, client, server, segment)
        if number % 1500 == 99:  # somebody could not be reached
            kind, packet = "icmp", ip(1, 200, client, struct.pack(">BBHI", 3, 1, 0, 0) + packet[:28])
        if number % 2900 == 300:
            packet = ip(4, 201, 202, packet)
        counts[kind] += 1
        seconds, micros = divmod(number * 997 - (1_000_000 if number == late and late else 0), 1_000_000)
        frame = b"\x02\0\0\0\0\1\x02\0\0\0\0" + bytes([server]) + b"\x08\0" + packet
        records.append((1_700_000_000 + seconds, micros, frame))
    if pcapng:
        blocks = [(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)), (1, struct.pack("<HHI", 1, 0, 0))]
        for seconds, micros, frame in records:
            stamp, size = seconds * 1_000_000 + micros, len(frame)
            head = struct.pack("<IIIII", 0, stamp >> 32, stamp & 0xFFFFFFFF, size, size)
            blocks.append((6, head + frame + b"\0" * (-size % 4)))
        path.write_bytes(
            b"".join(struct.pack("<II", k, len(b) + 12) + b + struct.pack("<I", len(b) + 12) for k, b in blocks)
        )
        return counts
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for seconds, micros, frame in records:
        out += struct.pack("<IIII", seconds, micros, len(frame), len(frame)) + frame
    path.write_bytes(out)
    return counts


@pytest.mark.parametrize("pcapng", [False, True], ids=["pcap", "pcapng"])
def test_a_capture_in_shards_gives_the_same_tables(
    tmp_path: Path, pcapng: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mixed"
    counts = mixed(path, pcapng)
    one = sharkstat.run(path, IN_SHARDS, jobs=1)
    with caplog.at_level(logging.DEBUG, "sharkstat"):
        several = sharkstat.run(path, IN_SHARDS, jobs=3)
    assert "one piece" not in caplog.text
    assert one == several
    by_name = {table.name: table for table in several}
    assert by_name["io,stat"].total("frames") == 3000
    assert by_name["conv,tcp"].total("packets") == counts["tcp"]
    assert by_name["icmp,errors"].total("errors") == counts["icmp"]


def test_many_and_packed_files_in_shards_give_the_same_tables(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "mixed.pcap"
    mixed(path)
    whole = sharkstat.run(path, IN_SHARDS, jobs=1)
    parts = _in_files(path, tmp_path, 3)
    packed = [tmp_path / f"packed{number}" for number in range(1, len(PACKED))]
    for name, pack in zip(packed, PACKED[1:], strict=True):
        name.write_bytes(pack(path.read_bytes()))
    one = sharkstat.run(parts, IN_SHARDS, jobs=1)
    with caplog.at_level(logging.DEBUG, "sharkstat"):
        several = sharkstat.run(parts, IN_SHARDS, jobs=3)
        of_packed = [sharkstat.run(name, IN_SHARDS, jobs=2) for name in packed]
    assert "one piece" not in caplog.text
    assert several == one
    for tables in (one, *of_packed):
        assert [table.rows for table in tables] == [table.rows for table in whole]


@pytest.mark.parametrize("spoil", ["cut", "followed", "stranger"])
def test_what_is_wrong_with_one_of_many_files_is_said_as_in_one_pass(
    spoil: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, other = tmp_path / "mixed.pcap", tmp_path / "other.pcap.gz"
    mixed(path)
    data = gzip.compress(path.read_bytes())
    spoilt = {
        "cut": data[: len(data) * 2 // 3],
        "followed": data + b"no gzip at all",
        "stranger": bytes(range(256)) * 4,
    }
    other.write_bytes(spoilt[spoil])
    found: list[list[sharkstat.Table] | str] = []
    with caplog.at_level(logging.DEBUG, "sharkstat"):
        for jobs in (1, 3):
            try:
                found.append(sharkstat.run([path, other], ["conv,tcp", "io,stat,1"], jobs=jobs))
            except sharkstat.SourceError as problem:
                found.append(str(problem))
    assert found[0] == found[1]
    assert "read in one piece" in caplog.text


def test_a_pipe_is_read_in_one_piece(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, pipe = tmp_path / "mixed.pcap", tmp_path / "pipe"
    mixed(path)
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()))
    writer.start()
    with caplog.at_level(logging.DEBUG, "sharkstat"):
        tables = sharkstat.run(pipe, IN_SHARDS, jobs=3)
    writer.join()
    assert "it cannot be read twice" in caplog.text
    assert [table.rows for table in tables] == [table.rows for table in sharkstat.run(path, IN_SHARDS, jobs=1)]


def test_what_shards_would_change_is_read_in_one_piece(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "late.pcap"
    mixed(path, late=1500)
    with caplog.at_level(logging.DEBUG, "sharkstat"):
        several = sharkstat.run(path, IN_SHARDS, jobs=3)
    assert "not in time order" in caplog.messages[0]
    assert several == sharkstat.run(path, IN_SHARDS, jobs=1)
    assert several[0].reading.out_of_order == 1


def test_what_one_statistic_cannot_be_asked_is_the_error_of_the_run() -> None:
    with pytest.raises(sharkstat.RequestError, match="nosuch"):
        sharkstat.run(DATA / "http.pcapng", ["conv,tcp", "http,tree", "io,stat,1,nosuch.field"], jobs=2)
    with pytest.raises(sharkstat.RequestError, match="at least 1"):
        sharkstat.run(DATA / "http.pcapng", "conv,tcp", jobs=0)
