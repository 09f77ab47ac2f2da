"""Our own taps against what was made to happen: troubles of known kinds, a known number of times each."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from tests import oracle
from tests.command import DATA, TRUTH
from tests.measure import FULL, once

import sharkstat
from sharkstat import MergeError, Row, SharkstatError, Table


@cache
def table(name: str, request: str, **options: Any) -> Table:
    if not options:
        return once(DATA / name, request)
    [found] = sharkstat.run(DATA / name, request, **options)
    return found


def integer(row: Row, name: str) -> int:
    value = row[name]
    assert isinstance(value, int)
    return value


# tcp,connections --------------------------------------------------------------------------------------


def test_connections_end_as_they_were_made_to_end() -> None:
    known = TRUTH["connections.pcapng"]["connections"]
    rows = table("connections.pcapng", "tcp,connections").rows
    assert sorted(({k: row[k] for k in known[0]} for row in rows), key=str) == sorted(known, key=str)


@pytest.mark.parametrize("name", [name for name, facts in TRUTH.items() if "tcp_connections" in facts])
def test_every_connection_that_was_accepted_is_started_and_closed(name: str) -> None:
    rows = {(row["server_address"], row["server_port"]): row for row in table(name, "tcp,connections")}
    for server in TRUTH[name]["tcp_connections"]:
        row = rows[server["server_address"], server["server_port"]]
        if name != "cut.pcapng":
            assert row["connections"] == row["started"] == row["established"] == server["opened"]
            assert integer(row, "closed") + integer(row, "reset") == server["opened"]


# tcp,health, tcp,servers ------------------------------------------------------------------------------


def by_client_port() -> dict[Any, Row]:
    return {row["client_port"]: row for row in table("retransmissions.pcapng", "tcp,health")}


def test_what_the_bridge_did_is_seen() -> None:
    """Captured at the server: what is lost on its way to the client is there, and there again."""
    rows = by_client_port()
    assert sorted(rows) == TRUTH["retransmissions.pcapng"]["client_ports"]
    for deed in TRUTH["retransmissions.pcapng"]["bridge"]["deeds"]:
        row = rows[deed["client_port"]]
        what, sender = deed["deed"], "server" if deed["direction"] == "to_client" else "client"
        if (what, sender) == ("drop", "server"):
            # tshark calls one of two that come close together out of order.
            assert integer(row, "server_retransmissions") + integer(row, "server_out_of_order") >= 1
        elif (what, sender) == ("double", "client"):
            assert integer(row, "client_retransmissions") >= 1
            assert integer(row, "server_duplicate_acks") >= 1
        elif (what, sender) == ("late", "server"):
            assert integer(row, "client_duplicate_acks") >= 1
    quiet = rows[41007]
    for trouble in ("retransmissions", "duplicate_acks", "out_of_order", "lost_segments", "zero_windows", "resets"):
        assert quiet[trouble] == 0


def test_goodput_counts_no_byte_twice() -> None:
    rows = by_client_port()
    to_client = TRUTH["retransmissions.pcapng"]["line_server_bytes_to_client"]
    from_client = sum(len(line) for line in (b"give 17000\n", b"hello\n", b"give 10000\n", b"give 12000\n", b"hello\n"))
    from_client += 6 * 401 + len(b"give 3000\n") + len(rows) * len(b"bye\n")
    assert sum(integer(row, "new_payload_bytes") for row in rows.values()) == to_client + from_client
    sent = sum(integer(row, "payload_bytes") for row in rows.values())
    deeds = [d for d in TRUTH["retransmissions.pcapng"]["bridge"]["deeds"] if d["payload_bytes"]]
    again = [
        deed["payload_bytes"]
        for deed in deeds
        if (deed["deed"], deed["direction"]) in (("drop", "to_client"), ("double", "to_server"))
    ]
    # Timers sent some more again.
    assert sent >= to_client + from_client + sum(again)
    for row in rows.values():
        assert row["goodput"] == pytest.approx(row["new_payload_bytes"] / row["duration"] * 1e9)  # type: ignore[operator]


def test_a_handshake_lasts_from_the_first_syn() -> None:
    rows = by_client_port()
    way = 0.008e9
    for port, row in rows.items():
        # Captured at the server: its answer goes there and comes back. Where the answer was lost, a second went by.
        least = 2 * way + (1e9 if port == 41002 else 0)
        assert least <= integer(row, "handshake_time") < least + 0.5e9, port
        assert integer(row, "client_min_rtt") >= 2 * way
        assert integer(row, "server_min_rtt") < way


def test_a_client_that_does_not_read_closes_its_window() -> None:
    lazy = TRUTH["slow.pcapng"]["lazy"]
    [row] = [r for r in table("slow.pcapng", "tcp,health") if r["server_port"] == lazy["server_port"]]
    assert integer(row, "client_zero_windows") >= 1
    assert row["server_zero_windows"] == 0
    sent = integer(row, "new_payload_bytes") - len(b"give 12000\nbye\n")
    assert sent == lazy["payload_bytes_to_client"]
    [server] = [r for r in table("slow.pcapng", "tcp,servers") if r["server_port"] == lazy["server_port"]]
    assert (server["connections"], server["zero_windows"]) == (1, row["zero_windows"])


def test_refused_connections_are_resets_of_the_server() -> None:
    rows = [r for r in table("connections.pcapng", "tcp,health") if r["server_port"] == 40009]
    assert [(r["server_resets"], r["client_resets"], r["handshake_time"]) for r in rows] == [(1, 0, None)] * 3
    nobody = [r for r in table("connections.pcapng", "tcp,health") if r["server_address"] == "192.0.2.99"]
    again = TRUTH["connections.pcapng"]["syn_retransmissions_to_nobody"]
    assert sum(integer(r, "client_retransmissions") for r in nobody) == again


# latency ----------------------------------------------------------------------------------------------


def test_servers_that_wait_take_as_long() -> None:
    rows = {row["protocol"]: row for row in table("slow.pcapng", "latency")}
    for protocol, known in TRUTH["slow.pcapng"]["waits"].items():
        row, waits = rows[protocol], known["seconds"]
        assert (row["server_port"], row["responses"]) == (known["server_port"], len(waits))
        slack = 0.04e9
        for column, least in (("min_time", min(waits)), ("max_time", max(waits))):
            assert least * 1e9 <= integer(row, column) < least * 1e9 + slack
        assert sum(waits) * 1e9 <= integer(row, "total_time") < sum(waits) * 1e9 + len(waits) * slack
        assert row["mean_time"] == pytest.approx(integer(row, "total_time") / len(waits), abs=1)


def test_pings_have_response_times() -> None:
    for name in ("story-after.pcapng", "ipv6.pcapng"):
        found = {
            row["server_address"]: row for row in table(name, "latency") if str(row["protocol"]).startswith("icmp")
        }
        pings: dict[str, int] = {}
        known = TRUTH[name]["ping"]
        for one in known if isinstance(known, list) else [known]:
            pings[one["address"]] = pings.get(one["address"], 0) + one["echo_replies"]
        assert {address: row["responses"] for address, row in found.items()} == pings
        assert all(row["server_port"] is None for row in found.values())


# loss -------------------------------------------------------------------------------------------------


def test_rtp_streams_lost_what_the_bridge_took() -> None:
    streams = {row["ssrc"]: row for row in table("rtp.pcapng", "loss")}
    for known in TRUTH["rtp.pcapng"]["rtp"]:
        row = streams.pop(known["ssrc"])
        for column in ("source_port", "lost", "duplicates", "out_of_order"):
            assert row[column] == known[column]
        assert row["packets"] == known["sent"] - known["lost"] + known["duplicates"]
        assert row["expected"] == known["sent"]
        assert row["lost_percent"] == pytest.approx(100 * known["lost"] / known["sent"])
    assert not streams


def test_jitter_is_that_of_rfc_3550_and_tshark() -> None:
    ours, theirs = sharkstat.run(DATA / "rtp.pcapng", ["loss", "rtp,streams"])
    clocks = {known["ssrc"]: known["clock"] for known in TRUTH["rtp.pcapng"]["rtp"]}
    arrived: dict[str, list[tuple[int, int]]] = {ssrc: [] for ssrc in clocks}
    for source, time, timestamp in oracle.fields(
        DATA / "rtp.pcapng", ["rtp.ssrc", "frame.time_relative", "rtp.timestamp"]
    ):
        if source:
            arrived[f"0x{int(source[0], 16):08x}"].append((oracle.nanoseconds(time[0]), int(timestamp[0])))
    shown = {row["ssrc"]: row for row in theirs}
    for row in ours:
        ssrc = str(row["ssrc"])
        jitter, estimates = 0.0, []
        for (before, older), (now, newer) in pairwise(arrived[ssrc]):
            jitter += (abs(now - before - (newer - older) * 10**9 / clocks[ssrc]) - jitter) / 16
            estimates.append(jitter)
        assert integer(row, "mean_jitter") == pytest.approx(sum(estimates) / len(estimates), abs=2)
        assert integer(row, "max_jitter") == pytest.approx(max(estimates), abs=2)
        # tshark 4.4 leaves late packets and those after them out.
        for column in ("mean_jitter", "max_jitter", "max_delta") if oracle.version() < (4, 4) else ():
            assert integer(row, column) == pytest.approx(integer(shown[row["ssrc"]], column), abs=1000), column


# talkers ----------------------------------------------------------------------------------------------


def test_talkers_by_interval_add_up_to_talkers() -> None:
    whole, parts = table("story-after.pcapng", "talkers"), table("story-after.pcapng", "talkers,every=1s")
    assert {row["start"] for row in whole} == {None}
    start = whole.reading.start
    assert start is not None
    assert all((integer(row, "start") - start) % 10**9 == 0 for row in parts)
    for row in whole:
        mine = [part for part in parts if part["address"] == row["address"]]
        for column in ("bytes", "bytes_in", "bytes_out", "packets"):
            assert sum(integer(part, column) for part in mine) == row[column]


def test_services_are_named() -> None:
    rows = {row["address"]: row for row in table("story-after.pcapng", "talkers")}
    assert rows["192.0.2.53"]["services"] == "dns 100%"
    assert str(rows["192.0.2.10"]["services"]).startswith("http ")
    # What an ICMP error quotes is no service of the host that sent it: the client's port is in no packet of the server.
    server = next(row for row in table("icmp-errors.pcapng", "talkers") if row["address"] == "192.0.2.20")
    [there] = sharkstat.run(DATA / "icmp-errors.pcapng", "talkers", display_filter="not icmp")
    assert server["services"] is not None
    names = [part.split()[0] for part in str(server["services"]).split(", ")]
    [same] = [row for row in there if row["address"] == "192.0.2.20"]
    assert names == [part.split()[0] for part in str(same["services"]).split(", ")]


# Bounds, filters, merging -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("captures", "names"),
    [
        (["slow.pcapng", "tls.pcapng"], ["tcp,servers", "tcp,connections", "apps", "talkers", "latency"]),
        (["rtp.pcapng", "dns.pcapng"], ["loss"]),
    ],
)
def test_captures_of_different_hosts_merge(captures: list[str], names: list[str]) -> None:
    """Two captures apart and then merged, in whatever order, are the two read as one; what cannot be known is empty."""
    for name, whole in zip(names, sharkstat.run([DATA / one for one in captures], names), strict=True):
        for order in (captures, captures[::-1]):
            merged = Table.merge([table(one, name) for one in order])
            unknown = {column.name for column in merged.columns if column.merge == "none"}

            def rows(found: Table, unknown: set[str] = unknown) -> list[dict[str, Any]]:
                return [{k: v for k, v in row.items() if k not in unknown} for row in found]

            assert sorted(rows(merged), key=str) == sorted(rows(whole), key=str)
            assert unknown == ({"services"} if name == "talkers" else set())


def test_one_connection_in_two_captures_is_refused() -> None:
    health = table("retransmissions.pcapng", "tcp,health")
    with pytest.raises(MergeError, match=r"41001 to .* is in two"):
        Table.merge([health, health])
    merged = Table.merge([health, table("connections.pcapng", "tcp,health")])
    assert merged.total("packets") == health.total("packets") + table("connections.pcapng", "tcp,health").total(
        "packets"
    )
    assert {row["stream"] for row in merged} == {None}


@pytest.mark.parametrize(
    ("capture", "chosen", "names"),
    [
        ("story-after.pcapng", "tcp.port == 443", ("tcp,health", "tcp,servers", "tcp,connections", "apps", "talkers")),
        ("story-after.pcapng", "dns", ("latency",)),
        ("rtp.pcapng", "rtp.ssrc == 0x5eed0001", ("loss",)),
    ],
)
def test_a_filter_leaves_out_the_rest(capture: str, chosen: str, names: tuple[str, ...]) -> None:
    asked = [f"{name},{filter_}" for filter_ in ("frame.number == 0", chosen) for name in names]
    found = sharkstat.run(DATA / capture, asked)
    # A bound before the filter, and the filter for the whole run.
    together = sharkstat.run(DATA / capture, [f"{name},max=50" for name in names], display_filter=chosen)
    for nothing, some, same in zip(found[: len(names)], found[len(names) :], together, strict=True):
        assert nothing.rows == []
        assert some.rows == same.rows
        assert 0 < len(some.rows) < len(table(capture, some.name).rows)


@pytest.mark.parametrize("capture", ["tunnel.pcapng", "retransmissions.pcapng"])
def test_numbers_do_not_depend_on_what_is_dissected(capture: str) -> None:
    names = ["tcp,health", "tcp,servers", "tcp,connections", "talkers"]
    spared = sharkstat.run(DATA / capture, names)
    for little, whole in zip(spared, sharkstat.run(DATA / capture, names, preferences=FULL), strict=True):
        assert little.rows == whole.rows != []


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(SharkstatError, match="every=0ns: give whole microseconds"):
        sharkstat.run(DATA / "dns.pcapng", "talkers,every=0s")


ALL = [
    *("tcp,health", "tcp,servers", "tcp,connections", "tcp,connections,max=2", "tcp,servers,tcp.port == 80", "apps"),
    *("talkers", "talkers,every=1s", "latency", "loss", "dns,names", "http,requests", "tls,servers", "quic,servers"),
    *("arp,hosts", "dhcp,leases", "icmp,errors"),
]


@pytest.mark.parametrize(
    ("capture", "backwards"), [("story-after.pcapng", False), ("tunnel.pcapng", False), ("connections.pcapng", True)]
)
def test_together_each_is_what_it_is_alone(capture: str, backwards: bool) -> None:
    """Some of them share what they count."""
    requests = ALL[::-1] if backwards else ALL
    for found in sharkstat.run(DATA / capture, requests):
        assert (found.columns, found.rows) == ((alone := table(capture, found.request)).columns, alone.rows)
