"""sharkstat: statistics of network traffic as tables, counted inside tshark or on decoded packets.

The public names are those below; a plugin needs no others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sharkstat.column import Column, Reading, Row, Type, Value
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
from sharkstat.parameter import Parameter
from sharkstat.statistic import (
    Layer,
    Listen,
    PacketCounter,
    Parsed,
    Statistic,
    both_filters,
    hookimpl,
    sort_rows,
    text_of,
)
from sharkstat.table import Table

if TYPE_CHECKING:
    from sharkstat.declared import Declared
    from sharkstat.group import (
        Count,
        Distinct,
        Every,
        Group,
        Key,
        Max,
        Mean,
        Measure,
        Min,
        Seen,
        Sum,
        Tree,
    )
    from sharkstat.packet import Packet
    from sharkstat.registry import Registry
    from sharkstat.runner import run
    from sharkstat.source import Source
    from sharkstat.tapfile import TapFile

__version__ = "0.1.0"

__all__ = [
    "Column",
    "Count",
    "Declared",
    "Distinct",
    "Every",
    "Group",
    "Key",
    "Layer",
    "Listen",
    "Max",
    "Mean",
    "Measure",
    "MergeError",
    "Min",
    "OutputError",
    "Packet",
    "PacketCounter",
    "Parameter",
    "Parsed",
    "Reading",
    "Registry",
    "RequestError",
    "Row",
    "Seen",
    "SharkstatError",
    "Source",
    "SourceError",
    "Statistic",
    "StatisticError",
    "Sum",
    "Table",
    "TapFile",
    "TextError",
    "Tree",
    "TsharkError",
    "Type",
    "Value",
    "both_filters",
    "hookimpl",
    "run",
    "sort_rows",
    "text_of",
]

# Loaded when first used: they pull in pyshark, or what only a run needs.
_LAZY = {
    "Declared": "sharkstat.declared",
    **dict.fromkeys(
        ("Count", "Distinct", "Every", "Group", "Key", "Max", "Mean", "Measure", "Min", "Seen", "Sum", "Tree"),
        "sharkstat.group",
    ),
    "Packet": "sharkstat.packet",
    "Registry": "sharkstat.registry",
    "Source": "sharkstat.source",
    "TapFile": "sharkstat.tapfile",
    "run": "sharkstat.runner",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
