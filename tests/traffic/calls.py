"""Calls of a protocol over raw UDP (docs/examples/clock_calls.py), with what becomes of each known."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from tests.traffic.capturefiles import udp_frame, write_pcap

MS = 10**6
PORT = 7007
SERVER = "198.51.100.7"
TIME, ERROR = 2, 3


@dataclass(frozen=True)
class Call:
    """A call: when its request goes out and is repeated, and when responses come; in milliseconds."""

    client: str
    number: int
    sent: tuple[int, ...]
    answered: tuple[int, ...] = ()
    answer: int = TIME
    port: int = 40000


# A second is the timeout.
CALLS = (
    *(Call("192.0.2.1", n, (10 * n,), (10 * n + 3 + n,)) for n in range(1, 9)),  # answered
    *(Call("192.0.2.1", n, (10 * n,)) for n in range(20, 23)),  # lost
    *(Call("192.0.2.2", n, (10 * n,), (10 * n + 2, 10 * n + 5)) for n in range(1, 4)),  # answered twice
    *(Call("192.0.2.2", n, (10 * n,), (10 * n + 1500,)) for n in range(10, 12)),  # too late
    Call("192.0.2.2", 50, (500, 700), (720,)),  # repeated, then answered
    Call("192.0.2.2", 60, (600,), (604,), ERROR),
    # One identification again: after an answer, and after a request was lost and its time is over.
    *(Call("192.0.2.3", 7, (at,), (at + 4,)) for at in (100, 200, 300)),
    Call("192.0.2.3", 8, (400,)),
    Call("192.0.2.3", 8, (1900,), (1906,)),
    # The same identification and client from another port is another call.
    Call("192.0.2.3", 9, (800,), (850,), port=40000),
    Call("192.0.2.3", 9, (801,), (811,), port=40001),
)
UNASKED = Call("192.0.2.4", 1, (), (5,))


def write_calls(path: Path) -> None:
    """The packets of all calls, and one response whose request was before the capture."""
    packets: list[tuple[int, bytes]] = []
    for call in (*CALLS, UNASKED):
        client, server = (call.client, call.port), (SERVER, PORT)
        asked = struct.pack("!HB", call.number, 1)
        packets += [(at * MS, udp_frame(client, server, asked, len(packets) + n)) for n, at in enumerate(call.sent)]
        told = struct.pack("!HBI", call.number, call.answer, 0)
        packets += [(at * MS, udp_frame(server, client, told, len(packets) + n)) for n, at in enumerate(call.answered)]
    packets.append((900 * MS, udp_frame(("192.0.2.9", 9), ("192.0.2.8", 9), b"other")))
    write_pcap(path, sorted(packets, key=lambda packet: packet[0]))
