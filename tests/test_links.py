"""Conversations and endpoints of SCTP, DCCP and of links, which our own tap counts exactly: as sharkd counts them."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests import oracle
from tests.measure import CORPUS, corpus_captures

import sharkstat
from sharkstat_plugins.ends import BROADCAST

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the captures beside the checkout"),
]

SHARKD = {
    "bluetooth": "Bluetooth", "dccp": "DCCP", "fddi": "FDDI", "ipx": "IPX", "sctp": "SCTP", "sll": "SLL",
    "tr": "Token-Ring", "usb": "USB", "wlan": "IEEE 802.11",
}  # fmt: skip
WITH_PORTS = ("sctp",)  # sharkd gives none for DCCP
_local = threading.local()


def sharkd() -> oracle.Sharkd:
    if not hasattr(_local, "sharkd"):
        _local.sharkd = oracle.Sharkd()
    return _local.sharkd  # type: ignore[no-any-return]


def end(record: dict[str, Any], address: str, port: str, kind: str) -> tuple[Any, ...]:
    text = BROADCAST.get(record[address], record[address])
    return (text, int(record[port])) if kind in WITH_PORTS else (text,)


def both(capture: Path, kinds: list[str]) -> int:
    """Compare the tables of one capture; the number of rows."""
    requests = [f"{what},{kind}" for kind in kinds for what in ("conv", "endpoints")]
    tables = sharkstat.run(capture, requests, two_pass=True)
    if not tables[0].complete:
        pytest.skip("sharkd never answers for a file that is cut short")
    sharkd().ask("load", {"file": str(capture.absolute())})
    taps: dict[str, dict[str, Any]] = {}
    for first in range(0, len(kinds), 5):  # it takes 16 at most
        asked = [f"{what}:{SHARKD[kind]}" for kind in kinds[first : first + 5] for what in ("conv", "endpt")]
        answer = sharkd().ask("tap", {f"tap{n}": tap for n, tap in enumerate(asked)})
        taps |= {tap["tap"]: tap for tap in answer["taps"]}
    seen = 0
    for table in tables:
        what, kind = table.name.split(",")
        assert table.engine == "lua" and not any(column.approximate for column in table.columns)
        keys = [c.name for c in table.keys if c.name != "stream" and (kind != "dccp" or c.name.startswith("address"))]
        if what == "conv":
            base = table.reading.start or 0
            names = ("packets_a_to_b", "bytes_a_to_b", "packets_b_to_a", "bytes_b_to_a")
            ours = [
                (
                    *(row[k] for k in keys),
                    *(row[n] for n in names),
                    *(oracle.shown(int(str(row[t])) - base) for t in ("start", "stop")),
                )
                for row in table
            ]
            theirs = [
                (
                    *(*end(c, "saddr", "sport", kind), *end(c, "daddr", "dport", kind)),
                    *(c["txf"], c["txb"], c["rxf"], c["rxb"]),
                    *(c["start"], c["stop"]),
                )
                for c in taps[f"conv:{SHARKD[kind]}"]["convs"]
            ]
        else:
            names = ("tx_packets", "tx_bytes", "rx_packets", "rx_bytes")
            ours = [(*(row[k] for k in keys), *(row[n] for n in names)) for row in table]
            theirs = [
                (*end(h, "host", "port", kind), *(h[n] for n in ("txf", "txb", "rxf", "rxb")))
                for h in taps[f"endpt:{SHARKD[kind]}"]["hosts"]
            ]
        assert sorted(map(str, ours)) == sorted(map(str, theirs)), table.name
        seen += len(ours)
    return seen


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("made/bt.pcap", ["bluetooth"]),
        ("made/usb.pcap", ["usb"]),
        ("ndpi/capwap.pcap", ["wlan"]),
        ("ndpi/dns2tcp_tunnel.pcap", ["sll"]),
        ("ndpi/dos_win98_smb_netbeui.pcap", ["ipx"]),
        pytest.param("ndpi/reasm_crash_anon.pcapng", ["sll"], marks=pytest.mark.long),
        pytest.param("wireshark/communityid.pcap.gz", ["sctp"], marks=pytest.mark.long),
        ("wireshark/netperfmeter.pcapng.gz", ["dccp", "sctp", "sll"]),
        ("wireshark/nfs.pcap", ["fddi"]),
        ("wireshark/tftp.pcap", ["tr"]),
        pytest.param("wireshark/wep.pcapng.gz", ["wlan"], marks=pytest.mark.long),
        ("wireshark/wpa-Induction.pcap.gz", ["wlan"]),
    ],
)
def test_these_captures_have_them(name: str, kinds: list[str]) -> None:
    assert both(CORPUS / name, kinds) >= 2 * len(kinds)


def test_dccp_conversations_have_the_ports_of_their_packets() -> None:
    capture = CORPUS / "wireshark/netperfmeter.pcapng.gz"
    names = ["ip.src", "dccp.srcport", "ip.dst", "dccp.dstport", "frame.len"]
    sent: Counter[tuple[str, ...]] = Counter()
    for *ends, length in oracle.fields(capture, names, "-Y", "dccp"):
        sent[tuple(value for (value,) in ends)] += int(length[0])
    counted: Counter[tuple[str, ...]] = Counter()
    for row in sharkstat.run(capture, "conv,dccp")[0]:
        a, b = ((str(row[f"address_{end}"]), str(row[f"port_{end}"])) for end in "ab")
        counted[a + b] += row["bytes_a_to_b"]  # type: ignore[assignment, operator]
        counted[b + a] += row["bytes_b_to_a"]  # type: ignore[assignment, operator]
    assert +counted == sent


@pytest.mark.long
@pytest.mark.parametrize("capture", corpus_captures() or [CORPUS], ids=lambda path: path.relative_to(CORPUS).as_posix())
def test_every_capture(capture: Path) -> None:
    try:
        both(capture, list(SHARKD))
    except sharkstat.SourceError as problem:
        pytest.skip(str(problem))
