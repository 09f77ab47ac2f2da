"""tls,servers and quic,servers against the sessions that were made, and against tshark's own fields."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests import oracle
from tests.measure import CORPUS, DATA, once

import sharkstat
from sharkstat import Table

TRUTH: dict[str, dict[str, Any]] = json.loads((DATA / "truth.json").read_text())["captures"]
VERSIONS = {"TLSv1_2": "TLS 1.2", "TLSv1_3": "TLS 1.3", "TLSv1.2": "TLS 1.2", "TLSv1.3": "TLS 1.3"}


def servers(capture: Path, request: str = "tls,servers", **options: Any) -> Table:
    if not options:
        return once(capture, request)
    [table] = sharkstat.run(capture, request, **options)
    return table


def added(table: Table, *keys: str, measure: str = "connections") -> Counter[tuple[Any, ...]]:
    found: Counter[tuple[Any, ...]] = Counter()
    for row in table:
        found[tuple(row[key] for key in keys)] += row[measure]  # type: ignore[assignment, operator]
    return found


def real(*names: str, kept: int) -> list[Any]:
    """So many of these by default, the others with script/test-long."""
    missing = pytest.mark.skipif(not CORPUS.exists(), reason="the large captures are not there")
    return [
        pytest.param(
            CORPUS / name, marks=[pytest.mark.corpus, missing, *([] if at < kept else [pytest.mark.long])], id=name
        )
        for at, name in enumerate(names)
    ]


# TLS


def test_sessions_are_those_that_were_made() -> None:
    made: Counter[tuple[Any, ...]] = Counter()
    completed: Counter[tuple[Any, ...]] = Counter()
    truth = TRUTH["handshakes.pcapng"]
    for one in truth["tls_handshakes"]:
        version = VERSIONS[one["version"]]
        # In TLS 1.3 the choice is encrypted; a client that leaves has no word for what the server chose.
        alpn = "h2" if not one["trusted"] else one["alpn"] if version == "TLS 1.2" else None
        key = (one["port"], one["server_name"], version, alpn)
        made[key] += one["count"]
        completed[key] += one["count"] if one["trusted"] else 0
    table = servers(DATA / "handshakes.pcapng")
    keys = ("port", "server_name", "version", "alpn")
    assert added(table, *keys) == made
    assert added(table, *keys, measure="completed") == completed
    offered = {
        (row["server_name"], row["port"], row["version"]): row["alpn_offered"] for row in table if not row["alpn"]
    }
    assert offered["tls.example.net", 443, "TLS 1.3"] == ("h2", "http/1.1")
    assert offered["late.example.net", 8443, "TLS 1.2"] == ()
    expires = truth["tls_certificate_expires"].replace(" ", "T")
    assert {row["certificate_expires"] for row in table if row["version"] == "TLS 1.2"} == {expires}
    assert {row["certificate_expires"] for row in table if row["version"] == "TLS 1.3"} == {None}


def test_a_handshake_takes_what_the_server_waited() -> None:
    truth = TRUTH["handshakes.pcapng"]["tls_wait"]
    for row in servers(DATA / "handshakes.pcapng"):
        low = truth["wait_ns"] if row["port"] == truth["port"] else 0
        assert low < row["min_handshake"] <= row["mean_handshake"] <= row["max_handshake"] < low + 4 * 10**7  # type: ignore[operator]


@pytest.mark.parametrize("name", [name for name, facts in TRUTH.items() if "tls_sessions" in facts])
def test_versions_and_ciphers_are_those_that_were_agreed_on(name: str) -> None:
    agreed: Counter[tuple[Any, ...]] = Counter()
    for one in TRUTH[name]["tls_sessions"]:
        # OpenSSL has names of its own for the cipher suites before TLS 1.3.
        cipher = one.get("cipher", "TLS_AES_256_GCM_SHA384").replace(
            "ECDHE-ECDSA-AES256", "TLS_ECDHE_ECDSA_WITH_AES_256"
        )
        agreed[one["server_name"], VERSIONS[one["version"]], cipher.replace("-", "_")] += one["count"]
    assert added(servers(DATA / name), "server_name", "version", "cipher_suite") == agreed


def test_with_keys_the_certificate_of_tls_1_3_is_seen() -> None:
    table = servers(DATA / "tls.pcapng", keylog=str(DATA / "tls.keys"))
    plain = servers(DATA / "tls.pcapng")
    [expires] = {row["certificate_expires"] for row in plain if row["version"] == "TLS 1.2"}
    assert {row["certificate_expires"] for row in table} == {expires}
    for measure in ("connections", "completed", "bytes", "time"):
        assert table.total(measure) == plain.total(measure)


def test_a_handshake_lasts_until_the_server_speaks_under_its_keys() -> None:
    """The key log shows that message: the server's Finished in TLS 1.2, its EncryptedExtensions in TLS 1.3."""
    hello, server_hello, encrypted_extensions, finished = "1", "2", "8", "20"
    began: dict[str, int] = {}
    ended: dict[str, int] = {}
    server: dict[str, str] = {}
    wanted = ["tcp.stream", "frame.time_relative", "tcp.srcport", "tls.handshake.type"]
    options = ["-o", f"tls.keylog_file:{DATA / 'tls.keys'}", "-Y", "tls.handshake"]
    for [stream], [time], [source], types in oracle.fields(DATA / "tls.pcapng", wanted, *options):
        if hello in types:
            began.setdefault(stream, oracle.nanoseconds(time))
        if server_hello in types:
            server[stream] = source
        if {encrypted_extensions, finished} & {*types} and source == server.get(stream):
            ended.setdefault(stream, oracle.nanoseconds(time))
    times = sorted(ended[stream] - begin for stream, begin in began.items())
    table = servers(DATA / "tls.pcapng")
    assert (table.total("timed"), table.total("time")) == (len(times), sum(times)) and len(times) > 3
    assert min(table["min_handshake"]) == times[0] and max(table["max_handshake"]) == times[-1]  # type: ignore[type-var]


def told_by_fields(capture: Path) -> tuple[Counter[str | None], int, list[int]]:
    """Connections by server name, the bytes of their conversations, and the handshakes' times."""
    wanted = ["tcp.stream", "frame.len", "frame.time_relative", "tcp.srcport", "tls.handshake.type"]
    wanted += ["tls.handshake.extensions_server_name", "tls.handshake.extensions.supported_version"]
    wanted += ["tls.record.content_type", "tls.record.opaque_type"]
    sizes: Counter[str] = Counter()
    began: dict[str, int] = {}
    names: dict[str, str | None] = {}
    port: dict[str, str] = {}
    modern: set[str] = set()
    ended: dict[str, int] = {}
    for streams, size, time, source, types, name, versions, contents, outer in oracle.fields(
        capture, wanted, "-Y", "tcp"
    ):
        [stream], now = streams, oracle.nanoseconds(time[0])
        sizes[stream] += int(size[0])
        if "1" in types and stream not in began and stream not in port:
            began[stream], names[stream] = now, name[0].lower() if name else None
        if "2" in types and stream not in port:
            port[stream] = source[0]
            names.setdefault(stream, None)
            modern |= {stream} if versions else set()
        ends = bool(outer) or "23" in contents or ("20" in contents and stream not in modern)
        if ends and port.get(stream) == source[0]:
            ended.setdefault(stream, now)
    times = [ended[stream] - start for stream, start in began.items() if stream in ended]
    return Counter(names.values()), sum(sizes[stream] for stream in names), sorted(times)


@pytest.mark.parametrize(
    "capture",
    [
        *(DATA / name for name in ("handshakes.pcapng", "tls.pcapng", "story-after.pcapng")),
        *real(
            "ndpi/tls_1.2_unidirectional_server.pcapng",
            "wireshark/tls-renegotiation.pcap",
            "ndpi/teams.pcap",
            "ndpi/tls_1.2_unidirectional_client.pcapng",
            "ndpi/dropbox.pcap",
            "wireshark/tls13-20-chacha20poly1305.pcap",
            kept=2,
        ),
    ],
    ids=lambda path: path.name,
)
def test_every_number_is_that_of_tsharks_fields(capture: Path) -> None:
    names, size, times = told_by_fields(capture)
    table = servers(capture)
    assert {name: count for (name,), count in added(table, "server_name").items()} == names
    assert table.total("bytes") == size
    assert (table.total("timed"), table.total("time")) == (len(times), sum(times))
    if times:
        assert min(row["min_handshake"] for row in table if row["timed"]) == times[0]  # type: ignore[type-var]
        assert max(row["max_handshake"] for row in table if row["timed"]) == times[-1]  # type: ignore[type-var]


def test_bytes_are_those_of_conv_tcp() -> None:
    capture = DATA / "handshakes.pcapng"
    table, conversations = servers(capture), once(capture, "conv,tcp")
    assert table.total("bytes") == conversations.total("bytes")


# QUIC


def test_quic_connections_are_those_that_were_made() -> None:
    made: Counter[tuple[Any, ...]] = Counter()
    keys = ("server_name", "address", "port", "version", "alpn")
    for one in TRUTH["quic.pcapng"]["quic_connections"]:
        made[tuple(one[key] for key in keys)] += one["count"]
    table = servers(DATA / "quic.pcapng", "quic,servers")
    assert added(table, *keys) == added(table, *keys, measure="completed") == made
    assert all(0 < row["min_handshake"] <= row["max_handshake"] < 10**8 for row in table)  # type: ignore[operator]


@pytest.mark.parametrize(
    "capture",
    [
        DATA / "quic.pcapng",
        *real(
            "ndpi/quic_interop_V.pcapng",
            "ndpi/teams.pcap",
            "ndpi/quic-34.pcap",
            "ndpi/quic-mvfst-27.pcapng",
            "wireshark/quic_follow_multistream.pcapng",
            kept=2,
        ),
    ],
    ids=lambda path: path.name,
)
def test_quic_numbers_are_those_of_tsharks_fields(capture: Path) -> None:
    wanted = ["quic.connection.number", "frame.len", "tls.handshake.extensions_server_name"]
    names: dict[str, str | None] = {}
    packets, size = 0, 0
    own = "quic && quic.connection.number && !icmp && !icmpv6"  # not what an error quotes
    for numbers, length, name in oracle.fields(capture, wanted, "-Y", own):
        packets, size = packets + 1, size + int(length[0])
        if names.get(numbers[0]) is None:
            names[numbers[0]] = name[0].lower() if name else None
    table = servers(capture, "quic,servers")
    assert (table.total("packets"), table.total("bytes")) == (packets, size)
    assert {name: count for (name,), count in added(table, "server_name").items()} == Counter(names.values())


# Both


@pytest.mark.parametrize("request_, name", [("tls,servers", "handshakes.pcapng"), ("quic,servers", "quic.pcapng")])
def test_beyond_the_cap_connections_are_counted_in_one_row(request_: str, name: str) -> None:
    whole, capped = servers(DATA / name, request_), servers(DATA / name, f"{request_},max=1")
    assert sorted(str(row["server_name"]) for row in capped)[0] == "(other)" and len(capped.rows) == 2
    for measure in ("connections", "bytes"):
        assert capped.total(measure) == whole.total(measure)


@pytest.mark.parametrize("request_, name", [("tls,servers", "tls.pcapng"), ("quic,servers", "quic.pcapng")])
def test_a_table_of_parts_is_the_table_of_the_whole(request_: str, name: str) -> None:
    captures = [DATA / name, DATA / "handshakes.pcapng"]
    [whole] = sharkstat.run(captures, request_)
    for order in (captures, captures[::-1]):
        assert Table.merge([servers(capture, request_) for capture in order]).rows == whole.rows != []
