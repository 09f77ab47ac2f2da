"""dns,domains: the domains of DNS answers, by bytes, and how they were answered (3 is NXDOMAIN)."""

from collections.abc import Callable

import sharkstat


class Domains(sharkstat.Declared):
    name = "dns,domains"
    title = "Domains in DNS answers"
    filter = "dns.flags.response == 1"
    keys = (
        sharkstat.Key(sharkstat.second_level("dns.qry.name"), "domain"),
        sharkstat.Key("dns.flags.rcode", "response_code"),
    )
    measures = (
        sharkstat.Sum("frame.len"),
        sharkstat.Count(name="answers"),
        sharkstat.Distinct("dns.qry.name", "names"),
    )


@sharkstat.hookimpl
def register_statistics(register: Callable[[sharkstat.Statistic], None]) -> None:
    register(Domains())
