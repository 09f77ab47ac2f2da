"""Pairs of captures with known differences, in other surroundings than those of changes.py.

A campus: some over IPv4 and some over IPv6, many small services by TLS, downloads of very different sizes, an API with
many paths, a database without names, mail. What comes when, and how large it is, is drawn anew for each capture.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.traffic import wire
from tests.traffic.wire import Connection, Wire, udp

PEOPLE = [f"10.20.{net}.{host}" for net in range(4) for host in range(11, 16)]
PEOPLE_6 = [f"2001:db8:20::{host:x}" for host in range(0x11, 0x19)]
RESOLVER, RESOLVER_6 = "10.20.0.53", "2001:db8:20::53"
SHOP, SHOP_6, DATABASE, MAIL, MIRROR = "198.51.100.10", "2001:db8:99::10", "10.30.0.5", "10.30.0.25", "203.0.113.200"
PATHS = ["/api/users/{}", "/api/orders/{}/lines", "/api/search?q=x{}", "/api/stock/{}", "/api/login", "/health"]
TINY = [f"svc{number}.cloud.example" for number in range(40)]


@dataclass
class Campus:
    """A minute of a campus, and the knobs with which a pair turns one thing."""

    seed: int
    length: float = 60.0
    wire: Wire = field(default_factory=Wire)
    people: list[str] = field(default_factory=lambda: [*PEOPLE, *PEOPLE_6])
    shop: str = SHOP
    shop_6: str = SHOP_6
    shop_port: int = 80
    shop_tls: bool = False
    redirected: bool = False
    """Whether people still come to port 80 first, and are sent to 443."""
    answer_sizes: dict[str, int] = field(default_factory=dict)
    answer: int = 3000
    status: str = "200 OK"
    database: str = DATABASE
    database_port: int = 5432
    rows: int = 9000
    upload: int = 40_000
    segment: int = 1448
    again: int = 0
    one_connection_each: bool = False
    failing: str = ""
    tries: int = 1
    tiny: float = 1.0
    downloads: float = 3
    archive_at: float = 12.0
    archive_size: int = 250_000

    def __post_init__(self) -> None:
        self.random = random.Random(f"campus {self.seed}")
        self.port = 33000 + self.random.randrange(2000)

    def next_port(self) -> int:
        self.port += 1 + self.random.randrange(4)
        return self.port

    def times(self, a_minute: float, begin: float = 0.5, end: float = 0.0) -> Iterator[float]:
        at = begin
        while a_minute and (at := at + self.random.expovariate(a_minute / 60)) < (end or self.length) - 1.5:
            yield at

    def size(self, mean: float, spread: float = 0.6) -> int:
        """Sizes as they are found: most below the mean, some far above."""
        return max(1, round(mean * self.random.lognormvariate(-spread * spread / 2, spread)))

    def connect(self, at: float, client: str, server: str, port: int, **options: object) -> Connection:
        given = {"segment": self.segment, "round_trip": 0.02, **options}
        return Connection(self.wire, (client, self.next_port()), (server, port), at, **given)  # type: ignore[arg-type]

    def of(self, client: str, server: str, server_6: str) -> str:
        return server_6 if ":" in client else server

    # What there is every minute -----------------------------------------------------------------------

    def everything(self) -> Campus:
        for client in self.people:
            self.shopping(client)
            self.small_services(client)
        self.queries()
        self.post()
        self.fetch()
        self.archive()
        for number in range(round(self.length * 2)):
            self.wire.put(number / 2, arp("10.20.0.1", f"10.20.0.{number % 40 + 10}"))
        return self

    def lookup(self, at: float, client: str, name: str, address: str) -> None:
        resolver = (self.of(client, RESOLVER, RESOLVER_6), 53)
        kind = "AAAA" if ":" in address else "A"
        bad = 2 if self.failing and name.endswith(self.failing) else 0
        for attempt in range(self.tries if bad else 1):
            ends, number = (client, self.next_port()), self.random.randrange(65536)
            self.wire.put(at + attempt * 0.1, udp(ends, resolver, wire.dns_query(number, name, kind)))
            answer = wire.dns_answer(number, name, address, kind, bad)
            self.wire.put(at + attempt * 0.1 + 0.003, udp(resolver, ends, answer))

    def shopping(self, client: str, visits: float = 3) -> None:
        server = self.of(client, self.shop, self.shop_6)
        for at in self.times(visits):
            self.lookup(at - 0.2, client, "shop.example.org", server)
            if self.failing == "shop.example.org":
                continue
            if self.shop_tls:
                if self.redirected:
                    c = self.connect(at, client, server, 80)
                    c.ask(wire.http_request("GET", "shop.example.org", "/"), wire.http_answer(80, "301 Moved"))
                    c.close()
                c = self.connect(at + 0.3, client, server, 443)
                c.ask(wire.client_hello("shop.example.org"), wire.server_hello())
                for _ in range(4):
                    c.ask(wire.sealed(300), wire.sealed(self.size(self.answer)))
                c.close()
                continue
            kept: Connection | None = None
            for number in range(4):
                if kept is None or self.one_connection_each:
                    if kept is not None:
                        kept.close()
                    kept = self.connect(at + number * 0.4, client, server, self.shop_port, again=self.again)
                template = self.random.choice(PATHS)
                mean = self.answer_sizes.get(template, self.answer)
                request = wire.http_request("GET", "shop.example.org", template.format(self.random.randrange(1, 9999)))
                kept.ask(request, wire.http_answer(self.size(mean), self.status))
            if kept is not None:
                kept.close()

    def small_services(self, client: str, a_minute: float = 3) -> None:
        for at in self.times(a_minute * self.tiny):
            number = self.random.randrange(len(TINY))
            self.tls(at, client, f"203.0.113.{number + 20}", 443, TINY[number], self.size(1200))

    def tls(self, at: float, client: str, server: str, port: int, name: str, size: int) -> None:
        if ":" in client:
            server = f"2001:db8:113::{server.rpartition('.')[2]}"
        c = self.connect(at, client, server, port)
        c.ask(wire.client_hello(name), wire.server_hello())
        c.ask(wire.sealed(self.size(300)), wire.sealed(size))
        c.close()

    def queries(self) -> None:
        """A database that nobody resolves a name for, from two application servers."""
        for at in self.times(20):
            c = self.connect(at, self.random.choice(["10.30.0.1", "10.30.0.2"]), self.database, self.database_port)
            c.ask(b"\0\0\0\x08\x04\xd2\x16\x2f", b"N")
            c.ask(b"Q" + b"q" * 90, b"T" + b"d" * self.size(self.rows))
            c.close()

    def post(self) -> None:
        """Mail, sent: most bytes go to the server."""
        for at in self.times(8):
            c = self.connect(at, self.random.choice(PEOPLE[:6]), MAIL, 25, again=self.again and self.again + 1)
            c.say(False, b"220 mail.example.org ESMTP\r\n")
            c.ask(b"EHLO there\r\n", b"250 mail.example.org\r\n")
            c.ask(b"MAIL FROM:<a@example.org>\r\n", b"250 ok\r\n")
            c.ask(b"RCPT TO:<b@example.org>\r\n", b"250 ok\r\n")
            c.ask(b"DATA\r\n", b"354 go\r\n")
            c.ask(b"m" * self.size(self.upload) + b"\r\n.\r\n", b"250 ok\r\n")
            c.close()

    def fetch(self) -> None:
        """Downloads of very different sizes."""
        for at in self.times(self.downloads):
            c = self.connect(at, self.random.choice(PEOPLE), MIRROR, 80)
            size = self.size(90_000, 0.8)
            name = f"/pool/p{self.random.randrange(50)}.deb"
            c.ask(wire.http_request("GET", "mirror.example.net", name), wire.http_answer(size))
            c.close()

    def archive(self) -> None:
        """One large copy, at its time."""
        c = self.connect(self.archive_at, "10.30.0.9", "10.30.0.8", 22, round_trip=0.004)
        c.ask(b"SSH-2.0-a\r\n", b"SSH-2.0-b\r\n")
        c.say(True, b"\x55" * self.size(self.archive_size, 0.05))
        c.close()

    # What may come on top -----------------------------------------------------------------------------

    def bucket(self, pages: int, size: int, host: str = "objects.example.org") -> None:
        """A job that lists a bucket page by page, over IPv6, from two machines."""
        for run in range(6):
            client = PEOPLE_6[run % 2]
            c = self.connect(4 + 8 * run + self.random.random(), client, "2001:db8:99::50", 80)
            for page in range(pages):
                token = f"&marker=m{self.random.randrange(10**12):012}" if page else ""
                target = f"/photos?prefix=2024%2F&delimiter=%2F{token}"
                c.ask(wire.http_request("GET", host, target), wire.http_answer(self.size(size, 0.1)))
            c.close()

    def asked_at_random(self, client: str, count: int, zone: str) -> None:
        """Names that exist once each."""
        for number in range(count):
            name = f"{self.random.randrange(16**12):012x}.{zone}"
            ends, resolver = (client, self.next_port()), (self.of(client, RESOLVER, RESOLVER_6), 53)
            self.wire.put(3 + number * 50 / count, udp(ends, resolver, wire.dns_query(number, name)))
            answer = wire.dns_answer(number, name, code=3)
            self.wire.put(3 + number * 50 / count + 0.002, udp(resolver, ends, answer))

    def sweep(self, scanner: str, port: int, hosts: int) -> None:
        """One port on many hosts, of which nobody answers."""
        for number in range(hosts):
            syn = struct.pack("!HHIIBBHHH", self.next_port(), port, 1, 0, 0x50, wire.SYN, 1024, 0, 0)
            target = f"10.40.{number // 250}.{number % 250 + 1}"
            self.wire.put(2 + number * 0.02, wire.ethernet(scanner, target, syn, 6))

    def spoofed(self, target: str, port: int, packets: int) -> None:
        for number in range(packets):
            source = f"{self.random.randrange(11, 220)}.{self.random.randrange(256)}.{number // 250}.{number % 250 + 1}"
            ends = (source, self.random.randrange(1024, 65536)), (target, port)
            self.wire.put(20 + number * 0.003, udp(*ends, b"\xbb" * 500))

    def amplified(self, victim: str, packets: int) -> None:
        """Answers of a time server that are far larger than what was asked."""
        for number in range(packets):
            at = 10 + number * 0.02
            self.wire.put(at, udp((victim, 40123), ("203.0.113.123", 123), b"\x17\0\x03\x2a" + b"\0" * 4))
            for part in range(3):
                answer = b"\xd7\0\x03\x2a" + bytes(436)
                self.wire.put(at + 0.001 * (part + 1), udp(("203.0.113.123", 123), (victim, 40123), answer))

    def crawl(self, client: str, sites: int) -> None:
        """A client that visits many sites once each."""
        for number in range(sites):
            name = f"www{number}.site{number % 97}.example"
            self.tls(2 + number * 54 / sites, client, f"192.0.2.{number % 250 + 1}", 443, name, self.size(1500))

    def pings(self, client: str, target: str, count: int, size: int) -> None:
        for number in range(count):
            bare = struct.pack("!BBHHH", 8, 0, 0, 9, number % 65536) + bytes(size)
            self.wire.put(5 + number * 0.02, wire.ethernet(client, target, bare, 1))


def arp(sender: str, target: str) -> bytes:
    packed = [bytes(int(part) for part in address.split(".")) for address in (sender, target)]
    mac = b"\x02\0\0\0\0\x01"
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + packed[0] + bytes(6) + packed[1]
    return b"\xff" * 6 + mac + b"\x08\x06" + body


Change = Callable[[Campus], None]


def nothing(_: Campus) -> None:
    """The campus as it is."""


def campus(seed: int, turn: Change = nothing, more: Sequence[Change] | Change = (), **options: object) -> Campus:
    """A minute with its knobs turned before it is made, and more on top."""
    made = Campus(seed, **options)  # type: ignore[arg-type]
    turn(made)
    made.everything()
    for add in [more] if callable(more) else more:
        add(made)
    return made
