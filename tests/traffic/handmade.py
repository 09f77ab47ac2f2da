"""Frames written byte by byte, of protocols that the servers and clients of the lab do not speak.

They are no real traffic, and no capture is kept: the tests write them where they need them, and know what is in them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

CLIENT, SERVER = bytes([192, 0, 2, 10]), bytes([192, 0, 2, 20])
ETHERNET, EXPORTED_PDU = 1, 252
START = 1_700_000_000


def write(path: Path, frames: Sequence[bytes], link: int = ETHERNET, apart_us: int = 100_000) -> Path:
    """A capture of the frames, a tenth of a second apart."""
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, link)]
    for number, data in enumerate(frames):
        seconds, rest = divmod(number * apart_us, 10**6)
        parts.append(struct.pack("<IIII", START + seconds, rest, len(data), len(data)) + data)
    path.write_bytes(b"".join(parts))
    return path


def _ethernet(kind: int, payload: bytes) -> bytes:
    return bytes.fromhex("020000000002020000000001") + struct.pack("!H", kind) + payload


def _ip(protocol: int, source: bytes, destination: bytes, payload: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0)
    return _ethernet(0x0800, head + source + destination + payload)


def datagrams(port: int, lines: Sequence[tuple[bool, bytes]]) -> list[bytes]:
    """What a client (True) and a server said over UDP."""
    frames = []
    for client, text in lines:
        ports = (40000, port) if client else (port, 40000)
        ends = (CLIENT, SERVER) if client else (SERVER, CLIENT)
        frames.append(_ip(17, *ends, struct.pack("!4H", *ports, 8 + len(text), 0) + text))
    return frames


def segments(port: int, lines: Sequence[tuple[bool, bytes]]) -> list[bytes]:
    """What they said over TCP, a segment each."""
    said = {True: 1, False: 1}
    frames = []
    for client, text in lines:
        ports = (40000, port) if client else (port, 40000)
        ends = (CLIENT, SERVER) if client else (SERVER, CLIENT)
        head = struct.pack("!HHIIBBHHH", *ports, said[client], said[not client], 0x50, 0x18, 8192, 0, 0)
        frames.append(_ip(6, *ends, head + text))
        said[client] += len(text)
    return frames


def exported(dissector: str, payload: bytes, client: bool = True) -> bytes:
    """What Wireshark exports of an upper protocol: its dissector's name, the ends, and its bytes."""
    source, destination = (CLIENT, SERVER) if client else (SERVER, CLIENT)
    name = dissector.encode() + b"\0" * (-len(dissector) % 4)
    tags = [(12, name), (20, source), (21, destination), (24, struct.pack("!I", 1))]
    tags += [(tag, struct.pack("!I", 2905)) for tag in (25, 26)]
    return b"".join(struct.pack("!HH", tag, len(value)) + value for tag, value in tags) + bytes(4) + payload


# RTSP (RFC 2326) ------------------------------------------------------------------------------------------


def rtsp(requests: Sequence[tuple[str, int, str]]) -> list[bytes]:
    """Each request with the code and the words of its response."""
    lines = []
    for number, (method, code, words) in enumerate(requests, 1):
        sequence = f"CSeq: {number}\r\n\r\n"
        lines.append((True, f"{method} rtsp://media.example.net/one RTSP/1.0\r\n{sequence}".encode()))
        lines.append((False, f"RTSP/1.0 {code} {words}\r\n{sequence}".encode()))
    return segments(554, lines)


# WSP over WDP without a session (WAP-230) -----------------------------------------------------------------


def wsp(replies: Sequence[int]) -> list[bytes]:
    """A Get each, and a Reply with that status."""
    url = b"http://wap.example.net/"
    lines = []
    for number, status in enumerate(replies, 1):
        lines.append((True, bytes([number, 0x40, len(url)]) + url))
        lines.append((False, bytes([number, 0x04, status, 1, 0x83])))  # text/plain
    return datagrams(9200, lines)


# Diameter (RFC 6733) --------------------------------------------------------------------------------------


def _avp(code: int, value: bytes) -> bytes:
    size = 8 + len(value)
    return struct.pack("!IB", code, 0x40) + size.to_bytes(3, "big") + value + b"\0" * (-len(value) % 4)


def diameter(sessions: Sequence[str]) -> list[bytes]:
    """A credit control request and its answer (4 Credit-Control, command 272) for each session."""
    lines = []
    for number, session in enumerate(sessions, 1):
        for request in (True, False):
            avps = _avp(263, session.encode()) + _avp(264, b"client" if request else b"server") + _avp(296, b"net")
            avps += _avp(416, struct.pack("!I", 1)) + _avp(415, struct.pack("!I", number))
            avps += b"" if request else _avp(268, struct.pack("!I", 2001))
            head = b"\1" + (20 + len(avps)).to_bytes(3, "big") + (b"\xc0" if request else b"\x40")
            head += (272).to_bytes(3, "big") + struct.pack("!III", 4, number, 1000 + number)
            lines.append((request, head + avps))
    return segments(3868, lines)


# IEC 61850-9-2 sampled values -----------------------------------------------------------------------------


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


# GSM A interface (3GPP 24.008) and CAMEL (3GPP 29.078) ----------------------------------------------------


def gsm_a(messages: Sequence[bytes]) -> list[bytes]:
    return [exported("gsm_a_dtap", message) for message in messages]


def camel() -> list[bytes]:
    """A call: InitialDP in a Begin, Continue in a Continue, and an End."""
    context = bytes.fromhex("6b1e281c060700118605010101a011600f80020780a109060704000001003204")
    ours, theirs = b"\x48\4\0\0\0\1", b"\x48\4\0\0\0\2"
    # Both ends are unit data of SCCP: called and calling address have subsystem 146, which is CAMEL's.
    begin = ours + context + _ber(0x6C, bytes.fromhex("a10b0201010201003003800101"))
    on = theirs + b"\x49\4\0\0\0\1" + _ber(0x6C, bytes.fromhex("a10602010102011f"))
    end = b"\x49\4\0\0\0\2"
    messages = [(True, 0x62, begin), (False, 0x65, on), (True, 0x64, end)]
    frames = []
    for client, tag, body in messages:
        unit = _ber(tag, body)
        addresses = bytes.fromhex("0242920242 92".replace(" ", ""))
        frames.append(exported("sccp", bytes.fromhex("0900030507") + addresses + bytes([len(unit)]) + unit, client))
    return frames
