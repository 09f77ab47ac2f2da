"""Tables as OpenMetrics: measures become counters, keys labels. https://openmetrics.io, prometheus_client writes it.

A counter must never fall, or Prometheus takes that for a restart. So a row that has series keeps them: once there are
`most` of a table, all further rows are in the series whose labels are `(rest)`. And where a row shrinks, since a
connection turned out to be of another service, its series stay as they are until it has grown beyond them.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sharkstat.errors import OutputError, RequestError
from sharkstat.tables.column import Column, Value
from sharkstat.tables.table import Table, merge_rows

if TYPE_CHECKING:
    from prometheus_client.core import Metric

MOST = 1000  # rows of a table that have series of their own
REST = "(rest)"
_UNITS = ("bytes", "packets", "seconds")
# What one row of a family is, where it is not the name without its plural.
_SINGULAR = {"conv": "conversation", "endpoints": "endpoint", "processes": "process", "loss": "rtp_stream"}
_FAMILIES = ("conv", "endpoints")


def library() -> Any:
    """prometheus_client. OutputError that says how to install it, where it is missing."""
    try:
        import prometheus_client
    except ImportError:
        raise OutputError("--metrics needs prometheus_client: pip install 'sharkstat[metrics]'") from None
    return prometheus_client


def name_of(statistic: str) -> str:
    """What the names of a statistic's metrics begin with.

    >>> name_of("services"), name_of("conv,tcp"), name_of("http,requests")
    ('sharkstat_service', 'sharkstat_conversation', 'sharkstat_http_request')
    """
    family = statistic.partition(",")[0]
    found = _SINGULAR.get(statistic) or _SINGULAR.get(family if family in _FAMILIES else "")
    if found is None:
        found = re.sub(r"[^a-z0-9]+", "_", statistic.lower()).strip("_")
        found = found[:-1] if found.endswith("s") and not found.endswith(("ss", "us")) else found
    return f"sharkstat_{found}"


def metric_of(column: Column) -> tuple[str, str, bool]:
    """Name and unit of a column's metric, and whether it is a counter; an empty name where it has none.

    >>> metric_of(Column("bytes_to_server", "integer", "bytes")), metric_of(Column("max_time", "duration", merge="max"))
    (('to_server_bytes', 'bytes', True), ('max_time_seconds', 'seconds', False))
    """
    adds = column.role == "measure" and column.merge == "sum"
    adds = adds or (column.role == "derived" and not column.computed and column.unit in ("bytes", "packets"))
    gauge = (column.role == "measure" and column.merge in ("min", "max")) or bool(
        column.size_of or column.percentile or column.estimate
    )
    if not (adds or gauge) or column.type not in ("integer", "number", "duration"):
        return "", "", False
    unit = "seconds" if column.type == "duration" else column.unit if column.unit in _UNITS else ""
    words = [word for word in column.name.split("_") if word != unit]
    return "_".join([*words, *([unit] if unit else [])]), unit, adds


@dataclass
class _Series:
    """What has been told of one table."""

    rows: dict[tuple[str, ...], dict[str, int | float]] = field(default_factory=dict)
    rest: dict[str, int | float] = field(default_factory=dict)


class Metrics:
    """What a scrape gets: the newest tables. A collector of prometheus_client's, for any number of threads."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._tables: Sequence[Table] = ()
        self._told: dict[str, _Series] = {}
        self._began = time.time()
        self._taken = 0.0

    @staticmethod
    def check(name: str, columns: Sequence[Column]) -> None:
        """RequestError for tables that are no metrics: those with rows by time, or without counts."""
        if any(c.role == "key" and c.type == "time" for c in columns) or any(
            c.role == "key" and c.type == "duration" for c in columns
        ):
            raise RequestError(f"{name} has rows by time, which cannot be metrics: Prometheus stores the time itself")
        if not any(metric_of(column)[2] for column in columns):
            raise RequestError(f"{name} has no counts to serve as metrics")

    def take(self, tables: Sequence[Table]) -> None:
        """From now on, these are the tables."""
        with self._lock:
            for table in tables:
                self._add(self._told.setdefault(table.request, _Series()), table)
            self._tables, self._taken = tables, time.time()

    def _add(self, told: _Series, table: Table) -> None:
        labels = _labels(table.columns)
        counters = [(c.name, metric_of(c)[2]) for c in table.columns if metric_of(c)[0]]
        dropped = [c.name for c in table.keys if c not in labels]
        rows = table.rows
        if dropped:  # what means something in one capture only: the rows of what remains are added up
            merged = replace(table, rows=merge_rows(table.columns, [{**row, **dict.fromkeys(dropped)} for row in rows]))
            if table.statistic is not None:
                table.statistic.derive(merged)
            rows = merged.rows
        main = next((name for name, adds in counters if name == "bytes"), counters[0][0] if counters else "")
        rest: dict[str, int | float] = dict.fromkeys((name for name, adds in counters if adds), 0)
        anything = False
        for row in sorted(rows, key=lambda row: -_number(row[main])) if main else ():
            key = tuple(_text(row[column.name]) for column in labels)
            known = told.rows.get(key)
            if known is None:
                if len(told.rows) >= self._most:
                    anything = True
                    for name in rest:
                        rest[name] += _number(row[name])
                    continue
                known = told.rows[key] = {}
            for name, adds in counters:
                value = row[name]
                if isinstance(value, (int, float)):
                    known[name] = max(value, known.get(name, value)) if adds else value
        if anything or told.rest:
            told.rest = {name: max(value, told.rest.get(name, 0)) for name, value in rest.items()}

    def collect(self) -> Iterator[Metric]:
        """The metric families, as prometheus_client asks for them."""
        core = __import__("prometheus_client.core", fromlist=["core"])
        with self._lock:
            yield from self._of_the_run(core)
            families: dict[str, Any] = {}
            several = {table.name for table in self._tables if sum(t.name == table.name for t in self._tables) > 1}
            all_labels: dict[str, list[str]] = {}
            for table in self._tables:
                base = name_of(table.name)
                names = ["type"] * (table.name.partition(",")[0] in _FAMILIES) + ["request"] * (table.name in several)
                names += [column.name for column in _labels(table.columns)]
                all_labels[base] = list(dict.fromkeys([*all_labels.get(base, []), *names]))
            for table in self._tables:
                self._fill(core, families, table, all_labels[name_of(table.name)], table.name in several)
            yield from families.values()

    def _of_the_run(self, core: Any) -> Iterator[Metric]:
        reading = self._tables[0].reading if self._tables else None
        info = core.InfoMetricFamily("sharkstat_capture", "What is captured")
        about = {"source": ", ".join(reading.sources), "capture_filter": reading.capture_filter} if reading else {}
        info.add_metric([], {**about, "tshark": self._tables[0].tshark} if self._tables else {})
        yield info
        for name, unit in (("packets", "packets"), ("bytes", "bytes")):
            counter = core.CounterMetricFamily(
                f"sharkstat_{name}", f"{name.title()} that were counted, after the display filter", unit=unit
            )
            counter.add_metric([], getattr(reading, name) if reading else 0, created=self._began)
            yield counter
        if self._taken:
            yield core.GaugeMetricFamily(
                "sharkstat_snapshot_timestamp_seconds", "When the tables were taken", self._taken, unit="seconds"
            )

    def _fill(self, core: Any, families: dict[str, Any], table: Table, names: list[str], several: bool) -> None:
        told, labels = self._told[table.request], [column.name for column in _labels(table.columns)]
        own = {"type": table.name.partition(",")[2], "request": table.request if several else ""}
        for column in table.columns:
            metric, unit, counts = metric_of(column)
            if not metric:
                continue
            name = f"{name_of(table.name)}_{metric}"
            family = families.get(name)
            if family is None:
                kind = core.CounterMetricFamily if counts else core.GaugeMetricFamily
                family = kind(name, column.description or f"{column.label}: {table.title}", unit=unit)
                families[name] = family
            scale = 1e-9 if column.type == "duration" else 1
            series = [(dict(zip(labels, key, strict=True)), values) for key, values in told.rows.items()]
            if told.rest:
                series.append((dict.fromkeys(labels, REST), told.rest))
            for found, values in series:
                if column.name not in values:
                    continue
                # Labels without a value are those that are not there.
                given = {n: v for n in names if (v := {**own, **found}.get(n, ""))}
                sample = f"{name}_total" if counts else name
                family.add_sample(sample, given, values[column.name] * scale)


def _labels(columns: Sequence[Column]) -> list[Column]:
    return [column for column in columns if column.role == "key" and column.local != "always"]


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "/".join(value)
    return "" if value is None else str(value)


def _number(value: Value) -> int | float:
    return value if isinstance(value, (int, float)) else 0
