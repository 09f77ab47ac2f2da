"""rtp,streams against the fields of the RTP packets."""

from __future__ import annotations

from collections import Counter

import pytest
from tests import oracle
from tests.measure import CORPUS
from tests.readers import asked

import sharkstat
from sharkstat import RequestError, Table, TextError
from sharkstat_plugins.rtp import FRAME, RtpStreams

corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the captures beside the checkout")
NAMES = ["ndpi/skinny.pcap", "ndpi/FAX-Call-t38-CA-TDM-SIP-FB-1.pcap", "ndpi/stun.pcap", "ndpi/sip.pcap"]
HEADER = (
    f"{'Start time':>13} {'End time':>13} {'Src IP addr':>15} {'Port':>5} {'Dest IP addr':>15} {'Port':>5} "
    f"{'SSRC':>10} {'Payload':>16} {'Pkts':>5} {'Lost':>12} {'Min Delta(ms)':>15} {'Mean Delta(ms)':>15} "
    f"{'Max Delta(ms)':>15} {'Min Jitter(ms)':>15} {'Mean Jitter(ms)':>15} {'Max Jitter(ms)':>15} Problems?"
)


def stream(payload: str = "g711U", numbers: str = "") -> str:
    numbers = numbers or "".join(f" {number:15.3f}" for number in (-1, 2.5, 3, 0, 0.001, 0.002))
    ends = f"{'10.0.0.1':>15} {1:5} {'10.0.0.2':>15} {2:5}"
    return f"{1:13.6f} {2.5:13.6f} {ends} 0x0000000A {payload:>16} {4:5} {-1:5} (-33.3%){numbers} X"


def text(*lines: str) -> bytes:
    return "\n".join([FRAME[0], HEADER, *lines, FRAME[1], ""]).encode()


def streams(name: str) -> Table:
    table = sharkstat.run(CORPUS / name, "rtp,streams")[0]
    assert table.columns[0].name == "source", table.warnings
    return table


@corpus
@pytest.mark.corpus
@pytest.mark.parametrize("name", NAMES)
def test_streams_are_the_packets_of_an_ssrc(name: str) -> None:
    wanted = ["frame.time_relative", "ip.src", "udp.srcport", "ip.dst", "udp.dstport", "rtp.ssrc"]
    packets = oracle.fields(CORPUS / name, wanted, "-Y", "rtp.ssrc && !icmp")
    counted = Counter(tuple(value[-1] for value in packet[1:]) for packet in packets)
    table = streams(name)
    keys = ("source", "source_port", "destination", "destination_port", "ssrc")
    assert {tuple(str(row[key]) for key in keys): row["packets"] for row in table.rows} == counted
    start = table.reading.start
    assert start is not None
    for row in table.rows:
        times = [oracle.nanoseconds(p[0][0]) for p in packets if [v[-1] for v in p[1:]] == [str(row[k]) for k in keys]]
        for column, truth in (("start", min(times)), ("end", max(times))):
            assert abs(row[column] - start - truth) <= 500  # type: ignore[operator]
        assert row["min_delta"] is None or 0 <= row["min_delta"] <= row["mean_delta"] <= row["max_delta"]  # type: ignore[operator]


@corpus
@pytest.mark.corpus
def test_the_same_twice_is_twice_the_packets_and_nothing_that_is_not_known() -> None:
    table = streams(NAMES[0])
    merged = Table.merge([table, streams(NAMES[0])])
    assert [row["packets"] for row in merged.rows] == [2 * row["packets"] for row in table.rows]  # type: ignore[operator]
    assert {row["lost"] for row in merged.rows} == {None}
    assert [row["start"] for row in merged.rows] == [row["start"] for row in table.rows]


def test_a_stream_is_read_exactly() -> None:
    (row,) = RtpStreams().parse(text(stream()), "").rows
    assert list(row) == [
        *("10.0.0.1", 1, "10.0.0.2", 2, "0x0000000a", "g711U", 10**9, 2_500_000_000, 4, -1, -33.3),
        *(None, 2_500_000, 3_000_000, 0, 1000, 2000, True),
    ]
    assert RtpStreams().parse(text(), "").rows == []


def test_a_payload_may_look_like_the_columns_beside_it() -> None:
    forged = "a   99     7 (0.0%)" + "".join(f" {number:15.3f}" for number in range(6))
    (row,) = RtpStreams().parse(text(stream(forged)), "").rows
    assert (row[5], row[8], row[9]) == (forged, 4, -1)


@pytest.mark.parametrize(
    "given",
    [
        b"",
        text()[:-1],
        text(stream(), stream()),
        text("x" + stream()),
        text(stream() + "Y"),
        text(stream("a\nb")),
        text(stream(numbers=" 1.000 2.000")),
        text().replace(b"Lost", b"Gone"),
    ],
)
def test_other_layouts_are_not_read(given: bytes) -> None:
    with pytest.raises(TextError):
        RtpStreams().parse(given, "")


def test_it_takes_neither_arguments_nor_a_filter() -> None:
    with pytest.raises(RequestError):
        RtpStreams().columns("ip")
    with pytest.raises(RequestError):
        asked(RtpStreams(), "", "ip")
