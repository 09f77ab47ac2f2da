"""What tshark may leave out: the layers above those that anybody looks at."""

from __future__ import annotations

import re
from collections.abc import Sequence

# How far up the layers a statistic looks. What lies above is given to tshark's `data` dissector.
LEVELS = ("transport", "http", "messages", "application")

# Ports whose traffic tshark hands, by the port alone, to a dissector that never carries IP, nor announces
# conversations of its own (as SIP, SNMP, SOCKS and TFTP do: that changes tshark's stream numbers). Where
# nobody asks about what is above TCP and UDP, that dissector is replaced by `data`, which claims the
# payload just as firmly: nothing falls through to another dissector, so no tunnel is seen that was not
# there before. (Disabling the dissector instead would let the next port or heuristic have a try.)
LEAF_PORTS = {
    "tcp.port": (
        22, 23, 25, 53, 80, 110, 139, 143, 179, 389, 443, 445, 465, 514, 515, 587, 631, 636, 873, 993, 995,
        1433, 1521, 1883, 3268, 3306, 3389, 5222, 5432, 5671, 5672, 6379, 8080, 8883, 9042, 9092,
        9418, 11211, 27017,
    ),
    "udp.port": (53, 67, 68, 88, 123, 137, 138, 389, 514, 1812, 1813, 1900, 5353, 5355),
}  # fmt: skip

# Those of them that carry no HTTP either: no TLS (which may be decrypted), no proxy, no SSDP, no IPP.
LEAF_PORTS_BESIDE_HTTP = {
    "tcp.port": (22, 23, 53, 139, 179, 445, 1433, 1521, 3306, 5432, 6379, 9042, 11211),
    "udp.port": (53, 67, 68, 88, 123, 137, 138, 514, 1812, 1813, 5353, 5355),
}

# Bodies of HTTP messages that hold no HTTP message themselves. Dissecting a bucket listing as XML costs
# tshark several times what the message that carries it does.
LEAF_MEDIA_TYPES = (
    "application/javascript", "application/json", "application/octet-stream", "application/x-javascript",
    "application/x-www-form-urlencoded", "application/xml", "image/gif", "image/jpeg", "image/png",
    "image/svg+xml", "text/css", "text/html", "text/javascript", "text/plain", "text/xml",
)  # fmt: skip

# What may stand in a display filter without anyone looking above TCP and UDP, or above HTTP.
_TRANSPORT_FIELDS = (
    r"frame(?:\.(?:len|cap_len|number|time\w*|interface_\w+))?"
    r"|(?:eth|vlan|arp|ip|ipv6)(?:\.[\w.]+)?"
    r"|tcp(?:\.(?:(?:src|dst)?port|stream|flags[\w.]*|len|seq\w*|nxtseq|ack\w*|window_size\w*|hdr_len|time_\w+"
    r"|analysis\.[\w.]+|options[\w.]*))?"
    r"|udp(?:\.(?:(?:src|dst)?port|stream|length|time_\w+))?"
)
_FIELDS = {
    "transport": rf"(?:{_TRANSPORT_FIELDS})$",
    "http": rf"(?:{_TRANSPORT_FIELDS}|http(?:\.[\w.]+)?)$",
    # None of these is in a page, script or image that HTTP carries.
    "messages": rf"(?:{_TRANSPORT_FIELDS}|(?:http|dns|mdns|llmnr|tls|quic|dhcp|icmp|icmpv6|ntp)(?:\.[\w.]+)?)$",
}
_WORDS = r"""\$\{|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[A-Za-z_][\w.\-]*|[\d:][\w:.\-/]*"""
_OPERATORS = frozenset(
    """and or not xor in eq ne gt ge lt le contains matches bitwise_and any_eq all_eq any_ne all_ne
    any all len count true false True False""".split()  # noqa: SIM905 - a list of words reads best as words
)


def level_of(display_filter: str) -> str:
    """How far up the layers tshark must look to answer a display filter.

    >>> level_of("tcp.port == 80 && ip.src == 10.0.0.1"), level_of("http.host"), level_of("dns"), level_of("xml")
    ('transport', 'http', 'messages', 'application')
    """
    words = re.findall(_WORDS, display_filter)
    names = [word for word in words if word[0] not in "\"'0123456789:" and word not in _OPERATORS]
    return next(
        (level for level, fields in _FIELDS.items() if all(re.match(fields, name) for name in names)), "application"
    )


# Protocols that tshark tells from the first bytes of a payload, by the beginning of their fields' names: QUIC carries a
# TLS handshake that tshark decrypts, and the fields of SSDP are those of HTTP.
_TOLD_APART = {
    "dns": ("dns", "mdns", "llmnr"), "http": ("http", "ssdp"), "http2": ("http2",), "http3": ("http3", "quic"),
    "tls": ("tls", "quic"),
    "quic": ("quic",), "dhcp": ("dhcp",), "ntp": ("ntp",), "ssh": ("ssh",), "sip": ("sip",), "snmp": ("snmp",),
    "mdns": ("mdns",), "llmnr": ("llmnr",), "nbns": ("nbns",), "ssdp": ("ssdp",), "tftp": ("tftp",),
    "syslog": ("syslog",), "smtp": ("smtp",), "ftp": ("ftp",), "imap": ("imap",), "pop": ("pop",),
}  # fmt: skip


def protocols_of(texts: Sequence[str]) -> tuple[str, ...]:
    """The protocols above TCP and UDP whose fields are named, as frame.protocols has them; none if it may be any.

    >>> protocols_of(["dns.qry.name", "ip.src == 10.0.0.1"]), protocols_of(["http.host", "xml"])
    (('dns', 'mdns', 'llmnr'), ())
    """
    found: dict[str, None] = {}
    for text in texts:
        for word in re.findall(_WORDS, text):
            if word[0] in "\"'0123456789:" or word in _OPERATORS or level_of(word) == "transport":
                continue
            protocols = _TOLD_APART.get(word.split(".")[0])
            if protocols is None:
                return ()
            found.update(dict.fromkeys(protocols))
    return tuple(found)


# Fields whose values a packet has whatever other hosts send, and wherever in the capture it is.
_BY_ITSELF = re.compile(
    r"frame(?:\.(?:len|cap_len|protocols|time_epoch))?$"
    r"|(?:eth|vlan|arp|ip|ipv6|icmp|icmpv6|tcp|udp|dns|mdns|llmnr|http|tls|dhcp|ntp)(?:\.[\w.]+)?$"
)
_NOT_BY_ITSELF = re.compile(
    r"\.(?:stream|resp_in|resp_to|response_in|response_to|request_in|response_for\.\w+|next_\w+_in|prev_\w+_in|\w*frame\w*"
    r"|duplicate\w*|reassembled\w*|fragments?|segments?|segment\.\w+|fragment\.\w+|record\.\w*stream|pdu\.\w+|pnum)$"
)


def is_by_itself(text: str) -> bool:
    """Whether a filter or field asks for nothing that other hosts' packets, or their number, have a part in.

    >>> is_by_itself("tcp.port == 80 && ip.ttl > 9"), is_by_itself("frame.number < 5"), is_by_itself("ip.stream")
    (True, False, False)
    """
    words = re.findall(_WORDS, text)
    names = [word for word in words if word[0] not in "\"'0123456789:" and word not in _OPERATORS]
    return all(_BY_ITSELF.match(name) and not _NOT_BY_ITSELF.search(name) for name in names)


# What tshark shows names of network cards' makers, of enterprises and of services in, whether or not it resolves any.
_NAMING = re.compile(r"resolved|oui|enterprise|vendor|manuf")


def needs_names(level: str, reads: Sequence[str]) -> bool:
    """Whether any of these filters and fields, read at that level, may depend on tshark's tables of names.

    Fields of other protocols than those of the levels are values that tshark may show with such a name.

    >>> needs_names("transport", ["ip.src", "tcp.port == 80"]), needs_names("transport", ["eth.src.oui_resolved"])
    (False, True)
    """
    return level == "application" or any(_NAMING.search(text.lower()) for text in reads)


def level_read(layers: Sequence[str], reads: Sequence[str]) -> str:
    """The highest level of those that are looked at, and those of filters and fields."""
    return max([LEVELS[0], *layers, *map(level_of, reads)], key=LEVELS.index)


def leaf_options(layers: Sequence[str], reads: Sequence[str], plain: bool = False) -> list[str]:
    """tshark's options that spare it the work whose results nobody asked for.

    `layers` are the levels that are looked at, `reads` all filters and names of fields. With `plain`, what is read is
    TCP and UDP that carries no packets of other hosts, nor announces their conversations.
    """
    level = level_read(layers, reads)
    if level == "application":
        return []
    ports = {"transport": LEAF_PORTS, "http": LEAF_PORTS_BESIDE_HTTP}.get(level, {})
    given = [f"{table}=={port}" for table, numbers in ports.items() for port in numbers]
    if plain and level == "transport":
        given = ["tcp.port==1-65535", "udp.port==1-65535"]  # a range is found as fast as one port
    given += [f"media_type=={name}" for name in LEAF_MEDIA_TYPES] if level != "transport" else []
    options = [part for layer in given for part in ("-d", f"{layer},data")]
    if not any("analysis" in text for text in reads):
        # Only tcp.analysis.bytes_in_flight and push_bytes_sent need it, and it keeps a note of every segment.
        options += ["-o", "tcp.track_bytes_in_flight:FALSE"]
    return options
