"""What a statistic has for tshark's own text: the reader, and what it asks tshark."""

from __future__ import annotations

from sharkstat import Statistic, TsharkText


def reader(statistic: Statistic) -> TsharkText:
    """The engine that reads tshark's text of that statistic."""
    (engine,) = (engine for engine in statistic.engines if isinstance(engine, TsharkText))
    return engine


def asked(statistic: Statistic, arguments: str, display_filter: str) -> str:
    """What follows tshark's -z for the arguments and the run's display filter."""
    return reader(statistic).native(statistic.name, arguments, display_filter)
