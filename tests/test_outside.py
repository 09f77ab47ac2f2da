"""conv,tcp and conv,udp against the flows of argus, a program that shares no code with Wireshark.

argus comes with Debian: apt install argus-server argus-client. It reads Ethernet and a few other links, dissects
nothing above the ports, and looks into no tunnel. So captures are compared whose packets all have one network header,
each whole, and in one piece: of a datagram in fragments, tshark counts the one that completes it, and argus each.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests import oracle
from tests.measure import corpus_captures, data_captures

import sharkstat
from sharkstat.testing.cutting import Records

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not (shutil.which("argus") and shutil.which("racluster")),
        reason="argus is not here: apt install argus-server argus-client",
    ),
]

Flow = tuple[str, str, int, str, int]  # transport, from, port, to, port


def flows_of_argus(capture: Path) -> Counter[tuple[Flow, str]]:
    """Packets and bytes of every direction; connections that share addresses and ports are one."""
    keys = ["proto", "saddr", "sport", "daddr", "dport"]
    numbers = ["spkts", "dpkts", "sbytes", "dbytes"]
    read = subprocess.run(["argus", "-r", str(capture), "-w", "-"], capture_output=True, check=True, timeout=60).stdout
    shown = subprocess.run(
        ["racluster", "-r", "-", "-n", "-u", "-c", ",", "-m", *keys, "-s", *keys, *numbers, "-", "tcp or udp"],
        input=read,
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout.decode()
    found: Counter[tuple[Flow, str]] = Counter()
    for proto, a, a_port, b, b_port, *counts in list(csv.reader(shown.splitlines()))[1:]:
        transport = proto if proto == "tcp" else "udp"  # it calls some of it rtp
        there = (transport, a, int(a_port, 0), b, int(b_port, 0))
        back = (transport, b, int(b_port, 0), a, int(a_port, 0))
        for flow, packets, size in ((there, counts[0], counts[2]), (back, counts[1], counts[3])):
            found[flow, "packets"] += int(packets)
            found[flow, "bytes"] += int(size)
    return +found


def flows_of_sharkstat(capture: Path) -> Counter[tuple[Flow, str]]:
    found: Counter[tuple[Flow, str]] = Counter()
    for table in sharkstat.run(capture, ["conv,tcp", "conv,udp"]):
        for row in table:
            protocol = table.name.partition(",")[2]
            ends: list[Any] = [row[f"{what}_{end}"] for end in "ab" for what in ("address", "port")]
            for flow, way in ((ends, "a_to_b"), (ends[2:] + ends[:2], "b_to_a")):
                for unit in ("packets", "bytes"):
                    count: Any = row[f"{unit}_{way}"]
                    found[(protocol, *flow), unit] += count
    return +found


def comparable(capture: Path) -> bool:
    """Whether argus can see what tshark does: Ethernet, one network header a packet, whole packets, no fragments."""
    some = False
    names = ["frame.protocols", "frame.len", "frame.cap_len", "ip.flags.mf", "ip.frag_offset", "ipv6.fraghdr.nxt"]
    for protocols, whole, kept, more, offset, fragment in oracle.fields(capture, names):
        path = protocols[0].partition(":icmp")[0].split(":")
        if path[0] != "eth" or sum(protocol in ("ip", "ipv6", "eth") for protocol in path) > 2 or whole != kept:
            return False
        if more[:1] in (["1"], ["True"]) or offset[:1] not in ([], ["0"]) or fragment:
            return False
        some |= "tcp" in path or "udp" in path
    return some


def blind_spots(capture: Path) -> str:
    """What argus does not see in a capture that it reads, or "": what is compared is all that it does.

    Of a frame with a provider's tag it takes no IP (its flow is then of protocol 34984, which is 0x88a8); packets
    without a length in their IP header, as a host that leaves segmentation to its network card captures them, it leaves
    out. And libpcap opens no file with times finer than 10^-19 s.
    """
    if capture.suffix == ".pcapng" and b"\x09\x00\x01\x00\x14" in capture.read_bytes()[:256]:
        return "libpcap does not open it"
    for packet in Records.of(capture).packets:
        if packet.data[12:14] == b"\x88\xa8":
            return "argus does not look behind a provider's tag"
        if packet.data[12:14] == b"\x08\x00" and packet.data[16:18] == b"\x00\x00":
            return "argus leaves out packets without a length"
    return ""


CAPTURES = [path for path in data_captures() if path.suffix != ".gz"]  # which argus does not read
LARGE = [path for path in corpus_captures() if path.suffix != ".gz"]


@pytest.mark.parametrize(
    "capture",
    [*CAPTURES, *(pytest.param(path, marks=pytest.mark.corpus) for path in LARGE)],
    ids=lambda path: path.name,
)
def test_conversations_are_the_flows_of_argus(capture: Path) -> None:
    if not comparable(capture):
        pytest.skip("not what argus reads: tunnels, errors that quote packets, cut packets, or another link")
    if reason := blind_spots(capture):
        pytest.skip(reason)
    ours, theirs = flows_of_sharkstat(capture), flows_of_argus(capture)
    assert ours == theirs
