"""p50, p95 and p99 of the taps that measure times: against known waits, merged, and in plain tshark."""

from __future__ import annotations

import math
import random
import struct
from pathlib import Path

import pytest
from tests.measure import DATA, once
from tests.test_taps import plain_tshark
from tests.traffic.capturefiles import udp_frame, write_pcap

import sharkstat
from sharkstat import Row, Table
from sharkstat.tables import view

SERVER = ("192.0.2.53", 53)
TIMES = {"latency": "time", "dns,names": "time", "http,requests": "time", "tls,servers": "handshake"}


def message(number: int, name: str, answer: bool) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = labels + struct.pack(">BHH", 0, 1, 1)
    return struct.pack(">HHHHHH", number, 0x8180 if answer else 0x0100, 1, 0, 0, 0) + question


@pytest.fixture(scope="module")
def waits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[int]]]:
    """Answers to 40 queries of one name and 460 of another, after 20 µs to 2 s."""
    dice = random.Random(5)
    packets: list[tuple[int, bytes]] = []
    told: dict[str, list[int]] = {"few.example.net": [], "many.example.net": []}
    for number in range(500):
        name = "few.example.net" if number % 25 < 2 else "many.example.net"
        took = round(math.exp(dice.uniform(math.log(20e-6), math.log(2))) * 1e6) * 1000 if number % 10 else 123_000
        told[name].append(took)
        start, client = number * 10**7, ("192.0.2.10", 20000 + number)
        packets.append((start, udp_frame(client, SERVER, message(number, name, False))))
        packets.append((start + took, udp_frame(SERVER, client, message(number, name, True))))
    folder = tmp_path_factory.mktemp("waits")
    for name, these in (("waits", packets), ("first", packets[:150]), ("second", packets[150:])):
        write_pcap(folder / f"{name}.pcap", sorted(these))
    return folder / "waits.pcap", told


def nearest_rank(values: list[int], percent: int) -> int:
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def percentiles(row: Row) -> list[object]:
    return [row[f"p{percent}_time"] for percent in (50, 95, 99)]


def test_percentiles_are_those_of_the_waits_and_exact_of_few(waits: tuple[Path, dict[str, list[int]]]) -> None:
    capture, told = waits
    names, latency = sharkstat.run(capture, ["dns,names", "latency"])
    found = {row["name"]: row for row in names}
    few = told["few.example.net"]
    assert percentiles(found["few.example.net"]) == [nearest_rank(few, percent) for percent in (50, 95, 99)]
    for row, values in (
        (found["many.example.net"], told["many.example.net"]),
        (latency.rows[0], [*told["few.example.net"], *told["many.example.net"]]),
    ):
        assert row["timed" if "timed" in row else "responses"] == len(values) > 400
        for estimate, percent in zip(percentiles(row), (50, 95, 99), strict=True):
            assert estimate == pytest.approx(nearest_rank(values, percent), rel=0.01, abs=1)


def test_parts_are_the_whole(waits: tuple[Path, dict[str, list[int]]], tmp_path: Path) -> None:
    """Of files, of what was saved, of several tsharks; rows of the first part are exact, those of the whole are not."""
    capture, _ = waits
    asked = ["latency", "dns,names"]
    whole = sharkstat.run(capture, asked)
    assert [table.rows for table in sharkstat.run(capture, asked, jobs=3)] == [table.rows for table in whole]
    parts = []
    for name in ("second", "first"):
        file = tmp_path / f"{name}.json"
        tables = sharkstat.run(capture.with_name(f"{name}.pcap"), asked)
        file.write_text("".join(sharkstat.tables.export.to_json(tables)))
        parts.append(sharkstat.read(file))
    for number, table in enumerate(whole):
        assert Table.merge([part[number] for part in parts]).rows == table.rows


def test_plain_tshark_has_the_same(waits: tuple[Path, dict[str, list[int]]]) -> None:
    [table] = sharkstat.run(waits[0], "dns,names")
    text = plain_tshark("dns_names.lua", ["dns,names,format=rows"], waits[0], prefix="")
    head, *lines = (line.split("\t") for line in text.strip().splitlines())
    for row, line in zip(table, lines, strict=True):
        told = dict(zip(head, line, strict=True))
        assert [round(float(told[f"p{percent}_time"]) * 1e9) for percent in (50, 95, 99)] == percentiles(row)
        assert tuple(sorted(told["times"].split(","))) == row["times"]


@pytest.mark.parametrize("name", TIMES)
def test_a_sketch_has_every_time(name: str) -> None:
    captures = ("story-after.pcapng", "waits.pcapng", "handshakes.pcapng", "slow.pcapng")
    rows = [row for capture in captures for row in once(DATA / capture, name) if row["times"]]
    assert len(rows) > 3
    for row in rows:
        counted = [entry[1:].partition(":") for entry in row["times"]]  # type: ignore[union-attr]
        values = [int(value) for value, _, count in counted for _ in range(int(count or 1))]
        assert (len(values), sum(values)) == (
            row["timed" if "timed" in row else "responses"],
            row["time" if "time" in row else "total_time"],
        )
        word = TIMES[name]
        assert row[f"p50_{word}"] == nearest_rank(values, 50) and row[f"p99_{word}"] == max(values)


def test_a_narrow_terminal_keeps_what_matters() -> None:
    left: list[str] = []
    text = view.text(once(DATA / "story-after.pcapng", "latency"), width=80, on_left_out=left.extend)
    assert left == ["p50_time", "p99_time"] and max(map(len, text.splitlines())) <= 80
    view.text(once(DATA / "story-after.pcapng", "dns,names"), width=80, on_left_out=left.extend)
    assert "mean_time" not in left and "max_time" not in left
