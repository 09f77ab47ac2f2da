"""Second captures of the families of which the large captures hold but one: two hosts on a wire, captured by dumpcap.

What they said is known from its making (tests/traffic/spoken.py), and when, from the capture.
"""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest
from tests import oracle
from tests.traffic import spoken

import sharkstat
from sharkstat import Row

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root: NOT TESTED HERE")


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = spoken.capture(tmp_path_factory.mktemp("spoken") / "spoken.pcapng")
    path.chmod(0o644)
    return path


def rows(path: Path, request: str) -> list[Row]:
    (table,) = sharkstat.run(path, request)
    assert not table.warnings
    return table.rows


def packets(path: Path, filter: str) -> list[tuple[int, int]]:
    """Number and time, in nanoseconds, of the packets that the filter takes."""
    found = oracle.fields(path, ["frame.number", "frame.time_relative"], "-Y", filter)
    return [(int(number[0]), int(Decimal(time[0]) * 10**9)) for number, time in found]


def test_rtsp(capture: Path) -> None:
    found = rows(capture, "rtsp,stat")
    assert {row["code"]: row["packets"] for row in found if row["kind"] == "response"} == {200: 3, 404: 1}
    assert {row["name"]: row["packets"] for row in found if row["kind"] == "request"} == {
        "OPTIONS": 1,
        "DESCRIBE": 2,
        "TEARDOWN": 1,
    }


def test_wsp(capture: Path) -> None:
    found = rows(capture, "wsp,stat")
    assert {row["code"]: row["packets"] for row in found if row["kind"] == "status"} == {0x20: 2, 0x44: 1}
    assert {row["name"]: row["packets"] for row in found if row["kind"] == "pdu"} == {"Get": 3, "Reply": 3}


def test_diameter(capture: Path) -> None:
    sent = packets(capture, "diameter")
    numbers = [number for number, _ in sent]
    found = rows(capture, "diameter,avp,272,Session-Id,Origin-Host")
    assert [(row["packet"], row["request"], row["Session-Id"], row["Origin-Host"]) for row in found] == [
        (numbers[0], True, "one;1;1", "client"),
        (numbers[1], False, "one;1;1", "server"),
        (numbers[2], True, "two;2;2", "client"),
        (numbers[3], False, "two;2;2", "server"),
    ]
    assert [row["request_packet"] for row in found if not row["request"]] == [numbers[0], numbers[2]]
    waited = [sent[1][1] - sent[0][1], sent[3][1] - sent[2][1]]
    (srt,) = rows(capture, "diameter,srt")
    for measure, exact in (("min_srt", min(waited)), ("max_srt", max(waited))):
        assert srt[measure] == pytest.approx(exact, abs=1000)  # tshark tells microseconds
    assert srt["calls"] == 2


def test_sampled_values(capture: Path) -> None:
    assert [row["sample"] for row in rows(capture, "sv")] == spoken.SAMPLES


@pytest.mark.skipif(oracle.version() < (4, 6), reason="no tshark before 4.6 has it")
def test_fronthaul(capture: Path) -> None:
    found = rows(capture, "oran-fh-cus,stat")
    names = ("plane", "eaxc_id", "direction", "frames", "section_ids", "missing_sns", "prbs", "res")
    assert [tuple(row[name] for name in names) for row in found] == [
        ("C", 1, "DL", 3, "1", 0, None, None),
        ("U", 2, "UL", 3, "1", 1, 6, 72),
    ]


def test_gsm_a(capture: Path) -> None:
    found = rows(capture, "gsm_a")
    assert {(row["protocol"], row["id"]): row["count"] for row in found} == {
        ("DTAP Mobility Management messages", 0x02): 1,
        ("DTAP Call Control; call related SS messages", 0x05): 1,
        ("DTAP Call Control; call related SS messages", 0x01): 1,
        ("DTAP Call Control; call related SS messages", 0x2D): 1,
    }


def test_camel(capture: Path) -> None:
    found = {row["category"]: row for row in rows(capture, "camel,srt")}
    (_, begin), (_, on), (_, end) = packets(capture, "tcap")
    assert found["TCAP_Session"]["measures"] == 1
    if oracle.version() < (4, 2):  # later ones take the Begin itself for what ends it, and measure nothing else
        for category, exact in (("TCAP_Session", end - begin), ("InitialDP/Continue", on - begin)):
            row = found[category]
            assert row["measures"] == 1
            assert row["min_srt"] == pytest.approx(exact, abs=5_000_000)  # tshark tells hundredths of seconds
