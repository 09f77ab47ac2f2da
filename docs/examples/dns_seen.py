"""dns,seen: which names DNS packets are about."""

from collections import Counter
from collections.abc import Callable, Iterable

import sharkstat


class NameCounter(sharkstat.PacketCounter):
    fields = ("dns.qry.name",)

    def __init__(self, display_filter: str) -> None:
        self.listens = (sharkstat.Listen("frame", display_filter or "dns"),)
        self.names: Counter[str] = Counter()

    def packet(self, packet: sharkstat.Packet) -> None:
        self.names.update(packet.values("dns.qry.name"))

    def rows(self) -> Iterable[tuple[str, int]]:
        return self.names.items()


class DnsNames(sharkstat.Statistic):
    name = "dns,seen"
    title = "Names in DNS packets"
    usage = "dns,seen[,FILTER]"
    description = "How often each name was asked for or answered."
    engines = (sharkstat.Packets(NameCounter),)

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
