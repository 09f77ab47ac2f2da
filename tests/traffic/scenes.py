"""The scenes: each builds a small network, lets its hosts talk, captures it, and tells what was said."""

from __future__ import annotations

import base64
import errno
import hashlib
import socket
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from .forwarder import DOUBLE, DROP, GRE, IPIP, LATE, LossyBridge, TunnelEnd
from .lab import Host, Lab, LabError
from .services import (
    Answer,
    DnsServer,
    Facts,
    HttpClient,
    HttpCount,
    HttpServer,
    Request,
    Resolver,
    UdpEcho,
    certificate,
    converse,
    counted,
    dns_address,
    dns_facts,
    dns_name,
    echo,
    http_facts,
    incompressible,
    line_server,
    ping,
    tls_client,
    tls_server_context,
)
from .troubles import TROUBLES

CLIENT, SERVER = "192.0.2.10", "192.0.2.20"
CLIENT6, SERVER6 = "2001:db8::10", "2001:db8::20"
IP_RECVERR = 11


def pair(lab: Lab, link: bool = True) -> tuple[Host, Host]:
    """A client and a server, joined by a wire on which both speak IPv4 and IPv6."""
    client, server = lab.host("client"), lab.host("server")
    if link:
        lab.wire(client, server)
        client.address("eth0", f"{CLIENT}/24", f"{CLIENT6}/64")
        server.address("eth0", f"{SERVER}/24", f"{SERVER6}/64")
    return client, server


# The story


@dataclass
class Bucket:
    """An object store's bucket: keys by prefix, listed page by page."""

    keys: list[str]
    page: int = 20
    pages_listed: int = 0
    keys_listed: int = 0
    listed: Counter[str] = field(default_factory=Counter)

    def answer(self, request: Request) -> Answer:
        path, _, query = request.target.decode().partition("?")
        if query.startswith("list-type=2"):
            fields = dict(part.split("=", 1) for part in query.split("&"))
            return self.list(fields["prefix"], fields.get("continuation-token", ""))
        key = path.removeprefix("/backup/")
        if request.method == b"PUT":
            self.keys = sorted({*self.keys, key})
            return Answer(headers=[("ETag", f'"{self.tag(key)}"')])
        if key not in self.keys:
            body = f"<Error><Code>NoSuchKey</Code><Key>{escape(key)}</Key></Error>".encode()
            return Answer(404, "Not Found", [("Content-Type", "application/xml")], body)
        if request.headers.get(b"if-none-match") == f'"{self.tag(key)}"'.encode():
            return Answer(304, "Not Modified", [("ETag", f'"{self.tag(key)}"')])
        return Answer(headers=[("ETag", f'"{self.tag(key)}"')], body=incompressible(key, 700))

    def list(self, prefix: str, token: str) -> Answer:
        """One page. As in S3, the token says after which key to go on."""
        after = base64.urlsafe_b64decode(token).decode() if token else ""
        left = [key for key in self.keys if key.startswith(prefix) and key > after]
        here, more = left[: self.page], len(left) > self.page
        self.pages_listed += 1
        self.keys_listed += len(here)
        lines = [
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>backup</Name>'
            f"<Prefix>{prefix}</Prefix><KeyCount>{len(here)}</KeyCount><MaxKeys>{self.page}</MaxKeys>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        ]
        if more:
            following = base64.urlsafe_b64encode(here[-1].encode()).decode()
            lines.append(f"<NextContinuationToken>{following}</NextContinuationToken>")
        lines += [self.entry(key) for key in here]
        body = ("".join(lines) + "</ListBucketResult>").encode()
        self.listed[prefix] += len(body)
        return Answer(headers=[("Content-Type", "application/xml")], body=body)

    @staticmethod
    def tag(key: str) -> str:
        return hashlib.sha256(key.encode()).hexdigest()[:32]

    def entry(self, key: str) -> str:
        return (
            f"<Contents><Key>{escape(key)}</Key><LastModified>2024-01-17T02:00:13.000Z</LastModified>"
            f"<ETag>&quot;{self.tag(key)}&quot;</ETag><Size>{1000 + len(key) * 7919}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )


STORE, STORE_NAME = "198.51.100.80", "store.example.net"
STATUS, STATUS_NAME = "198.51.100.44", "status.example.net"
NAME_SERVER = "192.0.2.53"
PREFIXES = ("db/", "mail/", "www/")


def story(keys_per_prefix: int) -> Callable[[Lab, Path], Facts]:
    """A nightly backup: it lists a bucket, and puts into it what is new. Only the bucket's size differs."""

    def scene(lab: Lab, path: Path) -> Facts:
        app, world = lab.host("app"), lab.host("world")
        lab.wire(app, world)
        app.address("eth0", f"{CLIENT}/24")
        world.address("eth0", "192.0.2.1/24", f"{NAME_SERVER}/24")
        world.address("lo", f"{STORE}/32", f"{STATUS}/32")
        app.ip("route", "add", "default", "via", "192.0.2.1")
        keys = [
            f"{prefix}2023/{1 + n // 28:02}/{1 + n % 28:02}/{prefix[:-1]}-{n:05}.tar.zst"
            for prefix in PREFIXES
            for n in range(keys_per_prefix)
        ]
        bucket = Bucket(sorted([*keys, "manifest.json"]))
        store = HttpServer(lab, world, STORE, 80, bucket.answer)
        zone = {
            (STORE_NAME, "A"): [dns_address(STORE)],
            (STATUS_NAME, "A"): [dns_address(STATUS)],
            ("ntp.example.net", "A"): [dns_address("198.51.100.123")],
        }
        names = DnsServer(lab, world, NAME_SERVER, zone)
        resolver, count = Resolver(app), HttpCount()
        pings: list[Facts] = []
        with tempfile.TemporaryDirectory() as folder:
            chain, key = certificate(Path(folder), [STATUS_NAME])
            context = tls_server_context(chain, key)
            status = HttpServer(lab, world, STATUS, 443, lambda _: Answer(body=b"{}\n"), context)
            job = Job(app, bucket, count, resolver)
            with lab.capture(app, "eth0", path):
                began = time.monotonic()

                def at(seconds: float) -> None:
                    time.sleep(max(0.0, began + seconds - time.monotonic()))

                at(0.1)
                job.round("18", at, 0.1)
                pings.append(ping(app, STORE, 2))
                at(2.6)
                resolver.ask(NAME_SERVER, STATUS_NAME, "A")
                connection = tls_client(app.connect(STATUS, 443), STATUS_NAME, chain)
                with HttpClient(connection, inside := HttpCount()) as client:
                    client.ask("POST", "/v1/runs", STATUS_NAME, body=b'{"run": 17, "state": "half-way"}')
                resolver.ask(NAME_SERVER, "ntp.example.net", "A")
                resolver.ask(NAME_SERVER, "stoer.example.net", "A")
                at(3.2)
                job.round("19", at, 3.2)
                pings.append(ping(app, STORE, 2))
                at(5.9)
                resolver.ask(NAME_SERVER, STATUS_NAME, "A")
        http_facts([status], inside)
        return {
            "http": http_facts([store], count),
            "listing": {
                "keys_per_prefix_at_start": keys_per_prefix,
                "pages": bucket.pages_listed,
                "keys": bucket.keys_listed,
                "body_bytes": bucket.listed.total(),
                "body_bytes_by_prefix": dict(bucket.listed),
            },
            "tcp_connections": [store.tcp.facts(), status.tcp.facts()],
            "tls_sessions": [{"version": "TLSv1.3", "server_name": STATUS_NAME, "count": 1}],
            "dns": dns_facts([names], resolver),
            "ping": pings,
        }

    return scene


@dataclass
class Job:
    """The backup job on the server host."""

    app: Host
    bucket: Bucket
    count: HttpCount
    resolver: Resolver

    def headers(self, key: str) -> list[tuple[str, str]]:
        signature = hashlib.sha256(key.encode()).hexdigest()
        return [
            ("User-Agent", "nightly-backup/2.3"),
            ("Accept", "*/*"),
            ("X-Amz-Date", "20240118T020000Z"),
            (
                "Authorization",
                "AWS4-HMAC-SHA256 Credential=example/20240118/eu/s3/aws4_request, "
                f"SignedHeaders=host;x-amz-date, Signature={signature}",
            ),
        ]

    def round(self, day: str, at: Callable[[float], None], start: float) -> None:
        """One run: what is there under each prefix, what is newest, and one new object for each."""
        for kind in ("A", "AAAA"):
            self.resolver.ask(NAME_SERVER, STORE_NAME, kind)
        with HttpClient(self.app.connect(STORE, 80), self.count) as client:
            for number, prefix in enumerate(PREFIXES):
                at(start + 0.3 + 0.6 * number)
                self.list(client, prefix)
                newest = max(key for key in self.bucket.keys if key.startswith(prefix))
                client.ask("HEAD", f"/backup/{newest}", STORE_NAME, self.headers(newest))
                key = f"{prefix}2024/01/{day}/{prefix[:-1]}.tar.zst"
                body = incompressible(key, 1500)
                client.ask("PUT", f"/backup/{key}", STORE_NAME, self.headers(key), body)
            known = ("If-None-Match", f'"{self.bucket.tag("manifest.json")}"')
            client.ask("GET", "/backup/manifest.json", STORE_NAME, [*self.headers("m"), known])
            client.ask("GET", "/backup/lock", STORE_NAME, self.headers("lock"))

    def list(self, client: HttpClient, prefix: str) -> None:
        target = f"/backup?list-type=2&prefix={prefix}&max-keys={self.bucket.page}"
        token = ""
        # As many pages as there can be, and not one more.
        for _ in range(len(self.bucket.keys) // self.bucket.page + 1):
            going_on = f"&continuation-token={token}" if token else ""
            _, body = client.ask("GET", target + going_on, STORE_NAME, self.headers(prefix + token))
            _, found, rest = body.decode().partition("<NextContinuationToken>")
            if not found:
                return
            token = rest.partition("<")[0]
            time.sleep(0.03)
        raise LabError("the listing does not end")


# One protocol each


def dns(lab: Lab, path: Path) -> Facts:
    client, server = pair(lab)
    v4, v6 = dns_address("198.51.100.1"), dns_address("2001:db8:1::1")
    zone = {
        ("www.example.net", "A"): [v4, dns_address("198.51.100.2")],
        ("www.example.net", "AAAA"): [v6],
        ("mail.example.net", "A"): [v4],
        ("mail.example.net", "AAAA"): [v6],
        ("example.net", "MX"): [b"\0\x0a" + dns_name("mail.example.net")],
        ("example.net", "TXT"): [b"\x0bv=spf1 -all"],
        ("1.100.51.198.in-addr.arpa", "PTR"): [dns_name("www.example.net")],
        ("old.example.net", "A"): [v4],
    }
    silent, failing = ["lost.example.net"], ["broken.example.net"]
    servers = [DnsServer(lab, server, address, zone, silent, failing) for address in (SERVER, SERVER6)]
    resolver = Resolver(client)
    questions = [
        *[(SERVER, "www.example.net", kind) for kind in ("A", "AAAA") * 3],
        *[(SERVER6, "www.example.net", kind) for kind in ("A", "AAAA") * 2],
        *[(SERVER6, "mail.example.net", kind) for kind in ("A", "AAAA")],
        *[(SERVER, "example.net", kind) for kind in ("MX", "TXT")],
        (SERVER, "1.100.51.198.in-addr.arpa", "PTR"),
        # A name that is there, without a record of this type.
        (SERVER, "old.example.net", "AAAA"),
        *[(address, "nobody.example.net", kind) for address in (SERVER, SERVER6) for kind in ("A", "AAAA")],
        (SERVER, "WwW.Nowhere.example.net", "A"),
        (SERVER6, "broken.example.net", "A"),
        (SERVER, "lost.example.net", "A"),
        (SERVER6, "lost.example.net", "AAAA"),
    ]
    with lab.capture(client, "eth0", path):
        for question in questions:
            resolver.ask(*question)
            time.sleep(0.03)
    return {"dns": dns_facts(servers, resolver)}


def tls(lab: Lab, path: Path) -> Facts:
    client, server = pair(lab)
    names = ["shop.example.net", "api.example.net"]
    versions = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
    count = HttpCount()
    sessions: Counter[tuple[Any, ...]] = Counter()
    asked: Counter[tuple[Any, ...]] = Counter()
    key_log = path.with_name("tls.keys")
    # OpenSSL goes on at the end of a file that is there.
    key_log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        chain, key = certificate(Path(folder), names)
        context = tls_server_context(chain, key)

        def named(_: ssl.SSLObject | ssl.SSLSocket, name: str | None, __: ssl.SSLContext) -> None:
            asked[(name,)] += 1

        context.sni_callback = named
        bodies = {b"/": b"<h1>hidden</h1>\n" * 30, b"/v1/orders": b'{"orders": []}\n'}

        def answer(request: Request) -> Answer:
            if request.target not in bodies:
                return Answer(404, "Not Found", body=b"no\n")
            return Answer(body=bodies[request.target])

        web = HttpServer(lab, server, SERVER, 443, answer, context)
        with lab.capture(client, "eth0", path):
            for version in versions:
                for name in names:
                    connection = tls_client(client.connect(SERVER, 443), name, chain, version, key_log)
                    sessions[(connection.version(), name, (connection.cipher() or ("",))[0])] += 1
                    with HttpClient(connection, count) as inside:
                        inside.ask("GET", "/", name)
                        inside.ask("POST", "/v1/orders", name, body=b'{"item": "umbrella", "number": 2}')
                        inside.ask("GET", "/nothing", name)
                    time.sleep(0.1)
    if asked.total() != sessions.total():
        raise LabError(f"server names asked for: {asked}, sessions: {sessions}")
    return {
        "tls_sessions": counted(sessions, "version", "server_name", "cipher"),
        "http_inside": http_facts([web], count),
        "tcp_connections": [web.tcp.facts()],
    }


PAGES: dict[bytes, Answer] = {
    b"/": Answer(headers=[("Content-Type", "text/html")], body=b"<p>Hello</p>\n" * 20),
    b"/old": Answer(301, "Moved Permanently", [("Location", "/")], b"moved\n"),
    b"/items": Answer(201, "Created", [("Location", "/items/1")], b"made\n"),
    b"/items/1": Answer(204, "No Content"),
    b"/cached": Answer(304, "Not Modified", [("ETag", '"1"')]),
    b"/bad": Answer(400, "Bad Request", body=b"bad\n"),
    b"/missing": Answer(404, "Not Found", body=b"missing\n"),
    b"/broken": Answer(500, "Internal Server Error", body=b"broken\n"),
    b"/busy": Answer(503, "Service Unavailable", [("Retry-After", "5")], b"busy\n"),
    b"/odd": Answer(299, "Nobody Knows", body=b"odd\n"),
    b"/denied": Answer(999, "Request Denied", body=b"denied\n"),
    b"/chunked": Answer(headers=[("Content-Type", "text/plain")], body=b"in parts\n" * 100, chunked=True),
}
# What a browser would not send and a stranger's client may; the servers of this world log it all the same.
STRANGE_TARGETS = [
    b"/caf\xe9",
    b"/\xff\xfe\xfd?q=\x80",
    "/naïve/日本".encode(),
    b"/tab\there",
    b"/bell\x07escape\x1b[31mred\x1b[0m",
    b"/delete\x7fone\x01two\x02",
    b"/nul\x00byte",
    b"/pipe|quote\"single'back\\slash",
    b"/comma,semicolon;equals=plus+",
    b"/<script>alert(1)</script>&amp;{}[]",
    b"/percent%09%0a%00%ff",
    b"http://absolute.example.net:8080/form?a=1#part",
    b"*",
    b"/" + b"long/" * 200,
]
STRANGE_HOSTS: list[bytes] = [
    b"caf\xe9.example.net",
    b"\xff\xfe",
    "bücher.example.net".encode(),
    b"tab\there.example.net",
    b'pipe|quote"comma,.example.net',
    b"=1+1",
    b"[2001:db8::20]:80",
    b"WWW.Example.NET",
    b"",
]


def http(lab: Lab, path: Path) -> Facts:
    client, server = pair(lab)
    name = "www.example.net"

    def answer(request: Request) -> Answer:
        return PAGES.get(request.target.partition(b"?")[0], Answer(body=b"ok\n"))

    web = HttpServer(lab, server, SERVER, 80, answer)
    other = HttpServer(lab, server, SERVER, 8080, answer)
    web6 = HttpServer(lab, server, SERVER6, 80, answer)
    servers, count = [web, other, web6], HttpCount()

    def to(which: HttpServer) -> HttpClient:
        return HttpClient(client.connect(which.tcp.address, which.tcp.port), count)

    with lab.capture(client, "eth0", path):
        with to(web) as session:
            for known in PAGES:
                session.ask("GET", known, name, [("User-Agent", "example/1.0")])
            session.ask("GET", "/old", name)
            session.ask("GET", "/", name, [("Referer", f"http://{name}/old")])
            session.ask("GET", "/items?page=2", name, [("Referer", f"http://{name}/")])
        with to(web) as session:
            session.ask("HEAD", "/", name)
            session.ask("HEAD", "/missing", name)
            session.ask("POST", "/items", name, body=b"name=umbrella")
            session.ask("PUT", "/items/1", name, body=b"name=hat")
            session.ask("PATCH", "/items/1", name, body=b"n")
            session.ask("DELETE", "/items/1", name)
            session.ask("OPTIONS", "*", name)
            session.ask("PROPFIND", "/folder", name)
            parts = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
            session.ask("POST", "/upload", name, [("Transfer-Encoding", "chunked")], parts)
            session.ask("POST", "/upload", name, [("Expect", "100-continue")], b"may I? " * 300)
        # Several requests in one frame, and their answers in one.
        targets = ["/one", "/two", "/missing", "/cached", "/three"]
        with to(web) as session:
            session.pipeline([("GET", target, name, (), b"", "HTTP/1.1") for target in targets])
            session.pipeline([("GET", "/four", name, (), b"", "HTTP/1.1"), ("HEAD", "/", name, (), b"", "HTTP/1.1")])
        for page in ("/", "/missing", "/plain"):
            with to(web) as session:
                session.ask("GET", page, None, version="HTTP/1.0")
        with to(web) as session:
            for strange in STRANGE_TARGETS:
                session.ask("GET", strange, name)
        with to(web) as session:
            for host in STRANGE_HOSTS:
                session.ask("GET", "/strange-host", host)
        with to(other) as session:
            session.ask("GET", "/", f"{name}:8080")
            session.ask("GET", "/busy", "api.example.net:8080")
        with to(web6) as session:
            session.ask("GET", "/", name)
            session.ask("GET", "/six", "six.example.net")
    return {
        "http": http_facts(servers, count),
        "http_by_server": [
            {
                "server_address": one.tcp.address,
                "server_port": one.tcp.port,
                "requests_total": one.count.requests.total(),
                "responses_total": one.count.statuses.total(),
            }
            for one in servers
        ],
        "pipelined": {"requests_in_one_frame": [len(targets), 2]},
        "tcp_connections": [one.tcp.facts() for one in servers],
    }


def ipv6(lab: Lab, path: Path) -> Facts:
    client, server = pair(lab)
    lines = line_server(lab, server, SERVER6, 40001)
    web = HttpServer(lab, server, SERVER6, 80, lambda _: Answer(body=b"six\n"))
    datagrams = UdpEcho(lab, server, SERVER6, 40002)
    count, received = HttpCount(), 0
    with lab.capture(client, "eth0", path):
        pings = [ping(client, SERVER6, 4)]
        for _ in range(2):
            received += converse(client.connect(SERVER6, 40001), [(b"hello\n", 6), (b"give 4000\n", 4000)])
        with HttpClient(client.connect(SERVER6, 80), count) as session:
            session.ask("GET", "/", "[2001:db8::20]")
        echo(client, datagrams, [b"six" * n for n in (1, 10, 100)])
    return {
        "http": http_facts([web], count),
        "tcp_connections": [lines.facts(), web.tcp.facts()],
        "line_server_bytes_to_client": received,
        "udp": [datagrams.facts()],
        "ping": pings,
    }


def tunnel(lab: Lab, path: Path) -> Facts:
    """The same talk inside of three tunnels, captured outside: on the wire between the tunnel ends."""
    client, server = pair(lab)
    number = 0
    for number, host in enumerate((client, server), 1):
        near, far = (CLIENT, SERVER) if host is client else (SERVER, CLIENT)
        host.ip(
            *(
                "link",
                "add",
                "vxlan0",
                "address",
                f"02:00:00:00:02:{number:02x}",
                "type",
                "vxlan",
                "id",
                "42",
            ),
            *("local", near, "remote", far, "dstport", "4789", "dev", "eth0"),
        )
        host.up("vxlan0")
    ends = {
        name: [
            TunnelEnd(lab, client, protocol, name + "0", CLIENT, SERVER),
            TunnelEnd(lab, server, protocol, name + "0", SERVER, CLIENT),
        ]
        for name, protocol in (("ipip", IPIP), ("gre", GRE))
    }
    tunnels: list[Facts] = []
    talks = []
    for number, name in enumerate(("vxlan", "ipip", "gre"), 1):
        client.address(f"{name}0", f"198.51.100.{number * 16 + 1}/28")
        inner = f"198.51.100.{number * 16 + 2}"
        server.address(f"{name}0", f"{inner}/28")
        inner6 = ""
        if name != "ipip":
            client.address(f"{name}0", f"2001:db8:{number}::1/64")
            inner6 = f"2001:db8:{number}::2"
            server.address(f"{name}0", f"{inner6}/64")
        talks.append((name, inner, inner6, line_server(lab, server, inner, 40001), UdpEcho(lab, server, inner, 40002)))
    with lab.capture(client, "eth0", path):
        for name, inner, inner6, lines, datagrams in talks:
            pings = [ping(client, inner, 3)]
            if inner6:
                pings.append(ping(client, inner6, 2))
            converse(client.connect(inner, 40001), [(b"hello\n", 6), (b"give 3000\n", 3000)])
            echo(client, datagrams, [b"inside" * n for n in (1, 20)])
            tunnels.append(
                {
                    "tunnel": name,
                    "ping": pings,
                    "tcp_connections": [lines.facts()],
                    "udp": [datagrams.facts()],
                }
            )
    for facts in tunnels:
        if facts["tunnel"] in ends:
            near_end, far_end = ends[facts["tunnel"]]
            facts["packets_to_server"], facts["packets_to_client"] = near_end.sent, far_end.sent
            if (near_end.sent, far_end.sent) != (far_end.received, near_end.received):
                raise LabError(f"{facts['tunnel']} lost packets")
    return {"outer": [CLIENT, SERVER], "tunnels": tunnels}


def fragments(lab: Lab, path: Path) -> Facts:
    client, server = pair(lab)
    servers = [UdpEcho(lab, server, address, 40002) for address in (SERVER, SERVER6)]
    with lab.capture(client, "eth0", path):
        for one in servers:
            echo(client, one, [incompressible(f"{one.address} {n}", 8000) for n in range(2)])
            # One that needs no fragments, for comparison.
            echo(client, one, [b"whole" * 20])
    # Each fragment carries at most 1480 bytes over IPv4 and 1448 over IPv6; both make six of 8008.
    return {
        "udp": [one.facts() for one in servers],
        "fragments": {"per_large_datagram": 6, "large_datagrams": 8},
    }


def retransmissions(lab: Lab, path: Path) -> Facts:
    """Captured at the server: what the bridge loses on its way to the client is seen, and seen again."""
    client, server = pair(lab, link=False)
    plan: dict[tuple[int, str], list[tuple[str, str | int]]] = {
        (41001, "to_client"): [(DROP, 3), (DROP, 8)],
        (41002, "to_client"): [(DROP, "SYN")],
        (41003, "to_server"): [(DROP, 2), (DOUBLE, 3), (DOUBLE, 5)],
        # Nothing comes after the last segment that could tell of its loss: the sender's timer must.
        (41004, "to_client"): [(DROP, 7), (DOUBLE, 2)],
        (41005, "to_client"): [(LATE, 4)],
        (41006, "to_server"): [(DROP, "SYN"), (DOUBLE, 1), (DROP, "FIN")],
    }
    bridge = LossyBridge(lab, client, server, plan)
    client.address("tap0", f"{CLIENT}/24")
    server.address("tap0", f"{SERVER}/24")
    lines = line_server(lab, server, SERVER, 40001)
    talks: dict[int, list[tuple[bytes, int]]] = {
        41001: [(b"give 17000\n", 17000)],
        41002: [(b"hello\n", 6)],
        41003: [(b"%d" % n * 400 + b"\n", 401) for n in range(6)],
        41004: [(b"give 10000\n", 10000)],
        41005: [(b"give 12000\n", 12000)],
        41006: [(b"hello\n", 6)],
        41007: [(b"give 3000\n", 3000)],
    }
    received = 0
    with lab.capture(server, "tap0", path):
        for port, talk in talks.items():
            received += converse(client.connect(SERVER, 40001, source_port=port), talk)
        # The lost FIN is sent again after some time.
        time.sleep(1)
    return {
        "bridge": bridge.facts(),
        "tcp_connections": [lines.facts()],
        "client_ports": sorted(talks),
        "line_server_bytes_to_client": received,
    }


def reused_port(lab: Lab, path: Path) -> Facts:
    client, server = pair(lab)
    lines, same = line_server(lab, server, SERVER, 40001), line_server(lab, server, SERVER, 40777)
    datagrams = UdpEcho(lab, server, SERVER, 40123)
    with lab.capture(client, "eth0", path):
        for size in (100, 2000, 300):
            connection = client.connect(SERVER, 40001, source_port=42000)
            converse(connection, [(b"give %d\n" % size, size)])
            time.sleep(0.2)
        # Another source port between the same hosts, so that there is something to tell apart.
        converse(client.connect(SERVER, 40001, source_port=42001), [(b"hello\n", 6)])
        converse(client.connect(SERVER, 40777, source_port=40777), [(b"give 500\n", 500)])
        echo(client, datagrams, [b"from 40123 to 40123"] * 2, source_port=40123)
    return {
        "tcp_connections": [lines.facts(), same.facts()],
        "tcp_by_client_port": [
            {"client_port": 42000, "server_port": 40001, "opened": 3},
            {"client_port": 42001, "server_port": 40001, "opened": 1},
            {"client_port": 40777, "server_port": 40777, "opened": 1},
        ],
        "udp": [datagrams.facts() | {"client_port": 40123}],
    }


def icmp_errors(lab: Lab, path: Path) -> Facts:
    client, server = pair(lab)
    # The kernel sends only so many errors a second unless it is told otherwise.
    server.set("ipv4/icmp_ratelimit", "0")
    server.set("ipv6/icmp/ratelimit", "0")
    server.set("ipv4/ip_forward", "1")
    server.ip("route", "add", "203.0.113.0/24", "dev", "lo")
    client.ip("route", "add", "203.0.113.0/24", "via", SERVER)

    def refused(address: str, port: int, payload: bytes, expected: int, hops: int = 64) -> None:
        with client.new_socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as one:
            if ":" not in address:
                one.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
                one.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            one.connect((address, port))
            one.send(payload)
            try:
                one.recv(100)
            except OSError as error:
                if error.errno == expected:
                    return
                raise
            raise LabError("somebody answered")

    closed = [(SERVER, 40009, 3), (SERVER, 40010, 1), (SERVER6, 40009, 3), (SERVER6, 40010, 1)]
    resets = [(SERVER, 40011), (SERVER, 40011), (SERVER6, 40011)]
    with lab.capture(client, "eth0", path):
        for address, port, times in closed:
            for n in range(times):
                # The last one is longer than what an error quotes.
                refused(address, port, b"anyone? " * (1, 20, 150)[n], errno.ECONNREFUSED)
        for address, port in resets:
            try:
                client.connect(address, port).close()
            except ConnectionRefusedError:
                continue
            raise LabError("somebody listens")
        refused("203.0.113.9", 40012, b"too far", errno.EHOSTUNREACH, hops=1)
    return {
        "udp_to_closed_ports": [
            {"server_address": address, "server_port": port, "port_unreachable": times}
            for address, port, times in closed
        ],
        "tcp_to_closed_ports": counted(Counter(resets), "server_address", "server_port"),
        "icmp_time_exceeded": 1,
    }


SCENES: dict[str, Callable[[Lab, Path], Facts]] = {
    "story-before.pcapng": story(3),
    "story-after.pcapng": story(60),
    "dns.pcapng": dns,
    "tls.pcapng": tls,
    "http.pcapng": http,
    "ipv6.pcapng": ipv6,
    "tunnel.pcapng": tunnel,
    "fragments.pcapng": fragments,
    "retransmissions.pcapng": retransmissions,
    "reused-port.pcapng": reused_port,
    "icmp-errors.pcapng": icmp_errors,
    **TROUBLES,
}
