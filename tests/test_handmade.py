"""Second captures of the families of which the large captures hold but one: frames that this project wrote itself.

What is in each is known from its making (tests/traffic/handmade.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import oracle
from tests.traffic import handmade

import sharkstat
from sharkstat import Row


def rows(path: Path, request: str) -> list[Row]:
    (table,) = sharkstat.run(path, request)
    assert not table.warnings
    return table.rows


def test_rtsp(tmp_path: Path) -> None:
    said = [("OPTIONS", 200, "OK"), ("DESCRIBE", 404, "Not Found"), ("DESCRIBE", 200, "OK"), ("TEARDOWN", 200, "OK")]
    found = rows(handmade.write(tmp_path / "rtsp.pcap", handmade.rtsp(said)), "rtsp,stat")
    assert {row["code"]: row["packets"] for row in found if row["kind"] == "response"} == {200: 3, 404: 1}
    assert {row["name"]: row["packets"] for row in found if row["kind"] == "request"} == {
        "OPTIONS": 1,
        "DESCRIBE": 2,
        "TEARDOWN": 1,
    }


def test_wsp(tmp_path: Path) -> None:
    found = rows(handmade.write(tmp_path / "wsp.pcap", handmade.wsp([0x20, 0x44, 0x20])), "wsp,stat")
    assert {row["code"]: row["packets"] for row in found if row["kind"] == "status"} == {0x20: 2, 0x44: 1}
    assert {row["name"]: row["packets"] for row in found if row["kind"] == "pdu"} == {"Get": 3, "Reply": 3}


def test_diameter(tmp_path: Path) -> None:
    sessions = ["one;1;1", "two;2;2"]
    path = handmade.write(tmp_path / "diameter.pcap", handmade.diameter(sessions))
    found = rows(path, "diameter,avp,272,Session-Id,Origin-Host")
    assert [(row["packet"], row["request"], row["Session-Id"], row["Origin-Host"]) for row in found] == [
        (1, True, "one;1;1", "client"),
        (2, False, "one;1;1", "server"),
        (3, True, "two;2;2", "client"),
        (4, False, "two;2;2", "server"),
    ]
    assert [row["request_packet"] for row in found if not row["request"]] == [1, 3]
    (srt,) = rows(path, "diameter,srt")
    assert (srt["calls"], srt["min_srt"], srt["max_srt"]) == (2, 100_000_000, 100_000_000)


def test_sampled_values(tmp_path: Path) -> None:
    path = handmade.write(tmp_path / "sv.pcap", handmade.sampled_values([7, 8, 9]))
    assert [row["sample"] for row in rows(path, "sv")] == [7, 8, 9]


@pytest.mark.skipif(oracle.version() < (4, 6), reason="no tshark before 4.6 has it")
def test_fronthaul(tmp_path: Path) -> None:
    path = handmade.write(tmp_path / "fronthaul.pcap", handmade.fronthaul(control=3, user=[0, 1, 3]))
    found = rows(path, "oran-fh-cus,stat")
    names = ("plane", "eaxc_id", "direction", "frames", "section_ids", "missing_sns", "prbs", "res")
    assert [tuple(row[name] for name in names) for row in found] == [
        ("C", 1, "DL", 3, "1", 0, None, None),
        ("U", 2, "UL", 3, "1", 1, 6, 72),
    ]


def test_gsm_a(tmp_path: Path) -> None:
    # A location update is accepted, and a call is set up, alerted and released.
    messages = ["0502", "0305", "8301", "032d"]
    frames = handmade.gsm_a([bytes.fromhex(message) for message in messages])
    found = rows(handmade.write(tmp_path / "gsm_a.pcap", frames, handmade.EXPORTED_PDU), "gsm_a")
    assert {(row["protocol"], row["id"]): row["count"] for row in found} == {
        ("DTAP Mobility Management messages", 0x02): 1,
        ("DTAP Call Control; call related SS messages", 0x05): 1,
        ("DTAP Call Control; call related SS messages", 0x01): 1,
        ("DTAP Call Control; call related SS messages", 0x2D): 1,
    }


def test_camel(tmp_path: Path) -> None:
    path = handmade.write(tmp_path / "camel.pcap", handmade.camel(), handmade.EXPORTED_PDU)
    found = {row["category"]: row for row in rows(path, "camel,srt")}
    assert found["TCAP_Session"]["measures"] == 1
    if oracle.version() < (4, 2):  # later ones take the Begin itself for what ends it, and measure nothing else
        assert found["TCAP_Session"]["max_srt"] == 200_000_000
        assert found["InitialDP/Continue"]["measures"] == 1
        assert found["InitialDP/Continue"]["min_srt"] == 100_000_000
