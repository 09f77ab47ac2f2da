"""What a page shows of results: tables, an overview, or a comparison."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sharkstat.running.overview import Overview
from sharkstat.tables import texts, view
from sharkstat.tables.causes import Cause
from sharkstat.tables.column import Column, Value, unbroken
from sharkstat.tables.diff import Diff
from sharkstat.tables.page import joined, parts
from sharkstat.tables.table import Table
from sharkstat.tables.wording import cause_text, first_line, percent

# Of a table; the rest is said. A page stays below some megabytes, and a browser quick.
MOST_ROWS = 2_000
_PERCENTILE = re.compile(r"p[0-9]")
_NUMERIC = ("integer", "number", "time", "duration")


@dataclass(frozen=True)
class Cell:
    """A value as a person reads it, and the number to sort by where it is one."""

    text: str
    sort: float | int | None = None


@dataclass(frozen=True)
class Line:
    """A row. `depth` is that in a tree, from 1 on; `folds` says whether rows hang below it."""

    cells: list[Cell]
    depth: int = 0
    folds: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table as it stands in a page."""

    headings: list[str]
    numeric: list[bool]
    lines: list[Line]
    omitted: int = 0

    @property
    def is_tree(self) -> bool:
        return any(line.depth for line in self.lines)


@dataclass(frozen=True)
class Branch:
    """A cause of a change: its share of the whole, the change by number and by size, and what it is."""

    text: str
    share: float
    share_text: str
    change: str
    by_number: str
    by_size: str
    grows: bool
    children: list[Branch] = field(default_factory=list)


@dataclass(frozen=True)
class Block:
    """A part of the page. `charted` are the tables whose charts are drawn above the sheet."""

    title: str
    request: str = ""
    charted: Sequence[Table] = ()
    sheet: Sheet | None = None
    notes: list[str] = field(default_factory=list)
    more: str = ""


@dataclass(frozen=True)
class Contents:
    """A page from top to bottom."""

    title: str
    lead: list[str]
    blocks: list[Block]
    findings: list[tuple[str, str]] | None = None  # how bad, and the sentence
    causes: list[Branch] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    tshark: str = ""


def contents_of(results: Table | Sequence[Table] | Overview | Diff) -> Contents:
    """What there is to show of them."""
    if isinstance(results, Overview):
        return _of_overview(results)
    if isinstance(results, Diff):
        return _of_diff(results)
    return _of_tables([results] if isinstance(results, Table) else list(results))


def sheet_of(table: Table, names: Sequence[str] = (), shared: str = "") -> Sheet:
    """The table's first rows: all columns that are shown, or those named as in `Section.columns`.

    `shared` is a column whose share of the total is a column more.
    """
    rows = table.rows[:MOST_ROWS]
    omitted = len(table.rows) - len(rows) + table.omitted
    if names:
        chosen = [_named(table, name) for name in names]
    else:
        chosen = [(unbroken(view.heading(c)), c.type in _NUMERIC, _cells(table, c)) for c in table.columns if c.shown]
    total = table.total(table.column(shared).share or shared) if shared else 0
    if total:
        chosen.append(("Share", True, lambda row: _share(row[shared], total)))
    columns = [[cell(row) for row in rows] for _, _, cell in chosen]
    cells = [list(row) for row in zip(*columns, strict=True)]
    path = next((c for c in table.columns if c.shown), None)
    depths, folds = [0] * len(rows), [False] * len(rows)
    if path is not None and path.type == "path" and not names:
        paths = [value if isinstance(value := row[path.name], tuple) else () for row in rows]
        depths = [len(one) for one in paths]
        above = {one[:-1] for one in paths}
        folds = [one in above for one in paths]
        for row, one in zip(cells, paths, strict=True):
            row[0] = Cell(texts.read(one[-1]) if one else "-")
    lines = [Line(*line) for line in zip(cells, depths, folds, strict=True)]
    return Sheet(
        [heading if _PERCENTILE.match(heading) else heading[:1].upper() + heading[1:] for heading, _, _ in chosen],
        [numeric for _, numeric, _ in chosen],
        lines,
        omitted,
    )


_Row = dict[str, Value]


def _share(value: Value, total: float) -> Cell:
    share = 100 * value / total if isinstance(value, (int, float)) else 0.0
    return Cell(f"{share:.1f} %", share)


def _cells(table: Table, column: Column) -> Callable[[_Row], Cell]:
    def cell(row: _Row) -> Cell:
        value = row[column.name]
        number = value if isinstance(value, (int, float)) and column.type in _NUMERIC else None
        return Cell(view.cell(table, column, value), number)

    return cell


def _named(table: Table, spec: str) -> tuple[str, bool, Callable[[_Row], Cell]]:
    """A column of a section: "address:port=Server"."""
    name, _, heading = spec.partition("=")
    first = table.column(parts(name)[0])
    if len(parts(name)) == 1:
        return heading or unbroken(view.heading(first)), first.type in _NUMERIC, _cells(table, first)
    return heading or view.heading(first), False, lambda row: Cell(joined(table, row, name))


def _state(tables: Sequence[Table]) -> tuple[list[str], list[str], str]:
    """Warnings, what was read, and tshark's version: each once."""
    warnings = dict.fromkeys(texts.safe(warning) for table in tables for warning in table.warnings)
    read = dict.fromkeys(view.source(table.reading) for table in tables)
    versions = dict.fromkeys(table.tshark for table in tables if table.tshark)
    return list(warnings), list(read), ", ".join(versions)


def _of_tables(tables: list[Table]) -> Contents:
    warnings, read, version = _state(tables)
    titles = dict.fromkeys(texts.safe(table.title) for table in tables)
    sources = dict.fromkeys(table.reading.sources for table in tables)
    blocks = []
    for table in tables:
        notes = [] if table.complete else ["Incomplete: not all packets are counted. The warnings say why."]
        title = texts.safe(table.title)
        if len(sources) > 1:
            title += f": {texts.safe(', '.join(table.reading.sources))}"
        blocks.append(Block(title, texts.safe(table.request), [table], sheet_of(table) if table.rows else None, notes))
    lead = [*read] if len(read) <= 3 else [f"{len(read):,} sources"]
    return Contents(", ".join(titles) or "No tables", lead, blocks, None, [], warnings, read, version)


def _of_overview(found: Overview) -> Contents:
    warnings, read, version = _state(found.tables)
    names = texts.safe(", ".join(found.capture.reading.sources))
    findings = [(str(row["severity"]), texts.safe(str(row["finding"]))) for row in found.findings.rows]
    blocks = [
        Block(
            part.section.title or part.table.title,
            texts.safe(part.table.request),
            [*filter(None, [part.over_time]), part.table],
            None if _is_interval(part.table) else sheet_of(part.table, part.section.columns, part.section.bar),
            more=found.command([part.table.request]),
        )
        for part in found.parts
        if part.section.rows and part.table.rows
    ]
    return Contents(names, found.head(), blocks, findings, [], warnings, read, version)


def _is_interval(table: Table) -> bool:
    return [column.type for column in table.keys] == ["time"]


def _of_diff(found: Diff) -> Contents:
    warnings, read, version = _state(found.tables)
    lead = [f"Before: {found.before}", f"After: {found.after}", *found.remarks]
    title = "What changed"
    causes: list[Branch] = []
    if found.explanation is not None:
        line = first_line(found.explanation, found.scale)
        if found.nothing_changed:
            title = "Nothing changed"
            lead.insert(0, line)
        else:
            title = line[0].upper() + line[1:]
            main = found.findings[0]
            lead.insert(0, f"{percent(main.share)} of it: {main.sentence}")
            causes = list(_branches(found, found.explanation.causes, ()))
    if found.caution:
        caution = texts.safe(found.caution)
        lead.insert(0, caution)
        warnings = [warning for warning in warnings if warning != caution]
    blocks = [
        Block(texts.safe(table.title), "", (), sheet_of(table))
        for table in found.tables
        if table.rows and (found.explanation is None or table.name == "diff,change")
    ]
    return Contents(title, lead, blocks, None, causes, warnings, read, version)


def _branches(found: Diff, causes: Sequence[Cause], above: tuple[Cause, ...]) -> Iterator[Branch]:
    explanation = found.explanation
    assert explanation is not None
    gross = explanation.gross()
    for cause in causes:
        share = explanation.weight(cause) / gross if gross else 0.0
        change = found.scale.of(explanation.change(cause.total))
        by_number, by_size = found.split(cause)
        yield Branch(
            text=cause_text(
                cause, explanation.by, found.scale, [c.dimension for c in above], above[-1] if above else None
            ),
            share=share,
            share_text=percent(share),
            change=found.amount(change),
            by_number=by_number,
            by_size=by_size,
            grows=change >= 0,
            children=list(_branches(found, cause.children, (*above, cause))),
        )
