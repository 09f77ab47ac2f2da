"""Taps on what real traffic seldom holds: packets made by hand, so that what is true is known."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.traffic.capturefiles import tcp_frame, udp_frame, write_pcap

import sharkstat
from sharkstat import Row

MS = 10**6
CLIENT, SERVER = "192.0.2.1", "192.0.2.2"


def rows(tmp_path: Path, packets: Sequence[tuple[int, bytes]], request: str, **options: Any) -> list[Row]:
    write_pcap(tmp_path / "made.pcap", packets)
    return sharkstat.run(tmp_path / "made.pcap", request, **options)[0].rows


# DNS --------------------------------------------------------------------------------------------------


def dns(identifier: int, name: str, *, response: bool = False, question: bool = True, kind: int = 1) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    header = struct.pack("!HHHHHH", identifier, 0x8180 if response else 0x0100, question, 0, 0, 0)
    return header + (labels + struct.pack("!HH", kind, 1) if question else b"")


def dns_packet(time: int, port: int, message: bytes) -> tuple[int, bytes]:
    client, server = (CLIENT, port), (SERVER, 53)
    return time * MS, udp_frame(*((server, client) if message[2] & 0x80 else (client, server)), message)


def test_dns_messages_with_one_number_belong_together_by_name(tmp_path: Path) -> None:
    packets = [
        dns_packet(0, 1025, dns(7, "a.example")),
        dns_packet(100, 1025, dns(7, "b.example")),  # tshark: a retransmission
        dns_packet(150, 1025, dns(7, "b.example")),  # this is one
        dns_packet(160, 1025, dns(7, "b.example", kind=28)),
        dns_packet(200, 1025, dns(7, "B.example", response=True)),  # tshark: the answer to a.example
        dns_packet(300, 1025, dns(7, "a.example", response=True)),
        dns_packet(310, 1025, dns(7, "a.example")),  # answered already: another query
        dns_packet(350, 1025, dns(7, "a.example")),
        dns_packet(400, 1025, dns(7, "c.example", response=True)),  # nobody asked
        dns_packet(500, 1026, dns(8, "slow.example")),
        dns_packet(6500, 1026, dns(8, "late.example")),  # tshark forgets the first after 5 s
        dns_packet(6600, 1026, dns(8, "slow.example", response=True)),
        dns_packet(6700, 1027, dns(9, "short.example")),
        dns_packet(6800, 1027, dns(9, "", response=True, question=False)),
    ]
    measures = ("queries", "retransmissions", "responses", "unanswered", "time")
    found = {
        (row["name"], row["type"], row["response_code"]): tuple(row[measure] for measure in measures)
        for row in rows(tmp_path, packets, "dns,names")
    }
    assert found == {
        ("a.example", "A", "NOERROR"): (1, 0, 1, 0, 300 * MS),
        ("a.example", "A", None): (1, 1, 0, 1, 0),
        ("b.example", "A", "NOERROR"): (1, 1, 1, 0, 100 * MS),
        ("b.example", "AAAA", None): (1, 0, 0, 1, 0),
        ("c.example", "A", "NOERROR"): (0, 0, 1, 0, 0),
        ("slow.example", "A", "NOERROR"): (1, 0, 1, 0, 6100 * MS),
        ("late.example", "A", None): (1, 0, 0, 1, 0),
        ("short.example", "A", "NOERROR"): (1, 0, 1, 0, 100 * MS),
    }


# HTTP and TLS -----------------------------------------------------------------------------------------


def test_ssdp_is_no_request_to_a_web_server(tmp_path: Path) -> None:
    search = b'M-SEARCH * HTTP/1.1\r\nHost: 239.255.255.250:1900\r\nMan: "ssdp:discover"\r\n\r\n'
    found = b"HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\n\r\n"
    page = b"GET /page HTTP/1.1\r\nHost: www.example\r\n\r\n"
    packets = [
        (0, udp_frame((CLIENT, 1900), ("239.255.255.250", 1900), search)),
        (1 * MS, udp_frame((SERVER, 1900), (CLIENT, 1900), found)),
        (2 * MS, tcp_frame((CLIENT, 40000), (SERVER, 80), page)),
    ]
    [row] = rows(tmp_path, packets, "http,requests")
    assert (row["method"], row["path"], row["requests"], row["responses"]) == ("GET", "/page", 1, 0)


def test_a_certificate_without_a_hello_is_no_connection(tmp_path: Path) -> None:
    certificate = bytes.fromhex("1603030007 0b000003 000000")
    packets = [(0, tcp_frame((SERVER, 443), (CLIENT, 40000), certificate))]
    assert rows(tmp_path, packets, "tls,servers") == []


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    length = len(content)
    head = bytes([length]) if length < 128 else b"\x82" + struct.pack("!H", length)
    return bytes([tag]) + head + content


def certificate(name: str, ends: str) -> bytes:
    """As much of an X.509 certificate as has a validity; a UTCTime, or a GeneralizedTime with its longer year."""
    sequence, utc, generalized = 0x30, 0x17, 0x18
    algorithm = der(sequence, bytes.fromhex("06092a864886f70d01010b"), der(5))
    common_name = der(sequence, bytes.fromhex("0603550403"), der(0x0C, name.encode()))
    called = der(sequence, der(0x31, common_name))
    until = der(utc if len(ends) == 13 else generalized, ends.encode())
    validity = der(sequence, der(utc, b"200101000000Z"), until)
    key = der(3, b"\0" + der(sequence, der(2, b"\3"), der(2, b"\3")))
    public = der(sequence, der(sequence, bytes.fromhex("06092a864886f70d010101"), der(5)), key)
    body = der(sequence, der(0xA0, der(2, b"\2")), der(2, b"\1"), algorithm, called, validity, called, public)
    return der(sequence, body, algorithm, der(3, b"\0\1"))


def handshake(*messages: tuple[int, bytes]) -> bytes:
    content = b"".join(bytes([kind]) + struct.pack("!I", len(body))[1:] + body for kind, body in messages)
    return b"\x16\x03\x03" + struct.pack("!H", len(content)) + content


@pytest.mark.parametrize(
    ("ends", "shown"),
    [("300102030405Z", "2030-01-02T03:04:05Z"), ("20550102030405Z", "2055-01-02T03:04:05Z")],
    ids=["UTCTime", "GeneralizedTime"],
)
def test_of_a_chain_the_certificate_of_the_server_counts(tmp_path: Path, ends: str, shown: str) -> None:
    hello = (2, b"\3\3" + bytes(32) + b"\0" + bytes.fromhex("c02f") + b"\0")
    chain = [certificate("server", ends), certificate("issuer", "250101000000Z"), certificate("root", "400101000000Z")]
    listed = b"".join(struct.pack("!I", len(one))[1:] + one for one in chain)
    packets = [
        (0, tcp_frame((SERVER, 443), (CLIENT, 40000), handshake(hello))),
        (
            MS,
            tcp_frame((SERVER, 443), (CLIENT, 40000), handshake((11, struct.pack("!I", len(listed))[1:] + listed)), 49),
        ),
    ]
    [row] = rows(tmp_path, packets, "tls,servers")
    assert (row["version"], row["certificate_expires"]) == ("TLS 1.2", shown)


# RTP --------------------------------------------------------------------------------------------------

CALLER, CALLEE = "192.0.2.30", "192.0.2.20"


def rtp(
    time: float, sequence: int, *, ssrc: int = 1, ports: tuple[int, int] = (20002, 30002), stamp: int | None = None,
    payload_type: int = 0, clock: int = 8000,
) -> tuple[int, bytes]:  # fmt: skip
    stamp = int(time * clock / 1000) if stamp is None else stamp
    header = struct.pack("!BBHII", 0x80, payload_type, sequence % 65536, stamp % 2**32, ssrc)
    return int(time * MS), udp_frame((CALLER, ports[0]), (CALLEE, ports[1]), header + bytes(160))


SEQUENCES = {  # numbers, and how many are expected, lost, double and out of order
    "the first is late": ([1, 0, *range(2, 50)], (50, 0, 0, 1)),
    "the first is three late, beside one that is lost": ([3, 4, 0, 2, *range(5, 50)], (50, 1, 0, 2)),
    "the first is late where numbers wrap": ([65536, 65535, *range(65537, 65577)], (42, 0, 0, 1)),
    "numbers wrap": ([*range(65500, 65570)], (70, 0, 0, 0)),
    "one is lost where they wrap, one late, one double": (
        [*range(65530, 65535), 65537, 65535, *range(65538, 65545), 65544],
        (15, 1, 1, 1),
    ),
    "the sender begins anew far ahead": ([*range(100, 150), *range(40000, 40050)], (100, 0, 0, 0)),
    "the sender begins anew far behind": ([*range(40000, 40050), *range(100, 150)], (100, 0, 0, 0)),
    "a whole second is lost": ([*range(50), *range(100, 150)], (150, 50, 0, 0)),
}
NUMBERS = ("expected", "lost", "duplicates", "out_of_order")


def test_rtp_numbers_are_understood(tmp_path: Path) -> None:
    """A stream each, whose timestamps go with the numbers."""
    names = dict(enumerate(SEQUENCES, 1))
    packets = [
        rtp(20 * at, number, ssrc=ssrc, stamp=160 * number)
        for ssrc, name in names.items()
        for at, number in enumerate(SEQUENCES[name][0])
    ]
    # One begins anew a little behind, with other timestamps; and two senders have one SSRC.
    packets += [rtp(20 * at, at, ssrc=100) for at in range(50)]
    packets += [rtp(1000 + 20 * at, 10 + at, ssrc=100, stamp=777 + 160 * at) for at in range(50)]
    packets += [rtp(20 * at, at, ssrc=200, ports=(20002 + 2 * (at % 2), 30002)) for at in range(100)]
    table = rows(tmp_path, sorted(packets, key=lambda packet: packet[0]), "loss", decode_as=("udp.port==30002,rtp",))
    found = [(int(str(row["ssrc"]), 16), tuple(row[column] for column in NUMBERS)) for row in table]
    assert {names[ssrc]: numbers for ssrc, numbers in found if ssrc in names} == {
        name: numbers for name, (_, numbers) in SEQUENCES.items()
    }
    assert sorted(numbers for numbers in found if numbers[0] not in names) == [
        (100, (100, 0, 0, 0)),
        (200, (99, 49, 0, 0)),
        (200, (99, 49, 0, 0)),
    ]


def description(address: str, *media: str) -> bytes:
    lines = ["v=0", f"o=- 1 1 IN IP4 {address}", "s=-", f"c=IN IP4 {address}", "t=0 0", *media]
    return "".join(line + "\r\n" for line in lines).encode()


def invite(time: int, call: int, body: bytes) -> tuple[int, bytes]:
    head = (
        f"INVITE sip:b@{CALLEE} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER}:5060;branch=z9hG4bK{call}\r\n"
        f"From: <sip:a@{CALLER}>;tag={call}\r\nTo: <sip:b@{CALLEE}>\r\nCall-ID: {call}\r\n"
        f"CSeq: 1 INVITE\r\nMax-Forwards: 70\r\nContent-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    # The one who answers a call describes where it receives.
    return time * MS, udp_frame((CALLEE, 5060), (CALLER, 5060), head.encode() + body)


def test_the_clock_of_a_stream_is_that_of_its_own_call(tmp_path: Path) -> None:
    """Three streams of one payload type whose packets come evenly: with the right clock there is no jitter."""
    packets = [
        invite(0, 1, description(CALLEE, "m=audio 30002 RTP/AVP 97", "a=rtpmap:97 L16/16000")),
        invite(1, 2, description(CALLEE, "m=audio 30004 RTP/AVP 97", "a=rtpmap:97 opus/48000/2",
                                 "m=video 30006 RTP/AVP 97", "a=rtpmap:97 H264/90000")),
        invite(2, 3, description("198.51.100.9", "m=audio 30008 RTP/AVP 97", "a=rtpmap:97 G7221/32000")),
    ]  # fmt: skip
    clocks = {30002: 16000, 30004: 48000, 30006: 90000, 30008: 32000}
    for port, clock in clocks.items():
        packets += [
            rtp(100 + 20 * at, at, ssrc=clock, ports=(port, port), payload_type=97, clock=clock) for at in range(20)
        ]
    # Nobody described these, and the calls do not agree on the type.
    packets += [rtp(100 + 20 * at, at, ssrc=7, ports=(40000, 40000), payload_type=97) for at in range(20)]
    decode_as = tuple(f"udp.port=={port},rtp" for port in (*clocks, 40000))
    found = rows(tmp_path, sorted(packets), "loss", decode_as=decode_as)
    jitter = {int(str(row["ssrc"]), 16): (row["jitters"], row["max_jitter"]) for row in found}
    assert jitter == {7: (0, None)} | dict.fromkeys(clocks.values(), (19, 0))
