"""The overview against each statistic that it holds, in turn on one core: it is to take 1.5 times the slowest at most.

python benchmarks/overview.py                    # makes a capture of 100,000 packets in a temporary folder
python benchmarks/overview.py --capture big.pcap --rounds 5
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import make_capture
from tabulate import tabulate

from sharkstat import Registry

GOAL = 1.5


def seconds(arguments: Sequence[str]) -> float:
    """The processor's time of a command and of what it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "sharkstat.commands.cli", *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capture", type=Path, help="a capture of your own")
    parser.add_argument("--packets", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        capture = given.capture or Path(folder) / "made.pcap"
        if given.capture is None:
            make_capture.write(capture, given.packets)
        known = Registry.default(only_built_in=True).statistics.values()
        held = [(s.name, s.section) for s in known if s.section and s.by_connection != "only"]
        requests = [",".join(filter(None, (name, section.arguments))) for name, section in held]
        commands = {name: ["run", str(capture), "-z", name] for name in requests}
        commands["overview"] = ["overview", str(capture), "--jobs", "1"]
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(given.rounds):
            for name, arguments in commands.items():
                times[name].append(seconds(arguments))
    medians = {name: statistics.median(found) for name, found in times.items()}
    slowest = max(requests, key=lambda name: medians[name])
    rows = [(name, f"{time:.2f}", f"{time / medians[slowest]:.2f}") for name, time in medians.items()]
    print(tabulate(rows, headers=("", "seconds", f"of {slowest}'s"), colalign=("left", "right", "right")))
    ratio = medians["overview"] / medians[slowest]
    print(f"overview: {ratio:.2f} times the slowest, {slowest} (goal: {GOAL})")


if __name__ == "__main__":
    main()
