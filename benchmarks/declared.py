"""What declared statistics cost: each beside tshark's nearest own -z, and ten of them in one run beside one.

Every pair is run in turn on one core, and the ratios are of the medians of CPU and wall time.

    python benchmarks/declared.py                 # makes a capture of 300,000 packets in a temporary folder
    python benchmarks/declared.py --capture big.pcap --rounds 5
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import make_capture
from speed import Measured, measure
from tabulate import tabulate

# A declaration, and what tshark itself has that is nearest to it.
PAIRS = (
    ("group,by=ip.src,count,sum=frame.len", "endpoints,ip"),
    ("group,by=ip.src,by=ip.dst,count,sum=frame.len", "conv,ip"),
    ("group,by=ip.addr:all,count", "ip_hosts,tree"),
    ("group,by=tcp.stream,count,sum=tcp.len,seen,tcp", "conv,tcp"),
    ("group,every=1s,count,sum=frame.len", "io,stat,1"),
    ("group,every=1s,sum=tcp.len,max=tcp.len", "io,stat,1,SUM(tcp.len)tcp.len,MAX(tcp.len)tcp.len"),
    ("group,by=frame.protocols,count,sum=frame.len", "io,phs"),
    ("group,by=dns.qry.name,by=dns.flags.rcode,count,mean=dns.time,dns", "dns,tree"),
    ("group,by=http.host,by=http.request.uri,count,http.request", "http_req,tree"),
    ("group,tree=ip.dst+tcp.dstport/udp.dstport,count", "dests,tree"),
)
TEN = (
    "group,by=ip.src,count,sum=frame.len",
    "group,by=ip.dst,count,sum=frame.len",
    "group,by=ip.src,by=ip.dst,count",
    "group,by=tcp.stream,count,sum=tcp.len,seen",
    "group,by=tcp.dstport/udp.dstport,count,sum=frame.len",
    "group,every=1s,count,sum=frame.len",
    "group,by=ip.proto,count,distinct=ip.src",
    "group,by=tcp.flags.syn,by=tcp.flags.fin,count",
    "group,by=ip.ttl,count,min=frame.len,max=frame.len",
    "group,tree=ip.src+ip.dst,count",
)


def ratio(capture: Path, ours: Sequence[str], theirs: Sequence[str], rounds: int, core: int) -> list[object]:
    """One row: two commands in turn."""
    one, other = Measured(), Measured()
    for _ in range(rounds):
        measure(ours, one, [core])
        measure(theirs, other, [core])
    middle = statistics.median
    return [
        f"{middle(one.wall):.2f}",
        f"{middle(other.wall):.2f}",
        f"{middle(one.wall) / middle(other.wall):.2f}",
        f"{middle(one.cpu) / middle(other.cpu):.2f}",
        f"{middle(one.memory) / middle(other.memory):.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capture", type=Path)
    parser.add_argument("--packets", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    options = parser.parse_args()
    program = shutil.which("sharkstat", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program, "install sharkstat first: script/bootstrap"
    with tempfile.TemporaryDirectory() as folder:
        capture = options.capture
        if capture is None:
            capture = Path(folder) / "made.pcap"
            make_capture.write(capture, options.packets)
            Path(folder).chmod(0o755)

        def run(*requests: str) -> list[str]:
            return [program, "run", str(capture), *(w for r in requests for w in ("-z", r)), "--output", "/dev/null"]

        rows: list[list[object]] = []
        for request, own in PAIRS:
            tshark = ["tshark", "-q", "-n", "-r", str(capture), "-z", own]
            rows.append([request, own, *ratio(capture, run(request), tshark, options.rounds, options.core), "1.5"])
            print(*rows[-1], file=sys.stderr, flush=True)
        rows.append(
            [
                "ten declared in one run",
                TEN[0],
                *ratio(capture, run(*TEN), run(TEN[0]), options.rounds, options.core),
                "2.5",
            ]
        )
    headings = ["sharkstat", "beside", "s", "s", "wall ratio", "CPU ratio", "memory ratio", "goal"]
    print(tabulate(rows, headings, disable_numparse=True))


if __name__ == "__main__":
    main()
