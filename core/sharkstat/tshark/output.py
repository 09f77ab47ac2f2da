"""tshark's standard output, read while it runs: text, or packets as PDML with text between them."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from typing import IO

from sharkstat.tshark.printed import Printed

_MOST = 64  # packets that wait: one may be a megabyte, and tshark makes them faster than anybody reads


class Output:
    """What tshark prints. `text` is complete once `finish` was called."""

    def __init__(self) -> None:
        self.text = Printed()
        self._packets: deque[tuple[int, bytes]] = deque()
        self._wanted = 0  # packets before this one are of no use
        self._ended = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def read(self, stream: IO[bytes], packets: bool) -> None:
        """Read the stream to its end, in a thread; with `packets`, it is PDML."""
        self._thread = threading.Thread(target=self._read_packets if packets else self._read, args=(stream,))
        self._thread.daemon = True
        self._thread.start()

    def _read(self, stream: IO[bytes]) -> None:
        while chunk := stream.read(1 << 16):
            self.text.add(chunk)

    def _read_packets(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(ValueError, OSError):
            for number, packet in enumerate(self._parted(stream), 1):
                self._keep(number, packet)
        self._end()

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
                self.text.add(line)

    def _keep(self, number: int, packet: bytes) -> None:
        with self._changed:
            while len(self._packets) >= _MOST and number >= self._wanted and not self._ended:
                self._changed.wait()
            if number >= self._wanted and not self._ended:
                self._packets.append((number, packet))
                self._changed.notify_all()

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def pass_over(self, number: int) -> None:
        """Packets before that one will not be asked for."""
        with self._changed:
            self._wanted = max(self._wanted, number)
            while self._packets and self._packets[0][0] < self._wanted:
                self._packets.popleft()
            self._changed.notify_all()

    def packet(self, number: int) -> bytes | None:
        """The PDML of the packet of that number, as soon as it is there; None where there is none.

        Numbers must be asked for in order.
        """
        self.pass_over(number)
        with self._changed:
            while not self._packets and not self._ended:
                self._changed.wait()
            return self._packets[0][1] if self._packets and self._packets[0][0] == number else None

    def finish(self) -> None:
        """Wait until everything was read."""
        self._end()
        if self._thread is not None:
            self._thread.join()
