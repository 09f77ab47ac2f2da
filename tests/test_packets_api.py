"""The Python API: the same tables as the command, in threads and notebooks; and packets for counters."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyshark.packet.packet import Packet as PysharkPacket
from tests.command import DATA, tables
from tests.measure import CORPUS

import sharkstat
from sharkstat import (
    Column,
    Listen,
    Packet,
    PacketCounter,
    Packets,
    Registry,
    Source,
    Statistic,
    Table,
    Value,
    hookimpl,
)
from sharkstat.engines import tap_info

HTTP = DATA / "http.pcapng"
STORY = DATA / "story-after.pcapng"


class Counter(PacketCounter):
    """Hands each packet to a function, and counts what it gives."""

    def __init__(self, fields: Sequence[str] | None, look: Callable[[Packet], str], listens: Sequence[Listen]) -> None:
        self.fields, self.listens, self._look = fields, listens, look
        self._seen: dict[str, int] = {}

    def packet(self, packet: Packet) -> None:
        found = self._look(packet)
        self._seen[found] = self._seen.get(found, 0) + 1

    def rows(self) -> Iterable[Sequence[Value]]:
        return [[key, count] for key, count in self._seen.items()]


class Looking(Statistic):
    title = "What a function sees"

    def __init__(
        self,
        name: str,
        fields: Sequence[str] | None,
        look: Callable[[Packet], str],
        listens: Sequence[Listen] = (Listen(),),
    ) -> None:
        self.name = name
        self.engines = (Packets(lambda arguments: Counter(fields, look, listens)),)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return Column("seen", "text", role="key"), Column("packets", "integer", "packets")


def registry_of(*statistics: Statistic) -> Registry:
    class Plugin:
        @staticmethod
        @hookimpl
        def register_statistics(register: Callable[[Statistic], None]) -> None:
            for statistic in statistics:
                register(statistic)

    registry = Registry.default()
    registry.add("looking", "this test", Plugin)
    assert registry.warnings == []
    return registry


def look(
    fields: Sequence[str] | None, function: Callable[[Packet], str], path: Path = HTTP, **options: Any
) -> dict[Value, Value]:
    """What the function saw, with the number of packets."""
    registry = registry_of(Looking("looking", fields, function))
    (table,) = sharkstat.run(path, "looking", engine="packets", registry=registry, **options)
    return {row["seen"]: row["packets"] for row in table}


# Running


def test_run_gives_what_the_command_prints() -> None:
    found = sharkstat.run(str(HTTP), ["conv,tcp", "io,stat,0,tcp"], display_filter="tcp")
    printed = tables(HTTP, "-z", "conv,tcp", "-z", "io,stat,0,tcp", "-Y", "tcp")
    assert [t.name for t in found] == ["conv,tcp", "io,stat"]
    assert found[0]["bytes"] == [row["bytes"] for row in printed[0]["rows"]]
    assert found[1]["frames[tcp]"] == [row["frames[tcp]"] for row in printed[1]["rows"]]


def test_several_ways_to_name_the_source() -> None:
    whole = sharkstat.run([HTTP, STORY], "endpoints,ip")
    assert sharkstat.run(Source(files=(str(HTTP), str(STORY))), ["endpoints,ip"]) == whole
    with pytest.raises(sharkstat.RequestError, match="with a Source, give the options in it"):
        sharkstat.run(Source(files=(str(HTTP),)), "conv,ip", packets=3)


def test_threads_give_the_same_tables() -> None:
    asked = ["conv,tcp", "http_req,tree", "io,stat,0.01"]
    alone = {engine: sharkstat.run(HTTP, asked, engine=engine) for engine in ("lua", "packets")}
    with ThreadPoolExecutor(4) as pool:
        running = [(e, pool.submit(sharkstat.run, HTTP, asked, engine=e)) for e in ("lua", "packets") * 4]
    for engine, one in running:
        assert one.result() == alone[engine]
    assert [list(t) for t in alone["lua"]] == [list(t) for t in alone["packets"]]


def test_it_works_where_an_event_loop_runs() -> None:
    async def cell() -> list[Table]:
        return sharkstat.run(HTTP, "conv,tcp", engine="packets") + sharkstat.run(HTTP, "conv,tcp")

    packets, lua = asyncio.run(cell())
    assert list(packets) == list(lua)


def test_progress_is_told_in_bytes() -> None:
    told: list[tuple[int, int]] = []
    sharkstat.run([HTTP, STORY], "io,stat,0", progress=lambda position, size: told.append((position, size)))
    size = HTTP.stat().st_size + STORY.stat().st_size
    assert told[-1] == (size, size)
    assert [position for position, _ in told] == sorted(position for position, _ in told)


def test_nothing_is_left_behind() -> None:
    def left() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    sharkstat.run([HTTP, STORY], "conv,ip", engine="packets")
    before = left()
    for _ in range(3):
        sharkstat.run([HTTP, STORY], "conv,ip", engine="packets")
        with pytest.raises(sharkstat.RequestError):
            sharkstat.run(HTTP, "conv,ip,no such filter")
    assert left() == before


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        yield
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_in_a_notebook_gives_what_was_read() -> None:
    def slowly(packet: Packet) -> str:
        time.sleep(0.01)
        return "seen"

    with interrupted_after(1.5):
        seen = look((), slowly, STORY)
    assert int(str(seen["seen"])) > 0


# Tables


def test_a_table_is_a_sequence_of_rows_and_columns() -> None:
    (table,) = sharkstat.run(HTTP, "conv,tcp", display_filter="tcp")
    assert len(table) == len(list(table)) == len(table["bytes"]) == len(table.rows)
    assert table.total("packets") == sum(row["packets"] for row in table) == table.reading.packets  # type: ignore[misc]
    assert table.column("bytes").unit == "bytes"
    assert [c.name for c in table.keys] == ["address_a", "port_a", "address_b", "port_b", "stream"]
    assert (table.engine, table.complete, table.warnings, table.omitted) == ("lua", True, [], 0)
    assert table.reading.sources == (str(HTTP),)
    with pytest.raises(KeyError, match="conv,tcp has no column 'size'; it has address_a"):
        table["size"]
    first = table.with_rows(table.rows[:1])
    assert (len(first), first.name) == (1, "conv,tcp")
    assert str(table).startswith("TCP conversations (conv,tcp)\nAddress A")
    assert table._repr_html_().count("<tr>") == 1 + len(table)


# Packets


def test_packets_are_pysharks_own() -> None:
    def seen(packet: Packet) -> str:
        assert isinstance(packet, PysharkPacket)
        assert packet.ip.src == packet["ip"].src == packet.value("ip.src") == packet.values("ip.src")[0]
        assert "tcp" in packet and "udp" not in packet and "TCP" in packet
        assert packet.tcp.flags_syn in ("0", "1") and packet.tcp.srcport.isdigit()
        assert int(packet.frame_info.number) == packet.number and packet.length == int(packet.frame_info.len)
        assert packet.sniff_timestamp == f"{packet.time_ns // 10**9}.{packet.time_ns % 10**9:09d}"
        assert {layer.layer_name for layer in packet.layers} == {"ip", "tcp"}
        return str(packet.ip.dst)

    fields = ("ip.src", "ip.dst", "tcp.srcport", "tcp.flags.syn", "udp.port")
    ends = look(fields, seen, display_filter="ip && tcp")
    (table,) = sharkstat.run(HTTP, "endpoints,ip", display_filter="ip && tcp")
    assert ends == {row["address"]: row["rx_packets"] for row in table}


def test_an_undeclared_field_names_the_line_to_add() -> None:
    cases: dict[str, Callable[[Packet], object]] = {
        r'the field ip.dst is not declared: add "ip.dst" to the counter\'s fields': lambda p: p.ip.dst,
        r'the field tcp.port is not declared: add "tcp.port" to the counter\'s fields': lambda p: p.values("tcp.port"),
        r'no field of udp is declared: add one, e.g. "udp", to the counter\'s fields': lambda p: p.udp,
    }
    for said, function in cases.items():
        with pytest.raises(sharkstat.StatisticError, match=rf"looking failed at packet \d+: .*{said}"):
            look(("ip.src",), lambda packet, function=function: str(function(packet)), display_filter="ip")  # type: ignore[misc]


def test_a_layer_that_a_packet_has_not_is_told_apart_from_one_not_declared() -> None:
    with pytest.raises(sharkstat.StatisticError, match="packet 1 has no udp layer: check `'udp' in packet` first"):
        look(("udp.port",), lambda packet: str(packet.udp.port))


def test_whole_packets_are_what_stock_pyshark_gives() -> None:
    import pyshark

    asyncio.set_event_loop(asyncio.new_event_loop())
    stock = pyshark.FileCapture(
        str(DATA / "dns.pcapng"), display_filter="dns", tshark_path=os.environ.get("SHARKSTAT_TSHARK")
    )
    expected = [contents(packet) for packet in stock]
    stock.close()
    mine: list[Any] = []

    def collect(packet: Packet) -> str:
        mine.append(contents(packet))
        return "seen"

    assert look(None, collect, DATA / "dns.pcapng", display_filter="dns") == {"seen": len(expected)}
    assert mine == expected
    assert any("dns" in layers for layers in mine)


def contents(packet: PysharkPacket) -> dict[str, Any]:
    """Every layer with every field; what depends on names and on the reading program is left out."""
    return {
        layer.layer_name: {name: str(layer.get_field(name)) for name in layer.field_names}
        for layer in packet.layers
        if layer.layer_name not in ("frame", "eth")
    }


def test_a_counter_that_raises_ends_alone() -> None:
    def third(packet: Packet) -> str:
        if packet.number == 3:
            raise ValueError("no more")
        return "seen"

    registry = registry_of(Looking("third", (), third), Looking("fine", (), lambda packet: "seen"))
    with pytest.raises(sharkstat.StatisticError) as caught:
        sharkstat.run(HTTP, ["third", "conv,tcp", "fine"], engine="packets", registry=registry)
    assert str(caught.value).startswith("third failed at packet 3: ValueError: no more (test_packets_api.py, line ")
    assert "third" in caught.value.traceback and 'raise ValueError("no more")' in caught.value.traceback
    conversations, fine = caught.value.tables
    assert list(conversations) == list(sharkstat.run(HTTP, "conv,tcp")[0])
    assert fine["packets"] == [fine.reading.packets]


def test_a_counter_whose_rows_do_not_fit_ends_alone() -> None:
    class Short(Looking):
        def columns(self, arguments: str) -> tuple[Column, ...]:
            return (*super().columns(arguments), Column("more", "integer"))

    class Unordered(Looking):
        def order(self, table: Table) -> None:
            raise LookupError("which order?")

    registry = registry_of(Short("short", (), lambda packet: "seen"), Unordered("unordered", (), lambda packet: "seen"))
    with pytest.raises(sharkstat.StatisticError) as caught:
        sharkstat.run(HTTP, ["short", "unordered", "io,stat,0"], engine="packets", registry=registry)
    assert re.search("short failed: .*a row has 2 values for the 3 columns", str(caught.value))
    assert "unordered failed: LookupError: which order?" in str(caught.value)
    assert [t.name for t in caught.value.tables] == ["io,stat"]


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.exists(), reason="the large captures are not there")
def test_addresses_are_digits_whatever_names_tshark_knows() -> None:
    capture = CORPUS / "wireshark" / "dhcp-nanosecond.pcap"
    for engine in ("lua", "packets"):
        (table,) = sharkstat.run(capture, "conv,eth", engine=engine, resolve="m")
        addresses = {str(row[key]) for row in table.rows for key in ("address_a", "address_b")}
        assert addresses == {"00:08:74:ad:f1:9b", "00:0b:82:01:fc:42", "ff:ff:ff:ff:ff:ff"}
    looking = registry_of(Looking("sources", ["eth.src"], lambda packet: packet.eth.src))
    (table,) = sharkstat.run(capture, "sources", registry=looking, resolve="m")
    assert {row["seen"] for row in table.rows} == {"00:08:74:ad:f1:9b", "00:0b:82:01:fc:42"}


def test_a_misspelt_name_of_a_taps_info_is_told_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r'Listen\("tcp"\): its info has no th_sprot; did you mean th_sport\?'):
        sharkstat.Listen("tcp", info=("th_sprot",))
    with pytest.raises(ValueError, match=r'write info=\("th_sport",\)'):
        sharkstat.Listen("tcp", info="th_sport")  # type: ignore[arg-type]
    assert sharkstat.Listen("sip", info=("anything",)).info == ("anything",)


def test_every_name_of_a_taps_info_that_tshark_gives_is_known() -> None:
    """In captures of ours, with this tshark; so the guide's list is whole."""
    told = subprocess.run(
        ["script/tap-info", *(str(DATA / f"{name}.pcapng") for name in ("story-after", "tunnel", "http"))],
        cwd=DATA.parent.parent, capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    found = {tap: names.split() for tap, names in (line.split(":") for line in told.splitlines())}
    assert {"eth", "ip", "tcp", "udp", "http"} <= set(found)
    for tap, names in found.items():
        sharkstat.Listen(tap, info=tuple(names))
        assert set(names) <= set(tap_info.INFO.get(tap, names)), tap
