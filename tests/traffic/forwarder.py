"""What moves packets between hosts in our own hands: a bridge that loses some of them, and tunnel ends."""

from __future__ import annotations

import heapq
import os
import select
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .lab import IFF_TAP, IFF_TUN, Host, Lab, LabError
from .services import Facts

SYN, FIN = 0x02, 0x01
DROP, DOUBLE, LATE = "drop", "double", "late"
# As long a way as to another city: on a shorter one nothing could be told from mere disorder.
WAY, LATE_BY = 0.008, 0.025


@dataclass(frozen=True)
class Segment:
    """A TCP segment as the bridge sees it."""

    source_port: int
    target_port: int
    sequence: int
    flags: int
    length: int


def segment_in(frame: bytes) -> Segment | None:
    """The TCP segment over IPv4 in an Ethernet frame, if that is what there is."""
    if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
        return None
    at = 14 + (frame[14] & 15) * 4
    total = struct.unpack_from("!H", frame, 16)[0]
    source, target, sequence = struct.unpack_from("!HHI", frame, at)
    header = (frame[at + 12] >> 4) * 4
    return Segment(source, target, sequence, frame[at + 13], 14 + total - at - header)


Deed = tuple[str, str | int]
"""What to do, and to which segment: "SYN", "FIN", or the how-manieth that carries new data."""


@dataclass
class _Flow:
    seen: set[tuple[int, int]] = field(default_factory=set)
    with_data: int = 0
    opened: bool = False
    closed: bool = False


class LossyBridge:
    """Joins two hosts by TAP interfaces, and mistreats chosen TCP segments on the way, each of them once.

    The plan says for (port of the client, direction) what is done to which segment. A segment that was
    sent again is let through: what is lost is known by number, and never depends on timing.
    """

    def __init__(
        self,
        lab: Lab,
        client: Host,
        server: Host,
        plan: Mapping[tuple[int, str], Sequence[Deed]],
    ) -> None:
        self.deeds: list[Facts] = []
        self._lab, self._plan = lab, plan
        self._flows: dict[tuple[int, str], _Flow] = {}
        self._taps = [lab.tun(client, "tap0", IFF_TAP), lab.tun(server, "tap0", IFF_TAP)]
        for number, host in enumerate((client, server), 1):
            host.ip("link", "set", "tap0", "address", f"02:00:00:00:01:{number:02x}")
            host.up("tap0")
        lab.start(self._forward)

    def _forward(self) -> None:
        # When it arrives, its number (so that frames due at the same time keep their order), where, what.
        under_way: list[tuple[float, int, int, bytes]] = []
        number = 0
        while not self._lab.stop.is_set():
            wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else 0.1
            ready, _, _ = select.select(self._taps, [], [], wait)
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, target, frame = heapq.heappop(under_way)
                os.write(target, frame)
            for tap in ready:
                side = self._taps.index(tap)
                target = self._taps[1 - side]
                frame = os.read(tap, 65536)
                deed = self._judge(frame, "to_server" if side == 0 else "to_client")
                due = time.monotonic() + WAY + (LATE_BY if deed == LATE else 0)
                for _ in range({DROP: 0, DOUBLE: 2}.get(deed or "", 1)):
                    number += 1
                    heapq.heappush(under_way, (due, number, target, frame))

    def _judge(self, frame: bytes, direction: str) -> str | None:
        segment = segment_in(frame)
        if segment is None:
            return None
        port = segment.source_port if direction == "to_server" else segment.target_port
        flow = self._flows.setdefault((port, direction), _Flow())
        which: str | int | None = None
        if segment.flags & SYN and not flow.opened:
            flow.opened, which = True, "SYN"
        elif segment.length and (segment.sequence, segment.length) not in flow.seen:
            flow.seen.add((segment.sequence, segment.length))
            flow.with_data += 1
            which = flow.with_data
        elif segment.flags & FIN and not segment.length and not flow.closed:
            flow.closed, which = True, "FIN"
        planned = self._plan.get((port, direction), ())
        deed = next((deed for deed, target in planned if target == which), None)
        if deed is not None:
            self.deeds.append(
                {
                    "deed": deed,
                    "client_port": port,
                    "direction": direction,
                    "segment": which,
                    "payload_bytes": segment.length,
                }
            )
        return deed

    def facts(self) -> Facts:
        planned = sum(len(deeds) for deeds in self._plan.values())
        if len(self.deeds) != planned:
            raise LabError(f"the bridge did {len(self.deeds)} of {planned} deeds: {self.deeds}")
        kinds = [deed["deed"] for deed in self.deeds]
        return {
            "dropped": kinds.count(DROP),
            "doubled": kinds.count(DOUBLE),
            "delayed": kinds.count(LATE),
            "deeds": sorted(self.deeds, key=lambda deed: [str(value) for value in deed.values()]),
        }


class LossyDatagramBridge(LossyBridge):
    """The same for UDP: the plan says what is done to the how-manieth datagram from a port of the client."""

    def _judge(self, frame: bytes, direction: str) -> str | None:
        if direction != "to_server" or frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_UDP:
            return None
        at = 14 + (frame[14] & 15) * 4
        port, _, length = struct.unpack_from("!HHH", frame, at)
        flow = self._flows.setdefault((port, direction), _Flow())
        flow.with_data += 1
        planned = self._plan.get((port, direction), ())
        deed = next((deed for deed, target in planned if target == flow.with_data), None)
        if deed is not None:
            done: Facts = {"deed": deed, "client_port": port, "direction": direction, "datagram": flow.with_data}
            self.deeds.append(done | {"payload_bytes": length - 8})
        return deed


IPIP, GRE = 4, 47


class TunnelEnd:
    """One end of an IPIP or GRE tunnel: a TUN interface, and a raw socket to the other end.

    Kernels without the modules for these tunnels can have them so; the packets are the same.
    """

    def __init__(self, lab: Lab, host: Host, protocol: int, interface: str, near: str, far: str) -> None:
        self.sent = self.received = 0
        self._lab, self._protocol, self._far = lab, protocol, far
        self._tun = lab.tun(host, interface, IFF_TUN)
        self._raw = host.new_socket(socket.AF_INET, socket.SOCK_RAW, protocol)
        self._raw.bind((near, 0))
        host.ip("link", "set", interface, "mtu", "1400")
        host.up(interface)
        lab.start(self._forward)

    def _forward(self) -> None:
        with self._raw:
            while not self._lab.stop.is_set():
                ready, _, _ = select.select([self._tun, self._raw.fileno()], [], [], 0.1)
                if self._tun in ready:
                    packet = os.read(self._tun, 65536)
                    self._raw.sendto(self._wrapped(packet), (self._far, 0))
                    self.sent += 1
                if self._raw.fileno() in ready:
                    packet = self._raw.recv(65536)
                    packet = packet[(packet[0] & 15) * 4 :]
                    os.write(self._tun, packet[4:] if self._protocol == GRE else packet)
                    self.received += 1

    def _wrapped(self, packet: bytes) -> bytes:
        if self._protocol == IPIP:
            return packet
        ethertype = 0x86DD if packet[0] >> 4 == 6 else 0x0800
        return struct.pack("!HH", 0, ethertype) + packet
