"""-w and -b: what dumpcap captures is kept in files while it is counted; named and changed as dumpcap does it."""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from sharkstat.errors import OutputError, RequestError

_SECTION, _INTERFACE, _ENHANCED = 0x0A0D0D0A, 1, 6
_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}


class Recorder:
    """Writes the pcapng that comes piece by piece into a file, or with `ring` into one after the other.

    Only whole blocks are written. Where a file cannot take more, `problem` says so, `failed` is called once, and what
    follows is not kept.
    """

    def __init__(self, name: str, ring: Sequence[str], failed: Callable[[], None]) -> None:
        """OutputError where the first file cannot be made."""
        if name == "-":
            raise RequestError("-w - would mix packets with the results: give a file")
        self.problem = ""
        self.lost = 0  # packets that were not kept
        self._name = Path(name)
        self._failed = failed
        self._limits = {kind: float(value) for kind, _, value in (text.partition(":") for text in ring)}
        self._number = 0
        self._kept: deque[Path] = deque()
        self._file = -1
        self._size = self._packets = 0
        self._until = float("inf")  # when the file has had its time
        self._rest = self._head = b""
        self._order = "<"
        try:
            self._begin()
        except OSError as problem:
            raise OutputError(f"-w {name}: {problem.strerror}: give a file that can be written") from None

    def _begin(self) -> None:
        """Open the next file."""
        now = time.time()
        path = self._name
        if self._limits:
            self._number += 1
            stamp = time.strftime("%Y%m%d%H%M%S", time.localtime(now))
            path = path.with_name(f"{path.stem}_{self._number:05d}_{stamp}{path.suffix}")
        self.close()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._kept.append(path)
        if len(self._kept) > self._limits.get("files", float("inf")):
            with contextlib.suppress(OSError):
                self._kept.popleft().unlink()
        self._size = self._packets = 0
        self._until = float("inf")
        if "duration" in self._limits:
            self._until = now + self._limits["duration"]
        if "interval" in self._limits:
            interval = self._limits["interval"]
            self._until = min(self._until, (now // interval + 1) * interval)

    def write(self, chunk: bytes) -> None:
        """Keep these bytes."""
        data = self._rest + chunk
        at = begin = 0
        while at + 12 <= len(data):
            kind, length = struct.unpack_from(self._order + "II", data, at)
            if kind == _SECTION:
                self._order = _ORDERS.get(data[at + 8 : at + 12], self._order)
                _, length = struct.unpack_from(self._order + "II", data, at)
            if length < 12:  # dumpcap does not write that
                length = len(data) - at
            if at + length > len(data):
                break
            if kind == _ENHANCED:
                if self._full(begin, at):
                    self._put(data[begin:at])
                    begin = at
                    self._change()
                self._packets += 1
                self.lost += bool(self.problem)
            elif kind in (_SECTION, _INTERFACE):
                self._head += data[at : at + length]
            at += length
        self._put(data[begin:at])
        self._rest = data[at:]

    def _full(self, begin: int, at: int) -> bool:
        limits = self._limits
        if not self._packets or not limits or self.problem:
            return False
        return (
            self._packets >= limits.get("packets", float("inf"))
            or self._size + at - begin >= limits.get("filesize", float("inf")) * 1000
            or time.time() >= self._until
        )

    def _change(self) -> None:
        try:
            self._begin()
        except OSError as problem:
            self._fail(problem)
        self._put(self._head)

    def _put(self, data: bytes) -> None:
        if self.problem or not data:
            return
        done = 0
        try:
            while done < len(data):
                done += os.write(self._file, data[done:])
            self._size += done
        except OSError as problem:
            self._fail(problem)

    def _fail(self, problem: OSError) -> None:
        self.problem = f"-w {self._kept[-1]}: {problem.strerror}: the capture ended there"
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self._whole())
        self._failed()

    def _whole(self) -> int:
        """Where the last whole block of the file ends."""
        at, reader = 0, os.open(self._kept[-1], os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(reader).st_size
            while len(head := os.pread(reader, 8, at)) == 8:
                length = struct.unpack(self._order + "II", head)[1]
                if length < 12 or at + length > size:
                    break
                at += length
        finally:
            os.close(reader)
        return at

    def close(self) -> None:
        """No more comes."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                os.close(self._file)
            self._file = -1
