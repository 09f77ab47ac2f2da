"""All taps of this kind in one run, over the large captures: no error, and no message is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.measure import CORPUS, corpus_captures

import sharkstat

# tshark's own tree counts HTTP over UDP, and no HTTP/2 or HTTP/3.
REQUESTS, TREE = "http,requests,!http2 && !http3", "http,tree,!udp || tcp"
TAPS = ("dns,names", REQUESTS, "tls,servers", "quic,servers", "arp,hosts", "dhcp,leases")
TREES = ("dns,tree", TREE)
# DNS over QUIC, which tshark's own tree does not see.
BESIDE_THE_TREE = {"doq.pcapng"}

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(not CORPUS.exists(), reason="the large captures are not there: ../shared/captures"),
]


# Many at a time, since to start tshark takes longer than to read most of them: every tenth by default, then the others.
BATCHES = [
    pytest.param(corpus_captures()[first::10], id=f"{first + 1} of 10", marks=[pytest.mark.long] if first else [])
    for first in range(10)
]


@pytest.mark.parametrize("captures", BATCHES)
def test_every_message_is_in_a_row(captures: list[Path]) -> None:
    captures = [capture for capture in captures if capture.name not in BESIDE_THE_TREE]
    dns, http, tls, quic, *_, dns_tree, http_tree = sharkstat.run(captures, [*TAPS, *TREES])
    messages = sum(dns.total(measure) for measure in ("queries", "retransmissions", "responses"))
    known = sum(row["count"] for row in dns_tree if row["path"] == ("Total Packets",))  # type: ignore[misc]
    assert messages == known
    by_kind = {row["path"][-1]: row["count"] for row in http_tree}  # type: ignore[index]
    assert http.total("requests") == by_kind.get("HTTP Request Packets", 0)
    assert http.total("responses") == by_kind.get("HTTP Response Packets", 0)
    for table in (tls, quic):
        assert table.total("timed") <= table.total("completed") <= table.total("connections")
        assert table.total("bytes") <= table.reading.bytes
    for table in (dns, http, tls, quic):
        assert all(row["time"] >= 0 for row in table) or not table.rows  # type: ignore[operator]
