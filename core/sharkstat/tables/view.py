"""Tables for people: humanised, aligned, trees drawn, safe for a terminal. Through tabulate."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Protocol

from sharkstat.tables.column import Column, Reading, Row, Value, unbroken
from sharkstat.tables.ink import Ink


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


# What moves a cursor, colours, reorders, breaks a line, or cannot be seen: controls, formats and invisible characters
# of Unicode 15 (Cc, Cf, Zl, Zp, Cs, Default_Ignorable_Code_Point), blanks that pass for a space, and U+2800.
# lua/sharkstat_lua/sharkstat_text.lua has the same.
ACTING = (
    "\x00-\x1f\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f"
    "\u205f-\u206f\u2800\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_UNSAFE = re.compile(f"[{ACTING}]")
_NUMERIC = frozenset(("integer", "number", "time", "duration"))
# Markdown, whose texts stand in code spans: nothing in them is markup there.
_MARKDOWN = ("pipe", "github")
# A text is cut in the middle where people read it; exports have it whole.
_LONGEST_TEXT = 256
_MINIMUM_WIDTH, _READABLE_WIDTH = 12, 32
_ADDRESS_WIDTH = 15  # of IPv4: a shortened address says nothing


def safe(text: str) -> str:
    r"""The text with everything that a terminal would act upon written out.

    >>> safe("a\x1b[31mb\n")
    'a\\x1b[31mb\\x0a'
    """

    def written(match: re.Match[str]) -> str:
        code = ord(match.group())
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return _UNSAFE.sub(written, text)


def humanised_bytes(count: int) -> str:
    """
    >>> humanised_bytes(999), humanised_bytes(12_345), humanised_bytes(1_500_000_000)
    ('999 B', '12.3 kB', '1.50 GB')
    """
    return _prefixed(count, "B")


def _prefixed(count: int | float, base: str) -> str:
    """Three digits and a prefix; whole numbers below 1000 as they are."""
    size = abs(count)
    if size < 1000 and isinstance(count, int):
        return f"{count} {base}"
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        # 999.95 kB must not read 1000 kB.
        text = f"{size:.2f}" if size < 9.995 else f"{size:.1f}" if size < 99.95 else f"{size:.0f}"
        if (prefix or isinstance(count, float)) and (float(text) < 1000 or prefix == "E"):
            return f"{'-' if count < 0 else ''}{text} {prefix}{base}"
        size /= 1000
    raise AssertionError


def seconds(nanoseconds: int) -> str:
    """Seconds in full: as many decimals as there are, none cut.

    >>> seconds(10_000_000_000), seconds(1_500_000)
    ('10', '0.0015')
    """
    sign, value = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    whole, rest = divmod(value, 10**9)
    return f"{sign}{whole}" + (f".{rest:09d}".rstrip("0") if rest else "")


def humanised_duration(nanoseconds: int) -> str:
    """
    >>> humanised_duration(1_234_000), humanised_duration(14_987_678_349), humanised_duration(93_784 * 10**9)
    ('1.23 ms', '14.99 s', '1 d 2 h 3 min')
    """
    value = abs(nanoseconds)
    sign = "-" if nanoseconds < 0 else ""
    if value == 0:
        return "0 s"
    if value < 1000:
        return f"{sign}{value} ns"
    if value < 10**6:
        return f"{sign}{value / 1e3:.3g} µs"
    if value < 999_500_000:
        return f"{sign}{value / 1e6:.3g} ms"
    if value < 100 * 10**9:
        return f"{sign}{value / 1e9:.2f} s"
    whole = round(value / 1e9)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    while parts[0][0] == 0:
        parts.pop(0)
    return sign + " ".join(f"{number} {unit}" for number, unit in parts[:3])


def clock(nanoseconds: int, pattern: str = "%Y-%m-%d %H:%M:%S") -> str | None:
    """The whole seconds of a time in UTC, by strftime's pattern; None beyond the years that a date can have.

    >>> clock(1_700_000_000_500_000_000)
    '2023-11-14 22:13:20'
    """
    try:
        return datetime.fromtimestamp(nanoseconds // 10**9, timezone.utc).strftime(pattern)
    except (OverflowError, ValueError, OSError):
        return None


def cell(table: Table, column: Column, value: Value) -> str:
    """One value as a person reads it."""
    if value is None:
        return "-"
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
    if isinstance(value, (int, float)) and (scaled := _scaled(column.unit, value)):
        return scaled
    if column.unit == "times" and isinstance(value, (int, float)):
        return f"{value:.2f}"
    if column.unit == "percent" and isinstance(value, (int, float)):
        return f"{value:.1f} %"
    if isinstance(value, int):
        counted = column.role != "key" and (column.unit or column.merge == "sum")
        return f"{value:,}" if counted else str(value)
    if isinstance(value, float):
        return f"{value:.4f}" if column.unit == "per millisecond" else _number(value)
    return read(str(value))


# Units whose numbers are written with a prefix: of one or more of the base unit, and what follows the prefix.
_SCALED = {
    "bytes": (1, "B"),
    "bytes per second": (1, "B/s"),
    "bytes/s": (1, "B/s"),
    "bits per second": (1, "b/s"),
    "bits/s": (1, "b/s"),
    "Mb/s": (10**6, "b/s"),
}


def _scaled(unit: str, value: int | float) -> str:
    """A number of bytes or bits as people write it; "" for another unit.

    >>> _scaled("bytes per second", 15_960.9), _scaled("Mb/s", 26.8661), _scaled("bytes", 94.18), _scaled("hosts", 3)
    ('16.0 kB/s', '26.9 Mb/s', '94.2 B', '')
    """
    if unit not in _SCALED:
        return ""
    factor, base = _SCALED[unit]
    return _prefixed(value * factor, base)


def _number(value: float) -> str:
    """Six digits, or all of the whole part; an exponent only where the number would be too long.

    >>> _number(101.3333), _number(26_866_100.25), _number(0.00001234), _number(1e22)
    ('101.333', '26,866,100', '1.234e-05', '1e+22')
    """
    return f"{value:,.0f}" if 1e6 <= abs(value) < 1e15 else f"{value:,.6g}"


def read(text: str) -> str:
    """A text as a person reads it: safe, and not longer than anybody reads."""
    if len(text) > 2 * _LONGEST_TEXT:  # before it is made safe, which takes time for megabytes
        text = text[:_LONGEST_TEXT] + "…" + text[-_LONGEST_TEXT:]
    shown = safe(text)
    return shown if len(shown) <= _LONGEST_TEXT // 2 else shortened(shown, _LONGEST_TEXT)  # a character has two cells


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
    return Grid(columns, [heading(column) for column in columns], rows, _marks(table))


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


# What sharkstat itself writes beside ASCII, each one cell wide: for these, wcwidth and its tables need not be loaded.
_NARROW = str.maketrans(dict.fromkeys("µ·≈…→│├└─", "x"))


def _is_narrow(text: str) -> bool:
    return text.isascii() or text.translate(_NARROW).isascii()


def display_width(text: str) -> int:
    """How many cells of a terminal the text takes.

    >>> display_width("abc"), display_width("日本")
    (3, 4)
    """
    if _is_narrow(text):
        return len(text)
    from wcwidth import wcwidth

    return sum(max(wcwidth(character), 0) for character in text)


def widest_of(texts: Sequence[str]) -> int:
    """How many cells the widest of the texts takes, looking at most at all of them together.

    >>> widest_of(["abc", "12 µs"]), widest_of(["日本", "abc"])
    (5, 4)
    """
    return max(map(len if _is_narrow("".join(texts)) else display_width, texts), default=0)


def _beginning(text: str, width: int) -> str:
    """As much of the beginning as fits."""
    if _is_narrow(text):
        return text[:width]
    end = 0
    while end < len(text) and (width := width - display_width(text[end])) >= 0:
        end += 1
    return text[:end]


def shortened(text: str, width: int) -> str:
    """The text in at most that many cells, its middle left out.

    >>> shortened("/backup?list-type=2&prefix=157", 16)
    '/backup?…fix=157'
    """
    if display_width(text) <= width:
        return text
    tail = (width - 1) // 2
    return _beginning(text, width - 1 - tail) + "…" + _beginning(text[::-1], tail)[::-1]


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
    """The columns that answer the statistic's question: those of its block in the overview, where it has one."""
    section = getattr(getattr(table, "statistic", None), "section", None)
    names = getattr(section, "columns", ())
    return [name for text in names for name in re.split("[:/]", text.partition("=")[0])]


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
    """The columns that may leave, in order: those without a value, and rates; then those that are not `wanted`."""
    last = range(len(laid.columns) - 1, -1, -1)
    empty = [at for at in last if laid.rows and all(row[at] in ("", "-") for row in laid.rows)]
    others = [at for at in last if laid.columns[at].role != "key" and laid.columns[at].name not in wanted]
    rates = [at for at in others if laid.columns[at].unit.startswith("per ") or laid.columns[at].name == "burst_start"]
    return list(dict.fromkeys([*empty, *rates])), others if wanted else []


def lay_out(laid: Grid, style: str, ink: Ink | None = None) -> str:
    """The grid in one of tabulate's formats; `ink` is for a terminal, and the style "simple"."""
    if style == "simple":
        return _simple(laid, ink or Ink())
    import tabulate

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
    return tabulate.tabulate(
        rows,
        headers=headings,
        tablefmt=style,
        disable_numparse=True,
        colalign=["right" if column.type in _NUMERIC else "left" for column in laid.columns] if rows else None,
        preserve_whitespace=True,
    )


def _simple(laid: Grid, ink: Ink) -> str:
    """The same as tabulate's "simple", for which it needs minutes where there are a million cells."""
    columns = list(zip(*laid.rows, strict=True)) if laid.rows else [()] * len(laid.columns)
    headings = [heading.split("\n") for heading in laid.headings]
    height = max(map(len, headings), default=0)
    lines: list[Sequence[str]] = []
    for column, heading, cells in zip(laid.columns, headings, columns, strict=True):
        plain = _is_narrow("".join((*heading, *cells)))
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
