"""Requests joined with their responses, on both engines, against calls whose fate is known, and tshark's DNS times."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests import oracle
from tests.command import DATA
from tests.traffic.calls import CALLS, SERVER, UNASKED, Call, write_calls

import sharkstat
from sharkstat import Registry, Table
from sharkstat.running.plan import Plan, make_plan
from sharkstat.running.runner import run_plan
from sharkstat.tshark.process import find_tshark

EXAMPLES = DATA.parent.parent / "docs" / "examples"
SECOND = 1000

DNS = """
import sharkstat

class Lookups(sharkstat.Joined):
    name = "dns,lookups"
    title = "DNS lookups"
    request = "dns.flags.response == 0 && udp"
    response = "dns.flags.response == 1 && udp"
    pairs = (("ip.src/ipv6.src", "ip.dst/ipv6.dst"), ("udp.srcport", "udp.dstport"), "dns.id", "dns.qry.type")
    keys = (sharkstat.Key("lower(dns.qry.name)", "name"),)
    answer = ("dns.flags.rcode",)

@sharkstat.hookimpl
def register_statistics(register):
    register(Lookups())
"""


def on_both(capture: Path, requests: list[str], plugin: Path) -> list[list[Table]]:
    registry = Registry.default([plugin])
    source = sharkstat.Source(files=(str(capture),))
    plans = [make_plan(source, requests, engine, registry) for engine in ("lua", "packets")]
    found = iter(run_plan(Plan(source, [request for plan in plans for request in plan.requests]), find_tshark()))
    return [[next(found) for _ in requests] for _ in plans]


def test_the_capture_of_the_example_is_made_of_these_calls(tmp_path: Path) -> None:
    write_calls(tmp_path / "calls.pcap")
    assert (tmp_path / "calls.pcap").read_bytes() == (EXAMPLES / "clock_calls.pcap").read_bytes()


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[list[Table]]:
    capture = tmp_path_factory.mktemp("calls") / "calls.pcap"
    write_calls(capture)
    requests = ["clock,calls", "clock,calls,each=no", "clock,calls,each=no,timeout=2s,ip.addr == 192.0.2.2"]
    return on_both(capture, requests, EXAMPLES / "clock_calls.py")


def fate(call: Call) -> str:
    if not call.answered:
        return "unanswered"
    return "answered" if call.answered[0] - call.sent[0] <= SECOND else "late"


def test_each_call_is_a_row_with_what_became_of_it(calls: list[list[Table]]) -> None:
    expected: Counter[tuple[object, ...]] = Counter(
        (
            call.client,
            fate(call),
            call.sent[0] * 10**6,
            (call.answered[0] - call.sent[0]) * 10**6 if call.answered else None,
            len(call.sent),
            len(call.answered),
            f"{call.answer:02x}" if call.answered else None,
        )
        for call in CALLS
    )
    expected[None, "unasked", UNASKED.answered[0] * 10**6, None, 0, 1, "02"] += 1
    names = ("client", "state", "time", "response_time", "requests", "responses", "answer")
    for each, *_ in calls:
        assert Counter(tuple(row[name] for name in names) for row in each) == expected
        assert [row["time"] for row in each] == sorted(row["time"] for row in each)  # type: ignore[type-var]
    assert calls[0][0].rows == calls[1][0].rows and calls[0][0].columns == calls[1][0].columns


def test_calls_of_a_client_are_counted_together(calls: list[list[Table]]) -> None:
    for _, table, patient in calls:
        for client in sorted({call.client for call in CALLS}):
            mine = [call for call in CALLS if call.client == client]
            rows = [row for row in table if row["client"] == client]
            assert {row["server"] for row in rows} == {SERVER}

            def total(name: str, rows: list[sharkstat.Row] = rows) -> int | float:
                return table.with_rows(rows).total(name)  # noqa: B023

            fates = Counter(map(fate, mine))
            assert [total(name) for name in ("requests", "answered", "unanswered", "late")] == [
                len(mine), fates["answered"], fates["unanswered"], fates["late"],
            ]  # fmt: skip
            assert total("repeated") == sum(len(call.sent) - 1 for call in mine)
            assert total("duplicates") == sum(max(len(call.answered) - 1, 0) for call in mine)
            times = [call.answered[0] - call.sent[0] for call in mine if fate(call) == "answered"]
            assert total("response_time_sum") == sum(times) * 10**6
            assert max(int(row["max_time"] or 0) for row in rows) == max(times) * 10**6  # type: ignore[arg-type]
        assert table.total("unasked") == 1
        assert (patient.total("late"), patient.total("answered")) == (
            0,
            len([c for c in CALLS if c.client == "192.0.2.2"]),
        )
    assert calls[0][1].rows == calls[1][1].rows


def test_dns_lookups_have_tsharks_own_times(tmp_path: Path) -> None:
    plugin = tmp_path / "lookups.py"
    plugin.write_text(DNS)
    capture = DATA / "dns.pcapng"
    asked = oracle.fields(capture, ("frame.number", "dns.time", "dns.response_to", "dns.qry.name"), "-Y", "udp && dns")
    known = {int(to[0]): oracle.nanoseconds(time[0]) for _, time, to, _ in asked if to and time}
    for [table] in on_both(capture, ["dns,lookups"], plugin):
        answered = {row["packet"]: row["response_time"] for row in table if row["state"] == "answered"}
        assert {number: time for number, time in answered.items() if number in known} == known
        assert {row["name"] for row in table} == {name[0].lower() for *_, name in asked}
        assert table.total("requests") == len([1 for *_, to, _ in asked if not to])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"dns.id", ', '"dns.idd", ', "no such field: dns.idd; did you mean dns.id"),
        ('("ip.src/ipv6.src", "ip.dst/ipv6.dst")', '("ip.src",)', "is no pair"),
        ("dns.qry.name)", "dns.qry.name", "a comma or ) is missing at the end"),
        (
            'answer = ("dns.flags.rcode",)',
            'answer = ("lower(dns.qry.name) ",)\n    request = ""',
            "needs request, response",
        ),
        ('"dns.flags.response == 1 && udp"', '"dns.flags.response ==="', "invalid display filter"),
    ],
)
def test_a_bad_declaration_is_one_line(old: str, new: str, said: str, tmp_path: Path) -> None:
    plugin = tmp_path / "lookups.py"
    assert old in DNS
    plugin.write_text(DNS.replace(old, new))
    registry = Registry.default([plugin])
    faults = [fault for loaded in registry.plugins for fault in (loaded.problem, *loaded.faults) if fault]
    if not faults:
        with pytest.raises(sharkstat.RequestError) as caught:
            sharkstat.run(DATA / "dns.pcapng", "dns,lookups", registry=registry)
        faults = [str(caught.value)]
    assert said in faults[0] and "\n" not in faults[0]


def test_response_times_have_percentiles_and_values_have_names(tmp_path: Path) -> None:
    plugin = tmp_path / "lookups.py"
    by_name = '(sharkstat.Key("lower(dns.qry.name)", "name"),)'
    plugin.write_text(DNS.replace(by_name, '(sharkstat.Key("dns.qry.type", names=True),)'))
    (each, lua), (_, packets) = on_both(DATA / "dns.pcapng", ["dns,lookups", "dns,lookups,each=no"], plugin)
    assert lua.rows == packets.rows and lua.columns == packets.columns
    for table in (each, lua, packets):
        assert {"dns.qry.type=1": "A", "dns.qry.type=28": "AAAA"}.items() <= table.names.items()
        assert "\nAAAA " in str(table) or " AAAA " in str(table)
    keys = ("dns_qry_type", "dns_flags_rcode")
    for row in lua:
        known = [one["response_time"] for one in each if all(one[key] == row[key] for key in keys)]
        times = sorted(time for time in known if isinstance(time, int))
        nearest = [times[-(-len(times) * percent // 100) - 1] if times else None for percent in (50, 95, 99)]
        assert [row[f"p{percent}_time"] for percent in (50, 95, 99)] == nearest
