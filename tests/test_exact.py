"""Numbers that are easily wrong in silence: beyond a double or a bound, without a time, in fragments and VLANs.

Every capture is made here, so that the truth is known without the code that counts.
"""

from __future__ import annotations

import ipaddress
import json
import math
import os
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tests import oracle
from tests.command import DATA
from tests.measure import engines
from tests.traffic.capturefiles import SECOND, tcp_frame, udp_frame

import sharkstat
from sharkstat import MergeError, Table

START = 1_600_000_000 * SECOND
DAY = 86_400 * SECOND
CLIENT, SERVER = "192.0.2.10", "192.0.2.20"
SYN, ACK, SYN_ACK, FIN_ACK = 0x02, 0x10, 0x12, 0x11


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as name:
        yield Path(name)


def nanosecond_pcap(path: Path, packets: Sequence[tuple[int, bytes]]) -> Path:
    out = bytearray(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
    for time, frame in packets:
        out += struct.pack("<IIII", *divmod(time, SECOND), len(frame), len(frame)) + frame
    path.write_bytes(out)
    return path


def pcapng(path: Path, blocks: Sequence[tuple[int | None, bytes]]) -> Path:
    """Each packet with a time in nanoseconds, or in a Simple Packet Block, which has none."""

    def block(kind: int, body: bytes) -> bytes:
        length = struct.pack("<I", len(body) + 12)
        return struct.pack("<I", kind) + length + body + length

    out = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    out += block(1, struct.pack("<HHI", 1, 0, 262144) + struct.pack("<HHB3xHH", 9, 1, 9, 0, 0))
    for time, frame in blocks:
        padded = frame + b"\0" * (-len(frame) % 4)
        if time is None:
            out += block(3, struct.pack("<I", len(frame)) + padded)
        else:
            out += block(6, struct.pack("<IIIII", 0, time >> 32, time & 0xFFFFFFFF, len(frame), len(frame)) + padded)
    path.write_bytes(out)
    return path


def segment(forward: bool, port: int, flags: int, sequence: int, acknowledged: int, payload: bytes = b"") -> bytes:
    source, target = ((CLIENT, port), (SERVER, 80)) if forward else ((SERVER, 80), (CLIENT, port))
    frame = bytearray(tcp_frame(source, target, payload, sequence, acknowledged))
    frame[47] = flags
    return bytes(frame)


def handshake(time: int, port: int, wait: int) -> list[tuple[int, bytes]]:
    return [
        (time, segment(True, port, SYN, 100, 0)),
        (time + wait, segment(False, port, SYN_ACK, 500, 101)),
        (time + 2 * wait, segment(True, port, ACK, 101, 501)),
    ]


def in_vlan(vlan: int, frame: bytes) -> bytes:
    return frame[:12] + struct.pack("!HH", 0x8100, vlan) + frame[12:]


def dns(identification: int, answered: bool, name: bytes = b"a") -> bytes:
    question = bytes([len(name)]) + name + b"\x07example\0" + struct.pack("!HH", 1, 1)
    header = struct.pack("!HHHHHH", identification, 0x8180 if answered else 0x0100, 1, 0, 0, 0)
    client, server = (CLIENT, 40000 + identification), (SERVER, 53)
    source, target = (server, client) if answered else (client, server)
    return udp_frame(source, target, header + question)


def response(number: int, length: int) -> bytes:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: %020d\r\n\r\n" % length
    return tcp_frame((SERVER, 80), (CLIENT, 40000), text, 1 + number * len(text))


def same_on_both(path: Path, requests: list[str], **options: Any) -> list[Table]:
    lua, packets = engines(path, requests, **options)
    for one, other in zip(lua, packets, strict=True):
        assert one.rows == other.rows, one.request
    return lua


def test_sums_of_64_bits_are_exact(folder: Path) -> None:
    """As are those of nothing but zeros, and both are the same on both engines."""
    lengths = [0, 2**53 + 1, 2**63 - 1, 2**63 - 1, 2**63 - 1]
    frames = [(START + n * SECOND, response(n, length)) for n, length in enumerate(lengths)]
    path = nanosecond_pcap(folder / "wide.pcap", frames)
    field = "http.content_length"
    counted, io, zeros = same_on_both(
        path,
        [
            f"group,by=ip.proto,sum={field},mean={field},min={field},max={field}",
            f"io,stat,0,SUM({field}),AVG({field}),MIN({field}),MAX({field})",
            f"group,by={field},sum={field},mean={field}",
        ],
        preferences=("http.desegment_body:FALSE",),
    )
    [row] = counted.rows
    assert row["http_content_length_sum"] == row["http_content_length_mean_sum"] == sum(lengths)
    assert (row["http_content_length_min"], row["http_content_length_max"]) == (0, 2**63 - 1)
    assert sum(lengths) in io.rows[0].values() and 2**63 - 1 in io.rows[0].values()
    assert {row["http_content_length"]: row["http_content_length_sum"] for row in zeros} == {
        length: length * lengths.count(length) for length in lengths
    }


def test_durations_beyond_a_double_are_exact(folder: Path) -> None:
    """Connections of 40 and of 400 days, the last a nanosecond longer than a double tells."""
    long = [(0, 40 * DAY + 1), (1000, 40 * DAY + 3), (2000, 400 * DAY + 7), (3000, 400 * DAY + 9)]
    frames = []
    for port, (begin, duration) in enumerate(long, 40000):
        frames += handshake(START + begin, port, 1)
        frames.append((START + begin + duration, segment(True, port, FIN_ACK, 101, 501)))
    path = nanosecond_pcap(folder / "long.pcap", sorted(frames, key=lambda packet: packet[0]))
    servers, health, conversations = sharkstat.run(path, ["tcp,servers", "tcp,health", "conv,tcp"])
    total = sum(duration for _, duration in long)
    assert servers["duration"] == [total] and total > 2**53
    assert sorted(health["duration"]) == sorted(conversations["duration"]) == [duration for _, duration in long]  # type: ignore[type-var]
    assert servers["mean_handshake"] == servers["max_handshake"] == [2]


def test_response_times_far_from_the_first_packet_are_exact(folder: Path) -> None:
    far = START + 12 * 365 * DAY
    frames = [(START, dns(1, False)), (START + 1, dns(1, True)), (far, dns(2, False)), (far + 6_000_002, dns(2, True))]
    path = nanosecond_pcap(folder / "far.pcap", frames)
    names, latency = sharkstat.run(path, ["dns,names", "latency"])
    assert names["time"] == latency["total_time"] == [6_000_003]
    assert names["max_time"] == latency["max_time"] == [6_000_002]


@pytest.mark.parametrize("timeless", [(1,), (0, 1), (3,), (0, 1, 2, 3)])
def test_a_packet_without_a_time_is_counted_when_the_one_before_it_came(
    folder: Path, timeless: tuple[int, ...]
) -> None:
    frames = [udp_frame((CLIENT, 40000), (SERVER, 9), b"x" * n) for n in (30, 40, 50, 60)]
    times = [None if n in timeless else START + n * SECOND for n in range(4)]
    path = pcapng(folder / f"timeless-{len(timeless)}-{timeless[0]}.pcapng", list(zip(times, frames, strict=True)))
    requests = ["io,stat,1", "group,every=1s,count,seen", "conv,ip"]
    io, groups, conversations = same_on_both(path, requests)
    known = [time for time in times if time is not None]
    assert conversations["packets"] == [4] and io.total("frames") == 4 and groups.total("packets") == 4
    assert io.reading.timeless == len(timeless) and "no timestamp" in " ".join(io.warnings)
    # Before there is any time, it is the first one.
    if known:
        counted = {next((t for t in times[n::-1] if t is not None), known[0]) for n in range(4)}
        assert conversations["start"] == [known[0]] and conversations["stop"] == [known[-1]]
        assert groups["time"] == sorted(counted) and io.reading.start == known[0]
    else:
        assert conversations["start"] == [None] and groups["first_seen"] == [None]


def test_damaged_times_are_the_same_on_both_engines(folder: Path) -> None:
    """More than a second of microseconds, and none at all: the file says it, so it is counted."""
    frame = udp_frame((CLIENT, 40000), (SERVER, 9), b"x")
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    for seconds, microseconds in ((1_600_000_000, 500_000), (2_147_483_647, 1_500_000), (1_600_000_010, 2**32 - 1)):
        out += struct.pack("<IIII", seconds, microseconds, len(frame), len(frame)) + frame
    path = folder / "microseconds.pcap"
    path.write_bytes(out)
    requests = ["io,stat,1", "group,every=1s,seen,min=frame.time_relative,sum=frame.time_relative", "conv,ip"]
    _, groups, conversations = same_on_both(path, requests)
    assert conversations["stop"] == [2_147_483_648 * SECOND + SECOND // 2]
    assert groups["last_seen"][0] == START + SECOND // 2


def test_max_bounds_rows_and_changes_no_number(folder: Path) -> None:
    """Not even where many requests wait at a time, or a filter shows connections out of their order."""
    asked = [(START + n * 1000, dns(n, False, bytes([97 + n % 4]))) for n in range(40)]
    answered = [(START + SECOND + n * 1000, dns(n, True, bytes([97 + n % 4]))) for n in range(40)]
    path = nanosecond_pcap(folder / "waiting.pcap", asked + answered)
    whole, bounded = sharkstat.run(path, ["dns,names", "dns,names,max=1"])
    assert whole["queries"] == [10] * 4 and whole.total("unanswered") == 0
    for column in ("queries", "responses", "unanswered", "timed", "time"):
        assert bounded.total(column) == whole.total(column), column
    frames = []
    for port in range(40000, 40010):
        frames += handshake(START + port * 1_000_000, port, 1000)
    last = START + 50_000 * 1_000_000
    # The FINs come in the opposite order, twice.
    frames += [(last + n, segment(True, 40009 - n % 10, FIN_ACK, 101, 501)) for n in range(20)]
    path = nanosecond_pcap(folder / "fins.pcap", frames)
    requests = [
        f"{name}{most},tcp.flags.fin == 1" for name in ("tcp,servers", "tcp,connections") for most in ("", ",max=0")
    ]
    for table in sharkstat.run(path, [*requests, "tcp,health,max=3,tcp.flags.fin == 1"]):
        assert table.total("packets") == 20
        if table.name != "tcp,health":
            assert table["connections"] == [10], table.request


def ipv6(kind: int, payload: bytes, source: str = "2001:db8::1", target: str = "2001:db8::2") -> bytes:
    ends = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address(target).packed
    return struct.pack("!IHBB", 0x60000000, len(payload), kind, 64) + ends + payload


def test_every_fragment_of_ipv6_is_counted(folder: Path) -> None:
    """In a tunnel too, and once where an ICMP error quotes it; tshark's own counts the last alone."""
    ethernet = bytes.fromhex("02000000010202000000010186dd")
    datagram = struct.pack("!HHHH", 4000, 9, 3000, 0) + b"x" * 2992
    pieces = [datagram[at : at + 1000] for at in range(0, 3000, 1000)]
    fragments = [struct.pack("!BBHI", 17, 0, at * 1000 | (at < 2), 7) + piece for at, piece in enumerate(pieces)]
    frames = [ethernet + ipv6(44, fragment) for fragment in fragments]
    frames += [ethernet + ipv6(41, ipv6(44, f), "2001:db8:5::1", "2001:db8:5::2") for f in fragments]
    quoted = ipv6(58, struct.pack("!BBHI", 3, 0, 0, 0) + ipv6(44, fragments[0])[:200], "2001:db8::9", "2001:db8::1")
    frames.append(ethernet + quoted)
    path = nanosecond_pcap(folder / "fragments.pcap", [(START + n, frame) for n, frame in enumerate(frames)])
    conversations, endpoints = same_on_both(path, ["conv,ipv6", "endpoints,ipv6"])
    assert {(row["address_a"], row["address_b"]): row["packets"] for row in conversations} == {
        ("2001:db8::1", "2001:db8::2"): 6,
        ("2001:db8:5::1", "2001:db8:5::2"): 3,
        ("2001:db8::9", "2001:db8::1"): 1,
    }
    assert endpoints.where(address="2001:db8::1")["packets"] == [7]
    [made] = sharkstat.run(DATA / "fragments.pcapng", "conv,ipv6")
    assert made.total("packets") == len(oracle.fields(DATA / "fragments.pcapng", ["ipv6.src"], "-Y", "ipv6"))


def ipv4(kind: int, payload: bytes, source: str, target: str) -> bytes:
    ends = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(target).packed
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, kind, 0) + ends + payload


def test_an_icmp_error_in_a_tunnel_is_reported_by_who_sent_it(folder: Path) -> None:
    """Not by the tunnel's end; and of a tunnel that is quoted, the outermost header is the packet."""
    ethernet = bytes.fromhex("020000000102020000000101")
    udp = struct.pack("!HHHH", 4000, 53, 16, 0) + bytes(8)
    no_route = struct.pack("!BBHI", 1, 0, 0, 0) + ipv6(17, udp)
    in_6in4 = ipv4(41, ipv6(58, no_route, "2001:db8:5::fe", "2001:db8::1"), "192.0.2.1", "192.0.2.2")
    unreachable = struct.pack("!BBHI", 3, 3, 0, 0) + ipv4(17, udp, "10.0.0.1", "10.0.0.9")
    in_gre = ipv4(47, b"\0\0\x08\0" + ipv4(1, unreachable, "10.7.7.7", "10.0.0.1"), "192.0.2.1", "192.0.2.2")
    tunnel = ipv4(41, ipv6(17, udp), "192.0.2.2", "192.0.2.5")
    of_tunnel = ipv4(1, struct.pack("!BBHI", 3, 1, 0, 0) + tunnel, "192.0.2.9", "192.0.2.2")
    frames = [(START + n, ethernet + b"\x08\0" + frame) for n, frame in enumerate((in_6in4, in_gre, of_tunnel))]
    [table] = same_on_both(nanosecond_pcap(folder / "icmp.pcap", frames), ["icmp,errors"])
    names = ("reporter", "error", "sender", "destination", "udp_port")
    assert {tuple(row[name] for name in names) for row in table} == {
        ("2001:db8:5::fe", "no route", "2001:db8::1", "2001:db8::2", 53),
        ("10.7.7.7", "port unreachable", "10.0.0.1", "10.0.0.9", 53),
        ("192.0.2.9", "host unreachable", "192.0.2.2", "192.0.2.5", 53),
    }


def in_tunnel(port: int, header: bytes, frame: bytes) -> bytes:
    return udp_frame(("198.51.100.1", 55555), ("198.51.100.2", port), header + frame)


NETWORKS: dict[str, Callable[[int, bytes], bytes]] = {
    "vlan": in_vlan,
    "qinq": lambda number, frame: in_vlan(number, in_vlan(7, frame)),
    "vxlan": lambda number, frame: in_tunnel(4789, struct.pack("!II", 0x08000000, number << 8), frame),
    "geneve": lambda number, frame: in_tunnel(6081, struct.pack("!BBHI", 0, 0, 0x6558, number << 8), frame),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_connections_of_two_networks_are_two(folder: Path, kind: str) -> None:
    """The same addresses, ports and sequence numbers in two VLANs, or tunnels."""
    frames = []
    for number, begin in ((10, START), (20, START + 5_000_000)):
        packets = handshake(begin, 40123, 10_000_000)
        get = f"GET /{number} HTTP/1.1\r\nHost: a.example\r\n\r\n".encode()
        answer = segment(False, 40123, 0x18, 501, 101 + len(get), b"HTTP/1.1 204 No Content\r\n\r\n")
        packets += [(begin + 40_000_000, segment(True, 40123, 0x18, 101, 501, get)), (begin + 90_000_000, answer)]
        packets.append((begin + SECOND, dns(7, False)))
        if number == 20:
            packets.append((begin + 3 * SECOND, dns(7, True)))
        frames += [(time, NETWORKS[kind](number, frame)) for time, frame in packets]
    path = nanosecond_pcap(folder / f"{kind}.pcap", sorted(frames, key=lambda packet: packet[0]))
    asked = ["tcp,connections", "tcp,health", "dns,names", "conv,tcp", "http,requests", "group,by=http.host", "conv,ip"]
    asked += ["services", "traffic"]
    connections, health, names, conv, http, group, plain, services, traffic = sharkstat.run(path, asked)
    assert services.rows == sharkstat.run(path, "services", engine="packets")[0].rows
    assert traffic.total("connections") == services.total("connections") == 4
    assert not any(traffic["retransmitted"]) and traffic.total("packets") == services.total("packets") == len(frames)
    assert connections["connections"] == connections["established"] == [2]
    assert health["packets"] == [5, 5] and health.total("retransmissions") == 0
    assert health["handshake_time"] == [20_000_000, 20_000_000]
    columns = ("queries", "retransmissions", "unanswered", "max_time")
    assert {tuple(row[column] for column in columns) for row in names} == {(1, 0, 1, None), (1, 0, 0, 2 * SECOND)}
    for table in (connections, health, conv, http, group, services, traffic):
        assert any("several VLANs" in text for text in table.warnings), table.request
    assert not any("VLAN" in text for text in (*names.warnings, *plain.warnings))


def test_the_way_back_may_be_in_another_vlan(folder: Path) -> None:
    sent = [packet for n, packet in enumerate(handshake(START, 40123, 10_000_000)) if n != 1]
    back = [
        (time + 10_000_000, segment(False, 40123, flags, 500 + n, 101))
        for n, (time, flags) in enumerate(((START, SYN_ACK), (START + SECOND, ACK)))
    ]
    for vlan in (10, None):
        tagged = [(time, in_vlan(vlan, frame) if vlan else frame) for time, frame in sent]
        tagged += [(time, in_vlan(20, frame)) for time, frame in back]
        path = nanosecond_pcap(folder / "asymmetric.pcap", sorted(tagged))
        connections, conv, services = sharkstat.run(path, ["tcp,connections", "conv,tcp", "services"])
        assert connections["established"] == services["connections"] == [1] and conv["packets"] == [4]
        assert services.rows == sharkstat.run(path, "services", engine="packets")[0].rows
        assert connections.warnings == conv.warnings == []


def ethernet(kind: int, payload: bytes) -> bytes:
    return dns(1, False)[:12] + struct.pack("!H", kind) + payload


def in_gre(header: bytes, frame: bytes) -> bytes:
    outer = bytearray(udp_frame(("198.51.100.1", 1), ("198.51.100.2", 2), (header + frame)[8:]))
    outer[23], outer[24:26] = 47, b"\0\0"
    return bytes(outer[:34]) + header + frame


# Each names a network in its own way; none of them has another's fields.
OTHER_NETWORKS: dict[str, Callable[[int, bytes], bytes]] = {
    "vlan": in_vlan,
    "gre": lambda number, frame: in_gre(struct.pack("!HHI", 0x2000, 0x0800, number), frame[14:]),
    "mpls": lambda number, frame: ethernet(0x8847, struct.pack("!I", number << 12 | 0x100 | 64) + frame[14:]),
    "mpls-stack": lambda number, frame: ethernet(
        0x8847, struct.pack("!II", 77 << 12 | 64, number << 12 | 0x100 | 64) + frame[14:]
    ),
    "pppoe": lambda number, frame: ethernet(
        0x8864, struct.pack("!BBHHH", 0x11, 0, number, len(frame) - 12, 0x21) + frame[14:]
    ),
    "gtp": lambda number, frame: in_tunnel(2152, struct.pack("!BBHI", 0x30, 255, len(frame) - 14, number), frame[14:]),
    "l2tp": lambda number, frame: in_tunnel(1701, struct.pack("!HHH", 2, 5, number) + b"\xff\x03\x00\x21", frame[14:]),
    "nsh": lambda number, frame: ethernet(0x894F, struct.pack("!HBBI16x", 0x0FC6, 1, 3, number << 8 | 255) + frame),
    "erspan": lambda number, frame: in_gre(struct.pack("!HHIHHI", 0x1000, 0x88BE, 1, 0x1000 | number, 1, 0), frame),
    "802.1ad": lambda number, frame: ethernet(0x88A8, struct.pack("!HHHH", number, 0x8100, 7, 0x0800) + frame[14:]),
    "802.1ad-twice": lambda number, frame: ethernet(
        0x88A8, struct.pack("!HHHH", 7, 0x88A8, number, 0x0800) + frame[14:]
    ),
    "pbb": lambda number, frame: ethernet(0x88E7, struct.pack("!I", number) + frame),
    "lisp": lambda number, frame: in_tunnel(4341, struct.pack("!II", 0x08000000, number << 8 | 1), frame[14:]),
    "without": lambda number, frame: frame,
    "priority": lambda number, frame: in_vlan(0, frame),
}


def test_connections_inside_and_outside_of_networks(folder: Path) -> None:
    """Of each kind two in two networks, and one in a network beside one in none: all told apart, or said.

    A tag with a priority alone names no network: there the second is the first again.
    """
    frames, expected = [], 0
    for n, (kind, wrap) in enumerate(OTHER_NETWORKS.items()):
        again = kind in ("without", "priority")
        for m, others in enumerate(
            [(wrap, wrap), (OTHER_NETWORKS["without"], wrap), (wrap, OTHER_NETWORKS["without"])]
        ):
            expected += 1 if again else 2
            for number, network in zip((10, 20), others, strict=True):
                begin = START + (3 * n + m) * SECOND + number * 500_000
                packets = handshake(begin, 41000 + 3 * n + m, 10_000_000)
                frames += [(time, network(number, frame)) for time, frame in packets]
    path = nanosecond_pcap(folder / "kinds.pcap", sorted(frames))
    asked = ["tcp,connections", "tcp,health", "services", "conv,tcp", "http,requests", "conv,ip"]
    tables = sharkstat.run(path, asked)
    connections, health, services, conv, http, plain = tables
    assert connections.total("connections") == services.total("connections") == expected
    assert {row["packets"] for row in health} == {3, 6} and health["packets"].count(3) == expected - 6
    assert [row["retransmissions"] for row in health if row["packets"] == 3] == [0] * (expected - 6)
    assert conv["packets"] == [6] * 3 * len(OTHER_NETWORKS)
    mixed = f"({3 * (len(OTHER_NETWORKS) - 2)} TCP streams)"
    for table in tables[:-1]:
        assert [mixed in text for text in table.warnings if "virtual networks" in text] == [True], table.request
    assert conv.complete and not http.complete and plain.complete
    assert not any("virtual networks" in text for text in plain.warnings)
    # So it is from a pipe, in two passes, on packets and in tshark's own text.
    pipe = folder / "kinds.fifo"
    os.mkfifo(pipe)
    threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes())).start()
    assert [table.rows for table in sharkstat.run(pipe, asked)] == [table.rows for table in tables]
    assert [table.rows for table in sharkstat.run(path, asked, jobs=2)] == [table.rows for table in tables]
    (counted,) = sharkstat.run(path, "services", engine="packets")
    assert (counted.rows, counted.complete, counted.warnings) == (services.rows, True, services.warnings)
    for table in sharkstat.run(path, ["conv,tcp", "expert"], engine="tshark"):
        assert any(mixed in text for text in table.warnings), table.request


def arp(address: str, mac: int) -> bytes:
    """An announcement of the address by that MAC address."""
    own, ip = mac.to_bytes(6, "big"), ipaddress.IPv4Address(address).packed
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + own + ip + bytes(6) + ip
    return b"\xff" * 6 + own + b"\x08\x06" + body


def dhcp_ack(lease: int) -> bytes:
    server, given = ipaddress.IPv4Address(SERVER).packed, ipaddress.IPv4Address("192.0.2.77").packed
    options = b"\x35\x01\x05" + b"\x33\x04" + struct.pack("!I", lease) + b"\x36\x04" + server + b"\xff"
    head = struct.pack("!BBBBIHH", 2, 1, 6, 0, 7, 0, 0) + bytes(4) + given + bytes(8) + (7).to_bytes(6, "big")
    return udp_frame((SERVER, 67), ("255.255.255.255", 68), head + bytes(202) + b"\x63\x82\x53\x63" + options)


def test_a_merged_table_is_the_whole_or_refused(folder: Path) -> None:
    def capture(name: str, *packets: tuple[int, bytes]) -> Path:
        return nanosecond_pcap(folder / f"merge-{name}.pcap", [(START + time, frame) for time, frame in packets])

    def refused(one: Path, other: Path, request: str) -> str:
        with pytest.raises(MergeError) as problem:
            Table.merge([sharkstat.run(path, request)[0] for path in (one, other)])
        return str(problem.value)

    def merged(one: Path, other: Path, request: str) -> Table:
        [whole] = sharkstat.run([one, other], request)
        table = Table.merge([sharkstat.run(path, request)[0] for path in (one, other)])
        unknown = {column.name for column in whole.columns if column.merge == "none"}
        assert [{k: v for k, v in row.items() if k not in unknown} for row in table] == [
            {k: v for k, v in row.items() if k not in unknown} for row in whole
        ]
        return table

    # What is last by time, whatever the order of the tables.
    early, late = capture("early", (0, dhcp_ack(100))), capture("late", (SECOND, dhcp_ack(200)))
    assert merged(late, early, "dhcp,leases")["lease_time"] == [200 * SECOND]
    around = capture("around", (-SECOND, dhcp_ack(300)), (2 * SECOND, dhcp_ack(300)))
    assert "overlap in time" in refused(around, early, "dhcp,leases")
    # Intervals that begin together, and others.
    talk = udp_frame((CLIENT, 40000), (SERVER, 9), b"x")
    first, second = capture("first", (0, talk), (15 * SECOND, talk)), capture("second", (10 * SECOND, talk))
    assert len(merged(first, second, "talkers,every=10s")) == 4
    assert "intervals are not aligned" in refused(first, capture("third", (7 * SECOND, talk)), "talkers,every=10s")
    # Rows beyond a bound, in one of them or in both together.
    hosts = [udp_frame((f"192.0.2.{n}", 40000), (SERVER, 9), b"x") for n in range(30, 40)]
    many, few = capture("many", *enumerate(hosts)), capture("few", *enumerate(hosts[:2], 20))
    assert "max=" in refused(many, few, "talkers,max=5")
    assert "max=11" in refused(capture("other", (30, talk)), many, "talkers,max=11")
    assert len(merged(many, few, "talkers,max=11")) == 11
    # Sets beyond theirs.
    ones = capture("macs", *((n, arp("192.0.2.1", 0x020000000100 + n)) for n in range(60)))
    others = capture("more", *((1000 + n, arp("192.0.2.1", 0x020000000200 + n)) for n in range(60)))
    some = capture("some", *((1000 + n, arp("192.0.2.1", 0x020000000200 + n)) for n in range(40)))
    assert "macs" in refused(ones, others, "arp,hosts")
    assert len(merged(ones, some, "arp,hosts")["macs"][0]) == 100  # type: ignore[arg-type]
    [full] = sharkstat.run([ones, others], "arp,hosts")
    assert full.capped and len(full["macs"][0]) == 100  # type: ignore[arg-type]
    again = Table.from_json(json.loads("".join(full.to_json()))["tables"][0])
    assert again.capped


def gauges(*values: float) -> bytes:
    """What collectd sends: one part with these values."""
    count = len(values)
    part = struct.pack("!HHH", 6, 6 + 9 * count, count) + b"\x01" * count
    return udp_frame((CLIENT, 40000), (SERVER, 25826), part + b"".join(struct.pack("<d", value) for value in values))


def test_what_is_not_a_number_is_no_value(folder: Path) -> None:
    gauge, nan = "collectd.val.gauge", math.nan
    sent = [(2.5,), (nan,), (nan, 1.5), (2.5, nan), (nan, nan)]
    frames = [(START + n, gauges(*values)) for n, values in enumerate(sent)]
    path = nanosecond_pcap(folder / "gauges.pcap", frames)
    measured = f"count={gauge},sum={gauge},mean={gauge},min={gauge},max={gauge},distinct={gauge}"
    keyed, whole = same_on_both(path, [f"group,by={gauge}", f"group,by=ip.proto,{measured}"])
    assert {row["collectd_val_gauge"]: row["packets"] for row in keyed} == {2.5: 2, None: 2, 1.5: 1}
    [row] = whole.rows
    assert [row[f"collectd_val_gauge{ending}"] for ending in ("_sum", "_min", "_max")] == [6.5, 1.5, 2.5]
    assert (row["collectd_val_gauge_mean_count"], row["collectd_val_gauge_distinct"]) == (3, 2)


def test_a_level_is_split_at_any_character(folder: Path) -> None:
    """A letter behind % is a class of Lua's."""
    frames = [(START + n, dns(n, False, name)) for n, name in enumerate((b"banana", b"cab"))]
    path = nanosecond_pcap(folder / "names.pcap", frames)
    letters, others = same_on_both(path, ["group,tree=dns.qry.name:splita", "group,tree=dns.qry.name:splitw"])
    assert {row["path"] for row in letters if len(row["path"]) == 1} == {("b",), ("c",)}  # type: ignore[arg-type]
    assert {row["path"] for row in others} == {("banana.example",), ("cab.example",)}
