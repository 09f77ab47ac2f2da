"""Our own taps over every capture, all of them in one run: no error, and what was read is what the rows add up to.

The large captures are read as three: all of a folder one after the other, which makes times go back and years pass.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests import oracle
from tests.measure import CORPUS, DATA, data_captures, once

from sharkstat import Table

TAPS = ["tcp,health", "tcp,servers", "tcp,connections", "apps", "talkers", "talkers,every=1d", "latency", "loss"]
REMARKS = {
    "retransmissions": "tcp.analysis.retransmission",
    "fast_retransmissions": "tcp.analysis.fast_retransmission",
    "spurious_retransmissions": "tcp.analysis.spurious_retransmission",
    "duplicate_acks": "tcp.analysis.duplicate_ack",
    "out_of_order": "tcp.analysis.out_of_order",
    "lost_segments": "tcp.analysis.lost_segment",
    "zero_windows": "tcp.analysis.zero_window",
}
TIMES = (
    *("dns.time", "http.time", "smb2.time", "smb.time", "dcerpc.time", "rpc.time", "snmp.time", "ldap.time"),
    *("radius.time", "diameter.resp_time", "stun.time", "coap.response_time", "pfcp.response_time", "ncp.time"),
)
FIELDS = [
    *TIMES,
    *("frame.protocols", "frame.len", "tcp.stream", "tcp.analysis.ack_rtt", "tcp.flags.reset", "tcp.flags", "tcp.len"),
    *("tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport", "sctp.srcport", "sctp.dstport"),
    *REMARKS.values(),
]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@cache
def whole(name: str, folder: Path) -> Path:
    """One of our captures, or a folder's large ones as one."""
    if (DATA / name).exists():
        return DATA / name
    path = folder / f"{name}.pcapng"
    captures = sorted(str(p) for p in (CORPUS / name).iterdir() if p.is_file())
    subprocess.run(["mergecap", "-a", "-w", str(path), *captures], check=True, stderr=subprocess.DEVNULL)
    path.chmod(0o644)
    return path


@cache
def tables(name: str, folder: Path) -> dict[str, Table]:
    return {
        request: once(whole(name, folder), request) for request in (*TAPS, "conv,tcp", "endpoints,ip", "rtp,streams")
    }


@cache
def packets(name: str, folder: Path) -> list[dict[str, list[str]]]:
    """Every packet with its fields."""
    found = oracle.fields(whole(name, folder), FIELDS)
    return [dict(zip(FIELDS, values, strict=True)) for values in found]


NAMES = [
    *(path.name for path in data_captures()),
    *(pytest.param(name, marks=pytest.mark.corpus) for name in ("made", "ndpi", "wireshark") if CORPUS.is_dir()),
]
every_capture = pytest.mark.parametrize("name", NAMES)


@every_capture
def test_each_packet_is_of_one_application(name: str, folder: Path) -> None:
    table = tables(name, folder)["apps"]
    assert (table.total("packets"), table.total("bytes")) == (table.reading.packets, table.reading.bytes)


@every_capture
def test_applications_are_the_last_of_the_protocols(name: str, folder: Path) -> None:
    """Counted again from plain fields; the server of a TCP connection is who took its SYN."""
    counted: Counter[tuple[str, str | None]] = Counter()
    served: dict[str, int] = {}
    by_stream: Counter[str] = Counter()
    for packet in packets(name, folder):
        path = packet["frame.protocols"][0].split(":")
        quoting = [at for at, protocol in enumerate(path) if protocol in ("icmp", "icmpv6")]
        path = path[: quoting[0] + 1] if quoting else path
        tls = "tls" in path or "dtls" in path
        while len(path) > 1 and (path[-1][:4] in ("x509", "pkix", "pkcs") or (path[-1] == "ocsp" and tls)):
            path.pop()
        above = path if not quoting else []
        transport = next((p for p in reversed(above) if p in ("tcp", "udp", "udplite", "dccp", "sctp")), None)
        counted[path[-1], transport] += 1
        if transport == "tcp" and packet["tcp.stream"] and packet["tcp.flags"]:
            stream, flags = packet["tcp.stream"][-1], int(packet["tcp.flags"][-1], 16)
            if stream not in by_stream and flags & 0x02:
                served[stream] = int(packet["tcp.srcport" if flags & 0x10 else "tcp.dstport"][-1])
            by_stream[stream] += 1
    ours: Counter[tuple[Any, Any]] = Counter()
    ours_by_port: Counter[Any] = Counter()
    for row in tables(name, folder)["apps"]:
        ours[row["protocol"], row["transport"]] += int(row["packets"])  # type: ignore[arg-type]
        if row["transport"] == "tcp" and row["server_port"] is not None:
            ours_by_port[row["server_port"]] += int(row["packets"])  # type: ignore[arg-type]
    assert ours == counted
    by_port: Counter[int] = Counter()
    for stream, port in served.items():
        by_port[port] += by_stream[stream]
    assert all(ours_by_port[port] >= count for port, count in by_port.items())
    if len(served) == len(by_stream) and sum(by_stream.values()) == sum(
        n for (_, t), n in counted.items() if t == "tcp"
    ):
        assert ours_by_port == by_port


@every_capture
def test_every_packet_has_a_sender_and_a_receiver(name: str, folder: Path) -> None:
    for request in ("talkers", "talkers,every=1d"):
        table = tables(name, folder)[request]
        assert table.total("bytes_in") == table.total("bytes_out") == table.reading.bytes
        assert table.total("packets_in") == table.total("packets_out") == table.reading.packets
        for row in table:
            assert row["bytes"] == row["bytes_in"] + row["bytes_out"]  # type: ignore[operator]


@every_capture
def test_talkers_are_the_ends_of_conversations(name: str, folder: Path) -> None:
    """Where there is no tunnel, a host sends what its IP headers say."""
    found = tables(name, folder)
    paths = [path.split(":") for path in protocol_paths(name, folder)]
    # An exported PDU has addresses without a header.
    if any(sum(p in ("ip", "ipv6") for p in path) > 1 or "exported_pdu" in path for path in paths):
        pytest.skip("a tunnel")
    ours = {row["address"]: (row["bytes_out"], row["bytes_in"]) for row in found["talkers"]}
    for row in found["endpoints,ip"]:
        assert ours[row["address"]] == (row["tx_bytes"], row["rx_bytes"])


def protocol_paths(name: str, folder: Path) -> set[str]:
    return {packet["frame.protocols"][0] for packet in packets(name, folder)}


@every_capture
def test_response_times_are_those_of_the_fields(name: str, folder: Path) -> None:
    counted: dict[str, list[int]] = {}
    for packet in packets(name, folder):
        for field in TIMES:
            counted.setdefault(field.split(".")[0], []).extend(map(oracle.nanoseconds, packet[field]))
    table = tables(name, folder)["latency"]
    for protocol, times in counted.items():
        rows = [row for row in table if row["protocol"] == protocol]
        assert sum(row["responses"] for row in rows) == len(times)  # type: ignore[misc]
        assert sum(row["total_time"] for row in rows) == sum(times)  # type: ignore[misc]
        if times:
            assert min(row["min_time"] for row in rows) == min(times)  # type: ignore[type-var]
            assert max(row["max_time"] for row in rows) == max(times)  # type: ignore[type-var]


@every_capture
def test_rtp_streams_are_those_of_tshark(name: str, folder: Path) -> None:
    keys = ("source_address", "source_port", "destination_address", "destination_port", "ssrc")
    theirs = ("source", "source_port", "destination", "destination_port", "ssrc", "packets", "lost")
    found = tables(name, folder)
    ours = {tuple(row[k] for k in keys): row for row in found["loss"]}
    for row in found["rtp,streams"]:
        *key, sent, lost = (row[k] for k in theirs)
        mine = ours.pop(tuple(key))
        assert mine["packets"] == sent
        assert mine["lost"] - mine["duplicates"] == lost  # type: ignore[operator]
    # tshark leaves out what it cannot take for a stream of its own: packets that it found by chance, and SSRC 0.
    assert all(row["packets"] for row in ours.values())


@every_capture
def test_every_connection_has_its_health(name: str, folder: Path) -> None:
    found = tables(name, folder)
    ours, theirs = found["tcp,health"], found["conv,tcp"]
    assert {row["stream"]: (row["packets"], row["bytes"], row["start"], row["duration"]) for row in ours} == {
        row["stream"]: (row["packets"], row["bytes"], row["start"], row["duration"]) for row in theirs
    }
    for row in ours:
        for what in ("packets", "bytes", "payload_bytes", "retransmissions", "duplicate_acks", "resets"):
            assert row[f"client_{what}"] + row[f"server_{what}"] == row[what]  # type: ignore[operator]
        assert row["new_payload_bytes"] <= row["payload_bytes"]  # type: ignore[operator]


@every_capture
def test_remarks_are_those_of_tshark(name: str, folder: Path) -> None:
    """Packet by packet, where a packet has but one TCP header."""
    counted: Counter[tuple[int, str]] = Counter()
    times: dict[int, list[int]] = {}
    several: set[int] = set()
    for packet in packets(name, folder):
        streams = packet["tcp.stream"]
        cut = streams and not (packet["tcp.len"] and packet["tcp.flags.reset"])
        if len(streams) > 1 or cut or "icmp" in packet["frame.protocols"][0]:
            several.update(map(int, streams))
            continue
        for stream in map(int, streams):
            for column, field in REMARKS.items():
                counted[stream, column] += bool(packet[field])
            counted[stream, "resets"] += packet["tcp.flags.reset"][0] in ("1", "True")
            counted[stream, "payload_bytes"] += int(packet["tcp.len"][0])
            times.setdefault(stream, []).extend(map(oracle.nanoseconds, packet["tcp.analysis.ack_rtt"]))
    for row in tables(name, folder)["tcp,health"]:
        number: Any = row["stream"]
        if number in several:
            continue
        for column in (*REMARKS, "resets", "payload_bytes"):
            assert row[column] == counted[number, column], (number, column)
        rtts = times[number]
        assert (row["rtts"], row["rtt_total"]) == (len(rtts), sum(rtts))
        assert (row["min_rtt"], row["max_rtt"]) == ((min(rtts), max(rtts)) if rtts else (None, None))


@every_capture
def test_servers_add_up_to_their_connections(name: str, folder: Path) -> None:
    found = tables(name, folder)
    health, servers, connections = (found[t] for t in ("tcp,health", "tcp,servers", "tcp,connections"))
    for column in servers.columns:
        if column.merge == "sum" and column.name not in ("connections", "handshake_total", "handshakes"):
            assert servers.total(column.name) == health.total(column.name), column.name
    assert servers.total("connections") == connections.total("connections") == len(health.rows)
    keys = ("server_address", "server_port", "connections", "packets", "bytes")
    assert {tuple(row[k] for k in keys) for row in servers} == {tuple(row[k] for k in keys) for row in connections}
    for row in connections:
        ends = [int(row[end]) for end in ("refused", "reset", "timed_out", "closed", "open")]  # type: ignore[arg-type]
        assert sum(ends) == row["connections"]
        assert row["established"] <= row["started"] <= row["connections"]  # type: ignore[operator]
