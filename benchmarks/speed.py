"""Time and memory of sharkstat against tshark's own -z, side by side in one run.

Every pair is run in turn on one core (A B A B ...), and the ratios are of the medians. Memory is the
largest sum of the resident sets of a command's processes, sampled.

    python benchmarks/speed.py                 # makes a capture of 500,000 packets in a temporary folder
    python benchmarks/speed.py --capture big.pcap --rounds 5
    python benchmarks/speed.py --only conv,tcp
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import make_capture
from tabulate import tabulate

INCOMPLETE = 6  # what a run ends with that has results, but not of everything
STORY = ("io,stat,10,tcp,udp", "conv,tcp", "http_req,tree")
# What each may cost at most, in tshark's own time.
GOALS = {
    "io,stat,10": 0.8,
    "io,stat,10,tcp,udp": 0.8,
    **{f"{family},{kind}": 0.8 for family in ("conv", "endpoints") for kind in ("eth", "ip", "ipv6", "tcp", "udp")},
    "http,tree": 1.2,
    "http_req,tree": 1.2,
    "http_srv,tree": 1.2,
}


@dataclass
class Measured:
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)


def family_memory(root: int) -> int:
    """The resident bytes of a process and all below it; what two of them share counts twice."""
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (OSError, IndexError):
            continue
    return total * os.sysconf("SC_PAGE_SIZE")


def measure(command: Sequence[str], result: Measured, cores: Iterable[int]) -> None:
    """Run a command on these cores and note what it took."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    peak = 0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        peak = max(peak, family_memory(process.pid))
        time.sleep(0.02)
    if status and os.waitstatus_to_exitcode(status) != INCOMPLETE:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    result.wall.append(time.perf_counter() - started)
    result.cpu.append(usage.ru_utime + usage.ru_stime)
    result.memory.append(peak)


def compare(capture: Path, requests: Sequence[str], rounds: int, core: int) -> list[object]:
    """One row: the requests in one sharkstat run against tshark, one run each."""
    ours, theirs = Measured(), Measured()
    program = shutil.which("sharkstat", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program, "install sharkstat first: script/bootstrap"
    asked = [part for request in requests for part in ("-z", request)]
    for _ in range(rounds):
        measure([program, "run", str(capture), *asked, "--output", "/dev/null"], ours, [core])
        sums = Measured()
        for request in requests:
            measure(["tshark", "-q", "-n", "-r", str(capture), "-z", request], sums, [core])
        theirs.wall.append(sum(sums.wall))
        theirs.cpu.append(sum(sums.cpu))
        theirs.memory.append(max(sums.memory))
    middle = statistics.median
    goal = 0.6 if len(requests) > 1 else GOALS[requests[0]]
    ratio = middle(ours.wall) / middle(theirs.wall)
    return [
        " + ".join(requests),
        f"{middle(ours.wall):.2f}",
        f"{middle(theirs.wall):.2f}",
        f"{ratio:.2f}",
        f"{goal:.1f}",
        "met" if ratio <= goal else "NOT MET",
        f"{middle(ours.cpu) / middle(theirs.cpu):.2f}",
        f"{middle(ours.memory) / 1e6:.0f}",
        f"{middle(theirs.memory) / 1e6:.0f}",
        f"{middle(ours.memory) / middle(theirs.memory):.2f}",
    ]


def help_time(rounds: int, core: int) -> str:
    result = Measured()
    for _ in range(max(rounds, 5)):
        measure([str(Path(sys.executable).parent / "sharkstat"), "--help"], result, [core])
    return f"sharkstat --help: {statistics.median(result.wall):.3f} s (goal 0.25)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capture", type=Path)
    parser.add_argument("--packets", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--only", action="append", help="a request, or `story`; repeat for more")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        capture = options.capture
        if capture is None:
            capture = Path(folder) / "made.pcap"
            make_capture.write(capture, options.packets)
            Path(folder).chmod(0o755)
        wanted = options.only or [*GOALS, "story"]
        rows = []
        for name in wanted:
            rows.append(compare(capture, STORY if name == "story" else (name,), options.rounds, options.core))
            print(rows[-1][0], rows[-1][3], file=sys.stderr, flush=True)
    headings = [
        "requests",
        "sharkstat s",
        "tshark s",
        "ratio",
        "goal",
        "",
        "CPU ratio",
        "sharkstat MB",
        "tshark MB",
        "ratio",
    ]
    print(
        tabulate(
            rows,
            headings,
            disable_numparse=True,
            colalign=["left"] + ["right"] * 4 + ["left"] + ["right"] * 4,
        )
    )
    print(help_time(options.rounds, options.core))


if __name__ == "__main__":
    main()
