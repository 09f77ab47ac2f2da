"""Makes one large capture of many small ones: all Ethernet packets under the folders, laid over each other in time.

    python benchmarks/mix.py MIX.pcap ../shared/captures tests/data --copies 5

Each further copy follows the one before it, between other addresses of IPv4. The same captures give the same mix.
"""

from __future__ import annotations

import argparse
import random
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from sharkstat.running.capturefile import NO_PACKET, CaptureReader

ETHERNET, LONGEST = 1, 1 << 18
SECOND = 10**9
BEGIN = 1_700_000_000 * SECOND


def packets_of(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Time in nanoseconds, length, and what was captured of each packet of an Ethernet capture."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.pcap"
        subprocess.run(["editcap", "-F", "nsecpcap", path, made], capture_output=True, check=False)
        data = made.read_bytes() if made.exists() else b""
    reader = CaptureReader()
    for begin, _, at, end, time, interface in reader.records(data):
        if interface != NO_PACKET and reader.interfaces[interface].link == ETHERNET and end - at <= LONGEST:
            (length,) = struct.unpack_from(reader.order + "I", data, begin + 12)
            if length <= LONGEST:
                yield time, length, data[at:end]


def elsewhere(frame: bytes, copy: int) -> bytes:
    """The frame between other hosts, of networks that are not special."""
    if not copy or frame[12:14] != b"\x08\x00" or len(frame) < 34:
        return frame
    moved = bytearray(frame)
    for at in (26, 30):
        if moved[at] not in (0, 127) and moved[at] < 224:
            moved[at + 1] = (moved[at + 1] + 41 * copy) % 256
    return bytes(moved)


def write(target: Path, folders: Sequence[Path], copies: int = 1, seconds: int = 600) -> int:
    """Write the mix, and give how many packets it has."""
    dice, mixed = random.Random(1), []
    files = sorted({path for folder in folders for path in folder.rglob("*") if {".pcap", ".cap"} & {*path.suffixes}})
    files = sorted({*files, *(path for folder in folders for path in folder.rglob("*.pcapng*"))})
    for path in files:
        found = list(packets_of(path))
        if not found:
            continue
        first = min(time for time, _, _ in found)
        span = max(time for time, _, _ in found) - first
        shrink = max(span / (seconds * SECOND), 1)
        offset = dice.random() * (seconds * SECOND - span / shrink)
        mixed += [(int(offset + (time - first) / shrink), length, frame) for time, length, frame in found]
    mixed.sort(key=lambda packet: packet[0])
    with target.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, LONGEST, ETHERNET))
        for copy in range(copies):
            for time, length, frame in mixed:
                micros = (BEGIN + copy * (seconds + 10) * SECOND + time) // 1000
                out.write(struct.pack("<IIII", *divmod(micros, 1_000_000), len(frame), length))
                out.write(elsewhere(frame, copy))
    return copies * len(mixed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--copies", type=int, default=1)
    given = parser.parse_args()
    print(f"{write(given.target, given.folders, given.copies):,} packets")


if __name__ == "__main__":
    main()
