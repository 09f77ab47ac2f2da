"""dns,slowest: the response times of DNS servers, the slowest first."""

from collections.abc import Callable

import sharkstat


class SlowestServers(sharkstat.Declared):
    name = "dns,slowest"
    title = "Response times of DNS servers"
    filter = "dns.time"
    keys = (sharkstat.Key("ip.src/ipv6.src", "server"),)
    measures = (sharkstat.Percentile("dns.time", 95, name="p95_time"), sharkstat.Count(name="answers"))


@sharkstat.hookimpl
def register_statistics(register: Callable[[sharkstat.Statistic], None]) -> None:
    register(SlowestServers())
