"""Plain packets that are counted from their headers alone give the tables of tshark, to the last digit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.command import DATA
from tests.measure import CORPUS, corpus_captures
from tests.test_jobs import mixed
from tests.traffic.capturefiles import SECOND, tcp_frame, write_pcap

import sharkstat
from sharkstat.running import headers

KINDS = ("eth", "ip", "ipv6", "tcp", "udp")
REQUESTS = [
    *(f"{name},{kind}" for name in ("conv", "endpoints") for kind in KINDS),
    *("http,tree", "http_req,tree", "http_srv,tree"),
    *("io,stat,1", "io,stat,0", "io,stat,0.37,tcp,udp,ipv6,FRAMES()ip"),
]


def _of_headers(path: Path, requests: Sequence[str] = REQUESTS) -> list[sharkstat.Table]:
    tables = sharkstat.run(path, requests, engine="headers")
    assert {table.engine for table in tables} == {"headers"}
    return [replace(table, engine="lua") for table in tables]


def _check_same(path: Path) -> None:
    """Where headers are no way to count a capture, the error says so."""
    try:
        alone = sharkstat.run(path, REQUESTS, engine="lua", jobs=1)
    except sharkstat.SourceError:
        return  # of cases/: no capture
    try:
        tables = _of_headers(path)
    except sharkstat.RequestError as problem:
        assert "not counted from headers alone" in str(problem)
        return
    for one, table in zip(alone, tables, strict=True):
        assert one == table, one.request


@pytest.mark.parametrize("pcapng", [False, True], ids=["pcap", "pcapng"])
def test_headers_count_what_was_sent(tmp_path: Path, pcapng: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mixed"
    counts = mixed(path, pcapng)
    sizes: list[list[int]] = []
    count = headers.Headers.counted

    def noted(self: headers.Headers, *arguments: object) -> object:
        sizes.append(self.split.sizes)
        return count(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(headers.Headers, "counted", noted)
    tables = _of_headers(path)
    assert tables == sharkstat.run(path, REQUESTS, engine="lua", jobs=1)
    assert sum(sizes[0]) == 3000 and sizes[0][1] > 0  # some were counted from their headers
    by_name = {table.request: table for table in tables}
    assert by_name["io,stat,0"].rows[0]["frames"] == 3000
    assert by_name["conv,tcp"].total("packets") == counts["tcp"]
    assert by_name["conv,udp"].total("packets") == counts["udp"]


@pytest.mark.parametrize(
    "name", ["http.pcapng", "story-after.pcapng", "reused-port.pcapng", "snaplen.pcapng", "tunnel.pcapng"]
)
def test_headers_of_real_traffic_give_the_same_tables(name: str) -> None:
    _check_same(DATA / name)


def test_http_is_found_on_any_port_and_what_has_none_is_left_out(tmp_path: Path) -> None:
    """Requests on odd ports, one whose first line is in two segments, and connections that carry something else."""
    path, frames = tmp_path / "http.pcap", []
    request = b"GET /%d HTTP/1.1\r\nHost: a.example\r\n\r\n"
    for number in range(40):
        client, server = (f"192.0.2.{number + 1}", 40000 + number), ("198.51.100.9", 9000 + number)
        payload = request % number if number % 4 == 0 else bytes(range(200, 250))
        cut = len(payload) - 32 if number % 8 == 0 else len(payload)  # within the word by which tshark knows it
        frames += [tcp_frame(client, server, payload[:cut]), tcp_frame(client, server, payload[cut:], 1 + cut)]
    write_pcap(path, [(SECOND * at, frame) for at, frame in enumerate(frames, 1)])
    trees = ["http,tree", "http_req,tree", "http_srv,tree"]
    alone = sharkstat.run(path, [*trees, "conv,ip"], engine="lua", jobs=1)
    assert _of_headers(path, [*trees, "conv,ip"]) == alone
    assert alone[1].rows[0]["count"] == 5  # what is in one segment


def test_what_headers_do_not_tell_is_refused_or_left_to_the_tap(caplog: pytest.LogCaptureFixture) -> None:
    path = DATA / "http.pcapng"
    for request, reason in (("conv,tcp,ip.ttl>9", "must look at all"), ("io,stat,1,SUM(ip.len)", "must look at all")):
        with pytest.raises(sharkstat.RequestError, match=reason):
            sharkstat.run(path, request, engine="headers")
    with pytest.raises(sharkstat.RequestError, match="asks for all packets together"):
        sharkstat.run(path, "conv,tcp", engine="headers", packets=10)
    with caplog.at_level(logging.DEBUG, "sharkstat"):
        (table,) = sharkstat.run(path, "conv,tcp")
    assert table.engine == "lua"


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.exists(), reason="the large captures are not there: ../shared/captures")
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.relative_to(CORPUS).as_posix(), marks=[pytest.mark.long] if number % 60 else [])
        for number, path in enumerate(corpus_captures())
    ],
)
def test_headers_of_a_large_capture_give_the_same_tables(path: Path) -> None:
    _check_same(path)
