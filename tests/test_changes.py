"""Pairs of captures with one known difference each: the first cause is that difference.

And pairs cut from steady traffic, where nothing is to be blamed. The traffic around differs by chance in all of them.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.traffic import wire
from tests.traffic.changes import CLIENTS, FILES, WEB, Change, Office, nothing, office

import sharkstat
from sharkstat import Diff, Table

NEW_CLIENT, SCANNER, NEW_WEB, WEB_6 = "192.0.2.77", "192.0.2.66", "198.51.100.180", "2001:db8::80"


def turn(**knobs: object) -> Change:
    def change(day: Office) -> None:
        for name, value in knobs.items():
            assert hasattr(day, name)
            setattr(day, name, value)

    return change


def over_ipv6(day: Office) -> None:
    day.web = WEB_6
    day.clients = [f"2001:db8::{number}" for number in range(10, 16)]


def loop(day: Office) -> None:
    for number in range(1500):
        day.lookup(5 + number * 0.03, CLIENTS[2], "wpad.corp.example", "192.0.2.99")


def s1ap(day: Office) -> None:
    for number in range(400):
        chunk = struct.pack("!BBHIHHI", 0, 3, 1016, number + 1, 0, number, 0) + bytes(1000)
        sctp = struct.pack("!HHII", 36412, 36412, 77, 0) + chunk
        day.wire.put(5 + number / 10, wire.ethernet("10.1.0.5", "10.1.0.6", sctp, 132))


def vendor(day: Office) -> None:
    for at in day.times(30):
        day.secure(at, CLIENTS[1], "203.0.113.77", 443, "sync.vendor.example", 20000)


@dataclass(frozen=True)
class Pair:
    """What is turned or comes on top in the second capture, and what must be said of it.

    `says` are words of the first finding, `then` of the second.
    """

    says: tuple[str, ...]
    turned: Change = nothing
    added: Change = nothing
    kind: str = "changed"
    by: str = "bytes"
    then: tuple[str, ...] = ()
    before: Change = nothing


PAIRS = {
    "a bucket that grows": Pair(
        ("http store.example.net:80", "GET /backup?list-type&max-keys&prefix", "requests 16 → 96"),
        turned=turn(listing=(24, 9000)),
    ),
    "larger answers of the same count": Pair(
        ("http store.example.net:80", "GET /backup?list-type", "16 requests, 2.6 → 62 kB"),
        turned=turn(listing=(4, 60000))
    ),
    "a new client": Pair(
        (f"client {NEW_CLIENT}", "new"),
        added=lambda day: day.browse(NEW_CLIENT, 40), kind="new"
    ),
    "a client gone": Pair(
        ("http www.example.net:80", f"client {CLIENTS[3]}", "gone"),
        turned=turn(clients=CLIENTS[:3] + CLIENTS[4:]),
        kind="gone",
    ),
    "moved to another port": Pair(
        ("www.example.net moved from port 80 to port 8080",), turned=turn(web_port=8080), kind="moved"
    ),
    "moved to another address": Pair(
        ("http www.example.net:80", f"moved from server {WEB} to server {NEW_WEB}"),
        turned=turn(web=NEW_WEB), kind="moved"
    ),
    "HTTP to HTTPS": Pair(
        ("www.example.net moved from http port 80 to tls port 443",),
        turned=turn(web_tls=True, web_port=443), kind="moved"
    ),
    "a retransmission storm": Pair(("http www.example.net:80", "retransmissions"), turned=turn(again=2), kind="new"),
    "a DNS name asked for in a loop": Pair(
        ("dns 192.0.2.53:53", "wpad.corp.example", f"client {CLIENTS[2]}"), added=loop, kind="new"
    ),
    "failing DNS": Pair(("www.example.net:80", "gone"), turned=turn(failing=True), kind="gone"),
    "a port scan": Pair(
        (f"client {SCANNER}", "900 ports", f"server {FILES}"),
        added=lambda day: day.scan(SCANNER, FILES, 900), kind="new", by="packets",
    ),
    "a backup at another hour": Pair(
        (f"rsync {FILES}:873", "new", "client 192.0.2.30"),
        added=lambda day: day.copy("192.0.2.30", FILES, 20, 900_000), kind="new",
    ),
    "a tenth of all bytes at another time": Pair(
        (f"rsync {FILES}:873, moved from 7.70 s to 41.96 s after the beginning",),
        before=lambda day: day.copy("192.0.2.30", FILES, 8, 130_000),
        added=lambda day: day.copy("192.0.2.30", FILES, 42, 130_000), kind="moved",
    ),
    "SCTP between two ends with the same port": Pair(
        ("s1ap port 36412, new: connections 0 → 1", "host 10.1.0.5"), added=s1ap, kind="new"
    ),
    "slow start of a new API path": Pair(
        ("http www.example.net:80", "GET /api/v2/prices?symbols", "new"),
        added=lambda day: day.ramp("/api/v2/prices?symbols=all", 6000), kind="new",
    ),
    "a service known by SNI only": Pair(
        ("tls sync.vendor.example:443", "new"),
        added=vendor,
        kind="new",
    ),
    "QUIC": Pair(("quic", "203.0.113.44", "new"), added=lambda day: day.quic(60), kind="new"),
    "gRPC": Pair(("grpc orders.example.net:8080", "new"), added=lambda day: day.grpc(160, 5000), kind="new"),
    "gRPC, larger answers": Pair(
        ("grpc orders.example.net:8080", "160 requests"), before=lambda day: day.grpc(160, 3000),
        added=lambda day: day.grpc(160, 9000),
    ),
    "gRPC that fails": Pair(
        ("grpc orders.example.net:8080", "moved from answered 200 to answered grpc-status 14: 160 requests"),
        before=lambda day: day.grpc(160, 3000), added=lambda day: day.grpc(160, 0, status=14), kind="moved",
    ),
    "a name with twenty addresses moves to others": Pair(
        ("tls static.cdn.example:443", "moved from 20 servers (203.0.113.1, ", " to 20 servers (198.51.100.1, "),
        before=lambda day: day.from_many("203.0.113"), added=lambda day: day.from_many("198.51.100"), kind="moved",
    ),
    "a connection for each request": Pair(
        ("http api.example.net:80", "600 requests", "25 → 1.0 a connection"),
        before=lambda day: day.ask_api(24, 25), added=lambda day: day.ask_api(600, 1), by="packets",
    ),
    "UDP flood": Pair(
        (f"udp {FILES}:7777", "new", "client 203.0.113.9"),
        added=lambda day: day.flood("203.0.113.9", FILES, 7777, 3000), kind="new",
    ),
    "larger MTU": Pair(
        ("http www.example.net:80", "a packet"),
        turned=turn(segment=8960, page=20000), before=turn(page=20000), by="packets",
    ),
    "IPv4 to IPv6": Pair(
        ("http www.example.net:80", f"moved from server {WEB} to server {WEB_6}"), turned=over_ipv6, kind="moved"
    ),
    "two changes at once": Pair(
        ("http store.example.net:80", "GET /backup?list-type"),
        turned=turn(listing=(4, 80000)), added=lambda day: day.flood("203.0.113.9", FILES, 7777, 2000),
        then=(f"udp {FILES}:7777", "new"),
    ),
}  # fmt: skip


def capture(day: Office, folder: Path, name: str) -> Path:
    return day.wire.save(folder / f"{name}.pcap")


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """The traffic before, as most pairs have it."""
    return sharkstat.run(capture(office(1), tmp_path_factory.mktemp("steady"), "before"), "traffic")[0]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if n % 2 else []) for n, name in enumerate(PAIRS)]
)
def test_the_first_cause_is_the_difference(name: str, steady: Table, tmp_path: Path) -> None:
    pair = PAIRS[name]
    before = steady
    if pair.before is not nothing:
        turned = name == "larger MTU"
        first = office(1, turn=pair.before) if turned else office(1, more=pair.before)
        (before,) = sharkstat.run(capture(first, tmp_path, "before"), "traffic")
    after = sharkstat.run(capture(office(2, pair.turned, pair.added), tmp_path, "after"), "traffic")
    found = sharkstat.diff([before], after)
    assert found.findings, str(found)
    for words, finding in zip((pair.says, pair.then), found.findings, strict=False):
        assert all(word in finding.sentence for word in words), f"{words}\n{found}"
    first_finding = found.findings[0]
    assert (first_finding.kind, first_finding.by) == (pair.kind, pair.by), str(found)
    check_mirror(found, sharkstat.diff(after, [before]))


def test_a_capture_with_everything_twice_is_named_before_any_cause(tmp_path: Path) -> None:
    once, twice = office(1), office(2)
    twice.wire.packets += [(time + 3000, frame) for time, frame in twice.wire.packets]
    sides = capture(once, tmp_path, "once"), capture(twice, tmp_path, "twice")
    found = sharkstat.diff(*sides)
    first, *_ = str(found).splitlines()
    assert first.startswith("AFTER has packets twice: 50 % of them are duplicates, 0 % on the other side. Add --dedup")
    assert [table.warnings[0] for table in found.tables] == [found.caution] * 2
    assert sharkstat.report(found).count("AFTER has packets twice") == 1
    found = sharkstat.diff(*sides, dedup=True)
    assert found.nothing_changed and not found.caution, str(found)


def check_mirror(one: Diff, other: Diff) -> None:
    """The other way round, the same causes have the opposite change."""
    kinds = {"new": "gone", "gone": "new"}
    mirrored = [(kinds.get(f.kind, f.kind), round(-f.change, 3), round(f.share, 9)) for f in other.findings]
    assert [(f.kind, round(f.change, 3), round(f.share, 9)) for f in one.findings] == mirrored


PARTS, MINUTE = 11, 60.0


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Table], Path]:
    """Eleven minutes of steady traffic, and each minute by itself, cut wherever connections are."""
    folder = tmp_path_factory.mktemp("day")
    whole = Office(7, length=PARTS * MINUTE).everything()
    tables = []
    for number in range(PARTS):
        part = whole.wire.between(number * MINUTE, (number + 1) * MINUTE).save(folder / f"{number}.pcap")
        tables += sharkstat.run(part, "traffic")
    return tables, whole.wire.save(folder / "whole.pcap")


def test_nothing_is_blamed_between_parts_of_steady_traffic(day: tuple[list[Table], Path]) -> None:
    tables, _ = day
    for before, after in itertools.pairwise(tables):
        found = sharkstat.diff([before], [after])
        assert found.nothing_changed and not found.findings, str(found)
        assert str(found).startswith("Nothing changed") and ": bytes " in str(found)


@pytest.mark.parametrize("at", ["120s", "22:21", 540])
def test_a_longer_part_of_the_same_traffic_is_nothing_new(at: str | int, day: tuple[list[Table], Path]) -> None:
    """Rates are compared: one side is many times as long."""
    found = sharkstat.diff(day[1], at=at)
    assert found.nothing_changed, str(found)
    seconds = {"120s": 120, "22:21": 460, 540: 540}[at]
    assert abs(found.before.span / 10**9 - seconds) < 1.5 and found.scale.rates
    whole = sharkstat.run(day[1], "io,stat,0")[0].reading
    assert found.explanation is not None
    total = found.explanation.total
    assert total.before.bytes + total.after.bytes == whole.bytes
    assert total.before.packets + total.after.packets == whole.packets
