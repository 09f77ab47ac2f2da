"""The bytes of capture files as tshark reads them in one pass: decompressed, several files in time order.

They can be read again and again, always the same: what was appended to a file since is not read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from sharkstat.running.addresses import AddressBytes, is_address
from sharkstat.running.formats import packing
from sharkstat.running.merging import Merged
from sharkstat.running.unpacking import Damaged, FileBytes
from sharkstat.running.walking import Unsplittable

PIECE = 1 << 20


class Content:
    """What is in the files. Unsplittable if one of them cannot be opened.

    Only on a cluster may names be `addresses`: elsewhere a::b is a file's name.
    """

    def __init__(self, names: Sequence[str], *, addresses: bool = False) -> None:
        self.names = tuple(names)
        self._files: list[tuple[str, int, Callable[[], FileBytes]]] = []
        try:
            for name in names:
                if addresses and is_address(name):
                    self._head = b""
                    self._files.append((name, 0, partial(AddressBytes, name, PIECE)))
                    continue
                with Path(name).open("rb") as file:
                    found = os.fstat(file.fileno())
                    self._head = file.read(12)
                if not stat.S_ISREG(found.st_mode):
                    raise Unsplittable(f"{name} is no file")
                identity, size = (found.st_dev, found.st_ino), found.st_size
                piece = PIECE if len(names) == 1 else PIECE >> 4
                self._files.append((name, size, partial(FileBytes, name, piece, size, identity)))
        except OSError as problem:
            raise Unsplittable(f"{name} cannot be opened: {problem.strerror}") from None
        self.size = sum(size for _, size, _ in self._files)

    @property
    def passes_through(self) -> bool:
        """Whether it comes to tshark through sharkstat, and not from the file itself, when it is read in one pass."""
        return len(self.names) > 1 or packing(self._head) in ("xz", "bzip2")

    def reader(self, stopped: Callable[[], bool] = lambda: False) -> Reader:
        """Reads it from the beginning."""
        return Reader(self._files, stopped)


class Reader:
    """Reads what is in the files, once."""

    def __init__(self, files: Sequence[tuple[str, int, Callable[[], FileBytes]]], stopped: Callable[[], bool]) -> None:
        self._merged = Merged(files, _convert, stopped) if len(files) > 1 else None
        self._only = None if len(files) > 1 else files[0][2]()
        self._pieces = self._merged.pieces() if self._merged is not None else self._of_one()
        self._rest = memoryview(b"")

    @property
    def position(self) -> int:
        """How many bytes of the files have been read."""
        return self._merged.position if self._merged is not None else self._only.position if self._only else 0

    def read(self, size: int) -> bytes:
        """So many bytes, fewer at the end. Unsplittable where tshark may read something else."""
        pieces, missing = [], size
        while missing:
            if not self._rest:
                piece = next(self._pieces, b"")
                if not piece:
                    self._check()
                    break
                self._rest = memoryview(piece)
            part, self._rest = self._rest[:missing], self._rest[missing:]
            pieces.append(part)
            missing -= len(part)
        return b"".join(pieces)

    def close(self) -> None:
        if self._merged is not None:
            self._merged.close()

    def _of_one(self) -> Iterator[bytes]:
        assert self._only is not None
        try:
            while piece := self._only.more():
                yield piece
        except Damaged as problem:
            raise Unsplittable(f"it {problem}") from None

    def _check(self) -> None:
        """Unsplittable where the end is not that of all files."""
        if self._merged is not None and self._merged.problems:
            name, problem = self._merged.problems[0]
            raise Unsplittable(f"{name} {problem}")
        if self._merged.trailing if self._merged is not None else self._only and self._only.trailing:
            raise Unsplittable("something follows the compressed data")


def _convert(name: str) -> tuple[int, Callable[[], None]]:
    raise Unsplittable(f"{name} is neither pcap nor pcapng")
