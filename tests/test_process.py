"""--process: whose traffic it is. Programs with names of their own speak in two namespaces, and say what they did."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.command import ended, sharkstat, started

import sharkstat as library

pytestmark = pytest.mark.xdist_group("live")

HERE, THERE = f"near{os.getpid()}", f"far{os.getpid()}"
CABLE = f"""
for name in {HERE} {THERE}; do
    ip netns add $name
    ip -n $name link set lo up
done
ip -n {HERE} link add near type veth peer name far
ip -n {HERE} link set far netns {THERE}
ip -n {HERE} address add 192.0.2.1/24 dev near
ip -n {THERE} address add 192.0.2.2/24 dev far
ip -n {HERE} address add 2001:db8::1/64 dev near nodad
ip -n {THERE} address add 2001:db8::2/64 dev far nodad
ip -n {HERE} link set near up
ip -n {THERE} link set far up
ip -n {HERE} neighbour add 192.0.2.3 lladdr 02:00:00:00:00:03 dev near
"""
# With the kernel's events, where it has them; the namespace has a /sys of its own.
WITH_EVENTS = ["sh", "-c", 'mount -t tracefs none /sys/kernel/tracing 2>/dev/null; exec "$@"', "sh"]
# Each program writes the local port of every connection that it makes.
COMMON = """
import os, socket, sys, time
def tell(s): print(s.getsockname()[1], flush=True)
def connect(address, port):
    s = socket.create_connection((address, port)); tell(s); return s
"""
LISTEN = """
import threading
server = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True, backlog=100)
print("ready", flush=True)
def serve(s):
    while s.recv(65536): pass
    s.sendall(b"thanks"); s.close()
while True:
    threading.Thread(target=serve, args=(server.accept()[0],)).start()
"""
HEAR = """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", int(sys.argv[1])))
print("ready", flush=True)
while True: s.recv(65536)
"""
LONG = """
s = connect(sys.argv[1], int(sys.argv[2]))
for _ in range(12): s.sendall(b"x" * 1000); time.sleep(0.05)
s.shutdown(socket.SHUT_WR); s.recv(10)
"""
SHORT = """
for _ in range(15):
    s = connect(sys.argv[1], int(sys.argv[2])); s.sendall(b"y" * 100); s.shutdown(socket.SHUT_WR); s.recv(10); s.close()
    time.sleep(0.01)
"""
SPEAK = """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 0)); tell(s)
time.sleep(0.3)
for _ in range(30): s.sendto(b"z" * 200, (sys.argv[1], int(sys.argv[2]))); time.sleep(0.02)
"""
SHARE = """
s = connect(sys.argv[1], int(sys.argv[2]))
if os.fork() == 0:
    for _ in range(8): s.sendall(b"c" * 500); time.sleep(0.05)
    os._exit(0)
os.wait(); s.shutdown(socket.SHUT_WR); s.recv(10)
"""
ONCE = """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((sys.argv[1], 9)); tell(s); s.send(b"o" * 300)
"""
# What is no traffic of this host: a frame between two other addresses.
STRANGE = """
frame = bytes.fromhex("020000000003020000000004" "0800" "4500002400000000" "4011" "0000" "c6336401" "c6336402")
frame += bytes.fromhex("13881389" "0010" "0000") + b"stranger"
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("near", 0)); s.send(frame)
"""


class Program:
    """A Python program under a name of its own."""

    def __init__(self, folder: Path, name: str, text: str, *arguments: object, inside: str = HERE) -> None:
        self.name = name
        path = folder / name
        if not path.exists():
            path.symlink_to(Path(sys.executable).resolve())
        command = ["ip", "netns", "exec", inside, str(path), "-S", "-c", COMMON + text, *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.ports: list[int] = []

    def ready(self) -> Program:
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"
        return self

    def ended(self) -> Program:
        said, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == 0
        self.ports = [int(line) for line in said.split()]
        return self

    @property
    def owner(self) -> tuple[str, int]:
        return self.name, self.process.pid


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], dict[str, Program], str]]:
    """The tables of one capture by name, the programs, and what was said."""
    if os.geteuid() != 0:
        pytest.skip("live capture needs root: NOT TESTED HERE")
    made = subprocess.run(["sh", "-ec", CABLE], capture_output=True, text=True, check=False)
    folder = tmp_path_factory.mktemp("programs")
    there: list[Program] = []
    try:
        if made.returncode:
            pytest.skip(f"no network namespace can be made, --process is NOT TESTED HERE: {made.stderr.strip()}")
        there += [
            Program(folder, "keeper", LISTEN, 7000, inside=THERE).ready(),
            Program(folder, "listener", HEAR, 7001, inside=THERE).ready(),
            Program(folder, "desk", LISTEN, 7002, inside=HERE).ready(),
        ]
        wanted = ("conv,tcp", "conv,udp", "conv,ip", "processes", "services")
        asked = [word for name in wanted for word in ("-z", name)]
        run = started(
            "run", "-i", "near", "-f", "tcp or udp", "--process", *asked, "--format", "json",
            under=["ip", "netns", "exec", HERE, *WITH_EVENTS],
        )  # fmt: skip
        time.sleep(2.5)
        long = [
            Program(folder, "fourlong", LONG, "192.0.2.2", 7000),
            Program(folder, "sixlong", LONG, "2001:db8::2", 7000),
            Program(folder, "speaker", SPEAK, "192.0.2.2", 7001),
            Program(folder, "sharer", SHARE, "192.0.2.2", 7000),
            Program(folder, "visitor", SHORT, "192.0.2.1", 7002, inside=THERE),
            Program(folder, "brief", SHORT, "2001:db8::2", 7000),
            Program(folder, "once", ONCE, "192.0.2.3"),
            Program(folder, "stranger", STRANGE),
        ]
        programs = {program.name: program.ended() for program in long} | {one.name: one for one in there}
        time.sleep(1)
        run.send_signal(signal.SIGINT)
        done = ended(run)
        assert done.returncode == 0, done.stderr
        yield {t["name"]: t for t in json.loads(done.stdout)["tables"]}, programs, done.stderr
    finally:
        for program in there:
            program.process.kill()
            program.process.wait()
        for name in (HERE, THERE):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def events_are_seen() -> bool:
    look = [*WITH_EVENTS, "test", "-e", "/sys/kernel/tracing/events/fib/fib_table_lookup/id"]
    return subprocess.run(["ip", "netns", "exec", HERE, *look], check=False).returncode == 0


Scene = tuple[dict[str, Any], dict[str, Program], str]


def owners(scene: Scene, table: str, program: str) -> Counter[tuple[str, int | None, str | None]]:
    """Of each connection that a program made: whose it is said to be, and who is at its other end."""
    tables, programs, _ = scene
    ports = programs[program].ports
    return Counter(
        (row["program"], row["pid"], row["peer_program"])
        for row in tables[table]["rows"]
        if row["port_a"] in ports or row["port_b"] in ports
    )


@pytest.mark.parametrize("name", ["fourlong", "sixlong", "sharer"])
def test_a_connection_belongs_to_the_program_that_holds_its_socket(scene: Scene, name: str) -> None:
    """Over IPv4 and IPv6; of two processes that share a socket, it is the one that opened it."""
    program = scene[1][name]
    assert owners(scene, "conv,tcp", name) == {(*program.owner, "keeper"): 1}


def test_datagrams_of_a_socket_that_is_not_connected(scene: Scene) -> None:
    assert owners(scene, "conv,udp", "speaker") == {(*scene[1]["speaker"].owner, "listener"): 1}
    [row] = [row for row in scene[0]["processes"]["rows"] if row["program"] == "speaker"]
    assert (row["packets"], row["bytes"], row["connections"]) == (30, 30 * 242, 1)


def test_short_connections_belong_to_who_made_them_or_who_listens_and_to_nobody_else(scene: Scene) -> None:
    for client, server in (("visitor", "desk"), ("brief", "keeper")):
        found = owners(scene, "conv,tcp", client)
        assert sum(found.values()) == 15
        both = [scene[1][client].owner, scene[1][server].owner]
        assert {(program, pid) for program, pid, _ in found} <= set(both)


def test_what_is_not_certain_is_in_rows_of_its_own_and_its_share_is_told(scene: Scene) -> None:
    tables, programs, said = scene
    [owner] = owners(scene, "conv,udp", "once")
    assert owner == (*programs["once"].owner, None) or (owner == ("?", None, None) and not events_are_seen())
    rows = tables["processes"]["rows"]
    assert [(r["packets"], r["bytes"]) for r in rows if r["program"] == "(other hosts)"] == [(1, 50)]
    unknown = sum(row["bytes"] for row in rows if row["program"] == "?")
    total = sum(row["bytes"] for row in rows)
    if unknown:
        assert unknown == 342
        assert f"processes: the process of {100 * unknown / total:.1f} % of the bytes (342 B) is not known" in said


def test_the_rows_of_all_processes_add_up_in_every_table(scene: Scene) -> None:
    tables, _, _ = scene
    by_program = [
        Counter({row["program"]: 0 for row in table["rows"]}) for table in (tables["processes"], tables["services"])
    ]
    for found, name in zip(by_program, ("processes", "services"), strict=True):
        for row in tables[name]["rows"]:
            found[row["program"]] += row["bytes"]
    assert by_program[0] == by_program[1]
    assert sum(by_program[0].values()) == tables["services"]["read"]["bytes"]
    connections = Counter[str]()
    for name in ("conv,tcp", "conv,udp"):
        for row in tables[name]["rows"]:
            connections[row["program"]] += row["bytes"]
    assert connections == by_program[0]
    assert all(row["program"] for row in tables["conv,ip"]["rows"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tests/data/dns.pcapng", "--process", "-z", "services"], "--process: only for live capture (-i)"),
        (["-i", "lo", "--process", "-z", "io,stat,1"], "--process tells nothing here: ask for one of"),
        (["tests/data/dns.pcapng", "-z", "processes"], "processes needs --process, and a live capture (-i)"),
    ],
)
def test_where_no_process_can_be_told_it_is_said(arguments: list[str], said: str) -> None:
    done = sharkstat("run", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_the_overview_names_programs(scene: Scene) -> None:
    """A block of its own, and a column of the blocks that can tell."""
    run = started("overview", "-i", "lo", "--process", "-a", "duration:3", under=["ip", "netns", "exec", HERE])
    time.sleep(2)
    code = "import socket, time; s = socket.create_connection(('127.0.0.1', 7002)); s.send(b'hello'); time.sleep(0.5)"
    talker = subprocess.Popen(["ip", "netns", "exec", HERE, sys.executable, "-S", "-c", code])
    assert talker.wait() == 0
    page = ended(run).stdout.splitlines()
    at = next(number for number, line in enumerate(page) if line.startswith("Processes"))
    assert str(talker.pid) in page[at + 1]
    assert "program" in next(line for line in page if line.startswith("Services"))


def test_sockets_that_were_seen_tell_the_process_from_python(scene: Scene) -> None:
    """The same as a library: `process=True`."""
    source = library.Source(interfaces=("lo",), autostop=("duration:1",), process=True)
    [table] = library.run(source, "processes")
    assert [c.name for c in table.keys] == ["program", "pid", "user", "unit", "peer_program"]
