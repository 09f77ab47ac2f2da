"""Live capture, in a network namespace of the test's own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.command import ended, sharkstat, started

pytestmark = pytest.mark.xdist_group("live")  # one cable for all

NAMESPACE = f"sharkstat{os.getpid()}"
INSIDE = ["ip", "netns", "exec", NAMESPACE]
# Two ends of a cable in one namespace; what is sent on `left` is heard on `right`. IPv6 is off: it speaks by itself.
CABLE = f"""
ip netns add {NAMESPACE}
for conf in all default; do
    ip netns exec {NAMESPACE} sh -c "echo 1 >/proc/sys/net/ipv6/conf/$conf/disable_ipv6" 2>/dev/null || :
done
ip -n {NAMESPACE} link add left type veth peer name right
for end in left right lo; do
    ip -n {NAMESPACE} link set $end up
done
ip -n {NAMESPACE} address add 192.0.2.1/24 dev left
ip -n {NAMESPACE} neighbour add 192.0.2.2 lladdr 02:00:00:00:00:02 dev left
"""
SEND = """
import socket, sys, time
count, payload, port, pause = int(sys.argv[1]), bytes(int(sys.argv[2])), int(sys.argv[3]), float(sys.argv[4])
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(count):
    out.sendto(payload, ("192.0.2.2", port))
    time.sleep(pause)
"""


@pytest.fixture(scope="module", autouse=True)
def cable() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("live capture needs root: NOT TESTED HERE")
    made = subprocess.run(["sh", "-ec", CABLE], capture_output=True, text=True, check=False)
    try:
        if made.returncode:
            pytest.skip(f"no network namespace can be made, live capture is NOT TESTED HERE: {made.stderr.strip()}")
        yield
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], capture_output=True, check=False)


def send(count: int, size: int = 100, port: int = 9, pause: float = 0.001) -> None:
    subprocess.run([*INSIDE, "python3", "-c", SEND, *map(str, (count, size, port, pause))], check=True)


@contextmanager
def capturing(
    *arguments: object, interface: str = "right", command: str = "run", said: bytes = b""
) -> Iterator[subprocess.Popen[bytes]]:
    """A run that has begun to capture."""
    process = started(command, "-i", interface, *arguments, under=INSIDE, bufsize=0)
    try:
        assert process.stderr is not None
        first = process.stderr.readline()  # unbuffered: `ended` gets what follows
        assert re.fullmatch(said or CAPTURES, first), first + process.stderr.read()
        yield process
    finally:
        process.kill()
        process.wait()


CAPTURES = rb"sharkstat: capturing on [\w, ]+, Ctrl-C for results \(packets from \d\d:\d\d:\d\d\.\d{3} UTC on\)\n"


def frames_of(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(text)["tables"]
    return found


STATISTICS = ["-z", "io,stat,0", "-z", "endpoints,udp", "--format", "json"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("engine", ["lua", "packets"])
def test_ctrl_c_ends_the_capture_and_gives_its_results(number: int, engine: str) -> None:
    with capturing(*STATISTICS, "--engine", engine) as process:
        send(20)
        time.sleep(0.7)
        process.send_signal(number)
        done = ended(process)
    assert done.returncode == 0, done.stderr
    frames, ends = frames_of(done.stdout)
    assert [(row["frames"], row["bytes"]) for row in frames["rows"]] == [(20, 20 * 142)]
    assert {row["address"]: row["tx_packets"] for row in ends["rows"]} == {"192.0.2.1": 20, "192.0.2.2": 0}
    assert frames["complete"]
    assert (frames["read"]["captured"], frames["read"]["dropped"]) == (20, 0)
    assert done.stderr == "sharkstat: right: 20 packets captured, 0 dropped\n"


def test_an_overview_of_what_passes() -> None:
    with capturing("-a", "duration:2", command="overview") as process:
        send(20, port=7777)
        send(5, size=300, port=53)
        done = ended(process)
    assert (done.returncode, done.stderr) == (0, "sharkstat: right: 25 packets captured, 0 dropped\n")
    page = done.stdout
    assert page.startswith("right\n") and "25 packets, 4.55 kB" in page and "none dropped" in page
    [services] = re.findall(r"\nServices .*\n((?:\w.*\n)+)", page)
    found = re.findall(r"^(\S+) +(?:.* )?(\S+:\d+) +[\d.]+ kB +(\d+) ", services, re.MULTILINE)
    assert found == [("udp", "192.0.2.2:7777", "1"), ("dns", "192.0.2.2:53", "1")], page
    [hosts] = re.findall(r"\nHosts .*\n((?:\w.*\n)+)", page)
    assert {line.split()[0] for line in hosts.splitlines()} == {"192.0.2.1", "192.0.2.2"}


def test_it_ends_after_the_duration() -> None:
    with capturing("-a", "duration:2", *STATISTICS) as process:
        send(5)
        done = ended(process)
    assert (done.returncode, done.stderr) == (0, "sharkstat: right: 5 packets captured, 0 dropped\n")
    assert frames_of(done.stdout)[0]["rows"][0]["frames"] == 5


@pytest.mark.parametrize("condition", [["-a", "packets:4"], ["-c", "4"]])
def test_it_ends_after_so_many_packets(condition: list[str]) -> None:
    with capturing(*condition, *STATISTICS) as process:
        send(9)
        done = ended(process)
    assert done.returncode == 0
    assert frames_of(done.stdout)[0]["rows"][0]["frames"] == 4
    assert "right: 4 packets captured" in done.stderr


def test_the_capture_filter_limits_what_is_captured() -> None:
    with capturing("-f", "udp dst port 7", "-s", "60", "-p", "-c", "6", *STATISTICS) as process:
        send(5, port=9)
        send(6, port=7, size=500)
        done = ended(process)
    frames, ends = frames_of(done.stdout)
    # -s cuts what is kept of a packet, not its length.
    assert [(row["frames"], row["bytes"]) for row in frames["rows"]] == [(6, 6 * 542)]
    assert {row["port"] for row in ends["rows"] if row["address"] == "192.0.2.2"} == {7}
    assert frames["read"]["capture_filter"] == "udp dst port 7"


def test_a_display_filter_counts_fewer_than_are_captured() -> None:
    with capturing("-Y", "udp.dstport == 7", "-c", "8", *STATISTICS) as process:
        send(5, port=9)
        send(3, port=7)
        done = ended(process)
    frames, _ = frames_of(done.stdout)
    assert (frames["rows"][0]["frames"], frames["read"]["packets"], frames["read"]["captured"]) == (3, 3, 8)
    assert "right: 8 packets captured, 0 dropped" in done.stderr


def test_several_interfaces_are_one_capture() -> None:
    with capturing("-i", "left", "-c", "20", *STATISTICS) as process:
        send(10)
        done = ended(process)
    assert frames_of(done.stdout)[0]["rows"][0]["frames"] == 20
    assert "right, left: 20 packets captured, 0 dropped" in done.stderr


def test_nothing_captured_is_an_empty_table() -> None:
    done = sharkstat("run", "-i", "right", "-a", "duration:1", "-z", "conv,ip", under=INSIDE)
    assert (done.returncode, done.stdout) == (0, "IPv4 conversations (conv,ip)\nno matching packets\n")
    first, _, rest = done.stderr.partition("\n")
    assert re.fullmatch(CAPTURES.decode(), first + "\n")
    assert rest == "sharkstat: right: 0 packets captured, 0 dropped\n"


def test_an_interface_that_vanishes_leaves_incomplete_tables() -> None:
    subprocess.run(["ip", "-n", NAMESPACE, "link", "add", "gone", "type", "veth", "peer", "far"], check=True)
    for end in ("gone", "far"):
        subprocess.run(["ip", "-n", NAMESPACE, "link", "set", end, "up"], check=True)
    with capturing("-z", "io,stat,0", interface="gone") as process:
        subprocess.run([*INSIDE, "ip", "address", "add", "198.51.100.1/24", "dev", "gone"], check=True)
        text = SEND.replace("192.0.2.2", "198.51.100.255").replace("for _", "out.setsockopt(1, 6, 1)\nfor _")
        subprocess.run([*INSIDE, "python3", "-c", text, "3", "9", "9", "0"], check=True)
        time.sleep(0.7)
        subprocess.run(["ip", "-n", NAMESPACE, "link", "del", "gone"], check=True)
        done = ended(process)
    assert done.returncode == 6, done.stderr
    assert "INCOMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["-i", "nosuch0"], 4, r"no such interface: nosuch0 \(`dumpcap -D` lists them\)"),
        (["-i", "lo", "-f", "dst hst"], 2, "-f: invalid capture filter 'dst hst': .*hst"),
        (["-i", "lo", "-a", "foo:1"], 2, "-a 'foo:1': give duration:SECONDS"),
        (["-i", "lo", "-a", "duration:x"], 2, "-a 'duration:x': give duration:SECONDS"),
        (["-i", "lo", "-a", "packets:0"], 2, "dumpcap rejected the options: The specified packet .*count is zero"),
        (["-i", "lo", "-2"], 2, "-2 needs a file, since it reads twice: save the capture first"),
        (["-i", "lo", "-Y", "no such"], 2, '-Y: invalid display filter "no such"'),
    ],
)
def test_what_cannot_be_captured_is_told_in_one_line(arguments: list[str], status: int, told: str) -> None:
    done = sharkstat("run", *arguments, "-z", "conv,ip", under=INSIDE)
    assert done.returncode == status
    said = re.sub(f"^{CAPTURES.decode()}", "", done.stderr)  # tshark reads -Y when dumpcap captures already
    assert re.fullmatch(f"sharkstat: {told}.*\n", said), done.stderr
    assert done.stdout == ""


def test_nothing_is_left_running() -> None:
    def programs() -> set[str]:
        inside = subprocess.run(["ip", "netns", "pids", NAMESPACE], capture_output=True, text=True, check=True)
        return set(inside.stdout.split())

    with capturing("-z", "conv,ip") as process:
        assert programs()
        process.send_signal(signal.SIGHUP)
        ended(process)
    assert programs() == set()


@pytest.mark.parametrize("interfaces", [("any",), ("right", "left")])
def test_what_is_captured_on_several_interfaces_counts_once(interfaces: tuple[str, ...]) -> None:
    """What is sent on one end of the cable is captured there and on the other."""
    first, *others = interfaces
    more = [word for other in others for word in ("-i", other)]
    tables = []
    for options in ([], ["--dedup", "--reorder"]):
        with capturing(*more, *options, "-f", "udp port 9", *STATISTICS, interface=first) as process:
            send(20, pause=0.005)
            time.sleep(0.7)
            process.send_signal(signal.SIGINT)
            done = ended(process)
        assert done.returncode == 0, done.stderr
        tables.append(frames_of(done.stdout)[0])
    twice, once = tables
    assert [table["rows"][0]["frames"] for table in tables] == [40, 20]
    assert (once["read"]["duplicates"], once["read"]["out_of_order"]) == (20, 0)
    if len(interfaces) > 1:
        return  # the datagrams are all the same, and dumpcap writes many of one interface before those of the other
    assert twice["read"]["duplicates"] == 20
    assert twice["warnings"][0].startswith("20 of 40 captured packets (50.0 %) are duplicates")
