#!/usr/bin/env python3
"""What installed plugins cost a start of sharkstat: none and twenty of them, in turn, in one run.

    python benchmarks/startup.py [ROUNDS]

The plugins are packages that `sharkstat new` makes, of all three kinds, installed by pip into a temporary folder; it
needs hatchling, as the tests do. A line for each command: processor seconds (of all its processes) with none and with
twenty, medians and least, and the ratio of the medians.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from sharkstat.commands.scaffold import KINDS, make
from sharkstat.statistics.registry import Registry

PLUGINS = 20
CAPTURE = Path(__file__).resolve().parent.parent / "tests" / "data" / "dns.pcapng"
COMMANDS = {
    "--help": ["--help"],
    "run --help": ["run", "--help"],
    "list": ["list"],
    "run -z conv,udp": ["run", str(CAPTURE), "-z", "conv,udp"],
}


def install(folder: Path) -> Path:
    """Twenty plugins in a folder; which."""
    registry = Registry.default(only_built_in=True)
    made = [make(f"plugin-{n}", KINDS[n % 3], folder, f"plugin,{n}", registry).folder for n in range(PLUGINS)]
    site = folder / "site"
    command = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(site), *map(str, made)], check=True)
    return site


def seconds(arguments: list[str], path: Path) -> float:
    """Processor time, since other work on the machine hardly changes it."""
    process = subprocess.Popen(
        [Path(sys.executable).with_name("sharkstat"), *arguments],
        env={**os.environ, "PYTHONPATH": str(path)},
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"sharkstat {' '.join(arguments)} ended with status {process.returncode}")
    return used.ru_utime + used.ru_stime


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    with tempfile.TemporaryDirectory(prefix="sharkstat-startup-") as name:
        nothing = Path(name) / "nothing"
        nothing.mkdir()
        places = {"none": nothing, "twenty": install(Path(name))}
        print(f"{'':18}{'none':>8}{'least':>8}{'twenty':>8}{'least':>8}{'ratio':>7}")
        for title, arguments in COMMANDS.items():
            taken: dict[str, list[float]] = {place: [] for place in places}
            for turn in range(rounds + 1):
                for place, path in places.items():
                    spent = seconds(arguments, path)
                    if turn:  # the first one fills caches
                        taken[place].append(spent)
            figures = [f(taken[place]) for place in places for f in (statistics.median, min)]
            print(f"{title:18}" + "".join(f"{figure:8.3f}" for figure in figures) + f"{figures[2] / figures[0]:7.2f}")


if __name__ == "__main__":
    main()
