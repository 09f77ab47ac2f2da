"""Percentiles from sketches: against tshark's own fields, on both engines, merged, saved and misused."""

from __future__ import annotations

import json
import math
import random
import struct
from collections import defaultdict
from importlib.resources import files
from pathlib import Path

import pytest
from tests import oracle
from tests.command import DATA
from tests.command import sharkstat as sharkstat_command
from tests.measure import engines
from tests.traffic.capturefiles import udp_frame, write_pcap

import sharkstat
from sharkstat import Table
from sharkstat.tables import sketch
from sharkstat.tables.arrow import to_parquet
from sharkstat.tshark.process import find_tshark
from sharkstat.tshark.workspace import Workspace

MS = 10**6
PERCENTS = (0.5, 25, 50, 95, 99.9, 100)
ASKED = "/".join(map(str, PERCENTS))


def position_packets() -> list[tuple[int, bytes]]:
    """Entity states of a simulation (DIS) of three hosts: coordinates of any size on both sides of 0, speeds, zeros."""
    dice = random.Random(3)

    def number(most: float) -> float:
        return dice.choice([0, -1, 1, 1]) * math.exp(dice.uniform(-12, math.log(most)))

    packets = []
    for at in range(450):
        body = struct.pack(">BBBBIHH24x", 6, 1, 1, 1, 0, 144, 0)
        body += struct.pack(">3f3d", number(1e3), 0, 0, number(1e12), 0, 0)
        host = f"192.0.2.{1 + at % 3}"
        packets.append((at * MS, udp_frame((host, 3000), ("198.51.100.1", 3000), body.ljust(144, b"\0"))))
        if at % 50 == 0:
            packets.append((at * MS, udp_frame(("192.0.2.9", 9), ("198.51.100.1", 9), b"no state")))
    return packets


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("percentiles") / "states.pcap"
    write_pcap(path, position_packets())
    return path


def nearest_rank(values: list[float], percent: float) -> float:
    return sorted(values)[max(math.ceil(len(values) * percent / 100 - 1e-9), 1) - 1]


# A field, how tshark's text of it is read, and how far rounding may take it.
FIELDS = {"dns.time": ("dns", oracle.nanoseconds, 0.5), "frame.len": ("dns", int, 0.5), "tcp.len": ("http", int, 0.5)}
X, SPEED = "dis.entity_location.x", "dis.entity_linear_velocity.x"


def check(capture: Path, field: str, read: object, rounding: float) -> list[Table]:
    values: defaultdict[str | None, list[float]] = defaultdict(list)
    for sources, found in oracle.fields(capture, ("ip.src", field)):
        values[sources[0] if sources else None] += map(read, found)  # type: ignore[call-overload]
    both = [table for [table] in engines(capture, [f"group,by=ip.src,count,percentile={field}:{ASKED}"])]
    assert both[0].rows == both[1].rows and both[0].columns == both[1].columns
    prefix = field.replace(".", "_")
    names = [f"{prefix}_p{str(percent).replace('.', '_')}" for percent in PERCENTS]
    assert {row["ip_src"] for row in both[0]} == set(values)
    for row in both[0]:
        known = values[row["ip_src"]]  # type: ignore[index]
        if not known:
            assert [row[name] for name in names] == [None] * len(PERCENTS)
            continue
        for name, percent in zip(names, PERCENTS, strict=True):
            true, estimate = nearest_rank(known, percent), row[name]
            assert isinstance(estimate, (int, float))
            assert abs(estimate - true) <= abs(true) * 0.01001 + rounding, (field, percent)
        assert row[names[-1]] == pytest.approx(max(known), rel=1e-5)  # tshark prints some digits
    assert any(len(known) > 4 for known in values.values())
    return both


@pytest.mark.parametrize("field", FIELDS)
def test_estimates_are_within_one_percent_of_tsharks_fields(field: str) -> None:
    capture, read, rounding = FIELDS[field]
    [one, _] = check(DATA / f"{capture}.pcapng", field, read, rounding)
    median = one.column(f"{field.replace('.', '_')}_p50")
    assert (median.type, median.unit) == (
        ("duration", "seconds") if field == "dns.time" else ("integer", "bytes" if "len" in field else "")
    )


def test_negative_values_zeros_and_fractions_too(states: Path) -> None:
    for field in (X, SPEED):
        [table, _] = check(states, field, float, 0)
        assert None in table[f"{field.replace('.', '_')}_p50"], "a host without the field"
    entries = [entry for one in table["dis_entity_linear_velocity_x_sketch"] for entry in one or ()]  # type: ignore[union-attr]
    assert {entry[0] for entry in entries} >= {"n", "z"} and any(entry[0].isdigit() for entry in entries)
    check(DATA / "unordered.pcap", "udp.time_relative", oracle.nanoseconds, 0.5)


def test_parts_merge_into_the_whole_even_when_saved_and_by_expressions(states: Path, tmp_path: Path) -> None:
    request = f"group,by=ip.src,percentile={X},percentile={SPEED}:90 where ip.src == 192.0.2.1 as best"
    packets, parts = position_packets(), []
    for number in range(3):
        path = tmp_path / f"{number}.pcap"
        write_pcap(path, packets[number * 153 : (number + 1) * 153])
        parts += sharkstat.run(path, request)
    of_all = [f"group,{key}percentile={X}" for key in ("", "by=ip.src/0,", "by=host,")]
    whole, total, network, hosts = sharkstat.run(states, [request, *of_all], jobs=3)
    by_key = {row["ip_src"]: row for row in whole}
    assert {row["ip_src"]: row for row in Table.merge(parts)} == by_key
    assert [whole] == sharkstat.run(states, request)
    saved = []
    for number, part in enumerate(parts):
        path = tmp_path / f"{number}.{'json' if number else 'parquet'}"
        path.write_bytes(b"".join(to_parquet([part])) if number == 0 else "".join(part.to_json()).encode())
        [again] = sharkstat.read(path)
        assert again.columns == part.columns and again.rows == part.rows
        saved.append(again)
    assert {row["ip_src"]: row for row in Table.merge(saved)} == by_key
    assert list(network.rows[0].values())[1:] == list(total.rows[0].values())
    server = next(row for row in hosts if row["host"] == "198.51.100.1")
    p95 = "dis_entity_location_x_p95"
    assert server[f"{p95}_in"] == server[p95] == total.rows[0][p95] and server[f"{p95}_out"] is None
    assert by_key["192.0.2.1"]["best"] is not None and by_key["192.0.2.2"]["best"] is None


def test_a_quotient_of_percentiles_is_had_before_them_and_at_the_top() -> None:
    request = "group,by=ip.src,ratio=dns_time_p99/dns_time_p50 as tail,percentile=dns.time,mean=dns.time"
    [table] = sharkstat.run(DATA / "dns.pcapng", request)
    expected = [row["dns_time_p99"] / row["dns_time_p50"] for row in table if row["dns_time_p50"]]  # type: ignore[operator]
    assert [tail for tail in table["tail"] if tail is not None] == expected and len(expected) > 1
    command = sharkstat_command("run", DATA / "dns.pcapng", "-z", request, "--top", "1", "--format", "json")
    [top] = json.loads(command.stdout)["tables"][0]["rows"]
    assert top["tail"] == max(expected)


def test_lua_finds_the_same_bucket_of_every_number_as_python() -> None:
    """At the bounds, next to them, and at the ends of what a number can be."""
    values = [0.0, -0.0, 5e-324, 1e-301, 1e-300, sketch.MOST, -sketch.MOST, math.inf, -math.inf, 1.0, -1.0]
    for index in [*range(-300, 2300), *range(-34000, 35400, 97)]:
        at = sketch.bound(index)
        values += [at, math.nextafter(at, 0), -math.nextafter(at, math.inf)]
    values += [float(2**power + more) for power in range(64) for more in (-1, 0, 1)]
    numbers = "".join(f"{value!r}\n".replace("inf", "1e999") for value in values)
    with Workspace(find_tshark()) as workspace:
        folder = workspace.readable(Path(str(files("sharkstat_lua"))), "taps")
        script = workspace.write(
            "buckets.lua",
            f'package.path = "{folder}/?.lua"\nlocal sketch = require "sketch"\n'
            f'for line in io.lines("{workspace.write("numbers", numbers)}") do\n'
            '  io.stdout:write(sketch.bucket(tonumber(line)), "\\n")\nend\n',
        )
        capture = workspace.readable(DATA / "empty.pcap", "empty.pcap")
        command = [workspace.tshark.path, "-q", "-r", str(capture), "-X", f"lua_script:{script}"]
        told, _ = workspace.start(command, stdout=-1).communicate(timeout=60)
    assert told.decode().split() == [sketch.bucket(value) for value in values]
    for value in values[8:]:
        if 1e-290 < abs(value) < 1e300:
            estimate = sketch.percentile((f"{sketch.bucket(value)}:300",), 50, -math.inf, math.inf)
            assert estimate is not None and abs(estimate - value) <= abs(value) * 0.01 * (1 + 1e-9)


@pytest.mark.parametrize(
    ("measure", "said"),
    [
        ("percentile=dns.qry.name", "the field is a text, not a number"),
        ("percentile=frame.time_epoch", "the field is a time, not a number"),
        ("percentile=dns.time:101", "101 is no percentile: write numbers above 0, up to 100"),
        ("percentile=dns.time:0", "0 is no percentile"),
        ("percentile=dns.time:half", "write numbers, e.g. percentile=dns.time:50/95/99"),
        ("percentile=dns.time:50/50", "two columns are named dns_time_p50"),
    ],
)
def test_a_bad_percentile_is_one_line(measure: str, said: str) -> None:
    for name in ("lua", "packets"):
        with pytest.raises(sharkstat.RequestError, match=said):
            sharkstat.run(DATA / "dns.pcapng", f"group,{measure}", engine=name)


def test_a_name_among_the_percentiles_is_told() -> None:
    with pytest.raises(ValueError, match=r"percentile=dns\.time: 'p95' is no percentile: write numbers above 0"):
        sharkstat.Percentile("dns.time", 95, "p95")  # type: ignore[arg-type]
