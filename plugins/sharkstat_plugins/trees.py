"""tshark's statistics trees (NAME,tree), all but those of HTTP, which have taps of their own."""

from __future__ import annotations

from sharkstat import Column, Statistic, TsharkText, hookimpl
from sharkstat_plugins.tree import TEXT_COLUMNS, TreeStatistic

TITLES = {
    "ancp": "ANCP messages",
    "bacapp_instanceid": "BACnet messages by instance",
    "bacapp_ip": "BACnet messages by address",
    "bacapp_objectid": "BACnet messages by object type",
    "bacapp_service": "BACnet messages by service",
    "collectd": "collectd values by type, plugin and host",
    "dests": "IPv4 destinations and ports",
    "dns": "DNS messages by type, class and code",
    "dns_qr": "DNS queries and responses",
    "e2ap": "E2AP messages",
    "f1ap": "F1AP messages",
    "f5_tmm_dist": "F5 traffic by TMM",
    "f5_virt_dist": "F5 traffic by virtual server",
    "hart_ip": "HART-IP messages",
    "hpfeeds": "HPFEEDS messages and channels",
    "http2": "HTTP/2 frames by type",
    "http_seq": "HTTP request sequences",
    "ilnp_ilvs": "ILNP identifiers and locators",
    "ilnp_l64s": "ILNP locators",
    "ilnp_nids": "ILNP node identifiers",
    "ilnp_ptype": "ILNP next protocols",
    "ilnp_srcdst_ilv": "ILNP sources and destinations",
    "ilnp_srcdst_l64": "ILNP source and destination locators",
    "ilnp_srcdst_nid": "ILNP source and destination nodes",
    "ip_hosts": "IPv4 addresses",
    "ip_srcdst": "IPv4 sources and destinations",
    "ip_ttl": "IPv4 time to live",
    "ipv6_dests": "IPv6 destinations and ports",
    "ipv6_hop": "IPv6 hop limits",
    "ipv6_hosts": "IPv6 addresses",
    "ipv6_ptype": "IPv6 next protocols",
    "ipv6_srcdst": "IPv6 sources and destinations",
    "isup_msg": "ISUP messages",
    "lbmr_queue_ads_queue": "LBM queue advertisements by queue",
    "lbmr_queue_ads_source": "LBM queue advertisements by source",
    "lbmr_queue_queries_queue": "LBM queue queries by queue",
    "lbmr_queue_queries_receiver": "LBM queue queries by receiver",
    "lbmr_topic_ads_source": "LBM topic advertisements by source",
    "lbmr_topic_ads_topic": "LBM topic advertisements by topic",
    "lbmr_topic_ads_transport": "LBM topic advertisements by transport",
    "lbmr_topic_queries_pattern": "LBM wildcard queries by pattern",
    "lbmr_topic_queries_pattern_receiver": "LBM wildcard queries by receiver",
    "lbmr_topic_queries_receiver": "LBM topic queries by receiver",
    "lbmr_topic_queries_topic": "LBM topic queries by topic",
    "ltp": "LTP segments",
    "ngap": "NGAP messages",
    "osmux": "OSmux packets",
    "plen": "Packet lengths",
    "ptype": "IPv4 protocols",
    "rtsp": "RTSP messages",
    "sametime": "Sametime messages",
    "smpp_commands": "SMPP operations",
    "someip_messages": "SOME/IP messages",
    "someipsd_entries": "SOME/IP-SD entries",
    "ucp_messages": "UCP messages",
}

# The fields whose text is a node's name. One that begins with a blank looks, in tshark's text, as if it hung below the
# node before it.
_LBMR = (
    "tqr.pattern",
    "tqr.name",
    "tir.name",
    "topt.ume_qinfo.queue",
    "tmb.tmr.name",
    "qqr.name",
    "qir.qname",
    "qir.tname",
)
NAMED = {
    "collectd": ("collectd.data.host", "collectd.data.plugin", "collectd.data.type"),
    "dns": ("dns.qry.name",),  # where the preference dns.qname_stats is set
    "f5_virt_dist": ("f5ethtrailer.vip",),
    "hpfeeds": ("hpfeeds.channel",),
    "http_seq": ("http.request.uri", "http.referer", "http.host"),
    **{topic: tuple(f"lbmr.{name}" for name in _LBMR) for topic in TITLES if topic.startswith("lbmr_")},
}


class NativeTree(TreeStatistic):
    """A tree that only tshark itself counts."""

    def __init__(self, name: str) -> None:
        topic = name.removesuffix(",tree")
        self.name = name
        self.title = TITLES.get(topic, f"{topic} tree")
        self.usage = f"{name}[,FILTER]"
        self.description = (
            f"tshark's statistics tree {name}: count, share of the parent node, rate and burst of each node."
        )
        self.known = topic in TITLES
        self.engines = (
            TsharkText(read=self.read_text, doubts=[f'{field} matches "^[ ]"' for field in NAMED.get(topic, ())]),
        )

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return TEXT_COLUMNS


def take(name: str) -> Statistic | None:
    return NativeTree(name) if name.endswith(",tree") else None


@hookimpl
def register_families(register):  # type: ignore[no-untyped-def]
    register("stats_tree", take)
