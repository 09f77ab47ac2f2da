"""sharkstat on all cores beside tshark's own -z: the goals for a mix of real captures and for a generated capture.

    python benchmarks/goals.py --mix ../shared/captures     # makes both captures in a temporary folder
    python benchmarks/goals.py --capture any.pcap           # any capture, with the goals of the mix
    python benchmarks/goals.py --capture made.pcap --generated --only http_req,tree --only story

Each round runs everything in turn; ratios are medians over the rounds of each round's own ratio. Memory is the largest
sum of the resident sets of all processes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import make_capture
import mix
from speed import Measured, measure
from tabulate import tabulate

HEADERS = ("io,stat,1,tcp,udp", "conv,ip", "conv,tcp", "endpoints,ip")
TREES = ("http,tree", "http_req,tree", "http_srv,tree")
STORY = ("io,stat,10,tcp,udp", "conv,tcp", "http_req,tree")
TAPS = (
    *("tcp,health", "tcp,servers", "tcp,connections", "apps", "talkers", "latency", "loss", "dns,names"),
    *("http,requests", "tls,servers", "quic,servers", "arp,hosts", "dhcp,leases", "icmp,errors"),
)


@dataclass
class Row:
    """Requests in one run of sharkstat, beside tshark's, each in a run of its own; goals for the mix and the other."""

    name: str
    requests: Sequence[str]
    beside: Sequence[str]
    goals: tuple[float, float]
    options: Sequence[str] = ()
    cores: int | None = None


def rows_of(cores: int) -> list[Row]:
    found = []
    for request in HEADERS:
        found += [
            Row(f"{request}, Lua", [request], [request], (0.8, 0.4), ["--engine", "lua"]),
            Row(f"{request}, headers", [request], [request], (0.2, 0.2), ["--engine", "headers"]),
            Row(f"{request}, headers, one core", [request], [request], (0.3, 0.3), ["--engine", "headers"], 1),
        ]
    found += [Row(request, [request], [request], (0.9, 0.5)) for request in TREES]
    found.append(Row("the story's three", STORY, STORY, (0.4, 0.25)))
    found.append(Row("all fourteen taps", TAPS, ["conv,tcp"], (3, 2)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mix", type=Path, action="append", default=[], metavar="FOLDER")
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--capture", type=Path)
    parser.add_argument("--generated", action="store_true", help="the goals are those for the generated capture")
    parser.add_argument("--packets", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", default=[], help="a row's beginning; repeat for more")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        captures = [(given.capture, 1 if given.generated else 0)] if given.capture else []
        if given.mix:
            captures.append((Path(folder) / "mix.pcap", 0))
            mix.write(captures[-1][0], given.mix, given.copies)
        if not captures or given.mix:
            captures.append((Path(folder) / "generated.pcap", 1))
            make_capture.write(captures[-1][0], given.packets)
        for capture, which in captures:
            compare(capture, which, given.rounds, given.only)


def compare(capture: Path, which: int, rounds: int, only: Sequence[str]) -> None:
    cores = sorted(os.sched_getaffinity(0))
    program = shutil.which("sharkstat", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program, "install sharkstat first: script/bootstrap"
    rows = [row for row in rows_of(len(cores)) if not only or any(row.name.startswith(name) for name in only)]
    ours = {row.name: Measured() for row in rows}
    theirs = {name: Measured() for row in rows for name in row.beside}
    for _ in range(rounds):
        for name, measured in theirs.items():
            measure(["tshark", "-q", "-n", "-r", str(capture), "-z", name], measured, cores)
        for row in rows:
            asked = [part for request in row.requests for part in ("-z", request)]
            own = cores[: row.cores] if row.cores else cores
            command = [program, "run", str(capture), *asked, *row.options, "--jobs", str(len(own))]
            measure([*command, "--output", "/dev/null"], ours[row.name], own)
    table = []
    for row in rows:
        own, others = ours[row.name], [theirs[name] for name in row.beside]
        wall, cpu = (
            statistics.median(
                getattr(own, kind)[n] / sum(getattr(other, kind)[n] for other in others) for n in range(rounds)
            )
            for kind in ("wall", "cpu")
        )
        memory = statistics.median(own.memory) / max(statistics.median(other.memory) for other in others)
        table.append(
            (
                row.name,
                f"{sum(statistics.median(other.wall) for other in others):.2f}",
                f"{statistics.median(own.wall):.2f}",
                f"{wall:.2f}",
                f"{row.goals[which]:g}",
                f"{cpu:.2f}",
                f"{memory:.2f}",
                f"{(1.0, 0.6)[which]:g}",
            )
        )
    print(f"{'the generated capture' if which else 'the mix'}: {capture.stat().st_size / 1e6:.0f} MB")
    heads = ("", "tshark s", "sharkstat s", "wall", "goal", "processors", "memory", "goal")
    print(tabulate(table, heads, tablefmt="github", disable_numparse=True), flush=True)


if __name__ == "__main__":
    main()
