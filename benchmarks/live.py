"""What share of packets is lost at which load: tshark -z and sharkstat in turn, over veth in a namespace of its own.

    sudo python benchmarks/live.py [PACKETS_A_SECOND ...]

The senders are as fast as the machine lets them: the load that was reached is in the first column.
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
SECONDS = 3.0
SENDER = """
import socket, sys, time
rate, seconds, port = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out.connect(("192.0.2.2", port))
begin, sent = time.monotonic(), 0
while (now := time.monotonic() - begin) < seconds:
    due = int(now * rate)
    while sent < due and time.monotonic() - begin < seconds:
        for _ in range(min(100, due - sent)):
            out.send(b"x" * 100)
            sent += 1
    time.sleep(0.001)
print(sent)
"""
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


def measure(name: str, rate: int) -> tuple[int, int]:
    """How many packets were sent, and how many it counted."""
    program = subprocess.Popen([*INSIDE, *COMMANDS[name]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    time.sleep(3)
    senders = [
        subprocess.Popen(
            [*INSIDE, sys.executable, "-c", SENDER, str(rate / 2), str(SECONDS), str(port)], stdout=subprocess.PIPE
        )
        for port in (9, 10)
    ]
    sent = sum(int(sender.communicate()[0]) for sender in senders)
    time.sleep(1)
    program.send_signal(signal.SIGINT)
    out, _ = program.communicate(timeout=120)
    return sent, counted(name, out)


def main() -> None:
    """Print a line for each load and program."""
    subprocess.run(["sh", "-ec", CABLE], check=True)
    try:
        print(f"{'packets/s':>10}  {'program':<10}  {'sent':>9}  {'lost':>7}")
        for rate in map(int, sys.argv[1:] or (50_000, 100_000, 200_000, 400_000)):
            for name in COMMANDS:
                sent, seen = measure(name, rate)
                print(f"{sent / SECONDS:>10,.0f}  {name:<10}  {sent:>9,}  {100 - 100 * seen / sent:>6.2f}%", flush=True)
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=False)


if __name__ == "__main__":
    main()
