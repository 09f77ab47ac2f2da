"""arp,hosts and dhcp,leases against what was sent, and against tshark's own fields."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests import oracle
from tests.measure import CORPUS, DATA, once

import sharkstat
from sharkstat import Table

TRUTH: dict[str, dict[str, Any]] = json.loads((DATA / "truth.json").read_text())["captures"]
KINDS = ("discover", "offer", "request", "decline", "ack", "nak", "release", "inform")


def hosts(capture: Path, request: str = "arp,hosts") -> Table:
    return once(capture, request)


def real(*names: str) -> list[Any]:
    missing = pytest.mark.skipif(not CORPUS.exists(), reason="the large captures are not there")
    return [pytest.param(CORPUS / name, marks=[pytest.mark.corpus, missing], id=name) for name in names]


# ARP


def test_every_address_has_what_was_sent_for_it() -> None:
    rows = {row["address"]: row for row in hosts(DATA / "arp.pcapng")}
    truth = TRUTH["arp.pcapng"]["arp"]
    assert set(rows) == set(truth)
    for address, facts in truth.items():
        found = {name: rows[address][name] for name in facts if name != "macs"}
        assert found == {name: count for name, count in facts.items() if name != "macs"}
        assert rows[address]["mac_count"] == facts["macs"]
    assert rows["192.0.2.52"]["macs"] == ("02:00:00:00:05:02", "02:00:00:00:05:66")
    assert rows["192.0.2.61"]["first_seen"] is None


@pytest.mark.parametrize(
    "capture",
    [*(DATA / name for name in ("arp.pcapng", "story-after.pcapng")), *real("wireshark/arp.pcap", "ndpi/teams.pcap")],
    ids=lambda path: path.name,
)
def test_every_arp_packet_is_in_one_row(capture: Path) -> None:
    packets = oracle.fields(
        capture, ["arp.opcode", "arp.src.proto_ipv4", "arp.src.hw_mac", "frame.time_epoch"], "-Y", "arp"
    )
    claimed: dict[str, set[str]] = {}
    for operation, address, mac, _ in packets:
        if operation[0] in ("1", "2") and address and address[0] != "0.0.0.0":
            claimed.setdefault(address[0], set()).add(mac[0])
    table = hosts(capture)
    assert sum(table.total(name) for name in ("requests", "replies", "probes", "other")) == len(packets)
    assert {row["address"]: set(row["macs"]) for row in table if row["macs"]} == claimed  # type: ignore[arg-type]
    assert table.total("replies") == sum(operation == ["2"] for operation, *_ in packets)
    times = [oracle.nanoseconds(time[0]) for *_, time in packets]
    if times:
        assert min(row["first_seen"] for row in table if row["first_seen"]) == min(times)
        assert max(row["last_seen"] for row in table if row["last_seen"]) == max(times)


def test_addresses_beyond_the_cap_are_counted_in_one_row() -> None:
    whole, capped = hosts(DATA / "arp.pcapng"), hosts(DATA / "arp.pcapng", "arp,hosts,max=2")
    assert [row["address"] for row in capped] == ["(other)", "192.0.2.10", "192.0.2.20"]
    for name in ("requests", "replies", "gratuitous", "probes", "other", "asked_for"):
        assert capped.total(name) == whole.total(name)


# DHCP


def test_every_client_has_its_messages_and_its_lease() -> None:
    rows = {row["client_mac"]: row for row in hosts(DATA / "dhcp.pcapng", "dhcp,leases")}
    truth = TRUTH["dhcp.pcapng"]["dhcp"]
    assert set(rows) == set(truth)
    for mac, facts in truth.items():
        row = rows[mac]
        assert {kind: row[kind] for kind in KINDS if row[kind]} == facts["messages"]
        assert (list(row["addresses"]), list(row["servers"])) == (facts["addresses"], facts["servers"])  # type: ignore[arg-type]
        seconds = facts["lease_time_s"]
        assert row["lease_time"] == (None if seconds is None else seconds * 10**9)
    assert rows["02:00:00:00:06:01"]["hostnames"] == ("laptop",)


def test_a_hostname_forges_no_row() -> None:
    [row] = [row for row in hosts(DATA / "dhcp.pcapng", "dhcp,leases") if row["nak"]]
    assert isinstance(row["hostnames"], tuple)
    [name] = row["hostnames"]
    assert name.startswith("tab") and "here" in name and "new" in name


def test_a_host_called_full_fills_no_set(tmp_path: Path) -> None:
    """full is a word of ours, too: the set of at most 100 values would say that it has no room."""
    sent = (DATA / "dhcp.pcapng").read_bytes()
    assert b"\x0c\x06laptop" in sent
    (tmp_path / "full.pcapng").write_bytes(sent.replace(b"\x0c\x06laptop", b"\x0c\x04full\0\0"))
    table = hosts(tmp_path / "full.pcapng", "dhcp,leases")
    rows = {row["client_mac"]: row for row in Table.merge([table, hosts(DATA / "dhcp.pcapng", "dhcp,leases")])}
    names = rows["02:00:00:00:06:01"]["hostnames"]
    assert isinstance(names, tuple) and set(names) == {"full", "laptop"}


@pytest.mark.parametrize(
    "capture",
    [DATA / "dhcp.pcapng", *real("wireshark/dhcp.pcap", "wireshark/dhcp-nanosecond.pcap")],
    ids=lambda path: path.name,
)
def test_every_dhcp_message_is_in_one_row(capture: Path) -> None:
    packets = oracle.fields(capture, ["dhcp.hw.mac_addr", "dhcp.option.dhcp"], "-Y", "dhcp")
    kinds = Counter(KINDS[int(kind[0]) - 1] if kind and 0 < int(kind[0]) < 9 else "other" for _, kind in packets)
    table = hosts(capture, "dhcp,leases")
    assert {name: table.total(name) for name in (*KINDS, "other") if table.total(name)} == kinds
    assert {row["client_mac"] for row in table} == {macs[0] if macs else None for macs, _ in packets}


# Both


@pytest.mark.parametrize("request_, name", [("arp,hosts", "arp.pcapng"), ("dhcp,leases", "dhcp.pcapng")])
def test_a_table_of_parts_is_the_table_of_the_whole(request_: str, name: str) -> None:
    captures = [DATA / "story-after.pcapng", DATA / name]
    [whole] = sharkstat.run(captures, request_)
    merged = Table.merge([hosts(capture, request_) for capture in captures])
    assert merged.rows == whole.rows and merged.rows
