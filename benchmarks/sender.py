"""Sends UDP datagrams at a steady rate, from the ring of a packet socket past the queue of the interface.

    python sender.py INTERFACE PACKETS_A_SECOND SECONDS

Prints how many packets were sent, and in how many seconds. They are of a thousand conversations, 142 bytes each.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import sys
import time
from pathlib import Path

import numpy

# packet(7), and linux/if_packet.h: a ring of version 1 has 32 bytes of header before each frame.
SOL_PACKET, PACKET_TX_RING, PACKET_QDISC_BYPASS, PACKET_LOSS = 263, 13, 20, 14
SEND_REQUEST, HEADER = 1, 32
SLOT, SLOTS, BLOCK = 512, 8192, 1 << 16
CONVERSATIONS = 1000
PAUSE = 0.002  # from one burst to the next


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(number: int) -> bytes:
    """A datagram of one of the conversations, without a checksum of its own."""
    payload = bytes(100)
    ends = socket.inet_aton(f"192.0.2.{number % 200 + 1}") + socket.inet_aton("198.51.100.2")
    udp = struct.pack("!HHHH", 1024 + number % CONVERSATIONS, 9, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), number, 0, 64, 17, 0) + ends
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return bytes.fromhex("0200000000020200000000010800") + head + udp


def main() -> None:
    """Send, and say what was sent."""
    interface, rate, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    out.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
    out.setsockopt(SOL_PACKET, PACKET_LOSS, 1)  # a frame that the interface refuses is not tried again
    out.setsockopt(SOL_PACKET, PACKET_TX_RING, struct.pack("IIII", BLOCK, SLOT * SLOTS // BLOCK, SLOT, SLOTS))
    out.bind((interface, 0))
    ring = mmap.mmap(out.fileno(), SLOT * SLOTS)
    for slot in range(SLOTS):
        data = frame(slot)
        at = slot * SLOT
        struct.pack_into("LII", ring, at, 0, len(data), len(data))
        ring[at + HEADER : at + HEADER + len(data)] = data
    status = numpy.frombuffer(ring, dtype=numpy.uint64).reshape(SLOTS, SLOT // 8)[:, 0]
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # whoever captures shall not slow it down
    before = passed(interface)
    begin, asked, at = time.monotonic(), 0, 0
    while (now := time.monotonic() - begin) < seconds:
        due = min(int(now * rate) - asked, SLOTS // 2, SLOTS - at)
        if due > 0:
            status[at : at + due] = SEND_REQUEST
            out.send(b"")  # returns when all are sent
            asked, at = asked + due, (at + due) % SLOTS
        if int(now * rate) - asked < rate * PAUSE:
            time.sleep(PAUSE)
    took = time.monotonic() - begin
    print(passed(interface) - before, took)


def passed(interface: str) -> int:
    """How many packets the interface has sent."""
    devices = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()
    [line] = [line for line in devices if line.strip().startswith(f"{interface}:")]
    return int(line.partition(":")[2].split()[9])


if __name__ == "__main__":
    main()
