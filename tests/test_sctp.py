"""sctp,stat against the chunk types of every packet."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests import oracle
from tests.measure import CORPUS
from tests.readers import reader

import sharkstat
from sharkstat import RequestError, Table, TextError
from sharkstat_plugins.sctp import CHUNKS, take

corpus = pytest.mark.skipif(not CORPUS.exists(), reason="the large captures are not there")
TYPES = dict(zip((0, 3, 4, 5, 1, 2, 10, 11, 6, 9), CHUNKS, strict=True))
FIELDS = ["ip.src", "sctp.srcport", "ip.dst", "sctp.dstport", "sctp.chunk_type"]
CAPTURES = ["wireshark/netperfmeter.pcapng.gz", "wireshark/communityid.pcap.gz"]


def run(capture: Path) -> Table:
    (table,) = sharkstat.run(capture, "sctp,stat")
    assert not any("unparsed" in warning for warning in table.warnings), table.warnings
    return table


@pytest.mark.corpus
@corpus
@pytest.mark.parametrize("name", CAPTURES)
def test_chunks_of_every_direction(name: str) -> None:
    expected: dict[tuple[object, ...], Counter[str]] = {}
    packets = [values for values in oracle.fields(CORPUS / name, FIELDS, "-Y", "sctp && ip") if values[1]]
    for source, source_port, destination, destination_port, types in packets:
        key = (source[0], int(source_port[0]), destination[0], int(destination_port[0]))
        expected.setdefault(key, Counter()).update(TYPES[int(t)] for t in types if int(t) in TYPES)
    total, *rows = run(CORPUS / name).rows
    assert total["packets"] == len(packets) and total["source"] is None and total["data_chunks"] is None
    counted = {tuple(list(row.values())[:4]): row for row in rows}
    assert counted.keys() == expected.keys()
    for ends, row in counted.items():
        assert [row[f"{kind}_chunks"] for kind in CHUNKS] == [expected[ends][kind] for kind in CHUNKS]
        assert row["packets"] is None


@pytest.mark.corpus
@corpus
def test_parts_of_a_capture_add_up(tmp_path: Path) -> None:
    whole, parts = CORPUS / CAPTURES[0], [tmp_path / "a.pcap", tmp_path / "b.pcap"]
    for part, packets in zip(parts, ("1-400", "401-99999"), strict=True):
        oracle.output("editcap", "-r", str(whole), str(part), packets)
    assert Table.merge([run(part) for part in parts]).rows == run(whole).rows


@pytest.mark.corpus
@corpus
def test_nothing_there() -> None:
    assert run(CORPUS / "wireshark/arp.pcap").rows == []


def text(*rows: bytes, packets: int = 9) -> bytes:
    rule = b"-" * 135 + b"\n"
    return (
        b"-" * 44 + b" SCTP Statistics " + b"-" * 74 + b"\n|  Total packets RX/TX %d\n" % packets + rule
        + b"|   Source IP   |PortA|    Dest. IP   |PortB|  DATA  |  SACK  |  HBEAT |HBEATACK|  INIT  | INITACK| COOKIE "
        + b"|COOKIACK| ABORT  |  ERROR |\n" + rule + b"".join(row + b"\n" for row in rows) + rule
    )  # fmt: skip


def row(source: bytes = b"192.0.2.1", port: int = 5, chunks: int = 1) -> bytes:
    return b"|%15b|%5d|%15b|%5d" % (source, port, b"192.0.2.2", 6) + b"|%8d" % chunks * 10 + b"|"


def test_long_addresses_and_none() -> None:
    statistic = take("sctp,stat")
    assert statistic is not None
    long = b"2001:db8:0:1:2:3:4:5"
    rows = reader(statistic).parse(text(row(long, chunks=123456789), row(b"")), "").rows
    assert rows[1] == [long.decode(), 5, "192.0.2.2", 6, None, *[123456789] * 10]
    assert rows[2][0] is None


@pytest.mark.parametrize(
    "given",
    [
        b"",
        text(row(), row()),
        text(row(), packets=0),
        text(row() + b" "),
        text(row(b"a|    1|b")),
        text(row(b"a\nb")),
        text(row(b"a b")),
        text(row().replace(b"|       1", b"|      -1", 1)),
        text(row().replace(b"|       1", b"|      1", 1)),
        text(row())[:-1],
        text(row()) + b"x\n",
    ],
)
def test_a_text_that_is_not_known_is_refused(given: bytes) -> None:
    statistic = take("sctp,stat")
    assert statistic is not None
    with pytest.raises(TextError):
        reader(statistic).parse(given, "")


def test_it_takes_no_filter() -> None:
    statistic = take("sctp,stat")
    assert statistic is not None
    with pytest.raises(RequestError, match="no arguments"):
        statistic.columns("ip")
