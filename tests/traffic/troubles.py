"""Scenes of trouble: connections that fail, servers that are slow, streams that lose packets."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from pathlib import Path

from .forwarder import DOUBLE, DROP, LATE, LossyDatagramBridge
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
    TcpServer,
    dns_address,
    http_facts,
    line_server,
)

CLIENT, SERVER, NOBODY = "192.0.2.10", "192.0.2.20", "192.0.2.99"


def pair(lab: Lab) -> tuple[Host, Host]:
    client, server = lab.host("client"), lab.host("server")
    lab.wire(client, server)
    client.address("eth0", f"{CLIENT}/24")
    server.address("eth0", f"{SERVER}/24")
    return client, server


def connections(lab: Lab, path: Path) -> Facts:
    """Every way in which a connection can end, a known number of times each."""
    client, server = pair(lab)

    def talk(connection: socket.socket) -> None:
        with contextlib.suppress(ConnectionResetError):
            while (line := connection.recv(100)) not in (b"", b"bye\n"):
                connection.sendall(line)

    polite = TcpServer(lab, server, SERVER, 40001, talk)
    # Its frames go nowhere: nobody answers, and nobody says that there is nobody.
    client.ip("neigh", "add", NOBODY, "lladdr", "02:00:00:00:09:99", "dev", "eth0")

    def hang_up(connection: socket.socket) -> None:
        connection.recv(100)
        reset(connection)

    rude = TcpServer(lab, server, SERVER, 40002, hang_up)

    def reset(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    def said(connection: socket.socket, line: bytes) -> None:
        connection.sendall(line)
        if connection.recv(100) != line:
            raise LabError("the server says something else")

    before = client.connect(SERVER, 40001)
    said(before, b"before the capture\n")
    with lab.capture(client, "eth0", path):
        said(before, b"in the capture\n")
        for _ in range(3):
            try:
                client.connect(SERVER, 40009).close()
                raise LabError("a closed port is open")
            except ConnectionRefusedError:
                pass
        for _ in range(2):
            with client.new_socket(socket.AF_INET, socket.SOCK_STREAM) as hopeless:
                hopeless.settimeout(1.3)  # the SYN is sent again after a second
                try:
                    hopeless.connect((NOBODY, 40001))
                    raise LabError("nobody answers")
                except TimeoutError:
                    pass
        for number in range(4):
            with client.connect(SERVER, 40001) as closing:
                said(closing, b"closed normally %d\n" % number)
                closing.sendall(b"bye\n")
                closing.recv(1)
        for _ in range(2):
            impatient = client.connect(SERVER, 40001)
            said(impatient, b"reset by the client\n")
            reset(impatient)
        with client.connect(SERVER, 40002) as one:
            one.sendall(b"anyone?\n")
            try:
                one.recv(1)
                raise LabError("the rude server is polite")
            except ConnectionResetError:
                pass
        open_ones = [client.connect(SERVER, 40001) for _ in range(3)]
        for one in open_ones:
            said(one, b"open\n")
        time.sleep(0.2)
    for one in (before, *open_ones):
        one.close()
    if (polite.accepted, rude.accepted) != (1 + 4 + 2 + 3, 1):
        raise LabError("the servers accepted another number of connections")
    names = ("server_address", "server_port", "connections", "started", "established")
    ends = ("refused", "reset", "timed_out", "closed", "open")
    rows = [
        (SERVER, 40001, 10, 9, 9, 0, 2, 0, 4, 4),
        (SERVER, 40002, 1, 1, 1, 0, 1, 0, 0, 0),
        (SERVER, 40009, 3, 3, 0, 3, 0, 0, 0, 0),
        (NOBODY, 40001, 2, 2, 0, 0, 0, 2, 0, 0),
    ]
    return {
        "connections": [dict(zip((*names, *ends), row, strict=True)) for row in rows],
        "syn_retransmissions_to_nobody": 2,
    }


WAITS = {"/quick": 0.0, "/slow": 0.06, "/slower": 0.15}


class SlowDnsServer(DnsServer):
    """Thinks about every answer."""

    wait = 0.04

    def _answer(self, data: bytes, name: str, kind: str, end: int) -> tuple[bytes, str]:
        time.sleep(self.wait)
        return super()._answer(data, name, kind, end)


def slow(lab: Lab, path: Path) -> Facts:
    """Servers that wait a known time before they answer, and a client that does not read."""
    client, server = pair(lab)

    def answer(request: Request) -> Answer:
        time.sleep(WAITS[request.target.decode()])
        return Answer(body=b"at last\n")

    web = HttpServer(lab, server, SERVER, 80, answer)
    SlowDnsServer(lab, server, SERVER, {("www.example.net", "A"): [dns_address("198.51.100.1")]})
    lines = line_server(lab, server, SERVER, 40001)
    resolver, count = Resolver(client), HttpCount()
    asked = dict.fromkeys(WAITS, 0)
    size = 12000
    with lab.capture(client, "eth0", path):
        for _ in range(3):
            if resolver.ask(SERVER, "www.example.net", "A") != "NOERROR":
                raise LabError("no answer to a question")
        with HttpClient(client.connect(SERVER, 80), count) as talk:
            for target in ("/quick", "/slow", "/slower", "/slow", "/quick"):
                talk.ask("GET", target, "www.example.net")
                asked[target] += 1
        with client.new_socket(socket.AF_INET, socket.SOCK_STREAM) as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
            lazy.connect((SERVER, 40001))
            lazy.sendall(b"give %d\n" % size)
            time.sleep(0.5)
            left = size
            while left:
                left -= len(lazy.recv(left))
            lazy.sendall(b"bye\n")
            lazy.recv(1)
    http_facts([web], count)
    return {
        "waits": {
            "http": {"server_port": 80, "seconds": sorted(WAITS[p] for p, n in asked.items() for _ in range(n))},
            "dns": {"server_port": 53, "seconds": [SlowDnsServer.wait] * 3},
        },
        "lazy": {"server_port": 40001, "payload_bytes_to_client": size},
        "tcp_connections": [web.tcp.facts(), lines.facts()],
    }


SIP = """{line}\r
Via: SIP/2.0/UDP {client}:5060;branch=z9hG4bK1\r
From: <sip:caller@example.net>;tag=1\r
To: <sip:callee@example.net>{tag}\r
Call-ID: 1@example.net\r
CSeq: 1 INVITE\r
Contact: <sip:{host}:5060>\r
Content-Type: application/sdp\r
Content-Length: {length}\r
\r
{body}"""
SDP = """v=0\r
o=- 1 1 IN IP4 {host}\r
s=-\r
c=IN IP4 {host}\r
t=0 0\r
m=audio {port} RTP/AVP {types}\r
{maps}"""


def rtp(lab: Lab, path: Path) -> Facts:
    """Two calls through a bridge that loses, doubles and delays datagrams: one of G.711, one of a dynamic type."""
    client, server = lab.host("client"), lab.host("server")
    calls = {16000: (0, 8000, ""), 16002: (97, 16000, "a=rtpmap:97 L16/16000\r\n")}
    plan = {
        (16000, "to_server"): [(DROP, 5), (DROP, 6), (DOUBLE, 10), (LATE, 15), (DROP, 20)],
        (16002, "to_server"): [(DROP, 7), (DOUBLE, 8), (DOUBLE, 9), (LATE, 14)],
    }
    bridge = LossyDatagramBridge(lab, client, server, plan)
    client.address("tap0", f"{CLIENT}/24")
    server.address("tap0", f"{SERVER}/24")
    packets, step = 30, 0.02
    streams = []
    with lab.capture(server, "tap0", path):
        for number, (port, (kind, clock, maps)) in enumerate(calls.items()):
            signal(client, server, port, kind, maps)
            ssrc, first = 0x5EED0001 + number, 65530
            with (
                client.new_socket(socket.AF_INET, socket.SOCK_DGRAM) as speaking,
                server.new_socket(socket.AF_INET, socket.SOCK_DGRAM) as hearing,
            ):
                hearing.bind((SERVER, port))
                speaking.bind((CLIENT, port))
                began = time.monotonic()
                for at in range(packets):
                    # Sequence numbers go past 65535.
                    head = struct.pack("!BBHII", 0x80, kind, (first + at) & 0xFFFF, round(at * step * clock), ssrc)
                    speaking.sendto(head + b"\xd5" * 20, (SERVER, port))
                    time.sleep(max(0.0, began + (at + 1) * step - time.monotonic()))
                time.sleep(0.1)
            deeds = [deed for deed, _ in plan[port, "to_server"]]
            streams.append(
                {
                    "source_port": port, "ssrc": f"0x{ssrc:08x}", "clock": clock, "sent": packets,
                    "lost": deeds.count(DROP), "duplicates": deeds.count(DOUBLE), "out_of_order": deeds.count(LATE),
                }
            )  # fmt: skip
    return {"rtp": streams, "bridge": bridge.facts()}


def signal(client: Host, server: Host, port: int, kind: int, maps: str) -> None:
    """An INVITE and its answer: tshark knows from these which datagrams are RTP."""
    with (
        client.new_socket(socket.AF_INET, socket.SOCK_DGRAM) as caller,
        server.new_socket(socket.AF_INET, socket.SOCK_DGRAM) as callee,
    ):
        caller.bind((CLIENT, 5060))
        callee.bind((SERVER, 5060))
        for sender, host, target, line, tag in (
            (caller, CLIENT, SERVER, "INVITE sip:callee@example.net SIP/2.0", ""),
            (callee, SERVER, CLIENT, "SIP/2.0 200 OK", ";tag=2"),
        ):
            body = SDP.format(host=host, port=port, types=kind, maps=maps)
            text = SIP.format(line=line, client=CLIENT, host=host, tag=tag, length=len(body), body=body)
            sender.sendto(text.encode(), (target, 5060))
            (callee if sender is caller else caller).recv(4096)


TROUBLES = {"connections.pcapng": connections, "slow.pcapng": slow, "rtp.pcapng": rtp}
