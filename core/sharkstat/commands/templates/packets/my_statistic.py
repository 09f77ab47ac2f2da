"""my,statistic: how often each DNS name was queried and answered."""

from collections.abc import Callable, Iterable

import sharkstat


class QueryCounter(sharkstat.PacketCounter):
    fields = ("dns.qry.name", "dns.flags.response")

    def __init__(self, display_filter: str) -> None:
        self.listens = (sharkstat.Listen("frame", sharkstat.both_filters("dns", display_filter)),)
        self.counts: dict[str, list[int]] = {}

    def packet(self, packet: sharkstat.Packet) -> None:
        name = packet.value("dns.qry.name")
        if name is None:  # a truncated or malicious packet may lack any field
            return
        counts = self.counts.setdefault(name, [0, 0])
        counts[packet.value("dns.flags.response") == "1"] += 1

    def rows(self) -> Iterable[tuple[str, int, int]]:
        for name, (queries, answers) in self.counts.items():
            yield name, queries, answers


class MyStatistic(sharkstat.Statistic):
    name = "my,statistic"
    title = "My statistic"
    usage = "my,statistic[,FILTER]"
    description = "How often each DNS name was queried and answered."
    engines = (sharkstat.Packets(QueryCounter),)

    def columns(self, arguments: str) -> tuple[sharkstat.Column, ...]:
        return (
            sharkstat.Column("name", "text", role="key"),
            sharkstat.Column("queries", "integer", "packets"),
            sharkstat.Column("answers", "integer", "packets"),
            sharkstat.Column("answered", "number", "percent", role="derived", ratio=("answers", "queries")),
        )

    def order(self, table: sharkstat.Table) -> None:
        sharkstat.sort_rows(table, lambda row: row["queries"], descending=True)


@sharkstat.hookimpl
def register_statistics(register: Callable[[sharkstat.Statistic], None]) -> None:
    register(MyStatistic())
