"""follow,*: the messages of a stream, against the payload fields of its packets and tshark's own hex dump."""

from __future__ import annotations

import base64

import pytest
from tests import oracle
from tests.measure import CORPUS
from tests.readers import asked

import sharkstat
from sharkstat import RequestError, Row, TextError
from sharkstat_plugins.follow import MODES, Follow

corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the captures beside the checkout")
HEAD = "peers:\n  - peer: 0\n    host: 10.0.0.1\n    port: 1\n  - peer: 1\n    host: \n    port: 0\npackets:\n"


def follow(name: str, *requests: str) -> list[list[Row]]:
    tables = sharkstat.run(CORPUS / name, list(requests))
    assert all(table.columns[0].name == "number" for table in tables), [table.warnings for table in tables]
    return [table.rows for table in tables]


def message(data: bytes, packet: int = 1, peer: int = 0) -> str:
    lines = "".join(f"      {base64.b64encode(data[at : at + 57]).decode()}\n" for at in range(0, len(data), 57))
    return f"  - packet: {packet}\n    peer: {peer}\n    timestamp: 1.000000000\n    data: !!binary |\n{lines}"


@corpus
@pytest.mark.corpus
@pytest.mark.parametrize(
    ("name", "protocol", "stream"),
    [
        ("ndpi/webdav.pcap", "tcp", 0),
        ("ndpi/imap.pcap", "tcp", 0),
        ("ndpi/mgcp.pcap", "udp", 0),
        ("ndpi/sip.pcap", "udp", 0),
    ],
)
def test_messages_are_the_payloads(name: str, protocol: str, stream: int) -> None:
    wanted = ["frame.number", "ip.src", f"{protocol}.srcport", "ip.dst", f"{protocol}.dstport", f"{protocol}.payload"]
    packets = oracle.fields(CORPUS / name, wanted, "-Y", f"{protocol}.stream == {stream} && {protocol}.payload")
    (rows,) = follow(name, f"follow,{protocol},raw,{stream}")
    said = [
        [str(row[c]) for c in ("packet", "source", "source_port", "destination", "destination_port", "data")]
        for row in rows
    ]
    assert said == [[*(value[0] for value in values[:5]), values[5][0].replace(":", "")] for values in packets]
    assert [row["bytes"] for row in rows] == [len(str(row["data"])) // 2 for row in rows]


@corpus
@pytest.mark.corpus
@pytest.mark.parametrize(
    ("name", "request_text"),
    [
        ("ndpi/webdav.pcap", "follow,tcp,hex,0"),
        pytest.param("ndpi/webdav.pcap", "follow,http,hex,0", marks=pytest.mark.long),
        pytest.param("ndpi/mgcp.pcap", "follow,udp,hex,0", marks=pytest.mark.long),
        ("wireshark/netperfmeter.pcapng.gz", "follow,dccp,hex,0"),
        pytest.param("wireshark/tls12-dsb.pcapng", "follow,tls,hex,0", marks=pytest.mark.long),
        ("wireshark/http2_follow_multistream.pcapng", "follow,http2,hex,0,1"),
        ("wireshark/quic_follow_multistream.pcapng", "follow,quic,hex,0,0"),
    ],
)
def test_the_hex_dump_is_tsharks_own(name: str, request_text: str) -> None:
    text = oracle.output("tshark", "-q", "-n", "-r", str(CORPUS / name), "-z", request_text).decode()
    dump = text.split("Node 1: ")[1].split("\n", 1)[1].rpartition("=" * 67)[0]
    (rows,) = follow(name, request_text)
    lines = [("\t" if row["node"] else "") + line for row in rows for line in str(row["data"]).split("\n") if line]
    assert lines == dump.splitlines()
    assert rows or not dump


@corpus
@pytest.mark.corpus
def test_every_mode_shows_the_same_bytes() -> None:
    found = follow("ndpi/webdav.pcap", *(f"follow,tcp,{mode},0" for mode in MODES))
    shown = {mode: [str(row["data"]) for row in rows] for mode, rows in zip(MODES, found, strict=True)}
    for index, digits in enumerate(shown["raw"]):
        data = bytes.fromhex(digits)
        assert base64.b64decode(shown["yaml"][index]) == data
        assert shown["utf-8"][index] == data.decode("utf-8", "replace")
        assert len(shown["ascii"][index]) == len(shown["ebcdic"][index]) == len(data)


@corpus
@pytest.mark.corpus
def test_a_range_is_a_part() -> None:
    ends = "172.16.1.116:2427,172.16.1.119:2427"
    asked_for = ["0", "0,2-4", "0,3", f"{ends},2-4", "99999"]
    whole, *parts = follow("ndpi/mgcp.pcap", *(f"follow,udp,hex,{which}" for which in asked_for))
    assert parts == [whole[1:4], whole[2:3], whole[1:4], []] and len(whole) > 4


def test_what_the_capture_lacks_is_no_data() -> None:
    text = HEAD + message(b"[1448 bytes missing in capture file]\0") + message(b"", peer=1) + message(bytes(range(256)))
    names = [column.name for column in Follow("tcp").columns("raw,0")]
    parsed = Follow("tcp").parse(text.encode(), "raw,0")
    rows = [dict(zip(names, row, strict=True)) for row in parsed.rows]
    assert [(row["bytes"], row["missing"]) for row in rows] == [(None, 1448), (0, None), (256, None)]
    assert rows[2]["data"] == bytes(range(256)).hex()
    assert [row["source"] for row in rows] == ["10.0.0.1", None, "10.0.0.1"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEAD[:-1],
        HEAD + "x",
        HEAD + message(b"x")[:-1],
        HEAD + message(b"x") + "=====\n",
        HEAD + message(b"x").replace("eA==", "eA="),
        HEAD + message(b"x").replace("peer: 0", "peer: 2"),
    ],
)
def test_other_layouts_are_not_read(text: str) -> None:
    with pytest.raises(TextError):
        Follow("tcp").parse(text.encode(), "ascii,0")


@pytest.mark.parametrize(
    ("protocol", "arguments"),
    [
        ("tcp", ""), ("tcp", "0"), ("tcp", "ascii"), ("tcp", "ascii,-1"), ("tcp", "ascii,0,0"), ("tcp", "ascii,0,3-2"),
        ("tcp", "ascii,0,1,2"), ("tcp", "ascii,10.0.0.1:80"), ("http2", "ascii,0"), ("quic", "ascii,0,0,0"),
        ("sip", "ascii,0"),
    ],
)  # fmt: skip
def test_bad_arguments_are_told_before_reading(protocol: str, arguments: str) -> None:
    with pytest.raises(RequestError, match=r"^[^\n]*: [^\n]*$"):
        Follow(protocol).columns(arguments)


def test_it_takes_no_filter() -> None:
    assert asked(Follow("tcp"), "ascii,3,2-4", "") == "follow,tcp,yaml,3"
    assert asked(Follow("quic"), "hex,3,4,1", "") == "follow,quic,yaml,3,4"
    with pytest.raises(RequestError, match="-Y"):
        asked(Follow("tcp"), "ascii,0", "ip")
