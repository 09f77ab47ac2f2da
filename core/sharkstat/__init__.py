"""sharkstat: network traffic statistics as tables, counted inside tshark or from decoded packets.

The public API is the names below; plugins need no others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sharkstat.errors import (
    MergeError,
    OutputError,
    RequestError,
    SharkstatError,
    SourceError,
    StatisticError,
    TextError,
    TsharkError,
)

# Other names are loaded on first use: --help needs none of them, and most runs do not need pyshark.
_ROOMS = {
    "sharkstat.engines.engine": ("Engine", "Layer"),
    "sharkstat.engines.headers": ("Headers", "Interval", "OfIntervals", "OfMessages", "OfWays", "Way"),
    "sharkstat.engines.packet": ("Packet",),
    "sharkstat.engines.packets": ("Listen", "PacketCounter", "Packets"),
    "sharkstat.engines.tap": ("Tap",),
    "sharkstat.engines.text": ("Parsed", "TsharkText"),
    "sharkstat.reports.page": ("report",),
    "sharkstat.running.comparison": ("diff",),
    "sharkstat.running.live": ("Live", "live"),
    "sharkstat.running.loading": ("read",),
    "sharkstat.running.overview": ("Overview", "overview"),
    "sharkstat.running.packets": ("packets",),
    "sharkstat.running.runner": ("run",),
    "sharkstat.running.source": ("Source",),
    "sharkstat.running.watching": ("Snapshot",),
    "sharkstat.statistics.declared": ("Declared",),
    "sharkstat.statistics.expressions": (
        "Expression",
        "bucket",
        "lower",
        "regex",
        "second_level",
        "segment",
        "subnet",
        "template",
    ),
    "sharkstat.statistics.group": ("Group",),
    "sharkstat.statistics.joined": ("Joined",),
    "sharkstat.statistics.keys": ("Every", "Key", "Tree", "conversation", "host"),
    "sharkstat.statistics.measures": (
        "Count",
        "Distinct",
        "Histogram",
        "Max",
        "Mean",
        "Measure",
        "Min",
        "Percentile",
        "Rate",
        "Ratio",
        "Seen",
        "Sum",
        "TopK",
    ),
    "sharkstat.statistics.parameter": ("Parameter",),
    "sharkstat.statistics.registry": ("Registry",),
    "sharkstat.statistics.section": ("Check", "HealthFinding", "Section", "Severity", "most_of", "part_of"),
    "sharkstat.statistics.several": ("Several",),
    "sharkstat.statistics.statistic": ("Exporter", "RegisterExporter", "Statistic", "hookimpl", "sort_rows"),
    "sharkstat.statistics.tapfile": ("TapFile",),
    "sharkstat.tables.column": ("Column", "Reading", "Row", "Type", "Value"),
    "sharkstat.tables.diff": ("Diff", "Finding"),
    "sharkstat.tables.page": ("joined",),
    "sharkstat.tables.table": ("Table",),
    "sharkstat.tshark.filters": ("both_filters",),
    "sharkstat.tshark.records": ("bytes_of", "text_of"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

if TYPE_CHECKING:
    from sharkstat.engines.engine import Engine, Layer
    from sharkstat.engines.headers import Headers, Interval, OfIntervals, OfMessages, OfWays, Way
    from sharkstat.engines.packet import Packet
    from sharkstat.engines.packets import Listen, PacketCounter, Packets
    from sharkstat.engines.tap import Tap
    from sharkstat.engines.text import Parsed, TsharkText
    from sharkstat.reports.page import report
    from sharkstat.running.comparison import diff
    from sharkstat.running.live import Live, live
    from sharkstat.running.loading import read
    from sharkstat.running.overview import Overview, overview
    from sharkstat.running.packets import packets
    from sharkstat.running.runner import run
    from sharkstat.running.source import Source
    from sharkstat.running.watching import Snapshot
    from sharkstat.statistics.declared import Declared
    from sharkstat.statistics.expressions import (
        Expression,
        bucket,
        lower,
        regex,
        second_level,
        segment,
        subnet,
        template,
    )
    from sharkstat.statistics.group import Group
    from sharkstat.statistics.joined import Joined
    from sharkstat.statistics.keys import Every, Key, Tree, conversation, host
    from sharkstat.statistics.measures import (
        Count,
        Distinct,
        Histogram,
        Max,
        Mean,
        Measure,
        Min,
        Percentile,
        Rate,
        Ratio,
        Seen,
        Sum,
        TopK,
    )
    from sharkstat.statistics.parameter import Parameter
    from sharkstat.statistics.registry import Registry
    from sharkstat.statistics.section import Check, HealthFinding, Section, Severity, most_of, part_of
    from sharkstat.statistics.several import Several
    from sharkstat.statistics.statistic import Exporter, RegisterExporter, Statistic, hookimpl, sort_rows
    from sharkstat.statistics.tapfile import TapFile
    from sharkstat.tables.column import Column, Reading, Row, Type, Value
    from sharkstat.tables.diff import Diff, Finding
    from sharkstat.tables.page import joined
    from sharkstat.tables.table import Table
    from sharkstat.tshark.filters import both_filters
    from sharkstat.tshark.records import bytes_of, text_of

__version__ = "0.2.0"

__all__ = [
    "Check",
    "Column",
    "Count",
    "Declared",
    "Diff",
    "Distinct",
    "Engine",
    "Every",
    "Exporter",
    "Expression",
    "Finding",
    "Group",
    "Headers",
    "HealthFinding",
    "Histogram",
    "Interval",
    "Joined",
    "Key",
    "Layer",
    "Listen",
    "Live",
    "Max",
    "Mean",
    "Measure",
    "MergeError",
    "Min",
    "OfIntervals",
    "OfMessages",
    "OfWays",
    "OutputError",
    "Overview",
    "Packet",
    "PacketCounter",
    "Packets",
    "Parameter",
    "Parsed",
    "Percentile",
    "Rate",
    "Ratio",
    "Reading",
    "RegisterExporter",
    "Registry",
    "RequestError",
    "Row",
    "Section",
    "Seen",
    "Several",
    "Severity",
    "SharkstatError",
    "Snapshot",
    "Source",
    "SourceError",
    "Statistic",
    "StatisticError",
    "Sum",
    "Table",
    "Tap",
    "TapFile",
    "TextError",
    "TopK",
    "Tree",
    "TsharkError",
    "TsharkText",
    "Type",
    "Value",
    "Way",
    "both_filters",
    "bucket",
    "bytes_of",
    "conversation",
    "diff",
    "hookimpl",
    "host",
    "joined",
    "live",
    "lower",
    "most_of",
    "overview",
    "packets",
    "part_of",
    "read",
    "regex",
    "report",
    "run",
    "second_level",
    "segment",
    "sort_rows",
    "subnet",
    "template",
    "text_of",
]


def __getattr__(name: str) -> Any:
    if name in _ROOM_OF:
        import importlib

        value = getattr(importlib.import_module(_ROOM_OF[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
