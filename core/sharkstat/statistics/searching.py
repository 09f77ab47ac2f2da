"""Finds statistics by the words that people use: in names, titles, columns and descriptions, and by synonym."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from sharkstat.errors import RequestError
from sharkstat.statistics.statistic import Statistic

# Protocols that have no statistic of their own: the services name them, with their servers.
_UNCOUNTED = (
    "ssh",
    "ftp",
    "smtp",
    "imap",
    "ntp",
    "nfs",
    "kerberos",
    "mqtt",
    "modbus",
    "mysql",
    "redis",
    "amqp",
    "kafka",
)
# Words that are in no name or title, or are best answered by other statistics than those they are in.
SYNONYMS = {
    "http": ("http,requests", "http_req,tree", "services", "http,tree"),
    "web": ("http,requests", "http_req,tree", "tls,servers"),
    "websocket": ("http,requests", "services"),
    "agents": ("group",),
    "codes": ("http,requests", "http,stat", "sip,stat"),
    "status": ("http,requests", "http,stat", "sip,stat"),
    "4xx": ("http,requests", "http,stat"),
    "5xx": ("http,requests", "http,stat"),
    "404": ("http,requests", "http,stat"),
    "tls": ("tls,servers", "quic,servers", "services"),
    "handshake": ("tls,servers", "quic,servers", "tcp,connections"),
    "ja3": ("group",),
    "fingerprint": ("group",),
    "quic": ("quic,servers", "services"),
    "http3": ("quic,servers", "services"),
    "dns": ("dns,names", "dns,tree"),
    "servfail": ("dns,names",),
    "hostnames": ("dns,names", "dhcp,leases", "hosts"),
    "timeouts": ("http,requests", "dns,names", "tcp,connections"),
    "unanswered": ("dns,names", "http,requests", "tcp,connections"),
    "heatmap": ("latency", "timeline", "group"),
    "cdf": ("latency", "group", "plen,tree"),
    "apdex": ("latency", "http,requests"),
    "burst": ("timeline", "io,stat"),
    "microburst": ("timeline", "io,stat"),
    "usage": ("timeline", "services", "talkers"),
    "utilization": ("timeline", "io,stat", "talkers"),
    "bps": ("timeline", "io,stat"),
    "pps": ("timeline", "io,stat"),
    "length": ("plen,tree", "group"),
    "size": ("plen,tree", "group"),
    "mtu": ("plen,tree", "icmp,errors"),
    "rst": ("tcp,connections", "tcp,health"),
    "syn": ("tcp,connections", "tcp,health"),
    "tcp": ("tcp,health", "tcp,servers", "tcp,connections", "conv,tcp"),
    "keepalive": ("tcp,health", "expert"),
    "checksum": ("expert",),
    "reassembly": ("expert",),
    "malformed": ("expert",),
    "scan": ("tcp,connections", "conv,tcp", "icmp,errors"),
    "clients": ("talkers", "services"),
    "servers": ("services", "tcp,servers", "tls,servers"),
    "netflow": ("conv,tcp", "conv,udp", "conv,ip"),
    "multicast": ("endpoints,ip", "endpoints,eth"),
    "broadcast": ("endpoints,eth", "arp,hosts"),
    "vendor": ("endpoints,eth", "arp,hosts"),
    "oui": ("endpoints,eth", "arp,hosts"),
    "geoip": ("group", "endpoints,ip"),
    "country": ("group", "endpoints,ip"),
    "asn": ("group", "endpoints,ip"),
    "wifi": ("conv,wlan", "endpoints,wlan", "wlan,stat"),
    "vxlan": ("services", "io,phs"),
    **dict.fromkeys(_UNCOUNTED, ("services", "io,phs", "group")),
    "bandwidth": ("timeline", "io,stat", "talkers", "services"),
    "throughput": ("timeline", "io,stat", "talkers", "services"),
    "rate": ("timeline", "io,stat"),
    "volume": ("services", "talkers", "traffic"),
    "top": ("talkers", "services", "conv,ip"),
    "talkers": ("talkers", "conv,ip", "endpoints,ip"),
    "hosts": ("talkers", "endpoints,ip", "arp,hosts", "hosts"),
    "flows": ("conv,tcp", "conv,udp", "conv,ip"),
    "sessions": ("conv,tcp", "tcp,connections"),
    "connections": ("tcp,connections", "tcp,health", "conv,tcp"),
    "protocols": ("services", "io,phs", "apps"),
    "applications": ("services", "apps"),
    "ports": ("services", "endpoints,tcp", "apps"),
    "sni": ("tls,servers", "quic,servers"),
    "ssl": ("tls,servers",),
    "https": ("tls,servers", "services"),
    "certificates": ("tls,servers",),
    "ciphers": ("tls,servers",),
    "alpn": ("tls,servers", "quic,servers"),
    "urls": ("http,requests", "http_req,tree"),
    "uris": ("http,requests", "http_req,tree"),
    "grpc": ("http,requests",),
    "domains": ("dns,names", "tls,servers", "services"),
    "nxdomain": ("dns,names",),
    "retransmissions": ("tcp,health", "tcp,servers"),
    "loss": ("loss", "tcp,health", "tcp,servers"),
    "resets": ("tcp,connections", "tcp,health"),
    "rtt": ("tcp,servers", "tcp,health", "latency"),
    "latency": ("latency", "tcp,servers", "http,requests", "dns,names"),
    "delay": ("latency", "tcp,servers"),
    "response": ("latency", "http,requests", "dns,names"),
    "slow": ("latency", "tcp,servers"),
    "jitter": ("loss", "rtp,streams"),
    "voip": ("loss", "rtp,streams", "sip,stat"),
    "errors": ("expert", "icmp,errors", "http,requests"),
    "unreachable": ("icmp,errors",),
    "histogram": ("timeline", "io,stat", "group"),
    "percentiles": ("latency", "http,requests", "dns,names", "group"),
    "quantiles": ("latency", "http,requests", "dns,names", "group"),
    "p95": ("latency", "http,requests", "dns,names", "group"),
    "p99": ("latency", "http,requests", "dns,names", "group"),
    "distribution": ("latency", "group", "plen,tree"),
    "trend": ("timeline", "services", "io,stat"),
    "vlans": ("group",),
    "user-agents": ("group",),
    "ttl": ("group",),
    "dscp": ("group",),
    "passwords": ("credentials",),
    "macs": ("arp,hosts", "endpoints,eth"),
    "process": ("processes",),
    "programs": ("processes",),
}


NAMED, IN_COLUMNS = 60, 30  # scores
# Of conv and endpoints, those that most people mean.
_COMMON = ("tcp", "udp", "ip", "ipv6", "eth")


def search(words: str, known: Mapping[str, Statistic], least: int = 0) -> list[str]:
    """The names of the statistics that match all the words, the best first.

    A word may be part of a name, a title, a column or a description, or one of the `SYNONYMS`; `least` is the lowest
    score that counts. Words that occur nowhere are ignored if others do.
    """
    found = [_scores(word, known) for word in words.lower().replace(",", " ").split()]
    found = [{name: score for name, score in scores.items() if score >= least} for scores in found]
    found = [scores for scores in found if scores]
    names = [name for name in known if found and all(name in scores for scores in found)]
    if not names and found:
        names = [name for name in known if any(name in scores for scores in found)]
    return sorted(names, key=lambda name: (-sum(scores.get(name, 0) for scores in found), _rank(name), name))


def _scores(word: str, known: Mapping[str, Statistic]) -> dict[str, int]:
    forms = {word, word.removesuffix("s"), f"{word}s"}
    named = next((SYNONYMS[form] for form in sorted(forms) if form in SYNONYMS), ())
    scores = {name: 90 - at for at, name in enumerate(named) if name in known}
    stem = word.removesuffix("s") if len(word) > 3 else word
    for name, statistic in known.items():
        if word == name or word in name.split(","):
            score = NAMED
        elif len(stem) < 3:
            continue
        elif stem in name.lower():
            score = 50
        elif stem in str(statistic.title).lower():
            score = 40
        elif any(stem in column.lower() for column in _columns(statistic)):
            score = IN_COLUMNS
        elif stem in str(statistic.description).lower():
            score = 10
        else:
            continue
        scores[name] = scores.get(name, 0) + score
    return scores


def _columns(statistic: Statistic) -> list[str]:
    try:
        return [f"{column.name} {column.title}" for column in statistic.columns(statistic.example) if column.shown]
    except RequestError:
        return []


def nearest(text: str, known: Mapping[str, Statistic], count: int = 5) -> list[str]:
    """The statistics that an unknown name may have meant: similar names, and those found by its words."""
    lowered = text.lower()
    head = ",".join(lowered.split(",")[:2])
    near = difflib.get_close_matches(head, known, n=3, cutoff=0.75 if "," in head else 0.85)
    first = lowered.partition(",")[0]
    if first in SYNONYMS or not near:
        near = [*search(lowered, known, IN_COLUMNS), *near]
    near += sorted((name for name in known if name.startswith(first + ",")), key=lambda name: (_rank(name), name))
    near = near or difflib.get_close_matches(head, known, n=3, cutoff=0.5)
    return list(dict.fromkeys(near))[:count]


def _rank(name: str) -> int:
    kind = name.rpartition(",")[2]
    return _COMMON.index(kind) if kind in _COMMON else len(_COMMON)
