"""dns,names against what the name servers counted, and against tshark's own fields."""

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
WITH_DNS = [name for name, facts in TRUTH.items() if "dns" in facts]
KINDS = {"1": "A", "2": "NS", "5": "CNAME", "6": "SOA", "12": "PTR", "15": "MX", "16": "TXT", "28": "AAAA", "33": "SRV"}
CODES = {"0": "NOERROR", "1": "FORMERR", "2": "SERVFAIL", "3": "NXDOMAIN", "4": "NOTIMP", "5": "REFUSED"}


def names(capture: Path, arguments: str = "") -> Table:
    return once(capture, f"dns,names{arguments}")


def added(table: Table, keys: tuple[str, ...], *measures: str) -> Counter[tuple[Any, ...]]:
    found: Counter[tuple[Any, ...]] = Counter()
    for row in table:
        found[tuple(row[key] for key in keys)] += sum(row[measure] for measure in measures)  # type: ignore[misc]
    return +found


@pytest.mark.parametrize("name", WITH_DNS)
def test_queries_and_responses_are_those_that_the_name_servers_counted(name: str) -> None:
    truth, table = TRUTH[name]["dns"], names(DATA / name)
    asked: Counter[tuple[Any, ...]] = Counter()
    for query in truth["queries"]:
        asked[query["name"].lower(), query["type"]] += query["count"]
    assert added(table, ("name", "type"), "queries", "retransmissions") == asked
    by_code = {code: count for (code,), count in added(table, ("response_code",), "responses").items()}
    assert by_code == truth["responses_by_code"]
    never: Counter[tuple[Any, ...]] = Counter()
    for query in truth["never_answered"]:
        never[query["name"].lower(), query["type"]] += query["count"]
    assert added(table, ("name", "type"), "unanswered") == never
    assert all(row["unanswered"] == (row["response_code"] is None) * row["queries"] for row in table)  # type: ignore[operator]


def told_by_fields(capture: Path) -> dict[tuple[Any, ...], list[int]]:
    """Queries, retransmissions, responses, and the least, the sum and the most of the times, by name, type and code.

    From -T fields in two passes, where tshark knows each query's response; for packets with one message.
    """
    wanted = ["dns.flags", "dns.qry.name", "dns.qry.type", "dns.retransmit_request_in", "dns.response_in", "dns.time"]
    wanted += ["dns.response_to", "frame.number"]
    packets = oracle.fields(capture, wanted, "-2", "-Y", "dns")
    assert all(len(packet[0]) == 1 for packet in packets)
    codes: dict[str, str] = {}
    for flags, *_, to, _number in packets:
        code = int(flags[0], 16) & 15
        if to:
            codes[to[0]] = CODES.get(str(code), f"RCODE{code}")
    told: dict[tuple[Any, ...], list[int]] = {}

    def at(name: list[str], kind: list[str], code: str | None) -> list[int]:
        key = (name[0].lower() if name else None, KINDS.get(kind[0], kind[0]) if kind else None, code)
        return told.setdefault(key, [0, 0, 0, 10**18, 0, 0])

    for flags, name, kind, again, _, time, _to, number in packets:
        bits = int(flags[0], 16)
        if bits < 0x8000:
            at(name, kind, codes.get((again or number)[0]))[1 if again else 0] += 1
            continue
        row = at(name, kind, CODES.get(str(bits & 15), f"RCODE{bits & 15}"))
        row[2] += 1
        if time:
            taken = oracle.nanoseconds(time[0])
            row[3:] = [min(row[3], taken), row[4] + taken, max(row[5], taken)]
    return told


def table_as_told(table: Table) -> dict[tuple[Any, ...], list[Any]]:
    known = set(KINDS.values())
    return {
        (row["name"], row["type"] if row["type"] in known else "?", row["response_code"]): [
            row["queries"],
            row["retransmissions"],
            row["responses"],
            10**18 if row["min_time"] is None else row["min_time"],
            row["time"],
            row["max_time"] or 0,
        ]
        for row in table
    }


OWN = [DATA / name for name in (*WITH_DNS, "nanosecond.pcap")]
REAL = [
    pytest.param(CORPUS / name, marks=[pytest.mark.corpus, *([pytest.mark.long] if number else [])])
    for number, name in enumerate(
        ("ndpi/dns_exfiltration.pcap", "ndpi/teams.pcap", "ndpi/wechat.pcap", "ndpi/dropbox.pcap")
    )
]


@pytest.mark.parametrize("capture", [*OWN, *REAL], ids=lambda path: path.name)
def test_every_number_is_that_of_tsharks_fields(capture: Path) -> None:
    if not capture.exists():
        pytest.skip("the large captures are not there")
    told: dict[tuple[Any, ...], list[int]] = {}
    for (name, kind, code), numbers in told_by_fields(capture).items():
        key = (name, kind if kind in KINDS.values() else "?", code)
        assert key not in told
        told[key] = numbers
    # tshark writes what is no text in its fields as it likes (4.0 and 4.4 differ); the table must hold the same rows.
    table = table_as_told(names(capture))
    assert sorted(table.values()) == sorted(told.values())
    plain = {key for key in told if key[0] and key[0].isascii() and key[0].isprintable() and "\\" not in key[0]}
    assert {key: table[key] for key in plain} == {key: told[key] for key in plain}


def test_the_books_balance_with_dns_tree() -> None:
    capture = DATA / "story-after.pcapng"
    table, tree = names(capture), once(capture, "dns,tree")
    messages = table.total("queries") + table.total("retransmissions") + table.total("responses")
    # Queries that are in the capture by themselves, and responses: each message once.
    assert messages == next(row["count"] for row in tree if len(row["path"]) == 1)  # type: ignore[arg-type]


def test_names_beyond_the_cap_are_counted_in_one_row() -> None:
    whole, capped = names(DATA / "dns.pcapng"), names(DATA / "dns.pcapng", ",max=3")
    kept = {(row["name"], row["type"]) for row in capped}
    assert len(kept) == 4 and ("(other)", None) in kept
    for measure in ("queries", "retransmissions", "responses", "unanswered", "timed", "time"):
        assert capped.total(measure) == whole.total(measure)


def test_queries_beyond_the_cap_are_given_up_and_not_lost() -> None:
    capped = names(DATA / "dns.pcapng", ",max=1")
    assert capped.total("queries") == names(DATA / "dns.pcapng").total("queries")


def test_a_table_of_parts_is_the_table_of_the_whole() -> None:
    captures = [DATA / "dns.pcapng", DATA / "story-after.pcapng"]
    [whole] = sharkstat.run(captures, "dns,names")
    for order in (captures, captures[::-1]):
        merged = Table.merge([names(capture) for capture in order])
        assert merged.rows == whole.rows
        assert any(row["mean_time"] for row in merged)


def test_times_are_what_the_name_server_waited() -> None:
    rows = {row["name"]: row for row in names(DATA / "waits.pcapng")}
    for known in TRUTH["waits.pcapng"]["waits"]["dns"]:
        row, low = rows[known["name"]], known["wait_ns"]
        assert low < row["min_time"] <= row["mean_time"] <= row["max_time"] < low + 3 * 10**7  # type: ignore[operator]


def test_a_query_that_is_sent_again_is_one_query() -> None:
    known = TRUTH["waits.pcapng"]["dns_asked_again"]
    [row] = [row for row in names(DATA / "waits.pcapng") if row["name"] == known["name"]]
    assert (row["queries"], row["timed"], row["unanswered"]) == (1, 1, 0)
    assert (row["queries"] + row["retransmissions"], row["responses"]) == (known["queries"], known["responses"])  # type: ignore[operator]


def test_messages_that_share_a_packet_are_told_apart() -> None:
    codes = {(row["name"], row["response_code"]) for row in names(DATA / "waits.pcapng", ",tcp")}
    assert codes == {(known["name"], known["code"]) for known in TRUTH["waits.pcapng"]["dns_over_tcp_together"]}


def test_a_name_forges_no_row() -> None:
    strange = TRUTH["waits.pcapng"]["dns_strange_names"]
    rows = [row for row in names(DATA / "waits.pcapng") if row["response_code"] is None]
    assert len(rows) == len({row["name"] for row in rows}) == len(strange)
    assert all((row["type"], row["queries"], row["unanswered"]) == ("A", 1, 1) for row in rows)
    found = {str(row["name"]) for row in rows}
    assert {"bücher.example", "dot.inside.example", "<root>"} <= found
