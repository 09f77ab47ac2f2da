"""Tables for people: humanised, aligned, trees drawn, safe for a terminal. Through tabulate."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sharkstat.tables.column import Column, Reading, Row, Value, unbroken
from sharkstat.tables.figures import clock, humanised_bytes, humanised_duration, plain_number, scaled, seconds
from sharkstat.tables.ink import Ink
from sharkstat.tables.texts import display_width, is_narrow, read, safe, shortened, widest_of


class Table(Protocol):
    """What there must be of a table to show it (sharkstat.Table has it)."""

    @property
    def title(self) -> str: ...
    @property
    def request(self) -> str: ...
    @property
    def complete(self) -> bool: ...
    @property
    def columns(self) -> Sequence[Column]: ...
    @property
    def rows(self) -> Sequence[Row]: ...
    @property
    def reading(self) -> Reading: ...
    @property
    def names(self) -> Mapping[str, str]: ...
    @property
    def omitted(self) -> int: ...


_NUMERIC = frozenset(("integer", "number", "time", "duration"))
# Markdown, whose texts stand in code spans: nothing in them is markup there.
_MARKDOWN = ("pipe", "github")
_MINIMUM_WIDTH, _READABLE_WIDTH = 12, 32
_ADDRESS_WIDTH = 15  # of IPv4: a shortened address says nothing


def cell(table: Table, column: Column, value: Value) -> str:
    """One value as a person reads it."""
    if value is None:
        return "-"
    if column.named and (name := table.names.get(f"{column.named}={value}")):
        return read(name)
    if column.type == "path" and isinstance(value, tuple):
        return read(" / ".join(value))
    if column.type == "set" and isinstance(value, tuple):
        return read(", ".join(value))
    if column.type == "address":
        return read(table.names.get(str(value), str(value)))
    if column.type == "time" and column.role == "key" and isinstance(value, int):
        moment, fraction = clock(value), f".{value % 10**9:09d}".rstrip("0")
        return seconds(value) if moment is None else moment + fraction.rstrip(".")
    if column.type == "time" and isinstance(value, int):
        start = table.reading.start
        return f"{(value - (start or 0)) / 1e9:.6f}" if start is not None else seconds(value)
    if column.type == "duration" and isinstance(value, int):
        return seconds(value) if column.role == "key" or column.name == "stop" else humanised_duration(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)) and (text := scaled(column.unit, value)):
        return text
    if column.unit == "times" and isinstance(value, (int, float)):
        return f"{value:.2f}"
    if column.unit == "percent" and isinstance(value, (int, float)):
        return f"{value:.1f} %"
    if isinstance(value, int):
        counted = column.role == "derived" or (column.role == "measure" and (column.unit or column.merge == "sum"))
        return f"{value:,}" if counted else str(value)
    if isinstance(value, float):
        return f"{value:.4f}" if column.unit == "per millisecond" else plain_number(value)
    return read(str(value))


@dataclass
class Grid:
    """Headings and cells, ready to be laid out."""

    columns: list[Column]
    headings: list[str]
    rows: list[list[str]]
    # What a health finding would count, by row and name of the column.
    marks: dict[tuple[int, str], str] = field(default_factory=dict)
    # Cells that a heading has besides its text: as many as tabulate gives it, none where room is short.
    padding: int = 2


def grid(table: Table, draw_trees: bool = True) -> Grid:
    columns = [column for column in table.columns if column.shown]
    rows = [[cell(table, column, row[column.name]) for column in columns] for row in table.rows]
    for at, column in enumerate(columns):
        if draw_trees and column.type == "path" and at == 0:
            for row, label in zip(rows, _tree(table.rows, column.name), strict=True):
                row[0] = label
    # Names are texts, whatever they are names of.
    laid = [dataclasses.replace(column, type="text") if column.named else column for column in columns]
    return Grid(laid, [heading(column) for column in columns], rows, _marks(table))


def _marks(table: Table) -> dict[tuple[int, str], str]:
    """The values that the statistic's checks would warn of, if the capture had but their row."""
    found: dict[tuple[int, str], str] = {}
    for check in getattr(getattr(table, "statistic", None), "checks", ()):
        for at, row in enumerate(table.rows):
            severity = check.severity(row)
            if severity in ("warning", "bad"):
                found[at, check.figure] = severity
    return found


def heading(column: Column) -> str:
    """The column's heading, with the unit where the cells do not show it; ≈ where tshark had rounded the values."""
    text = "\n".join(safe(line) for line in column.heading.split("\n"))
    plain = (column.type == "time" and column.role != "key") or (
        column.type == "duration" and (column.role == "key" or column.name == "stop")
    )
    text = f"{text} (s)" if plain else f"{text} (UTC)" if column.type == "time" else text
    return f"{text} ≈" if column.approximate else text


def _tree(rows: Sequence[Row], name: str) -> list[str]:
    """Each path as its last level behind the branches that lead there, the rows being depth first."""
    paths = [path if isinstance(path := row[name], tuple) else ("-",) for row in rows]  # packets of no node
    last_of: dict[tuple[str, ...], tuple[str, ...]] = {path[:-1]: path for path in paths}
    labels = []
    for path in paths:
        branches = ""
        for depth in range(2, len(path)):
            branches += "   " if last_of.get(path[: depth - 1]) == path[:depth] else "│  "
        if len(path) > 1:
            branches += "└─ " if last_of.get(path[:-1]) == path else "├─ "
        labels.append(branches + read(path[-1]))
    return labels


def fit(laid: Grid, width: int, wanted: Sequence[str] = ()) -> list[str]:
    """Make the grid fit: rates leave, the widest texts are shortened, then other columns leave from the right.

    Gives the names of the columns that left.
    """

    # The widest cell of each column: headings and the padding change, and cells but where texts are shortened.
    bodies = [widest_of([row[at] for row in laid.rows]) for at in range(len(laid.columns))]

    def size_of(at: int) -> int:
        heading = max(display_width(line) + laid.padding for line in laid.headings[at].split("\n"))
        return max(heading, bodies[at])

    columns = list(laid.columns)
    left: list[str] = []

    def leave(at: int) -> None:
        left.append(laid.columns.pop(at).name)
        for cells in (laid.headings, sizes, bodies, *laid.rows):
            del cells[at]  # type: ignore[attr-defined]

    sizes = [size_of(at) for at in range(len(laid.columns))]
    if sum(sizes) + 2 * (len(sizes) - 1) > width:
        laid.padding = 0
        sizes = [size_of(at) for at in range(len(laid.columns))]
    while laid.columns:
        excess = sum(sizes) + 2 * (len(sizes) - 1) - width
        if excess <= 0:
            break
        # Texts become shorter as long as they can be read well; then the less important columns leave.
        idle, minor = _minor(laid, wanted)
        if idle and len(laid.columns) > 1:
            leave(idle[0])
            continue
        least = _READABLE_WIDTH if minor else _MINIMUM_WIDTH
        leasts = [max(least, _ADDRESS_WIDTH) if c.type == "address" else least for c in laid.columns]
        elastic = [at for at, c in enumerate(laid.columns) if c.type not in _NUMERIC and sizes[at] > leasts[at]]
        if elastic:
            widest = max(elastic, key=lambda at: sizes[at])
            least = leasts[widest]
            floor = max([sizes[at] for at in elastic if at != widest] + [least])
            target = max(sizes[widest] - excess, min(floor, sizes[widest] - 1), least)
            for row in laid.rows:
                row[widest] = shortened(row[widest], target)
            bodies[widest] = widest_of([row[widest] for row in laid.rows])
            laid.headings[widest] = _narrowed(laid.headings[widest], target - laid.padding)
            sizes[widest] = size_of(widest)
            continue
        if len(laid.columns) == 1:
            break
        leave(minor[0] if minor else _least(laid, wanted))
    return [column.name for column in columns if column.name in left]


def _important(table: Table) -> list[str]:
    """The columns that answer the statistic's question: those of its block in the overview, where it has one.

    Of rows over time, when each is, too: without that, several would look alike.
    """
    section = getattr(getattr(table, "statistic", None), "section", None)
    names = getattr(section, "columns", ())
    times = [c.name for c in table.columns if c.role == "key" and c.type == "time"] if names else []
    return [*times, *(name for text in names for name in re.split("[:/]", text.partition("=")[0]))]


def _least(laid: Grid, wanted: Sequence[str]) -> int:
    """The column that leaves where all that is left is important: a key that is not `wanted`, or the last of these."""
    names = [column.name for column in laid.columns]
    unwanted = [at for at, name in enumerate(names) if wanted and name not in wanted]
    ranked = [name for name in wanted if name in names and laid.columns[names.index(name)].role != "key"]
    return unwanted[-1] if unwanted else names.index(ranked[-1]) if ranked else len(names) - 1


def _narrowed(heading: str, width: int) -> str:
    """The heading with a line for each word where it is too wide, its words shortened where even that is."""
    if display_width(heading) > width:
        heading = heading.replace(" ", "\n")
    return "\n".join(shortened(line, width) for line in heading.split("\n"))


def _minor(laid: Grid, wanted: Sequence[str]) -> tuple[list[int], list[int]]:
    """The columns that may leave, in order: without a value, rates, what a p95 stands for; then those not `wanted`."""
    last = range(len(laid.columns) - 1, -1, -1)
    empty = [at for at in last if laid.rows and all(row[at] in ("", "-") for row in laid.rows)]
    others = [at for at in last if laid.columns[at].role != "key" and laid.columns[at].name not in wanted]
    rates = [at for at in others if laid.columns[at].unit.startswith("per ") or laid.columns[at].name == "burst_start"]
    spread = _spread(laid.columns)
    lesser = [at for at in last if laid.columns[at].name in spread]
    return list(dict.fromkeys([*empty, *rates, *lesser])), others if wanted else []


def _spread(columns: Sequence[Column]) -> set[str]:
    """Of percentiles of the same values, all but that nearest to 95, and the smallest value."""
    found: dict[str, list[tuple[float, str]]] = {}
    for column in columns:
        if column.percentile:
            found.setdefault(column.percentile[1], []).append((abs(column.percentile[0] - 95), column.name))
    lesser = {name for group in found.values() for _, name in sorted(group)[1:]}
    return lesser | {column.percentile[2] for column in columns if column.percentile}


def lay_out(laid: Grid, style: str, ink: Ink | None = None) -> str:
    """The grid in one of tabulate's formats; `ink` is for a terminal, and the style "simple"."""
    if style == "simple":
        return _simple(laid, ink or Ink())
    rows = laid.rows
    headings = laid.headings
    if style not in (
        "simple",
        "plain",
        "grid",
        "fancy_grid",
        "rounded_grid",
        "heavy_grid",
        "outline",
        "psql",
    ):
        headings = [unbroken(heading) for heading in headings]
    if style in _MARKDOWN:
        texts = [column.type not in _NUMERIC for column in laid.columns]
        rows = [[code_span(t) if is_text else t for t, is_text in zip(row, texts, strict=True)] for row in rows]
        headings = [_plain_markdown(heading) for heading in headings]
    if style == "pipe":
        return _pipe(laid.columns, headings, rows)
    import tabulate

    return tabulate.tabulate(
        rows,
        headers=headings,
        tablefmt=style,
        disable_numparse=True,
        colalign=["right" if column.type in _NUMERIC else "left" for column in laid.columns] if rows else None,
        preserve_whitespace=True,
    )


def _pipe(columns: Sequence[Column], headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same as tabulate's "pipe", which takes four times as long and twice the memory."""
    cells = zip(*rows, strict=True) if rows else iter([()] * len(columns))
    parts: list[list[str]] = []
    for column, heading, body in zip(columns, headings, cells, strict=True):
        width_of = len if is_narrow("".join((heading, *body))) else display_width
        width = max(1, width_of(heading) + 2, *map(width_of, body))
        right = column.type in _NUMERIC
        rule = "-" * (width + 1) + ":" if right else ":" + "-" * (width + 1)
        filled = [
            " " * (width - width_of(text)) + text if right else text + " " * (width - width_of(text))
            for text in (heading, *body)
        ]
        parts.append([f" {filled[0]} ", rule, *(f" {text} " for text in filled[1:])])
    return "\n".join(f"|{'|'.join(line)}|" for line in zip(*parts, strict=True))


def _simple(laid: Grid, ink: Ink) -> str:
    """The same as tabulate's "simple", for which it needs minutes where there are a million cells."""
    columns = list(zip(*laid.rows, strict=True)) if laid.rows else [()] * len(laid.columns)
    headings = [heading.split("\n") for heading in laid.headings]
    height = max(map(len, headings), default=0)
    lines: list[Sequence[str]] = []
    for column, heading, cells in zip(laid.columns, headings, columns, strict=True):
        plain = is_narrow("".join((*heading, *cells)))
        width_of = len if plain else display_width
        width = max([*(width_of(line) + laid.padding for line in heading), *map(width_of, cells)])
        block = [*heading, *[""] * (height - len(heading)), "-" * width, *cells]
        right = column.type in _NUMERIC
        if ink.colours:
            painted = [*map(ink.bold, heading), *[""] * (height - len(heading)), ink.dim("-" * width)]
            for at, cell in enumerate(cells):
                key = ink.dim(cell) if column.role == "key" else cell
                painted.append(ink.mark(laid.marks.get((at, column.name), ""), key))
            blanks = [" " * (width - width_of(text)) for text in block]
            lines.append([b + t if right else t + b for t, b in zip(painted, blanks, strict=True)])
        elif plain:
            lines.append([text.rjust(width) if right else text.ljust(width) for text in block])
        else:
            blanks = [" " * (width - width_of(text)) for text in block]
            lines.append([b + t if right else t + b for t, b in zip(block, blanks, strict=True)])
    return "\n".join("  ".join(parts).rstrip() for parts in zip(*lines, strict=True))


def _escaped(text: str, quote: bool = True) -> str:
    from html import escape  # with all its entities

    return escape(text, quote)


def code_span(text: str) -> str:
    r"""The text in a table of Markdown as it is: in a code span, where neither links nor tags nor emphasis are made.

    Source: CommonMark 0.31, "Code spans"; GFM, "Tables" (a bar is escaped there, even in code).

    >>> code_span("![x](http://h)"), code_span("a`b|c"), code_span("-")
    ('`![x](http://h)`', '``a`b\\|c``', '-')
    """
    if text.strip() in ("", "-"):
        return text
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{pad}{text}{pad}{fence}".replace("|", "\\|")


def _plain_markdown(text: str) -> str:
    """A heading, which may hold the name of a field, as plain text."""
    return re.sub(r"([\\`*_\[\]<>|~&])", r"\\\1", text)


def caption(table: Table, style: str = "") -> str:
    """The line above a table: what it is and what was asked for. `style` is one of tabulate's formats."""
    request = safe(table.request)
    parts = [f"{table.title} ({code_span(request) if style in _MARKDOWN else request})"]
    if not table.complete:
        parts.append("INCOMPLETE")
    if table.reading.dropped:
        parts.append(f"{table.reading.dropped:,} packet{'s' if table.reading.dropped > 1 else ''} dropped")
    text = " - ".join(parts)
    return f"% {text}" if style.startswith("latex") else text


def text(
    table: Table,
    style: str = "simple",
    width: int | None = None,
    on_left_out: Callable[[list[str]], None] | None = None,
    ink: Ink | None = None,
) -> str:
    """The table for reading. `width` is the terminal's, and so is `ink`; without a width nothing is shortened."""
    title = (ink or Ink()).bold(caption(table))
    if not table.rows:
        return f"{title}\nno matching packets"
    laid = grid(table)
    if width is not None:
        left = fit(laid, width, _important(table))
        if left and on_left_out is not None:
            on_left_out(left)
    return f"{title}\n{lay_out(laid, style, ink)}{omitted(table)}"


def omitted(table: Table) -> str:
    return f"\n… and {table.omitted:,} more row{'s' if table.omitted > 1 else ''}" if table.omitted else ""


_NOTEBOOK_ROWS = 20


def html(table: Table) -> str:
    """The table for a notebook: its first rows, and how many more there are."""
    more = len(table.rows) - _NOTEBOOK_ROWS + table.omitted if len(table.rows) > _NOTEBOOK_ROWS else table.omitted
    shown = grid(dataclasses.replace(table, rows=table.rows[:_NOTEBOOK_ROWS]))  # type: ignore[type-var]

    def line(tag: str, cells: Sequence[str]) -> str:
        def one(column: Column, text: str) -> str:
            side = "right" if column.type in _NUMERIC else "left"
            return f'<{tag} style="text-align: {side}; white-space: pre">{_escaped(text)}</{tag}>'

        return "<tr>" + "".join(map(one, shown.columns, cells)) + "</tr>"

    parts = [f"<p><b>{_escaped(caption(table))}</b></p><p>{_escaped(source(table.reading))}</p>"]
    if shown.rows:
        body = "".join(line("td", row) for row in shown.rows)
        parts.append(f"<table><thead>{line('th', shown.headings)}</thead><tbody>{body}</tbody></table>")
    else:
        parts.append("<p>no matching packets</p>")
    if more > 0:
        parts.append(f"<p>… and {more:,} more row{'s' if more > 1 else ''}</p>")
    return "".join(parts)


def source(reading: Reading) -> str:
    """What was read, in a line: sources, packets, bytes and the time they span.

    >>> source(Reading(("a.pcap",), 2, 1500, None, 1_700_000_000_000_000_000, 1_700_000_001_500_000_000))
    'a.pcap: 2 packets, 1.50 kB, 2023-11-14 22:13:20 UTC, 1.50 s'
    """
    packets = f"{reading.packets:,} packet{'' if reading.packets == 1 else 's'}"
    parts = [packets, humanised_bytes(reading.bytes)]
    if reading.first is not None and reading.last is not None:
        parts += [
            f"{clock(reading.first) or seconds(reading.first)} UTC",
            humanised_duration(reading.last - reading.first),
        ]
    return f"{safe(', '.join(reading.sources))}: {', '.join(parts)}"
