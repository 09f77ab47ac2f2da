"""Who sends to whom, for conversations.py and endpoints.py: the kinds of ends that there are, how packets and tshark's
text tell them, and how a statistic of each kind is registered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from sharkstat import Layer, Listen, PacketCounter, Parameter, Statistic, TextError, both_filters, text_of

if TYPE_CHECKING:
    from sharkstat import Packet

# Those that our own code counts in Lua and on packets, those that only our tap counts, and some of tshark's own.
COUNTED = ("eth", "ip", "ipv6", "tcp", "udp", "ipx", "usb")
PLAIN = COUNTED[:5]  # that the headers of plain packets tell
TAP_ALONE = ("bluetooth", "dccp", "fddi", "sctp", "sll", "tr", "wlan")
TITLES = {
    "eth": "Ethernet", "ip": "IPv4", "ipv6": "IPv6", "tcp": "TCP", "udp": "UDP", "ipx": "IPX", "usb": "USB",
    "bluetooth": "Bluetooth", "bpv7": "BPv7", "fc": "Fibre Channel", "sll": "Linux cooked", "tr": "Token Ring",
    "wlan": "IEEE 802.11", "wpan": "IEEE 802.15.4", "zbee_nwk": "ZigBee", "opensafety": "openSAFETY",
}  # fmt: skip
# Whose text has ports: tshark's ui/cli/tap-iousers.c and tap-endpoints.c.
WITH_PORTS = ("tcp", "udp", "sctp")
# What tshark's taps tell of the two ends, for the taps that tell it.
_TOLD = {
    "eth": ("src", "dst"),
    "ip": ("ip_src", "ip_dst"),
    "tcp": ("ip_src", "ip_dst", "th_sport", "th_dport", "th_stream"),
    "udp": ("ip_src", "ip_dst", "uh_sport", "uh_dport", "uh_stream"),
}
BOUND = Parameter("max", "integer", "100000", "maximum number of rows; the smallest share the row (other)")
_FRAGMENT = "ipv6.fraghdr"
EACH_FRAGMENT = (
    "Every IP fragment counts; tshark's own text (--engine tshark) counts only the last fragment of a packet."
)


def title_of(kind: str) -> str:
    return TITLES.get(kind) or kind.upper()


def layer_of(kind: str) -> Layer:
    """USB and IPX may be carried by what is above TCP and UDP."""
    return "transport" if kind in ("eth", "ip", "ipv6", "tcp", "udp") else "application"


class Ends(Statistic):
    """What conversations and endpoints share: `max=`, and the filter after it."""

    parameters = (BOUND,)

    def bound(self, arguments: str) -> int | None:
        return max(0, int(self.read(arguments)[0]["max"]))

    def filter_of(self, arguments: str) -> str:
        return self.read(arguments)[1]

    def native(self, arguments: str, display_filter: str) -> str:
        own = both_filters(display_filter, self.filter_of(arguments))
        return f"{self.name},{own}" if own else self.name

    def call(self, arguments: str) -> tuple[str, str]:
        return self.name, self.filter_of(arguments)


class EndsCounter(PacketCounter):
    """Counts something of the ends of each header of one kind.

    tshark announces an IPv6 header when it has dissected what is in it, so of the fragments of a packet but the last.
    In packets with a fragment all headers are counted from their fields, but for those that an ICMP error quotes.
    """

    def __init__(self, kind: str, display_filter: str) -> None:
        self.ports = kind in ("tcp", "udp")
        self._kind = kind
        self.listens = (Listen(kind, display_filter, _TOLD.get(kind, ())),)
        self.fields = () if kind in _TOLD else (f"{kind}.src", f"{kind}.dst")
        if kind == "ipv6":
            self.listens += (Listen("frame", both_filters(_FRAGMENT, display_filter)),)
            self.fields += ("frame.protocols",)

    def headers(self, packet: Packet) -> Iterator[Sequence[str]]:
        """Source and destination of each header; for tcp and udp their ports and the number of the stream, too."""
        if self._kind in _TOLD:
            yield from packet.hits[0]
            return
        # For these kinds the tap tells nothing. Behind the headers that it announces are those that ICMP errors quote.
        count = len(packet.hits[0])
        if self._kind == "ipv6" and packet.hits[1]:
            count = _before_icmp(packet.values("frame.protocols")[0])
        ends = zip(packet.values(f"{self._kind}.src"), packet.values(f"{self._kind}.dst"), strict=True)
        for _, pair in zip(range(count), ends, strict=False):
            yield pair


def _before_icmp(protocols: str) -> int:
    """
    >>> _before_icmp("eth:ethertype:ipv6:ipv6:ipv6.fraghdr:data"), _before_icmp("eth:ethertype:ipv6:icmpv6:ipv6:udp")
    (2, 1)
    """
    count = 0
    for name in protocols.split(":"):
        if name in ("icmp", "icmpv6"):
            break
        count += name == "ipv6"
    return count


def register_kinds(
    register: Callable[[Statistic], None], both: Callable[[str], Statistic], tap: Callable[[str], Statistic]
) -> None:
    """Register what `both` makes of each kind that we count on both engines, and `tap` of the others."""
    for kind in COUNTED:
        register(both(kind))
    for kind in TAP_ALONE:
        register(tap(kind))


# tshark's text -------------------------------------------------------------------------------------

BROADCAST = {"Broadcast": "ff:ff:ff:ff:ff:ff"}
_POWERS: dict[str | None, int] = {
    None: 0,
    "bytes": 0,
    **{f"{letter}B": 3 * (n + 1) for n, letter in enumerate("kMGTPE")},
}


def size(number: str, unit: str | None) -> int:
    """
    >>> size("178", "kB"), size("4845", "bytes")
    (178000, 4845)
    """
    return int(number) * int(10 ** _POWERS[unit])


def frame(text: bytes, what: str) -> list[str]:
    """The rows inside tshark's frame of conversations or endpoints. TextError where it is another text."""
    lines = text_of(text).strip("\n").split("\n")
    if lines == [""]:
        return []
    rule = "=" * 80
    head = [n for n, line in enumerate(lines) if n < 6 and line.startswith(" ") and "|" in line]
    if lines[0] != rule or lines[-1] != rule or not lines[1].endswith(f" {what}") or not head:
        raise TextError(f"no frame of {what}")
    return lines[head[-1] + 1 : -1]
