"""Where the packets of a pcap or pcapng are, a piece of the file at a time, as arrays.

Only what tshark surely reads in the same way is taken. All else is `Unsplittable`, and tshark reads it in one piece.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sharkstat.running.capturefile import CaptureReader, is_plain

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

LONGEST = 1 << 18  # dumpcap's own limit; what says that it is longer may not be what it seems
SECTION, _INTERFACE, _NAMES, _STATISTICS, _ENHANCED, _SECRETS = 0x0A0D0D0A, 1, 4, 5, 6, 10
_SECOND = 10**9


class Unsplittable(Exception):
    """Why a capture is read in one piece."""


@dataclass
class Packets:
    """The packets of a piece of a file: where each record, and the packet in it, begins; its lengths and time.

    `kept` bytes were captured of `lengths`; times are nanoseconds since 1970. `others` are the records that are no
    packets, `end` is that of the last whole record, `link` the packets' link type.
    """

    begins: Array
    ends: Array
    starts: Array
    kept: Array
    lengths: Array
    times: Array
    others: list[tuple[int, int]]
    end: int
    link: int

    def check(self) -> None:
        """Unsplittable where a packet's header is not as it should be."""
        if len(self.begins) and (bool((self.kept > self.lengths).any()) or int(self.lengths.max()) > LONGEST):
            raise Unsplittable("a packet's header is unusual")


class Walker:
    """Finds the packets in the bytes of one capture, which are given piece by piece."""

    def __init__(self) -> None:
        self._reader = CaptureReader()
        self.secrets = False  # keys were found, with which tshark decrypts

    @property
    def known(self) -> bool:
        return bool(self._reader.order)

    def walk(self, data: bytes) -> Packets:
        """The whole records that the data begins with."""
        reader, at = self._reader, 0
        if not reader.order:
            if is_plain(data) and data[:4] != SECTION.to_bytes(4, "big"):
                for _ in reader.records(data[:24]):
                    at = 24
                if not at:
                    raise Unsplittable("it is cut short")
                self._check_header(data)
            elif int.from_bytes(data[:4], "big") != SECTION:
                raise Unsplittable("it is no pcap or pcapng")
        others = [(0, at)] if at else []
        packets = self._records(data, at, others) if self._is_pcap else self._blocks(data)
        packets.check()
        return packets

    _is_pcap = False

    def _check_header(self, data: bytes) -> None:
        self._is_pcap = True
        version = struct.unpack_from(self._reader.order + "HH", data, 4)
        (link,) = struct.unpack_from(self._reader.order + "I", data, 20)
        if version != (2, 4) or link >> 16:
            raise Unsplittable("its header is not a pcap's of today")

    def _records(self, data: bytes, at: int, others: list[tuple[int, int]]) -> Packets:
        import numpy as np

        order = self._reader.order
        unpack, size = struct.Struct(order + "I").unpack_from, len(data)
        begins: list[int] = []
        note, last = begins.append, size - 16
        while at <= last:
            end = at + 16 + unpack(data, at + 8)[0]
            if end > size:
                break
            note(at)
            at = end
        if at <= last and unpack(data, at + 8)[0] > LONGEST:
            raise Unsplittable("a packet's header is unusual")
        found = np.array(begins, np.int64)
        heads = columns(np.frombuffer(data, np.uint8), found, 16).view(order + "u4").astype(np.int64)
        (interface,) = self._reader.interfaces
        if bool((heads[:, 1] >= _SECOND // interface.nanoseconds).any()):
            raise Unsplittable("a packet's header is unusual")
        times = heads[:, 0] * _SECOND + heads[:, 1] * interface.nanoseconds
        kept, lengths = heads[:, 2], heads[:, 3]
        return Packets(found, found + 16 + kept, found + 16, kept, lengths, times, others, at, interface.link)

    def _blocks(self, data: bytes) -> Packets:
        import numpy as np

        reader = self._reader
        size, at = len(data), 0
        begins: list[int] = []
        others: list[tuple[int, int]] = []
        order = reader.order or "<"
        head = struct.Struct(order + "II").unpack_from
        while at + 12 <= size:
            kind, length = head(data, at)
            if kind != _ENHANCED:
                if kind == SECTION:
                    if begins or others or reader.order:
                        raise Unsplittable("it has several sections")
                    order = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}.get(data[8:12], "")
                    if not order:
                        raise Unsplittable("it is no pcap or pcapng")
                    reader.order = order
                    head = struct.Struct(order + "II").unpack_from
                    kind, length = head(data, at)
                elif kind not in (_INTERFACE, _NAMES, _STATISTICS, _SECRETS):
                    raise Unsplittable("it has records of an unusual kind")
                if length < 12 or length % 4 or length > LONGEST << 4:
                    raise Unsplittable("it is damaged")
                if at + length > size:
                    break
                if kind == _INTERFACE:
                    list(reader.records(data[at : at + length]))
                self.secrets = self.secrets or kind == _SECRETS
                others.append((at, at + length))
            else:
                if length < 32 or length % 4 or length > LONGEST << 1:
                    raise Unsplittable("it is damaged")
                if at + length > size:
                    break
                begins.append(at)
            at += length
        found = np.array(begins, np.int64)
        heads = columns(np.frombuffer(data, np.uint8), found, 28).view(order + "u4").astype(np.int64)
        interfaces = reader.interfaces
        links = {interface.link for interface in interfaces}
        if len(links) > 1 or (len(found) and not links):
            raise Unsplittable("it has several link types")
        if len(found) and int(heads[:, 2].max()) >= len(interfaces):
            raise Unsplittable("it is damaged")
        if any(interface.units != 1 or interface.offset for interface in interfaces):
            raise Unsplittable("its times are of an unusual unit")
        if bool((heads[:, 5] > heads[:, 1] - 32).any()):
            raise Unsplittable("it is damaged")
        unit = np.array([interface.nanoseconds for interface in interfaces] or [1], np.int64)[heads[:, 2]]
        stamps = heads[:, 3] << 32 | heads[:, 4]
        if bool(((stamps < 0) | (stamps >= np.iinfo(np.int64).max // unit)).any()):
            raise Unsplittable("its times are unusual")
        times = stamps * unit
        link = next(iter(links), 0)
        return Packets(found, found + heads[:, 1], found + 28, heads[:, 5], heads[:, 6], times, others, at, link)


def columns(view: Array, starts: Array, width: int) -> Array:
    """So many bytes from each of the places on: a row each."""
    import numpy as np

    if len(view) < width:
        return np.zeros((0, width), np.uint8)
    found: Array = np.lib.stride_tricks.sliding_window_view(view, width)[starts]
    return found
