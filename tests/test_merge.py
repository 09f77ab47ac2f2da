"""A merged table is the table of the whole, or it is refused: on made-up packets, and on real captures cut up."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import oracle
from tests.measure import DATA, TREES

import sharkstat
from sharkstat import MergeError, Packets, Reading, Registry, Row, Table

SECOND = 10**9
REGISTRY = Registry.default()


class Sent(NamedTuple):
    """A made-up packet, and the capture that has it."""

    time: int
    source: str
    destination: str
    length: int
    capture: int


sent = st.builds(
    Sent,
    st.integers(0, 60 * SECOND),
    st.sampled_from("abcd"),
    st.sampled_from("abcd"),
    st.integers(60, 1514),
    st.integers(0, 2),
)
settings.register_profile("merge", deadline=None, max_examples=50)
settings.load_profile("merge")
traffic = st.lists(sent, min_size=1, max_size=40, unique_by=lambda packet: packet.time)

# What tshark's tap tells of such a packet, for each statistic.
TELLS: dict[str, Any] = {
    "conv,ip": lambda p: (p.source, p.destination),
    "endpoints,ip": lambda p: (p.source, p.destination),
    "conv,tcp": lambda p: (p.source, p.destination, "1", "2", "0"),
    "endpoints,udp": lambda p: (p.source, p.destination, "1", "2", "0"),
    "http_req,tree": lambda p: (None, "GET", p.destination, f"/{p.length % 3}", p.source, p.destination),
    "io,stat,10": lambda p: (),
}


def table_of(request: str, packets: Sequence[Sent], start: int | None = None) -> Table:
    """The table of a capture with these packets, made as the packets engine makes it."""
    statistic, arguments = REGISTRY.find(request)
    columns = statistic.columns(arguments)
    engine = statistic.engine("packets")
    assert isinstance(engine, Packets)
    counter = engine.counter(arguments)
    start = packets[0].time if start is None and packets else start
    for packet in packets:
        counter.packet(
            SimpleNamespace(  # type: ignore[arg-type]
                length=packet.length,
                time_ns=packet.time,
                relative_ns=packet.time - (start or 0),
                hits=[[TELLS[request](packet)]],
            )
        )
    counted = [c.name for c in columns if c.role != "derived"]
    empty: Row = dict.fromkeys((c.name for c in columns), None)
    rows = [{**empty, **dict(zip(counted, values, strict=True))} for values in counter.rows()]
    reading = Reading(packets=len(packets), bytes=sum(p.length for p in packets), start=start)
    table = Table(statistic.name, statistic.title, request, columns, rows, reading=reading, statistic=statistic)
    statistic.derive(table)
    statistic.order(table)
    return table


def unordered(table: Table) -> list[str]:
    return sorted(repr(sorted(row.items())) for row in table.rows)


def known(table: Table) -> list[str]:
    """The rows without what a merge cannot know."""
    lost = {c.name for c in table.columns if c.merge == "none" or c.name in ("burst_rate", "stream")}
    return unordered(table.with_rows([{k: v for k, v in row.items() if k not in lost} for row in table.rows]))


def parts_of(request: str, packets: Sequence[Sent]) -> list[Table]:
    shares = [[p for p in packets if p.capture == number] for number in range(3)]
    return [table_of(request, share) for share in shares if share]


@pytest.mark.parametrize("request_", ["conv,ip", "endpoints,ip", "endpoints,udp", "http_req,tree"])
@given(traffic, st.randoms())
def test_any_parts_in_any_order_make_the_whole(request_: str, packets: list[Sent], chance: random.Random) -> None:
    parts = parts_of(request_, packets)
    whole = table_of(request_, packets)
    chance.shuffle(parts)
    merged = Table.merge(parts)
    inside_out = Table.merge([parts[0], Table.merge(parts[1:])]) if len(parts) > 1 else merged
    assert unordered(merged) == unordered(inside_out)
    # In a capture first and last are by place, as in tshark; between captures by time.
    if request_.startswith("endpoints") or packets == sorted(packets):
        assert known(merged) == known(whole)
    assert (merged.reading.packets, merged.reading.bytes) == (whole.reading.packets, whole.reading.bytes)


@given(traffic)
def test_parts_in_time_order_make_the_whole_whoever_spoke_first(packets: list[Sent]) -> None:
    packets.sort()
    for request in ("conv,ip", "http_req,tree"):
        assert known(Table.merge(parts_of(request, packets))) == known(table_of(request, packets))


@given(traffic, st.lists(st.integers(0, 5), min_size=3, max_size=3))
def test_intervals_merge_where_captures_start_whole_intervals_apart(packets: list[Sent], starts: list[int]) -> None:
    starts = [10 * SECOND * start for start in starts]
    shares = [
        [p._replace(time=start + p.time) for p in packets if p.capture == number] for number, start in enumerate(starts)
    ]
    parts = [table_of("io,stat,10", share, start) for share, start in zip(shares, starts, strict=True) if share]
    begun = min(part.reading.start for part in parts)  # type: ignore[type-var]
    whole = table_of("io,stat,10", [p for share in shares for p in share], begun)
    for order in (parts, parts[::-1]):
        assert Table.merge(order).rows == whole.rows


@given(st.integers(1, 10 * SECOND - 1))
def test_intervals_that_overlap_are_refused(offset: int) -> None:
    one = table_of("io,stat,10", [Sent(0, "a", "b", 60, 0)])
    other = table_of("io,stat,10", [Sent(30 * SECOND + offset, "a", "b", 60, 1)])
    with pytest.raises(MergeError, match="intervals are not aligned"):
        Table.merge([one, other])


@given(traffic)
def test_a_connection_in_two_captures_is_refused_and_in_one_it_is_not(packets: list[Sent]) -> None:
    pairs = [[p for p in packets if {p.source, p.destination} == set(pair)] for pair in ("ab", "cd")]
    parts = [table_of("conv,tcp", share) for share in pairs if share]
    if not parts:
        return
    merged = Table.merge(parts)
    assert merged.total("packets") == sum(map(len, pairs))
    with pytest.raises(MergeError, match="two of the captures"):
        Table.merge([parts[0], parts[0]])


def test_different_requests_are_refused() -> None:
    one, other = sharkstat.run(DATA / "http.pcapng", ["conv,ip", "endpoints,ip"])
    with pytest.raises(MergeError):
        Table.merge([one, other])
    with pytest.raises(MergeError):
        Table.merge([])
    with pytest.raises(MergeError):
        Table.merge([one, replace(one, statistic=None)][::-1])


# Real captures, cut up ---------------------------------------------------------------------------------


def tables_of(captures: Sequence[Path], requests: Sequence[str]) -> list[list[Table]]:
    return [list(tables) for tables in zip(*(sharkstat.run(c, requests) for c in captures), strict=True)]


@pytest.mark.parametrize("name", ["http.pcapng", "story-after.pcapng", "tunnel.pcapng", "ipv6.pcapng"])
def test_a_capture_cut_by_time_merges_but_for_what_lies_across_the_cut(name: str, tmp_path: Path) -> None:
    capture = DATA / name
    [first, *_] = [row[0][0] for row in oracle.fields(capture, ["frame.time_epoch"])]
    cut = f"{float(first) + 0.13:.6f}"
    parts = [tmp_path / "before.pcapng", tmp_path / "after.pcapng"]
    oracle.output("editcap", "-B", cut, str(capture), str(parts[0]))
    oracle.output("editcap", "-A", cut, str(capture), str(parts[1]))
    requests = ["conv,eth", "conv,ip", "conv,ipv6", "endpoints,eth", "endpoints,ip", "endpoints,ipv6"]
    whole = sharkstat.run(capture, requests)
    for table, pair in zip(whole, tables_of(parts, requests), strict=True):
        assert sum(part.reading.packets for part in pair) == table.reading.packets
        for order in (pair, pair[::-1]):
            assert unordered(Table.merge(order)) == unordered(table)


@pytest.mark.parametrize(
    "name", ["http.pcapng", "story-after.pcapng", pytest.param("story-before.pcapng", marks=pytest.mark.long)]
)
def test_a_capture_cut_by_host_pair_merges_to_the_whole(name: str, tmp_path: Path) -> None:
    capture = DATA / name
    requests = ["conv,ip", "conv,tcp", "conv,udp", "endpoints,tcp", "endpoints,udp", "conv,eth", *TREES]
    whole = sharkstat.run(capture, requests)
    busiest = whole[0].rows[0]
    pair = f"ip.addr == {busiest['address_a']} && ip.addr == {busiest['address_b']}"
    parts = [tmp_path / "pair.pcapng", tmp_path / "rest.pcapng"]
    for part, text in zip(parts, (pair, f"!({pair})"), strict=True):
        oracle.output("tshark", "-n", "-r", str(capture), "-Y", text, "-w", str(part))
    for table, both in zip(whole, tables_of(parts, requests), strict=True):
        assert known(Table.merge(both)) == known(table)


def test_intervals_of_a_capture_cut_at_whole_intervals_merge(tmp_path: Path) -> None:
    """edges.pcap has packets at 0, 10, 20, 25 and 50 s."""
    capture = DATA / "edges.pcap"
    parts = [tmp_path / "before.pcap", tmp_path / "after.pcap"]
    oracle.output("editcap", "-r", str(capture), str(parts[0]), "1-2")
    oracle.output("editcap", "-r", str(capture), str(parts[1]), "3-5")
    requests = ["io,stat,10", "io,stat,5,udp,MIN(frame.len),AVG(ip.ttl)", "io,stat,20"]
    for table, both in zip(sharkstat.run(capture, requests), tables_of(parts, requests), strict=True):
        assert Table.merge(both).rows == table.rows
    with pytest.raises(MergeError, match="intervals are not aligned"):
        Table.merge([part for [part] in (sharkstat.run(path, "io,stat,7") for path in parts)])


def test_what_is_cut_in_two_is_counted_right_or_said_or_refused(tmp_path: Path) -> None:
    """tls.pcapng from its 21st packet on: connections and handshakes that began before."""
    parts = [tmp_path / "before.pcapng", tmp_path / "after.pcapng"]
    oracle.output("editcap", "-r", str(DATA / "tls.pcapng"), str(parts[0]), "1-20")
    oracle.output("editcap", str(DATA / "tls.pcapng"), str(parts[1]), "1-20")
    exact = ["conv,ip", "endpoints,tcp", "talkers", "links", "group,by=tcp.port:all,sum=frame.len"]
    requests = [*exact, "services", "tcp,servers", "tcp,connections", "tls,servers", "apps", "io,phs"]
    said = {}
    for table, both in zip(sharkstat.run(DATA / "tls.pcapng", requests), tables_of(parts, requests), strict=True):
        merged = Table.merge(both[::-1])
        said[table.request] = any("two of the captures" in text for text in merged.warnings)
        assert said[table.request] or known(merged) == known(table)
    assert {request for request, is_said in said.items() if not is_said} == set(exact)


def test_a_connection_cut_in_two_is_refused(tmp_path: Path) -> None:
    parts = [tmp_path / "before.pcapng", tmp_path / "after.pcapng"]
    oracle.output("editcap", "-r", str(DATA / "retransmissions.pcapng"), str(parts[0]), "1-10")
    oracle.output("editcap", str(DATA / "retransmissions.pcapng"), str(parts[1]), "1-10")
    with pytest.raises(MergeError, match="two of the captures"):
        Table.merge(tables_of(parts, ["conv,tcp"])[0])
