"""Contents as HTML: one file, which loads nothing and runs nothing but its own script."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from importlib.resources import files

from sharkstat.reports.contents import MOST_ROWS, contents_of
from sharkstat.running.overview import Overview
from sharkstat.tables import charts, drawing, texts
from sharkstat.tables.diff import Diff
from sharkstat.tables.table import Table

_WIDE, _NARROW = 1000, 420  # pixels: of a page, and of one on a phone


def report(results: Table | Sequence[Table] | Overview | Diff, command: str = "") -> str:
    """The results as an HTML page: what `--format html` writes.

    `results` are tables, an overview or a diff; `command` stands at the page's foot. The page is one file that loads
    no other. Nothing that packets say is markup in it, and its Content-Security-Policy allows its own script and style
    only. OutputError where `sharkstat[report]` is not installed.

    >>> import sharkstat
    >>> page = sharkstat.report(sharkstat.run("tests/data/dns.pcapng", "conv,udp"))
    >>> page.startswith("<!doctype html>")
    True
    """
    drawing.require("jinja2")
    import jinja2

    folder = files("sharkstat.reports")
    style, script = ((folder / name).read_text("utf-8") for name in ("page.css", "page.js"))
    contents = contents_of(results)
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string((folder / "page.html").read_text("utf-8"))
    drawn = [list(_drawn(block.charted, f"c{number}-")) for number, block in enumerate(contents.blocks)]
    text: str = template.render(
        page=contents,
        blocks=list(zip(contents.blocks, drawn, strict=True)),
        most=MOST_ROWS,
        style=style,
        script=script,
        policy=f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; "
        "form-action 'none'",
        command=texts.safe(command),
        version=_version(),
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC"),
    )
    return text


def _version() -> str:
    try:
        return importlib.metadata.version("sharkstat")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _drawn(tables: Sequence[Table], prefix: str) -> Iterator[tuple[list[tuple[str, str]], str, str]]:
    """The charts of tables: the legend of each, and it as SVG, for a wide page and for a narrow one."""
    for at, table in enumerate(tables):
        pairs = zip(charts.charts(table, _WIDE), charts.charts(table, _NARROW), strict=True)
        for number, (wide, narrow) in enumerate(pairs):
            wide, legend = drawing.svg_and_legend(wide, f"{prefix}{at}-{number}w")
            narrow, _ = drawing.svg_and_legend(narrow, f"{prefix}{at}-{number}n")
            yield legend, wide, narrow
