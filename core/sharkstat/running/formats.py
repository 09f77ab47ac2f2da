"""Recognizes file formats by their first bytes, and checks whether a compressed file is complete."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator

# Capture formats by their first bytes. tshark knows more formats, some of them only by guessing.
_PCAP = frozenset(
    word.to_bytes(4, order) for word in (0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34) for order in ("big", "little")
)
_PCAPNG = b"\x0a\x0d\x0d\x0a"
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
}
HEAD = 1 << 16  # bytes of a file that suffice for every check here


def packing(head: bytes) -> str:
    """The compression of a file: gzip, zstd, lz4, xz or bzip2; "" if it is not compressed.

    >>> packing(b"BZh91AY"), packing(b"hello")
    ('bzip2', '')
    """
    return next((name for magic, name in _PACKED.items() if head.startswith(magic)), "")


def header_size(head: bytes) -> int | None:
    """The minimum size in bytes of a capture with this beginning; None if it may not be a capture.

    A shorter file is not a capture for tshark either: it reads it as a file of another type, with one packet.

    >>> header_size(bytes.fromhex("d4c3b2a1")), header_size(b"hello")
    (24, None)
    """
    if head[:4] in _PCAP:
        return 24
    if head[:4] != _PCAPNG:
        return None
    order = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}.get(head[8:12])
    return int(struct.unpack(f"{order}I", head[4:8])[0]) if order else 28


def is_capture(head: bytes) -> bool:
    """Whether a file with this beginning is certainly a capture. False if only decompression or tshark can tell."""
    if packing(head) == "gzip":
        try:
            head = zlib.decompressobj(31).decompress(head, HEAD)
        except zlib.error:
            return False
    needed = header_size(head)
    return needed is not None and len(head) >= min(needed, HEAD)


# Frames of zstd and lz4: tshark silently reads nothing of a truncated one. ------------------------------

# A walk over a compressed file asks for bytes (positive) or skips some (negative).
Walk = Iterator[int]


class Frames:
    """Follows the frames of a compressed file as its bytes pass by, without decompressing them."""

    def __init__(self, kind: str) -> None:
        self.blocks = 0  # of data that are whole
        self._have = bytearray()
        self._took = b""
        self._walk = {"zstd": self._zstd, "lz4": self._lz4}[kind]()
        self._wants = next(self._walk)
        self._between = True
        self._lost = False

    @property
    def whole(self) -> bool:
        """Whether the bytes so far end at the end of a frame."""
        return self._lost or (self._between and not self._have)

    def feed(self, data: bytes) -> int:
        """Take the next bytes. Returns how many bytes after them may be skipped with `pass_over` instead of read."""
        at = 0
        while not self._lost:
            if self._wants < 0:
                passed = min(-self._wants, len(data) - at)
                at += passed
                if self._wants + passed:
                    self._wants += passed
                    return -self._wants
            else:
                taken = data[at : at + self._wants - len(self._have)]
                at += len(taken)
                self._have += taken
                if len(self._have) < self._wants:
                    return 0
            self._step()
        return 0

    def pass_over(self, count: int) -> None:
        """Skip this many of the bytes that need not be read."""
        self._wants += count
        if count and not self._wants:
            self._step()
            self.feed(b"")

    def _step(self) -> None:
        self._took = bytes(self._have)
        self._have.clear()
        try:
            self._between = False
            self._wants = next(self._walk)
        except StopIteration:
            self._lost = True  # an unknown frame follows: tshark will report it

    def _magic(self, kind: Callable[[], Walk], own: bytes) -> Walk:
        while True:
            self._between = True
            yield 4
            if self._took == own:
                yield from kind()
            elif self._took[1:] == b"\x2a\x4d\x18" and self._took[0] >> 4 == 5:  # a skippable frame
                yield 4
                yield -int.from_bytes(self._took, "little") or 0
            else:
                return

    def _zstd(self) -> Walk:  # RFC 8878, section 3
        def frame() -> Walk:
            yield 1
            descriptor = self._took[0]
            single = bool(descriptor & 0x20)
            sizes = (int(single), 2, 4, 8)
            rest = (not single) + (0, 1, 2, 4)[descriptor & 3] + sizes[descriptor >> 6]
            yield -rest
            last = False
            while not last:
                yield 3
                header = int.from_bytes(self._took, "little")
                last = bool(header & 1)
                yield -(1 if header >> 1 & 3 == 1 else header >> 3)
                self.blocks += 1
            yield -(4 if descriptor & 4 else 0)

        return self._magic(frame, b"\x28\xb5\x2f\xfd")

    def _lz4(self) -> Walk:  # the LZ4 frame format, version 1.6
        def frame() -> Walk:
            yield 2
            flags = self._took[0]
            yield -((8 if flags & 8 else 0) + (4 if flags & 1 else 0) + 1)
            while True:
                yield 4
                size = int.from_bytes(self._took, "little") & 0x7FFFFFFF
                if not size:
                    break
                yield -(size + (4 if flags & 16 else 0))
                self.blocks += 1
            yield -(4 if flags & 4 else 0)

        return self._magic(frame, b"\x04\x22\x4d\x18")


def frames_of(descriptor: int, kind: str) -> Frames:
    """The frames of a compressed file, of which only the headers are read."""
    frames, at, size = Frames(kind), 0, os.fstat(descriptor).st_size
    while data := os.pread(descriptor, 64, at):
        at += len(data)
        passed = min(frames.feed(data), size - at)
        frames.pass_over(passed)
        at += passed
    return frames
