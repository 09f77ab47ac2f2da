"""Snapshots of a run: exactly what a run of the packets until then gives, and to take them changes nothing."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.command import DATA

import sharkstat
from sharkstat.running.capturefile import NO_PACKET, CaptureReader

SOME = (
    "conv,tcp",
    "conv,udp",
    "http,requests",
    "services",
    "traffic",
    "latency",
    "dns,names",
    "tcp,health",
    "io,stat,1",
)

EXAMPLES = DATA.parent.parent / "docs" / "examples"
LOOKUPS = """
import sharkstat

class Lookups(sharkstat.Joined):
    name = "dns,lookups"
    title = "DNS lookups"
    request = "dns.flags.response == 0"
    response = "dns.flags.response == 1"
    pairs = ("dns.id", "udp.stream")
    keys = ("dns.qry.name",)

@sharkstat.hookimpl
def register_statistics(register):
    register(Lookups())
"""


def ends(data: bytes) -> list[int]:
    """Where each packet ends."""
    return [end for _, end, *_, interface in CaptureReader().records(data) if interface != NO_PACKET]


def every_request(engine: str) -> list[str]:
    """Every statistic that the engine has, with arguments where it needs them."""
    known = sharkstat.Registry.default().statistics.values()
    return [
        f"{s.name},{s.example}" if s.example else s.name
        for s in known
        if any(one.name == engine for one in s.engines) and s.by_connection != "only"
    ]


@contextmanager
def pipe(folder: Path) -> Iterator[Path]:
    path = folder / f"pipe{threading.get_ident()}"
    os.mkfifo(path)
    try:
        yield path
    finally:
        path.unlink()


def told(tables: list[sharkstat.Table]) -> tuple[list[Any], list[Any]]:
    """What a reader would notice; who looks for copies has not seen all before the end."""
    facts = [
        (t.request, t.columns, t.rows, t.capped, t.complete, t.reading.packets, t.reading.bytes, t.reading.last)
        for t in tables
    ]
    return facts, [[warning for warning in t.warnings if "duplicate" not in warning] for t in tables]


def piped(folder: Path, data: bytes, requests: list[str], **options: Any) -> list[sharkstat.Table]:
    """A run of these bytes, from a pipe, that nobody watches."""
    with pipe(folder) as path:
        writer = threading.Thread(target=path.write_bytes, args=(data,), daemon=True)
        writer.start()
        tables = sharkstat.run(path, requests, **options)
        writer.join()
    return tables


def watched(
    folder: Path, data: bytes, marks: list[int], requests: list[str], **options: Any
) -> dict[int, list[list[sharkstat.Table]]]:
    """The snapshots of a run that gets its packets up to each mark, and no more before it was seen twice.

    Those of the whole run are at the end of the last mark's.
    """
    places = ends(data)
    seen: dict[int, list[list[sharkstat.Table]]] = {mark: [] for mark in marks}
    enough = threading.Event()
    with pipe(folder) as path:

        def feed() -> None:
            with path.open("wb", buffering=0) as out:
                at = 0
                for mark in marks:
                    # A part of the next packet comes, too: it does not count.
                    end = places[mark - 1] if mark == len(places) else places[mark - 1] + 9
                    out.write(data[at:end])
                    at = end
                    enough.clear()
                    assert enough.wait(30)
                out.write(data[at:])

        writer = threading.Thread(target=feed, daemon=True)
        writer.start()
        with sharkstat.live(path, requests, every=0.1, **options) as snapshots:
            for tables in snapshots:
                if tables.packets in seen and not tables.final:
                    seen[tables.packets].append(tables)
                    if len(seen[tables.packets]) == 2:
                        enough.set()
        assert tables.final
        seen[marks[-1]].append(tables)
        writer.join()
    return seen


def check(folder: Path, capture: Path, requests: list[str], **options: Any) -> None:
    data = capture.read_bytes()
    places = ends(data)
    marks = sorted({max(1, len(places) // 3), len(places)})
    for mark, snapshots in watched(folder, data, marks, requests, **options).items():
        truth = told(piped(folder, data[: places[mark - 1]], requests, **options))
        assert len(snapshots) >= 2
        for snapshot in snapshots:
            assert told(snapshot) == truth, f"{capture.name} at packet {mark}"


@pytest.mark.parametrize("engine", ["lua", "packets"])
def test_a_snapshot_is_of_exactly_the_packets_until_then(tmp_path: Path, engine: str) -> None:
    check(tmp_path, DATA / "http.pcapng", every_request(engine), engine=engine)


@pytest.mark.parametrize("engine", ["lua", "packets"])
def test_so_it_is_with_statistics_of_ones_own(tmp_path: Path, engine: str) -> None:
    """A declared one, one with expressions, one that joins, and a counter or a tap."""
    lookups = tmp_path / "lookups.py"
    lookups.write_text(LOOKUPS)
    plugins = [lookups, *(EXAMPLES / name for name in ("dns_late.py", "dns_seen.py", "dns_asked.lua"))]
    groups = ["group,by=host,count,distinct=dns.qry.name", "group,by=second_level(dns.qry.name) as name", "group,count"]
    requests = ["dns,late,over=1us", "dns,lookups", "dns,lookups,each=no", *groups]
    requests.append("dns,asked" if engine == "lua" else "dns,seen")
    check(tmp_path, DATA / "dns.pcapng", requests, engine=engine, registry=sharkstat.Registry.default(plugins))


def test_so_it_is_with_a_filter_and_with_names(tmp_path: Path) -> None:
    check(tmp_path, DATA / "story-after.pcapng", list(SOME), display_filter="udp || tcp.port == 443", resolve="d")


@pytest.mark.long
@pytest.mark.parametrize("capture", sorted(DATA.glob("*.pcap*")), ids=lambda path: path.name)
def test_so_it_is_with_every_small_capture(tmp_path: Path, capture: Path) -> None:
    if capture.stat().st_size > 3_000_000 or "cut" in capture.name:
        pytest.skip("too large to be read so often, or cut")
    check(tmp_path, capture, every_request("lua"))


@pytest.mark.parametrize(
    ("source", "request_", "said"),
    [
        (DATA / "http.pcapng", "conv,tcp", r"--watch needs a live source .* is a file"),
        ("lo", "io,phs", r"io,phs is counted by tshark itself, which has no results before the end"),
    ],
)
def test_what_cannot_be_watched_is_refused_by_name(source: Any, request_: str, said: str) -> None:
    engine = "tshark" if request_ == "io,phs" else ""
    with pytest.raises(sharkstat.RequestError, match=said):
        next(sharkstat.live(source, request_, engine=engine))


def test_it_can_be_awaited_and_stopped(tmp_path: Path) -> None:
    data = (DATA / "dns.pcapng").read_bytes()

    async def main(path: Path) -> list[tuple[bool, int]]:
        seen = []
        with path.open("r+b", buffering=0) as held:  # for as long as it is open, the capture does not end
            held.write(data)
            async with sharkstat.live(path, "conv,udp", every=0.1) as snapshots:
                async for tables in snapshots:
                    seen.append((tables.final, tables[0].reading.packets))
                    if tables.packets:
                        snapshots.stop()
        return seen

    with pipe(tmp_path) as path:
        seen = asyncio.run(main(path))
    assert seen[-1] == (True, len(ends(data)))
    assert not any(final for final, _ in seen[:-1])
