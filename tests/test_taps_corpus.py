"""All taps of this kind in one run a capture, over the large captures: no error, and no message is lost."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.measure import CORPUS, corpus_captures

import sharkstat
from sharkstat import Table

TAPS = ("dns,names", "http,requests", "tls,servers", "quic,servers", "arp,hosts", "dhcp,leases")
TREES = ("dns,tree", "http,tree")
# DNS over QUIC, which tshark's own tree does not see.
BESIDE_THE_TREE = {"doq.pcapng"}

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(not CORPUS.exists(), reason="the large captures are not there: ../shared/captures"),
]


@pytest.fixture(scope="module")
def tables() -> dict[Path, Future[list[Table]]]:
    """Each capture's tables, two captures at a time, ahead of the tests that want them."""
    pool = ThreadPoolExecutor(max_workers=2)
    found = {capture: pool.submit(sharkstat.run, capture, [*TAPS, *TREES]) for capture in corpus_captures()}
    pool.shutdown(wait=False)
    return found


@pytest.mark.parametrize("capture", corpus_captures(), ids=lambda path: path.name)
def test_every_message_is_in_a_row(capture: Path, tables: dict[Path, Future[list[Table]]]) -> None:
    dns, http, tls, quic, *_, dns_tree, http_tree = tables[capture].result()
    messages = sum(dns.total(measure) for measure in ("queries", "retransmissions", "responses"))
    known = sum(row["count"] for row in dns_tree if row["path"] == ("Total Packets",))  # type: ignore[misc]
    if capture.name not in BESIDE_THE_TREE:
        assert messages == known
    by_kind = {row["path"][-1]: row["count"] for row in http_tree}  # type: ignore[index]
    assert http.total("requests") == by_kind.get("HTTP Request Packets", 0)
    assert http.total("responses") == by_kind.get("HTTP Response Packets", 0)
    for table in (tls, quic):
        assert table.total("timed") <= table.total("completed") <= table.total("connections")
        assert table.total("bytes") <= table.reading.bytes
    for table in (dns, http, tls, quic):
        assert all(row["time"] >= 0 for row in table) or not table.rows  # type: ignore[operator]
