"""my,statistic: packets and bytes per DNS name."""

from collections.abc import Callable

import sharkstat


class MyStatistic(sharkstat.Declared):
    name = "my,statistic"
    title = "My statistic"
    description = "Packets and bytes per DNS name."
    filter = "dns"
    keys = (sharkstat.Key("dns.qry.name", "name"),)
    measures = (sharkstat.Count(), sharkstat.Sum("frame.len"))


@sharkstat.hookimpl
def register_statistics(register: Callable[[sharkstat.Statistic], None]) -> None:
    register(MyStatistic())
