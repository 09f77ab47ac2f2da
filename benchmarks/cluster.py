"""A plan on paper: how long a cluster of so many one-core workers takes for many files, from the time of each task.

The capture is cut into files. Each task that a cluster would run is run here, one after the other, and its CPU time
(its tshark's included) is measured. Then the tasks are dealt out to the workers as the scheduler would: each goes to
whoever is free first, and a stage begins when the one before has ended. Dask's own time is counted for every task, and
the bytes that move between workers as a network of 10 Gbit/s moves them.

"Linear" is the time of one `sharkstat run --jobs 1` on one core, divided by the number of workers.

    python benchmarks/cluster.py big.pcap --files 1000 -z conv,tcp -z io,stat,1,tcp,udp -z http_req,tree
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

import sharkstat
from sharkstat.running.cluster.dealing import deal_out
from sharkstat.running.cluster.looking import look
from sharkstat.running.cluster.parts import deal
from sharkstat.running.cluster.reading import GROUPS
from sharkstat.running.cluster.work import Order, Plugins, read_shard
from sharkstat.running.plan import make_plan
from sharkstat.statistics.registry import Registry

STATISTICS = ("conv,tcp", "io,stat,1,tcp,udp", "http_req,tree")
OF_DASK = 0.001  # seconds that the scheduler takes for a task, as its documentation says
NETWORK = 10e9 / 8  # bytes a second


def spent() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def timed(function: Callable[..., Any], *given: Any) -> tuple[float, Any]:
    before = spent()
    result = function(*given)
    return spent() - before, result


def makespan(tasks: Sequence[float], workers: int) -> float:
    """When the last of them ends, if each goes to whoever is free first."""
    free = [0.0] * workers
    for task in tasks:
        free[free.index(min(free))] += task
    return max(free)


def cut(capture: Path, count: int, folder: Path) -> list[str]:
    """The capture as so many files, one after the other in time."""
    packets = int(subprocess.check_output(["capinfos", "-T", "-r", "-M", "-c", capture]).split()[-1])
    each = -(-packets // count)
    subprocess.run(["editcap", "-F", "pcap", "-c", str(each), capture, folder / "ring.pcap"], check=True)
    return sorted(map(str, folder.iterdir()))


def on_paper(files: Sequence[str], requests: Sequence[str], workers: int) -> dict[str, Any]:
    """The seconds of each stage on so many workers, and of all."""
    registry = Registry.default()
    plan = make_plan(sharkstat.Source(files=tuple(files)), requests, "", registry)
    order = Order.of(plan, Plugins())
    order.plan()  # a worker loads plugins once
    numbered, count = list(enumerate(files)), min(len(files), GROUPS * workers)
    groups = [numbered[len(files) * at // count : len(files) * (at + 1) // count] for at in range(count)]
    looked = [timed(look, group) for group in groups]
    alone, dealing = timed(deal_out, [one.summary for _, one in looked], workers, 1 << 30, plan.is_lean)
    overview = dealing.overview
    if overview.problem:
        raise SystemExit(f"read in one piece: {overview.problem}")
    dealt = [timed(deal, one, dealing) for _, one in looked]
    protocols = sorted({c.numbering for request in plan.requests for c in request.columns} - {""})
    read, given, moved = [], [], 0
    for number in range(overview.shards):
        mine = [one[number] for _, one in dealt]
        size = sum(part.data.nbytes for group in mine for part in group.parts)
        moved += size
        job = (("since", str(overview.since)), ("shard", "plain" if number else "rest", *protocols))
        seconds, one = timed(read_shard, order, mine, dealing.header, job, overview.cut, True, lambda: True)
        if one.problem is not None:
            raise one.problem
        packing, _ = timed(lambda one=one: pickle.loads(pickle.dumps(one)))
        read.append(seconds)
        given.append((packing, one))
    tasks = 3 * len(groups) + 3 + overview.shards * (len(groups) + 1)
    stages = {
        "look": makespan([seconds for seconds, _ in looked], workers),
        "deal": makespan([seconds for seconds, _ in dealt], workers),
        "move": moved * (workers - 1) / workers / workers / NETWORK,
        "read": makespan(sorted(read, reverse=True), workers),
        "join": alone + sum(packing for packing, _ in given),
        "dask": tasks * OF_DASK,
    }
    return {**stages, "all": sum(stages.values()), "rest": overview.rest / overview.packets, "shards": read}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capture", type=Path)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("-z", dest="statistics", action="append", metavar="NAME")
    given = parser.parse_args()
    requests = given.statistics or list(STATISTICS)
    with tempfile.TemporaryDirectory() as folder:
        files = cut(given.capture, given.files, Path(folder))
        command = [sys.executable, "-m", "sharkstat.commands.cli", "run", *files, "--jobs", "1", "--output", os.devnull]
        command += [word for name in requests for word in ("-z", name)]
        begin = time.monotonic()
        one, _ = timed(
            lambda: subprocess.run([*command, "--format", "csv", "--force"], check=True, capture_output=True)
        )
        print(
            f"{len(files):,} files, --jobs 1: {one:.2f} s of CPU time, {time.monotonic() - begin:.2f} s",
            file=sys.stderr,
        )
        rows = []
        for workers in given.workers:
            found = on_paper(files, requests, workers)
            print([f"{seconds:.2f}" for seconds in found["shards"]], file=sys.stderr)
            stages = [f"{found[name]:.2f}" for name in ("look", "deal", "move", "read", "join", "dask", "all")]
            rows.append((workers, *stages, f"{one / found['all'] / workers:.2f}", f"{found['rest']:.0%}"))
    print(tabulate(rows, ["Workers", "look", "deal", "move", "read", "join", "dask", "all (s)", "of linear", "rest"]))


if __name__ == "__main__":
    main()
