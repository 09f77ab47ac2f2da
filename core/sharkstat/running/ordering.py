"""Sorts packets by time before tshark reads them: a capture file exactly, a live capture within a second.

Packets with equal times keep their order, and a packet without a time stays after its predecessor.
"""

from __future__ import annotations

import heapq
import mmap
import os
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from sharkstat.errors import SourceError
from sharkstat.running.capturefile import CHUNK, NO_CAPTURE, NO_PACKET, CaptureReader

_SECOND = 10**9
_HELD = 1 << 28  # maximum bytes held back in a live run
_ENHANCED = 6


@dataclass
class _Index:
    """The positions of a file's records and the times of its packets."""

    times: array[int] = field(default_factory=lambda: array("q"))
    begins: array[int] = field(default_factory=lambda: array("Q"))
    ends: array[int] = field(default_factory=lambda: array("Q"))
    others: list[tuple[int, int]] = field(default_factory=list)
    sections: list[tuple[int, int]] = field(default_factory=list)  # the first packet of each, and its first interface
    end: int = 0  # of the last whole record
    order: str = "<"

    @property
    def in_order(self) -> bool:
        times = self.times
        return all(times[at] <= times[at + 1] for at in range(len(times) - 1))


def in_order(file: int) -> Iterator[bytes]:
    """The capture in a regular file, with its packets sorted by time; the file's position shows the progress.

    Raises SourceError if it cannot be sorted.
    """
    index = _indexed(file)
    size = os.fstat(file).st_size
    if index.in_order:
        os.lseek(file, 0, os.SEEK_SET)
        while chunk := os.read(file, CHUNK):
            yield chunk
        return
    with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as data:
        waiting = bytearray().join(data[begin:end] for begin, end in index.others)
        times, begins, ends = index.times, index.begins, index.ends
        starts = [start for start, _ in index.sections] + [len(times)]
        for done, at in enumerate(sorted(range(len(times)), key=times.__getitem__)):
            packet = data[begins[at] : ends[at]]
            if len(index.sections) > 1:
                section = next(nth for nth in range(len(index.sections)) if at < starts[nth + 1])
                packet = _of_interface(packet, index.sections[section][1], index.order)
            waiting += packet
            if len(waiting) >= CHUNK:
                os.lseek(file, size * done // len(times), os.SEEK_SET)
                yield bytes(waiting)
                waiting.clear()
        yield bytes(waiting) + data[index.end :]  # a truncated file stays truncated
    os.lseek(file, 0, os.SEEK_END)


def _indexed(file: int) -> _Index:
    index, reader = _Index(), CaptureReader()
    rest, at, interfaces, known = b"", 0, 0, 0
    while chunk := os.pread(file, CHUNK, at + len(rest)):
        data = rest + chunk
        end = 0
        for begin, end, _, _, time, interface in reader.records(data):
            if interface != NO_PACKET:
                index.times.append(max(-(2**63), min(time, 2**63 - 1)))
                index.begins.append(at + begin)
                index.ends.append(at + end)
            elif reader.sections == len(index.sections):
                index.others.append((at + begin, at + end))
            else:  # a section's header
                if index.sections:
                    interfaces += known
                    if reader.order != index.order:
                        raise SourceError(
                            "--reorder: the file has sections of different byte orders: rewrite it with mergecap"
                        )
                else:
                    index.others.append((at + begin, at + end))
                index.order = reader.order
                index.sections.append((len(index.times), interfaces))
            known = len(reader.interfaces)
        at += end
        rest = data[end:]
        if not reader.known:
            break
    if not reader.order:
        raise SourceError(f"--reorder {NO_CAPTURE}")
    index.end = at
    return index


def _of_interface(packet: bytes, first: int, order: str) -> bytes:
    """The packet's block with its interface number counted across all sections."""
    if not first:
        return packet
    kind, _, number = struct.unpack_from(order + "III", packet)
    if kind != _ENHANCED:
        raise SourceError(
            "--reorder: the file has several sections with obsolete packet blocks: rewrite it with mergecap"
        )
    return packet[:8] + struct.pack(order + "I", number + first) + packet[12:]


def nearly_in_order(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same for a live capture: each packet is held until one arrives that is a second later."""
    reader = CaptureReader()
    held: list[tuple[int, int, bytes]] = []
    rest, count, size = b"", 0, 0
    newest = -(2**63)
    for chunk in chunks:
        data = rest + chunk
        end, out = 0, []
        for begin, end, _, _, time, interface in reader.records(data):
            record = data[begin:end]
            if interface == NO_PACKET:
                out.append(record)
                continue
            heapq.heappush(held, (time, count, record))
            count, size = count + 1, size + len(record)
            newest = max(newest, time)
            while held and (held[0][0] <= newest - _SECOND or size > _HELD):
                out.append(heapq.heappop(held)[2])
                size -= len(out[-1])
        if out:
            yield b"".join(out)
        rest = data[end:]
    yield b"".join(heapq.heappop(held)[2] for _ in range(len(held)))
    yield rest
