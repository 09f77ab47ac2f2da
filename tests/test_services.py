"""services against connections that were made by hand, and on every capture: no packet is lost, and engines agree."""

from __future__ import annotations

import ipaddress
import json
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests import oracle
from tests.measure import DATA, corpus_captures, data_captures
from tests.test_books import assert_services_balance
from tests.traffic.capturefiles import SECOND, checksum, udp_frame, write_pcap

import sharkstat
from sharkstat import Table, Value

CLIENT, SERVER = "10.0.0.1", "10.0.0.80"
SYN, ACK, RST = 0x02, 0x10, 0x04


def tcp_frame(
    source: tuple[str, int], target: tuple[str, int], flags: int, payload: bytes = b"", seq: int = 1
) -> bytes:
    addresses = ipaddress.IPv4Address(source[0]).packed + ipaddress.IPv4Address(target[0]).packed
    segment = struct.pack("!HHIIBBHHH", source[1], target[1], seq, 1, 0x50, flags, 65535, 0, 0) + payload
    pseudo = addresses + struct.pack("!BBH", 0, 6, len(segment))
    segment = segment[:16] + struct.pack("!H", checksum(pseudo + segment)) + segment[18:]
    return ip_frame(addresses, 6, segment)


def ip_frame(addresses: bytes, protocol: int, body: bytes, offset: int = 0, number: int = 7) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), number, offset, 64, protocol, 0) + addresses
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return bytes.fromhex("020000000102020000000101") + b"\x08\x00" + header + body


def dns_answer(name: str, alias: str, address: str) -> bytes:
    """An answer for `name`, which is an alias of `alias`, which has the address."""

    def labels(text: str) -> bytes:
        return b"".join(bytes([len(part)]) + part.encode() for part in text.split(".")) + b"\0"

    records = labels(name) + struct.pack("!HHIH", 5, 1, 60, len(labels(alias))) + labels(alias)
    records += labels(alias) + struct.pack("!HHIH", 1, 1, 60, 4) + ipaddress.IPv4Address(address).packed
    return struct.pack("!6H", 1, 0x8180, 1, 2, 0, 0) + labels(name) + struct.pack("!HH", 1, 1) + records


def made() -> list[bytes]:
    """Frames of services of every kind, one after the other."""
    frames = []
    # Twenty clients of a port above all of theirs, or below: only the SYN tells. One was there before the capture.
    for port in (*range(33000, 33010), *range(60000, 60010)):
        frames += [
            tcp_frame((CLIENT, port), (SERVER, 50051), SYN),
            tcp_frame((SERVER, 50051), (CLIENT, port), SYN | ACK),
        ]
    frames += [tcp_frame((SERVER, 50051), ("10.0.0.2", 61000), ACK, b"later")]
    # Two ports of which nothing tells.
    frames += [udp_frame(("10.0.0.3", 40000), ("10.0.0.4", 50000), b"x" * 20)]
    # A name from DNS, through an alias; then a connection that names itself, for two hosts; then one with a port.
    frames += [
        udp_frame(("10.0.0.53", 53), (CLIENT, 5353), dns_answer("www.example.net", "cdn.example.com", "10.0.0.90"))
    ]
    frames += [
        tcp_frame((CLIENT, 40001), ("10.0.0.90", 22), SYN),
        tcp_frame(("10.0.0.90", 22), (CLIENT, 40001), RST | ACK),
    ]
    for seq, host in ((1, "First.example"), (100, "second.example")):
        request = f"GET / HTTP/1.1\r\nHost: {host}:8080\r\n\r\n".encode()
        frames += [tcp_frame((CLIENT, 40002), (SERVER, 8080), ACK, request, seq)]
    # Who answers a request serves: here the client's port is that of a service.
    request = b"GET / HTTP/1.1\r\nHost: evil\x1b[31m\tname\r\n\r\n"
    frames += [tcp_frame((CLIENT, 80), (SERVER, 8081), ACK, request)]
    # To a group, and from a server to all clients.
    frames += [udp_frame(("10.0.0.5", 1900), ("239.255.255.250", 1900), b"x" * 20)]
    frames += [udp_frame(("10.0.0.67", 67), ("255.255.255.255", 68), b"x" * 20)]
    # A datagram in three fragments belongs to its service whole; what never becomes whole has no ports.
    addresses = ipaddress.IPv4Address(CLIENT).packed + ipaddress.IPv4Address(SERVER).packed
    datagram = struct.pack("!HHHH", 50500, 4500, 40, 0) + bytes(32)
    for start in (0, 16, 32):
        more = 0x2000 if start < 32 else 0
        frames += [ip_frame(addresses, 17, datagram[start : start + 16], start // 8 | more, number=99)]
    frames += [ip_frame(addresses, 17, bytes(16), 0x2000 | 2, number=100)]
    return frames


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Table]:
    path = tmp_path_factory.mktemp("services") / "made.pcap"
    write_pcap(path, [(SECOND + number * 1_000_000, frame) for number, frame in enumerate(made())])
    requests = ["services", "services,max=3", "apps", "talkers", "tcp,servers", "tcp,connections", "tcp,health"]
    found = sharkstat.run(path, requests)
    return {table.request: table for table in (*found, *sharkstat.run(path, "services", engine="packets"))} | {
        "lua": found[0]
    }


def ends(table: Table, **wanted: Value) -> list[tuple[Value, ...]]:
    keys = ("protocol", "server_name", "server_address", "server_port", "transport", "connections", "packets")
    rows = [row for row in table if all(row[name] == value for name, value in wanted.items())]
    return [tuple(row[key] for key in keys) for row in rows]


def test_a_service_is_told_by_the_syn_by_answers_by_ports_and_by_peers(tables: dict[str, Table]) -> None:
    services = tables["lua"]
    assert services.rows == tables["services"].rows
    assert_services_balance(services)
    assert ends(services, server_port=50051) == [("tcp", None, SERVER, 50051, "tcp", 21, 41)]
    assert [row["clients"] for row in services if row["server_port"] == 50051] == [2]
    assert ends(services, server_address="10.0.0.90") == [("tcp", "www.example.net", "10.0.0.90", 22, "tcp", 1, 2)]
    assert ends(services, server_port=8080) == [("http", "first.example", SERVER, 8080, "tcp", 1, 2)]
    [(protocol, name, *rest)] = ends(services, server_port=8081)
    assert (protocol, rest[0]) == ("http", SERVER) and str(name).startswith("evil")
    assert ends(services, server_address="239.255.255.250")[0][3:] == (1900, "udp", 1, 1)
    assert ends(services, server_port=67)[0][2:] == ("10.0.0.67", 67, "udp", 1, 1)
    assert ends(services, server_port=4500)[0][2:] == (SERVER, 4500, "udp", 1, 3)
    assert ends(services, protocol="udp", server_address=None) == [("udp", None, None, None, "udp", 1, 1)]
    assert ends(services, protocol="ip") == [("ip", None, None, None, None, None, 1)]


def test_clients_may_have_ports_below_the_servers(tmp_path: Path) -> None:
    """As behind a NAT: the server is the end with the most peers, though its port is no registered one."""
    frames, server = [], ("10.9.9.9", 40500)
    for number in range(20):
        client = (f"10.0.0.{number + 1}", 20001 + 3001 * number % 40000)
        for source, target in ((client, server), (server, client)):
            frames.append((SECOND * number, udp_frame(source, target, b"question", number)))
            frames.append((SECOND * number, tcp_frame(source, target, 0x18, b"question")))
    write_pcap(tmp_path / "nat.pcap", frames)
    asked = ["services", "apps", "tcp,servers", "talkers"]
    services, apps, servers, talkers = sharkstat.run(tmp_path / "nat.pcap", asked)
    assert {(row["server_address"], row["server_port"], row["connections"]) for row in services} == {(*server, 20)}
    assert services.rows == sharkstat.run(tmp_path / "nat.pcap", "services", engine="packets")[0].rows
    assert {row["server_port"] for row in apps} == {40500} and servers["connections"] == [20]
    assert {str(row["services"])[:10] for row in talkers} == {"tcp/40500 "}


def test_other_statistics_have_the_same_servers(tables: dict[str, Table]) -> None:
    ports = {row["server_port"]: row["packets"] for row in tables["apps"] if row["protocol"] == "tcp"}
    assert ports[50051] == 40 and not any(isinstance(port, int) and port > 50051 for port in ports)
    assert {row["server_port"] for row in tables["apps"] if row["protocol"] == "http"} == {8080, 8081}
    talkers = {row["address"]: row["services"] for row in tables["talkers"]}
    assert str(talkers[SERVER]).startswith("tcp/50051 ")
    for name in ("tcp,servers", "tcp,connections"):
        assert [row["connections"] for row in tables[name] if row["server_port"] == 50051] == [21]
    unknown = [row for row in tables["tcp,health"] if not row["server_known"]]
    assert not unknown


def test_beyond_the_bound_the_rest_has_a_row(tables: dict[str, Table]) -> None:
    capped, whole = tables["services,max=3"], tables["lua"]
    assert_services_balance(capped)
    assert len(capped) == 4 and capped.total("connections") == whole.total("connections")
    assert "(other)" in {row["protocol"] for row in capped}


def test_every_packet_of_our_captures_is_of_one_service_on_both_engines() -> None:
    captures = data_captures()
    lua, traffic = sharkstat.run(captures, ["services", "traffic"])
    [packets] = sharkstat.run(captures, "services", engine="packets")
    assert lua.rows == packets.rows
    assert_services_balance(lua)
    assert_same_traffic(traffic, lua)


def assert_same_traffic(traffic: Table, services: Table) -> None:
    for name in ("packets", "bytes", "connections"):
        assert traffic.total(name) == services.total(name), name


@pytest.mark.long
@pytest.mark.corpus
@pytest.mark.parametrize("part", range(10))
def test_traffic_is_that_of_the_services_on_every_large_capture(part: int) -> None:
    for capture in corpus_captures()[part::10]:
        try:
            services, traffic = sharkstat.run(capture, ["services", "traffic"])
        except sharkstat.SourceError:  # no capture
            continue
        assert_services_balance(services)
        assert_same_traffic(traffic, services)


def test_the_store_has_all_packets_of_its_connections() -> None:
    facts = json.loads((DATA / "truth.json").read_text())["captures"]["story-after.pcapng"]
    services, conversations = sharkstat.run(DATA / "story-after.pcapng", ["services", "conv,tcp"])
    [store] = [row for row in services if row["server_name"] == "store.example.net"]
    connections = [row for row in conversations if row["port_b"] == 80]
    assert store["connections"] == len(connections) == 2 and facts
    for ours, theirs in (("to_server", "a_to_b"), ("from_server", "b_to_a")):
        assert store[f"packets_{ours}"] == sum(row[f"packets_{theirs}"] for row in connections)  # type: ignore[misc]
        assert store[f"bytes_{ours}"] == sum(row[f"bytes_{theirs}"] for row in connections)  # type: ignore[misc]
    assert (store["first"], store["last"]) == (
        min(row["start"] for row in connections),  # type: ignore[type-var]
        max(row["stop"] for row in connections),  # type: ignore[type-var]
    )


@pytest.mark.parametrize("left_out", [["3"], ["3", "12"]])
def test_a_quic_server_without_the_first_initial_is_still_the_server(left_out: Sequence[str], tmp_path: Path) -> None:
    path = tmp_path / "late.pcapng"
    subprocess.run([oracle.tool("editcap"), DATA / "quic.pcapng", path, *left_out], check=True)
    whole, late = (sharkstat.run(capture, "quic,servers")[0] for capture in (DATA / "quic.pcapng", path))
    assert {row["address"] for row in late} == {"192.0.2.20"}
    assert late.total("connections") == whole.total("connections")
    assert late.total("completed") == whole.total("completed")
    assert late.total("timed") == whole.total("timed") - len(left_out)
