"""Scenes of servers that do what is known beforehand: wait, refuse, say nothing; and ARP, DHCP and QUIC."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import struct
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .capturefiles import udp_frame
from .lab import TIMEOUT, Host, Lab, LabError, network_of, run
from .scenes import CLIENT, SERVER, pair
from .services import (
    TYPES,
    Answer,
    DnsServer,
    Facts,
    HttpClient,
    HttpCount,
    HttpServer,
    Request,
    TcpServer,
    Zone,
    certificate,
    counted,
    dns_address,
    dns_question,
    http_facts,
)

MILLISECOND = 1_000_000


# Servers that wait


class WaitingDnsServer(DnsServer):
    """Waits a known time before it answers, over UDP and over TCP; there all that came together, last one first."""

    def __init__(self, lab: Lab, host: Host, address: str, zone: Zone, waits: Mapping[str, float]) -> None:
        self._waits = waits
        super().__init__(lab, host, address, zone, failing=["broken.example.net"])
        self.tcp = TcpServer(lab, host, address, 53, self._talk)

    def _answer(self, data: bytes, name: str, kind: str, end: int) -> tuple[bytes, str]:
        time.sleep(self._waits.get(name, 0))
        return super()._answer(data, name, kind, end)

    def _talk(self, connection: socket.socket) -> None:
        data = connection.recv(65536)
        answers = []
        while data:
            length = int.from_bytes(data[:2], "big")
            message, data = data[2 : 2 + length], data[2 + length :]
            name, number, end = dns_question(message)
            kind = next(known for known, value in TYPES.items() if value == number)
            answer, _ = self._answer(message, name, kind, end)
            answers.append(len(answer).to_bytes(2, "big") + answer)
        connection.sendall(b"".join(reversed(answers)))
        connection.recv(1)


def query(number: int, labels: Sequence[bytes], kind: str = "A") -> bytes:
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + name + struct.pack("!HH", TYPES[kind], 1)


# What a resolver may be asked by a stranger's client.
STRANGE_NAMES = [
    [b"tab\there", b"example"],
    [b"new\nline", b"example"],
    [b"escape\x1b[31mred", b"example"],
    [b"\xff\xfe", b"example"],
    ["bücher".encode(), b"example"],
    [b"back\\slash", b"example"],
    [b"dot.inside", b"example"],
    [b"nul\x00byte", b"example"],
    [],
]


def waits(lab: Lab, path: Path) -> Facts:
    client, server = pair(lab)
    server.address("eth0", "192.0.2.21/24")
    dns_waits = {"wait-20.example.net": 0.02, "wait-50.example.net": 0.05, "late.example.net": 0.5}
    zone = {(name, "A"): [dns_address("198.51.100.1")] for name in (*dns_waits, "quick.example.net")}
    WaitingDnsServer(lab, server, SERVER, zone, dns_waits)
    http_waits = {b"/wait-20": 0.02, b"/wait-50": 0.05, b"/quick": 0.0}

    def answer(request: Request) -> Answer:
        time.sleep(http_waits[request.target.partition(b"?")[0]])
        return Answer(body=b"done\n")

    count = HttpCount()
    web = HttpServer(lab, server, SERVER, 80, answer)
    deaf = TcpServer(lab, server, SERVER, 81, lambda connection: _read_and_leave(connection))
    silent = server.new_socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("192.0.2.21", 53))
    together = ["one.example.net", "broken.example.net", "quick.example.net"]
    with silent, lab.capture(client, "eth0", path):
        number = 0x2000
        for name in ("quick.example.net", "wait-20.example.net", "wait-50.example.net", "wait-20.example.net"):
            number += 1
            with client.new_socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                asking.connect((SERVER, 53))
                asking.send(query(number, name.encode().split(b".")))
                asking.recv(4096)
        # Asked three times, and answered three times, after each has waited for its turn.
        with client.new_socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.connect((SERVER, 53))
            for _ in range(3):
                asking.send(query(0x3000, b"late.example.net".split(b".")))
                time.sleep(0.1)
            for _ in range(3):
                asking.recv(4096)
        with client.connect(SERVER, 53) as asking:
            messages = [query(0x4000 + n, name.encode().split(b".")) for n, name in enumerate(together)]
            asking.sendall(b"".join(len(one).to_bytes(2, "big") + one for one in messages))
            while not asking.recv(4096):
                raise LabError("no answer over TCP")
        with client.new_socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.connect(("192.0.2.21", 53))
            for n, labels in enumerate(STRANGE_NAMES):
                asking.send(query(0x5000 + n, labels))
        with HttpClient(client.connect(SERVER, 80), count) as session:
            for target in ("/quick", "/wait-20", "/wait-50?again=1", "/wait-50"):
                session.ask("GET", target, "waits.example.net")
        with client.connect(SERVER, 81) as asking:
            asking.sendall(b"GET /nobody HTTP/1.1\r\nHost: deaf.example.net:81\r\n\r\n")
            asking.recv(1)
    http_facts([web], count)
    return {
        "http_never_answered": deaf.accepted,
        "waits": {
            "dns": [
                {"name": "quick.example.net", "wait_ns": 0, "count": 1},
                {"name": "wait-20.example.net", "wait_ns": 20 * MILLISECOND, "count": 2},
                {"name": "wait-50.example.net", "wait_ns": 50 * MILLISECOND, "count": 1},
                {"name": "late.example.net", "wait_ns": 500 * MILLISECOND, "count": 1},
            ],
            "http": [
                {"path": target.decode(), "wait_ns": round(wait * 1000) * MILLISECOND}
                for target, wait in http_waits.items()
            ],
        },
        "dns_asked_again": {"name": "late.example.net", "queries": 3, "responses": 3},
        "dns_over_tcp_together": [
            {"name": "one.example.net", "code": "NXDOMAIN"},
            {"name": "broken.example.net", "code": "SERVFAIL"},
            {"name": "quick.example.net", "code": "NOERROR"},
        ],
        "dns_strange_names": [b".".join(labels).hex() for labels in STRANGE_NAMES],
    }


def _read_and_leave(connection: socket.socket) -> None:
    connection.recv(65536)


# TLS


def handshakes(lab: Lab, path: Path) -> Facts:
    client, server = pair(lab)
    sessions: Counter[tuple[Any, ...]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        chain, key = certificate(Path(folder), ["tls.example.net", "late.example.net", "TLS.example.org"])
        expires = run("openssl", "x509", "-in", str(chain), "-noout", "-enddate", "-dateopt", "iso_8601")

        def serve(port: int, wait: float, alpn: Sequence[str], curve: str = "") -> TcpServer:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(chain, key)
            if alpn:
                context.set_alpn_protocols(list(alpn))
            if curve:
                context.set_ecdh_curve(curve)

            def talk(connection: socket.socket) -> None:
                time.sleep(wait)
                with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as protected:
                    protected.sendall(protected.recv(100))
                    with contextlib.suppress(OSError):
                        protected.unwrap()

            return TcpServer(lab, server, SERVER, port, talk)

        servers = {
            443: serve(443, 0, ["h2", "http/1.1"]),
            8443: serve(8443, 0.05, []),
            # A curve for which the client sends no key at first: the server asks it to try again.
            9443: serve(9443, 0, ["http/1.1"], "secp521r1"),
        }

        def connect(
            port: int, name: str, version: ssl.TLSVersion, alpn: Sequence[str] = (), trust: bool = True
        ) -> None:
            context = ssl.create_default_context(cafile=str(chain)) if trust else ssl.create_default_context()
            context.minimum_version = context.maximum_version = version
            if alpn:
                context.set_alpn_protocols(list(alpn))
            connection = client.connect(SERVER, port)
            try:
                protected = context.wrap_socket(connection, server_hostname=name)
            except ssl.SSLCertVerificationError:
                connection.close()
                sessions[port, name.lower(), version.name, None, False] += 1
                return
            with protected:
                protected.sendall(b"hello")
                if protected.recv(100) != b"hello":
                    raise LabError("no echo over TLS")
                sessions[port, name.lower(), version.name, protected.selected_alpn_protocol(), True] += 1
                with contextlib.suppress(OSError):
                    protected.unwrap()

        two, three = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
        with lab.capture(client, "eth0", path):
            for version in (two, three):
                connect(443, "tls.example.net", version, ["h2", "http/1.1"])
                connect(443, "tls.example.net", version, ["http/1.1"])
                connect(8443, "late.example.net", version)
            connect(443, "TLS.example.org", two, ["http/1.1"])
            connect(9443, "tls.example.net", three, ["http/1.1"])
            connect(443, "tls.example.net", two, ["h2"], trust=False)
    return {
        "tls_handshakes": counted(sessions, "port", "server_name", "version", "alpn", "trusted"),
        "tls_certificate_expires": expires.partition("=")[2].strip(),
        "tls_wait": {"port": 8443, "wait_ns": 50 * MILLISECOND},
        "tcp_connections": [one.facts() for one in servers.values()],
    }


# ARP


def arp_frame(operation: int, sender: tuple[str, str], target: tuple[str, str], to: str = "ff:ff:ff:ff:ff:ff") -> bytes:
    """An ARP packet from `sender` (MAC and address) about `target`."""

    def mac(text: str) -> bytes:
        return bytes.fromhex(text.replace(":", ""))

    ends = b"".join(mac(one) + ipaddress.IPv4Address(address).packed for one, address in (sender, target))
    head = mac(to) + mac(sender[0]) + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    return (head + ends).ljust(60, b"\0")


NO_MAC, NO_ADDRESS = "00:00:00:00:00:00", "0.0.0.0"


def arp(lab: Lab, path: Path) -> Facts:
    """The kernels of both hosts look each other up; then frames of our own play more hosts, and a thief."""
    client, _ = pair(lab)
    first, second, thief = "02:00:00:00:05:01", "02:00:00:00:05:02", "02:00:00:00:05:66"
    with client.new_socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("eth0", 0))
        with lab.capture(client, "eth0", path):
            with client.new_socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                asking.sendto(b"anyone?", (SERVER, 40009))
            time.sleep(0.2)
            for frame in [
                arp_frame(1, (first, NO_ADDRESS), (NO_MAC, "192.0.2.51")),
                arp_frame(1, (first, NO_ADDRESS), (NO_MAC, "192.0.2.51")),
                arp_frame(1, (first, "192.0.2.51"), (NO_MAC, "192.0.2.51")),
                arp_frame(2, (second, "192.0.2.52"), (second, "192.0.2.52")),
                arp_frame(1, (first, "192.0.2.51"), (NO_MAC, "192.0.2.52")),
                arp_frame(2, (second, "192.0.2.52"), (first, "192.0.2.51"), first),
                arp_frame(2, (thief, "192.0.2.52"), (first, "192.0.2.51"), first),
                *[arp_frame(1, (first, "192.0.2.51"), (NO_MAC, f"192.0.2.{n}")) for n in (61, 62, 61)],
                # InARP, which asks for the address of a MAC.
                arp_frame(8, (first, "192.0.2.51"), (second, NO_ADDRESS)),
            ]:
                wire.send(frame)
                time.sleep(0.01)
    kernel = {"macs": 1, "requests": 0, "replies": 0, "gratuitous": 0, "probes": 0, "asked_for": 0}
    return {
        "arp": {
            CLIENT: kernel | {"requests": 1},
            SERVER: kernel | {"replies": 1, "asked_for": 1},
            "192.0.2.51": kernel | {"requests": 5, "gratuitous": 1, "probes": 2, "other": 1},
            "192.0.2.52": kernel | {"macs": 2, "replies": 3, "gratuitous": 1, "asked_for": 1},
            "192.0.2.61": kernel | {"macs": 0, "asked_for": 2},
            "192.0.2.62": kernel | {"macs": 0, "asked_for": 1},
        }
    }


# DHCP

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)
NAMES = ("discover", "offer", "request", "decline", "ack", "nak", "release", "inform")
COOKIE = bytes.fromhex("63825363")


def dhcp_message(
    operation: int,
    transaction: int,
    mac: str,
    kind: int,
    options: Sequence[tuple[int, bytes]] = (),
    yours: str = NO_ADDRESS,
    mine: str = NO_ADDRESS,
) -> bytes:
    def packed(address: str) -> bytes:
        return ipaddress.IPv4Address(address).packed

    head = struct.pack("!BBBBIHH", operation, 1, 6, 0, transaction, 0, 0x8000)
    head += packed(mine) + packed(yours) + bytes(8) + bytes.fromhex(mac.replace(":", "")) + bytes(10 + 64 + 128)
    body = b"".join(bytes([code, len(value)]) + value for code, value in [(53, bytes([kind])), *options])
    return head + COOKIE + body + b"\xff"


def dhcp_options(message: bytes) -> dict[int, bytes]:
    at, found = 240, {}
    while message[at] != 255:
        found[message[at]] = message[at + 2 : at + 2 + message[at + 1]]
        at += 2 + message[at + 1]
    return found


LEASE = 3600


class DhcpServer:
    """Gives each client the address that it is known by; to one that it does not know it says nothing."""

    def __init__(self, lab: Lab, host: Host, known: Mapping[str, str]) -> None:
        self.answered: Counter[tuple[str, str]] = Counter()
        self._known, self._lab = known, lab
        self._socket = host.new_socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("", 67))
        self._socket.settimeout(0.1)
        self._wire = host.new_socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._wire.bind(("eth0", 0))
        lab.start(self._serve)

    def _serve(self) -> None:
        with self._socket, self._wire:
            while not self._lab.stop.is_set():
                try:
                    message = self._socket.recv(4096)
                except TimeoutError:
                    continue
                self._answer(message)

    def _answer(self, message: bytes) -> None:
        mac, options = message[28:34].hex(":"), dhcp_options(message)
        kind, address = options[53][0], self._known.get(mac)
        if address is None or kind not in (DISCOVER, REQUEST, INFORM):
            return
        mine = str(ipaddress.IPv4Address(message[12:16]))
        wanted = str(ipaddress.IPv4Address(options[50])) if 50 in options else mine
        given: list[tuple[int, bytes]] = [(54, ipaddress.IPv4Address(SERVER).packed)]
        answer = {DISCOVER: OFFER, INFORM: ACK}.get(kind, ACK if wanted == address else NAK)
        if answer != NAK and kind != INFORM:
            given.append((51, struct.pack("!I", LEASE)))
        yours = address if answer != NAK and kind != INFORM else NO_ADDRESS
        back = dhcp_message(2, struct.unpack_from("!I", message, 4)[0], mac, answer, given, yours, mine)
        frame = udp_frame((SERVER, 67), ("255.255.255.255", 68), back)
        self._wire.send(frame[6:12] + frame[:6] + frame[12:])
        self.answered[mac, NAMES[answer - 1]] += 1


def dhcp(lab: Lab, path: Path) -> Facts:
    client, server = pair(lab)
    known = {"02:00:00:00:06:01": "192.0.2.101", "02:00:00:00:06:02": "192.0.2.102"}
    leases = DhcpServer(lab, server, known)
    said: Counter[tuple[str, str]] = Counter()
    wire = client.new_socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    wire.bind(("eth0", 0x0800))
    transaction = 0x1234

    def say(mac: str, kind: int, options: Sequence[tuple[int, bytes]] = (), mine: str = NO_ADDRESS) -> str | None:
        """Says something as a client with this MAC, and gives the kind of the answer."""
        nonlocal transaction
        transaction += 1
        message = dhcp_message(1, transaction, mac, kind, options, mine=mine)
        target = "255.255.255.255" if mine == NO_ADDRESS else SERVER
        wire.send(udp_frame((mine, 68), (target, 67), message, transaction))
        said[mac, NAMES[kind - 1]] += 1
        if kind in (DECLINE, RELEASE) or mac not in known:
            return None
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            frame = wire.recv(2000)
            if frame[34:38] == struct.pack("!HH", 67, 68) and frame[46:50] == struct.pack("!I", transaction):
                return NAMES[dhcp_options(frame[42:])[53][0] - 1]
        raise LabError("no answer from the DHCP server")

    def wants(address: str) -> tuple[int, bytes]:
        return (50, ipaddress.IPv4Address(address).packed)

    one, two, stranger = *known, "02:00:00:00:06:99"
    to_server = (54, ipaddress.IPv4Address(SERVER).packed)
    with wire, lab.capture(client, "eth0", path):
        heard = [
            say(one, DISCOVER, [(12, b"laptop")]),
            say(one, REQUEST, [(12, b"laptop"), wants(known[one]), to_server]),
            say(one, REQUEST, [(12, b"laptop")], known[one]),
            say(one, INFORM, [], known[one]),
            say(two, REQUEST, [(12, b"tab\there\nnew\xff"), wants("198.51.100.7")]),
            say(two, DISCOVER),
            say(two, REQUEST, [wants(known[two]), to_server]),
            say(two, DECLINE, [wants(known[two]), to_server]),
            say(stranger, DISCOVER),
            say(stranger, DISCOVER),
            say(one, RELEASE, [to_server], known[one]),
        ]
    expected = ["offer", "ack", "ack", "ack", "nak", "offer", "ack", None, None, None, None]
    if heard != expected:
        raise LabError(f"DHCP went otherwise: {heard}")
    return {
        "dhcp": {
            mac: {
                "addresses": [known[mac]] if mac in known else [],
                "servers": [SERVER] if mac in known else [],
                "lease_time_s": LEASE if mac in known else None,
                "messages": {
                    kind: count
                    for counts in (said, leases.answered)
                    for (whose, kind), count in sorted(counts.items())
                    if whose == mac
                },
            }
            for mac in (one, two, stranger)
        }
    }


# QUIC


def quic(lab: Lab, path: Path) -> Facts:
    try:
        from aioquic.asyncio.client import connect
        from aioquic.asyncio.server import serve
        from aioquic.quic.configuration import QuicConfiguration
        from aioquic.quic.packet import QuicProtocolVersion
    except ImportError:
        raise LabError("quic.pcapng wants aioquic (pip install -e .[captures])") from None
    client, server = pair(lab)
    sessions: Counter[tuple[Any, ...]] = Counter()
    ready, ended = threading.Event(), threading.Event()

    def in_namespace(host: Host, work: Callable[[], Any]) -> None:
        with network_of(host.namespace):
            asyncio.run(work())

    def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def talk() -> None:
            writer.write(await reader.read())
            writer.write_eof()

        tasks.append(asyncio.ensure_future(talk()))

    tasks: list[asyncio.Future[None]] = []
    with tempfile.TemporaryDirectory() as folder:
        chain, key = certificate(Path(folder), ["quic.example.net", "other.example.net"])

        async def serving() -> None:
            settings = QuicConfiguration(is_client=False, alpn_protocols=["h3", "hq-interop"])
            settings.load_cert_chain(chain, key)
            one = await serve(SERVER, 4433, configuration=settings, stream_handler=echo)
            ready.set()
            while not lab.stop.is_set() and not ended.is_set():
                await asyncio.sleep(0.05)
            one.close()

        async def asking(name: str, alpn: list[str], version: int) -> None:
            settings = QuicConfiguration(is_client=True, alpn_protocols=alpn, server_name=name)
            settings.supported_versions = [version]
            settings.original_version = version
            settings.load_verify_locations(cafile=str(chain))
            async with connect(SERVER, 4433, configuration=settings) as connection:
                reader, writer = await connection.create_stream()
                writer.write(b"hello " * 100)
                writer.write_eof()
                if await reader.read() != b"hello " * 100:
                    raise LabError("no echo over QUIC")
                shown = "1" if version == QuicProtocolVersion.VERSION_1 else "2"
                sessions[name, SERVER, 4433, shown, alpn[0]] += 1

        lab.start(lambda: in_namespace(server, serving))
        if not ready.wait(TIMEOUT):
            raise LabError("the QUIC server does not start")
        with lab.capture(client, "eth0", path):
            one, two = QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2
            for name, alpn, version in [
                ("quic.example.net", ["h3"], one),
                ("quic.example.net", ["h3"], one),
                ("quic.example.net", ["hq-interop"], one),
                ("other.example.net", ["h3"], one),
                ("other.example.net", ["h3"], two),
            ]:
                in_namespace(client, partial(asking, name, alpn, version))
            time.sleep(0.3)
        ended.set()
    return {"quic_connections": counted(sessions, "server_name", "address", "port", "version", "alpn")}


SERVERS: dict[str, Callable[[Lab, Path], Facts]] = {
    "waits.pcapng": waits,
    "handshakes.pcapng": handshakes,
    "arp.pcapng": arp,
    "dhcp.pcapng": dhcp,
    "quic.pcapng": quic,
}
