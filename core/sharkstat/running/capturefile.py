"""Finds the packet records of a pcap or pcapng in its bytes, as they pass by.

tshark reads the captures. This module serves what must happen before: finding duplicate packets, dropping them, and
sorting packets. The formats are described in draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import contextlib
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

_MAGICS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
_SECTION = b"\x0a\x0d\x0d\x0a"
_BYTE_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_INTERFACE, _OBSOLETE, _SIMPLE, _ENHANCED, _SECRETS = 1, 2, 3, 6, 10
_RESOLUTION, _OFFSET = 9, 14
_SECOND = 10**9
# A record that claims to be longer is invalid: the file is damaged, and tshark reports it.
_LONGEST = 1 << 28
_USUAL = 1 << 18  # dumpcap's own limit

Unpack = Callable[[bytes, int], tuple[Any, ...]]
# start and end of the record, start and end of the packet's bytes, time (ns since 1970), interface number
Record = tuple[int, int, int, int, int, int]
# Records that are not packets have the interface NO_PACKET. A Simple Packet Block gets the time of the packet before.
NO_PACKET = -1
CHUNK = 1 << 20  # bytes of a file that are read at once
NO_CAPTURE = "needs a pcap or pcapng file: convert other formats with editcap"


def is_plain(head: bytes) -> bool:
    """Whether a file with this beginning is a pcap or pcapng that this module can read."""
    return head[:4] in _MAGICS or head[:4] == _SECTION


class Interface(NamedTuple):
    """An interface: its link type (LINKTYPE_...) and the unit of its timestamps."""

    link: int
    nanoseconds: int = 1000  # a unit is nanoseconds / units
    units: int = 1
    offset: int = 0

    def time(self, stamp: int) -> int:
        """Nanoseconds since 1970, rounded down as tshark does."""
        return stamp * self.nanoseconds // self.units + self.offset


class CaptureReader:
    """Finds the records in the bytes of one capture, which arrive in pieces.

    `known` becomes False when the bytes are damaged or of another format; the rest is then ignored.
    `interfaces` are those of the current section; `sections` counts the sections.
    """

    def __init__(self) -> None:
        self.known = True
        self.interfaces: list[Interface] = []
        self.sections = 0
        self.order = ""
        self._unit = 0  # of a pcap's time stamps
        self._last = 0

    def records(self, data: bytes) -> Iterator[Record]:
        """The complete records at the beginning of the data, in order."""
        at = 0
        if not self.order:
            if len(data) < 24:
                return
            if data[:4] in _MAGICS:
                self.order, self._unit = _MAGICS[data[:4]]
                self.sections = 1
                (link,) = struct.unpack_from(self.order + "I", data, 20)
                self.interfaces = [Interface(link & 0xFFFF, self._unit)]
                yield 0, 24, 24, 24, 0, NO_PACKET
                at = 24
            elif data[:4] != _SECTION:
                self.known = False
        if self.known:
            yield from self._packets(data, at) if self._unit else self._blocks(data, at)

    def resumed(self, data: bytes) -> bytes:
        """Data from the middle of a capture, starting at the first record in it; b"" if none is found."""
        if self._unit:
            unpack, most = struct.Struct(self.order + "IIII").unpack_from, _SECOND // self._unit

            def is_packet(at: int, following: int = 3) -> bool:
                if at + 16 > len(data):
                    return False
                _, fraction, kept, length = unpack(data, at)
                if fraction >= most or not 0 < kept <= length <= _USUAL:
                    return False
                return following == 0 or is_packet(at + 16 + kept, following - 1)

            return next((data[at:] for at in range(len(data)) if is_packet(at)), b"")
        kind, at = struct.pack(self.order + "I", _ENHANCED), 0
        while 0 <= (at := data.find(kind, at)) <= len(data) - 32:
            _, length, number = struct.unpack_from(self.order + "III", data, at)
            end = at + length
            if (
                32 <= length <= 2 * _USUAL
                and number < len(self.interfaces)
                and data[end - 4 : end] == data[at + 4 : at + 8]
            ):
                return data[at:]
            at += 1
        return b""

    def _packets(self, data: bytes, at: int) -> Iterator[Record]:
        unpack, unit, size = struct.Struct(self.order + "IIII").unpack_from, self._unit, len(data)
        while at + 16 <= size:
            seconds, fraction, kept, _ = unpack(data, at)
            end = at + 16 + kept
            if end > size:
                self.known = kept < _LONGEST
                return
            yield at, end, at + 16, end, seconds * _SECOND + fraction * unit, 0
            at = end

    def _blocks(self, data: bytes, at: int) -> Iterator[Record]:
        size = len(data)
        head, enhanced = self._structs()
        while at + 12 <= size:
            kind, length = head(data, at)
            if data[at : at + 4] == _SECTION:
                order = _BYTE_ORDERS.get(data[at + 8 : at + 12])
                if order is None:
                    self.known = False
                    return
                if order != self.order:
                    self.order = order
                    head, enhanced = self._structs()
                    kind, length = head(data, at)
            end = at + length
            if length < 12 or length % 4 or length > _LONGEST:
                self.known = False
                return
            if end > size:
                return
            if kind == _ENHANCED and length >= 32:
                number, high, low, kept, _ = enhanced(data, at + 8)
                if number >= len(self.interfaces):
                    self.known = False
                    return
                self._last = self.interfaces[number].time(high << 32 | low)
                yield at, end, at + 28, min(at + 28 + kept, end - 4), self._last, number
            else:
                other = self._other(data, at, end, kind)
                if not self.known:
                    return
                yield other
            at = end

    def _structs(self) -> tuple[Unpack, Unpack]:
        order = self.order or "<"
        return struct.Struct(order + "II").unpack_from, struct.Struct(order + "IIIII").unpack_from

    def _other(self, data: bytes, at: int, end: int, kind: int) -> Record:
        order, body = self.order, at + 8
        if kind == _OBSOLETE and end - at >= 32:
            number, _, high, low, kept = struct.unpack_from(order + "HHIII", data, body)
            if number < len(self.interfaces):
                self._last = self.interfaces[number].time(high << 32 | low)
                return at, end, at + 28, min(at + 28 + kept, end - 4), self._last, number
            self.known = False
        elif kind == _SIMPLE and self.interfaces and end - at >= 16:
            return at, end, at + 12, end - 4, self._last, 0
        elif kind in (_ENHANCED, _OBSOLETE, _SIMPLE):
            self.known = False  # it is too short, or of no interface
        elif kind == _INTERFACE and end - at >= 20:
            (link,) = struct.unpack_from(order + "H", data, body)
            self.interfaces.append(Interface(link, *_stamps(data[body + 8 : end - 4], order)))
        elif data[at : at + 4] == _SECTION:
            self.sections += 1
            self.interfaces = []
        return at, end, at, at, self._last, NO_PACKET


def has_secrets(path: Path) -> bool:
    """Whether a pcapng file has a Decryption Secrets Block near its beginning, where editcap puts it."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        data = file.read(_USUAL)
    if data[:2] == b"\x1f\x8b":
        with contextlib.suppress(zlib.error):
            data = zlib.decompressobj(31).decompress(data, _USUAL)
    if data[:4] != _SECTION:
        return False
    reader = CaptureReader()
    return any(
        number == NO_PACKET and struct.unpack_from(reader.order + "I", data, at)[0] == _SECRETS
        for at, _, _, _, _, number in reader.records(data)
    )


def _stamps(options: bytes, order: str) -> tuple[int, int, int]:
    """The timestamp resolution (nanoseconds and units, as a fraction) and offset in an interface's options."""
    nanoseconds, units, offset, at = 1000, 1, 0, 0
    while at + 4 <= len(options):
        code, length = struct.unpack_from(order + "HH", options, at)
        value = options[at + 4 : at + 4 + length]
        if code == 0:
            break
        if code == _RESOLUTION and length == 1:
            exponent = value[0] & 0x7F
            units = 2**exponent if value[0] & 0x80 else 10**exponent
            common = math.gcd(_SECOND, units)
            nanoseconds, units = _SECOND // common, units // common
        elif code == _OFFSET and length == 8:
            offset = struct.unpack(order + "q", value)[0] * _SECOND
        at += 4 + (length + 3) // 4 * 4
    return nanoseconds, units, offset
