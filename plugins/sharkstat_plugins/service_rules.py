"""What the services of a capture are told by: which end of a connection serves, and what its protocols mean.

The rules are those of lua/sharkstat_lua/server.lua and layers.lua, which say why.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# Ports above 1023 and below it that have a name in server.lua.
# fmt: off
NAMED_PORTS = frozenset((
    20, 21, 22, 23, 25, 43, 49, 53, 67, 69, 80, 88, 110, 111, 123, 135, 137, 138, 139, 143, 161, 162, 179, 389,
    443, 445, 464, 465, 500, 502, 514, 515, 547, 548, 554, 587, 623, 631, 636, 646, 830, 853, 873, 989, 990,
    993, 995, 1080, 1194, 1433, 1521, 1701, 1719, 1720, 1723, 1812, 1813, 1883, 1900, 2049, 2055, 2181, 2375,
    2376, 2379, 2380, 3128, 3260, 3268, 3306, 3389, 3478, 3702, 4500, 4739, 4789, 5004, 5060, 5061, 5222, 5269,
    5353, 5355, 5432, 5601, 5671, 5672, 5683, 5900, 5985, 5986, 6081, 6343, 6379, 6443, 6667, 8080, 8443, 8883,
    9042, 9090, 9092, 9100, 9200, 9300, 10050, 10051, 10250, 11211, 27017, 51820,
))
# fmt: on
OF_CLIENTS = frozenset((68, 546))
DYNAMIC, SYSTEM = 32768, 1024


def by_ports(first: int, second: int) -> bool | None:
    """Whether the second of two ports is the server's; None where they are alike.

    >>> by_ports(50000, 443), by_ports(50051, 33417)
    (True, None)
    """
    one, other = _rank(first), _rank(second)
    return None if one == other else other > one


def by_service(first: int, second: int) -> bool | None:
    """The same, where one of them is registered or a system's port; None where neither is.

    >>> by_service(50000, 443), by_service(40500, 20001)
    (True, None)
    """
    return None if max(_rank(first), _rank(second)) < 2 else by_ports(first, second)


def _rank(port: int) -> int:
    if port in NAMED_PORTS:
        return 3
    if port >= DYNAMIC or port in OF_CLIENTS:
        return 0
    return 2 if port < SYSTEM else 1


def of_many(address: str) -> bool:
    """Whether it is the address of a group, or everybody's in a network.

    >>> of_many("239.255.255.250"), of_many("192.0.2.255"), of_many("ff02::fb"), of_many("192.0.2.1")
    (True, True, True, False)
    """
    first, dot, _ = address.partition(".")
    if dot and first.isdigit():
        return 224 <= int(first) < 240 or address.endswith(".255")
    return address.startswith("ff")


class Peers:
    """With how many others each end was seen: a transport, an address and a port. At most `room` ends are counted."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._counts: dict[tuple[str, str, int], int] = {}

    def add(self, end: tuple[str, str, int]) -> None:
        if end not in self._counts:
            if not self._room:
                return
            self._room -= 1
        self._counts[end] = self._counts.get(end, 0) + 1

    def second_serves(self, a: tuple[str, str, int], b: tuple[str, str, int]) -> bool | None:
        one, other = self._counts.get(a, 0), self._counts.get(b, 0)
        return by_ports(a[2], b[2]) if one == other else other > one


# What tells a request from an answer, by protocol: two fields that are there, or a field with its two values.
ASKING: dict[str, tuple[str, str] | tuple[str, str, str]] = {
    "http": ("http.request", "http.response"),
    "sip": ("sip.Method", "sip.Status-Code"),
    **dict.fromkeys(("dns", "mdns", "llmnr"), ("dns.flags.response", "0", "1")),
    "nbns": ("nbns.flags.response", "0", "1"),
    "ntp": ("ntp.flags.mode", "3", "4"),
    "tls": ("tls.handshake.type", "1", "2"),
    "dtls": ("dtls.handshake.type", "1", "2"),
    "quic": ("tls.handshake.type", "1", "2"),
}
ASKING_FIELDS = tuple(dict.fromkeys(name for rule in ASKING.values() for name in (rule[0], rule[1]) if "." in name))

CONNECTED = frozenset(("tcp", "udp", "sctp"))
_LINKS = frozenset(("eth", "wlan", "ip", "ipv6"))
_QUOTING = frozenset(("icmp", "icmpv6"))
_VIRTUAL = (
    *("vlan", "vxlan", "geneve", "gre", "mpls", "pppoes", "gtp", "l2tp", "nsh", "erspan", "ieee8021ah", "ieee8021ad"),
    *("lisp-data", "isl", "stt"),
)
_CARRIERS = frozenset(
    ("tls", "dtls", "quic", "nbss", "nbdgm", "rpc", "tpkt", "cotp", "ses", "pres", "proxy", "stun", "classicstun")
)
INSTEAD_OF = {"smb2": "smb", "http2": "http", "grpc": "http2"}


def _is_part(name: str) -> bool:
    return name in ("data", "ocsp") or "." in name or name[:4] in ("x509", "pkix", "pkcs")


@dataclass
class Path:
    """What a packet's protocols say, as layers.lua reads them."""

    transport: str = ""
    protocol: str = ""
    carrier: str = ""
    above: list[str] = field(default_factory=list)
    holds: set[str] = field(default_factory=set)
    fragment: bool = False
    virtual: bool = False


def read(text: str) -> Path:
    """Read a packet's frame.protocols.

    >>> path = read("eth:ethertype:ip:tcp:tls:http2")
    >>> path.transport, path.protocol, path.carrier
    ('tcp', 'http2', 'tls')
    """
    path, last = Path(virtual=any(f":{name}:" in text for name in _VIRTUAL)), ""
    for name in filter(None, text.split(":")):
        if name in _QUOTING:
            return Path(protocol=name)
        if name in CONNECTED:
            path.transport, path.above = name, []
        elif name in _LINKS:
            path.transport, path.above = "", []
        elif path.transport:
            path.above.append(name)
        if not _is_part(name):
            last = name
    if not path.transport:
        path.protocol = last or text
        path.fragment = last in ("ip", "ipv6")
        return path
    for name in path.above:
        path.holds.add(name)
        if name in _CARRIERS:
            path.carrier = path.carrier or name
        elif (not path.protocol and not _is_part(name)) or (path.protocol and INSTEAD_OF.get(name) == path.protocol):
            path.protocol = name
    if path.holds & {"mdns", "llmnr"}:
        path.holds.add("dns")
    return path
