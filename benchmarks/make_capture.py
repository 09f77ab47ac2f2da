"""Write a large capture of made traffic for the benchmarks: the same bytes for the same arguments.

The mix is a busy server's: HTTP object listings and downloads, TLS sessions, DNS look-ups, a UDP
stream, a little IPv6 and ICMP. Every conversation has its own addresses, ports and sequence numbers,
so that tshark follows, reassembles and dissects it as it does real traffic (repeating one small
capture would not: tshark would take every copy for a retransmission and skip the work).

    python benchmarks/make_capture.py big.pcap --packets 500000
    python benchmarks/make_capture.py dns.pcap --kind dns        # nothing but DNS
"""

from __future__ import annotations

import argparse
import random
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

MAC_HOST = bytes.fromhex("020000000001")
MAC_GATE = bytes.fromhex("020000000002")
SYN, ACK, PSH, FIN = 0x02, 0x10, 0x08, 0x01
MSS = 1448


def ipv4(number: int) -> bytes:
    return struct.pack("!I", number)


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


class Wire:
    """Frames one datagram: Ethernet and IPv4 or IPv6 by the length of the addresses."""

    def __init__(self) -> None:
        self.ident = 0

    def frame(self, src: bytes, dst: bytes, protocol: int, payload: bytes, out: bool) -> bytes:
        macs = MAC_GATE + MAC_HOST if out else MAC_HOST + MAC_GATE
        if len(src) == 16:
            head = struct.pack("!IHBB", 0x60000000, len(payload), protocol, 64) + src + dst
            return macs + b"\x86\xdd" + head + payload
        self.ident = (self.ident + 1) & 0xFFFF
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), self.ident, 0x4000, 64, protocol, 0)
        head += src + dst
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        return macs + b"\x08\x00" + head + payload


class Tcp:
    """One TCP conversation, from its SYN to its FINs, as frames in order."""

    def __init__(self, wire: Wire, rng: random.Random, client: bytes, cport: int, server: bytes, sport: int) -> None:
        self.wire = wire
        self.ends = ((client, cport), (server, sport))
        self.seq = [rng.getrandbits(32), rng.getrandbits(32)]
        self.stamp = rng.getrandbits(30)

    def segment(self, side: int, flags: int, data: bytes = b"") -> bytes:
        (src, sport), (dst, dport) = self.ends[side], self.ends[1 - side]
        self.stamp += 1
        ack = self.seq[1 - side] if flags & ACK else 0
        options = struct.pack("!BBBBII", 1, 1, 8, 10, self.stamp & 0xFFFFFFFF, 0)
        head = struct.pack("!HHIIBBHHH", sport, dport, self.seq[side], ack, 0x80, flags, 65000, 0, 0)
        self.seq[side] = (self.seq[side] + len(data) + bool(flags & (SYN | FIN))) & 0xFFFFFFFF
        return self.wire.frame(src, dst, 6, head + options + data, out=side == 0)

    def send(self, side: int, data: bytes) -> Iterator[bytes]:
        for at in range(0, len(data), MSS):
            yield self.segment(side, ACK | PSH, data[at : at + MSS])
            if (at // MSS) % 2:
                yield self.segment(1 - side, ACK)

    def opened(self) -> Iterator[bytes]:
        yield self.segment(0, SYN)
        yield self.segment(1, SYN | ACK)
        yield self.segment(0, ACK)

    def closed(self) -> Iterator[bytes]:
        yield self.segment(0, FIN | ACK)
        yield self.segment(1, FIN | ACK)
        yield self.segment(0, ACK)


def listing(rng: random.Random, keys: int) -> bytes:
    items = b"".join(
        b"<Contents><Key>backup/%08d.tar</Key><Size>%d</Size></Contents>" % (i, rng.getrandbits(30))
        for i in range(keys)
    )
    return b'<?xml version="1.0"?><ListBucketResult><Name>backup</Name>' + items + b"</ListBucketResult>"


def http(tcp: Tcp, rng: random.Random) -> Iterator[bytes]:
    yield from tcp.opened()
    host = rng.choice((b"s3.example.net", b"bucket.example.net", b"cdn.example.org"))
    for _ in range(rng.randint(1, 6)):
        path = b"/backup?list-type=2&prefix=%d" % rng.randint(0, 400)
        yield from tcp.send(0, b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nAccept: */*\r\n\r\n")
        body = listing(rng, rng.randint(1, 400))
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n" % len(body)
        yield from tcp.send(1, head + body)
    yield from tcp.closed()


def tls(tcp: Tcp, rng: random.Random) -> Iterator[bytes]:
    def record(kind: int, data: bytes) -> bytes:
        return struct.pack("!BHH", kind, 0x0303, len(data)) + data

    yield from tcp.opened()
    name = rng.choice((b"api.example.net", b"www.example.org", b"mail.example.com"))
    sni = struct.pack("!HBH", len(name) + 3, 0, len(name)) + name
    extensions = struct.pack("!HH", 0, len(sni)) + sni + struct.pack("!HHBH", 43, 3, 2, 0x0304)
    hello = struct.pack("!H", 0x0303) + rng.randbytes(32) + b"\0" + b"\0\x04\x13\x01\x13\x02" + b"\1\0"
    hello += struct.pack("!H", len(extensions)) + extensions
    yield from tcp.send(0, record(22, b"\x01" + len(hello).to_bytes(3, "big") + hello))
    answer = struct.pack("!H", 0x0303) + rng.randbytes(32) + b"\0" + b"\x13\x01\0"
    answer += struct.pack("!HHHH", 6, 43, 2, 0x0304)
    yield from tcp.send(1, record(22, b"\x02" + len(answer).to_bytes(3, "big") + answer))
    for _ in range(rng.randint(2, 8)):
        yield from tcp.send(0, record(23, rng.randbytes(rng.randint(80, 900))))
        for _ in range(rng.randint(1, 4)):
            yield from tcp.send(1, record(23, rng.randbytes(rng.randint(200, 15000))))
    yield from tcp.closed()


def udp(wire: Wire, src: bytes, sport: int, dst: bytes, dport: int, data: bytes, out: bool) -> bytes:
    head = struct.pack("!HHHH", sport, dport, 8 + len(data), 0)
    return wire.frame(src, dst, 17, head + data, out)


def dns(wire: Wire, rng: random.Random, client: bytes, server: bytes) -> Iterator[bytes]:
    for _ in range(rng.randint(2, 12)):
        label = b"host%d" % rng.randint(0, 5000)
        question = bytes([len(label)]) + label + b"\x07example\x03net\0" + b"\0\1\0\1"
        ident, port = rng.getrandbits(16), rng.randint(32768, 60999)
        yield udp(wire, client, port, server, 53, struct.pack("!6H", ident, 0x100, 1, 0, 0, 0) + question, True)
        answer = b"\xc0\x0c\0\1\0\1" + struct.pack("!IH", 300, 4) + rng.randbytes(4)
        reply = struct.pack("!6H", ident, 0x8180, 1, 1, 0, 0) + question + answer
        yield udp(wire, server, 53, client, port, reply, False)


def stream(wire: Wire, rng: random.Random, client: bytes, server: bytes) -> Iterator[bytes]:
    port = rng.randint(32768, 60999)
    for _ in range(rng.randint(50, 400)):
        yield udp(wire, server, 9999, client, port, rng.randbytes(rng.randint(200, 1200)), False)


def ping(wire: Wire, rng: random.Random, client: bytes, server: bytes) -> Iterator[bytes]:
    ident = rng.getrandbits(16)
    for number in range(rng.randint(2, 10)):
        for kind in (8, 0):
            data = struct.pack("!BBHHH", kind, 0, 0, ident, number) + bytes(48)
            ends = (client, server) if kind == 8 else (server, client)
            yield wire.frame(*ends, 1, data, kind == 8)


def rtp(wire: Wire, rng: random.Random, client: bytes, server: bytes) -> Iterator[bytes]:
    """A voice, to a port that tshark takes for RTP with -d udp.port==5004,rtp."""
    sequence, stamp, ssrc = rng.getrandbits(16), rng.getrandbits(32), rng.getrandbits(32)
    port = rng.randint(32768, 60999)
    for number in range(rng.randint(200, 800)):
        head = struct.pack("!BBHII", 0x80, 0, (sequence + number) % 2**16, (stamp + 160 * number) % 2**32, ssrc)
        yield udp(wire, client, port, server, 5004, head + rng.randbytes(160), True)


# How often each kind of conversation comes; those with 0 only where they are asked for.
KINDS = {"http": 30, "tls": 30, "dns": 25, "stream": 2, "ping": 4, "http6": 4, "rtp": 0, "handshake": 0}


def conversation(wire: Wire, rng: random.Random, kinds: Mapping[str, int]) -> Iterator[bytes]:
    client, server = ipv4(0x0A000000 + rng.randint(1, 2000)), ipv4(0xC6336400 + rng.randint(1, 60))
    kind = rng.choices(list(kinds), list(kinds.values()))[0]
    if kind == "http6":
        prefix = bytes.fromhex("20010db8") + bytes(10)
        client, server = prefix + rng.randbytes(2), prefix + b"\0\x01"
    port = rng.randint(32768, 60999)
    if kind in ("http", "http6"):
        return http(Tcp(wire, rng, client, port, server, 80), rng)
    if kind == "handshake":
        return Tcp(wire, rng, client, port, server, 443).opened()
    if kind == "tls":
        return tls(Tcp(wire, rng, client, port, server, 443), rng)
    make = {"dns": dns, "stream": stream, "ping": ping, "rtp": rtp}[kind]
    return make(wire, rng, client, server)


def write(path: Path, packets: int, seed: int = 1, at_once: int = 200, kind: str | None = None) -> None:
    """Write `packets` frames, `at_once` conversations interleaved, 100 microseconds apart on average."""
    kinds = {kind: 1} if kind else KINDS
    rng = random.Random(seed)
    wire = Wire()
    active = [conversation(wire, rng, kinds) for _ in range(at_once)]
    now = 1_700_000_000_000_000_000
    with path.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
        written = 0
        while written < packets:
            slot = rng.randrange(at_once)
            frame = next(active[slot], None)
            if frame is None:
                active[slot] = conversation(wire, rng, kinds)
                continue
            now += rng.randint(1, 200_000)
            out.write(struct.pack("<IIII", now // 10**9, now % 10**9, len(frame), len(frame)) + frame)
            written += 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--packets", type=int, default=500_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=list(KINDS), help="nothing but these conversations")
    options = parser.parse_args()
    write(options.path, options.packets, options.seed, kind=options.kind)
