"""What is wrong with captured packets is counted and said: order, cuts, duplicates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import sharkstat
from sharkstat.testing.cutting import Record, Records

DATA = Path(__file__).parent / "data"
ORDERED = DATA / "story-after.pcapng"
FOLLOWING_TIME = ["tcp,health", "tcp,servers", "latency", "http,requests", "dns,names", "tls,servers", "loss"]
INDIFFERENT = ["conv,tcp", "endpoints,ip", "io,stat,1", "talkers", "group,by=ip.src"]


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two one-way captures, one behind the other, as `mergecap -a` puts them."""
    whole = Records.of(ORDERED)
    senders = {packet.data[26:30] for packet in whole.packets if packet.data[12:14] == b"\x08\x00"}
    first = min(senders)
    one = [packet for packet in whole.packets if packet.data[26:30] == first]
    other = [packet for packet in whole.packets if packet.data[26:30] != first]
    path = tmp_path_factory.mktemp("halves") / "halves.pcap"
    path.write_bytes(whole.of_packets([*one, *other]).written())
    return path


def late(packets: tuple[Record, ...]) -> tuple[int, int]:
    """How many packets are earlier than one before them, and by how much at most."""
    newest, count, most = packets[0].time, 0, 0
    for packet in packets:
        if packet.time < newest:
            count, most = count + 1, max(most, newest - packet.time)
        newest = max(newest, packet.time)
    return count, most


def test_packets_out_of_order_are_counted_and_said_where_they_matter(halves: Path) -> None:
    count, most = late(Records.of(halves).packets)
    assert count > 100
    tables = {table.request: table for table in sharkstat.run(halves, [*FOLLOWING_TIME, *INDIFFERENT])}
    for request, table in tables.items():
        assert (table.reading.out_of_order, table.reading.late_by, table.reading.cut) == (count, most, 0)
        said = [w for w in table.warnings if w.startswith(f"{count:,} of {table.reading.packets:,} packets (")]
        assert len(said) == (request in FOLLOWING_TIME), request
        for column in table.columns:
            if column.type == "duration" and request in FOLLOWING_TIME:
                assert all(value is None or int(str(value)) >= 0 for value in table[column.name]), (
                    request,
                    column.name,
                )
    (whole,) = sharkstat.run(ORDERED, "latency")
    assert (whole.reading.out_of_order, whole.reading.late_by, whole.warnings) == (0, 0, [])


def test_cut_packets_are_counted(tmp_path: Path) -> None:
    whole = Records.of(ORDERED)
    path = tmp_path / "cut.pcap"
    path.write_bytes(whole.of_packets([replace(p, data=p.data[:100]) for p in whole.packets]).written())
    (table,) = sharkstat.run(path, "io,stat,0")
    assert table.reading.cut == sum(len(packet.data) > 100 for packet in whole.packets) > 0
    assert table.total("bytes") == sum(packet.length for packet in whole.packets)


def test_dates_in_filters_are_read_in_the_time_zone_that_tshark_reads_them_in(monkeypatch: pytest.MonkeyPatch) -> None:
    capture = DATA / "edges.pcap"  # packets at 12:00:00, 12:00:10, 12:00:20, 12:00:25 and 12:00:50 UTC

    def packets(date: str) -> tuple[int, int]:
        (table,) = sharkstat.run(capture, "talkers,every=1m", display_filter=f'frame.time >= "2024-01-01 {date}"')
        assert table.reading.time_zone == zone
        assert "Start (UTC)" in str(table)
        assert "2024-01-01 12:00:00" in str(table)
        return table.reading.packets, len(table.warnings)

    zone = "Europe/Berlin"
    monkeypatch.setenv("TZ", zone)
    assert packets("13:00:20") == (3, 1)
    assert packets("12:00:20Z") == (3, 0)
    zone = "UTC"
    monkeypatch.setenv("TZ", zone)
    assert packets("12:00:20") == (3, 0)
