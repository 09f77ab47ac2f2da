"""Pairs of captures with one known difference, and other traffic around it that differs by chance alone.

Every capture has a minute of an office's traffic: people who read a web site, a backup job, a partner's API over TLS,
name resolution, time, pings. When requests come and how large their answers are is drawn anew for each capture.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.traffic import wire
from tests.traffic.capturefiles import ENHANCED_PACKET, blocks_of, checksum
from tests.traffic.wire import Connection, Wire, udp

DNS = ("192.0.2.53", 53)
WEB, STORE, API, FILES = "198.51.100.80", "198.51.100.81", "198.51.100.90", "192.0.2.20"
CLIENTS = [f"192.0.2.{number}" for number in range(10, 16)]
DATA = Path(__file__).resolve().parent.parent / "data"


@dataclass
class Office:
    """Traffic as it is every day, and the knobs with which a pair turns one thing."""

    seed: int
    length: float = 60.0
    wire: Wire = field(default_factory=Wire)
    clients: list[str] = field(default_factory=lambda: list(CLIENTS))
    segment: int = 1460
    web: str = WEB
    web_port: int = 80
    web_tls: bool = False
    web_name: str = "www.example.net"
    page: int = 4000
    listing: tuple[int, int] = (4, 2000)
    """How many listings each run of the backup asks for, and how large each is."""
    failing: bool = False
    again: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.port = 32768 + self.random.randrange(1000)

    def next_port(self) -> int:
        self.port += 1 + self.random.randrange(3)
        return self.port

    def times(self, a_minute: float, begin: float = 0.0, end: float = 0.0) -> Iterator[float]:
        """Moments that come by chance, so many a minute on average."""
        at = begin
        while (at := at + self.random.expovariate(a_minute / 60)) < (end or self.length) - 1:
            yield at

    def size(self, mean: int) -> int:
        return max(1, round(self.random.gauss(mean, mean / 5)))

    def connect(self, at: float, client: str, server: str, port: int, **options: object) -> Connection:
        given = {"segment": self.segment, **options}
        return Connection(self.wire, (client, self.next_port()), (server, port), at, **given)  # type: ignore[arg-type]

    # Each day's ----------------------------------------------------------------------------------------

    def everything(self) -> Office:
        for client in self.clients:
            self.browse(client)
            self.resolve(client)
        self.backup()
        self.partner()
        self.around()
        return self

    def browse(self, client: str, visits: float = 10) -> None:
        for at in self.times(visits):
            self.lookup(at - 0.05, client, self.web_name, self.web)
            if self.failing:
                continue
            if self.web_tls:
                self.secure(at, client, self.web, self.web_port, self.web_name, 3 * self.size(self.page))
                continue
            c = self.connect(at, client, self.web, self.web_port, again=self.again)
            for target in ("/", f"/news/{self.random.randrange(900) + 100}", "/static/app.js"):
                answer = wire.http_answer(self.size(self.page))
                c.ask(wire.http_request("GET", self.web_name, target), answer)
            c.close()

    def lookup(self, at: float, client: str, name: str, address: str, code: int = 0) -> None:
        ends = (client, self.next_port())
        number = self.random.randrange(65536)
        kind = "AAAA" if ":" in address else "A"
        failed = 2 if self.failing and name == self.web_name else code
        self.wire.put(at, udp(ends, DNS, wire.dns_query(number, name, kind)))
        answer = wire.dns_answer(number, name, address, kind, failed)
        self.wire.put(at + 0.004, udp(DNS, ends, answer))

    def resolve(self, client: str, a_minute: float = 12) -> None:
        for at in self.times(a_minute):
            number = self.random.randrange(6)
            self.lookup(at, client, f"host{number}.example.com", f"203.0.113.{number + 1}")

    def secure(self, at: float, client: str, server: str, port: int, name: str, size: int) -> None:
        c = self.connect(at, client, server, port)
        c.ask(wire.client_hello(name), wire.server_hello())
        c.ask(wire.sealed(self.size(400)), wire.sealed(size))
        c.close()

    def backup(self) -> None:
        """Four runs a minute: list, then write."""
        count, size = self.listing
        for run in range(round(self.length / 15)):
            at = 15 * run + 2 + self.random.random()
            c = self.connect(at, "192.0.2.30", STORE, 80)
            for page in range(count):
                token = f"&continuation-token=tok{self.random.randrange(10**9):09}" if page else ""
                target = f"/backup?list-type=2&prefix=db/&max-keys=100{token}"
                c.ask(wire.http_request("GET", "store.example.net", target), wire.http_answer(self.size(size)))
            body = self.size(9000)
            c.ask(wire.http_request("PUT", "store.example.net", f"/backup/db/{run}.zst", body), wire.http_answer(0))
            c.close()

    def partner(self) -> None:
        for at in self.times(12):
            self.secure(at, self.random.choice(CLIENTS), API, 443, "api.example.org", self.size(6000))

    def around(self) -> None:
        for at in self.times(6):
            ends = (self.random.choice(CLIENTS), 123), ("192.0.2.53", 123)
            self.wire.put(at, udp(*ends, b"\x23" + b"\0" * 47))
            self.wire.put(at + 0.01, udp(ends[1], ends[0], b"\x24" + b"\0" * 47))
        for number in range(round(self.length)):
            for kind, pair in ((8, (CLIENTS[0], WEB)), (0, (WEB, CLIENTS[0]))):
                bare = struct.pack("!BBHHH", kind, 0, 0, 7, number) + b"ping" * 8
                echo = bare[:2] + struct.pack("!H", checksum(bare)) + bare[4:]
                self.wire.put(number + 0.3 + 0.01 * (kind == 0), wire.ethernet(*pair, echo, 1))

    # What may come on top ------------------------------------------------------------------------------

    def web_requests(self, client: str, target: str, a_minute: float, size: int, begin: float = 0.0) -> None:
        for at in self.times(a_minute, begin):
            c = self.connect(at, client, self.web, self.web_port)
            c.ask(wire.http_request("GET", self.web_name, target), wire.http_answer(self.size(size)))
            c.close()

    def ramp(self, target: str, size: int) -> None:
        """A path that is asked for more and more often."""
        for step in range(6):
            for at in self.times(20 * (step + 1), 10 * step, 10 * step + 10):
                client = self.random.choice(CLIENTS)
                c = self.connect(at, client, self.web, self.web_port)
                c.ask(wire.http_request("GET", self.web_name, target), wire.http_answer(self.size(size)))
                c.close()

    def scan(self, scanner: str, target: str, ports: int) -> None:
        for number in range(ports):
            at, port = 5 + number * 0.01, self.next_port()
            syn = struct.pack("!HHIIBBHHH", port, number + 1, 1, 0, 0x50, wire.SYN, 1024, 0, 0)
            rst = struct.pack("!HHIIBBHHH", number + 1, port, 0, 2, 0x50, wire.RST | wire.ACK, 0, 0, 0)
            self.wire.put(at, wire.ethernet(scanner, target, syn, 6))
            self.wire.put(at + 0.001, wire.ethernet(target, scanner, rst, 6))

    def flood(self, source: str, target: str, port: int, packets: int) -> None:
        for number in range(packets):
            self.wire.put(10 + number * 0.004, udp((source, 40000), (target, port), b"\xaa" * 400))

    def copy(self, client: str, server: str, begin: float, size: int) -> None:
        """One large transfer, as of a backup over rsync."""
        c = self.connect(begin, client, server, 873, round_trip=0.004)
        c.ask(b"@RSYNCD: 31.0\n", b"@RSYNCD: 31.0\n")
        c.say(True, b"z" * size)
        c.close()

    def quic(self, times: int) -> None:
        """The conversation of tests/data/quic.pcapng, again and again from new ports."""
        captured = _datagrams(DATA / "quic.pcapng")
        first = captured[0][0]
        port = captured[0][1][0]
        for number in range(times):
            begin = 2 + number * 55 / times + self.random.random()
            new = self.next_port()
            for at, (source, target), payload in captured:
                ends = ("192.0.2.12", new), ("203.0.113.44", 443)
                if source == port:
                    self.wire.put(begin + at - first, udp(*ends, payload))
                elif target == port:
                    self.wire.put(begin + at - first, udp(ends[1], ends[0], payload))

    def from_many(self, network: str, name: str = "static.cdn.example") -> None:
        """A name with several addresses, each of which has a little of its traffic."""
        for number, at in enumerate(self.times(60)):
            self.secure(at, self.random.choice(CLIENTS), f"{network}.{number % 20 + 1}", 443, name, 9000)

    def ask_api(self, connections: int, requests: int) -> None:
        """So many connections, each with so many requests."""
        for number in range(connections):
            at = 1 + number * 55 / connections
            c = self.connect(at, self.random.choice(CLIENTS), WEB, 80)
            for _ in range(requests):
                target = f"/v1/item/{self.random.randrange(1000)}"
                c.ask(wire.http_request("GET", "api.example.net", target), wire.http_answer(self.size(900)))
            c.close()

    def grpc(self, calls: int, size: int, method: str = "/shop.Orders/List", status: int = 0) -> None:
        for number in range(4):
            c = self.connect(5 + 12 * number, CLIENTS[number], FILES, 8080)
            c.ask(wire.PREFACE, wire.SETTINGS)
            for call in range(calls // 4):
                stream = 2 * call + 1
                request = wire.grpc_request(stream, "orders.example.net", method, 60)
                c.ask(request, wire.grpc_answer(stream, size, status))
            c.close()


def _datagrams(path: Path) -> list[tuple[float, tuple[int, int], bytes]]:
    """The UDP datagrams of a capture of ours: when, from and to which port, and what."""
    found = []
    for block in blocks_of(path.read_bytes()):
        if block.kind != ENHANCED_PACKET:
            continue
        _, high, low, length = struct.unpack_from("<IIII", block.body)
        frame = block.body[20 : 20 + length]
        if frame[12:14] != b"\x08\x00" or frame[23] != wire.UDP:
            continue
        ports = struct.unpack_from("!HH", frame, 34)
        size = struct.unpack_from("!H", frame, 38)[0]
        if 443 in ports or 4433 in ports:
            found.append(((high << 32 | low) / 10**9, ports, frame[42 : 34 + size]))
    return found


Change = Callable[[Office], None]


def nothing(_: Office) -> None:
    """The day as it is."""


def office(seed: int, turn: Change = nothing, more: Change = nothing) -> Office:
    """A day's traffic with its knobs turned before it is made, and more on top."""
    day = Office(seed)
    turn(day)
    day.everything()
    more(day)
    return day
