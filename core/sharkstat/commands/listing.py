"""Tables of the statistics, the plugins and the taps, and of one statistic's parameters and columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sharkstat.errors import RequestError
from sharkstat.statistics import installed_taps as taps
from sharkstat.statistics.index import Described
from sharkstat.statistics.installed_taps import Installation
from sharkstat.statistics.registry import Registry
from sharkstat.statistics.statistic import Statistic
from sharkstat.tables.column import Column, Row
from sharkstat.tables.table import Table

# The questions that statistics answer, in the order in which they are listed, with families and names.
QUESTIONS = {
    "What is in the traffic?": "services apps traffic timeline links io,stat io,phs dns,names http,requests http,tree "
    "http_req,tree http_srv,tree tls,servers quic,servers group",
    "Who talks to whom?": "talkers conv endpoints arp,hosts dhcp,leases processes hosts",
    "How well does it work?": "tcp,health tcp,servers tcp,connections latency loss rtp,streams icmp,errors expert",
}
OF_PLUGINS, OF_TSHARK = "From plugins", "tshark's own, by protocol"


def statistics_table(registry: Registry, tshark: str, words: str = "") -> Table:
    """The statistics that match the words, all for "".

    `tshark` is the origin to show for those of the installed tshark; "" leaves them out.
    """
    found = {name: (told, origin) for name, told, origin in registry.described(discovered=bool(tshark))}
    names = sorted(found)
    if words:
        from sharkstat.statistics.searching import search

        names = [name for name in search(words, registry.all() if tshark else registry.statistics) if name in found]
    rows = []
    for name in names:
        told, origin = found[name]
        engines = ", ".join(told.engines)
        rows.append(
            (name, told.title, _question(name, told, origin), told.usage, told.family, engines, origin or tshark)
        )
    table = _table("list", "Statistics", ("name", "title", "question", "usage", "family", "engines", "from"), rows)
    hidden = ("question", "usage", "family")
    table.columns = tuple(
        Column(c.name, "text", merge="first", shown=False) if c.name in hidden else c for c in table.columns
    )
    return table


def by_question(table: Table) -> list[Table]:
    """The table of all statistics, split into one per question."""
    questions = [*QUESTIONS, OF_PLUGINS, OF_TSHARK]
    parts = [replace(table.where(question=question), title=question) for question in questions]
    return [part for part in parts if part.rows]


def _question(name: str, told: Described, origin: str) -> str:
    rare = not origin or told.engines == ("tshark",)
    kinds = {name} if rare else {name, told.family}
    asked = (question for question, names in QUESTIONS.items() if kinds & set(names.split()))
    return next(asked, OF_TSHARK if rare else OF_PLUGINS)


def plugins_table(registry: Registry) -> Table:
    """Every plugin: where it comes from, what it gives, why it did not load, and how long that took now."""
    _ = registry.statistics  # all are loaded
    names = ("plugin", "from", "statistics", "families", "formats", "problem")
    rows = [
        (p.name, p.origin, ", ".join(p.statistics), ", ".join(p.families), ", ".join(p.formats), p.complaint)
        for p in registry.plugins
    ]
    table = _table("plugins", "Plugins", names, rows)
    took = Column("load_time", "duration", "seconds", merge="max", description="time to load the plugin")
    table.columns = (*table.columns[:2], took, *table.columns[2:])
    for row, plugin in zip(table.rows, registry.plugins, strict=True):
        row[took.name] = plugin.nanoseconds
    return table


def taps_table(registry: Registry, installations: Mapping[str, Installation]) -> Table:
    """The statistics whose tap also runs in plain tshark: name there, file, and where it is installed."""
    shipped = {path.name for path in taps.shipped()}
    rows = []
    for _, statistic in sorted(registry.statistics.items()):
        path = taps.tap_of(statistic)
        if path is None or (path.parent == taps.lua_folder() and path.name not in shipped):
            continue
        places = [place for place, installation in installations.items() if installation.has(path.name)]
        rows.append((taps.z_name(statistic), statistic.title, ", ".join(places) or "no", str(path)))
    known = {Path(row[3]).name for row in rows}
    for place, installation in installations.items():
        for path in installation.own():
            header = taps.header_of(path)
            if path.name not in known and header:
                rows.append((header["name"][0], header["title"][0], place, str(path)))
    return _table("taps", "Taps", ("name", "title", "installed", "file"), rows)


def columns_table(statistic: Statistic, arguments: str, request: str) -> Table:
    """The columns of a statistic with these arguments; with those of its example if these do not do."""
    try:
        columns = statistic.columns(arguments)
    except RequestError:
        columns = statistic.columns(statistic.example)
    rows = [
        (
            c.name,
            c.type,
            c.unit,
            c.role,
            c.merge,
            "; ".join(filter(None, (c.description, "rounded by tshark" * c.approximate))),
        )
        for c in columns
    ]
    table = _table(
        statistic.name, f"Columns of {statistic.name}", ("column", "type", "unit", "role", "merge", "description"), rows
    )
    table.request = request
    return table


def parameters_table(statistic: Statistic) -> Table:
    """The parameters that a request may give as NAME=VALUE."""
    rows = [
        (p.name, p.type, "" if p.default is None else p.default, ", ".join(p.choices), p.description)
        for p in statistic.parameters
    ]
    names = ("parameter", "type", "default", "choices", "description")
    return _table(statistic.name, f"Parameters of {statistic.name}", names, rows)


def _table(name: str, title: str, names: Sequence[str], values: Sequence[Sequence[str]]) -> Table:
    columns = (Column(names[0], "text", role="key"), *(Column(name, "text", merge="first") for name in names[1:]))
    rows: list[Row] = [dict(zip(names, row, strict=True)) for row in values]
    return Table(name, title, name, columns, rows)
