"""Distinct values, the most frequent ones and histograms: against tshark's fields, of few and of many, and merged."""

from __future__ import annotations

import ipaddress
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from tests import oracle
from tests.command import DATA
from tests.measure import engines
from tests.traffic.capturefiles import udp_frame, write_pcap

import sharkstat
from sharkstat import Row, Table

DISTINCT, TOP = "ip_src_distinct", "ip_src_top"


def bucket_of(value: int, unit: int = 1) -> tuple[int, int]:
    bounds = sorted({digit * 10**power for power in range(13) for digit in (1, 2, 5)})
    low = max(bound for bound in bounds if bound <= value)
    return low, bounds[bounds.index(low) + 1]


def counts_of(row: Row, column: str) -> dict[str, int]:
    entries = [text.partition(":") for text in row[column]]  # type: ignore[union-attr]
    return {value: int(count) for count, _, value in entries if count != "error"}


def test_few_values_are_exact() -> None:
    found: defaultdict[str | None, list[tuple[list[str], ...]]] = defaultdict(list)
    for sources, *values in oracle.fields(DATA / "dns.pcapng", ("ip.src", "dns.qry.name", "frame.len", "dns.time")):
        found[sources[0] if sources else None].append(tuple(values))
    asked = "group,by=ip.src,distinct=dns.qry.name,top=dns.qry.name:2,histogram=frame.len,"
    asked += "histogram=dns.time:100us/0.2 as slow"
    with pytest.raises(sharkstat.RequestError, match="rising order, all with a unit or none"):
        sharkstat.run(DATA / "dns.pcapng", asked)
    lua, packets = engines(DATA / "dns.pcapng", [asked.replace("0.2 as", "200ms as")])
    assert lua[0].rows == packets[0].rows and lua[0].columns == packets[0].columns
    for row in lua[0]:
        names = Counter(name for values in found[row["ip_src"]] for name in values[0])  # type: ignore[index]
        lengths = Counter(bucket_of(int(values[1][0])) for values in found[row["ip_src"]])  # type: ignore[index]
        times = [oracle.nanoseconds(text) for values in found[row["ip_src"]] for text in values[2]]  # type: ignore[index]
        assert row["dns_qry_name_distinct"] == len(names) and set(row["dns_qry_name_distinct_values"]) == set(names)  # type: ignore[arg-type]
        assert counts_of(row, "dns_qry_name_top_counts") == names and row["dns_qry_name_top_error"] == 0
        first = sorted(names.items(), key=lambda item: (-item[1], item[0]))[:2]
        assert row["dns_qry_name_top"] == (", ".join(f"{name} {count}" for name, count in first) or None)
        told = [f"{low} B to {high} B {count}" for (low, high), count in sorted(lengths.items())]
        assert row["frame_len_histogram"] == ", ".join(told)
        slow = {
            "below 100us": sum(t < 10**5 for t in times),
            "100us to 200ms": sum(10**5 <= t < 2 * 10**8 for t in times),
        }
        slow["from 200ms"] = len(times) - sum(slow.values())
        assert row["slow"] == (", ".join(f"{label} {count}" for label, count in slow.items() if count) or None)
    assert len(lua[0]) > 2


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Counter[str]]:
    """A capture with 13,000 senders, three of which send a third of all, and its halves."""
    dice = random.Random(7)
    addresses = [str(ipaddress.IPv4Address(0x0A000000 + at * 97)) for at in range(13_000)]
    sent = [*addresses, *(address for at, address in enumerate(addresses[:3]) for _ in range(3000 - 500 * at))]
    dice.shuffle(sent)
    packets = [(at * 10**6, udp_frame((host, 5000), ("192.0.2.1", 9), b"")) for at, host in enumerate(sent)]
    folder = tmp_path_factory.mktemp("many")
    paths = [folder / f"{name}.pcap" for name in ("whole", "first", "second")]
    for path, part in zip(paths, (packets, packets[:9000], packets[9000:]), strict=True):
        write_pcap(path, part)
    return paths, Counter(sent)


def test_many_values_are_within_the_stated_error(many: tuple[list[Path], Counter[str]]) -> None:
    [whole, *halves], told = many
    asked = "group,distinct=ip.src,top=ip.src:3"
    lua, packets = engines(whole, [asked])
    assert lua[0].rows == packets[0].rows
    parts = [sharkstat.run(path, asked)[0] for path in halves]
    assert all(row[DISTINCT] == len(row[f"{DISTINCT}_values"]) for part in parts for row in part), "each is exact"  # type: ignore[arg-type]
    shards = sharkstat.run(whole, asked, jobs=2)[0]
    by_key = sharkstat.run(whole, asked.replace("group,", "group,by=ip.src/0,"))[0]
    for table in (lua[0], shards, by_key, Table.merge(parts), Table.merge(parts[::-1])):
        [row] = table.rows
        assert row[f"{DISTINCT}_values"] == lua[0].rows[0][f"{DISTINCT}_values"], "however it was divided"
        assert row[DISTINCT] == pytest.approx(len(told), rel=0.025) and row[DISTINCT] != len(told)
        counts, error = counts_of(row, f"{TOP}_counts"), row[f"{TOP}_error"]
        assert isinstance(error, int) and 0 < error < sum(told.values()) / 1000
        assert all(count <= told[value] <= count + error for value, count in counts.items())
        assert {value for value, count in told.items() if count > error} <= set(counts)
        names = [part.split(" ")[0] for part in str(row[TOP]).split(", ")]
        assert names == [value for value, _ in told.most_common(3)]


@pytest.mark.parametrize(
    ("measure", "said"),
    [
        ("top=ip.src:0", "write how many values to show, from 1 to 1000"),
        ("top=ip.src:some", "write how many values to show, e.g. top=ip.src:5"),
        ("histogram=dns.qry.name", "the field is a text, not a number"),
        ("histogram=frame.len:512/64", "write its bounds in rising order"),
        ("histogram=frame.len:1ms", "the values have no unit: write plain numbers"),
        ("histogram=frame.len:big", "not a duration: big"),
    ],
)
def test_what_cannot_be_counted_is_one_line(measure: str, said: str) -> None:
    for name in ("lua", "packets"):
        with pytest.raises(sharkstat.RequestError, match=said):
            sharkstat.run(DATA / "dns.pcapng", f"group,{measure}", engine=name)


def test_no_value_is_taken_for_registers(tmp_path: Path) -> None:
    """A sender may write what looks like a sketch, a mark, or the row of all others."""
    from tests.command import requests

    hosts = [b"registers:" + b"A" * 100, b"=registers:0", b"=x", b"x", b"error:7", b"(other)", b"12:x", b"\xff"]
    path = tmp_path / "hosts.pcap"
    path.write_bytes(requests(*((host, b"/") for host in hosts)))
    lua, packets = engines(path, ["group,distinct=http.host,top=http.host"])
    assert lua[0].rows == packets[0].rows
    [row] = lua[0].rows
    assert row["http_host_distinct"] == len(hosts) == len(counts_of(row, "http_host_top_counts"))
