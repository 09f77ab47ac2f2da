"""Whole packets wait in bounded numbers, whoever is slow: tshark makes them faster than Python reads them."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from tests.command import frame, pcap

import sharkstat
from sharkstat.tshark.output import Output

WANTED = """
import time
import sharkstat

class Slow(sharkstat.PacketCounter):
    fields = None
    listens = (sharkstat.Listen("tcp", "frame.number >= 900 && frame.number < 1000"),)

    def __init__(self, arguments=""):
        self.numbers = []

    def packet(self, packet):
        time.sleep(0.005)
        self.numbers.append(int(packet.number))

    def rows(self):
        return [(number,) for number in self.numbers]

class Wanted(sharkstat.Statistic):
    name = "wanted"
    title = "Wanted"
    description = "Some packets."
    engines = (sharkstat.Packets(Slow),)

    def columns(self, arguments):
        return (sharkstat.Column("number", "integer", role="key"),)

@sharkstat.hookimpl
def register_statistics(register):
    register(Wanted())
"""


def test_a_slow_counter_gets_its_packets_and_nothing_hangs(tmp_path: Path) -> None:
    """Many packets that nobody wants are before those that are wanted, and behind them."""
    capture, plugin = tmp_path / "many.pcap", tmp_path / "wanted.py"
    capture.write_bytes(pcap([frame(b"x", sequence=1 + number) for number in range(1500)]))
    plugin.write_text(WANTED)
    registry = sharkstat.Registry.default([plugin])
    (table,) = sharkstat.run(capture, "wanted", registry=registry)
    assert table["number"] == list(range(900, 1000))


def test_packets_that_nobody_takes_make_tshark_wait() -> None:
    output, written = Output(), []
    read_end, write_end = os.pipe()

    def write() -> None:
        for number in range(1, 501):
            os.write(write_end, b"<packet>\n%d %s\n</packet>\n" % (number, b"x" * 2000))
            written.append(number)
        os.close(write_end)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    with os.fdopen(read_end, "rb") as stream:
        output.read(stream, packets=True)
        time.sleep(0.5)
        assert len(written) < 150  # 64 that wait, and what a pipe and a buffer hold
        for number in (3, 250, 500):
            found = output.packet(number)
            assert found is not None and found.startswith(b"<packet>\n%d " % number)
        assert output.packet(501) is None
        output.finish()
    writer.join(5)
    assert len(written) == 500
