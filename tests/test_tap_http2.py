"""http,requests on HTTP/2 and HTTP/3: frames made by hand, and real captures against the frames that tshark reads."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from tests import oracle
from tests.measure import CORPUS
from tests.test_tap_alone import REDRAWN
from tests.test_taps import plain_tshark
from tests.traffic.capturefiles import tcp_frame, write_pcap

import sharkstat

MS = 10**6
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, CONTINUATION = 0, 1, 3, 4, 5, 9
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def block(**headers: str) -> bytes:
    """Headers as HPACK literals that are never indexed (RFC 7541, 6.2.3); `_method` is `:method`."""
    out = b""
    for key, value in headers.items():
        name = key.replace("_", ":", 1) if key.startswith("_") else key.replace("_", "-")
        out += b"\x10" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
    return out


def request(method: str, path: str, host: str = "H2.example") -> bytes:
    return block(_method=method, _scheme="http", _path=path, _authority=host)


class Talk:
    """A connection from a port of the client, whose segments carry what is given."""

    def __init__(self, client_port: int, port: int = 80) -> None:
        self.ends = (("192.0.2.1", client_port), ("192.0.2.2", port))
        self.sent = [1, 1]
        self.packets: list[tuple[int, bytes]] = []

    def _segment(self, time: float, side: int, data: bytes) -> None:
        ends = self.ends if side == 0 else self.ends[::-1]
        self.packets.append((int(time * MS), tcp_frame(*ends, data, self.sent[side], self.sent[1 - side])))
        self.sent[side] += len(data)

    def client(self, time: float, *parts: bytes) -> None:
        self._segment(time, 0, b"".join(parts))

    def server(self, time: float, *parts: bytes) -> None:
        self._segment(time, 1, b"".join(parts))


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    both = END_HEADERS | END_STREAM
    web = Talk(40000)
    web.client(0, PREFACE, frame(SETTINGS, 0))
    web.server(1, frame(SETTINGS, 0))
    # Two requests in one segment, answered in reverse and in pieces.
    web.client(2, frame(HEADERS, 1, request("GET", "/one"), both), frame(HEADERS, 3, request("GET", "/two?a=1"), both))
    web.server(
        5,
        frame(HEADERS, 3, block(_status="200"), END_HEADERS) + frame(DATA, 3, bytes(100)),
        frame(HEADERS, 1, block(_status="404", server="a"), END_HEADERS) + frame(DATA, 1, bytes(10), END_STREAM),
    )
    web.server(9, frame(DATA, 3, bytes(5), END_STREAM))
    # Headers in three frames, with a body; the server says 100 first, and trailers last.
    long = request("POST", "/long")
    web.client(10, frame(HEADERS, 5, long[:10]), frame(CONTINUATION, 5, long[10:20]))
    web.client(11, frame(CONTINUATION, 5, long[20:], END_HEADERS))
    web.server(12, frame(HEADERS, 5, block(_status="100"), END_HEADERS))
    web.client(13, frame(DATA, 5, bytes(7), END_STREAM))
    web.server(20, frame(HEADERS, 5, block(_status="200"), END_HEADERS), frame(DATA, 5, bytes(3)))
    web.server(21, frame(HEADERS, 5, block(grpc_status="0"), both))
    # A call of gRPC that fails at once, though HTTP's status is fine.
    web.client(24, frame(HEADERS, 17, request("POST", "/shop.Orders/List"), both))
    web.server(26, frame(HEADERS, 17, block(_status="200", grpc_status="14"), both))
    # The server pushes what was not asked for.
    web.client(30, frame(HEADERS, 7, request("GET", "/pushes"), both))
    push = frame(PUSH_PROMISE, 7, struct.pack("!I", 2) + request("GET", "/pushed"), END_HEADERS)
    web.server(31, push, frame(HEADERS, 7, block(_status="204"), both))
    web.server(32, frame(HEADERS, 2, block(_status="200"), END_HEADERS), frame(DATA, 2, bytes(3), END_STREAM))
    # One is refused, one is answered before all was sent, one is left alone, and one is a tunnel.
    web.client(40, frame(HEADERS, 9, request("GET", "/refused"), both))
    web.server(41, frame(RST_STREAM, 9, struct.pack("!I", 7)))
    web.client(42, frame(HEADERS, 11, request("PUT", "/large"), END_HEADERS), frame(DATA, 11, bytes(50)))
    web.server(44, frame(HEADERS, 11, block(_status="413"), both), frame(RST_STREAM, 11, bytes(4)))
    web.client(45, frame(HEADERS, 13, request("GET", "/never"), both))
    web.client(46, frame(HEADERS, 15, block(_method="CONNECT", _authority="far.example:443"), END_HEADERS))
    web.server(47, frame(HEADERS, 15, block(_status="200"), END_HEADERS))
    # HTTP/1 goes on as HTTP/2.
    old = Talk(40001)
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    old.client(50, b"GET /old HTTP/1.1\r\nHost: h1.example\r\n" + upgrade + b"HTTP2-Settings: AAMAAABk\r\n\r\n")
    old.server(52, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    old.client(53, PREFACE, frame(SETTINGS, 0))
    old.server(54, frame(SETTINGS, 0), frame(HEADERS, 1, block(_status="200"), END_HEADERS))
    old.server(55, frame(DATA, 1, bytes(9), END_STREAM))
    path = tmp_path_factory.mktemp("http2") / "http2.pcap"
    write_pcap(path, web.packets + old.packets)
    return path


def test_a_failed_call_of_grpc_is_told_from_others_and_found(capture: Path) -> None:
    found = sharkstat.overview(capture)
    calls = {row["path"]: row["grpc_status"] for row in found["http,requests"] if row["status"] == 200}
    assert (calls["/long"], calls["/shop.Orders/List"], calls["/two?a"]) == (0, 14, None)
    assert any(
        text == "1 of 2 gRPC calls failed (50.0 %): UNAVAILABLE, all for h2.example/shop.Orders/List"
        for text in found.findings["finding"]
    )


def size(*parts: bytes) -> int:
    return sum(map(len, parts))


def test_streams_are_requests(capture: Path) -> None:
    [table] = sharkstat.run(capture, "http,requests")
    keys = ("method", "host", "path", "status", "requests", "responses", "unanswered", "time")
    answered = (1, 1, 0)
    assert {tuple(row[key] for key in keys) for row in table if row["host"] == "h2.example"} == {
        ("GET", "h2.example", "/one", 404, *answered, 3 * MS),
        ("GET", "h2.example", "/two", 200, *answered, 7 * MS),
        ("POST", "h2.example", "/long", 100, 0, 1, 0, 0),
        ("POST", "h2.example", "/long", 200, *answered, 8 * MS),
        ("GET", "h2.example", "/pushes", 204, *answered, 1 * MS),
        ("GET", "h2.example", "/pushed", 200, *answered, 1 * MS),
        ("GET", "h2.example", "/refused", None, 1, 0, 1, 0),
        ("POST", "h2.example", "/shop.Orders/List", 200, *answered, 2 * MS),
        ("PUT", "h2.example", "/large", 413, *answered, 2 * MS),
        ("GET", "h2.example", "/never", None, 1, 0, 1, 0),
    }
    rest = {tuple(row[key] for key in keys[:-1]) for row in table if row["host"] != "h2.example"}
    assert rest == {
        ("CONNECT", "far.example:443", "far.example:443", 200, *answered),
        ("GET", "h1.example", "/old", 101, *answered),
        ("GET", "h1.example", "/old", 200, 0, 1, 0),
    }
    bytes_of = {(row["path"], row["status"]): (row["request_bytes"], row["response_bytes"]) for row in table}
    assert bytes_of["/two", 200] == (size(request("GET", "/two?a=1")), size(block(_status="200")) + 105)
    both_statuses = size(block(_status="100"), block(_status="200"), block(grpc_status="0"))
    assert bytes_of["/long", 200] == (size(request("POST", "/long")) + 7, both_statuses + 3)
    assert bytes_of["/pushes", 204][1] == size(block(_status="204"), request("GET", "/pushed")) + 4
    assert bytes_of["/pushed", 200] == (0, size(block(_status="200")) + 3)
    assert bytes_of["/large", 413] == (size(request("PUT", "/large")) + 50, size(block(_status="413")))


def test_templates_and_bounds_hold_for_streams(capture: Path) -> None:
    whole, template, capped = sharkstat.run(
        capture, ["http,requests", "http,requests,path=template", "http,requests,max=2"]
    )
    assert "/two?a" in {row["path"] for row in template}
    for measure in ("requests", "responses", "request_bytes", "response_bytes"):
        assert template.total(measure) == capped.total(measure) == whole.total(measure)


def test_what_cannot_be_understood_is_counted(tmp_path: Path) -> None:
    """Headers that refer to others that were not captured, a status that is none, frames after a reset, random ones."""
    talk = Talk(40000)
    lost = b"\xbe\xbf"  # the 62nd and 63rd header of a table that has 61
    frames = [
        frame(HEADERS, 1, lost, END_HEADERS | END_STREAM),
        frame(HEADERS, 3, request("GET", "/reset"), END_HEADERS),
    ]
    talk.client(0, PREFACE, frame(SETTINGS, 0), *frames)
    answers = [
        frame(HEADERS, 1, lost, END_HEADERS),
        frame(DATA, 1, bytes(10), END_STREAM),
        frame(HEADERS, 3, block(_status="1" * 20), END_HEADERS),
    ]
    talk.server(1, *answers, frame(RST_STREAM, 3, bytes(4)))
    late = [frame(DATA, 3, bytes(5), END_STREAM), frame(PUSH_PROMISE, 3, b"", END_HEADERS), frame(HEADERS, 5)]
    talk.client(2, *late)
    write_pcap(tmp_path / "made.pcap", talk.packets)
    [table] = sharkstat.run(tmp_path / "made.pcap", "http,requests")
    carried = sum(len(one) - 9 for one in (*frames, *answers, *late))
    assert table.total("request_bytes") + table.total("response_bytes") == carried
    assert {(row["method"], row["path"]): (row["requests"], row["unanswered"]) for row in table} == {
        ("GET", "/reset"): (1, 0),
        (None, None): (2, 1),
    }


def test_plain_tshark_shows_the_same_however_often_it_is_asked(capture: Path, tmp_path: Path) -> None:
    [table] = sharkstat.run(capture, "http,requests")
    asked = ["http,requests,format=rows"]
    once = plain_tshark("http_requests.lua", asked, capture, prefix="").strip().splitlines()
    assert len(once) == 1 + len(table.rows)
    (tmp_path / "redrawn.lua").write_text(REDRAWN)
    often = plain_tshark("http_requests.lua", asked, capture, prefix="", before=tmp_path / "redrawn.lua")
    assert sorted(often.strip().splitlines()) == sorted(once)


def test_http2_on_a_strange_port_is_counted_or_said(tmp_path: Path) -> None:
    """tshark 4.0 knows it on the ports of HTTP alone, and 4.4 takes the client's port 40000 for SAP's."""
    for port in (40000, 40123):
        talk = Talk(port, 50051)
        talk.client(0, PREFACE, frame(SETTINGS, 0))
        talk.client(1, frame(HEADERS, 1, request("POST", "/shop.v1.Orders/List"), END_HEADERS | END_STREAM))
        talk.server(3, frame(HEADERS, 1, block(_status="200", grpc_status="0"), END_HEADERS | END_STREAM))
        write_pcap(tmp_path / "made.pcap", talk.packets)
        [table] = sharkstat.run(tmp_path / "made.pcap", "http,requests")
        mend = "tcp.port==50051,http2"
        if oracle.version() < (4, 4) or port == 40000:
            [warning] = table.warnings
            assert "1 TCP connection looks like HTTP/2 that" in warning and warning.endswith(f"add -d {mend}")
            [table] = sharkstat.run(tmp_path / "made.pcap", "http,requests", decode_as=(mend,))
        assert not table.warnings
        assert [(row["path"], row["status"], row["time"]) for row in table] == [("/shop.v1.Orders/List", 200, 2 * MS)]


def test_what_tshark_takes_for_another_protocol_is_said(tmp_path: Path) -> None:
    """By the client's port 44818, EtherNet/IP's. A request in two segments is recognized in the second."""
    web, secure, parted = Talk(44818, 50080), Talk(44818, 50443), Talk(40123, 80)
    web.client(0, b"GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n")
    hello = b"\x03\x03" + bytes(32) + b"\x00\x00\x02\x13\x01\x01\x00"
    hello = b"\x01" + struct.pack("!I", len(hello))[1:] + hello
    secure.client(1, b"\x16\x03\x01" + struct.pack("!H", len(hello)) + hello)
    parted.client(2, b"GET /b HTTP/1.1\r\n")
    parted.client(3, b"Host: b.example\r\n\r\n")
    write_pcap(tmp_path / "made.pcap", web.packets + secure.packets + parted.packets)
    http, tls = sharkstat.run(tmp_path / "made.pcap", ["http,requests", "tls,servers"])
    assert [(row["path"], row["unanswered"]) for row in http] == [("/b", 1)] and len(tls) == 0
    assert [w.endswith("add -d tcp.port==50080,http") for w in http.warnings] == [True]
    assert [w.endswith("add -d tcp.port==50443,tls") for w in tls.warnings] == [True]
    again = ("tcp.port==50080,http", "tcp.port==50443,tls")
    http, tls = sharkstat.run(tmp_path / "made.pcap", ["http,requests", "tls,servers"], decode_as=again)
    assert http.warnings == tls.warnings == [] and http.total("requests") == 2 and tls["port"] == [50443]


REAL = {
    "cases/http2-brotli.pcapng": (),
    "wireshark/http2_follow_multistream.pcapng": (),
    "wireshark/grpc_stream_reassembly_sample.pcapng.gz": ("tcp.port==50051,http2", "tcp.port==44363,http2"),
    "wireshark/grpc_web.pcapng.gz": ("tcp.port==57226,http2", "tcp.port==57228,http2"),
    "wireshark/packet-h2-14_headers.pcapng": ("tcp.port==3000,http2",),
}


@pytest.mark.corpus
@pytest.mark.parametrize("name", REAL)
def test_real_streams_are_all_there(name: str) -> None:
    if not (CORPUS / name).exists():
        pytest.skip("the large captures are not there")
    wanted = ["http2.type", "http2.streamid", "http2.length", "http2.headers.method", "http2.headers.status"]
    options = [part for given in REAL[name] for part in ("-d", given)]
    size = methods = 0
    statuses: list[int] = []
    for kinds, streams, lengths, found_methods, found_statuses in oracle.fields(
        CORPUS / name, wanted, "-Y", "http2", *options
    ):
        carried = [
            int(length)
            for kind, stream, length in zip(kinds, streams, lengths, strict=True)
            if int(kind) in (DATA, HEADERS, PUSH_PROMISE, CONTINUATION) and stream != "0"
        ]
        size += sum(carried)
        methods += len(found_methods)
        statuses += map(int, found_statuses)
    [table] = sharkstat.run(CORPUS / name, "http,requests,tcp && http2", decode_as=REAL[name])
    assert methods and table.total("requests") == methods
    assert table.total("responses") == len(statuses)
    assert sorted({row["status"] for row in table if row["status"]}) == sorted(set(statuses))
    assert table.total("request_bytes") + table.total("response_bytes") == size
    assert all(row["time"] >= 0 for row in table)  # type: ignore[operator]


def test_of_a_connection_from_before_the_client_is_still_known(tmp_path: Path) -> None:
    """Neither side's headers can be read: they refer to those of earlier packets."""
    talk = Talk(40000, 8080)
    talk.server(0, frame(HEADERS, 1, b"\xbe", END_HEADERS), frame(DATA, 1, bytes(30), END_STREAM))
    talk.client(1, frame(HEADERS, 3, b"\xbf", END_HEADERS | END_STREAM))
    talk.server(2, frame(HEADERS, 3, b"\xbe", END_HEADERS | END_STREAM))
    write_pcap(tmp_path / "made.pcap", talk.packets)
    [table] = sharkstat.run(tmp_path / "made.pcap", "http,requests", decode_as=("tcp.port==8080,http2",))
    [row] = table.rows
    assert (row["requests"], row["responses"], row["unanswered"]) == (1, 2, 0)
    assert (row["request_bytes"], row["response_bytes"]) == (1, 32)


@pytest.mark.corpus
def test_real_streams_of_quic_are_all_there() -> None:
    """With the secrets that the capture holds. tshark 4.0 cannot unpack the headers of HTTP/3."""
    name = CORPUS / "wireshark/quic_follow_multistream.pcapng"
    if not name.exists():
        pytest.skip("the large captures are not there")
    [table] = sharkstat.run(name, "http,requests")
    if oracle.version() < (4, 4):
        assert not table.rows and any("HTTP/3 packets are not counted" in warning for warning in table.warnings)
        return
    wanted = ["http3.frame_type", "http3.frame_length", "http3.headers.method", "http3.headers.status"]
    packets = oracle.fields(name, wanted, "-Y", "http3")
    carried = [
        int(length)
        for kinds, lengths, *_ in packets
        for kind, length in zip(kinds, lengths, strict=True)
        if int(kind, 16) in (0, 1, 5)
    ]
    # One packet's HEADERS of 23 bytes were sent again, and tshark reads them twice.
    assert table.total("request_bytes") + table.total("response_bytes") == sum(carried) - 23
    assert table.total("requests") == sum(len(methods) for *_, methods, _ in packets) == 22
    assert table.total("timed") == table.total("responses") == sum(len(statuses) for *_, statuses in packets) - 1
    assert {row["status"] for row in table} == {200}
    paths = {row["path"]: row for row in table}
    assert (paths["/app_shell"]["host"], paths["/app_shell"]["response_bytes"]) == ("www.youtube.com", 25818)
