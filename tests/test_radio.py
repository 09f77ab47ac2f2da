"""mac-lte,stat mac-3gpp,stat rlc-lte,stat rlc-3gpp,stat: on frames made here, against the fields of every frame."""

from __future__ import annotations

import struct
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from tests import oracle
from tests.command import pcap
from tests.measure import CORPUS
from tests.readers import reader

import sharkstat
from sharkstat import Table, TextError
from sharkstat_plugins.radio import take

corpus = pytest.mark.skipif(not CORPUS.exists(), reason="the large captures are not there")
NEW = oracle.version() >= (4, 4)
MAC, RLC = ("mac-3gpp,stat", "rlc-3gpp,stat") if NEW else ("mac-lte,stat", "rlc-lte,stat")

# Frames of link type 147 are MAC frames for tshark, if it is told so.
USER_DLT = 'uat:user_dlts:"User 0 (DLT=147)","mac-lte-framed","0","","0",""'
UP, DOWN = 0, 1
NO_RNTI, P_RNTI, RA_RNTI, C_RNTI, SI_RNTI, SPS_RNTI = range(6)


def mac(direction: int, rnti_type: int, rnti: int, ueid: int, pdu: str) -> bytes:
    """A MAC frame as Wireshark's mac-lte-framed wants it: what is known of it, then the PDU."""
    return bytes([1, direction, rnti_type, 2]) + struct.pack("!HBHB", rnti, 3, ueid, 1) + bytes.fromhex(pdu)


PADDED = "3f3f230200" + "0102" * 4
STATUS = "2102001f0000"  # an RLC acknowledgement on SRB 1, and padding
COMMON = [
    *[mac(DOWN, NO_RNTI, 0, 0, "123456")] * 2,
    *[mac(DOWN, SI_RNTI, 65535, 0, "00" * 9)] * 3,
    *[mac(DOWN, P_RNTI, 65534, 0, "40" + "00" * 6)] * 4,
    *[mac(DOWN, RA_RNTI, 5, 0, "41" + "00" * 7)] * 2,
]
PHONES = [
    *[mac(UP, C_RNTI, 61, 7, PADDED)] * 3,
    *[mac(DOWN, C_RNTI, 61, 7, PADDED)] * 2,
    mac(UP, C_RNTI, 61, 8, PADDED),
    mac(UP, C_RNTI, 62, 9, STATUS),
    mac(DOWN, SPS_RNTI, 63, 7, PADDED),
]


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("radio") / "mac.pcap", COMMON + PHONES)


@cache
def printed(capture: Path, name: str) -> bytes:
    return oracle.output("tshark", "-n", "-q", "-r", str(capture), "-o", USER_DLT, "-z", name)


def written(path: Path, frames: list[bytes]) -> Path:
    data = bytearray(pcap(frames))
    data[20:24] = struct.pack("<I", 147)
    path.write_bytes(data)
    return path


def run(capture: Path, *requests: str) -> list[Table]:
    tables = sharkstat.run(capture, list(requests), preferences=(USER_DLT,))
    assert not any(table.warnings for table in tables)
    return tables


def test_mac_frames(capture: Path) -> None:
    (table,) = run(capture, MAC)
    rows = {row["channel"]: row for row in table if row["rnti"] is None}
    assert (rows["BCH"]["dl_frames"], rows["BCH"]["dl_bytes"]) == (2, None)
    assert (rows["SIB"]["dl_frames"], rows["SIB"]["dl_bytes"]) == (3, 27)
    assert (rows["PCH"]["dl_frames"], rows["PCH"]["dl_bytes"]) == (4, 28)
    assert (rows["RAR"]["dl_frames"], rows["RAR"]["rar_entries"]) == (2, 2)
    assert rows["TTI"]["max_ul_ues"] == rows["TTI"]["max_dl_ues"] == 1
    names = ["mac-lte.rnti", "mac-lte.ueid", "mac-lte.direction", "mac-lte.rnti-type"]
    fields = oracle.fields(capture, names, "-o", USER_DLT)
    expected = Counter(
        (int(r[0]), int(u[0]), int(d[0])) for r, u, d, t in fields if r and int(t[0]) in (C_RNTI, SPS_RNTI)
    )
    phones = [row for row in table if row["rnti"] is not None]
    found = {
        (row["rnti"], row["ueid"], way): row[name]
        for row in phones
        for way, name in ((0, "ul_frames"), (1, "dl_frames"))
    }
    assert {key: n for key, n in found.items() if n} == expected and len(phones) == 4
    assert {row["rnti"]: row["rnti_type"] for row in phones} == {61: "C-RNTI", 62: "C-RNTI", 63: "SPS-RNTI"}
    first = next(row for row in phones if (row["rnti"], row["ueid"]) == (61, 7))
    assert first["ul_padding"] == pytest.approx(100 * 2 / 13, abs=1e-5)  # two of 13 bytes


def test_rlc_frames(capture: Path) -> None:
    (table,) = run(capture, RLC)
    fields = oracle.fields(capture, ["rlc-lte.ueid", "rlc-lte.pdu-length"], "-o", USER_DLT)
    assert [row for row in fields if row[0]] == [[["9"], ["2"]]]
    (row,) = table
    assert (row["channel"], row["ueid"], row["ul_frames"], row["ul_bytes"], row["ul_acks"]) == ("UE", 9, 1, 2, 1)
    assert row["dl_frames"] == row["dl_bytes"] == row["dl_acks"] == 0


def test_filters(capture: Path) -> None:
    (one, two) = run(capture, f"{MAC},mac-lte.ueid == 8", f"{MAC},frame.number == 0")
    assert [(row["channel"], row["ueid"]) for row in one if row["ueid"] is not None] == [("UL/DL-SCH", 8)]
    assert two.rows == []


def test_parts_of_a_capture_add_up(tmp_path: Path, capture: Path) -> None:
    half = len(COMMON) - 2, len(COMMON) + 4
    frames = COMMON + PHONES
    pieces = [frames[: half[0]], frames[half[0] : half[1]], frames[half[1] :]]
    parts = [written(tmp_path / f"{n}.pcap", piece) for n, piece in enumerate(pieces)]
    (whole,), tables = run(capture, MAC), [run(part, MAC)[0] for part in parts]
    merged = Table.merge(tables)
    lost = {column.name for column in whole.columns if column.merge == "none"}
    key = ("channel", "rnti", "ueid")
    expected = {tuple(row[k] for k in key): {n: v for n, v in row.items() if n not in lost} for row in whole}
    assert {tuple(row[k] for k in key): {n: v for n, v in row.items() if n not in lost} for row in merged} == expected


@pytest.mark.corpus
@corpus
@pytest.mark.parametrize(("name", "layer"), [(MAC, "mac-lte"), (RLC, "rlc-lte")])
def test_frames_in_udp(name: str, layer: str) -> None:
    """sharkstat has no option for heuristics, tshark has."""
    heuristic = ("--enable-heuristic", f"{layer.replace('-', '_')}_udp")
    path = CORPUS / f"made/{layer.replace('-', '_')}.pcap"
    text = oracle.output("tshark", "-n", "-q", "-r", str(path), *heuristic, "-z", name)
    statistic = take(name)
    assert statistic is not None
    columns = [column.name for column in statistic.columns("")]
    rows = [dict(zip(columns, row, strict=True)) for row in reader(statistic).parse(text, "").rows]
    fields = oracle.fields(path, [f"{layer}.ueid", f"{layer}.direction"], *heuristic)
    expected = Counter((int(ueid[0]), int(way[0])) for ueid, way in fields)
    for row in rows:
        if row["ueid"] is not None:
            ueid = int(str(row["ueid"]))
            assert (row["ul_frames"], row["dl_frames"]) == (expected[ueid, UP], expected[ueid, DOWN])
    assert sum(row["ul_frames"] + row["dl_frames"] for row in rows if row["ueid"] is not None) == sum(expected.values())  # type: ignore[operator,misc]


@pytest.mark.parametrize("name", [MAC, RLC])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"UEId", b"UEID"),
        (b"     61 ", b"     61  1 "),
        (b"(4 entries", b"(3 entries"),
        (b"3 UEs", b"2 UEs"),
        (b" frames)", b"9 frames)"),
        (b"0.000000", b"nan"),
        (b"0.000000", b"1e3"),
        (b"C-RNTI", b"X-RNTI"),
        (b"MIBs: ", b"MIBs: -"),
        (b"BCCH Frames: ", b"BCCH Frames: -"),
    ],
)
def test_a_text_that_is_not_known_is_refused(capture: Path, name: str, old: bytes, new: bytes) -> None:
    text = printed(capture, name)
    statistic = take(name)
    assert statistic is not None and reader(statistic).parse(text, "").rows
    if old in text:
        with pytest.raises(TextError):
            reader(statistic).parse(text.replace(old, new, 1), "")
    for broken in (b"", text[:-1], text + b"\n", text + text):
        with pytest.raises(TextError):
            reader(statistic).parse(broken, "")
