"""Between dumpcap and tshark: what tshark has not read yet waits in memory, then in a file, so dumpcap never waits."""

from __future__ import annotations

import contextlib
import os
import select
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from sharkstat.running.pipes import Wake, wait_for

MEMORY = 64 << 20
# On the disk of TMPDIR; no more than half of what is free there when the capture begins.
FILES = 4 << 30
_SEGMENT = 64 << 20
_CHUNK = 1 << 20
_AT_ONCE = 1 << 18  # what is passed on in one piece


def hurry(number: int) -> None:
    """Let a process, or a thread on Linux, run before others where that is allowed (root)."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, number, max(-20, os.getpriority(os.PRIO_PROCESS, number) - 10))


class _Segment:
    """A part of what waits, in a file without a name."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by whoever has read it
        self.size = 0
        self._read = 0

    @property
    def waiting(self) -> int:
        return self.size - self._read

    def write(self, chunk: bytes) -> None:
        """All or nothing; an OSError where the disk is full."""
        done = 0
        while done < len(chunk):
            done += os.pwrite(self._file.fileno(), chunk[done:], self.size + done)
        self.size += done

    def read(self) -> bytes:
        chunk = os.pread(self._file.fileno(), min(_CHUNK, self.waiting), self._read)
        self._read += len(chunk)
        return chunk

    def close(self) -> None:
        self._file.close()


class Spool:
    """Reads a pipe as fast as it can, in a thread, and gives the bytes on as they are asked for.

    Up to `memory` bytes wait in memory, up to `files` more in files without a name in `folder`. Only when they are
    full, too, does the writer of the pipe have to wait: dumpcap then drops packets, and says so. `keep` is called with
    all bytes as they come.
    """

    def __init__(
        self,
        source: int,
        folder: Path,
        keep: Callable[[bytes], None] | None = None,
        memory: int = MEMORY,
        files: int = FILES,
    ) -> None:
        """The descriptor becomes the spool's."""
        self.most = 0  # bytes that waited at one time
        self.full = False  # whether the writer had to wait
        self.left_out = 0  # bytes that were dropped at the end
        self.problem = ""  # why it ended before the writer did
        self._source = source
        self._folder = folder
        self._keep = keep
        self._memory, self._files = memory, files
        state = os.statvfs(folder)
        self._files = min(files, state.f_bavail * state.f_frsize // 2)
        self._parts: deque[bytes | _Segment] = deque()
        self._in_memory = self._in_files = 0
        self._ended = self._stopped = False
        self._changed = threading.Condition()
        self._wake = Wake()
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many bytes wait."""
        return self._in_memory + self._in_files

    # The writer's side -------------------------------------------------------------------------

    def _fill(self) -> None:
        hurry(threading.get_native_id())
        try:
            while wait_for(self._source, self._wake.watched, select.POLLIN):
                chunk = os.read(self._source, _CHUNK)
                if not chunk:
                    break
                if self._keep is not None:
                    self._keep(chunk)
                with self._changed:
                    self._put(chunk)
                    self.most = max(self.most, self.waiting)
                    self._changed.notify_all()
        except Exception as problem:  # nobody else sees what ends a thread
            self.problem = f"the capture cannot be read to its end ({problem})"
        finally:
            os.close(self._source)
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, chunk: bytes) -> None:
        while not self._ended:
            if self._in_memory + len(chunk) <= self._memory:
                self._parts.append(chunk)
                self._in_memory += len(chunk)
                return
            if self._in_files + len(chunk) <= self._files:
                try:
                    self._write(chunk)
                    return
                except OSError:  # the disk is full
                    self._files = self._in_files
            self.full = True
            self._changed.wait()

    def _write(self, chunk: bytes) -> None:
        last = self._parts[-1] if self._parts else None
        if not isinstance(last, _Segment) or last.size >= _SEGMENT:
            last = _Segment(self._folder)
            self._parts.append(last)
        last.write(chunk)
        self._in_files += len(chunk)

    # The reader's side -------------------------------------------------------------------------

    def chunks(self) -> Iterator[bytes]:
        """All that comes, in order, to its end."""
        while chunk := self._take():
            yield chunk

    def _take(self) -> bytes:
        with self._changed:
            while not self._parts and not self._ended:
                self._changed.wait()
            pieces: list[bytes] = []
            size = 0
            while self._parts and size < _AT_ONCE:
                part = self._parts[0]
                if isinstance(part, bytes):
                    piece = part
                    self._in_memory -= len(piece)
                    self._parts.popleft()
                else:
                    piece = part.read()
                    self._in_files -= len(piece)
                    if not part.waiting:
                        part.close()
                        self._parts.popleft()
                pieces.append(piece)
                size += len(piece)
            self._changed.notify_all()
        return b"".join(pieces)

    def cut(self) -> None:
        """Leave out what waits."""
        with self._changed:
            self.left_out += self.waiting
            for part in self._parts:
                if isinstance(part, _Segment):
                    part.close()
            self._parts.clear()
            self._in_memory = self._in_files = 0
            self._ended = True
            self._changed.notify_all()
        self._wake.up()

    def stop(self) -> None:
        """Nobody reads any more."""
        if not self._stopped:
            self._stopped = True
            self.cut()
            self._thread.join(5)
            self._wake.close()
