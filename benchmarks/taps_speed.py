"""Our own taps against tshark's nearest statistic (tshark -q -n -z), side by side in one run; and all of them at once.

    python benchmarks/taps_speed.py                  # makes a capture of 150,000 packets in a temporary folder
    python benchmarks/taps_speed.py --capture big.pcap --rounds 5 --only apps
    python benchmarks/taps_speed.py --kind dns --only dns,names     # on traffic of one kind

Every round runs sharkstat and tshark in turn on one core; ratios are of the medians of the processor's time, wall
time beside it. The goals: 1.6 times tshark for each tap, and for all in one run 4 times the median of one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import make_capture
from speed import Measured, measure
from tabulate import tabulate

NEAREST = {
    "tcp,health": "conv,tcp",
    "tcp,servers": "conv,tcp",
    "tcp,connections": "conv,tcp",
    "apps": "io,phs",
    "talkers": "endpoints,ip",
    "talkers,every=10s": "endpoints,ip",
    # The one statistic of tshark's own that reads the same fields.
    "latency": "io,stat,0,AVG(dns.time)dns.time,AVG(http.time)http.time",
    "loss": "rtp,streams",
    "dns,names": "dns,tree",
    "http,requests": "http_req,tree",
    "tls,servers": "conv,tcp,tls",
    "quic,servers": "conv,udp,quic",
    "arp,hosts": "conv,eth,arp",
    "dhcp,leases": "dhcp,stat",
}
GOAL, GOAL_TOGETHER = 1.6, 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--capture", type=Path)
    source.add_argument("--kind", choices=list(make_capture.KINDS), help="a capture of nothing but these conversations")
    parser.add_argument("--packets", type=int, default=150_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--only", action="append", help="a request; repeat for more")
    options = parser.parse_args()
    program = shutil.which("sharkstat", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program, "install sharkstat first: script/bootstrap"
    wanted = [request for request in NEAREST if not options.only or request in options.only]
    with tempfile.TemporaryDirectory() as folder:
        capture = options.capture
        if capture is None:
            capture = Path(folder) / "made.pcap"
            make_capture.write(capture, options.packets, kind=options.kind)
            Path(folder).chmod(0o755)
        ours = {request: Measured() for request in wanted}
        theirs = {request: Measured() for request in wanted}
        together = Measured()
        every_tap = [request for request in wanted if "=" not in request]
        decode = ["-d", "udp.port==5004,rtp"] if options.kind == "rtp" else []
        run = [program, "run", str(capture), *decode, "--output", "/dev/null"]
        tshark = ["tshark", "-q", "-n", "-r", str(capture), *decode]
        for _ in range(options.rounds):
            for request in wanted:
                measure([*run, "-z", request], ours[request], [options.core])
                measure([*tshark, "-z", NEAREST[request]], theirs[request], [options.core])
            measure([*run, *(part for request in every_tap for part in ("-z", request))], together, [options.core])
    middle = statistics.median
    rows = []
    for request in wanted:
        cpu, wall = (middle(getattr(ours[request], k)) / middle(getattr(theirs[request], k)) for k in ("cpu", "wall"))
        met = "met" if cpu <= GOAL else "NOT MET"
        memory = middle(ours[request].memory) / middle(theirs[request].memory)
        rows.append([request, NEAREST[request], *(f"{n:.2f}" for n in (cpu, wall)), f"{GOAL}", met, f"{memory:.2f}"])
    for name, single in (("one tshark", theirs), ("one of them", ours)):
        cpu, wall = (
            middle(getattr(together, k)) / middle([middle(getattr(found, k)) for found in single.values()])
            for k in ("cpu", "wall")
        )
        met = "met" if cpu <= GOAL_TOGETHER else "NOT MET"
        rows.append(
            [f"all {len(every_tap)} in one run", name, f"{cpu:.2f}", f"{wall:.2f}", f"{GOAL_TOGETHER}", met, ""]
        )
    headings = ["tap", "beside", "CPU ratio", "wall ratio", "goal", "", "memory ratio"]
    print(tabulate(rows, headings, disable_numparse=True))


if __name__ == "__main__":
    main()
