"""Many capture files are one capture: what a ring buffer of a week leaves, cut anywhere, in any format."""

from __future__ import annotations

import gzip
import resource
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.command import DATA

import sharkstat

STORY = DATA / "story-after.pcapng"
REQUESTS = ["conv,tcp", "tcp,health", "http,requests", "dns,names", "io,stat,1", "http,tree"]


def tool(name: str, *arguments: object) -> None:
    path = shutil.which(name) or name
    subprocess.run([path, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def few_open_files(limit: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The capture with times in microseconds, which every format can hold."""
    path = tmp_path_factory.mktemp("whole") / "whole.pcap"
    tool("editcap", "-F", "pcap", STORY, path)
    return path


@pytest.fixture(scope="module")
def parts(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The capture cut every few packets: pcapng, gzip, pcap of micro- and nanoseconds, snap lengths that differ."""
    folder = tmp_path_factory.mktemp("parts")
    tool("editcap", "-F", "pcapng", "-c", 2, whole, folder / "part.pcapng")
    parts = sorted(folder.iterdir())
    assert len(parts) > 100
    for number, part in enumerate(parts):
        if number % 4 == 1:
            tool("editcap", "-F", "pcap" if number % 8 == 1 else "nsecpcap", part, folder / "other")
            (folder / "other").replace(part)
        if number % 3 == 1:
            part.write_bytes(gzip.compress(part.read_bytes()))
    return parts


def test_the_parts_are_the_whole_with_few_open_files(whole: Path, parts: list[Path]) -> None:
    truths = sharkstat.run(whole, REQUESTS, jobs=1)
    with few_open_files(80):
        tables = sharkstat.run(list(reversed(parts)), REQUESTS, jobs=1)
    for table, truth in zip(tables, truths, strict=True):
        assert table.rows == truth.rows, table.request
        assert (table.complete, table.warnings) == (truth.complete, truth.warnings)
        assert (table.reading.packets, table.reading.out_of_order) == (
            truth.reading.packets,
            truth.reading.out_of_order,
        )


def test_files_that_overlap_are_in_time_order_and_one_that_is_cut_short_is_named(whole: Path, tmp_path: Path) -> None:
    """Every second packet in a file of its own kind, and one more file that ends within a packet."""
    odd, even = tmp_path / "odd.pcap", tmp_path / "even.pcapng"
    numbers = [str(number) for number in range(1, 241, 2)]
    tool("editcap", "-r", "-F", "pcap", whole, odd, *numbers)
    tool("editcap", "-F", "pcapng", whole, tmp_path / "first.pcapng", "241-1000000")
    tool("editcap", tmp_path / "first.pcapng", even, *numbers)
    tool("editcap", "-r", whole, tmp_path / "first-240.pcapng", "1-240")
    truth = sharkstat.run(tmp_path / "first-240.pcapng", REQUESTS)
    tables = sharkstat.run([even, odd], REQUESTS)
    assert [table.rows for table in tables] == [table.rows for table in truth]
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(odd.read_bytes()[:-7])
    (table,) = sharkstat.run([cut, even], "io,stat,0")
    assert (table.complete, table["frames"]) == (False, [239])
    assert table.warnings == [f"{cut} is cut short: packets before that point are counted"]


def test_what_follows_the_compressed_data_is_named(whole: Path, tmp_path: Path) -> None:
    files = [tmp_path / "one.pcap.gz", tmp_path / "two.pcap.gz"]
    for file, behind in zip(files, (b"", b"what gzip calls trailing garbage"), strict=True):
        file.write_bytes(gzip.compress(whole.read_bytes()) + behind)
    (alone,) = sharkstat.run(whole, "io,stat,0")
    (table,) = sharkstat.run(files, "io,stat,0")
    assert table.total("frames") == 2 * alone.total("frames")
    assert (table.complete, table.warnings[0]) == (False, f"{files[1]}: what follows the compressed data is ignored")


def test_one_that_is_no_capture_is_named(parts: list[Path], tmp_path: Path) -> None:
    stranger = tmp_path / "notes.bin"
    stranger.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(sharkstat.SourceError, match=r"notes\.bin"):
        sharkstat.run([*parts[:20], stranger], "io,stat,0")


def test_a_packet_of_no_interface_is_not_left_out_in_silence(parts: list[Path], tmp_path: Path) -> None:
    """A Simple Packet Block before the first interface: alone, tshark calls the file damaged."""
    path = tmp_path / "without-interface.pcapng"
    header = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
    path.write_bytes(header + struct.pack("<III60xI", 3, 76, 60, 76))
    for files in ([path, parts[0]], [parts[0], path]):
        (table,) = sharkstat.run(files, "io,stat,0")
        assert not table.complete and any("without-interface.pcapng is damaged" in text for text in table.warnings)
