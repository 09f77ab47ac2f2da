"""Connections of the same addresses and ports in several virtual networks, on packets; networks.lua has the same rule.

tshark gives them one stream number. The two directions of one connection may be in different networks: so it is another
one only where a sender that was seen in one network is seen in a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharkstat import Packet

VIRTUAL_NETWORKS = (
    *("vlan.id", "vxlan.vni", "geneve.vni", "gre.key", "mpls.label", "pppoe.session_id", "gtp.teid", "l2tp.tunnel"),
    *("l2tp.session", "l2tp.sid", "nsh.spi", "erspan.vlan", "erspan.spanid", "ieee8021ah.isid", "lisp-data.iid"),
    *("ieee8021ad.id", "ieee8021ad.svid", "ieee8021ad.cvid"),
    *("isl.vlan_id", "stt.context_id"),
)
# Values that name none: a VLAN tag with a priority alone, and labels with a meaning of their own (RFC 3032 and others).
_NO_NETWORK = {"vlan.id": (0,), "erspan.vlan": (0,), "mpls.label": (0, 1, 2, 3, 7, 13, 14, 15)}
_MANY = 2**31  # there are fewer streams

End = tuple[str, int]
Network = tuple[tuple[str, ...], ...]


@dataclass
class _Own:
    """A network's part of a stream: the key of its connection, and who was seen to send."""

    key: int
    senders: set[End] = field(default_factory=set)


@dataclass
class _Stream:
    first: Network
    older: _Stream | None
    networks: dict[Network, _Own]


class Networks:
    """Tells connections of one transport apart."""

    def __init__(self) -> None:
        self._streams: dict[int, _Stream] = {}
        self._latest: dict[Any, _Stream] = {}
        self._others = 0

    def key(self, stream: int, packet: Packet, source: End, destination: End, virtual: bool) -> int:
        """What tells a packet's connection from others: its stream's number, or one beyond all streams.

        `virtual` says whether it may be in a virtual network.
        """
        network = tuple(_named(packet, name) for name in VIRTUAL_NETWORKS) if virtual else ()
        if not any(network):
            network = ()
        found = self._streams.get(stream)
        if found is None:
            ends = frozenset((source, destination))
            found = _Stream(network, self._latest.get(ends), {network: _Own(stream, {source})})
            self._latest[ends] = self._streams[stream] = found
            return stream
        first = found.networks[found.first]
        own = found.networks.get(network)
        if own is None:
            earlier = _earlier_key(found, network)
            own = found.networks[network] = _Own(first.key if earlier is None else earlier)
        if source not in own.senders:
            own.senders.add(source)
            same = [other for other in found.networks.values() if other is not own and other.key == first.key]
            if own.key == first.key and any(source in other.senders for other in same):
                for other in same if own is first else [own]:
                    self._others += 1
                    other.key = _MANY + self._others
        return own.key


def _named(packet: Packet, name: str) -> tuple[str, ...]:
    values = packet.values(name)
    if not values or name not in _NO_NETWORK:
        return tuple(values)
    return tuple(value for value in values if int(value, 0) not in _NO_NETWORK[name])


def _earlier_key(found: _Stream, network: Network) -> int | None:
    """The key in a network, if an earlier stream had a connection there that the first network has no part in."""
    older = found.older
    while older is not None:
        own, first = older.networks.get(network), older.networks.get(found.first)
        if own is not None:
            return None if first is not None and first.key == own.key else own.key
        older = older.older
    return None
