"""How a snapshot is asked of tshark: it is told how many packets come, and at the last of them waits for more words.

What the host in tshark does with these words is said in host.lua. Nothing is added to what tshark reads, so packets
have the numbers, times and streams that they have without.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading

_PCAP = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">", b"\x4d\x3c\xb2\xa1": "<", b"\xa1\xb2\x3c\x4d": ">"}
_SECTION = 0x0A0D0D0A
_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_PACKETS = frozenset((2, 3, 6))  # the obsolete, the simple and the enhanced packet block


class PacketCount:
    """How many whole packets are in the bytes of a pcap or pcapng, given piece by piece."""

    def __init__(self) -> None:
        self.packets = 0
        self.known = True  # False where they are of neither format, or damaged
        self._rest = b""
        self._order = ""
        self._pcap = False

    def add(self, piece: bytes) -> None:
        """Count on."""
        if self.known:
            self._rest += piece
            at = self._records(self._rest) if self._order or self._begin() else 0
            self._rest = self._rest[at:]

    def _begin(self) -> bool:
        data = self._rest
        if len(data) < 24:
            return False
        if data[:4] in _PCAP:
            self._order, self._pcap = _PCAP[data[:4]], True
            self._rest = data[24:]
        elif data[:4] == b"\x0a\x0d\x0d\x0a" and data[8:12] in _ORDERS:
            self._order = _ORDERS[data[8:12]]
        else:
            self.known, self._rest = False, b""
        return self.known

    def _records(self, data: bytes) -> int:
        """Where the last whole record ends."""
        at, size, found = 0, len(data), 0
        if self._pcap:
            kept = struct.Struct(self._order + "8xI").unpack_from
            while at + 16 <= size and (end := at + 16 + kept(data, at)[0]) <= size:
                at, found = end, found + 1
            self.packets += found
            return at
        head = struct.Struct(self._order + "II").unpack_from
        while at + 12 <= size:
            kind, length = head(data, at)
            if kind == _SECTION:
                order = _ORDERS.get(data[at + 8 : at + 12], self._order)
                if order != self._order:
                    self._order, head = order, struct.Struct(order + "II").unpack_from
                    kind, length = head(data, at)
            if length < 12:
                self.known = False
                break
            if at + length > size:
                break
            at += length
            found += kind in _PACKETS
        self.packets += found
        return at


class Pacing:
    """Says to tshark how far it may read, and where it is to give a snapshot."""

    def __init__(self, control: int) -> None:
        """The write end of the pipe that the host reads becomes ours."""
        self._control = control
        self._count = PacketCount()
        self._told = 0
        self._lock = threading.Lock()

    @property
    def packets(self) -> int:
        """How many packets have been passed on."""
        return self._told

    def passing(self, piece: bytes) -> None:
        """To be called before the piece is written for tshark."""
        self._count.add(piece)
        if not self._count.known:
            self.end()  # nobody knows where the packets end: no more snapshots
        elif self._count.packets > self._told:
            self._told = self._count.packets
            self._say(b"G %d\n" % self._told)

    def ask(self) -> None:
        """A snapshot is wanted, of all packets that were passed on."""
        self._say(b"S\n")

    def end(self) -> None:
        """No more will be asked: tshark may read to its end."""
        with self._lock:
            if self._control >= 0:
                os.close(self._control)
                self._control = -1

    def _say(self, words: bytes) -> None:
        with self._lock, contextlib.suppress(BrokenPipeError):
            if self._control >= 0:
                os.write(self._control, words)
