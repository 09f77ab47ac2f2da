"""What is wrong with captured packets is counted and said: order, cuts, duplicates."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.traffic.capturefiles import udp_frame

import sharkstat
from sharkstat.running import screening
from sharkstat.running.ordering import in_order
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


@pytest.fixture(scope="module")
def snapped(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """A capture of which so many bytes of each packet were kept."""
    folder = tmp_path_factory.mktemp("snapped")

    def made(name: str, kept: int) -> Path:
        whole = Records.of(DATA / name)
        path = folder / f"{kept}-{name}.pcap"
        packets = [replace(packet, data=packet.data[:kept]) for packet in whole.packets]
        path.write_bytes(whole.of_packets(packets).written())
        return path

    return made


HEADERS = ["conv,tcp", "endpoints,tcp", "conv,udp", "conv,ip", "conv,ipv6", "endpoints,ipv6", "io,stat,1", "talkers"]


@pytest.mark.parametrize("engine", ["lua", "packets"])
def test_headers_that_are_cut_in_their_options_count(snapped: Callable[[str, int], Path], engine: str) -> None:
    """54 bytes hold Ethernet, IPv4 and TCP without its options; over IPv6 they hold no TCP."""
    requests = [r for r in HEADERS if engine == "lua" or r != "talkers"]
    whole = {t.name: t for t in sharkstat.run(DATA / "http.pcapng", requests, engine=engine)}
    cut = {t.name: t for t in sharkstat.run(snapped("http.pcapng", 54), requests, engine=engine)}
    of_tcp = Records.of(DATA / "http.pcapng").packets
    over_ipv6 = sum(packet.data[12:14] == b"\x86\xdd" and packet.data[20] == 6 for packet in of_tcp)
    assert over_ipv6 > 10
    for name, table in cut.items():
        assert table.reading.cut == sum(packet.length > 54 for packet in of_tcp)
        if name.endswith(",tcp"):
            assert not table.complete
            assert table.warnings[0].startswith(f"{over_ipv6} of {len(of_tcp)} packets ")
            address = "address" if name.startswith("endpoints") else "address_a"
            assert table.rows == [row for row in whole[name].rows if "." in str(row[address])]
        else:
            assert table.complete == (name != "talkers"), "the services of what is cut before its ports are unknown"
            assert len(table.warnings) == (name == "talkers")
            for row, wanted in zip(table.rows, whole[name].rows, strict=True):
                assert {**row, "services": None} == {**wanted, "services": None}, name


def test_what_became_of_connections_is_told_without_their_options(snapped: Callable[[str, int], Path]) -> None:
    (whole,) = sharkstat.run(DATA / "connections.pcapng", "tcp,connections")
    for kept in (54, 60, 68):
        path = snapped("connections.pcapng", kept)
        (cut,) = sharkstat.run(path, "tcp,connections")
        assert (cut.complete, cut.rows) == (True, whole.rows)
        assert [row["refused"] for row in cut.rows if row["server_port"] == 48080] in ([], [1])
    pipe = path.with_suffix(".fifo")
    os.mkfifo(pipe)
    threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()), daemon=True).start()
    (piped,) = sharkstat.run(pipe, "tcp,connections")
    assert piped.rows == whole.rows


def test_what_cut_packets_held_is_said_to_be_missing(snapped: Callable[[str, int], Path]) -> None:
    path = snapped("http.pcapng", 80)
    requests = ["tcp,servers", "http,requests", "http_req,tree", "group,by=http.host", "dns,names,ip", "io,stat,0"]
    tables = {table.request: table for table in sharkstat.run(path, requests)}
    packets = Records.of(path).packets
    # All connections carry HTTP; over IPv4, 12 bytes of data are left at least, which tell that it is no DNS.
    missing = sum(packet.length > 80 for packet in packets)
    for request in ("http,requests", "http_req,tree", "group,by=http.host"):
        assert not tables[request].complete
        counted = int(tables[request].warnings[0].split()[0])
        assert missing - 15 < counted <= missing  # but for segments without data
    assert tables["dns,names,ip"].complete
    # Of a segment over IPv6 without data 80 bytes hold all but some options: apps has it in the right row. There are 8
    # of more than 80 bytes (tshark -Y 'frame.len > 80 && tcp.len == 0').
    (apps,) = sharkstat.run(path, "apps")
    assert not apps.complete and int(apps.warnings[0].split()[0]) == missing - 8
    assert (tables["io,stat,0"].complete, tables["io,stat,0"].warnings) == (True, [])
    (theirs,) = sharkstat.run(path, "http_req,tree", engine="tshark")
    assert not theirs.complete
    # tshark's remarks on a segment come after its options.
    (servers,) = sharkstat.run(snapped("retransmissions.pcapng", 54), "tcp,servers")
    assert not servers.complete
    assert servers.total("packets") == 159
    (in_quic,) = sharkstat.run(snapped("quic.pcapng", 90), "io,stat,0,tls")  # its handshake is one of TLS
    assert not in_quic.complete
    headless = sharkstat.run(snapped("http.pcapng", 20), ["conv,ip", "talkers", "io,stat,0"])
    assert [(t.complete, len(t.warnings)) for t in headless] == [(False, 1), (False, 1), (True, 0)]


ABOVE = [
    *(
        "http,requests",
        "http_req,tree",
        "dns,names",
        "tls,servers",
        "quic,servers",
        "dhcp,leases",
        "services",
        "traffic",
    ),
    *("latency", "apps", "talkers", "group,by=dns.qry.name", "group,by=http.host", "io,stat,0,tls,http"),
]


@pytest.mark.parametrize("version", [4, 6])
def test_a_datagram_without_its_ports_may_be_a_tunnel(version: int, tmp_path: Path) -> None:
    """UDP cut within its ports, beside whole packets of other hosts. With the ports in sight it is plain."""

    def packet(host: int, protocol: int, payload: bytes) -> bytes:
        if version == 4:
            head = struct.pack("!BxHIBBH", 0x45, 20 + len(payload), 0, 64, protocol, 0)
            return bytes(12) + b"\x08\0" + head + bytes([10, 0, 0, host, 10, 0, 0, 9]) + payload
        head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64)
        return bytes(12) + b"\x86\xdd" + head + bytes(15) + bytes([host]) + bytes(15) + b"\x09" + payload

    def capture(kept: int) -> Path:
        path = tmp_path / f"{kept}.pcap"
        datagram = packet(2, 17, struct.pack("!HHHH", 40000, 50001, 12, 0) + b"data")
        whole = packet(1, 6, struct.pack("!HHIIBBHHH", 40000, 50000, 1, 0, 0x50, 0x10, 100, 0, 0))
        records = [(whole, len(whole))] * 9 + [(datagram[: len(datagram) - 12 + kept], len(datagram))]
        body = [struct.pack("<IIII", 1700000000, at, len(p), size) + p for at, (p, size) in enumerate(records)]
        path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + b"".join(body))
        return path

    address = f"ip{'v6' * (version == 6)}"
    for kept in (0, 2):
        for engine in ("lua", "packets", "headers"):
            for table in sharkstat.run(capture(kept), [f"conv,{address}", f"endpoints,{address}"], engine=engine):
                assert not table.complete, (engine, kept, table.request)
                assert table.warnings[0].startswith(
                    "1 of 10 packets (10.0 %) are truncated within the network header, or"
                )
                assert table.total("packets") == (10 if table.request.startswith("conv") else 20)
    (table,) = sharkstat.run(capture(8), f"conv,{address}")
    assert (table.complete, table.warnings) == (True, [])


MORE = [pytest.param(name, marks=pytest.mark.long) for name in ("tls", "quic", "tunnel")]


def test_what_is_cut_within_a_tunnel_is_said(snapped: Callable[[str, int], Path]) -> None:
    """66 bytes of GRE, 6in4 and VXLAN: the addresses inside are cut off, those outside are not."""
    asked = [
        "conv,ip",
        "endpoints,ipv6",
        "tcp,connections",
        "talkers",
        "io,stat,0,tcp",
        "group,by=tcp.port",
    ]
    whole, path = sharkstat.run(DATA / "tunnel.pcapng", asked), snapped("tunnel.pcapng", 66)
    for table, cut in zip(whole, sharkstat.run(path, asked), strict=True):
        assert cut.rows != table.rows and not cut.complete and "truncated" in cut.warnings[0], table.request
    for request in asked[-2:]:  # alone, the capture need not be read for headers that are cut
        (alone,) = sharkstat.run(path, request)
        assert not alone.complete
    (without,) = sharkstat.run(path, "io,stat,0")
    assert without.complete
    for kept in (34, 42):  # within the TCP header
        for cut in sharkstat.run(snapped("connections.pcapng", kept), asked[-2:]):
            assert not cut.complete


@pytest.mark.parametrize("name", ["dns", "story-after", *MORE])
def test_what_is_complete_is_as_if_nothing_were_cut(snapped: Callable[[str, int], Path], name: str) -> None:
    """Only where a packet lost something that a statistic reads is its table not complete."""
    whole = {table.request: table for table in sharkstat.run(DATA / f"{name}.pcapng", ABOVE)}
    complete = set()
    for kept in (90, 300, 1000):
        for table in sharkstat.run(snapped(f"{name}.pcapng", kept), ABOVE):
            if table.complete:
                complete.add((table.request, kept))
                assert table.rows == whole[table.request].rows, (table.request, kept)
            else:
                assert any("truncated" in text for text in table.warnings)
    expected = {"dns": ("http,requests", 90), "tls": ("dns,names", 90), "story-after": ("dns,names", 90)}
    assert name not in expected or expected[name] in complete
    assert {("dhcp,leases", 300), ("talkers", 300)} <= complete
    assert (("tls,servers", 1000) in complete) == (name != "quic")


def test_copies_of_other_link_types_are_left_out_or_it_is_said(tmp_path: Path) -> None:
    """PPP, and IEEE 802.11, whose packets are not compared."""
    whole = Records.of(ORDERED)
    packets = [p for p in whole.packets if p.data[12:14] == b"\x08\x00"]
    path = tmp_path / "linked.pcap"
    for link, head in ((9, b"\xff\x03\x00\x21"), (105, b"\x08\x00" + bytes(22) + b"\xaa\xaa\x03\x00\x00\x00\x08\x00")):
        data = bytearray(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, link))
        for packet in (one for p in packets for one in (p, p)):
            size = len(head) + len(packet.data) - 14
            data += struct.pack("<IIII", *divmod(packet.time, 10**9), size, size) + head + packet.data[14:]
        path.write_bytes(data)
        (table,) = sharkstat.run(path, "conv,ip", dedup=True)
        assert table.total("packets") == table.reading.packets == len(packets) * (1 if link == 9 else 2)
        assert any("cannot compare" in text for text in table.warnings) == (link != 9)


@pytest.mark.parametrize("display_filter", ["", "icmp || udp"])
def test_packets_that_tshark_tells_nobody_of_are_said(tmp_path: Path, display_filter: str) -> None:
    """ICMP errors whose quoted packet is cut: in the middle of the capture, and the last packets of it."""
    whole = Records.of(DATA / "icmp-errors.pcapng")
    errors = [p for p in whole.packets if p.data[12:14] == b"\x08\x00" and p.data[23] == 1]
    others = [p for p in whole.packets if p.data[12:14] == b"\x08\x00" and p.data[23] == 17]
    cut = [replace(p, data=p.data[:44]) for p in errors]
    for name, packets in (("middle", [*cut, *others]), ("end", [*others, *cut])):
        path = tmp_path / f"{name}.pcap"
        path.write_bytes(whole.of_packets(packets).written())
        (table,) = sharkstat.run(path, "io,stat,0", display_filter=display_filter)
        assert table.total("frames") == len(others)
        assert not table.complete and any(w.startswith(f"{len(cut)} packets are not") for w in table.warnings)
        assert sharkstat.run(path, "io,stat,0", packets=len(packets))[0].reading.packets == len(others)


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


def rows_of(tables: list[sharkstat.Table]) -> list[object]:
    return [(table.request, table.rows) for table in tables]


EVERYTHING = [*FOLLOWING_TIME, *INDIFFERENT, "tcp,connections", "http_req,tree", "group,by=dns.qry.name,mean=dns.time"]


@pytest.fixture(scope="module")
def truth() -> list[sharkstat.Table]:
    return sharkstat.run(ORDERED, EVERYTHING)


def test_reorder_reads_packets_in_time_order(
    halves: Path, truth: list[sharkstat.Table], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file, a packed one, a pipe, several files, with -2, in every engine."""
    tables = sharkstat.run(halves, EVERYTHING, reorder=True)
    assert rows_of(tables) == rows_of(truth)
    assert (tables[0].reading.out_of_order, tables[0].reading.reorder, tables[0].warnings) == (0, True, [])

    packed = tmp_path / "halves.pcap.gz"
    packed.write_bytes(gzip.compress(halves.read_bytes()))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=lambda: pipe.write_bytes(halves.read_bytes()), daemon=True).start()
    asked = ["tcp,health", "latency", "io,stat,1"]
    wanted = [entry for entry in rows_of(truth) if entry[0] in asked]  # type: ignore[index]
    sources = [packed, pipe, [halves, ORDERED], halves]
    for source in sources:
        found = sharkstat.run(source, asked, reorder=True, two_pass=source is halves, dedup=isinstance(source, list))  # type: ignore[arg-type]
        assert sorted(map(str, rows_of(found))) == sorted(map(str, wanted)), source
    for engine in ("packets", "tshark"):
        here, there = (sharkstat.run(f, "io,stat,1", engine=engine, reorder=f == halves) for f in (halves, ORDERED))
        assert rows_of(here) == rows_of(there)


def test_reorder_is_a_stable_sort_by_time_over_sections(tmp_path: Path) -> None:
    """Sections of a pcapng have interfaces of their own; what is cut short is so afterwards."""
    names = ["waits.pcapng", "story-before.pcapng", "dns.pcapng", "ipv6.pcapng"]
    together = tmp_path / "sections.pcapng"
    together.write_bytes(b"".join((DATA / name).read_bytes() for name in names))
    for path in (together, DATA / "unordered.pcap"):
        with path.open("rb") as file:
            target = tmp_path / f"ordered-{path.name}"
            target.write_bytes(b"".join(in_order(file.fileno())))
        before, after = Records.of(path).packets, Records.of(target).packets
        assert list(before) != list(after)
        assert list(after) == sorted(before, key=lambda packet: packet.time)
    cut = tmp_path / "cut.pcap"
    cut.write_bytes((DATA / "unordered.pcap").read_bytes()[:-5])
    (table,) = sharkstat.run(cut, "io,stat,0", reorder=True)
    assert not table.complete
    assert table.reading.packets == len(Records.of(DATA / "unordered.pcap").packets) - 1


def resent(packet: Record, after: int, identification: int) -> Record:
    """The same IPv4 packet as its host sends it again: with another identification."""
    data = bytearray(packet.data)
    struct.pack_into("!H", data, 18, identification)
    return Record(packet.time + after, packet.length, bytes(data))


def test_copies_are_counted_said_and_left_out(truth: list[sharkstat.Table], tmp_path: Path) -> None:
    whole = Records.of(ORDERED)
    doubled = [p for packet in whole.packets for p in (packet, replace(packet, time=packet.time + 900))]
    path = tmp_path / "doubled.pcap"
    path.write_bytes(whole.of_packets(doubled).written())
    count = len(whole.packets)
    tables = sharkstat.run(path, ["conv,ip", "tcp,health"])
    for table in tables:
        assert (table.reading.packets, table.reading.duplicates, table.reading.forwarded) == (2 * count, count, 0)
        assert table.warnings[0].startswith(f"{count:,} of {2 * count:,} captured packets (50.0 %) are duplicates")
    assert tables[1].total("retransmissions") > 50
    once = sharkstat.run(path, EVERYTHING, dedup=True)
    assert rows_of(once) == rows_of(truth)
    assert (once[0].reading.duplicates, once[0].reading.dedup, once[0].reading.packets) == (count, True, count)
    for engine in ("packets", "tshark"):
        (counted,) = sharkstat.run(path, "io,stat,0", engine=engine, dedup=True)
        assert counted.total("frames") == count
    (beginning,) = sharkstat.run(path, "conv,ip", dedup=True, packets=count // 2)
    assert beginning.rows == sharkstat.run(ORDERED, "conv,ip", packets=count // 2)[0].rows
    (beginning,) = sharkstat.run(path, "conv,ip", packets=40)
    assert (beginning.reading.packets, beginning.reading.duplicates) == (40, 20)


def test_what_was_sent_twice_is_no_copy(tmp_path: Path) -> None:
    """A retransmission has another identification; without one, equal packets count unless copies are the rule."""
    whole = Records.of(ORDERED)
    data = [p for p in whole.packets if p.data[12:14] == b"\x08\x00" and p.data[23] == 6 and p.length > 200][:20]
    bare = udp_frame(("192.0.2.1", 5000), ("192.0.2.2", 8125), b"requests:1|c", identification=0)
    counters = [Record(whole.packets[0].time + n * 100, len(bare), bare) for n in range(50)]
    again = [resent(p, 3_000_000, n + 1) for n, p in enumerate(data)]
    data = data[:5]
    routed = [replace(p, time=p.time + 50_000, data=p.data[:22] + bytes([p.data[22] - 1]) + p.data[23:]) for p in data]
    path = tmp_path / "sent.pcap"

    def looked_at(packets: list[Record], **options: bool) -> sharkstat.Reading:
        path.write_bytes(whole.of_packets(sorted(packets, key=lambda p: p.time)).written())
        return sharkstat.run(path, "io,stat,0", **options)[0].reading  # type: ignore[arg-type]

    sent = [*whole.packets, *counters, *again]
    found = looked_at(sent, dedup=True)
    assert (found.duplicates, found.forwarded, found.packets) == (0, 0, len(sent))
    found = looked_at([*sent, *routed])
    assert (found.duplicates, found.forwarded) == (0, len(routed))
    assert looked_at([*sent, *routed], dedup=True).packets == len(sent)


def test_datagrams_that_nothing_tells_apart_may_be_copies(tmp_path: Path) -> None:
    """UDP without an identification: the same text sent again and again, and different ones, each of them twice."""
    start = Records.of(ORDERED).packets[0].time
    path = tmp_path / "datagrams.pcap"

    def warnings_of(datagrams: list[bytes]) -> list[str]:
        ends = ("192.0.2.1", 5000), ("192.0.2.2", 8125)
        frames = [udp_frame(*ends, text, identification=0) for text in datagrams]
        packets = [Record(start + n * 1000, len(frame), frame) for n, frame in enumerate(frames)]
        path.write_bytes(Records.of(ORDERED).of_packets(packets).written())
        (table,) = sharkstat.run(path, "conv,udp")
        assert (table.reading.duplicates, table.total("packets")) == (expected, len(datagrams))
        return table.warnings

    expected = 0
    assert warnings_of([b"requests:1|c"] * 50) == []
    assert warnings_of([b"a", b"a"]) == []
    assert warnings_of([b"%d" % (n // 4) for n in range(60)]) == []
    expected = 30
    (warning,) = warnings_of([b"%d" % (n // 2) for n in range(60)])
    assert "may be duplicates, or sent twice" in warning and "TCP" not in warning


def test_a_large_capture_is_looked_into_here_and_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "_WHOLE", 20_000)
    monkeypatch.setattr(screening, "_PLACE", 4_000)
    whole = Records.of(ORDERED)
    copies = [replace(packet, time=packet.time + 900) for packet in whole.packets[len(whole.packets) // 2 :]]
    doubled = whole.of_packets(sorted([*whole.packets, *copies], key=lambda packet: packet.time))
    path = tmp_path / "large.pcap"
    path.write_bytes(doubled.written())
    subprocess.run(["editcap", "-F", "pcapng", path, tmp_path / "large.pcapng"], check=True)
    for source in (path, tmp_path / "large.pcapng"):
        (table,) = sharkstat.run(source, "io,stat,0")
        assert table.reading.duplicates == len(copies)
    (table,) = sharkstat.run(ORDERED, "io,stat,0")
    assert table.reading.duplicates is None
    assert table.warnings == []
