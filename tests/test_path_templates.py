"""http,requests,path=template against tests/data/path-templates.tsv: each path is asked for in a request of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.measure import DATA, engines
from tests.traffic.capturefiles import tcp_frame, write_pcap

import sharkstat

EXAMPLES = [line.split("\t") for line in (DATA / "path-templates.tsv").read_text().splitlines()]


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("templates") / "paths.pcap"
    packets = []
    for number, (target, _) in enumerate(EXAMPLES):
        request = f"GET {target} HTTP/1.1\r\nHost: {number}.example\r\n\r\n".encode()
        packets.append((number * 10**6, tcp_frame(("192.0.2.1", 40000 + number), ("192.0.2.2", 80), request)))
    write_pcap(path, packets)
    return path


def test_paths_become_the_templates_of_the_table(capture: Path) -> None:
    for [table] in engines(capture, ["group,by=http.host,by=template(http.request.uri) as path,http.request"]):
        assert {row["http_host"]: row["path"] for row in table} == {
            f"{n}.example": t for n, (_, t) in enumerate(EXAMPLES)
        }
    requests = ["http,requests,path=template", "http,requests,path=template,query=no", "http,requests"]
    with_names, without, plain = (
        {row["host"]: row["path"] for row in table} for table in sharkstat.run(capture, requests)
    )
    targets = {f"{number}.example": target for number, (target, _) in enumerate(EXAMPLES)}
    templates = {f"{number}.example": template for number, (_, template) in enumerate(EXAMPLES)}
    assert with_names == templates
    assert without == {host: template.partition("?")[0] for host, template in templates.items()}
    assert plain == {host: target.partition("?")[0] for host, target in targets.items()}


def test_templates_make_one_row_of_many_and_lose_no_request() -> None:
    plain, templates = sharkstat.run(DATA / "story-after.pcapng", ["http,requests", "http,requests,path=template"])
    for measure in ("requests", "responses", "request_bytes", "response_bytes", "timed", "time"):
        assert templates.total(measure) == plain.total(measure)
    rows = {(row["method"], row["path"]): row["requests"] for row in templates}
    assert rows["GET", "/backup?continuation-token&list-type&max-keys&prefix"] == 15
    assert rows["PUT", "/backup/mail/{date}/mail.tar.zst"] == 2
