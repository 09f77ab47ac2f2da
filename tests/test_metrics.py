"""--metrics: a real Prometheus scrapes a live run, and asks for what is known to have been sent."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.command import ended, sharkstat, started

from sharkstat import Column, Reading, Table
from sharkstat.tables.openmetrics import REST, Metrics

client = pytest.importorskip("prometheus_client")
parser = pytest.importorskip("prometheus_client.openmetrics.parser")

NAMESPACE = f"metric{os.getpid()}"
INSIDE = ["ip", "netns", "exec", NAMESPACE]
CABLE = f"""
ip netns add {NAMESPACE}
ip netns exec {NAMESPACE} sh -c "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6" 2>/dev/null || :
ip -n {NAMESPACE} link add left type veth peer name right
for end in left right lo; do ip -n {NAMESPACE} link set $end up; done
ip -n {NAMESPACE} address add 192.0.2.1/24 dev left
ip -n {NAMESPACE} neighbour add 192.0.2.2 lladdr 02:00:00:00:00:02 dev left
"""
# To port 1001 one datagram of 100 bytes, to port 1002 two ...
SEND = """
import socket
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in range(1, 11):
    for _ in range(port * 10): out.sendto(bytes(100), ("192.0.2.2", 1000 + port))
"""
FETCH = """
import sys, urllib.request
headers = dict(header.split(": ", 1) for header in sys.argv[2:])
asked = urllib.request.Request(sys.argv[1], headers=headers)
try: print(urllib.request.urlopen(asked, timeout=5).read().decode(), end="")
except OSError: pass
"""
CONFIG = """
scrape_configs:
  - job_name: sharkstat
    scrape_interval: 1s
    scrape_timeout: 1s
    static_configs: [{targets: ["127.0.0.1:9464"]}]
"""
SIZE = 142


def fetched(url: str, *headers: str) -> str:
    done = subprocess.run([*INSIDE, "python3", "-c", FETCH, url, *headers], capture_output=True, text=True, check=False)
    return done.stdout


def asked(query: str) -> list[tuple[dict[str, str], float]]:
    """What Prometheus answers, as labels and values."""
    text = fetched(f"http://127.0.0.1:9090/api/v1/query?query={urllib.parse.quote(query)}")
    found: list[dict[str, Any]] = json.loads(text)["data"]["result"]
    return [(one["metric"], float(one["value"][1])) for one in found]


@pytest.fixture(scope="module")
def served() -> Iterator[subprocess.Popen[bytes]]:
    """A run that has counted what was sent, and has been asked."""
    if os.geteuid() != 0:
        pytest.skip("live capture needs root: NOT TESTED HERE")
    made = subprocess.run(["sh", "-ec", CABLE], capture_output=True, text=True, check=False)
    run = None
    try:
        if made.returncode:
            pytest.skip(f"no network namespace can be made, --metrics is NOT TESTED HERE: {made.stderr.strip()}")
        run = started(
            "run", "-i", "right", "-f", "udp", "--metrics", ":9464", "--top", "4", "-z", "conv,udp", "-z", "services",
            under=INSIDE,
        )  # fmt: skip
        assert run.stderr is not None
        assert run.stderr.readline() == b"sharkstat: metrics on http://127.0.0.1:9464/metrics\n"
        assert b"capturing on right" in run.stderr.readline()
        subprocess.run([*INSIDE, "python3", "-c", SEND], check=True)
        for _ in range(60):
            if f"sharkstat_packets_total {550.0}" in fetched("http://127.0.0.1:9464/metrics"):
                break
            time.sleep(0.25)
        yield run
    finally:
        if run is not None:
            run.kill()
            run.wait()
        subprocess.run(["ip", "netns", "del", NAMESPACE], capture_output=True, check=False)


@pytest.mark.xdist_group("live")
def test_prometheus_has_what_was_sent(served: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """The four largest conversations, and all others as one."""
    if shutil.which("prometheus") is None:
        pytest.skip("Debian's prometheus is not there: NOT TESTED HERE")
    (tmp_path / "prometheus.yml").write_text(CONFIG)
    words = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    log = (tmp_path / "log").open("wb")
    server = subprocess.Popen(
        [*INSIDE, "prometheus", *words, "--web.listen-address=127.0.0.1:9090"], stdout=log, stderr=log
    )
    try:
        for _ in range(120):
            with_answer = fetched("http://127.0.0.1:9090/-/ready")
            if "ready" in with_answer.lower() and asked("up == 1") and asked("sharkstat_packets_total"):
                break
            time.sleep(0.25)
        assert asked("sharkstat_packets_total")[0][1] == 550
        series = {labels["port_b"]: value for labels, value in asked("sharkstat_conversation_bytes_total")}
        assert series == {**{str(1000 + n): 10 * n * SIZE for n in (7, 8, 9, 10)}, REST: 10 * 21 * SIZE}
        [(labels, _)] = asked('sharkstat_conversation_bytes_total{port_b="1010"}')
        assert (labels["type"], labels["address_a"], labels["address_b"]) == ("udp", "192.0.2.1", "192.0.2.2")
        [(_, total)] = asked("sum(sharkstat_service_packets_total)")
        assert total == 550
    finally:
        server.kill()
        server.wait()
        log.close()


@pytest.mark.xdist_group("live")
def test_what_is_served_is_openmetrics_and_on_loopback_alone(served: subprocess.Popen[bytes]) -> None:
    text = fetched("http://127.0.0.1:9464/metrics", "Accept: application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    assert families["sharkstat_conversation_bytes"].type == "counter"
    assert families["sharkstat_conversation_bytes"].unit == "bytes"
    assert {s.name for s in families["sharkstat_service_to_server_bytes"].samples} == {
        "sharkstat_service_to_server_bytes_total"
    }
    assert families["sharkstat_service_clients"].type == "gauge"
    assert sum(s.value for s in families["sharkstat_conversation_packets"].samples) == 550
    listening = subprocess.run([*INSIDE, "ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
    assert re.findall(r"\S+:9464\b", listening) == ["127.0.0.1:9464"]


@pytest.mark.xdist_group("live")
def test_the_results_follow_at_the_end(served: subprocess.Popen[bytes]) -> None:
    served.send_signal(signal.SIGINT)
    done = ended(served)
    assert done.returncode == 0, done.stderr
    assert "UDP conversations (conv,udp)" in done.stdout
    assert "right: 550 packets captured, 0 dropped" in done.stderr


COLUMNS = (
    Column("name", "text", role="key"),
    Column("stream", "integer", role="key", local="always"),
    Column("bytes", "integer", "bytes"),
    Column("time", "duration", "seconds"),
)


def series_of(metrics: Metrics, name: str) -> dict[str, float]:
    registry = client.CollectorRegistry()
    registry.register(metrics)
    text = client.openmetrics.exposition.generate_latest(registry).decode()
    [family] = [one for one in parser.text_string_to_metric_families(text) if one.name == name]
    return {sample.labels["name"]: sample.value for sample in family.samples}


def test_no_counter_falls_whatever_the_order_of_the_rows() -> None:
    """Labels stay with their rows, streams are added up, and what is beyond the cap is in the rest, for good."""
    import prometheus_client.openmetrics.exposition  # noqa: F401

    metrics = Metrics(most=2)

    def take(**sizes: int) -> None:
        rows = [{"name": n, "stream": s, "bytes": b, "time": b * 10**6} for n, b in sizes.items() for s in (1, 2)]
        metrics.take([Table("things", "Things", "things", COLUMNS, rows, reading=Reading(packets=1))])  # type: ignore[arg-type]

    take(a=10, b=20)
    take(a=11, b=21, c=1000, d=1)
    assert series_of(metrics, "sharkstat_thing_bytes") == {"a": 22, "b": 42, REST: 2002}
    take(a=5, b=22, c=1000, d=3)  # a connection of a turned out to be of another
    assert series_of(metrics, "sharkstat_thing_bytes") == {"a": 22, "b": 44, REST: 2006}
    assert series_of(metrics, "sharkstat_thing_time_seconds")["b"] == pytest.approx(0.044)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (
            ["-i", "lo", "--metrics", "nowhere", "-z", "services"],
            2,
            "--metrics takes ADDRESS:PORT, e.g. 127.0.0.1:9464",
        ),
        (["-i", "lo", "--metrics", ":9464", "-z", "timeline"], 2, "timeline has rows by time, which cannot be metrics"),
        (["-i", "lo", "--metrics", "192.0.2.77:9464", "-z", "services"], 5, "--metrics 192.0.2.77:9464: "),
        (["tests/data/dns.pcapng", "--metrics", ":9464", "-z", "services"], 2, "--metrics needs a live source"),
    ],
)
def test_what_cannot_be_served_is_said(arguments: list[str], status: int, said: str) -> None:
    done = sharkstat("run", *arguments)
    assert done.returncode == status, done.stderr
    assert said in done.stderr
