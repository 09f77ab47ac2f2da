"""icmp,errors against traffic whose errors are known, and against tshark's own fields."""

from __future__ import annotations

from collections import Counter

import pytest
from tests import oracle
from tests.command import DATA, TRUTH
from tests.measure import CORPUS

import sharkstat

ERRORS = DATA / "icmp-errors.pcapng"
FILTER = "icmp.type in {3, 4, 5, 11, 12} || icmpv6.type in {1, 2, 3, 4}"


@pytest.mark.parametrize("engine", ["lua", "packets"])
def test_every_error_that_was_provoked_is_there(engine: str) -> None:
    (table,) = sharkstat.run(ERRORS, "icmp,errors", engine=engine)
    closed = {
        (row["destination"], row["udp_port"]): row["errors"] for row in table if row["error"] == "port unreachable"
    }
    truth = TRUTH[ERRORS.name]
    assert closed == {
        (c["server_address"], c["server_port"]): c["port_unreachable"] for c in truth["udp_to_closed_ports"]
    }
    assert all(row["reporter"] == row["destination"] for row in table if row["error"] == "port unreachable")
    (expired,) = [row for row in table if row["error"] == "time to live exceeded"]
    assert expired["errors"] == truth["icmp_time_exceeded"]
    assert expired["reporter"] != expired["destination"]


@pytest.mark.corpus
def test_real_captures_are_counted_as_tshark_does() -> None:
    for name in ("ndpi/doq.pcapng", "ndpi/instagram.pcap"):
        capture = CORPUS / name
        (table,) = sharkstat.run(capture, "icmp,errors")
        names = ("icmp.type", "icmp.code", "icmpv6.type", "icmpv6.code")
        found = oracle.fields(capture, names, "-Y", FILTER)
        expected = Counter(tuple(int((four or six)[0]) for four, six in ((a, c), (b, d))) for a, b, c, d in found)
        counted: Counter[tuple[object, object]] = Counter()
        for row in table:
            counted[row["type"], row["code"]] += int(str(row["errors"]))
            assert row["reporter"] and row["sender"] and row["error"]
        assert counted == expected and counted
