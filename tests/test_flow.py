"""flow,*: the messages of tshark's ladder, against the fields of the packets."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import oracle
from tests.measure import CORPUS, DATA
from tests.readers import asked, reader

import sharkstat
from sharkstat import MergeError, RequestError, Table, TextError
from sharkstat_plugins.flow import Flow

corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the captures beside the checkout")
INFO = ("_ws.col.protocol", "_ws.col.info") if oracle.version() >= (4, 2) else ("_ws.col.Protocol", "_ws.col.Info")
HEAD = (
    f"|Time     {'| 10.0.0.1':<40}|\n"  # two lines of nodes, the second ends in blanks
    f"|         {'|':<20}{'| 10.0.0.2':<20}{'|':<20}\n"
)
ROW = f"|0.000000 {'|         hello':<20}{'|':<20}|Seq = 1\n|         |(1)      ------------------>  (2)      |\n"


def flow(capture: Path, request: str, **options: str) -> Table:
    table = sharkstat.run(capture, request, display_filter=options.get("display_filter", ""))[0]
    assert table.columns[0].name == "number", table.warnings
    assert [row["number"] for row in table.rows] == list(range(1, len(table.rows) + 1))
    return table


def agrees(table: Table, fields: list[list[list[str]]], port: str) -> int:
    """The rows are the packets' own time and ends, where an end is told. How many ends are not."""
    start = table.reading.start
    assert start is not None
    assert len(table.rows) == len(fields) > 0
    untold = 0
    for row, (time, source, source_port, destination, destination_port) in zip(table.rows, fields, strict=True):
        assert row["time"] == start + oracle.nanoseconds(time[0])
        if port:
            assert [str(row["source_port"]), str(row["destination_port"])] == [source_port[-1], destination_port[-1]]
        for end, truth in (("source", source), ("destination", destination)):
            untold += row[end] is None
            assert row[end] in (None, truth[-1])
    return untold


@corpus
@pytest.mark.corpus
@pytest.mark.parametrize(
    "name", ["ndpi/webdav.pcap", "ndpi/rsh.pcap", "ndpi/WebattackRCE.pcap", "ndpi/thrift.pcap", "ndpi/sip.pcap"]
)
def test_tcp_is_every_segment(name: str) -> None:
    capture = CORPUS / name
    packets = oracle.fields(
        capture, ["frame.time_relative", "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport"], "-Y", "tcp && !icmp"
    )
    if not packets:
        assert flow(capture, "flow,tcp").rows == []
        return
    # tshark 4.0 draws what a loopback address says to itself as said to the next one.
    untold = agrees(flow(capture, "flow,tcp,network"), packets, "tcp")
    assert untold == 0 or (name == "ndpi/thrift.pcap" and oracle.version() < (4, 3))


@corpus
@pytest.mark.corpus
@pytest.mark.parametrize("name", ["ndpi/webdav.pcap", "ndpi/sip.pcap", "ndpi/mgcp.pcap"])
def test_any_has_the_whole_info(name: str) -> None:
    capture = CORPUS / name
    fields = ["frame.time_relative", "ip.src", "udp.srcport", "ip.dst", "udp.dstport"]
    packets = oracle.fields(capture, [*INFO, *fields], "-Y", "ip && !icmp")
    table = flow(capture, "flow,any,standard,ip", display_filter="!icmp")
    comments = [f"{' '.join(protocol)}: {' '.join(info)}" for protocol, info, *_ in packets]
    if oracle.version() >= (4, 2):  # -T fields escapes backslashes there
        comments = [comment.replace("\\\\", "\\") for comment in comments]
    assert [row["comment"] for row in table.rows] == comments
    for row in table.rows:
        assert str(row["comment"]).partition(": ")[2].startswith(str(row["label"]).rstrip())
    assert agrees(table, [packet[len(INFO) :] for packet in packets], "") == 0


@corpus
@pytest.mark.corpus
@pytest.mark.parametrize(
    ("name", "request_text", "wanted"),
    [
        ("wireshark/icmp.pcapng.gz", "flow,icmp", "icmp"),
        ("ndpi/6in4tunnel.pcap", "flow,icmpv6", "icmpv6"),
        ("ndpi/6in4tunnel.pcap", "flow,icmpv6,network,icmpv6.type == 128", "icmpv6.type == 128"),
    ],
)
def test_messages_of_control(name: str, request_text: str, wanted: str) -> None:
    table = flow(CORPUS / name, request_text)
    assert 0 < len(table.rows) <= len(oracle.fields(CORPUS / name, ["frame.number"], "-Y", wanted))
    assert all(str(row["comment"]).startswith("ICMP") for row in table.rows)


@corpus
@pytest.mark.corpus
def test_addresses_after_the_fortieth_are_not_told() -> None:
    many = [
        c for c in (CORPUS / "ndpi").glob("*.pcap") if c.name in ("instagram.pcap", "teams.pcap", "bittorrent_utp.pcap")
    ]
    assert many
    for capture in many:
        table = flow(capture, "flow,any,standard,ip")
        assert len(table.rows) == len(oracle.fields(capture, ["frame.number"], "-Y", "ip"))
        assert len({row["source"] for row in table.rows} - {None}) <= 40


def test_a_message_is_read_whole() -> None:
    found = Flow("tcp").parse((HEAD + ROW).encode(), "")
    assert [list(row) for row in found.rows] == [[1, 0, None, "10.0.0.1", 1, "10.0.0.2", 2, "hello", "Seq = 1"]]
    assert Flow("tcp").parse(b"", "").rows == []
    # What tables spell as an escape of its own is drawn as the characters that it is.
    drawn = (HEAD + ROW.replace("hello  ", r"h\x02lo")).encode()
    assert [row[7] for row in Flow("tcp").parse(drawn, "").rows] == [r"h\x5cx02lo"]


@pytest.mark.parametrize(
    "text",
    [
        HEAD,
        ROW,
        HEAD + ROW[:-1],
        HEAD + ROW + "x\n",
        HEAD + ROW.replace(">  (2)", " > (2)"),
        HEAD + ROW.replace("(1)      ", "(1)     -"),
        HEAD + ROW.replace("|Seq = 1\n", "|Seq = 1\n|forged\n"),
        HEAD.replace("| 10.0.0.2 ", "| 10.0.0.2|") + ROW,
        HEAD + ROW.replace("0.000000 ", "0.0000 00"),
    ],
)
def test_what_is_drawn_otherwise_is_not_read(text: str) -> None:
    with pytest.raises(TextError):
        Flow("tcp").parse(text.encode(), "")


def test_both_directions_pointing_one_way_are_not_believed() -> None:
    back = ROW.replace("(1)      -", "(2)      -").replace("(2)      |", "(1)      |")
    rows = Flow("tcp").parse((HEAD + ROW + back).encode(), "").rows
    assert [row[5] for row in rows] == [None, None]
    # Newer versions draw such an address twice, which leaves nothing open.
    rows = Flow("tcp").parse((HEAD.replace("10.0.0.2", "10.0.0.1") + ROW + back).encode(), "").rows
    assert [row[5] for row in rows] == ["10.0.0.1", "10.0.0.1"]


def test_a_tshark_that_draws_such_an_address_twice_leaves_nothing_open() -> None:
    flow = Flow("tcp")
    back = ROW.replace("(1)      -", "(2)      -").replace("(2)      |", "(1)      |")
    for version, told in (("4.0.17", None), ("4.2.14", None), ("4.4.18", "10.0.0.2"), ("5.0.0", "10.0.0.2")):
        reader(flow).version = version
        found = flow.parse((HEAD + ROW + back).encode(), "")
        assert [row[5] for row in found.rows] == [told, told]
        assert bool(found.warnings) == (told is None)


def test_the_mode_comes_before_the_filter() -> None:
    statistic = Flow("any")
    assert asked(statistic, "", "") == "flow,any,standard"
    assert asked(statistic, "network,tcp", "ip") == "flow,any,network,(ip) && (tcp)"
    assert asked(statistic, "tcp.port in {1,2}", "") == "flow,any,standard,tcp.port in {1,2}"
    assert list(statistic.filters("standard,udp")) == ["udp"] and list(statistic.filters("network")) == []


def test_a_bad_filter_is_told_before_reading() -> None:
    with pytest.raises(RequestError, match="invalid display filter"):
        sharkstat.run(DATA / "http.pcapng", "flow,any,nonsense")


def test_captures_are_not_merged() -> None:
    with pytest.raises(MergeError):
        Flow("any").align([])  # type: ignore[no-untyped-call]
