"""Traffic written packet by packet: TCP with its handshake and acknowledgements, and what is said over it.

A `Wire` collects packets with their times; nothing is sent. What is in them is right to the sequence number, so that
tshark dissects it as what it is, and the counts are known because they were made.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.traffic.capturefiles import write_pcap

MILLISECOND = 1_000_000
SECOND = 1_000_000_000
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
TCP, UDP = 6, 17


def ethernet(source: str, target: str, payload: bytes, protocol: int) -> bytes:
    """A frame with one IP packet; checksums are left to the interface, as those of a sender's own capture are."""
    one, other = _packed(source), _packed(target)
    macs = b"\x02\x00" + other[-4:] + b"\x02\x00" + one[-4:]
    if len(one) == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, 0)
        return macs + b"\x08\x00" + header + one + other + payload
    header = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64)
    return macs + b"\x86\xdd" + header + one + other + payload


@cache
def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def udp(source: tuple[str, int], target: tuple[str, int], payload: bytes) -> bytes:
    datagram = struct.pack("!HHHH", source[1], target[1], 8 + len(payload), 0) + payload
    return ethernet(source[0], target[0], datagram, UDP)


@dataclass
class Wire:
    """Packets and their times, in nanoseconds; `begin` is the time of 0 s."""

    begin: int = 1_700_000_000 * SECOND
    packets: list[tuple[int, bytes]] = field(default_factory=list)

    def put(self, at: float, frame: bytes) -> None:
        self.packets.append((self.begin + round(at * SECOND), frame))

    def save(self, path: Path) -> Path:
        write_pcap(path, sorted(self.packets, key=lambda packet: packet[0]))
        return path

    def between(self, begin: float, end: float) -> Wire:
        """The packets of a part of the time, so many seconds after the first."""
        first, last = (self.begin + round(at * SECOND) for at in (begin, end))
        return Wire(self.begin, [packet for packet in self.packets if first <= packet[0] < last])


@dataclass
class Connection:
    """A TCP connection from a client to a server, opened when it is made. `now` runs on with what is sent."""

    wire: Wire
    client: tuple[str, int]
    server: tuple[str, int]
    now: float
    segment: int = 1460
    round_trip: float = 0.01
    again: int = 0
    """Every so-many-th segment of data is sent twice."""
    sequence: dict[bool, int] = field(default_factory=lambda: {True: 1000, False: 5000})
    sent: int = 0

    def __post_init__(self) -> None:
        self.packet(True, SYN)
        self.packet(False, SYN | ACK)
        self.packet(True, ACK)

    def packet(self, from_client: bool, flags: int, payload: bytes = b"", wait: float | None = None) -> bytes:
        source, target = (self.client, self.server) if from_client else (self.server, self.client)
        acknowledged = self.sequence[not from_client] if flags & ACK else 0
        head = struct.pack(
            "!HHIIBBHHH", source[1], target[1], self.sequence[from_client], acknowledged, 0x50, flags, 64000, 0, 0
        )
        frame = ethernet(source[0], target[0], head + payload, TCP)
        self.now += self.round_trip / 4 if wait is None else wait
        self.wire.put(self.now, frame)
        self.sequence[from_client] += len(payload) + bool(flags & (SYN | FIN))
        return frame

    def say(self, from_client: bool, message: bytes) -> None:
        """Send a message in segments; every second one is acknowledged, and the last."""
        parts = [message[at : at + self.segment] for at in range(0, len(message), self.segment)]
        for number, part in enumerate(parts, 1):
            frame = self.packet(from_client, ACK | (PSH if number == len(parts) else 0), part)
            self.sent += 1
            if self.again and self.sent % self.again == 0:
                self.now += 0.25
                self.wire.put(self.now, frame)
            if number % 2 == 0 or number == len(parts):
                self.packet(not from_client, ACK)

    def ask(self, request: bytes, answer: bytes, thinking: float = 0.002) -> None:
        self.say(True, request)
        self.now += thinking
        self.say(False, answer)

    def close(self) -> None:
        self.packet(True, FIN | ACK)
        self.packet(False, FIN | ACK)
        self.packet(True, ACK)


# What is said ---------------------------------------------------------------------------------------------


def http_request(method: str, host: str, target: str, body: int = 0) -> bytes:
    length = f"Content-Length: {body}\r\n" if body else ""
    return f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{length}\r\n".encode() + b"x" * body


def http_answer(body: int, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {body}\r\n\r\n"
    return head.encode() + b"y" * body


def _record(kind: int, payload: bytes) -> bytes:
    return struct.pack("!BHH", kind, 0x0303, len(payload)) + payload


def _handshake(kind: int, payload: bytes) -> bytes:
    return _record(22, struct.pack("!B", kind) + len(payload).to_bytes(3, "big") + payload)


def client_hello(name: str) -> bytes:
    text = name.encode()
    entry = struct.pack("!HBH", len(text) + 3, 0, len(text)) + text
    extensions = struct.pack("!HH", 0, len(entry)) + entry
    extensions += struct.pack("!HHBH", 43, 3, 2, 0x0304)
    body = struct.pack("!H", 0x0303) + b"\x11" * 32 + b"\0" + struct.pack("!HH", 2, 0x1301) + b"\x01\0"
    return _handshake(1, body + struct.pack("!H", len(extensions)) + extensions)


def server_hello() -> bytes:
    extensions = struct.pack("!HHH", 43, 2, 0x0304)
    body = struct.pack("!H", 0x0303) + b"\x22" * 32 + b"\0" + struct.pack("!HB", 0x1301, 0)
    hello = _handshake(2, body + struct.pack("!H", len(extensions)) + extensions)
    return hello + _record(20, b"\x01") + _record(23, b"\x33" * 900)


def sealed(length: int) -> bytes:
    """Application data of TLS."""
    return b"".join(_record(23, b"\x44" * min(16000, length - at)) for at in range(0, length, 16000))


DNS_TYPES = {"A": 1, "AAAA": 28}


def _name(name: str) -> bytes:
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


def dns_query(number: int, name: str, kind: str = "A") -> bytes:
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + _name(name) + struct.pack("!HH", DNS_TYPES[kind], 1)


def dns_answer(number: int, name: str, address: str = "", kind: str = "A", code: int = 0) -> bytes:
    packed = ipaddress.ip_address(address).packed if address and not code else b""
    records = struct.pack("!HHHIH", 0xC00C, DNS_TYPES[kind], 1, 300, len(packed)) + packed if packed else b""
    head = struct.pack("!HHHHHH", number, 0x8180 | code, 1, bool(packed), 0, 0)
    return head + _name(name) + struct.pack("!HH", DNS_TYPES[kind], 1) + records


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack("!BBI", kind, flags, stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """A header of HPACK that is written out and not remembered."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def _headers(pairs: Sequence[tuple[str, str]]) -> bytes:
    return b"".join(_literal(name.encode(), value.encode()) for name, value in pairs)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b"")
SETTINGS = _frame(4, 0, 0, b"") + _frame(4, 1, 0, b"")


def grpc_request(stream: int, authority: str, method: str, size: int) -> bytes:
    pairs = [(":method", "POST"), (":scheme", "http"), (":path", method), (":authority", authority)]
    pairs += [("content-type", "application/grpc"), ("te", "trailers")]
    message = struct.pack("!BI", 0, size) + b"\x0a" * size
    return _frame(1, 4, stream, _headers(pairs)) + _frame(0, 1, stream, message)


def grpc_answer(stream: int, size: int, status: int = 0) -> bytes:
    """A message and how the call ended; a call that failed has no message."""
    if status:
        ended = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", str(status))]
        return _frame(1, 5, stream, _headers(ended))
    head = _headers([(":status", "200"), ("content-type", "application/grpc")])
    message = struct.pack("!BI", 0, size) + b"\x0a" * size
    data = b"".join(_frame(0, 0, stream, message[at : at + 16000]) for at in range(0, len(message), 16000))
    return _frame(1, 4, stream, head) + data + _frame(1, 5, stream, _headers([("grpc-status", "0")]))
