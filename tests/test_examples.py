"""The examples of docs/examples that group and join, on both engines: against tshark's fields and known traffic."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from ipaddress import ip_interface
from pathlib import Path

import pytest
from tests import oracle
from tests.command import DATA
from tests.traffic.capturefiles import tcp_frame, write_pcap

import sharkstat
from sharkstat import Registry, Table

EXAMPLES = DATA.parent.parent / "docs" / "examples"
MS = 10**6
SYN, ACK = 2, 16


def on_both(capture: Path, request: str, example: str) -> list[Table]:
    registry = Registry.default([EXAMPLES / example])
    return [sharkstat.run(capture, request, engine=name, registry=registry)[0] for name in ("lua", "packets")]


def test_server_names_by_network() -> None:
    fields = ("tls.handshake.extensions_server_name", "ip.dst")
    hellos = [packet for packet in oracle.fields(DATA / "tls.pcapng", fields) if packet[0]]
    expected = Counter((name[0].lower(), str(ip_interface(f"{to[0]}/24").network)) for name, to in hellos)
    for table in on_both(DATA / "tls.pcapng", "tls,networks", "server_networks.py"):
        assert {(row["server_name"], row["network"]): row["connections"] for row in table} == expected


def test_domains_by_bytes() -> None:
    fields = ("dns.qry.name", "dns.flags.rcode", "frame.len")
    answers = oracle.fields(DATA / "dns.pcapng", fields, "-Y", "dns.flags.response == 1")
    size: Counter[str] = Counter()
    failed: Counter[tuple[str, bool]] = Counter()
    for (name, *_), (code, *_), (length, *_) in answers:
        labels = name.lower().split(".")
        domain = ".".join(
            labels[-3:] if labels[-2:] == ["in-addr", "arpa"] else labels[-2:]
        )  # in-addr.arpa is a suffix
        size[domain] += int(length)
        failed[domain, code == "3"] += 1
    for table in on_both(DATA / "dns.pcapng", "dns,domains", "dns_domains.py"):
        assert {row["domain"]: row["bytes"] for row in table} == size
        assert table["bytes"] == sorted(size.values(), reverse=True)
        for row in table:
            nxdomain, others = (failed[str(row["domain"]), what] for what in (True, False))
            assert (row["answers"], row["nxdomain"]) == (nxdomain + others, nxdomain)
            assert row["nxdomain_percent"] == 100 * (nxdomain / (nxdomain + others))
        assert table.total("nxdomain")


def test_p95_of_dns_by_server() -> None:
    times: defaultdict[str, list[int]] = defaultdict(list)
    for four, six, found in oracle.fields(DATA / "dns.pcapng", ("ip.src", "ipv6.src", "dns.time")):
        if found:
            times[(four or six)[0]] += map(oracle.nanoseconds, found)
    expected = {server: sorted(known)[math.ceil(0.95 * len(known)) - 1] for server, known in times.items()}
    for table in on_both(DATA / "dns.pcapng", "dns,slowest", "dns_slowest.py"):
        assert {row["server"]: row["answers"] for row in table} == {name: len(known) for name, known in times.items()}
        assert {row["server"]: row["p95_time"] for row in table} == pytest.approx(expected, rel=0.0101)
        assert [row["server"] for row in table] == sorted(expected, key=lambda server: -expected[server])


def segment(source: tuple[str, int], target: tuple[str, int], flags: int) -> bytes:
    frame = bytearray(tcp_frame(source, target, b""))
    frame[14 + 20 + 13] = flags
    return bytes(frame)


def test_half_open_handshakes_by_server(tmp_path: Path) -> None:
    """Ten are finished, six never, two too late; what the clients send afterwards changes nothing."""
    server = ("198.51.100.1", 443)
    finished = [*([20] * 10), *([None] * 6), *([4000] * 2)]
    packets = []
    for number, delay in enumerate(finished):
        client = ("192.0.2.1", 40000 + number)
        start = number * 10
        packets += [
            (start * MS, segment(client, server, SYN)),
            ((start + 5) * MS, segment(server, client, SYN | ACK)),
        ]
        if delay:
            packets += [((start + delay + n) * MS, segment(client, server, ACK)) for n in range(3)]
    capture = tmp_path / "half-open.pcap"
    write_pcap(capture, sorted(packets, key=lambda packet: packet[0]))
    for table in on_both(capture, "tcp,half-open", "tcp_half_open.py"):
        [row] = table.rows
        assert [row[name] for name in ("server", "port", "requests")] == ["198.51.100.1", 443, 18]
        assert [row[name] for name in ("answered", "unanswered", "late")] == [10, 6, 2]
    [patient] = on_both(capture, "tcp,half-open,timeout=5s", "tcp_half_open.py")[:1]
    assert [patient.rows[0][name] for name in ("answered", "unanswered", "late")] == [12, 6, 0]
    overview = sharkstat.overview(capture, registry=Registry.default([EXAMPLES / "tcp_half_open.py"]))
    assert any("6 of 18 TCP handshakes are half-open" in str(finding) for finding in overview.findings)
