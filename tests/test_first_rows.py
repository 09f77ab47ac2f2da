"""--top inside tshark: the same table as if all rows had been sent, and cut afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.command import DATA
from tests.measure import CORPUS
from tests.traffic.capturefiles import tcp_frame, udp_frame, write_pcap

import sharkstat
from sharkstat.running.plan import make_plan
from sharkstat.running.runner import run_plan
from sharkstat.tables.selection import Selection
from sharkstat.tshark.process import find_tshark

REQUESTS = (
    *("conv,tcp", "conv,ip", "conv,udp", "conv,eth", "endpoints,ip", "endpoints,udp", "services", "traffic", "apps"),
    *("talkers", "latency", "tcp,health", "tcp,servers", "dns,names", "http,requests", "icmp,errors", "timeline"),
    *("io,stat,1", "io,phs", "http,tree", "tls,servers", "services,max=2", "conv,tcp,tcp.len > 0"),
    "group,by=ip.src,sum=frame.len",
    "group,by=ip.src,max=dns.time",  # a measure that most rows have not
    "group,by=frame.protocols,distinct=ip.src",
    "group,by=tcp.dstport/udp.dstport,by=ip.ttl,mean=frame.len",
    "group,every=1s,by=ip.src",
    "group,by=ip.src,min=frame.time_epoch",
    "group,by=http.request.uri,by=frame.time_epoch",  # a key that turns out to be a time
    "group,by=http.host,by=http.user_agent",
)
CHOSEN = (
    Selection(top=3),
    Selection(top=1, share="every"),
    Selection(top=5, sort="packets:asc", share="declared"),
    Selection(top=4, sort="bytes"),
    Selection(top=2, sort="mean_time"),
    Selection(top=2, sort="clients", share="every"),
    Selection(top=3, sort="address:asc"),
)


def check(capture: Path, requests: Sequence[str], choices: Sequence[Selection] = CHOSEN) -> int:
    """Hold them against each other; how many tables came without some of their rows."""
    plan = make_plan(sharkstat.Source(files=(str(capture),)), requests, "", sharkstat.Registry.default())
    whole = run_plan(plan, find_tshark())
    cut = 0
    for chosen in choices:
        assert chosen.top
        tables = run_plan(plan.again().with_first_rows(chosen, chosen.top), find_tshark())
        for all_rows, some in zip(whole, tables, strict=True):
            wanted, got = chosen.apply(all_rows), chosen.apply(some)
            what = (capture.name, some.request, chosen)
            assert got.rows == wanted.rows, what
            assert (got.columns, got.omitted, got.capped) == (wanted.columns, wanted.omitted, wanted.capped), what
            assert got.warnings == wanted.warnings, what
            cut += some.omitted > 0
    return cut


def test_tables_are_those_that_are_cut_afterwards() -> None:
    assert check(DATA / "story-after.pcapng", REQUESTS) > 60


@pytest.mark.long
@pytest.mark.parametrize("name", ["dns", "http", "connections", "retransmissions", "cut", "tls", "ipv6", "tunnel"])
def test_tables_of_other_captures(name: str) -> None:
    check(DATA / f"{name}.pcapng", REQUESTS)


@pytest.mark.long
def test_tables_of_strangers_captures() -> None:
    for path in sorted((CORPUS / "ndpi").glob("*.pcap*"))[::12]:
        check(path, REQUESTS[:17], CHOSEN[:3])


def test_rows_that_are_equal_but_for_their_text(tmp_path: Path) -> None:
    """Names of equal counts, among them some that are no text and some that look like our own."""
    names = [
        b"a",
        b"B",
        b"\xc3\xa9",
        b"\xff",
        b"\\xff",
        b"\\x",
        b"(other)",
        b"(",
        b"z\xe4",
        b"\xf0\x9f\x8e\x89",
        b"\xef\xbf\xbd",
    ]
    packets = [
        (
            i * 1_000_000,
            tcp_frame(("192.0.2.1", 2000 + i), ("192.0.2.2", 80), b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % name),
        )
        for i, name in enumerate(names)
    ]
    # The addresses of these come in an order of their own, and all else of them is equal.
    packets += [
        ((100 + i) * 1_000_000, udp_frame((f"198.51.100.{i * 37 % 251}", 9), ("192.0.2.9", 9), b"x" * 20))
        for i in range(1, 40)
    ]
    write_pcap(tmp_path / "equal.pcap", packets)
    requests = ["group,by=http.request.uri", "http,requests,path=full", "endpoints,ip", "conv,ip", "group,by=ip.src"]
    choices = [Selection(top=count) for count in range(1, len(names) + 2)]
    assert check(tmp_path / "equal.pcap", requests, choices) >= 4 * len(choices)
