"""Capture files as bytes: reading and cutting pcapng, writing pcap, and UDP packets made by hand."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SECTION_HEADER, INTERFACE, ENHANCED_PACKET = 0x0A0D0D0A, 0x00000001, 0x00000006
END_OF_OPTIONS = 0
# What names the machine that captured: hardware and operating system in the section header (codes 2 and 3),
# operating system and hardware in the interface description (codes 12 and 15).
MACHINE_OPTIONS = {SECTION_HEADER: (16, (2, 3)), INTERFACE: (8, (12, 15))}
TIMESTAMP_RESOLUTION = 9
SECOND = 1_000_000_000


@dataclass(frozen=True)
class Block:
    kind: int
    start: int
    """Where the block begins in the file."""
    body: bytes


@dataclass(frozen=True)
class Frames:
    """What a capture file holds, as read from its packet records alone."""

    frames: int
    bytes: int
    first_ns: int | None
    last_ns: int | None
    in_order: bool


def blocks_of(data: bytes) -> Iterator[Block]:
    """The blocks of a little-endian pcapng file."""
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        yield Block(kind, at, data[at + 8 : at + length - 4])
        at += length


def options_of(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + 4 <= len(body):
        code, length = struct.unpack_from("<HH", body, at)
        if code == END_OF_OPTIONS:
            return
        yield code, body[at + 4 : at + 4 + length]
        at += 4 + (length + 3) // 4 * 4


def without_machine(data: bytes) -> bytes:
    """The same pcapng file without the options that describe the machine it was made on."""
    out = bytearray()
    for block in blocks_of(data):
        body = block.body
        if block.kind in MACHINE_OPTIONS:
            fixed, unwanted = MACHINE_OPTIONS[block.kind]
            kept = bytearray(body[:fixed])
            for code, value in options_of(body, fixed):
                if code not in unwanted:
                    kept += struct.pack("<HH", code, len(value)) + value + b"\0" * (-len(value) % 4)
            body = bytes(kept) + struct.pack("<HH", END_OF_OPTIONS, 0)
        length = struct.pack("<I", len(body) + 12)
        out += struct.pack("<I", block.kind) + length + body + length
    return bytes(out)


def read_pcapng(data: bytes) -> Frames:
    units: list[int] = []
    times: list[int] = []
    total = 0
    for block in blocks_of(data):
        if block.kind == INTERFACE:
            chosen = dict(options_of(block.body, 8)).get(TIMESTAMP_RESOLUTION, b"\x06")[0]
            if chosen not in (6, 9):
                raise ValueError(f"time resolution {chosen} is not expected")
            units.append(SECOND // 10**chosen)
        elif block.kind == ENHANCED_PACKET:
            interface, high, low, _, length = struct.unpack_from("<IIIII", block.body)
            times.append((high << 32 | low) * units[interface])
            total += length
    return _frames(times, total)


def read_pcap(data: bytes) -> Frames:
    unit = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}[struct.unpack_from("<I", data)[0]]
    times: list[int] = []
    total = 0
    at = 24
    while at < len(data):
        seconds, fraction, kept, length = struct.unpack_from("<IIII", data, at)
        times.append(seconds * SECOND + fraction * unit)
        total += length
        at += 16 + kept
    return _frames(times, total)


def _frames(times: Sequence[int], total: int) -> Frames:
    # First and last as they stand in the file: in one that is out of order they are not the extremes.
    return Frames(
        frames=len(times),
        bytes=total,
        first_ns=times[0] if times else None,
        last_ns=times[-1] if times else None,
        in_order=list(times) == sorted(times),
    )


def cut_in_a_packet(data: bytes) -> tuple[bytes, int]:
    """The file up to the middle of a packet record halfway through it, and the whole packets before."""
    packets = [block for block in blocks_of(data) if block.kind == ENHANCED_PACKET]
    # A record of some size, so that the cut is inside of the packet and not of its header.
    middle = next(n for n, block in enumerate(packets) if n >= len(packets) // 2 and len(block.body) > 200)
    return data[: packets[middle].start + 8 + len(packets[middle].body) // 2], middle


def write_pcap(path: Path, packets: Sequence[tuple[int, bytes]]) -> None:
    """Writes (time in ns, frame) pairs, in the order given, as a pcap with microseconds."""
    out = bytearray(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
    for time_ns, frame in packets:
        seconds, nanoseconds = divmod(time_ns, SECOND)
        out += struct.pack("<IIII", seconds, nanoseconds // 1000, len(frame), len(frame)) + frame
    path.write_bytes(out)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp_frame(source: tuple[str, int], target: tuple[str, int], payload: bytes, identification: int = 1) -> bytes:
    """An Ethernet frame with one UDP datagram over IPv4, checksums and all."""
    addresses = ipaddress.IPv4Address(source[0]).packed + ipaddress.IPv4Address(target[0]).packed
    length = 8 + len(payload)
    pseudo = addresses + struct.pack("!BBH", 0, 17, length)
    bare = struct.pack("!HHHH", source[1], target[1], length, 0) + payload
    # A checksum of zero means "none", so zero is sent as its other form.
    udp = bare[:6] + struct.pack("!H", checksum(pseudo + bare) or 0xFFFF) + payload
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, identification, 0x4000, 64, 17, 0) + addresses
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    ethernet = bytes.fromhex("020000000102") + bytes.fromhex("020000000101") + b"\x08\x00"
    # The shortest frame on Ethernet is 60 bytes, without its check sequence.
    return (ethernet + header + udp).ljust(60, b"\0")


def tcp_frame(
    source: tuple[str, int], target: tuple[str, int], payload: bytes, sequence: int = 1, acknowledged: int = 1
) -> bytes:
    """An Ethernet frame with one TCP segment (PSH, ACK) over IPv4, checksums and all."""
    addresses = ipaddress.IPv4Address(source[0]).packed + ipaddress.IPv4Address(target[0]).packed
    length = 20 + len(payload)
    pseudo = addresses + struct.pack("!BBH", 0, 6, length)
    bare = struct.pack("!HHIIBBHHH", source[1], target[1], sequence, acknowledged, 0x50, 0x18, 65535, 0, 0) + payload
    tcp = bare[:16] + struct.pack("!H", checksum(pseudo + bare)) + bare[18:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 1, 0x4000, 64, 6, 0) + addresses
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return bytes.fromhex("020000000102020000000101") + b"\x08\x00" + header + tcp
