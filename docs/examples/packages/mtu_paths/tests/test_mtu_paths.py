"""mtu,paths on real fragments, and on the message of a router."""

import struct
from ipaddress import ip_address
from pathlib import Path

from sharkstat.testing import Check, Run

# Datagrams of 8,000 bytes and small ones, both ways, over IPv4 and IPv6; only the headers were kept.
FRAGMENTS = Path(__file__).with_name("fragments.pcapng")


def test_fragments_and_largest_packets_are_told(sharkstat_run: Run) -> None:
    rows = {(row["source"], row["destination"]): row for row in sharkstat_run(FRAGMENTS, "mtu,paths")}
    for hosts in (("192.0.2.10", "192.0.2.20"), ("2001:db8::10", "2001:db8::20")):
        for path in (hosts, hosts[::-1]):
            assert (rows[path]["fragments"], rows[path]["too_big"], rows[path]["mtu"]) == (12, 0, None)
    assert rows["192.0.2.10", "192.0.2.20"]["largest"] == 1500


def ipv4(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    ends = ip_address(source).packed + ip_address(destination).packed
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, 0) + ends + payload


def test_a_router_that_found_a_packet_too_big_names_the_path(tmp_path: Path, sharkstat_run: Run) -> None:
    sent = ipv4("192.0.2.10", "198.51.100.7", 17, struct.pack("!HHHH", 1000, 2000, 1480, 0))
    message = struct.pack("!BBHHH", 3, 4, 0, 0, 1280) + sent
    frame = bytes(12) + b"\x08\x00" + ipv4("192.0.2.1", "192.0.2.10", 1, message)
    head = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    capture = tmp_path / "too-big.pcap"
    capture.write_bytes(head + struct.pack("=IIII", 1, 0, len(frame), len(frame)) + frame)
    blocked, router = sharkstat_run(capture, "mtu,paths").rows
    assert (blocked["source"], blocked["destination"]) == ("192.0.2.10", "198.51.100.7")
    assert (blocked["packets"], blocked["too_big"], blocked["mtu"]) == (0, 1, 1280)
    assert (router["packets"], router["too_big"], router["whole_only"]) == (1, 0, 1)


def test_it_keeps_what_a_statistic_promises(
    assert_balanced: Check, assert_merges: Check, assert_survives: Check
) -> None:
    assert_balanced(FRAGMENTS, "mtu,paths", display_filter="ip || ipv6", bytes="")
    assert_merges(FRAGMENTS, "mtu,paths")
    assert_survives(FRAGMENTS, "mtu,paths")
