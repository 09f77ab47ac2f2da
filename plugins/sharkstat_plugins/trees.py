"""tshark's statistics trees (NAME,tree), all but those of HTTP, which have taps of their own."""

from __future__ import annotations

from sharkstat import Column, Statistic, hookimpl
from sharkstat_plugins.tree import TEXT_COLUMNS, TreeStatistic

TITLES = {
    "dests": "IPv4 destinations and ports",
    "dns": "DNS messages by type, class and code",
    "dns_qr": "DNS queries and responses",
    "http2": "HTTP/2 frames by type",
    "http_seq": "HTTP request sequences",
    "ip_hosts": "IPv4 addresses",
    "ip_srcdst": "IPv4 sources and destinations",
    "ip_ttl": "IPv4 time to live",
    "ipv6_dests": "IPv6 destinations and ports",
    "ipv6_hop": "IPv6 hop limits",
    "ipv6_hosts": "IPv6 addresses",
    "ipv6_ptype": "IPv6 next protocols",
    "ipv6_srcdst": "IPv6 sources and destinations",
    "plen": "Packet lengths",
    "ptype": "IPv4 protocols",
}


class NativeTree(TreeStatistic):
    """A tree that only tshark itself counts."""

    def __init__(self, name: str) -> None:
        topic = name.removesuffix(",tree")
        self.name = name
        self.title = TITLES.get(topic, f"{topic} tree")
        self.usage = f"{name}[,FILTER]"
        self.description = (
            f"tshark's tree {name}: how often each node was counted, its share of its parent, rate and burst."
        )

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return TEXT_COLUMNS


def take(name: str) -> Statistic | None:
    return NativeTree(name) if name.endswith(",tree") else None


@hookimpl
def register_families(register):  # type: ignore[no-untyped-def]
    register("stats_tree", take)
