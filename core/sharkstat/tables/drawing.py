"""What all charts share: how they look, their axes and legends, and how they become SVG or PNG (altair, vl-convert)."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from typing import Any

from sharkstat.errors import OutputError
from sharkstat.tables.column import Column
from sharkstat.tables.texts import safe

# Told apart by people who see colours differently, and on white as on black.
COLOURS = ("#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#8b5cf6", "#06b6d4", "#9ca3af")
GREY = COLOURS[-1]
WIDTH = 720
ROW_HEIGHT = 22
_FONT = "Arial, Helvetica, sans-serif"  # what vl-convert measures texts with


def require(*others: str) -> None:
    """OutputError that says how to install what charts need (and `others`), where it is missing. Imports nothing."""
    for name in ("altair", "vl_convert", *others):
        if importlib.util.find_spec(name) is None:
            raise OutputError(f"charts and HTML pages need {name}: pip install 'sharkstat[report]'")


def library(name: str) -> Any:
    require()
    return importlib.import_module(name)


def svg(drawn: Any) -> str:
    """The chart as SVG that stands by itself; `currentColor` is the colour of its text."""
    text: str = library("vl_convert").vegalite_to_svg(drawn.to_dict())
    return text


def svg_and_legend(drawn: Any, prefix: str) -> tuple[str, list[tuple[str, str]]]:
    """The chart as SVG for a page, and its legend beside: each name with its colour.

    A page wraps the legend at its own width. Identifiers begin with the prefix, so that a page may have several charts.
    """
    specification = drawn.to_dict()
    legend = list(dict.fromkeys(_taken(specification)))
    text: str = library("vl_convert").vegalite_to_svg(specification)
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}", text), legend


def _taken(specification: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The entries of the legends of a chart, which has none then."""
    for layer in (specification, *specification.get("layer", ())):
        colour = layer.get("encoding", {}).get("color", {})
        if "scale" in colour:
            colour["legend"] = None
            yield from zip(colour["scale"]["domain"], colour["scale"]["range"], strict=True)


def png(drawn: Any) -> bytes:
    """The chart as a picture on white, of twice its size in pixels."""
    specification = drawn.configure(**configuration("#111827", "white")).to_dict()
    data: bytes = library("vl_convert").vegalite_to_png(specification, scale=2)
    return data


def configuration(ink: str = "currentColor", background: str = "transparent") -> dict[str, Any]:
    lines = {"gridColor": ink, "gridOpacity": 0.12, "domainColor": ink, "domainOpacity": 0.4}
    texts = {"labelColor": ink, "titleColor": ink, "titleFontWeight": "normal", "labelFontSize": 11}
    return {
        "background": background,
        "padding": {"left": 16, "right": 16, "top": 4, "bottom": 4},  # fonts differ in width
        "font": _FONT,
        "view": {"stroke": None},
        "axis": {**lines, **texts, "tickColor": ink, "tickOpacity": 0.4, "labelLimit": 260},
        "title": {"color": ink},
        "legend": {**texts, "orient": "top", "title": None, "symbolType": "square", "labelLimit": 260},
    }


def colour(names: Sequence[str], colours: Sequence[str] = COLOURS) -> Any:
    """The colours of series with these names, which each mark has in its field `name`."""
    alt = library("altair")
    return alt.Color("name:N", sort=list(names), scale=alt.Scale(domain=list(names), range=list(colours)[: len(names)]))


def labelled(labels: Sequence[str]) -> Any:
    """The axis of rows with these labels, from top to bottom."""
    alt = library("altair")
    return alt.Y("label:N", sort=list(labels), title=None, axis=alt.Axis(labelLimit=0, domain=False))


def axis(column: Column, **more: Any) -> Any:
    """The axis of numbers of this column."""
    whole = {"tickMinStep": 1} if column.type == "integer" else {}
    return library("altair").Axis(labelExpr=_figures(column), tickCount=5, **whole, **more)


def _figures(column: Column) -> str:
    """Vega's expression for a number of this column on an axis."""
    short = "format(datum.value, '.3~s')"
    unit = {"bytes": "B", "bytes per second": "B/s"}.get(column.unit, "s" if column.type == "duration" else "")
    return f"replace({short}, regexp('([^0-9]*)$'), ' $1{unit}')" if unit else short


def letters(width: int) -> int:
    """How long names beside bars may be."""
    return min(width // 15, 56)


def number(column: Column, value: object) -> float | None:
    """A value as a chart has it: durations in seconds."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return value / 1e9 if column.type == "duration" else float(value)


def heading(column: Column) -> str:
    return safe(column.label)
