"""Packets per second of the packets engine, beside stock pyshark, on the same file in the same run.

python benchmarks/packets.py --packets 200000 --stock 3000
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import make_capture
import pyshark
from tabulate import tabulate

import sharkstat
from sharkstat.statistics.registry import Registry

SIX = ("ip.src", "ip.dst", "ip.ttl", "tcp.srcport", "tcp.dstport", "tcp.len")


class Reader(sharkstat.PacketCounter):
    """Reads six fields of every packet, as pyshark's users do (packet.ip.src) or as values."""

    def __init__(self, fields: tuple[str, ...] | None, attributes: bool) -> None:
        self.fields = fields
        self._attributes = attributes
        self.seen = 0

    def packet(self, packet: sharkstat.Packet) -> None:
        self.seen += 1
        if self._attributes:
            read_attributes(packet)
        else:
            for name in self.fields or ():
                packet.value(name)

    def rows(self) -> list[list[int]]:
        return [[self.seen]]


def read_attributes(packet: Any) -> None:
    if "ip" in packet:
        ip = packet.ip
        _ = ip.get("src"), ip.get("dst"), ip.get("ttl")
    if "tcp" in packet:
        tcp = packet.tcp
        _ = tcp.get("srcport"), tcp.get("dstport"), tcp.get("len")


class Reading(sharkstat.Statistic):
    title = "Reads fields"

    def __init__(self, name: str, fields: tuple[str, ...] | None, attributes: bool) -> None:
        self.name = name
        self.engines = (sharkstat.Packets(lambda arguments: Reader(fields, attributes)),)

    def columns(self, arguments: str) -> tuple[sharkstat.Column, ...]:
        return (sharkstat.Column("packets", "integer", "packets"),)


def ours(path: Path, fields: tuple[str, ...] | None, attributes: bool, packets: int | None = None) -> float:
    registry = Registry()
    registry.statistics["reading"] = Reading("reading", fields, attributes)
    started = time.perf_counter()
    (table,) = sharkstat.run(path, "reading", engine="packets", registry=registry, packets=packets)
    return table.total("packets") / (time.perf_counter() - started)


def stock(path: Path, packets: int) -> float:
    started = time.perf_counter()
    with pyshark.FileCapture(str(path), keep_packets=False) as capture:
        for number, packet in enumerate(capture, 1):
            read_attributes(packet)
            if number == packets:
                break
        elapsed = time.perf_counter() - started
    return packets / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=int, default=200_000)
    parser.add_argument("--stock", type=int, default=3000, help="packets for stock pyshark and whole packets")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "made.pcap"
        make_capture.write(path, options.packets)
        few = Path(folder) / "few.pcap"
        make_capture.write(few, options.stock)
        cases: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            for name, rate in (
                ("stock pyshark.FileCapture(path)", lambda: stock(few, options.stock)),
                ("sharkstat, six fields, packet.ip.src", lambda: ours(path, SIX, True)),
                ("sharkstat, six fields, packet.value()", lambda: ours(path, SIX, False)),
                ("sharkstat, two fields, packet.value()", lambda: ours(path, SIX[:2], False)),
                ("sharkstat, no field", lambda: ours(path, (), False)),
                ("sharkstat, whole packets", lambda: ours(few, None, True)),
            ):
                cases.setdefault(name, []).append(rate())
    base = statistics.median(cases["stock pyshark.FileCapture(path)"])
    rows = [(name, f"{statistics.median(r):,.0f}", f"{statistics.median(r) / base:.1f}") for name, r in cases.items()]
    print(tabulate(rows, ["", "packets/s", "times stock"], colalign=["left", "right", "right"], disable_numparse=True))


if __name__ == "__main__":
    main()
