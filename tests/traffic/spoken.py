"""Protocols that the servers and clients of the lab do not know by themselves: messages written byte by byte, which two
hosts then say to each other over a wire, through the sockets of the system.

What is in the messages is known from their making, and when each was sent from the capture.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path

from .lab import TIMEOUT, Host, Lab, LabError

Said = Sequence[tuple[bool, bytes]]  # whether the client says it, and what

CLIENT, SERVER = "192.0.2.10", "192.0.2.20"
WAIT = 0.03  # seconds between one message and the next, so that there are times to measure


def capture(path: Path) -> Path:
    """A capture of all conversations below, on the server's end of the wire."""
    with Lab() as lab:
        client, server = lab.host("client"), lab.host("server")
        lab.wire(client, server)
        client.address("eth0", f"{CLIENT}/24")
        server.address("eth0", f"{SERVER}/24")
        with lab.capture(server, "eth0", path):
            over_tcp(client, server, 554, rtsp(RTSP))
            over_tcp(client, server, 3868, diameter(SESSIONS))
            over_tcp(client, server, 5000, [*gsm_a(CALL), *camel()])
            over_udp(client, server, 9200, wsp(STATUSES))
            on_the_wire(client, [*sampled_values(SAMPLES), *fronthaul(FLOWS, NUMBERS)])
    return path


def over_tcp(client: Host, server: Host, port: int, said: Said) -> None:
    with server.listen(SERVER, port) as listener, client.connect(SERVER, port) as asking:
        answering, _ = listener.accept()
        answering.settimeout(TIMEOUT)
        with answering:
            for of_client, text in said:
                time.sleep(WAIT)
                sender, receiver = (asking, answering) if of_client else (answering, asking)
                sender.sendall(text)
                heard = b""
                while len(heard) < len(text):
                    more = receiver.recv(len(text))
                    if not more:
                        raise LabError("a connection ended early")
                    heard += more


def over_udp(client: Host, server: Host, port: int, said: Said) -> None:
    asking = client.new_socket(socket.AF_INET, socket.SOCK_DGRAM)
    answering = server.new_socket(socket.AF_INET, socket.SOCK_DGRAM)
    with asking, answering:
        answering.bind((SERVER, port))
        asking.connect((SERVER, port))
        for of_client, text in said:
            time.sleep(WAIT)
            if of_client:
                asking.send(text)
                _, asked = answering.recvfrom(2048)
            else:
                answering.sendto(text, asked)
                asking.recv(2048)


def on_the_wire(host: Host, frames: Sequence[bytes]) -> None:
    with host.new_socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("eth0", 0))
        for frame in frames:
            time.sleep(WAIT)
            wire.send(frame)


# RTSP (RFC 2326) ------------------------------------------------------------------------------------------

# Each request with the code and the words of its response.
RTSP = [("OPTIONS", 200, "OK"), ("DESCRIBE", 404, "Not Found"), ("DESCRIBE", 200, "OK"), ("TEARDOWN", 200, "OK")]


def rtsp(requests: Sequence[tuple[str, int, str]]) -> Said:
    said = []
    for number, (method, code, words) in enumerate(requests, 1):
        sequence = f"CSeq: {number}\r\n\r\n"
        said.append((True, f"{method} rtsp://media.example.net/one RTSP/1.0\r\n{sequence}".encode()))
        said.append((False, f"RTSP/1.0 {code} {words}\r\n{sequence}".encode()))
    return said


# WSP over WDP without a session (WAP-230) -----------------------------------------------------------------

STATUSES = [0x20, 0x44, 0x20]


def wsp(statuses: Sequence[int]) -> Said:
    """A Get each, and a Reply with that status."""
    url = b"http://wap.example.net/"
    said = []
    for number, status in enumerate(statuses, 1):
        said.append((True, bytes([number, 0x40, len(url)]) + url))
        said.append((False, bytes([number, 0x04, status, 1, 0x83])))  # text/plain
    return said


# Diameter (RFC 6733) --------------------------------------------------------------------------------------

SESSIONS = ["one;1;1", "two;2;2"]


def _avp(code: int, value: bytes) -> bytes:
    size = 8 + len(value)
    return struct.pack("!IB", code, 0x40) + size.to_bytes(3, "big") + value + b"\0" * (-len(value) % 4)


def diameter(sessions: Sequence[str]) -> Said:
    """A credit control request and its answer (4 Credit-Control, command 272) for each session."""
    said = []
    for number, session in enumerate(sessions, 1):
        for request in (True, False):
            avps = _avp(263, session.encode()) + _avp(264, b"client" if request else b"server") + _avp(296, b"net")
            avps += _avp(416, struct.pack("!I", 1)) + _avp(415, struct.pack("!I", number))
            avps += b"" if request else _avp(268, struct.pack("!I", 2001))
            head = b"\1" + (20 + len(avps)).to_bytes(3, "big") + (b"\xc0" if request else b"\x40")
            head += (272).to_bytes(3, "big") + struct.pack("!III", 4, number, 1000 + number)
            said.append((request, head + avps))
    return said


# IEC 61850-9-2 sampled values -----------------------------------------------------------------------------

SAMPLES = [7, 8, 9]


def _ethernet(kind: int, payload: bytes) -> bytes:
    return bytes.fromhex("020000000102020000000101") + struct.pack("!H", kind) + payload


def _ber(tag: int, value: bytes) -> bytes:
    return bytes([tag, len(value)]) + value


def sampled_values(counters: Sequence[int]) -> list[bytes]:
    """One sample a frame, with these counters."""
    frames = []
    for counter in counters:
        sample = _ber(0x80, b"MU01") + _ber(0x82, struct.pack("!H", counter)) + _ber(0x83, struct.pack("!I", 1))
        sample += _ber(0x85, b"\2") + _ber(0x87, struct.pack("!iI", counter * 10, 0) * 8)
        unit = _ber(0x60, _ber(0x80, b"\1") + _ber(0xA2, _ber(0x30, sample)))
        frames.append(_ethernet(0x88BA, struct.pack("!HHHH", 0x4000, 8 + len(unit), 0, 0) + unit))
    return frames


# O-RAN fronthaul over eCPRI (O-RAN.WG4.CUS) ----------------------------------------------------------------

FLOWS, NUMBERS = 3, [0, 1, 3]


def fronthaul(control: int, user: Sequence[int]) -> list[bytes]:
    """Control messages (section type 1, downlink, flow 1), and user messages (uplink, flow 2) with these numbers.

    A user message has two blocks of resources, of twelve elements each.
    """

    def ecpri(kind: int, flow: int, number: int, body: bytes) -> bytes:
        head = struct.pack("!BBHHBB", 0x10, kind, 4 + len(body), flow, number, 0x80)
        return _ethernet(0xAEFE, head + body)

    # One section, number 1: all 106 blocks, all elements, one symbol.
    asked = bytes([0x90, 0, 0, 0, 1, 1, 0, 0]) + bytes([0x00, 0x10, 0x00, 106, 0xFF, 0xF1, 0, 0])
    sent = bytes([0x10, 0, 0, 0]) + bytes([0x00, 0x10, 0x00, 2]) + b"\1" * 98
    return [ecpri(2, 1, n, asked) for n in range(control)] + [ecpri(0, 2, n, sent) for n in user]


# GSM A interface (3GPP 24.008) and CAMEL (3GPP 29.078), in unit data of SCCP (Q.713) over ip.access's IPA -------

# A location update is accepted, and a call is set up, alerted and released.
CALL = ["0502", "0305", "8301", "032d"]
BSSAP, CAP = 254, 146  # subsystem numbers


def _ipa(subsystem: int, body: bytes) -> bytes:
    address = bytes([2, 0x42, subsystem])  # routed by the subsystem's number, which alone is there
    unit = bytes.fromhex("0900030507") + address + address + bytes([len(body)]) + body
    return struct.pack("!HB", len(unit), 0xFD) + unit


def gsm_a(messages: Sequence[str]) -> Said:
    """Messages of layer 3, in hexadecimal digits, which the network sends to a phone."""
    return [(False, _ipa(BSSAP, bytes([1, 0, len(text) // 2]) + bytes.fromhex(text))) for text in messages]


def camel() -> Said:
    """A call: InitialDP in a Begin, Continue in a Continue, and an End."""
    context = bytes.fromhex("6b1e281c060700118605010101a011600f80020780a109060704000001003204")
    ours, theirs = b"\x48\4\0\0\0\1", b"\x48\4\0\0\0\2"
    begin = ours + context + _ber(0x6C, bytes.fromhex("a10b0201010201003003800101"))
    on = theirs + b"\x49\4\0\0\0\1" + _ber(0x6C, bytes.fromhex("a10602010102011f"))
    end = b"\x49\4\0\0\0\2"
    return [
        (of_client, _ipa(CAP, _ber(tag, body)))
        for of_client, tag, body in ((True, 0x62, begin), (False, 0x65, on), (True, 0x64, end))
    ]
