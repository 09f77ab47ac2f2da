"""`sharkstat run --metrics`: the tables of a live run, for Prometheus."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sharkstat.commands.console import check_capture_file, execute, load_registry, say
from sharkstat.errors import OutputError, RequestError

if TYPE_CHECKING:
    from sharkstat.commands.options import Running
    from sharkstat.running.source import Source

PORT = 9464  # OpenTelemetry's for exporters
EVERY = 5.0  # seconds from one snapshot to the next: Prometheus seldom asks more often


def address_of(text: str) -> tuple[str, int]:
    """Host and port of an address; loopback where no host is named. RequestError for anything else.

    >>> address_of("127.0.0.1:9464"), address_of(":9464"), address_of("[::]:80")
    (('127.0.0.1', 9464), ('127.0.0.1', 9464), ('::', 80))
    """
    match = re.fullmatch(r"(?:(\[[0-9a-fA-F:.]+\]|[^:\s]*):)?(\d{1,5})", text.strip())
    if not match or not 0 < int(match[2]) < 65536:
        raise RequestError(f"--metrics takes ADDRESS:PORT, e.g. 127.0.0.1:{PORT}, not {text!r}")
    return (match[1] or "").strip("[]") or "127.0.0.1", int(match[2])


def execute_metrics(source: Source, running: Running, statistics: Sequence[str], address: str) -> None:
    """Count the statistics, and serve their tables until the capture ends."""
    from sharkstat.running.plan import make_plan
    from sharkstat.running.watching import Watch
    from sharkstat.tables.openmetrics import MOST, Metrics, library

    host, port = address_of(address)
    if source.are_files:
        raise RequestError(f"--metrics needs a live source (-i INTERFACE or a pipe): {source.names[0]} is a file")
    client = library()
    registry = load_registry(running.plugins, running.no_plugins)
    check_capture_file(source, running)
    plan = make_plan(source, statistics, running.engine, registry)
    for request in plan.requests:
        Metrics.check(request.text, request.columns)
    metrics = Metrics(running.selection.top or MOST)
    watch = Watch(EVERY, metrics.take)
    watch.check(plan)
    collectors = client.CollectorRegistry()
    collectors.register(metrics)
    server: Any
    try:
        server, _ = client.start_http_server(port, host, collectors)
    except OSError as problem:
        raise OutputError(f"--metrics {address}: {problem.strerror or problem}: choose another address") from None
    shown = f"[{host}]" if ":" in host else host
    say(f"metrics on http://{shown}:{port}/metrics")
    try:
        execute(source, running, statistics, watch=watch)
    finally:
        server.shutdown()
        server.server_close()
