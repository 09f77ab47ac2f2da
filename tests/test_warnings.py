"""What a tap and a counter have to say beside their rows."""

from __future__ import annotations

from pathlib import Path

from tests.command import DATA

import sharkstat
from sharkstat import Registry

TAP = """-- name: odd,lua
-- title: Odd packets
-- column: packets integer sum
-- field: frame.number

local sharkstat = require "sharkstat"

sharkstat.tap(__FILE__, function(run)
  local packets = 0
  run:listen("frame", function()
    packets = packets + 1
    run:warn("odd packet " .. math.min(packets % 2 == 0 and 2 or packets, 23))
  end)
  return function() run:row { packets } end
end)
"""
COUNTER = """
import sharkstat

class Odd(sharkstat.PacketCounter):
    def __init__(self, display_filter):
        self.packets = 0

    def packet(self, packet):
        self.packets += 1
        self.warn(f"odd packet {min(2 if self.packets % 2 == 0 else self.packets, 23)}")

    def rows(self):
        return [(self.packets,)]

class OddPackets(sharkstat.Statistic):
    name = "odd,packets"
    title = "Odd packets"
    engines = (sharkstat.Packets(Odd),)

    def columns(self, arguments):
        return (sharkstat.Column("packets", "integer"),)

@sharkstat.hookimpl
def register_statistics(register):
    register(OddPackets())
"""


def test_warnings_are_told_once_and_not_without_end(tmp_path: Path) -> None:
    for name, text in (("odd.lua", TAP), ("odd.py", COUNTER)):
        (tmp_path / name).write_text(text)
    registry = Registry.default([tmp_path / "odd.lua", tmp_path / "odd.py"])
    for table in sharkstat.run(DATA / "dns.pcapng", ["odd,lua", "odd,packets"], registry=registry):
        packets = int(table["packets"][0])  # type: ignore[arg-type]
        numbers = [1, 2, *range(3, 19, 2)]
        # Behind the ten: all calls for odd packets from the 19th on.
        more = len(range(19, packets + 1, 2))
        said = [f"{table.request}: odd packet {number}" for number in numbers]
        assert table.warnings[:10] == said
        assert table.warnings[10:] == [f"{table.request}: and {more} more warnings"]
