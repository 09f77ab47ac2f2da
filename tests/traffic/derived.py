"""Captures made from other captures, and captures made by hand."""

from __future__ import annotations

import calendar
import gzip
from collections.abc import Callable
from pathlib import Path

from .capturefiles import SECOND, cut_in_a_packet, udp_frame, write_pcap
from .lab import run
from .services import Facts

SENDER, RECEIVER = ("192.0.2.10", 40000), ("192.0.2.20", 40001)


def gzipped(source: Path, path: Path) -> Facts:
    plain = path.with_suffix("")
    run("editcap", "-F", "pcap", str(source), str(plain))
    # Neither the time nor the name of the file it was made from.
    path.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    plain.unlink()
    return {"how": "editcap -F pcap, gzip"}


def cut(source: Path, path: Path) -> Facts:
    data, whole = cut_in_a_packet(source.read_bytes())
    path.write_bytes(data)
    return {"how": "ends in the middle of a packet record", "whole_frames": whole, "size": len(data)}


def snaplen(source: Path, path: Path) -> Facts:
    run("editcap", "-s", "60", str(source), str(path))
    return {"how": "editcap -s 60", "bytes_kept_of_a_frame": 60}


def nanosecond(source: Path, path: Path) -> Facts:
    run("editcap", "-F", "nsecpcap", str(source), str(path))
    return {"how": "editcap -F nsecpcap"}


def day(text: str, microseconds: int = 0) -> int:
    """A moment (UTC) in nanoseconds."""
    year, month, monthday = (int(part) for part in text.split("-"))
    return calendar.timegm((year, month, monthday, 12, 0, 0)) * SECOND + microseconds * 1000


START = day("2024-01-01")


def by_hand(path: Path, packets: list[tuple[int, bytes]]) -> Facts:
    frames = [
        (moment, udp_frame(SENDER, RECEIVER, payload, number)) for number, (moment, payload) in enumerate(packets, 1)
    ]
    write_pcap(path, frames)
    return {
        "udp": {"datagrams": len(packets), "source": list(SENDER), "target": list(RECEIVER)},
        "packets": [
            {"time_ns": moment, "frame_bytes": len(frame), "payload_bytes": len(payload)}
            for (moment, frame), (_, payload) in zip(frames, packets, strict=True)
        ],
    }


def years(path: Path) -> Facts:
    days = ["2004-02-29", "2004-03-01", "2009-11-30", "2016-12-31", "2017-01-01", "2024-02-29"]
    moments = [day(one, 123457 * n + 1) for n, one in enumerate(days)]
    # Two of them one microsecond apart, in a span of twenty years.
    moments.insert(3, moments[2] + 1000)
    return by_hand(path, [(moment, b"years %d" % n) for n, moment in enumerate(moments)])


def unordered(path: Path) -> Facts:
    seconds = [10.0, 11.5, 9.25, 12.0, 4.000001, 11.5, 30.0, 0.0, 29.999999, 12.0]
    return by_hand(
        path, [(START + round(one * 1_000_000) * 1000, b"unordered" * n) for n, one in enumerate(seconds, 1)]
    )


def edges(path: Path) -> Facts:
    return by_hand(path, [(START + n * SECOND, b"edge" * (n + 1)) for n in (0, 10, 20, 25, 50)])


def empty(path: Path) -> Facts:
    write_pcap(path, [])
    return {"how": "a pcap header and nothing after it"}


def garbage(path: Path) -> Facts:
    path.write_bytes(b"This is not a capture file, whatever its name says.\n" * 20)
    return {"how": "text"}


DERIVED: dict[str, tuple[str, Callable[[Path, Path], Facts]]] = {
    "http.pcap.gz": ("http.pcapng", gzipped),
    "cut.pcapng": ("http.pcapng", cut),
    "snaplen.pcapng": ("http.pcapng", snaplen),
    "nanosecond.pcap": ("dns.pcapng", nanosecond),
}
BY_HAND: dict[str, Callable[[Path], Facts]] = {
    "years.pcap": years,
    "unordered.pcap": unordered,
    "edges.pcap": edges,
    "empty.pcap": empty,
    "garbage.pcap": garbage,
}
