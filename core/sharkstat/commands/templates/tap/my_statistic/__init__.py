"""my,statistic: declared and counted in my_statistic.lua."""

from collections.abc import Callable
from pathlib import Path

import sharkstat


@sharkstat.hookimpl
def register_statistics(register: Callable[[sharkstat.Statistic], None]) -> None:
    register(sharkstat.TapFile(Path(__file__).with_name("my_statistic.lua")))
