"""Our own taps over every capture, all of them in one run: no error, and what was read is what the rows add up to.

The large captures are read as three: all of a folder one after the other, which makes times go back and years pass. Of
the two largest folders every tenth is read by default; script/test-long reads all.
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
from tests.measure import BOUNDED, CORPUS, DATA, TWINS, data_captures, once

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
    *("ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.seq_raw", "rtp.ssrc"),
    *REMARKS.values(),
]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@cache
def whole(name: str, folder: Path) -> Path:
    """One of our captures, or a folder's large ones as one: all of them, or of "NAME, a tenth" every tenth."""
    if (DATA / name).exists():
        return DATA / name
    path = folder / f"{name}.pcapng"
    kind, _, tenth = name.partition(", ")
    captures = sorted(str(p) for p in (CORPUS / kind).iterdir() if p.is_file())[:: 10 if tenth else 1]
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
    *(pytest.param(p.name, marks=[pytest.mark.long] if p.name in TWINS else []) for p in data_captures()),
    *(
        pytest.param(n, marks=pytest.mark.corpus)
        for n in ("made", "ndpi, a tenth", "wireshark, a tenth")
        if CORPUS.is_dir()
    ),
    *(pytest.param(n, marks=[pytest.mark.corpus, pytest.mark.long]) for n in ("ndpi", "wireshark") if CORPUS.is_dir()),
]
every_capture = pytest.mark.parametrize("name", NAMES)


@every_capture
def test_each_packet_is_of_one_application(name: str, folder: Path) -> None:
    table = tables(name, folder)["apps"]
    assert (table.total("packets"), table.total("bytes")) == (table.reading.packets, table.reading.bytes)


@every_capture
def test_a_bound_takes_rows_and_no_number(name: str, folder: Path) -> None:
    """The rows that stay are those of the whole table, and one more has what the others add up to."""
    for request in BOUNDED:
        everything, bounded = (once(whole(name, folder), r) for r in (request.rpartition(",")[0], request))
        keys = [column.name for column in everything.keys]
        rows = {tuple(row[key] for key in keys): row for row in everything}
        kept = [row for row in bounded if tuple(row[key] for key in keys) in rows]
        assert len(kept) <= int(request.rpartition("=")[2])
        assert len(kept) == len(rows) == len(bounded.rows) or len(kept) < min(len(rows), len(bounded.rows))
        for row in kept:
            assert row == rows[tuple(row[key] for key in keys)], request
        others = [row for row in bounded if tuple(row[key] for key in keys) not in rows]
        for column in everything.columns:
            if column.role == "derived" or any(row[column.name] is None for row in others):
                continue  # what cannot be said of many together
            if column.merge == "sum":
                assert bounded.total(column.name) == everything.total(column.name), (request, column.name)
            elif column.merge in ("min", "max"):
                extreme: Any = min if column.merge == "min" else max
                of_all, of_few = (
                    extreme((row[column.name] for row in t if row[column.name] is not None), default=None)
                    for t in (everything, bounded)
                )
                assert of_all == of_few, (request, column.name)
        assert all(
            row[counted] is not None
            for row in others
            for counted in ("packets", "queries", "requests")
            if counted in row
        )


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


def ends(packet: dict[str, list[str]]) -> tuple[str, str] | None:
    """Source and destination in a packet's innermost network header; what an ICMP error quotes is none of its own.

    None where the innermost frame of a tunnel has none, as one of ARP.
    """
    path = packet["frame.protocols"][0].split(":")
    quoting = [at for at, protocol in enumerate(path) if protocol in ("icmp", "icmpv6")]
    path = path[: quoting[0]] if quoting else path
    own = [protocol for protocol in path if protocol in ("ip", "ipv6")]
    inner = [at for at, protocol in enumerate(path) if protocol in ("eth", "wlan")]
    if not own or (inner and own[-1] not in path[inner[-1] :]) or len(packet[f"{own[-1]}.src"]) < own.count(own[-1]):
        return None
    at = own.count(own[-1]) - 1
    return packet[f"{own[-1]}.src"][at], packet[f"{own[-1]}.dst"][at]


@every_capture
def test_every_packet_has_a_sender_and_a_receiver(name: str, folder: Path) -> None:
    """The innermost network header tells, in tunnels too."""
    sent: Counter[Any] = Counter()
    exported = any("exported_pdu" in path for path in protocol_paths(name, folder))  # addresses without a header
    for packet in packets(name, folder):
        found = ends(packet) if int(packet["frame.len"][0]) < 2**31 - 1 else None  # where the field ends
        for address, way in zip(found or (), ("out", "in"), strict=False):
            sent[address, f"bytes_{way}"] += int(packet["frame.len"][0])
            sent[address, f"packets_{way}"] += 1
    for request in ("talkers", "talkers,every=1d"):
        table = tables(name, folder)[request]
        assert table.total("bytes_in") == table.total("bytes_out") == table.reading.bytes
        ours: Counter[Any] = Counter()
        for row in table:
            for column in ("bytes_out", "bytes_in", "packets_out", "packets_in"):
                ours[row["address"], column] += row[column]  # type: ignore[assignment, operator]
        if exported:
            assert all(ours[key] >= count for key, count in sent.items())
        else:
            assert {key: ours[key] for key in sent} == dict(sent)


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
    there: Counter[tuple[Any, ...]] = Counter()
    for packet in packets(name, folder):
        between = ends(packet)
        if packet["rtp.ssrc"] and packet["udp.srcport"] and between:
            source, destination = packet["udp.srcport"][-1], packet["udp.dstport"][-1]
            stream = (between[0], int(source), between[1], int(destination), f"0x{int(packet['rtp.ssrc'][-1], 16):08x}")
            there[stream] += 1
    assert {stream: row["packets"] for stream, row in ours.items()} == {stream: there[stream] for stream in ours}


@every_capture
def test_every_connection_has_its_health(name: str, folder: Path) -> None:
    found = tables(name, folder)
    ours, theirs = found["tcp,health"], found["conv,tcp"]
    assert {row["stream"]: (row["packets"], row["bytes"], row["start"], row["duration"]) for row in ours} == {
        row["stream"]: (row["packets"], row["bytes"], row["start"], row["duration"]) for row in theirs
    }


@every_capture
def test_remarks_are_those_of_tshark(name: str, folder: Path) -> None:
    """Packet by packet, where a packet has but one TCP header: for both sides together, and for each."""
    counted: Counter[tuple[Any, ...]] = Counter()
    times: dict[int, list[int]] = {}
    several: set[int] = set()
    for packet in packets(name, folder):
        streams = packet["tcp.stream"]
        cut = streams and not (packet["tcp.len"] and packet["tcp.flags.reset"])
        if len(streams) > 1 or cut or "icmp" in packet["frame.protocols"][0]:
            several.update(map(int, streams))
            continue
        for stream in map(int, streams):
            values = {column: int(bool(packet[field])) for column, field in REMARKS.items()}
            values["resets"] = int(packet["tcp.flags.reset"][0] in ("1", "True"))
            values["payload_bytes"] = int(packet["tcp.len"][0])
            values |= {"packets": 1, "bytes": int(packet["frame.len"][0])}
            sender = (ends(packet) or ("",))[0], int(packet["tcp.srcport"][0])
            for column, value in values.items():
                counted[stream, column] += value
                counted[(stream, sender, column)] += value
            times.setdefault(stream, []).extend(map(oracle.nanoseconds, packet["tcp.analysis.ack_rtt"]))
    for row in tables(name, folder)["tcp,health"]:
        number: Any = row["stream"]
        if number in several:
            continue
        columns = (*REMARKS, "resets", "payload_bytes", "packets", "bytes")
        for column in columns:
            assert row[column] == counted[number, column], (number, column)
        both = [(row[f"{side}_address"], row[f"{side}_port"]) for side in ("client", "server")]
        for side, end in zip(("client", "server"), both, strict=True):
            for column in columns:
                if both[0] != both[1] and f"{side}_{column}" in row:
                    assert row[f"{side}_{column}"] == counted[(number, end, column)], (number, side, column)
        rtts = times[number]
        assert (row["rtts"], row["rtt_total"]) == (len(rtts), sum(rtts))
        assert (row["min_rtt"], row["max_rtt"]) == ((min(rtts), max(rtts)) if rtts else (None, None))


@every_capture
def test_servers_are_who_took_the_syn(name: str, folder: Path) -> None:
    """Where each connection has one header a packet and began in the capture: by who sent what, and when."""
    syns: dict[int, tuple[str, int]] = {}
    seen: dict[int, set[str]] = {}
    size: Counter[int] = Counter()
    several = False
    for packet in packets(name, folder):
        streams, between = packet["tcp.stream"], ends(packet)
        if not streams:
            continue
        several |= len(streams) > 1 or not packet["tcp.flags"] or "icmp" in packet["frame.protocols"][0] or not between
        if several or between is None:
            break
        stream, flags = int(streams[0]), int(packet["tcp.flags"][0], 16)
        size[stream] += int(packet["frame.len"][0])
        target = (between[1], int(packet["tcp.dstport"][0]))
        if flags & 0x12 == 0x02:
            syns.setdefault(stream, target)
        if stream in syns:
            to_server, before = target == syns[stream], seen.setdefault(stream, set())
            if flags & 0x12 == 0x12 and not to_server:
                before.add("answered")
            elif flags & 0x10 and to_server and "answered" in before and not flags & 0x04:
                before.add("established")
    found = tables(name, folder)
    if several or syns.keys() != size.keys() or sum(size.values()) != found["conv,tcp"].total("bytes"):
        pytest.skip("tunnels, errors, cut packets, or connections without their beginning")
    expected: dict[Any, list[int]] = {}
    for stream, server in syns.items():
        row = expected.setdefault(server, [0, 0, 0])
        for at, value in enumerate((1, size[stream], int("established" in seen[stream]))):
            row[at] += value
    names = ["server_address", "server_port", "connections", "bytes"]
    assert {tuple(row[k] for k in names) for row in found["tcp,servers"]} == {
        (*server, connections, size) for server, (connections, size, _) in expected.items()
    }
    names.append("established")
    assert {tuple(row[k] for k in names) for row in found["tcp,connections"]} == {
        (*server, *row) for server, row in expected.items()
    }


@every_capture
def test_servers_add_up_to_their_connections(name: str, folder: Path) -> None:
    """By tshark's own conversations: what remarks there are of each is held against the fields above."""
    found = tables(name, folder)
    for request in ("tcp,servers", "tcp,connections"):
        for column in ("packets", "bytes"):
            assert found[request].total(column) == found["conv,tcp"].total(column)
        assert found[request].total("connections") == len(found["conv,tcp"])
    for column in (*REMARKS, "resets", "payload_bytes", "new_payload_bytes", "rtts", "duration"):
        assert found["tcp,servers"].total(column) == found["tcp,health"].total(column), column
