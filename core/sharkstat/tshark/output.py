"""tshark's standard output, read while it runs: text, or packets as PDML with text between them."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import IO


class Output:
    """What tshark prints. `text` is whole once `finish` was called."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._packets: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def read(self, stream: IO[bytes], packets: bool) -> None:
        """Read the stream to its end, in a thread; with `packets`, it is PDML."""
        self._thread = threading.Thread(target=self._read_packets if packets else self._read, args=(stream,))
        self._thread.daemon = True
        self._thread.start()

    def _read(self, stream: IO[bytes]) -> None:
        while chunk := stream.read(1 << 16):
            self._parts.append(chunk)

    def _read_packets(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(ValueError, OSError):
            for packet in self._parted(stream):
                self._packets.put(packet)
        self._packets.put(None)

    def _parted(self, stream: IO[bytes]) -> Iterator[bytes]:
        lines: list[bytes] = []
        for line in stream:
            if line.startswith(b"<packet>"):
                lines = [line]
            elif line.startswith(b"</packet>"):
                yield b"".join([*lines, line])
                lines = []
            elif lines:
                lines.append(line)
            else:
                self._parts.append(line)

    def packet(self) -> bytes | None:
        """The next packet's PDML, as soon as it is there; None after the last."""
        packet = self._packets.get()
        if packet is None:
            self._packets.put(None)  # for whoever asks next
        return packet

    def finish(self) -> None:
        """Wait until everything was read."""
        if self._thread is not None:
            self._thread.join()

    @property
    def text(self) -> bytes:
        return b"".join(self._parts)
