"""mtu,paths: what it is, and how it counts, is in mtu_paths.lua."""

from collections.abc import Callable
from pathlib import Path

import sharkstat


@sharkstat.hookimpl
def register_statistics(register: Callable[[sharkstat.Statistic], None]) -> None:
    register(sharkstat.TapFile(Path(__file__).with_name("mtu_paths.lua")))
