"""What share of packets is lost at which load: tshark -z and sharkstat in turn, over veth in a namespace of its own.

    sudo python benchmarks/live.py [PACKETS_A_SECOND ...]

sender.py offers the load; what it reached is in the second column.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

NAMESPACE = f"sharkstatload{os.getpid()}"
INSIDE = ["ip", "netns", "exec", NAMESPACE]
SECONDS = 5.0
SENDER = Path(__file__).with_name("sender.py")
CABLE = f"""
ip netns add {NAMESPACE}
ip -n {NAMESPACE} link add left type veth peer name right
for end in left right lo; do ip -n {NAMESPACE} link set $end up; done
ip -n {NAMESPACE} address add 192.0.2.1/24 dev left
ip -n {NAMESPACE} neighbour add 192.0.2.2 lladdr 02:00:00:00:00:02 dev left
"""
SHARKSTAT = str(Path(sys.executable).with_name("sharkstat"))
COMMANDS = {
    "tshark -z": ["tshark", "-q", "-n", "-i", "right", "-f", "udp", "-z", "io,stat,0", "-z", "conv,udp"],
    "sharkstat": [
        *(SHARKSTAT, "run", "-i", "right", "-f", "udp", "-z", "io,stat,0", "-z", "conv,udp"),
        *("--format", "json", "--max-drop", "100"),
    ],
}


def counted(name: str, out: str) -> int:
    """How many frames it says that there were."""
    if name == "sharkstat":
        rows = json.loads(out)["tables"][0]["rows"]
        return int(rows[0]["frames"]) if rows else 0
    found = re.search(r"\|\s+[\d.]+ <> \S+\s+\|\s+(\d+) \|", out)
    return int(found[1]) if found else 0


def measure(name: str, rate: int) -> tuple[int, float, int]:
    """How many packets were sent, in how many seconds, and how many it counted."""
    program = subprocess.Popen([*INSIDE, *COMMANDS[name]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    time.sleep(3)
    sender = [*INSIDE, sys.executable, str(SENDER), "left", str(rate), str(SECONDS)]
    words = subprocess.run(sender, stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    sent, took = int(words[0]), float(words[1])
    time.sleep(1)
    program.send_signal(signal.SIGINT)
    out, _ = program.communicate(timeout=120)
    return sent, took, counted(name, out)


def main() -> None:
    """Print a line for each load and program."""
    subprocess.run(["sh", "-ec", CABLE], check=True)
    try:
        print(f"{'wanted':>9}  {'offered':>9}  {'program':<10}  {'sent':>9}  {'lost':>7}")
        for rate in map(int, sys.argv[1:] or (50_000, 100_000, 200_000, 400_000)):
            for name in COMMANDS:
                sent, took, seen = measure(name, rate)
                lost = 100 - 100 * seen / sent
                print(f"{rate:>9,}  {sent / took:>9,.0f}  {name:<10}  {sent:>9,}  {lost:>6.2f}%", flush=True)
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=False)


if __name__ == "__main__":
    main()
