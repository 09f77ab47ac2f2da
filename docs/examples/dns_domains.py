"""dns,domains: the domains of DNS answers by bytes, and how many of their answers say that there is no such name."""

from collections.abc import Callable

import sharkstat


class Domains(sharkstat.Declared):
    name = "dns,domains"
    title = "Domains in DNS answers"
    filter = "dns.flags.response == 1"
    keys = (sharkstat.Key(sharkstat.second_level("dns.qry.name"), "domain"),)
    measures = (
        sharkstat.Sum("frame.len"),
        sharkstat.Count(name="answers"),
        sharkstat.Count(name="nxdomain", where="dns.flags.rcode == 3"),
        sharkstat.Ratio("nxdomain", "answers", unit="percent"),
    )


@sharkstat.hookimpl
def register_statistics(register: Callable[[sharkstat.Statistic], None]) -> None:
    register(Domains())
