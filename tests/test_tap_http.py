"""http,requests against what the HTTP servers logged, and against tshark's own fields and trees."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests import oracle
from tests.measure import CORPUS, DATA, once
from tests.test_known_counts import ascii_only

import sharkstat
from sharkstat import Table

TRUTH: dict[str, dict[str, Any]] = json.loads((DATA / "truth.json").read_text())["captures"]
WITH_HTTP = [name for name, facts in TRUTH.items() if "http" in facts and facts["made"] == "scene"]
MEASURES = ("requests", "responses", "unanswered", "request_bytes", "response_bytes", "timed", "time")


def requests(capture: Path, arguments: str = "") -> Table:
    return once(capture, f"http,requests{arguments}")


def added(table: Table, *keys: str, measure: str = "requests") -> Counter[tuple[Any, ...]]:
    found: Counter[tuple[Any, ...]] = Counter()
    for row in table:
        found[tuple(row[key] for key in keys)] += row[measure]  # type: ignore[assignment, operator]
    return +found


@pytest.mark.parametrize("name", WITH_HTTP)
@pytest.mark.parametrize("query", ["yes", "no"])
def test_requests_are_those_that_the_servers_logged(name: str, query: str) -> None:
    table = requests(DATA / name, f",query={query}")
    logged: Counter[tuple[Any, ...]] = Counter()
    hosts: Counter[str] = Counter()
    for request in TRUTH[name]["http"]["requests"]:
        path = request["target"] if query == "yes" else request["target"].partition("?")[0]
        # tshark's text ends at a NUL, and 4.0 and 4.4 write bytes that are no text each in its own way.
        if "target_hex" not in request and "\0" not in path and (request["host"] or "").isascii():
            logged[request["method"], request["host"] and request["host"].lower(), path] += request["count"]
        if request["host"] is not None:
            hosts[request["host"].lower()] += request["count"]
    found = added(table, "method", "host", "path")
    assert {key: found[key] for key in logged if "\\x" not in str(key[1])} == {
        key: count for key, count in logged.items() if "\\x" not in str(key[1])
    }
    assert table.total("requests") == TRUTH[name]["http"]["requests_total"]
    found_hosts = {str(host): count for (host,), count in added(table, "host").items() if host is not None}
    assert ascii_only(found_hosts) == ascii_only(dict(hosts))


@pytest.mark.parametrize("name", WITH_HTTP)
def test_statuses_are_those_that_the_servers_gave(name: str) -> None:
    table = requests(DATA / name)
    by_status = {str(status): count for (status,), count in added(table, "status", measure="responses").items()}
    assert by_status == TRUTH[name]["http"]["responses_by_status"]
    assert table.total("unanswered") == 0
    statuses = {(row["method"], row["path"]): row["status"] for row in table if row["host"] == "www.example.net"}
    if name == "http.pcapng":  # each page has its own status, pipelined or not
        expected = {"/old": 301, "/cached": 304, "/bad": 400, "/missing": 404, "/broken": 500, "/odd": 299, "/two": 200}
        assert {path: statuses["GET", path] for path in expected} == expected
        assert statuses["HEAD", "/missing"] == 404


@pytest.mark.parametrize("name", WITH_HTTP)
def test_bytes_are_all_that_the_connections_carried(name: str) -> None:
    """HTTP was all that was said on these ports, and nothing was lost: TCP's payload is the messages."""
    ports = {"80", "8080"}
    to_servers = to_clients = 0
    packets = oracle.fields(DATA / name, ["tcp.srcport", "tcp.dstport", "tcp.len"], "-Y", "tcp")
    for source, target, length in packets:
        to_servers += int(length[0]) if target[0] in ports else 0
        to_clients += int(length[0]) if source[0] in ports else 0
    table = requests(DATA / name)
    assert (table.total("request_bytes"), table.total("response_bytes")) == (to_servers, to_clients)
    bodies = TRUTH[name]["http"]["response_body_bytes_by_path"]
    by_path = added(table, "path", measure="response_bytes")
    plain = {path: size for path, size in bodies.items() if path.isascii() and path.isprintable() and "\\x" not in path}
    assert plain and all(by_path[path,] > size for path, size in plain.items())


REAL = [
    pytest.param(CORPUS / name, marks=pytest.mark.corpus)
    for name in (
        "ndpi/http.pcapng",
        "ndpi/windowsupdate_over_http.pcap",
        "wireshark/http.pcap",
        "ndpi/http-lines-split.pcap",
    )
]


@pytest.mark.parametrize("capture", [*(DATA / name for name in WITH_HTTP), *REAL], ids=lambda path: path.name)
def test_counts_are_those_of_http_tree_and_times_those_of_http_time(capture: Path) -> None:
    if not capture.exists():
        pytest.skip("the large captures are not there")
    table, tree = requests(capture, ",query=yes"), once(capture, "http,tree")
    counts = {row["path"][-1]: row["count"] for row in tree if row["path"]}  # type: ignore[index]
    assert table.total("requests") == counts["HTTP Request Packets"]
    assert table.total("responses") == counts["HTTP Response Packets"]
    # Where packets hold one message each, tshark knows the time of each response.
    packets = oracle.fields(capture, ["http.response.code", "http.request.method", "http.time"], "-Y", "http")
    if all(len(codes) + len(methods) < 2 for codes, methods, _ in packets):
        times = [oracle.nanoseconds(time[0]) for codes, _, time in packets if time and codes and codes[0] != "100"]
        assert (table.total("timed"), table.total("time")) == (len(times), sum(times))
        assert max((row["max_time"] or 0 for row in table), default=0) == max(times, default=0)


def test_a_row_is_a_row_whatever_a_path_holds() -> None:
    paths = {str(row["path"]) for row in requests(DATA / "http.pcapng")}
    assert {"/tab\there", "/bell\x07escape\x1b[31mred\x1b[0m", "/delete\x7fone\x01two\x02"} <= paths


def test_paths_beyond_the_cap_are_counted_in_one_row() -> None:
    whole, capped = requests(DATA / "http.pcapng"), requests(DATA / "http.pcapng", ",max=5")
    assert len({(row["method"], row["host"], row["path"]) for row in capped}) <= 6
    assert any((row["method"], row["path"]) == (None, "(other)") for row in capped)
    for measure in MEASURES:
        assert capped.total(measure) == whole.total(measure)


def test_a_table_of_parts_is_the_table_of_the_whole() -> None:
    captures = [DATA / "story-before.pcapng", DATA / "story-after.pcapng"]
    [whole] = sharkstat.run(captures, "http,requests")
    for order in (captures, captures[::-1]):
        assert Table.merge([requests(capture) for capture in order]).rows == whole.rows != []


@pytest.mark.parametrize("lost, answered", [("tcp.srcport == 80", 0), ("tcp.dstport == 80", None)])
def test_what_was_captured_on_one_side_alone_is_counted(lost: str, answered: int | None) -> None:
    whole = requests(DATA / "story-after.pcapng")
    [half] = sharkstat.run(DATA / "story-after.pcapng", "http,requests", read_filter=f"!({lost})", two_pass=True)
    if answered == 0:
        assert half.total("unanswered") == half.total("requests") == whole.total("requests")
        assert half.total("responses") == 0
    else:
        assert half.total("requests") == half.total("timed") == 0
        # tshark takes what follows the answer to an unseen HEAD for its body.
        heads = sum(row["responses"] for row in whole if row["method"] == "HEAD")  # type: ignore[misc]
        assert whole.total("responses") - heads <= half.total("responses") <= whole.total("responses")
        assert {row["path"] for row in half} == {None}


def test_times_are_what_the_server_waited() -> None:
    rows = {row["path"]: row for row in requests(DATA / "waits.pcapng")}
    for known in TRUTH["waits.pcapng"]["waits"]["http"]:
        row, low = rows[known["path"]], known["wait_ns"]
        assert low < row["min_time"] <= row["mean_time"] <= row["max_time"] < low + 3 * 10**7  # type: ignore[operator]
    assert rows["/nobody"]["unanswered"] == TRUTH["waits.pcapng"]["http_never_answered"] == 1
