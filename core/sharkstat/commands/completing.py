"""What the shell completes: names of statistics, formats, columns, interfaces, engines. Names come from the index."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import typer

from sharkstat.errors import SharkstatError

if TYPE_CHECKING:
    from sharkstat.statistics.registry import Registry

ENGINES = {"lua": "a tap inside tshark", "packets": "in Python", "tshark": "tshark's own text"}

_ASKED = "_SHARKSTAT_COMPLETE" in os.environ


def completed_by(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """The function, if the shell completes a line now: at any other start, typer would examine it for nothing."""
    return function if _ASKED else None


def _registry() -> Registry:
    from sharkstat.statistics.registry import Registry

    return Registry.default()


def complete_statistic(incomplete: str) -> list[tuple[str, str]]:
    """The statistics whose names start with this text, with their titles."""
    try:
        described = list(_registry().described(discovered=True))
    except SharkstatError:
        described = list(_registry().described(discovered=False))
    return sorted((name, told.title) for name, told, _ in described if name.startswith(incomplete.lower()))


def complete_format(incomplete: str) -> list[str]:
    """The output formats."""
    from sharkstat.tables.output import ENDINGS

    names = dict.fromkeys(["table", *ENDINGS, *_registry().formats])
    return [name for name in names if name.startswith(incomplete)]


def complete_column(ctx: typer.Context, incomplete: str) -> list[str]:
    """The columns of the statistics given so far; of several columns, the last."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in dict.fromkeys(_columns(ctx)) if name.startswith(last)]


def _columns(ctx: typer.Context) -> Iterator[str]:
    registry = _registry()
    for text in ctx.params.get("statistics") or ():
        try:
            statistic, arguments = registry.find(text)
            yield from (column.name for column in statistic.columns(arguments))
        except SharkstatError:
            continue


def complete_interface(incomplete: str) -> list[str]:
    """The network interfaces of this host."""
    import socket

    names = ["any", *(name for _, name in socket.if_nameindex())]
    return [name for name in names if name.startswith(incomplete)]


def complete_engine(incomplete: str) -> list[tuple[str, str]]:
    """The engines."""
    return [(name, what) for name, what in ENGINES.items() if name.startswith(incomplete)]
