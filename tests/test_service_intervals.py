"""services by interval: known traffic, the books on every small capture, both engines, and merging."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest
from tests.measure import data_captures
from tests.test_services import ACK, SERVER, SYN, ip_frame, tcp_frame
from tests.traffic.capturefiles import SECOND, udp_frame, write_pcap

import sharkstat
from sharkstat import MergeError, Table, Value

CLIENT = ("10.0.0.1", 40000)
WEB = (SERVER, 80)
START = 1_700_000_000 * SECOND  # whole seconds, and whole minutes: 2023-11-14 22:13:20
REQUEST = b"GET / HTTP/1.1\r\nHost: Shop.example\r\n\r\n"


def packets() -> list[tuple[int, bytes]]:
    """A connection that shows its service in its third second; fragments over a second's end; one without a SYN."""
    addresses = ipaddress.IPv4Address("10.0.0.2").packed + ipaddress.IPv4Address(SERVER).packed
    halves = (b"\x30\x39\x11\x94\x00\x28\x00\x00" + bytes(8), bytes(16))
    return [
        (START + 100_000_000, tcp_frame(CLIENT, WEB, SYN)),
        (START + 200_000_000, tcp_frame(WEB, CLIENT, SYN | ACK)),
        (START + 1_999_999_999, ip_frame(addresses, 17, halves[0], 0x2000, number=9)),
        (START + 2_000_000_000, ip_frame(addresses, 17, halves[1], 2, number=9)),
        (START + 2_500_000_000, tcp_frame(CLIENT, WEB, 0x18, REQUEST, seq=2)),
        (START + 2_600_000_000, tcp_frame(WEB, CLIENT, ACK)),
        # Its SYN was not seen, and nothing in it names the server: the other connection does.
        (START + 3_000_000_000, tcp_frame(("10.0.0.9", 50000), WEB, ACK)),
        (START + 4_100_000_000, tcp_frame(WEB, ("10.0.0.9", 50000), ACK)),
        (START + 4_200_000_000, udp_frame(("10.0.0.3", 40000), ("10.0.0.4", 50000), b"x")),
    ]


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("intervals") / "made.pcap"
    write_pcap(path, packets())
    return path


def of_service(table: Table, **wanted: Value) -> dict[float, tuple[Value, ...]]:
    """By second since the start: packets, connections and clients."""
    return {
        (row["start"] - START) / SECOND: (row["packets"], row["connections"], row["client_addresses"])  # type: ignore[operator]
        for row in table
        if all(row[name] == value for name, value in wanted.items())
    }


def test_a_packet_is_in_its_own_second_however_late_its_service_shows(capture: Path) -> None:
    [table] = sharkstat.run(capture, "services,every=1s")
    assert of_service(table, server_name="shop.example", protocol="http", server_address=SERVER, server_port=80) == {
        0: (2, 1, ("10.0.0.1",)),
        2: (2, 0, ("10.0.0.1",)),
        3: (1, 1, ("10.0.0.9",)),
        4: (1, 0, ("10.0.0.9",)),
    }
    assert {at: found[:2] for at, found in of_service(table, server_port=4500).items()} == {1: (1, 1), 2: (1, 0)}
    assert len(table) == 7 and {row["length"] for row in table} == {SECOND}


def sums(rows: Iterable[sharkstat.Row], keys: list[str]) -> dict[tuple[Value, ...], list[Value]]:
    found: dict[tuple[Value, ...], list[Value]] = {}
    names = [f"{what}{way}" for what in ("packets", "bytes") for way in ("", "_to_server", "_from_server")]
    for row in rows:
        had = found.setdefault(tuple(row[key] for key in keys), [None] * 8)
        for at, name in enumerate(["connections", *names]):
            if row[name] is not None:
                had[at] = (had[at] or 0) + row[name]  # type: ignore[operator]
        had[7] = tuple(sorted({*(had[7] or ()), *(row["client_addresses"] or ())}))  # type: ignore[misc]
    return found


def test_the_books_balance_and_engines_agree_on_our_captures() -> None:
    captures = data_captures()
    asked = [
        "services",
        "services,every=1s",
        "services,intervals=9",
        "services,every=1s,max=100",
        "group,every=1s,count,sum=frame.len",
    ]
    whole, seconds, few, capped, counted = sharkstat.run(captures, asked)
    for ours, theirs in zip(
        (whole, seconds, few, capped), sharkstat.run(captures, asked[:4], engine="packets"), strict=True
    ):
        assert ours.rows == theirs.rows, ours.request
    keys = [column.name for column in whole.keys]
    for table in (seconds, few):
        assert sums(table, keys) == sums(whole, keys) and not table.capped
    assert 5 <= len({row["start"] for row in few}) <= 9 and len({row["length"] for row in few}) == 1
    by_second: dict[Value, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for row in seconds:
        count, size = by_second[row["start"]]
        assert isinstance(row["packets"], int) and isinstance(row["bytes"], int)
        by_second[row["start"]] = (count + row["packets"], size + row["bytes"])
    assert by_second == {row["time"]: (row["packets"], row["bytes"]) for row in counted}
    # Beyond the bound there is a rest, an interval each: every second has the same packets as before.
    rest = [row for row in capped if row["protocol"] == "(other)"]
    assert capped.capped and len(capped) - len(rest) == 100 and len(rest) > 1
    assert (capped.total("packets"), capped.total("bytes")) == (whole.total("packets"), whole.total("bytes"))
    for start, (count, _) in by_second.items():
        assert sum(row["packets"] for row in capped if row["start"] == start) == count  # type: ignore[misc]


def test_intervals_of_two_captures_become_those_of_the_whole(capture: Path, tmp_path: Path) -> None:
    """The second one begins between the seconds of the first, and is longer, so its intervals are."""
    later = tmp_path / "later.pcap"
    write_pcap(later, [(time + 700_000_000 + (time - START) * 100, frame) for time, frame in packets()])
    for request in ("services,every=1s", "services,intervals=6"):
        one, other = (sharkstat.run(path, request)[0] for path in (capture, later))
        merged = Table.merge([one, other])
        assert merged.total("packets") == 2 * len(packets()) and merged.total("connections") == 8
        lengths = {row["length"] for row in merged}
        assert len(lengths) == 1 and {row["start"] % max(lengths) for row in merged} == {0}  # type: ignore[operator, type-var]
    with pytest.raises(MergeError, match="larger max="):
        Table.merge([sharkstat.run(path, "services,every=1s,max=2")[0] for path in (capture, later)])


def test_bad_intervals_are_told(capture: Path) -> None:
    for request, message in (
        ("services,every=0s", "every= takes whole microseconds"),
        ("services,every=10ns", "every= takes whole microseconds"),
        ("services,every=1s,intervals=5", "exclude each other"),
    ):
        with pytest.raises(sharkstat.RequestError, match=message):
            sharkstat.run(capture, request)
    assert "start" not in sharkstat.run(capture, "services")[0].rows[0]
