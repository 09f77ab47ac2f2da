"""What must hold on every capture without asking anyone: engines agree, and the books balance."""

from __future__ import annotations

from tests.measure import Measured
from tests.oracle import KINDS

from sharkstat import Table


def by_name(tables: list[Table]) -> dict[str, Table]:
    return {table.request: table for table in tables}


def test_both_engines_give_the_same_tables_however_little_is_dissected(measured: Measured) -> None:
    for lua, packets in zip(measured.lua, measured.packets, strict=True):
        assert (lua.columns, lua.rows) == (packets.columns, packets.rows)
        assert (lua.reading, lua.complete) == (packets.reading, packets.complete)
    packets_of = by_name(measured.packets)
    for lean in measured.lean:
        assert (lean.columns, lean.rows) == (packets_of[lean.request].columns, packets_of[lean.request].rows)


def test_everything_read_is_what_the_file_holds(measured: Measured) -> None:
    reading = measured.lua[0].reading
    assert (reading.packets, reading.bytes) == (measured.known.packets, measured.known.bytes)


def test_every_packet_has_its_interval(measured: Measured) -> None:
    for request, table in zip(measured.io, measured.tables("io,stat"), strict=True):
        if "frames" in (c.name for c in table.columns):
            assert table.total("frames") == table.reading.packets, request.text
            assert table.total("bytes") == table.reading.bytes, request.text
        if ("", "", "ip") in request.columns:  # tcp and udp are in these, or in others: no filter takes them alone
            for row in table.rows:
                taken = max(row["frames[ip]"], row["frames[ipv6]"])  # type: ignore[type-var]
                assert taken <= row["frames"] - row["frames[other]"] <= row["frames[ip]"] + row["frames[ipv6]"]  # type: ignore[operator]


def test_what_is_sent_is_received(measured: Measured) -> None:
    tables = by_name(measured.lua)
    for kind in KINDS:
        conversations, endpoints = tables[f"conv,{kind}"], tables[f"endpoints,{kind}"]
        for unit in ("packets", "bytes"):
            sent, received = endpoints.total(f"tx_{unit}"), endpoints.total(f"rx_{unit}")
            assert sent == received == conversations.total(unit)
            assert endpoints.total(unit) == 2 * conversations.total(unit)
        assert {row["address"] for row in endpoints} == {
            row[end] for row in conversations for end in ("address_a", "address_b")
        }


def test_times_lie_within_the_reading(measured: Measured) -> None:
    for table in measured.tables("conv"):
        for row in table:
            assert table.reading.first <= row["start"] <= row["stop"] <= table.reading.last  # type: ignore[operator]


def test_trees_add_up(measured: Measured) -> None:
    for table in measured.tables("http"):
        counts = {row["path"]: row["count"] for row in table}
        below: dict[object, int] = {}
        for path, count in counts.items():
            assert isinstance(path, tuple) and isinstance(count, int)
            below[path[:-1]] = below.get(path[:-1], 0) + count
        for path, count in counts.items():
            # Requests by server are shown twice, by address and by host; a request may lack its host.
            twice = path == ("HTTP Requests by Server",)
            assert below.get(path, 0) <= count * (2 if twice else 1)  # type: ignore[operator]
    packets = {row["path"]: row["count"] for row in by_name(measured.lua)["http,tree"]}
    kinds = [count for path, count in packets.items() if len(path) == 2]  # type: ignore[arg-type]
    assert sum(kinds) == sum(count for path, count in packets.items() if len(path) == 1)  # type: ignore[arg-type, misc]


def test_every_packet_is_of_one_service(measured: Measured) -> None:
    for table in measured.tables("services"):
        assert_services_balance(table)


def assert_services_balance(table: Table) -> None:
    """Rows add up to what was read, and of a service whose server is known to what went both ways."""
    assert (table.total("packets"), table.total("bytes")) == (table.reading.packets, table.reading.bytes)
    for row in table:
        for what in ("packets", "bytes"):
            to, back = row[f"{what}_to_server"], row[f"{what}_from_server"]
            known = row["server_address"] is not None
            assert (to is not None, back is not None) == (known, known)
            assert not known or to + back == row[what]  # type: ignore[operator]
        assert row["transport"] in ("tcp", "udp", "sctp") or row["connections"] is None or row["protocol"] == "(other)"
