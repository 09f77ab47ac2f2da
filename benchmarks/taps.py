"""What the taps cost plain tshark when they are installed and not asked for, side by side in one run.

Every pair is run in turn on one core (A B A B ...): tshark with a plugin folder that holds the taps, and with none; the
ratios are of the medians. Start-up is that of a capture of no packets.

    python benchmarks/taps.py
    python benchmarks/taps.py --rounds 41 --packets 200000 --tap mine.lua
"""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import make_capture
from tabulate import tabulate

from sharkstat.statistics.installed_taps import Installation, shipped

GOAL = 1.05


def seconds(command: Sequence[str], home: Path, core: int) -> tuple[float, float]:
    """Wall and processor time of the command, as a user who may load Lua."""
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        cwd="/",
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime


def compare(what: str, command: Sequence[str], homes: tuple[Path, Path], rounds: int, core: int) -> list[str]:
    with_taps: list[tuple[float, float]] = []
    without: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        pair = seconds(command, homes[0], core), seconds(command, homes[1], core)
        if number:  # the first warms up
            with_taps.append(pair[0])
            without.append(pair[1])
    wall = [statistics.median(run[0] for run in runs) for runs in (with_taps, without)]
    cpu = [statistics.median(run[1] for run in runs) for runs in (with_taps, without)]
    ratio = cpu[0] / cpu[1]
    return [
        what,
        f"{wall[0]:.3f}",
        f"{wall[1]:.3f}",
        f"{wall[0] / wall[1]:.3f}",
        f"{ratio:.3f}",
        f"{GOAL:.2f}",
        "met" if ratio <= GOAL else "NOT MET",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--tap", action="append", type=Path, default=[], help="a tap of yours, installed, too")
    options = parser.parse_args()
    tshark = shutil.which(os.environ.get("SHARKSTAT_TSHARK", "tshark"))
    assert tshark, "install tshark first: script/bootstrap"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        homes = folder / "with", folder / "without"
        for home in homes:
            home.mkdir()
        Installation(homes[0] / ".local" / "lib" / "wireshark" / "plugins").install(shipped(), options.tap)
        empty, made = folder / "empty.pcap", folder / "made.pcap"
        empty.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        make_capture.write(made, options.packets)
        read = [tshark, "-q", "-n", "-r", str(made)]
        rows = [
            compare("start-up", [tshark, "-q", "-n", "-r", str(empty)], homes, options.rounds, options.core),
            compare("nothing asked for", read, homes, max(options.rounds // 2, 3), options.core),
            compare("-z conv,tcp", [*read, "-z", "conv,tcp"], homes, max(options.rounds // 4, 3), options.core),
        ]
        count = len(list((homes[0] / ".local").rglob("*.lua")))
    print(f"{count} Lua files installed, {options.packets:,} packets")
    headings = ["", "with taps s", "without s", "ratio", "CPU ratio", "goal", ""]
    print(tabulate(rows, headings, disable_numparse=True, colalign=["left", *["right"] * 5, "left"]))


if __name__ == "__main__":
    main()
