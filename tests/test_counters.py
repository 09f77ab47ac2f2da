"""http,stat rtsp,stat sip,stat wsp,stat gsm_a against the fields of every packet."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests import oracle
from tests.measure import CORPUS
from tests.readers import reader

import sharkstat
from sharkstat import RequestError, Table, TextError
from sharkstat_plugins.counters import take

corpus = pytest.mark.skipif(not CORPUS.exists(), reason="the large captures are not there")
RULE = b"=" * 67 + b"\n"


def run(capture: str | Path, request: str) -> Table:
    (table,) = sharkstat.run(CORPUS / capture, request)
    assert not any("unparsed" in warning for warning in table.warnings), table.warnings
    return table


def counts(table: Table, kind: str, key: str) -> dict[object, object]:
    return {row[key]: row["packets"] for row in table if row["kind"] == kind}


GSM_A = {
    "BSSMAP": "gsm_a.bssmap.msgtype",
    "DTAP Mobility Management messages": "gsm_a.dtap.msg_mm_type",
    "DTAP Radio Resources Management messages": "gsm_a.dtap.msg_rr_type",
    "DTAP Call Control; call related SS messages": "gsm_a.dtap.msg_cc_type",
    "DTAP GPRS Mobility Management messages": "gsm_a.dtap.msg_gmm_type",
    "DTAP SMS messages": "gsm_a.dtap.msg_sms_type",
    "DTAP GPRS Session Management messages": "gsm_a.dtap.msg_sm_type",
    "DTAP Non call related SS messages": "gsm_a.dtap.msg_ss_type",
    "DTAP Special conformance testing functions": "gsm_a.dtap.msg_tp_type",
}
FIELDS = (
    *("http.response.code", "http.request.method", "rtsp.method", "rtsp.status", "wsp.reply.status", "wsp.pdu_type"),
    *("sip.Status-Code", "sip.Method", "sip.resend", "sip.response-time"),
    *GSM_A.values(),
)


def field(capture: str, name: str, *options: str) -> Counter[str]:
    """How often each value of the field is there. One tshark tells all fields of a capture."""
    at = FIELDS.index(name)
    return Counter(value for packet in oracle.fields(CORPUS / capture, FIELDS, *options) for value in packet[at])


@pytest.mark.corpus
@corpus
@pytest.mark.parametrize("capture", ["ndpi/webdav.pcap", "ndpi/http-manipulated.pcap", "wireshark/http.pcap"])
@pytest.mark.parametrize("display_filter", ["", "http.request"])
def test_http(capture: str, display_filter: str) -> None:
    table = run(capture, f"http,stat,{display_filter}" if display_filter else "http,stat")
    options = ("-Y", display_filter) if display_filter else ()
    codes = field(capture, "http.response.code", *options)
    assert table.rows
    assert counts(table, "response", "code") == {int(code): number for code, number in codes.items()}
    assert counts(table, "request", "name") == field(capture, "http.request.method", *options)


@pytest.mark.corpus
@corpus
@pytest.mark.parametrize("display_filter", ["", "frame.number < 200"])
def test_rtsp(display_filter: str) -> None:
    capture = "ndpi/rtsp.pcap"
    table = run(capture, f"rtsp,stat,{display_filter}".rstrip(","))
    options = ("-Y", display_filter) if display_filter else ()
    assert table.rows
    assert counts(table, "request", "name") == field(capture, "rtsp.method", *options)
    codes = field(capture, "rtsp.status", *options)
    assert counts(table, "response", "code") == {int(code): number for code, number in codes.items()}


@pytest.mark.corpus
@corpus
@pytest.mark.parametrize("capture", ["ndpi/sip.pcap", "ndpi/FAX-Call-t38-CA-TDM-SIP-FB-1.pcap", "wireshark/sip.pcapng"])
def test_sip(capture: str) -> None:
    table = run(capture, "sip,stat")
    codes, methods = field(capture, "sip.Status-Code"), field(capture, "sip.Method")
    assert counts(table, "response", "code") == {int(code): number for code, number in codes.items()}
    assert counts(table, "request", "name") == methods
    total = table.rows[0]
    assert total["kind"] == "all" and total["messages"] == sum(codes.values()) + sum(methods.values())
    resent = field(capture, "sip.resend")
    assert total["resent_messages"] == resent["True"] + resent["1"]
    if total["mean_setup_time"] is not None:
        assert total["min_setup_time"] <= total["mean_setup_time"] <= total["max_setup_time"]  # type: ignore[operator]
    times = [int(time) for time in field(capture, "sip.response-time")]
    assert total["max_setup_time"] is None or total["max_setup_time"] // 10**6 in times  # type: ignore[operator]


@pytest.mark.corpus
@corpus
def test_parts_of_a_capture_add_up(tmp_path: Path) -> None:
    whole, parts = CORPUS / "ndpi/sip.pcap", [tmp_path / "a.pcap", tmp_path / "b.pcap"]
    for part, packets in zip(parts, ("1-50", "51-200"), strict=True):
        oracle.output("editcap", "-r", str(whole), str(part), packets)
    merged = Table.merge([sharkstat.run(part, "sip,stat")[0] for part in parts])
    one = run(whole, "sip,stat")
    assert merged["packets"] == one["packets"] and merged["messages"] == one["messages"]
    assert merged["mean_setup_time"] == [None] * len(merged)


@pytest.mark.corpus
@corpus
@pytest.mark.parametrize("display_filter", ["", "wsp.reply.status == 0x20"])
def test_wsp(display_filter: str) -> None:
    capture = "made/wsp.pcap"
    table = run(capture, f"wsp,stat,{display_filter}".rstrip(","))
    options = ("-Y", display_filter) if display_filter else ()
    statuses = field(capture, "wsp.reply.status", *options)
    assert table.rows
    assert counts(table, "status", "code") == {int(code, 0): number for code, number in statuses.items()}
    assert counts(table, "pdu", "name") == {"Reply": field(capture, "wsp.pdu_type", *options)["0x04"]}


@pytest.mark.corpus
@corpus
def test_gsm_a() -> None:
    capture = "made/gsm_a.pcap"
    rows = {(row["protocol"], row["id"]): row["count"] for row in run(capture, "gsm_a")}
    for title, name in GSM_A.items():
        known = {int(code, 0): number for code, number in field(capture, name).items()}
        assert known and {key[1]: number for key, number in rows.items() if key[0] == title} == known


@pytest.mark.corpus
@corpus
def test_nothing_matches() -> None:
    for table in sharkstat.run(
        CORPUS / "wireshark/arp.pcap", ["http,stat", "rtsp,stat", "sip,stat", "wsp,stat", "gsm_a"]
    ):
        assert (table.rows, table.warnings) == ([], []), table.request


def http_text(methods: bytes, codes: bytes = b"") -> bytes:
    return (
        b"\n%bHTTP Statistics\n* HTTP Response Status Codes                Packets\n%b"
        b"* HTTP Request Methods                      Packets\n%b%b" % (RULE, codes, methods, RULE)
    )


def test_names_from_packets_are_only_names() -> None:
    statistic = take("http,stat")
    assert statistic is not None
    for method in (
        b"123",
        b"GET 5",
        b"A" * 60,
        b"  GET",
        b"\xff\x01\x1b[31m",
        b"\xc3\xa9",
        b"= :",
        b"A" * 45 + b" 123456789",
    ):
        rows = reader(statistic).parse(http_text(b"  %-39b %9d \n" % (method, 7)), "").rows
        assert rows == [["request", None, sharkstat.text_of(method), 7]]
    rows = reader(statistic).parse(http_text(b"", b"  200 %-35b %9d\n" % (b"OK 5", 12_345_678_901)), "").rows
    assert rows == [["response", 200, "OK 5", 12_345_678_901]]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        http_text(b"  GET 1\n"),
        http_text(b"GET                                            1 \n"),
        http_text(b"  %-39b %9d \n" % (b"GET\nX", 1)),
        http_text(b"  %-39b %9d \n" % (b"GET", 1) * 2),
        http_text(b"") + b"more\n",
        http_text(b"").replace(b"HTTP Statistics", b"RTSP Statistics"),
        http_text(b"")[:-1],
    ],
)
def test_a_text_that_is_not_known_is_refused(text: bytes) -> None:
    statistic = take("http,stat")
    assert statistic is not None
    with pytest.raises(TextError):
        reader(statistic).parse(text, "")


def sip_text(methods: bytes, messages: int = 5) -> bytes:
    return (
        b"\n%bSIP Statistics\n\nNumber of SIP messages: %d\nNumber of resent SIP messages: 0\n\n"
        b"* SIP Status Codes in reply packets\n\n* List of SIP Request methods\n%b\n"
        b"* Average setup time 0 ms\n Min 0 ms\n Max 0 ms\n%b" % (RULE, messages, methods, RULE)
    )


def test_sip_text() -> None:
    statistic = take("sip,stat")
    assert statistic is not None
    nothing = [None] * 5
    for method in (b"A :     3 Packets", b"INVITE", b"X" * 30, b"7"):
        rows = reader(statistic).parse(sip_text(b"  %-15b : %5d Packets\n" % (method, 4)), "").rows
        assert rows[0] == ["request", None, method.decode(), 4, *nothing]
        assert rows[1] == ["all", None, None, None, 5, 0, None, None, None]
    for forged in (b"  FORGED          :     9 Packets\n", b"FORGED\n", b"  A : 1 Packets\n", b"\n"):
        with pytest.raises(TextError):
            reader(statistic).parse(sip_text(forged), "")


def test_gsm_a_takes_no_filter() -> None:
    statistic = take("gsm_a")
    assert statistic is not None
    with pytest.raises(RequestError, match="no arguments"):
        statistic.columns("ip")
    assert take("gsm_a,bssmap") is None
