"""io,phs against tshark's own list of the protocols of every packet."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests import oracle
from tests.measure import CORPUS, DATA, first
from tests.readers import reader

import sharkstat
from sharkstat import MergeError, Table, TextError, Value
from sharkstat_plugins.hierarchy import take

corpus = pytest.mark.skipif(not CORPUS.exists(), reason="the large captures are not there")
CAPTURES = [
    "ndpi/sip.pcap",
    "ndpi/4in6tunnel.pcap",
    "ndpi/snmp.pcap",
    "ndpi/diameter.pcap",
    "wireshark/ipoipoip.pcap",
    "wireshark/sip.pcapng",
    "wireshark/netperfmeter.pcapng.gz",
]


def run(capture: Path, request: str = "io,phs") -> Table:
    (table,) = sharkstat.run(capture, request)
    assert not table.warnings
    return table


def chains(capture: Path, *options: str) -> list[tuple[tuple[str, ...], int]]:
    """The protocols of every packet from the outermost, with its length, from tshark's PDML."""
    text = oracle.output("tshark", "-n", "-r", str(capture), *options, "-T", "pdml", status=(0, 2, 14))
    left_out = ("geninfo", "frame", *(("pkt_comment",) if oracle.version() >= (4, 4) else ()))
    found = []
    for packet in ElementTree.fromstring(text).iter("packet"):
        tops = [top for proto in packet for top in (proto if proto.get("name") == "fake-field-wrapper" else [proto])]
        names = [top.get("name", "") for top in tops]
        size = next(field.get("show", "") for field in packet.iter("field") if field.get("name") == "frame.len")
        found.append((tuple(name for name in names if name not in left_out), int(size)))
    return found


def expected(packets: list[tuple[tuple[str, ...], int]]) -> dict[Value, tuple[int, int]]:
    frames: Counter[Value] = Counter()
    sizes: Counter[Value] = Counter()
    for chain, size in packets:
        for end in range(1, len(chain) + 1):
            frames[chain[:end]] += 1
            sizes[chain[:end]] += size
    return {path: (frames[path], sizes[path]) for path in frames}


def found(table: Table) -> dict[Value, tuple[Value, Value]]:
    return {row["path"]: (row["frames"], row["bytes"]) for row in table}


@pytest.mark.corpus
@corpus
@pytest.mark.parametrize("name", first(3, CAPTURES))
def test_every_chain_of_protocols(name: str) -> None:
    table = run(CORPUS / name)
    assert table.rows
    assert found(table) == expected(chains(CORPUS / name))


@pytest.mark.corpus
@corpus
def test_a_capture_with_deep_protocols() -> None:
    """The order of a reassembled packet's protocols depends on what is shown of it: here tshark's text is asked."""
    capture = CORPUS / "ndpi/rtmp.pcap"
    lines = oracle.output("tshark", "-n", "-q", "-r", str(capture), "-z", "io,phs").decode().splitlines()
    rows = [line for line in lines if " frames:" in line]
    if rows[0].startswith("frame "):  # a level more in 4.6
        rows = [line[2:] for line in rows[1:]]
    table = run(capture)
    assert [f"frames:{row['frames']} bytes:{row['bytes']}" for row in table] == [
        line[line.index("frames:") :] for line in rows
    ]
    marked = [row["path"][-1].startswith("... ") for row in table]  # type: ignore[index]
    assert any(marked) and not all(marked)
    for row, line, deep in zip(table, rows, marked, strict=True):
        if not deep:
            name = line.partition(" frames:")[0].rstrip()
            assert "..." not in name and len(row["path"]) == 1 + (len(name) - len(name.lstrip())) // 2  # type: ignore[arg-type]
            assert row["path"][-1] == name.strip()  # type: ignore[index]
    assert table.rows[0]["frames"] == table.reading.packets


@pytest.mark.corpus
@corpus
@pytest.mark.parametrize("name", ["ndpi/sip.pcap", "ndpi/snmp.pcap"])
def test_protocols_of_the_field(name: str) -> None:
    """frame.protocols has all of them, with some that are only names (ethertype)."""
    lists = [set(values[0].split(":")) for (values,) in oracle.fields(CORPUS / name, ["frame.protocols"])]
    table = run(CORPUS / name)
    for protocol in {path[-1] for path in found(table)}:  # type: ignore[index]
        having = [row for row in table if row["path"].count(protocol) == 1 and row["path"][-1] == protocol]  # type: ignore[union-attr,index]
        assert sum(row["frames"] for row in having) == sum(protocol in protocols for protocols in lists)  # type: ignore[misc]


@pytest.mark.parametrize("capture", [DATA / "http.pcapng", DATA / "story-after.pcapng"])
def test_a_protocol_has_what_is_inside_it(capture: Path) -> None:
    table = run(capture)
    assert sum(row["frames"] for row in table if len(row["path"]) == 1) == table.reading.packets  # type: ignore[misc,arg-type]
    assert sum(row["bytes"] for row in table if len(row["path"]) == 1) == table.reading.bytes  # type: ignore[misc,arg-type]
    for row in table:
        inside = [other for other in table if other["path"][:-1] == row["path"]]  # type: ignore[index]
        for unit in ("frames", "bytes"):
            assert sum(other[unit] for other in inside) <= row[unit]  # type: ignore[misc,operator]


def test_frame_is_no_level_whoever_names_it() -> None:
    capture = DATA / "http.pcapng"
    assert found(run(capture, "io,phs,frame.number > 0")) == found(run(capture))
    (table, _) = sharkstat.run(capture, ["io,phs", "io,stat,1,SUM(frame.len)frame.len"])
    assert found(table) == found(run(capture))
    assert run(capture, "io,phs,arp && !arp").rows == []


@pytest.mark.corpus
@corpus
def test_parts_of_a_capture_add_up(tmp_path: Path) -> None:
    whole, parts = CORPUS / "wireshark/ipoipoip.pcap", [tmp_path / "a.pcap", tmp_path / "b.pcap"]
    for part, packets in zip(parts, ("1-3", "4-9999"), strict=True):
        oracle.output("editcap", "-r", str(whole), str(part), packets)
    assert Table.merge([run(part) for part in parts]).rows == run(whole).rows
    deep = run(CORPUS / "ndpi/rtmp.pcap")
    with pytest.raises(MergeError, match="nesting below the 16th protocol"):
        Table.merge([deep, deep])


def text(*rows: bytes) -> bytes:
    rule = b"=" * 67
    return b"\n%b\nProtocol Hierarchy Statistics\nFilter: \n\n%b%b\n" % (
        rule,
        b"".join(row + b"\n" for row in rows),
        rule,
    )


def row(depth: int, name: bytes, frames: int = 1) -> bytes:
    label = b"  " * min(depth, 16) + (b"..." if depth > 16 else b"") + name
    return b"%-40b frames:%d bytes:60" % (label, frames)


def test_deep_protocols_are_marked() -> None:
    statistic = take("io,phs")
    assert statistic is not None
    rows = reader(statistic).parse(text(*(row(depth, b"p%d" % depth) for depth in range(20))), "").rows
    base = tuple(f"p{depth}" for depth in range(17))
    assert [path for path, _, _ in rows[-4:]] == [base, *((*base, f"... {n} p{16 + n}") for n in (1, 2, 3))]


def test_frame_alone_is_kept() -> None:
    statistic = take("io,phs")
    assert statistic is not None
    rows = reader(statistic).parse(text(row(0, b"frame", 3), row(1, b"eth", 2)), "").rows
    assert rows == [[("frame",), 1, 0], [("eth",), 2, 60]]


@pytest.mark.parametrize(
    "rows",
    [
        [row(1, b"eth")],
        [row(0, b"eth"), row(2, b"ip")],
        [row(0, b"eth"), row(0, b"eth")],
        [row(0, b"eth").replace(b"  ", b" ")],
        [row(0, b"eth") + b" "],
        [b"eth frames:1 bytes:60"],
        [b"%-40b frames:-1 bytes:60" % b"eth"],
        [row(0, b"x" * 79)],
        [row(17, b"eth")],
        [b""],
    ],
)
def test_a_text_that_is_not_known_is_refused(rows: list[bytes]) -> None:
    statistic = take("io,phs")
    assert statistic is not None
    with pytest.raises(TextError):
        reader(statistic).parse(text(*rows), "")
