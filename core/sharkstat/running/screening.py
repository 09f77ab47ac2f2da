"""Processes a capture's bytes on their way to tshark: finds and drops duplicates, sorts packets."""

from __future__ import annotations

import os
import select
import stat
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from sharkstat.errors import SourceError
from sharkstat.running.capturefile import CHUNK, NO_CAPTURE, CaptureReader
from sharkstat.running.duplicates import Duplicates
from sharkstat.running.pacing import Pacing
from sharkstat.running.spool import Spool, hurry

# A larger file is sampled first, at almost no cost: if packets are captured twice, they are so throughout.
_WHOLE = 32 << 20
_PLACES, _PLACE = 64, 256 << 10
# In a live run that has so many bytes to count yet, nobody looks for copies.
_BEHIND = 8 << 20
_GZIP = b"\x1f\x8b"


class Screened(NamedTuple):
    """The result: of `looked` packets, `copies` are exact duplicates and `forwarded` differ only in TTL.

    Unless `certain`, all of them may have been sent twice. `of_tcp` says whether any is TCP. `seen` counts the
    packets of any kind, unless there was a limit.
    """

    looked: int
    copies: int
    forwarded: int
    certain: bool
    of_tcp: bool
    seen: int

    @classmethod
    def of(cls, found: Duplicates) -> Screened:
        """What these are."""
        return cls(found.looked, found.copies, found.forwarded, found.certain, found.of_tcp, found.seen)


class Screen:
    """Stands between a capture and tshark.

    Where nothing is to be changed and tshark reads a file, it reads the same file beside tshark. Otherwise bytes pass
    through. `dedup` leaves copies out, `reorder` puts packets in time order, exactly unless the capture is `live`.
    At most `most` packets are looked at for copies, and none where nothing is to be changed and it `looks` for none.
    With `pacing` tshark is told of packets before they come.
    """

    def __init__(
        self,
        *,
        dedup: bool,
        reorder: bool,
        live: bool,
        most: int | None,
        folder: Path,
        looks: bool = True,
        pacing: Pacing | None = None,
    ) -> None:
        self.dedup = dedup
        self.reorder = reorder
        self.live = live
        self._looks = looks
        self._folder = folder
        self._pacing = pacing
        self._spool: Spool | None = None
        # Without the duplicates, tshark's first packets reach further into the capture.
        self._most = None if dedup else most
        self._duplicates = Duplicates(self._most)
        self._exact = False
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._problem: Exception | None = None

    def attach(self, stdin: int, pipe: tuple[int, int]) -> int:
        """Take over `stdin` and return what tshark reads instead: `stdin` itself, or the read end of `pipe`."""
        read_end, write_end = pipe
        if stat.S_ISREG(os.fstat(stdin).st_mode) and not (self.dedup or self.reorder):
            os.close(read_end)
            os.close(write_end)
            self.look_at(os.dup(stdin))
            return stdin
        self._start(self._pass_on, stdin, write_end)
        return read_end

    def draw(self, spool: Spool, pipe: tuple[int, int]) -> int:
        """As `attach`, of what a spool gives."""
        read_end, write_end = pipe
        self._spool = spool
        self._start(self._pass_on, -1, write_end)
        return read_end

    def look_at(self, file: int) -> None:
        """Examine a file that tshark reads itself. Takes over the descriptor."""
        if not self._looks:
            os.close(file)
            return
        self._start(self._look_beside, file)

    def look_along(self) -> Callable[[bytes], None]:
        """Gives what examines the bytes that somebody else passes on, a piece at a time; b"" is their end."""
        reader, rest = CaptureReader(), b""

        def look(piece: bytes) -> None:
            nonlocal rest
            if not piece:
                self._exact = self._duplicates.looked > 0
            elif reader.known and not self._stopped:
                data = rest + piece
                end, _ = self._duplicates.find(reader, data)
                rest = data[end:]

        return look

    def write(self, stdin: int, target: Path) -> None:
        """Write the processed bytes into a file, at once."""
        self._pass_on(stdin, os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))

    def finish(self) -> Screened | None:
        """Wait for the end. Returns None if nothing was examined. Raises the error that stopped the bytes."""
        if self._thread is not None:
            self._thread.join()
        if self._problem is not None:
            raise self._problem
        return Screened.of(self._duplicates) if self._exact else None

    @property
    def duplicates(self) -> Duplicates | None:
        """What was found, if packets were examined."""
        return self._duplicates if self._exact else None

    def stop(self) -> None:
        """Stop: the run is over, the rest of the file does not matter."""
        self._stopped = True

    def _start(self, work: Callable[..., None], *arguments: int) -> None:
        self._thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._thread.start()

    # Passing on ----------------------------------------------------------------------------------------------

    def _pass_on(self, source: int, target: int) -> None:
        if self._spool is not None:  # whose thread waits for this one, where it holds the interpreter's lock
            hurry(threading.get_native_id())
        try:
            for piece in self._screened(self._ordered(source, target)):
                if self._stopped:
                    break
                if self._pacing is not None:
                    self._pacing.passing(piece)
                view = memoryview(piece)
                while view:
                    view = view[os.write(target, view) :]
        except BrokenPipeError:
            pass  # tshark needs no more
        except Exception as problem:  # nobody else sees what ends a thread
            self._problem = problem
        finally:
            os.close(target)
            if self._pacing is not None:
                self._pacing.end()
            if source >= 0:
                os.close(source)

    def _ordered(self, source: int, target: int) -> Iterator[bytes]:
        chunks = _chunks(source, target) if self._spool is None else self._spool.chunks()
        if not self.reorder:
            yield from chunks
            return
        from sharkstat.running.ordering import in_order, nearly_in_order

        if self.live:
            yield from nearly_in_order(chunks)
        elif stat.S_ISREG(os.fstat(source).st_mode):
            yield from in_order(source)
        else:
            with tempfile.TemporaryFile(dir=self._folder) as spool:
                for chunk in chunks:
                    spool.write(chunk)
                spool.flush()
                yield from in_order(spool.fileno())

    def _screened(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        reader, found, rest, behind = CaptureReader(), self._duplicates, b"", False
        for chunk in chunks:
            data = rest + chunk
            if not self.dedup:
                yield chunk
            if self._spool is not None and self._spool.waiting > _BEHIND and not self.dedup:
                behind = True  # to count comes first; copies of some packets alone would tell a wrong share
            looking = reader.known and not found.done and not behind
            end, copies = found.find(reader, data) if looking else (len(data), [])
            if self.dedup:
                at = 0
                for begin, stop in copies:
                    yield data[at:begin]
                    at = stop
                yield data[at:end]
            rest = data[end:]
            if not reader.known:  # damaged: the rest passes unchanged
                if self.dedup:
                    yield rest
                rest = b""
        if self.dedup:
            if not reader.order:
                raise SourceError(f"--dedup {NO_CAPTURE}")
            yield rest
        self._exact = found.looked > 0 and not behind

    # Examining in parallel ------------------------------------------------------------------------------------------

    def _look_beside(self, file: int) -> None:
        try:
            packed = os.pread(file, 2, 0) == _GZIP
            large = self._most is None and os.fstat(file).st_size > _WHOLE
            if large and not packed and not self._found_here_and_there(file):
                return
            reader, rest, seen = CaptureReader(), b"", 0
            for chunk in _unpacked(file):
                data = rest + chunk
                end, copies = self._duplicates.find(reader, data)
                rest, seen, large = data[end:], seen + len(chunk), large and not copies
                if self._stopped or not reader.known or self._duplicates.done:
                    break
                if packed and large and seen > 2 * _WHOLE:
                    return
            self._exact = self._duplicates.looked > 0 and not self._stopped
        except (OSError, zlib.error):
            return  # tshark reads it too, and reports what is wrong
        finally:
            os.close(file)

    def _found_here_and_there(self, file: int) -> bool:
        """Whether a sample of places in a large capture has duplicates."""
        reader, size = CaptureReader(), os.fstat(file).st_size
        for _ in reader.records(os.pread(file, CHUNK, 0)):
            pass
        if not reader.known or not reader.order:
            return False
        for place in range(0, size, size // _PLACES):
            found = Duplicates()
            found.find(reader, reader.resumed(os.pread(file, _PLACE, place)))
            reader.known = True
            if found.copies or found.forwarded or self._stopped:
                return True
        return False


def _chunks(source: int, target: int) -> Iterator[bytes]:
    """The bytes of the source, until nobody reads the target any more."""
    waiting = select.poll()
    waiting.register(source, select.POLLIN)
    waiting.register(target, 0)
    while not any(file == target for file, _ in waiting.poll()) and (chunk := os.read(source, CHUNK)):
        yield chunk


def _unpacked(file: int) -> Iterator[bytes]:
    """The file's contents from its beginning, decompressed, whatever the position shared with tshark."""
    at, unpack = 0, None
    while chunk := os.pread(file, CHUNK, at):
        if at == 0 and chunk[:2] == _GZIP:
            unpack = zlib.decompressobj(31)
        at += len(chunk)
        while unpack is not None and chunk:
            yield unpack.decompress(chunk)
            chunk = unpack.unused_data if unpack.eof else b""
            unpack = zlib.decompressobj(31) if unpack.eof else unpack
        if chunk:
            yield chunk
