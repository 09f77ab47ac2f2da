"""Finds packets captured more than once: by a mirror port, on several interfaces, or on both sides of a router.

A copy has the same bytes after the link-layer header, except the TTL and the header checksum, and arrives within
milliseconds. A retransmission is not a copy: it has another IP identification or TCP timestamp. Some packets have
neither (a pure TCP ACK over IPv6, a UDP datagram without IP identification, ARP) and may really be sent twice. They
count as copies only if unmistakable copies show that the capture has packets twice.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from sharkstat.running.capturefile import NO_PACKET, CaptureReader

_MILLISECOND = 10**6
SURE, UNSURE = 10 * _MILLISECOND, _MILLISECOND  # the maximum delay of a copy
# Two generations of packets are remembered. Each is longer than a copy's maximum delay, since the interfaces of a live
# capture take turns in the file, not in time order.
_GENERATION, _REMEMBERED = 1000 * _MILLISECOND, 20_000
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_TAGS = (b"\x81\x00", b"\x88\xa8", b"\x91\x00")  # VLAN
_TCP = 6
_ENDS = 0x03  # SYN or FIN: unlike resets, not sent twice within milliseconds
_WORDS = 28  # bytes of an ARP packet; a shorter one was truncated
_FEW = 5  # copies
_ENOUGH = 140  # bytes that identify a packet with an IP identification or TCP sequence numbers
# Offsets of the network layer's type and header, by link type; without a type, the IP version field decides.
_TYPE_AT = {1: 12, 113: 14, 276: 0}
_HEADER_AT = {1: 14, 9: 4, 113: 16, 276: 20, 0: 4, 108: 4, 12: 0, 14: 0, 101: 0, 228: 0, 229: 0}


@dataclass
class _Counts:
    """Packets that were looked at, and how many of them are duplicates."""

    packets: int = 0
    copies: int = 0
    forwarded: int = 0
    doubled: int = 0  # packets that come at least twice

    @property
    def again(self) -> int:
        return self.copies + self.forwarded

    @property
    def all_twice(self) -> bool:
        """Whether nearly all packets come exactly twice, and are more than a few."""
        return (
            self.again >= _FEW
            and self.again * 20 >= self.packets * 9
            and (self.again - self.doubled) * 10 <= self.again
        )


class Duplicates:
    """Finds the copies among the packets of a capture, which arrives in pieces.

    `looked` is the number of packets examined, `copies` how many repeat an earlier packet exactly, `forwarded` how
    many differ from one only in TTL. At most `most` packets are examined.
    """

    def __init__(self, most: int | None = None) -> None:
        self.looked = 0
        self._left = sys.maxsize if most is None else most
        self._sure, self._unsure = _Counts(), _Counts()
        # Time, the second part of what copies share, TTL, and whether a copy came.
        self._young: dict[bytes, tuple[int, bytes, int, bool]] = {}
        self._old: dict[bytes, tuple[int, bytes, int, bool]] = {}
        self.of_tcp = False  # whether any of the copies is TCP
        self._from = self._to = 0

    def add(self, other: Duplicates) -> None:
        """Count what another found in other packets of the same capture, whose copies are all among them."""
        for mine, its in ((self._sure, other._sure), (self._unsure, other._unsure)):
            mine.packets += its.packets
            mine.copies += its.copies
            mine.forwarded += its.forwarded
            mine.doubled += its.doubled
        self.looked += other.looked
        self._left -= other.seen
        self.of_tcp = self.of_tcp or other.of_tcp

    def forget(self) -> None:
        """Keep the counts alone."""
        self._young, self._old = {}, {}

    @property
    def done(self) -> bool:
        """Whether the maximum number of packets has been examined."""
        return self._left <= 0

    @property
    def copies(self) -> int:
        return self._sure.copies + (self._unsure.copies if self._believed() else 0)

    @property
    def forwarded(self) -> int:
        return self._sure.forwarded + (self._unsure.forwarded if self._believed() else 0)

    @property
    def seen(self) -> int:
        """How many packets went by, of any kind, where their number is not limited."""
        return sys.maxsize - self._left

    @property
    def certain(self) -> bool:
        """Whether a packet that no host repeats came again: without one, all copies may have been sent twice."""
        return self._sure.again > 0

    def _believed(self) -> bool:
        """Whether doubtful packets count as copies."""
        sure, unsure = self._sure, self._unsure
        if sure.packets >= 20:
            return sure.again * 20 >= sure.packets
        if sure.packets:
            return sure.again > 0 and (sure.again + unsure.again) * 5 >= (sure.packets + unsure.packets) * 2
        return unsure.all_twice

    def find(self, reader: CaptureReader, data: bytes) -> tuple[int, list[tuple[int, int]]]:
        """Examine the complete records of the data. Returns where they end, and the ranges of copies, in order."""
        end = 0
        copies: list[tuple[int, int]] = []
        doubtful: list[tuple[int, int]] = []
        young, old = self._young, self._old
        for begin, end, at, stop, time, interface in reader.records(data):
            if interface == NO_PACKET or self._left <= 0:
                continue
            self._left -= 1
            link = reader.interfaces[interface].link
            header = _HEADER_AT.get(link)
            if header is None:
                continue
            if not self._from <= time <= self._to or len(young) > _REMEMBERED:
                young, old = {}, young
                self._young, self._old = young, old
                self._from, self._to = time - _GENERATION, time + _GENERATION
            found = _identity(data, at, stop, header, _TYPE_AT.get(link))
            if found is None:
                continue
            sure, tcp, key, head, hops = found
            self.looked += 1
            counts = self._sure if sure else self._unsure
            counts.packets += 1
            known = young.get(key) or old.get(key)
            if known is not None and known[1] == head and abs(time - known[0]) <= (SURE if sure else UNSURE):
                if hops == known[2]:
                    counts.copies += 1
                else:
                    counts.forwarded += 1
                self.of_tcp = self.of_tcp or tcp
                if not known[3]:
                    counts.doubled += 1
                    (young if key in young else old)[key] = (*known[:3], True)
                (copies if sure else doubtful).append((begin, end))
                continue
            young[key] = (time, head, hops, False)
        if doubtful and self._believed():
            copies = sorted(copies + doubtful)
        return end, copies


def _identity(
    data: bytes, at: int, stop: int, header: int, type_at: int | None
) -> tuple[bool, bool, bytes, bytes, int] | None:
    """Whether copies can be told from repeated packets, whether it is TCP, the two parts that copies share, the TTL."""
    ip = at + header
    if type_at is None:
        kind = _IPV4 if ip < stop and data[ip] >> 4 == 4 else _IPV6
    else:
        kind = data[at + type_at : at + type_at + 2]
        while kind in _TAGS:
            kind = data[ip + 2 : ip + 4]
            ip += 4
    if kind == _IPV4:
        if ip + 20 > stop:
            return None
        length = data[ip + 2] << 8 | data[ip + 3]
        whole = length and ip + length <= stop
        if whole:
            stop = ip + length  # without Ethernet's padding
        tcp = data[ip + 9] == _TCP
        sure = bool(data[ip + 4] or data[ip + 5])
        if sure or _tells_itself(data, ip + (data[ip] & 15) * 4, stop, data[ip + 9]):
            return True, tcp, data[ip + 12 : min(stop, ip + _ENOUGH)], data[ip + 2 : ip + 8], data[ip + 8]
        return (False, tcp, data[ip + 12 : stop], data[ip + 2 : ip + 8], data[ip + 8]) if whole else None
    if kind == _IPV6:
        if ip + 40 > stop:
            return None
        length = 40 + (data[ip + 4] << 8 | data[ip + 5])
        whole = length > 40 and ip + length <= stop
        if whole:
            stop = ip + length
        tcp = data[ip + 6] == _TCP
        if _tells_itself(data, ip + 40, stop, data[ip + 6]):
            return True, tcp, data[ip + 8 : min(stop, ip + _ENOUGH)], data[ip : ip + 7], data[ip + 7]
        return (False, tcp, data[ip + 8 : stop], data[ip : ip + 7], data[ip + 7]) if whole else None
    return (False, False, data[ip:stop], b"", 0) if stop - ip >= _WORDS else None


def _tells_itself(data: bytes, at: int, stop: int, protocol: int) -> bool:
    """Whether it is a TCP segment that no host repeats within milliseconds: data, SYN or FIN."""
    if protocol != _TCP or at + 20 > stop:
        return False
    return bool(data[at + 13] & _ENDS) or stop > at + (data[at + 12] >> 4) * 4
