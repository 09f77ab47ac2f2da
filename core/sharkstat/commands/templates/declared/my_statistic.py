"""my,statistic: the names in DNS packets, by packets and bytes."""

from collections.abc import Callable

import sharkstat


class MyStatistic(sharkstat.Declared):
    name = "my,statistic"
    title = "My statistic"
    description = "How many packets, and bytes, are about each name in DNS."
    filter = "dns"
    keys = (sharkstat.Key("dns.qry.name", "name"),)
    measures = (sharkstat.Count(), sharkstat.Sum("frame.len"))


@sharkstat.hookimpl
def register_statistics(register: Callable[[sharkstat.Statistic], None]) -> None:
    register(MyStatistic())
