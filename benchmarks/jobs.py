"""One statistic in tshark itself, in one process of sharkstat and in several (--jobs), in turn, on one capture.

python benchmarks/jobs.py mix.pcap -z conv,ip -z io,stat,1,tcp,udp --jobs 2
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

STATISTICS = ("io,stat,1,tcp,udp", "conv,ip", "conv,tcp", "endpoints,ip")


def seconds(command: Sequence[str]) -> tuple[float, float]:
    """Wall time, and the processors' time of a command and of what it starts."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - begin
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture", type=Path)
    parser.add_argument("-z", dest="statistics", action="append", metavar="NAME")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rows = []
    for name in given.statistics or STATISTICS:
        own = [sys.executable, "-m", "sharkstat.commands.cli", "run", str(given.capture), "-z", name, "--format", "csv"]
        ways = {
            "tshark": ["tshark", "-n", "-q", "-r", str(given.capture), "-z", name],
            "jobs 1": [*own, "--jobs", "1"],
            f"jobs {given.jobs}": [*own, "--jobs", str(given.jobs)],
        }
        taken = [{way: seconds(command) for way, command in ways.items()} for _ in range(given.rounds)]
        for way in ways:
            wall, spent = (statistics.median(one[way][at] for one in taken) for at in (0, 1))
            of_tshark = statistics.median(one[way][0] / one["tshark"][0] for one in taken)
            rows.append((name, way, f"{wall:.2f} s", f"{spent:.2f} s", f"{of_tshark:.2f}"))
    print(tabulate(rows, ["Statistic", "Run", "Wall", "Processors", "Wall, of tshark's"], tablefmt="github"))


if __name__ == "__main__":
    main()
