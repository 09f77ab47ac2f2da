"""Copies inputs through pipes, in threads that can always be woken and stopped."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import select
import threading
from typing import Any

from sharkstat.running.formats import HEAD, Frames, packing

CHUNK = 1 << 16


class Wake:
    """Wakes all who wait on it, once and for all."""

    def __init__(self) -> None:
        self.watched, self._end = os.pipe()
        self._lock = threading.Lock()

    @property
    def is_up(self) -> bool:
        return self._end < 0

    def up(self) -> None:
        with self._lock:
            if self._end >= 0:
                os.close(self._end)
                self._end = -1

    def close(self) -> None:
        """Close it; nobody may wait on it afterwards."""
        self.up()
        os.close(self.watched)


def wait_for(descriptor: int, wake: int, event: int) -> bool:
    """Wait until the descriptor can be read (POLLIN) or written (POLLOUT). Returns False if it never will be."""
    waiting = select.poll()
    waiting.register(descriptor, event)
    waiting.register(wake, 0)  # a hang-up is always reported
    ready = dict(waiting.poll())
    return wake not in ready and bool(ready.get(descriptor, 0) & event)


class Input(io.RawIOBase):
    """A file or pipe whose first bytes can be peeked at."""

    def __init__(self, name: str, descriptor: int, wake: Wake) -> None:
        """Takes over the descriptor."""
        self.name = name
        self.descriptor = descriptor
        self._wake = wake
        self._head = b""
        self.seekable_file = _seekable(descriptor)
        self.size = os.fstat(descriptor).st_size if self.seekable_file else None

    def look(self, least: int = 12) -> bytes:
        """The first bytes: as many as arrive at once, and at least this many unless the input is shorter."""
        if self.closed:
            return self._head
        if self.seekable_file:
            return os.pread(self.descriptor, HEAD, 0)
        while len(self._head) < least and (more := self._more(HEAD)):
            self._head += more
        return self._head

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)]
        self._head = self._head[len(data) :]
        data = data or self._more(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _more(self, size: int) -> bytes:
        if self.seekable_file or wait_for(self.descriptor, self._wake.watched, select.POLLIN):
            return os.read(self.descriptor, size)
        return b""

    @property
    def position(self) -> int:
        return os.lseek(self.descriptor, 0, os.SEEK_CUR) if self.seekable_file and not self.closed else 0

    def close(self) -> None:
        if not self.closed:
            os.close(self.descriptor)
        super().close()

    def let_go(self) -> None:
        """Close a file that somebody else opens when it is due; what kind of file it is stays known."""
        self._head = self.look()[:12]
        self.close()


def _seekable(descriptor: int) -> bool:
    try:
        os.lseek(descriptor, 0, os.SEEK_CUR)
    except OSError:
        return False
    return True


class Pump:
    """Copies an input into a pipe, in a thread, decompressing xz and bzip2 on the way."""

    def __init__(self, source: Input, write_end: int, wake: Wake) -> None:
        """Takes over the write end."""
        self.source = source
        self.problem = ""
        self._write_end = write_end
        self._wake = wake
        os.set_blocking(write_end, False)
        kind = packing(source.look())
        self._frames = Frames(kind) if kind in ("zstd", "lz4") and not source.seekable_file else None
        self._stream: Any = source
        if kind in ("xz", "bzip2"):
            unpacker: Any = lzma.LZMAFile if kind == "xz" else bz2.BZ2File
            self._stream = unpacker(source)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            self.problem = self._copy() or ""
        except Exception as problem:  # nobody else sees what ends a thread
            self.problem = f"cannot be read to its end ({type(problem).__name__})"
        finally:
            os.close(self._write_end)

    def _copy(self) -> str | None:
        """What is wrong with the source, or ""."""
        while True:
            try:
                chunk = self._stream.read(CHUNK)
            except EOFError:
                return "" if self._wake.is_up else "is cut short"  # it was told to stop
            except lzma.LZMAError:
                return "is damaged"
            except OSError as problem:  # of bz2 too, without a number
                return f"cannot be read to its end ({problem.strerror})" if problem.errno else "is damaged"
            if not chunk:
                cut = self._frames is not None and not self._frames.whole and not self._wake.is_up
                return "is cut short" if cut else None
            if self._frames is not None:
                self._frames.feed(chunk)
            view = memoryview(chunk)
            while view:
                if not wait_for(self._write_end, self._wake.watched, select.POLLOUT):
                    return None
                try:
                    view = view[os.write(self._write_end, view) :]
                except BlockingIOError:
                    continue
                except OSError:
                    return None  # the reader left
