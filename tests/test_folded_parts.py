"""Keys that are expressions of a field with many values: what is counted is folded in parts, and nothing is lost."""

from __future__ import annotations

import ipaddress
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.command import DATA
from tests.traffic.capturefiles import udp_frame, write_pcap

import sharkstat
from sharkstat.statistics import grouping
from sharkstat.statistics.folding import Fold

ASKED = [
    "group,by=ip.src/12,count,sum=frame.len,count where udp.length > 8 as some,distinct=ip.src",
    "group,by=host(ip.src/12, ip.dst),count,percentile=udp.length:50",
]


@pytest.fixture
def put_together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each putting together of parts gave: there is none where all was kept until the end."""
    done: list[int] = []
    real = Fold.together

    def together(fold: Fold, *rows: Any) -> Any:
        found = list(real(fold, *rows))
        done.append(len(found))
        return found

    monkeypatch.setattr(Fold, "together", together)
    return done


def test_more_values_than_are_kept_are_all_counted(tmp_path: Path, put_together: list[int]) -> None:
    """55,000 senders in four networks, each with a packet of 0 to 2 bytes."""
    packets, sizes, some = [], Counter[str](), Counter[str]()
    for at in range(55_000):
        sender = ipaddress.IPv4Address(0x0A000000 + at * 61)
        network, body = str(ipaddress.ip_network((sender, 12), strict=False)), bytes(at % 3)
        packets.append((at * 10**5, udp_frame((str(sender), 9), ("192.0.2.1", 9), body)))
        sizes[network] += len(packets[-1][1])
        some[network] += bool(body)
    path = tmp_path / "many.pcap"
    write_pcap(path, packets)
    networks, hosts = sharkstat.run(path, ASKED)
    assert len(put_together) >= 2 * len(ASKED), "no part was sent before the end"
    assert {row["ip_src_subnet_12"]: row["bytes"] for row in networks} == sizes and len(sizes) > 2
    assert {row["ip_src_subnet_12"]: row["some"] for row in networks} == some
    assert networks.total("packets") == 55_000
    for row in networks:
        assert row["ip_src_distinct"] == pytest.approx(row["packets"], rel=0.025)
    [server] = [row for row in hosts if row["host"] == "192.0.2.1"]
    assert (server["packets"], server["packets_in"], server["packets_out"]) == (55_000, 55_000, 0)
    assert server["udp_length_p50"] == 9


def test_on_packets_too(monkeypatch: pytest.MonkeyPatch, put_together: list[int]) -> None:
    capture, asked = DATA / "story-after.pcapng", [*ASKED, "group,by=lower(http.host):all,every=1s,count,seen"]
    whole = sharkstat.run(capture, asked, engine="packets")
    assert not put_together
    monkeypatch.setattr(grouping, "MOST_FOLDED", 2)
    parts = sharkstat.run(capture, asked, engine="packets")
    assert len(put_together) > len(asked)
    assert [table.rows for table in parts] == [table.rows for table in whole]
    assert [table.rows for table in sharkstat.run(capture, asked)] == [table.rows for table in whole]
