"""Captures made of other captures: cut in parts, and spoilt; for tests of statistics (sharkstat.testing)."""

from __future__ import annotations

import itertools
import random
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sharkstat.errors import SourceError
from sharkstat.tshark.process import clean_environment, find_tool, find_tshark

_HEADER = struct.Struct("=IHHiIII")
_RECORD = struct.Struct("=IIII")
_NANOSECONDS = 0xA1B23C4D
_LONGEST = 262144


@dataclass(frozen=True)
class Record:
    """A packet as a capture file has it: nanoseconds since 1970, length on the wire, and the bytes that were kept."""

    time: int
    length: int
    data: bytes

    def written(self) -> bytes:
        return _RECORD.pack(self.time // 10**9, self.time % 10**9, len(self.data), self.length) + self.data


@dataclass(frozen=True)
class Records:
    """The packets of a capture, all of one link type, in the order of the file."""

    link_type: int
    packets: tuple[Record, ...]

    @classmethod
    def of(cls, path: Path) -> Records:
        """Read a capture, of any format that tshark knows. SourceError where that cannot be."""
        tool = find_tool("editcap", find_tshark())
        # One simple format for all: editcap knows the others. What it says of a file that is cut short is no trouble.
        done = subprocess.run(
            [tool, "-F", "nsecpcap", str(path), "-"],
            capture_output=True,
            env=clean_environment(None),
            check=False,
        )
        if len(done.stdout) < _HEADER.size:
            said = done.stderr.decode(errors="replace").strip() or "nothing"
            raise SourceError(f"cannot split {path}: editcap says {said}")
        return cls(_HEADER.unpack_from(done.stdout)[6], tuple(_records(done.stdout)))

    def written(self) -> bytes:
        head = _HEADER.pack(_NANOSECONDS, 2, 4, 0, 0, _LONGEST, self.link_type)
        return head + b"".join(packet.written() for packet in self.packets)

    def of_packets(self, packets: Sequence[Record]) -> Records:
        return replace(self, packets=tuple(packets))

    def in_parts(self, count: int) -> list[Records]:
        """Cut in time order in so many parts, as near as can be of as many packets each."""
        packets = sorted(self.packets, key=lambda packet: packet.time)
        ends = [len(packets) * part // count for part in range(count + 1)]
        return [self.of_packets(packets[a:b]) for a, b in itertools.pairwise(ends) if a < b]

    def shared_out(self, owners: Sequence[object], count: int) -> list[Records]:
        """Shared out to so many parts, such that all packets of one owner are together; `owners` has one a packet."""
        part_of = {owner: number % count for number, owner in enumerate(dict.fromkeys(owners))}
        shares: list[list[Record]] = [[] for _ in range(count)]
        for packet, owner in zip(self.packets, owners, strict=True):
            shares[part_of[owner]].append(packet)
        return [self.of_packets(share) for share in shares if share]


def _records(data: bytes) -> Iterator[Record]:
    at = _HEADER.size
    while at + _RECORD.size <= len(data):
        seconds, nanoseconds, kept, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size + kept
        if at <= len(data):
            yield Record(seconds * 10**9 + nanoseconds, length, data[at - kept : at])


def mutants(capture: Path, folder: Path, seeds: Sequence[int]) -> Iterator[Path]:
    """Write what became of the capture on a bad day, one file after the other; equal seeds give equal files."""
    whole = Records.of(capture)

    def write(kind: str, data: bytes) -> Path:
        path = folder / f"{capture.name.partition('.')[0]}-{kind}.pcap"
        path.write_bytes(data)
        return path

    yield write("empty", whole.of_packets(()).written())
    if whole.packets:
        yield write("cut-short", whole.written()[: -(len(whole.packets[-1].data) // 2 + 1)])
    yield write("doubled", whole.of_packets([p for packet in whole.packets for p in (packet, packet)]).written())
    for seed in seeds:
        for kind, spoil in _SPOILT.items():
            packets = spoil(random.Random(seed), list(whole.packets))
            yield write(f"{kind}-{seed}", whole.of_packets(packets).written())


def _flipped(chance: random.Random, packets: list[Record]) -> list[Record]:
    """Some bits of every other packet or so are wrong."""
    spoilt = []
    for packet in packets:
        data = bytearray(packet.data)
        for _ in range(chance.choice((0, 0, 1, 2, 8)) if data else 0):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        spoilt.append(replace(packet, data=bytes(data)))
    return spoilt


def _snapped(chance: random.Random, packets: list[Record]) -> list[Record]:
    """Of every packet only the beginning was kept."""
    return [replace(packet, data=packet.data[: chance.randrange(len(packet.data) + 1)]) for packet in packets]


def _shuffled(chance: random.Random, packets: list[Record]) -> list[Record]:
    """The packets are in the wrong order, so that times go back."""
    chance.shuffle(packets)
    return packets


_SPOILT: dict[str, Callable[[random.Random, list[Record]], list[Record]]] = {
    "flipped": _flipped,
    "snapped": _snapped,
    "shuffled": _shuffled,
}
