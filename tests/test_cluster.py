"""A cluster of real workers gives the tables of one machine, to the last digit, whatever becomes of the workers."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.command import PROJECT, children, sharkstat, started

import sharkstat as library
from sharkstat.running.cluster import tasks
from sharkstat.running.cluster.reading import Cluster
from sharkstat.running.cluster.work import Order, Plugins, facts
from sharkstat.tshark.process import find_tshark

pytest.importorskip("distributed")
pytestmark = pytest.mark.xdist_group("cluster")  # all tests share one

SPLIT = ["conv,tcp", "conv,ip", "endpoints,udp", "io,stat,1,tcp,udp", "http_req,tree", "http_srv,tree"]
WHOLE = ["tcp,health", "dns,names"]


@dataclass
class Dask:
    """A scheduler and workers as processes, as `dask scheduler` and `dask worker` start them."""

    folder: Path
    address: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        file = self.folder / "scheduler.json"
        self._begin("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file)
        self.worker()
        self.worker()
        from distributed import Client

        self.client = Client(scheduler_file=str(file), set_as_default=False, timeout=60)
        self.address = self.client.scheduler_info()["address"]
        self.client.wait_for_workers(2, timeout=60)

    def worker(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start another worker."""
        file, folder = self.folder / "scheduler.json", self.folder / f"worker{len(self.processes)}"
        given = ("--scheduler-file", file, "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard")
        return self._begin("dask_worker", *given, "--local-directory", folder, *options, **environment)

    def _begin(self, program: str, *options: object, **environment: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{program}{len(self.processes)}.log").open("wb")
        command = [sys.executable, "-m", f"distributed.cli.{program}", *map(str, options)]
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment}, cwd=PROJECT)
        self.processes.append(process)
        return process

    def stop(self) -> None:
        self.client.close()
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    made = Dask(tmp_path_factory.mktemp("dask"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


def tool(name: str, *arguments: object) -> None:
    subprocess.run([shutil.which(name) or name, *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Traffic of many hosts, as two machines captured it at one time, each into a ring of files."""
    folder = tmp_path_factory.mktemp("ring")
    made = folder / "made.pcap"
    subprocess.run([sys.executable, PROJECT / "benchmarks" / "make_capture.py", made, "--packets", "6000"], check=True)
    data, at, records = made.read_bytes(), 24, []
    while at < len(data):
        end = at + 16 + struct.unpack_from("<I", data, at + 8)[0]
        records.append(data[at:end])
        at = end
    for first, name in enumerate("ab"):
        (folder / f"{name}.whole").write_bytes(data[:24] + b"".join(records[first::2]))
        tool("editcap", "-F", "pcapng", "-c", "500", folder / f"{name}.whole", folder / f"{name}.pcapng")
    found = sorted(folder.glob("*.pcapng"))
    assert len(found) == 12
    return found


def test_the_tables_are_those_of_one_machine(dask: Dask, files: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    """Of several files, interleaved in time: streams have their numbers in the whole, trees their bursts."""
    truths = library.run(files, [*SPLIT, *WHOLE], jobs=1)
    with caplog.at_level("DEBUG", "sharkstat"):
        tables = library.run(files, [*SPLIT, *WHOLE], client=dask.client)
    assert not caplog.messages  # all of SPLIT was counted in parts
    assert tables == truths
    assert len({row["stream"] for row in tables[0].rows}) == len(tables[0].rows) > 50


def test_compressed_files_of_several_kinds_at_addresses(
    dask: Dask, files: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Some pcap, some with nanoseconds, some pcapng; some are named by addresses, as fsspec reads them."""
    kinds = ["pcapng", "pcap", "nsecpcap"]
    there = []
    for number, file in enumerate(files):
        path = tmp_path / f"{number:02}"
        tool("editcap", "-F", kinds[number % 3], file, path)
        if number % 2:
            path.write_bytes(gzip.compress(path.read_bytes()))
        there.append(path)
    truths = library.run(there, ["conv,tcp", "io,stat,1", "group,by=frame.interface_id"], jobs=1)
    names = [path.as_uri() if number % 4 > 1 else str(path) for number, path in enumerate(there)]
    with caplog.at_level("DEBUG", "sharkstat"):
        tables = library.run(names, ["conv,tcp", "io,stat,1", "group,by=frame.interface_id"], client=dask.client)
    assert not caplog.messages
    for table, truth in zip(tables, truths, strict=True):
        assert replace(table, reading=replace(table.reading, sources=truth.reading.sources)) == truth
    [table] = library.run(names, ["dns,names"], client=dask.client)  # from copies
    assert table.rows == library.run(there, ["dns,names"])[0].rows


def test_the_command_says_what_the_command_says_without_a_cluster(dask: Dask, files: list[Path]) -> None:
    command = ["run", *files, "-z", "conv,tcp", "-z", "expert", "--format", "json"]
    alone, clustered = sharkstat(*command), sharkstat(*command, "--cluster", dask.address)
    assert (clustered.returncode, clustered.stderr) == (alone.returncode, alone.stderr)
    assert clustered.stdout == alone.stdout


def tsharks(process: subprocess.Popen[bytes]) -> list[int]:
    """The tsharks that a worker runs."""
    return [pid for pid in children(process.pid) if Path(f"/proc/{pid}/comm").read_text().strip() == "tshark"]


def until_one_reads(workers: Sequence[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """A worker, as soon as it runs a tshark."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for worker in workers:
            if tsharks(worker):
                return worker
        time.sleep(0.01)
    raise AssertionError("no worker reads anything")


def test_the_shards_of_a_worker_that_is_killed_are_read_by_another(dask: Dask, files: list[Path]) -> None:
    truths = library.run(files, SPLIT, jobs=1)
    workers = dask.processes[1:3]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(library.run, files, SPLIT, client=dask.client)
        victim = until_one_reads(workers)
        victim.kill()
        victim.wait()
        tables = running.result(timeout=100)
    assert tables == truths
    dask.processes.remove(victim)
    dask.worker()
    dask.client.wait_for_workers(2, timeout=60)


def test_ctrl_c_ends_what_workers_read(dask: Dask, files: list[Path]) -> None:
    command = started("run", *files, "-z", "conv,tcp", "-z", "http,tree", "--cluster", dask.address)
    workers = dask.processes[1:3]
    until_one_reads(workers)
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=30)
    assert (command.returncode, out) == (130, b"")
    assert err.decode().splitlines()[-1] == "sharkstat: interrupted before there were results"
    end = time.monotonic() + 10
    while any(map(tsharks, workers)):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_worker_that_would_give_other_tables_is_named(dask: Dask, files: list[Path], tmp_path: Path) -> None:
    """It has another tshark, or none; and each task asks again, since workers come and go."""
    other = tmp_path / "tshark"
    other.write_text("#!/bin/sh\necho 'TShark (Wireshark) 4.9.9 (Git). Compiled with Lua 5.4.6, with zlib.'\n")
    other.chmod(0o755)
    here = find_tshark().check().version
    for program, said in (
        (other, f"worker {{}} has tshark 4.9.9, this machine {here}: make them the same"),
        (tmp_path / "none", f"worker {{}}: {tmp_path / 'none'} not found: install it"),
    ):
        before = set(dask.client.scheduler_info()["workers"])
        stranger = dask.worker(SHARKSTAT_TSHARK=str(program))
        dask.client.wait_for_workers(3, timeout=60)
        (address,) = set(dask.client.scheduler_info()["workers"]) - before
        with pytest.raises(library.TsharkError) as refused:
            library.run(files, "io,stat,1", client=dask.client)
        assert str(refused.value).startswith(said.format(address))
        task = dask.client.submit(
            tasks.whole,
            Order(library.Source(files=("x",)), (), Plugins()),
            facts(Plugins()),
            workers=[address],
            pure=False,
        )
        assert str(task.exception()) == str(refused.value)
        dask.processes.remove(stranger)
        stranger.terminate()
        stranger.wait()
        while len(dask.client.scheduler_info()["workers"]) > 2:
            time.sleep(0.05)


def test_what_a_cluster_cannot_do_is_said(
    dask: Dask, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "missing.pcap"
    with pytest.raises(library.SourceError, match=rf"{missing}: no such file \(on worker tcp://127.0.0.1:\d+\)"):
        library.run([*files, missing], "io,stat,1", client=dask.client)
    with pytest.raises(library.RequestError, match=r'invalid display filter "tcp\.prot==6"'):
        library.run(files, ["io,stat,1", "io,stat,1,tcp.prot==6"], client=dask.client)
    [table] = library.run(files, "io,stat,1", timeout=60, client=dask.client)
    assert table == library.run(files, "io,stat,1", jobs=1)[0]
    for source, said in (
        (library.Source(interfaces=("lo",)), "--cluster reads files"),
        (library.Source(files=("-",)), "--cluster reads files"),
        (library.Source(files=("a.pcap",), profile="mine"), "-C is read on this machine alone"),
    ):
        with pytest.raises(library.RequestError, match=said):
            library.run(source, "io,stat,1", client=dask.client)
    with pytest.raises(library.RequestError, match="--engine headers counts on one machine"):
        library.run(files, "io,stat,1", engine="headers", client=dask.client)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(library.RequestError, match=r"^--cluster needs Dask: pip install 'sharkstat\[cluster\]'$"):
        Cluster.at("tcp://127.0.0.1:1", Plugins())
