"""Known differences in other surroundings: a campus over IPv4 and IPv6, with many small services and downloads.

What is asked is what tests/test_changes.py asks: the first cause is the difference, the parts of each level add up, the
other way round everything is mirrored, and between captures of the same traffic nothing is blamed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.test_changes import check_mirror
from tests.traffic.campus import PATHS, PEOPLE_6, Campus, Change, campus, nothing

import sharkstat
from sharkstat import Diff, Table

SHOP, DATABASE, MAIL, COPY = (
    "http shop.example.org:80",
    "pgsql 10.30.0.5:5432",
    "smtp 10.30.0.25:25",
    "ssh 10.30.0.8:22",
)
OBJECTS, LISTING = "http objects.example.org:80", "GET /photos?delimiter&prefix[&marker]"


def turn(**knobs: object) -> Change:
    def change(made: Campus) -> None:
        for name, value in knobs.items():
            assert hasattr(made, name)
            setattr(made, name, value)

    return change


@dataclass(frozen=True)
class Pair:
    """What is turned, or comes on top, before and after; what the first finding must say, and what the second."""

    says: tuple[str, ...]
    turned: Change = nothing
    added: tuple[Change, ...] = ()
    before: Change = nothing
    had: tuple[Change, ...] = ()
    kind: str = "changed"
    by: str = "bytes"
    then: tuple[str, ...] = ()


PAIRS = {
    "a bucket that grows, over IPv6": Pair(
        (OBJECTS, LISTING, "requests 18 → 72"),
        had=(lambda c: c.bucket(3, 8000),), added=(lambda c: c.bucket(12, 20_000),),
    ),
    "one path of many has larger answers": Pair(
        (SHOP, "GET /api/orders/{n}/lines"), turned=turn(answer_sizes={PATHS[1]: 40_000})
    ),
    "all answers are larger": Pair((f"{SHOP}: requests 340 → 352, 3.7 → 15 kB each",), turned=turn(answer=14_000)),
    "a new client over IPv6": Pair(
        (SHOP, "client 2001:db8:20::99, new"), added=(lambda c: c.shopping("2001:db8:20::99", 50),), kind="new"
    ),
    "uploads become small": Pair((MAIL, "kB each"), before=turn(upload=150_000), turned=turn(upload=1)),
    "a service without a name moves to another address": Pair(
        (f"moved from {DATABASE} to pgsql 10.30.0.77:5432",), turned=turn(database="10.30.0.77"), kind="moved"
    ),
    "and to a port on which nobody recognises it": Pair(
        (f"moved from {DATABASE} to tcp 10.30.0.5:6543",), turned=turn(database_port=6543), kind="moved"
    ),
    "HTTP to HTTPS, with redirects": Pair(
        ("shop.example.org moved from http port 80 to tls port 443: connections",),
        turned=turn(shop_tls=True, redirected=True), kind="moved",
    ),
    "a retransmission storm both ways": Pair((SHOP, "retransmissions"), turned=turn(again=2), kind="new"),
    "names that exist once each": Pair(
        ("dns 10.20.0.53:53", "answered NXDOMAIN", "client 10.20.1.12"),
        added=(lambda c: c.asked_at_random("10.20.1.12", 2500, "exfil.example"),), kind="new",
    ),
    "a name that fails, asked for again and again": Pair(
        (SHOP, "gone"), turned=turn(failing="shop.example.org", tries=3), kind="gone"
    ),
    "one port is looked for on many hosts": Pair(
        ("client 10.20.3.15", "tcp port 445, new", "1,500 servers"),
        added=(lambda c: c.sweep("10.20.3.15", 445, 1500),), kind="new", by="packets",
    ),
    "a copy at another time": Pair(
        (COPY, "moved from 12.00 s to 42.00 s after the beginning"),
        before=turn(archive_size=900_000), turned=turn(archive_size=900_000, archive_at=42.0), kind="moved",
    ),
    "failures, as large as the answers were": Pair(
        (SHOP, "moved from answered 200 to answered 500"), turned=turn(status="500 Oops"), kind="moved"
    ),
    "failures, smaller": Pair(
        (SHOP, "moved from answered 200 to answered 500"), turned=turn(status="500 Oops", answer=300), kind="moved"
    ),
    "a flood from many addresses": Pair(
        ("shop.example.org:19132 (198.51.100.10), new", "2,494 clients"),
        added=(lambda c: c.spoofed("198.51.100.10", 19132, 2500),), kind="new",
    ),
    "a client that visits many services once": Pair(
        ("client 10.20.2.11, tls port 443: connections 3 → 351",), added=(lambda c: c.crawl("10.20.2.11", 350),)
    ),
    "many small services, each used more": Pair(("tls port 443", "28 clients"), turned=turn(tiny=4.0)),
    "large pings": Pair(
        ("icmp, new", "client 10.20.0.11"),
        added=(lambda c: c.pings("10.20.0.11", "10.30.0.5", 1500, 1200),), kind="new",
    ),
    "connections that are not kept": Pair(
        (SHOP, "4.0 → 1.0 a connection"), turned=turn(one_connection_each=True), by="packets"
    ),
    "everybody uses IPv6": Pair(
        (SHOP, "moved from server 198.51.100.10 to server 2001:db8:99::10"),
        turned=turn(people=[*PEOPLE_6, *(f"2001:db8:20::{n:x}" for n in range(0x41, 0x55))]), kind="moved",
    ),
    "one falls and another rises as much": Pair(
        (DATABASE,), before=turn(rows=60_000), turned=turn(rows=200), added=(lambda c: c.bucket(12, 20_000),),
        then=(OBJECTS, "new"),
    ),
    "three at once": Pair(
        (OBJECTS, "new"), turned=turn(rows=60_000), kind="new",
        added=(lambda c: c.bucket(12, 20_000), lambda c: c.spoofed("198.51.100.10", 19132, 2500)),
        then=("shop.example.org:19132 (198.51.100.10), new",),
    ),
}  # fmt: skip


def traffic(made: Campus, folder: Path, name: str) -> Table:
    return sharkstat.run(made.wire.save(folder / f"{name}.pcap"), "traffic")[0]


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return traffic(campus(1), tmp_path_factory.mktemp("campus"), "before")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if n % 2 else []) for n, name in enumerate(PAIRS)]
)
def test_the_first_cause_is_the_difference(name: str, steady: Table, tmp_path: Path) -> None:
    pair = PAIRS[name]
    own = pair.before is not nothing or pair.had
    before = traffic(campus(1, pair.before, pair.had), tmp_path, "before") if own else steady
    after = traffic(campus(2, pair.turned, pair.added), tmp_path, "after")
    found = sharkstat.diff([before], [after])
    assert found.findings, str(found)
    for words, finding in zip((pair.says, pair.then), found.findings, strict=False):
        assert all(word in finding.sentence for word in words), f"{words}\n{found}"
    assert (found.findings[0].kind, found.findings[0].by) == (pair.kind, pair.by), str(found)
    check_mirror(found, sharkstat.diff([after], [before]))
    check_sums(found)


def check_sums(found: Diff) -> None:
    """The parts of each level add up to the level above, and so do their shares."""
    change, causes = found.tables
    (whole,) = [row["change"] for row in change if row["measure"] == found.by]
    above = {(): (whole, 100.0)} | {row["cause"]: (row["change"], row["share"]) for row in causes}
    for path, (total, share) in above.items():
        level = [row for row in causes if row["cause"][:-1] == path]  # type: ignore[index]
        if level:
            assert sum(row["change"] for row in level) == pytest.approx(total)  # type: ignore[misc]
            assert sum(row["share"] for row in level) == pytest.approx(share)  # type: ignore[misc]


@pytest.mark.parametrize(
    "seed", [3, 4, pytest.param(5, marks=pytest.mark.long), pytest.param(6, marks=pytest.mark.long)]
)
def test_nothing_is_blamed_for_chance(seed: int, steady: Table, tmp_path: Path) -> None:
    after = traffic(campus(seed), tmp_path, "after")
    found = sharkstat.diff([steady], [after])
    assert found.nothing_changed, str(found)
    assert sharkstat.diff([after], [after]).nothing_changed
