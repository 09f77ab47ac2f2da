"""A cluster of real workers gives the tables of one machine, to the last digit, whatever becomes of the workers."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.command import PROJECT, sharkstat

import sharkstat as library

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


def test_the_command_says_what_the_command_says_without_a_cluster(dask: Dask, files: list[Path]) -> None:
    command = ["run", *files, "-z", "conv,tcp", "-z", "expert", "--format", "json"]
    alone, clustered = sharkstat(*command), sharkstat(*command, "--cluster", dask.address)
    assert (clustered.returncode, clustered.stderr) == (alone.returncode, alone.stderr)
    assert clustered.stdout == alone.stdout
