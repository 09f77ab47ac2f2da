"""What tshark printed, in little memory: it pads each line of a tree to the longest name, so most of it is blanks."""

from __future__ import annotations

import io
import re
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

_BLOCK = 1 << 22  # bytes that are compressed together; less is kept as it is
_MARK = 256  # more bytes than a mark has


class Printed:
    """Bytes in the order in which they were printed, to be read whole or as a stream.

    >>> printed = Printed()
    >>> printed.add(b"one ")
    >>> printed.add(b"two")
    >>> printed.whole(2, 6), printed.stream(4, 7).read()
    (b'e tw', b'two')
    """

    def __init__(self) -> None:
        self._starts: list[int] = []  # of the blocks, in bytes of the text
        self._blocks: list[bytes] = []  # compressed
        self._recent: list[bytes] = []
        self._begin = self.size = 0  # of what is recent; of all

    def add(self, piece: bytes) -> None:
        self._recent.append(piece)
        self.size += len(piece)
        if self.size - self._begin >= _BLOCK:
            self._starts.append(self._begin)
            self._blocks.append(zlib.compress(b"".join(self._recent), 1))
            self._recent, self._begin = [], self.size

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` to before `end`."""
        for number in range(max(0, bisect_right(self._starts, start) - 1), len(self._blocks)):
            at = self._starts[number]
            if at >= end:
                return
            yield zlib.decompress(self._blocks[number])[max(0, start - at) : end - at]
        if end > self._begin:
            yield b"".join(self._recent)[max(0, start - self._begin) : end - self._begin]

    def whole(self, start: int, end: int) -> bytes:
        return b"".join(self.pieces(start, end))

    def stream(self, start: int, end: int) -> io.BufferedReader:
        return io.BufferedReader(_Stream(self.pieces(start, end)), 1 << 20)

    def marks(self, mark: re.Pattern[bytes]) -> Iterator[tuple[int, int, bytes]]:
        """Where each mark begins and ends, and its first group."""
        tail, at = b"", 0  # at: where the tail begins
        for piece in self.pieces(0, self.size):
            window = tail + piece
            for found in mark.finditer(window):
                if found.end() > len(tail):
                    yield at + found.start(), at + found.end(), found[1]
            at += max(0, len(window) - _MARK)
            tail = window[-_MARK:]


class _Stream(io.RawIOBase):
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._left = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        given = self._left[: len(buffer)]
        buffer[: len(given)] = given
        self._left = self._left[len(given) :]
        return len(given)
