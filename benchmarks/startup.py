#!/usr/bin/env python3
"""What installed plugins cost a start of sharkstat: none, twenty of them, and one that is slow to load, in turn.

    python benchmarks/startup.py [ROUNDS]

The plugins are packages that `sharkstat new` makes, of all three kinds, installed by pip into a temporary folder; it
needs hatchling, as the tests do. The slow one works for a second when it is imported, and nobody asks for it. A line
for each command: processor seconds (of all its processes), medians and least, and the ratios to none; then how much a
run of sharkstat takes of tshark's own on the same small capture.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sharkstat.commands.scaffold import KINDS, make
from sharkstat.statistics.registry import Registry

PLUGINS = 20
CAPTURE = Path(__file__).resolve().parent.parent / "tests" / "data" / "dns.pcapng"
SHARKSTAT = str(Path(sys.executable).with_name("sharkstat"))
PIP = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--no-build-isolation", "--no-index"]
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
    subprocess.run([*PIP, "--target", str(site), *map(str, made)], check=True)
    return site


def slow(folder: Path) -> Path:
    """A place with one plugin that takes long to load."""
    made = make("slow-one", "packets", folder, "slow,one", Registry.default(only_built_in=True)).folder
    module = made / "slow_one.py"
    work = "import time\n\nend = time.process_time() + 1\nwhile time.process_time() < end:\n    pass\n"
    module.write_text(f"{module.read_text()}\n{work}")
    site = folder / "slow-site"
    subprocess.run([*PIP, "--target", str(site), str(made)], check=True)
    return site


def seconds(command: list[str], path: Path, cache: Path) -> tuple[float, float]:
    """Processor time, which other work on the machine changes less, and time."""
    # Python's compiled files are written and used, as they are where a user installs it.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env = {**kept, "PYTHONPATH": str(path), "XDG_CACHE_HOME": str(cache), "PYTHONPYCACHEPREFIX": str(cache / "python")}
    started = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - started


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    with tempfile.TemporaryDirectory(prefix="sharkstat-startup-") as name:
        nothing = Path(name) / "nothing"
        nothing.mkdir()
        places = {"none": nothing, "twenty": install(Path(name)), "slow": slow(Path(name))}
        print(f"{'':18}" + "".join(f"{place:>8}{'least':>8}" for place in places) + f"{'twenty':>8}{'slow':>8}")
        for title, arguments in COMMANDS.items():
            taken: dict[str, list[float]] = {place: [] for place in places}
            for turn in range(rounds + 2):
                for place, path in places.items():
                    spent, _ = seconds([SHARKSTAT, *arguments], path, Path(name) / place)
                    if turn > 1:  # the first ones fill caches
                        taken[place].append(spent)
            middle = {place: statistics.median(values) for place, values in taken.items()}
            figures = [figure for place in places for figure in (middle[place], min(taken[place]))]
            ratios = [middle[place] / middle["none"] for place in ("twenty", "slow")]
            print(f"{title:18}" + "".join(f"{figure:8.3f}" for figure in [*figures, *ratios]))
        pairs: dict[str, list[tuple[float, float]]] = {"sharkstat": [], "tshark": []}
        for _ in range(rounds):
            for program, command in {
                "sharkstat": [SHARKSTAT, "run", str(CAPTURE), "-z", "conv,udp"],
                "tshark": ["tshark", "-q", "-n", "-r", str(CAPTURE), "-z", "conv,udp"],
            }.items():
                pairs[program].append(seconds(command, nothing, Path(name) / "none"))
        for at, what in ((0, "processor"), (1, "time")):
            ours, its = (statistics.median(pair[at] for pair in pairs[program]) for program in pairs)
            print(f"run / tshark, {what}: {ours:.3f} / {its:.3f} = {ours / its:.2f}")


if __name__ == "__main__":
    main()
