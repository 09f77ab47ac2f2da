"""Servers and clients that count what they do: HTTP (plain and over TLS), DNS, UDP echo, ping."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .capturefiles import checksum
from .lab import TIMEOUT, Host, Lab, LabError, family_of, run

Facts = dict[str, Any]
Headers = Sequence[tuple[str, str]]


def text(raw: bytes) -> str:
    """Bytes as readable text; those that are not UTF-8 are written as \\xff."""
    return raw.decode("utf-8", "backslashreplace")


def counted(counter: Mapping[tuple[Any, ...], int], *names: str) -> list[Facts]:
    """A counter with tuples as keys, as a sorted list of records."""
    return [
        dict(zip(names, key, strict=True)) | {"count": count}
        for key, count in sorted(counter.items(), key=lambda item: [str(part) for part in item[0]])
    ]


class TcpServer:
    """Accepts connections one after another and lets `talk` have each of them in a thread of its own."""

    def __init__(self, lab: Lab, host: Host, address: str, port: int, talk: Callable[[socket.socket], None]) -> None:
        self.address, self.port, self.accepted = address, port, 0
        self._lab, self._talk = lab, talk
        self._listener = host.listen(address, port)
        self._listener.settimeout(0.1)
        lab.start(self._serve)

    def _serve(self) -> None:
        with self._listener:
            while not self._lab.stop.is_set():
                try:
                    connection, _ = self._listener.accept()
                except TimeoutError:
                    continue
                self.accepted += 1
                connection.settimeout(TIMEOUT * 2)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._lab.start(lambda connection=connection: self._one(connection))  # type: ignore[misc]

    def _one(self, connection: socket.socket) -> None:
        with connection:
            self._talk(connection)

    def facts(self) -> Facts:
        return {"server_address": self.address, "server_port": self.port, "opened": self.accepted}


def line_server(lab: Lab, host: Host, address: str, port: int) -> TcpServer:
    """Answers "give N" with N bytes and any other line with itself; closes first when it is told "bye"."""

    def talk(connection: socket.socket) -> None:
        with connection.makefile("rwb") as lines:
            for line in lines:
                words = line.split()
                if words[0] == b"bye":
                    return
                give = int(words[1]) if words[0] == b"give" else 0
                lines.write(b"." * give or line)
                lines.flush()

    return TcpServer(lab, host, address, port, talk)


def converse(connection: socket.socket, lines: Sequence[tuple[bytes, int]]) -> int:
    """Sends lines, waits for the bytes of each answer, and lets the server close first."""
    received = 0
    with connection:
        for line, expected in lines:
            connection.sendall(line)
            left = expected
            while left:
                got = len(connection.recv(min(left, 65536)))
                if not got:
                    raise LabError("the server closed too early")
                left -= got
            received += expected
        connection.sendall(b"bye\n")
        if connection.recv(1):
            raise LabError("more came than was asked for")
    return received


# HTTP


@dataclass
class Request:
    method: bytes
    target: bytes
    version: bytes
    headers: dict[bytes, bytes]
    body: bytes = b""

    @property
    def host(self) -> bytes | None:
        return self.headers.get(b"host")


@dataclass
class Answer:
    status: int = 200
    reason: str = "OK"
    headers: Headers = ()
    body: bytes = b""
    chunked: bool = False


@dataclass
class HttpCount:
    """What one side of HTTP has seen."""

    requests: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    statuses: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    body_bytes: Counter[str] = field(default_factory=Counter)

    def request(self, request: Request) -> None:
        host = None if request.host is None else text(request.host)
        target, version = request.target, request.version
        self.requests[(text(request.method), host, text(target), text(version), target.hex())] += 1

    def response(self, status: int, path: str = "", size: int = 0) -> None:
        self.statuses[(status,)] += 1
        if size:
            self.body_bytes[path] += size

    def facts(self) -> Facts:
        requests = counted(self.requests, "method", "host", "target", "version", "target_hex")
        for request in requests:
            # The text is as good as the bytes where every character is a plain one.
            if bytes.fromhex(request["target_hex"]) == request["target"].encode("ascii", "replace"):
                del request["target_hex"]
        methods: Counter[str] = Counter()
        hosts: Counter[str] = Counter()
        for (method, host, *_), count in self.requests.items():
            methods[method] += count
            if host is not None:
                hosts[host] += count
        return {
            "requests": requests,
            "requests_by_method": dict(sorted(methods.items())),
            "requests_by_host": dict(sorted(hosts.items())),
            "requests_without_host": self.requests.total() - hosts.total(),
            "requests_total": self.requests.total(),
            "responses_by_status": {str(status): count for (status,), count in sorted(self.statuses.items())},
            "responses_total": self.statuses.total(),
            "response_body_bytes_by_path": dict(sorted(self.body_bytes.items())),
        }


class HttpServer:
    """HTTP/1.x as a server speaks it, and nothing in it that would straighten out what a client sends.

    Requests that came together are answered together, so pipelined requests give pipelined responses.
    """

    def __init__(
        self,
        lab: Lab,
        host: Host,
        address: str,
        port: int,
        answer: Callable[[Request], Answer],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.count = HttpCount()
        self._answer, self._tls = answer, tls
        self.tcp = TcpServer(lab, host, address, port, self._talk)

    def _talk(self, connection: socket.socket) -> None:
        if self._tls is None:
            self._requests(connection)
            return
        with self._tls.wrap_socket(connection, server_side=True) as protected:
            self._requests(protected)
            # The client may be gone before our part of the goodbye reaches it.
            with contextlib.suppress(OSError):
                protected.unwrap()

    def _requests(self, connection: socket.socket) -> None:
        buffer = b""
        while True:
            out = b""
            while b"\r\n\r\n" in buffer:
                request, buffer = self._request(connection, buffer)
                self.count.request(request)
                answer = self._answer(request)
                path = text(request.target.partition(b"?")[0])
                out += self._written(request, answer, path)
                if request.version == b"HTTP/1.0":
                    connection.sendall(out)
                    return
            if out:
                connection.sendall(out)
            more = connection.recv(65536)
            if not more:
                return
            buffer += more

    def _request(self, connection: socket.socket, buffer: bytes) -> tuple[Request, bytes]:
        head, _, buffer = buffer.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        method, _, rest = first.partition(b" ")
        target, _, version = rest.rpartition(b" ")
        fields = (line.partition(b":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        if headers.get(b"expect") == b"100-continue":
            self.count.response(100)
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        size = int(headers.get(b"content-length", b"0"))
        chunked = headers.get(b"transfer-encoding") == b"chunked"
        while len(buffer) < size or (chunked and b"0\r\n\r\n" not in buffer):
            more = connection.recv(65536)
            if not more:
                raise LabError("a request without its end")
            buffer += more
        if chunked:
            size = buffer.index(b"0\r\n\r\n") + 5
        return Request(method, target, version, headers, buffer[:size]), buffer[size:]

    def _written(self, request: Request, answer: Answer, path: str) -> bytes:
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}", "Server: example"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        bodiless = answer.status in (204, 304)
        if answer.chunked:
            lines.append("Transfer-Encoding: chunked")
        elif not bodiless:
            lines.append(f"Content-Length: {len(answer.body)}")
        if request.version == b"HTTP/1.0":
            lines.append("Connection: close")
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        if bodiless or request.method == b"HEAD":
            self.count.response(answer.status)
            return head
        self.count.response(answer.status, path, len(answer.body))
        if not answer.chunked:
            return head + answer.body
        step = 300
        parts = [answer.body[at : at + step] for at in range(0, len(answer.body), step)]
        return head + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])


class HttpClient:
    """One connection to an HTTP server; counts what it sends and what comes back."""

    def __init__(self, connection: socket.socket, count: HttpCount) -> None:
        self.connection = connection
        self._file = connection.makefile("rb")
        self._count = count

    def __enter__(self) -> HttpClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if isinstance(self.connection, ssl.SSLSocket):
            with contextlib.suppress(OSError):
                self.connection.unwrap()
        self.connection.close()

    def ask(
        self,
        method: str,
        target: str | bytes,
        host: str | bytes | None,
        headers: Headers = (),
        body: bytes = b"",
        version: str = "HTTP/1.1",
    ) -> tuple[int, bytes]:
        """One request, and its answer: status and body."""
        return self.pipeline([(method, target, host, headers, body, version)])[0]

    def pipeline(
        self, requests: Sequence[tuple[str, str | bytes, str | bytes | None, Headers, bytes, str]]
    ) -> list[tuple[int, bytes]]:
        """Sends all the requests at once, then reads all the answers."""
        out = b""
        for method, target, host, headers, body, version in requests:
            raw_target = target.encode() if isinstance(target, str) else target
            raw_host = host.encode() if isinstance(host, str) else host
            known = {} if raw_host is None else {b"host": raw_host}
            self._count.request(Request(method.encode(), raw_target, version.encode(), known))
            out += method.encode() + b" " + raw_target + b" " + version.encode() + b"\r\n"
            if raw_host is not None:
                out += b"Host: " + raw_host + b"\r\n"
            out += b"".join(f"{name}: {value}\r\n".encode() for name, value in headers)
            if body and not any(name == "Transfer-Encoding" for name, _ in headers):
                out += b"Content-Length: %d\r\n" % len(body)
            out += b"\r\n"
            if ("Expect", "100-continue") in headers:
                self.connection.sendall(out)
                out = b""
                self._response("")
            out += body
        self.connection.sendall(out)
        return [self._response(request[0], request[1]) for request in requests]

    def _response(self, method: str, target: str | bytes = b"") -> tuple[int, bytes]:
        status = int(self._line().split(b" ")[1])
        headers: dict[bytes, bytes] = {}
        while line := self._line():
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        body = b""
        if method == "HEAD" or status in (100, 204, 304):
            pass
        elif headers.get(b"transfer-encoding") == b"chunked":
            while size := int(self._line(), 16):
                body += self._file.read(size)
                self._line()
            self._line()
        else:
            body = self._file.read(int(headers[b"content-length"]))
        raw = target.encode() if isinstance(target, str) else target
        self._count.response(status, text(raw.partition(b"?")[0]), len(body))
        return status, body

    def _line(self) -> bytes:
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise LabError("a response without its end")
        return line.rstrip(b"\r\n")


def http_facts(servers: Sequence[HttpServer], client: HttpCount) -> Facts:
    """What went over HTTP; both sides must have counted the same."""
    together = HttpCount()
    for server in servers:
        together.requests += server.count.requests
        together.statuses += server.count.statuses
        together.body_bytes += server.count.body_bytes
    if together != client:
        raise LabError(f"server and client do not agree: {together} {client}")
    return together.facts()


# TLS


def certificate(folder: Path, names: Sequence[str]) -> tuple[Path, Path]:
    """A certificate of our own for these names, and its key."""
    chain, key = folder / "certificate.pem", folder / "key.pem"
    run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", str(key), "-out", str(chain), "-days", "3650", "-subj", "/O=Example/CN=example.net"),
        *("-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)),
    )
    return chain, key


def tls_server_context(chain: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return context


def tls_client(
    connection: socket.socket,
    name: str,
    chain: Path,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    key_log: Path | None = None,
) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(chain))
    context.minimum_version = context.maximum_version = version
    if key_log is not None:
        context.keylog_filename = str(key_log)
    return context.wrap_socket(connection, server_hostname=name)


# DNS

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28}
CODES = {"NOERROR": 0, "SERVFAIL": 2, "NXDOMAIN": 3, "REFUSED": 5}
Zone = Mapping[tuple[str, str], Sequence[bytes]]


def dns_name(name: str) -> bytes:
    labels = [label.encode() for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def dns_address(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def dns_question(data: bytes) -> tuple[str, int, int]:
    """The name and the type that a message asks for, and where its question ends."""
    labels, at = [], 12
    while length := data[at]:
        labels.append(data[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), struct.unpack_from("!H", data, at + 1)[0], at + 5


class DnsServer:
    """A name server for one zone over UDP. To names in `silent` it says nothing."""

    def __init__(
        self,
        lab: Lab,
        host: Host,
        address: str,
        zone: Zone,
        silent: Sequence[str] = (),
        failing: Sequence[str] = (),
    ) -> None:
        self.received: Counter[tuple[Any, ...]] = Counter()
        self.codes: Counter[tuple[Any, ...]] = Counter()
        self._lab, self._address, self._zone = lab, address, zone
        self._silent, self._failing = set(silent), set(failing)
        self._socket = host.new_socket(family_of(address), socket.SOCK_DGRAM)
        self._socket.bind((address, 53))
        self._socket.settimeout(0.1)
        lab.start(self._serve)

    def _serve(self) -> None:
        with self._socket:
            while not self._lab.stop.is_set():
                try:
                    data, client = self._socket.recvfrom(4096)
                except TimeoutError:
                    continue
                name, kind, end = dns_question(data)
                named = next(known for known, number in TYPES.items() if number == kind)
                self.received[(self._address, name, named)] += 1
                if name in self._silent:
                    continue
                answer, code = self._answer(data, name, named, end)
                self.codes[(code,)] += 1
                self._socket.sendto(answer, client)

    def _answer(self, data: bytes, name: str, kind: str, end: int) -> tuple[bytes, str]:
        records = self._zone.get((name, kind), ())
        known = any(name == other for other, _ in self._zone)
        code = "SERVFAIL" if name in self._failing else "NOERROR" if known else "NXDOMAIN"
        authority = b""
        if not records and code != "SERVFAIL":
            data_of_soa = dns_name("ns.example.net") + dns_name("hostmaster.example.net")
            data_of_soa += struct.pack("!5I", 2024010101, 7200, 900, 1209600, 300)
            authority = dns_name("example.net") + self._record("SOA", data_of_soa)
        # Response, recursion desired and available.
        flags = 0x8180 | CODES[code]
        head = data[:2] + struct.pack("!5H", flags, 1, len(records), bool(authority), 0)
        # 0xc00c: the name is the one at byte 12, that is, the one of the question.
        answers = b"".join(b"\xc0\x0c" + self._record(kind, record) for record in records)
        return head + data[12:end] + answers + authority, code

    @staticmethod
    def _record(kind: str, data: bytes) -> bytes:
        return struct.pack("!HHIH", TYPES[kind], 1, 300, len(data)) + data


class Resolver:
    """Asks as a stub resolver does: the same query again, and again, when no answer comes."""

    def __init__(self, host: Host, tries: int = 3, patience: float = 0.6) -> None:
        self.sent: Counter[tuple[Any, ...]] = Counter()
        self.got: Counter[tuple[Any, ...]] = Counter()
        self.unanswered: Counter[tuple[Any, ...]] = Counter()
        self._host, self._tries, self._patience, self._next = host, tries, patience, 0x1000

    def ask(self, server: str, name: str, kind: str) -> str | None:
        """The code of the answer; None when there was none."""
        self._next += 7
        query = struct.pack("!6H", self._next, 0x0100, 1, 0, 0, 0) + dns_name(name)
        query += struct.pack("!HH", TYPES[kind], 1)
        with self._host.new_socket(family_of(server), socket.SOCK_DGRAM) as asking:
            asking.settimeout(self._patience)
            asking.connect((server, 53))
            for _ in range(self._tries):
                asking.send(query)
                self.sent[(server, name, kind)] += 1
                try:
                    data = asking.recv(4096)
                except TimeoutError:
                    continue
                number = struct.unpack_from("!H", data, 2)[0] & 15
                code = next(known for known, value in CODES.items() if value == number)
                self.got[(code,)] += 1
                return code
        self.unanswered[(server, name, kind)] += 1
        return None


def dns_facts(servers: Sequence[DnsServer], resolver: Resolver) -> Facts:
    received: Counter[tuple[Any, ...]] = Counter()
    codes: Counter[tuple[Any, ...]] = Counter()
    for server in servers:
        received += server.received
        codes += server.codes
    if (received, codes) != (resolver.sent, resolver.got):
        raise LabError(f"name server and client do not agree: {received} {resolver.sent}")
    types: Counter[str] = Counter()
    for (_, _, kind), count in received.items():
        types[kind] += count
    return {
        "queries": counted(received, "server", "name", "type"),
        "queries_total": received.total(),
        "queries_by_type": dict(sorted(types.items())),
        "responses_by_code": {code: count for (code,), count in sorted(codes.items())},
        "responses_total": codes.total(),
        "never_answered": counted(resolver.unanswered, "server", "name", "type"),
    }


# UDP echo and ping


class UdpEcho:
    """Sends every datagram back to where it came from."""

    def __init__(self, lab: Lab, host: Host, address: str, port: int) -> None:
        self.address, self.port = address, port
        self.received = self.received_bytes = 0
        self._lab = lab
        self._socket = host.new_socket(family_of(address), socket.SOCK_DGRAM)
        self._socket.bind((address, port))
        self._socket.settimeout(0.1)
        lab.start(self._serve)

    def _serve(self) -> None:
        with self._socket:
            while not self._lab.stop.is_set():
                try:
                    data, client = self._socket.recvfrom(65536)
                except TimeoutError:
                    continue
                self.received += 1
                self.received_bytes += len(data)
                self._socket.sendto(data, client)

    def facts(self) -> Facts:
        return {
            "server_address": self.address,
            "server_port": self.port,
            "datagrams_to_server": self.received,
            "datagrams_to_client": self.received,
            "payload_bytes_each_way": self.received_bytes,
        }


def echo(host: Host, server: UdpEcho, payloads: Sequence[bytes], source_port: int = 0) -> None:
    """Sends datagrams, each after the answer to the one before."""
    with host.new_socket(family_of(server.address), socket.SOCK_DGRAM) as client:
        if source_port:
            client.bind(("", source_port))
        client.connect((server.address, server.port))
        for payload in payloads:
            client.send(payload)
            if client.recv(65536) != payload:
                raise LabError("an echo differs from what was sent")


def ping(host: Host, address: str, count: int, pause: float = 0.1, size: int = 56) -> Facts:
    """Sends echo requests, which the kernel of the other host answers."""
    six = family_of(address) == socket.AF_INET6
    protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
    request_type, reply_type = (128, 129) if six else (8, 0)
    identifier, replies = 0x5EED, 0
    with host.new_socket(family_of(address), socket.SOCK_RAW, protocol) as raw:
        for number in range(1, count + 1):
            payload = bytes(n & 0xFF for n in range(size))
            message = struct.pack("!BBHHH", request_type, 0, 0, identifier, number) + payload
            if not six:
                # For ICMPv6 the kernel fills the checksum in; for ICMP the sender does.
                message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
            raw.sendto(message, (address, 0))
            deadline = time.monotonic() + TIMEOUT
            while time.monotonic() < deadline:
                answer = raw.recv(65536)
                answer = answer if six else answer[(answer[0] & 15) * 4 :]
                kind, _, _, *mine = struct.unpack_from("!BBHHH", answer)
                if kind == reply_type and mine == [identifier, number]:
                    replies += 1
                    break
            time.sleep(pause)
    if replies != count:
        raise LabError(f"{address} answered {replies} of {count} pings")
    return {"address": address, "echo_requests": count, "echo_replies": replies}


def incompressible(name: str, size: int) -> bytes:
    """A body that does not compress, as stored backups do not, and that is the same in every run."""
    return hashlib.shake_256(name.encode()).digest(size)
