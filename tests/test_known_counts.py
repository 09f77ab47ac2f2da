"""What the servers, clients and makers of our captures counted themselves (tests/data/truth.json)."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import pytest
from tests.measure import ADDRESSES, DATA, TREES, engines, once

import sharkstat
from sharkstat import Table

TRUTH: dict[str, dict[str, Any]] = json.loads((DATA / "truth.json").read_text())["captures"]


@cache
def tables(name: str) -> dict[str, Table]:
    return {request: once(DATA / name, request) for request in (*ADDRESSES, *TREES, "io,stat,1")}


def captures(fact: str) -> list[str]:
    return [name for name, facts in TRUTH.items() if fact in facts]


def counts(table: Table, *above: str) -> dict[str, int]:
    """The children of a node with their counts."""
    return {
        row["path"][-1]: row["count"]  # type: ignore[index, misc]
        for row in table
        if row["path"][:-1] == above and row["count"]  # type: ignore[index]
    }


def ascii_only(hosts: dict[str, int]) -> dict[str, int]:
    """With each byte outside of ASCII as U+FFFD: so tshark 4.4 gives a host, where 4.0 gives the bytes."""
    found: dict[str, int] = {}
    for host, count in hosts.items():
        raw = re.sub(rb"\\x[0-9a-f]{2}", b"\xff", host.replace("\ufffd", "\\xff").encode())
        name = raw.decode("ascii", "replace")
        found[name] = found.get(name, 0) + count
    return found


@pytest.mark.parametrize("name", captures("file"))
def test_everything_in_the_file_is_read(name: str) -> None:
    reading, file = tables(name)["io,stat,1"].reading, TRUTH[name]["file"]
    assert (reading.packets, reading.bytes) == (file["frames"], file["bytes"])
    assert reading.start == file["first_ns"]
    if file["in_order"]:
        assert (reading.first, reading.last) == (file["first_ns"], file["last_ns"])


@pytest.mark.parametrize("name", captures("http"))
def test_http_trees_count_what_was_said(name: str) -> None:
    http, found = TRUTH[name]["http"], tables(name)
    top = "Total HTTP Packets"
    by_method = counts(found["http,tree"], top, "HTTP Request Packets")
    assert by_method == http["requests_by_method"]
    kinds = counts(found["http,tree"], top)
    assert kinds["HTTP Request Packets"] == http["requests_total"]
    assert kinds["HTTP Response Packets"] == http["responses_total"]
    by_status = {
        status.split()[0]: count
        for kind in counts(found["http,tree"], top, "HTTP Response Packets")
        for status, count in counts(found["http,tree"], top, "HTTP Response Packets", kind).items()
    }
    assert by_status == http["responses_by_status"]
    by_host = counts(found["http_req,tree"], "HTTP Requests by HTTP Host")
    assert ascii_only(by_host) == ascii_only(http["requests_by_host"])
    assert counts(found["http_req,tree"])["HTTP Requests by HTTP Host"] == http["requests_total"]
    servers = counts(found["http_srv,tree"], "HTTP Requests by Server", "HTTP Requests by Server Address")
    assert sum(servers.values()) == http["requests_total"]
    answers = counts(found["http_srv,tree"], "HTTP Responses by Server Address")
    good = (counts(found["http_srv,tree"], "HTTP Responses by Server Address", s).get("OK", 0) for s in answers)
    assert sum(good) == sum(n for status, n in http["responses_by_status"].items() if 100 <= int(status) < 400)


@pytest.mark.parametrize("name", ["story-before.pcapng", "story-after.pcapng"])
def test_requests_are_counted_by_path(name: str) -> None:
    asked: dict[tuple[str, str], int] = {}
    for request in TRUTH[name]["http"]["requests"]:
        key = (request["host"], request["target"])
        asked[key] = asked.get(key, 0) + request["count"]
    rows = {row["path"][1:]: row["count"] for row in tables(name)["http_req,tree"] if len(row["path"]) == 3}  # type: ignore[arg-type, index]
    assert rows == asked


@pytest.mark.parametrize("name", captures("tcp_connections"))
def test_every_connection_is_a_row(name: str) -> None:
    opened: dict[tuple[Any, Any], int] = {}
    for row in tables(name)["conv,tcp"]:
        key = (row["address_b"], row["port_b"])
        opened[key] = opened.get(key, 0) + 1
    for known in TRUTH[name]["tcp_connections"]:
        assert opened[known["server_address"], known["server_port"]] == known["opened"]


@pytest.mark.parametrize("name", captures("tunnels"))
def test_what_is_inside_tunnels_is_counted_too(name: str) -> None:
    found = tables(name)
    for tunnel in TRUTH[name]["tunnels"]:
        for known in tunnel["tcp_connections"]:
            assert [row for row in found["conv,tcp"] if row["address_b"] == known["server_address"]]
        for known in tunnel["udp"]:
            assert datagrams(found["conv,udp"], known) == (
                known["datagrams_to_server"],
                known["datagrams_to_client"],
            )


def datagrams(table: Table, known: dict[str, Any]) -> tuple[int, int]:
    to_server = to_client = 0
    for row in table:
        there, back = int(row["packets_a_to_b"]), int(row["packets_b_to_a"])  # type: ignore[arg-type]
        if (row["address_a"], row["port_a"]) == (known["server_address"], known["server_port"]):
            there, back = back, there
        elif (row["address_b"], row["port_b"]) != (known["server_address"], known["server_port"]):
            continue
        to_server, to_client = to_server + there, to_client + back
    return to_server, to_client


@pytest.mark.parametrize("name", [n for n in captures("udp") if TRUTH[n]["made"] == "scene"])
def test_every_datagram_is_one_packet_even_in_fragments(name: str) -> None:
    for known in TRUTH[name]["udp"]:
        # With equal ports on both sides the server is told by its address.
        assert datagrams(tables(name)["conv,udp"], known) == (
            known["datagrams_to_server"],
            known["datagrams_to_client"],
        )


def test_a_reused_port_is_a_conversation_of_its_own() -> None:
    rows = tables("reused-port.pcapng")["conv,tcp"].rows
    for known in TRUTH["reused-port.pcapng"]["tcp_by_client_port"]:
        mine = [r for r in rows if (r["port_a"], r["port_b"]) == (known["client_port"], known["server_port"])]
        assert len(mine) == len({row["stream"] for row in mine}) == known["opened"]


def test_packets_quoted_in_icmp_errors_are_not_counted() -> None:
    facts = TRUTH["icmp-errors.pcapng"]
    found = tables("icmp-errors.pcapng")
    for known in facts["udp_to_closed_ports"]:
        rows = [
            row
            for row in found["conv,udp"]
            if (row["address_b"], row["port_b"]) == (known["server_address"], known["server_port"])
        ]
        assert rows and not any(row["packets_b_to_a"] for row in rows)
    frames = facts["file"]["frames"]
    assert found["conv,ip"].total("packets") + found["conv,ipv6"].total("packets") <= frames


def test_every_fragment_is_counted_though_tshark_counts_the_last_of_ipv6_alone() -> None:
    found = tables("fragments.pcapng")
    large, pieces = (TRUTH["fragments.pcapng"]["fragments"][n] for n in ("large_datagrams", "per_large_datagram"))
    small = sum(k["datagrams_to_server"] + k["datagrams_to_client"] for k in TRUTH["fragments.pcapng"]["udp"]) - large
    assert found["conv,ip"].total("packets") == (large * pieces + small) // 2
    other = 4  # two reports of multicast listeners, and a neighbour that is asked for and answers
    assert found["conv,ipv6"].total("packets") == (large * pieces + small) // 2 + other
    assert found["conv,eth"].total("packets") == TRUTH["fragments.pcapng"]["file"]["frames"]


# Hostile and odd captures ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["years.pcap", "unordered.pcap", "edges.pcap"])
def test_every_packet_is_in_its_interval_whatever_its_time(name: str) -> None:
    packets = TRUTH[name]["packets"]
    intervals = ["10", "0.5", "86400", "0"]
    lua, counted = engines(DATA / name, [f"io,stat,{interval}" for interval in intervals])
    for table, interval in zip([*lua, *counted], 2 * intervals, strict=True):
        width = int(float(interval) * 10**9)
        expected: dict[int, tuple[int, int]] = {}
        for packet in packets:
            relative = packet["time_ns"] - packets[0]["time_ns"]
            start = relative // width * width if width else 0
            frames, size = expected.get(start, (0, 0))
            expected[start] = (frames + 1, size + packet["frame_bytes"])
        rows = {row["start"]: (row["frames"], row["bytes"]) for row in table}
        assert rows == expected
        assert list(rows) == sorted(rows)  # type: ignore[type-var]


@pytest.mark.parametrize("name", ["years.pcap", "unordered.pcap", "edges.pcap"])
def test_times_are_exact_over_years_and_out_of_order(name: str) -> None:
    times = [packet["time_ns"] for packet in TRUTH[name]["packets"]]
    [row] = tables(name)["conv,udp"].rows
    assert (row["start"], row["stop"], row["duration"]) == (min(times), max(times), max(times) - min(times))
    reading = tables(name)["conv,udp"].reading
    assert (reading.first, reading.last) == (min(times), max(times))


def test_nanoseconds_are_kept() -> None:
    whole, cut = tables("nanosecond.pcap"), tables("dns.pcapng")
    assert [table.rows for table in whole.values()] == [table.rows for table in cut.values()]
    assert any(int(row["start"]) % 1000 for row in whole["conv,udp"])  # type: ignore[arg-type]


def test_an_empty_capture_gives_empty_tables() -> None:
    for table in tables("empty.pcap").values():
        assert (table.rows, table.complete, table.warnings) == ([], True, [])
        assert (table.reading.packets, table.reading.start, table.reading.last) == (0, None, None)


@pytest.mark.parametrize("engine", ["lua", "packets"])
def test_a_capture_cut_short_counts_what_is_there_and_says_so(engine: str) -> None:
    [table, intervals] = sharkstat.run(DATA / "cut.pcapng", ["conv,tcp", "io,stat,1"], engine=engine)
    assert not table.complete
    assert any("cut short" in warning for warning in table.warnings)
    assert intervals.total("frames") == table.reading.packets == TRUTH["cut.pcapng"]["whole_frames"]


def test_bytes_are_those_on_the_wire_whatever_was_kept_of_them() -> None:
    kept, whole = tables("snaplen.pcapng"), tables("http.pcapng")
    for request in ("conv,eth", "endpoints,eth", "conv,ip", "endpoints,ip", "conv,ipv6", "endpoints,ipv6", "io,stat,1"):
        assert kept[request].rows == whole[request].rows


def test_a_gzipped_capture_is_the_capture() -> None:
    packed, plain = tables("http.pcap.gz"), tables("http.pcapng")
    for request in ("http,tree", "http_req,tree", "endpoints,tcp", "endpoints,eth"):
        measures = [c.name for c in plain[request].columns if c.name in ("path", "count", "packets", "bytes")]
        assert [packed[request][m] for m in measures] == [plain[request][m] for m in measures]
