"""max=: a table has at most so many rows, and one more that adds up the others exactly."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.command import DATA
from tests.traffic.capturefiles import udp_frame, write_pcap

import sharkstat
from sharkstat.running.plan import make_plan
from sharkstat.running.runner import run_plan
from sharkstat.tables.selection import Selection
from sharkstat.tshark.process import find_tshark


def test_rows_beyond_a_bound_are_added_up() -> None:
    """On every engine: rows below the bound are as without it, and the row of all others has what is missing."""
    requests = ["conv,ip", "conv,udp", "endpoints,ip", "endpoints,tcp"]
    bounds = (0, 1, 2)
    for engine in ("lua", "packets", "headers", "tshark"):
        asked = [*requests, *(f"{name},max={most},ip" for name in requests for most in bounds if engine != "headers")]
        asked += [f"{name},max=2" for name in requests]
        tables = {t.request: t for t in sharkstat.run(DATA / "story-after.pcapng", asked, engine=engine)}
        for request, table in tables.items():
            whole = tables[",".join(request.split(",")[:2])]
            if whole is table:
                assert not table.capped and len(table) > 2
                continue
            most = int(request.split("max=")[1][0])
            assert table.capped and len(table) == most + 1 and "(other)" in table.warnings[-1], (engine, request)
            rest = whole.rows[most:]
            assert table.rows[:most] == whole.rows[:most] and next(iter(table.rows[most].values())) == "(other)"
            for column in whole.columns:
                values = [row[column.name] for row in rest]
                if column.type == "integer" and column.role != "key":
                    assert table.rows[most][column.name] == sum(values), (engine, request, column.name)  # type: ignore[arg-type]
                elif column.merge in ("min", "max"):
                    assert table.rows[most][column.name] == (min if column.merge == "min" else max)(values)  # type: ignore[type-var]


def test_top_is_exact_beyond_a_bound() -> None:
    story = DATA / "story-after.pcapng"
    plan = make_plan(
        sharkstat.Source(files=(str(story),)), ["conv,udp", "conv,udp,max=4"], "", sharkstat.Registry.default()
    )
    chosen = Selection(top=3, sort="bytes:asc")
    whole, some = run_plan(plan.with_first_rows(chosen, 3), find_tshark())
    assert some.rows == whole.rows and some.omitted == whole.omitted == 5 and not some.capped


def test_tables_beyond_a_bound_merge_to_what_the_whole_gives() -> None:
    parts = [sharkstat.run(DATA / f"story-{name}.pcapng", "endpoints,udp,max=10")[0] for name in ("before", "after")]
    one = sharkstat.run([DATA / f"story-{name}.pcapng" for name in ("before", "after")], "endpoints,udp,max=10")[0]
    assert not parts[0].capped and not parts[1].capped and one.capped
    assert sharkstat.Table.merge(parts).rows == one.rows


def test_intervals_beyond_a_bound_are_added_up() -> None:
    columns = "tcp,LOAD(tcp.time_relative),LOAD(dns.time),MIN(frame.len),MAX(frame.len),AVG(tcp.time_delta)"
    bounds = (0, 3, 40)
    requests = [f"io,stat,0.01,{columns}", *(f"io,stat,0.01,max={most},{columns}" for most in bounds)]
    for engine in ("lua", "packets"):
        whole, *some = sharkstat.run(DATA / "story-after.pcapng", requests, engine=engine)
        for most, table in zip(bounds, some, strict=True):
            assert table.rows[:most] == whole.rows[:most] and len(table) == most + 1 and table.capped
            rest = table.rows[most]
            assert (rest["start"], rest["load(tcp.time_relative)"]) == (None, None)
            for column in whole.columns:
                values = [row[column.name] for row in whole.rows[most:] if row[column.name] is not None]
                if column.role == "measure" and column.merge in ("sum", "min", "max"):
                    assert rest[column.name] == {"sum": sum, "min": min, "max": max}[column.merge](values)  # type: ignore[operator]


def test_a_load_of_a_day_in_milliseconds(tmp_path: Path) -> None:
    """Fifty questions are answered after a day: 86 million intervals, of which few have a packet."""

    def message(number: int, flags: int, answers: int) -> bytes:
        question = b"\1a\0\0\1\0\1"
        answer = b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", 60, 4) + bytes(4)
        return struct.pack(">6H", number, flags, 1, answers, 0, 0) + question + answers * answer

    client, server = ("192.0.2.1", 4000), ("192.0.2.2", 53)
    asked = [(n * 10**6, udp_frame(client, server, message(n, 0x100, 0))) for n in range(50)]
    day = 86400 * 10**9
    told = [(day + 3 * n * 10**6, udp_frame(server, client, message(n, 0x8180, 1))) for n in range(50)]
    write_pcap(tmp_path / "day.pcap", [*asked, *told])
    for engine in ("lua", "packets"):
        table, all_time = sharkstat.run(
            tmp_path / "day.pcap", ["io,stat,0.001,LOAD(dns.time)", "io,stat,0,SUM(dns.time)"], engine=engine
        )
        assert len(table) == 100_001 and table.capped
        assert [row["load(dns.time)"] for row in table.rows[:100_000]] == [
            float(min(n + 1, 50)) for n in range(100_000)
        ]
        waited = 50 * day + 2 * 10**6 * sum(range(50))
        assert table.total("busy(dns.time)") == all_time.rows[0]["sum(dns.time)"] == waited


def test_groups_beyond_a_bound_are_added_up() -> None:
    groups = (
        "by=ip.src,by=tcp.dstport/udp.dstport,count,sum=frame.len,min=frame.time_epoch,max=frame.len",
        "by=tcp.srcport,sum=tcp.time_relative,distinct=ip.dst",
        "every=500ms,count,sum=frame.len",
        "by=ip.src/24,by=udp.srcport,count",
    )
    requests = [f"group,{text}{most}" for text in groups for most in ("", ",max=0", ",max=3")]
    for engine in ("lua", "packets"):
        tables = sharkstat.run(DATA / "story-after.pcapng", requests, engine=engine)
        for whole, *some in zip(tables[::3], tables[1::3], tables[2::3], strict=True):
            for most, table in zip((0, 3), some, strict=True):
                assert table.rows[:most] == whole.rows[:most] and len(table) == most + 1 < len(whole) and table.capped
                for column in whole.columns:
                    values = [row[column.name] for row in whole.rows[most:] if row[column.name] is not None]
                    if column.role == "measure" and column.merge in ("sum", "min", "max"):
                        added = {"sum": sum, "min": min, "max": max}[column.merge](values)  # type: ignore[operator]
                        assert table.rows[most][column.name] == added, (engine, table.request, column.name)
