"""dns,seen, counted inside tshark by dns_seen.lua."""

from collections.abc import Callable
from pathlib import Path

import sharkstat


class DnsNames(sharkstat.Statistic):
    name = "dns,seen"
    title = "Names in DNS packets"
    usage = "dns,seen[,FILTER]"
    description = "How often each name was asked for or answered."
    engines = (sharkstat.Tap(Path(__file__).with_name("dns_seen.lua")),)

    def columns(self, arguments: str) -> tuple[sharkstat.Column, ...]:
        return (
            sharkstat.Column("name", "text", role="key"),
            sharkstat.Column("count", "integer"),
        )

    def order(self, table: sharkstat.Table) -> None:
        sharkstat.sort_rows(table, lambda row: row["count"], descending=True)


@sharkstat.hookimpl
def register_statistics(register: Callable[[sharkstat.Statistic], None]) -> None:
    register(DnsNames())
