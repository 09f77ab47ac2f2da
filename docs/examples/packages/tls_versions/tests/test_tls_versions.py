"""tls,versions on real sessions of TLS 1.2 and 1.3."""

import pytest

from sharkstat.testing import Capture, Check, Run


@pytest.fixture
def sessions(sharkstat_capture: Capture) -> str:
    return str(sharkstat_capture("tls"))


def test_versions_and_suites_are_named(sessions: str, sharkstat_run: Run) -> None:
    table = sharkstat_run(sessions, "tls,versions")
    assert {(row["protocol"], row["cipher_suite"]): row["handshakes"] for row in table} == {
        ("TLS 1.2", "ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"): 2,
        ("TLS 1.3", "AES_256_GCM_SHA384"): 2,
    }


def test_servers_are_told_where_asked(sessions: str, sharkstat_run: Run) -> None:
    table = sharkstat_run(sessions, "tls,versions,rows=server")
    assert {(row["server"], row["port"]) for row in table} == {("192.0.2.20", 443)}
    assert table.total("handshakes") == 4


def test_it_keeps_what_a_statistic_promises(
    sessions: str, assert_engines_agree: Check, assert_merges: Check, assert_survives: Check
) -> None:
    request = "tls,versions,rows=server,tcp"
    assert_engines_agree(sessions, request)
    assert_merges(sessions, request)
    assert_survives(sessions, request)
