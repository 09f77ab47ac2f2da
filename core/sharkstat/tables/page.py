"""Blocks of a page: a table's first rows with chosen columns and a bar, or a graph over time."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sharkstat.tables.column import Row
from sharkstat.tables.figures import clock, humanised_duration, humanised_rate
from sharkstat.tables.table import Table
from sharkstat.tables.texts import display_width, safe, shortened
from sharkstat.tables.view import cell

_GAP = "  "
_NARROWEST, _SHORTEST_BAR, _LONGEST_BAR = 20, 8, 40
_LABEL = 10  # the width of what stands beside a graph
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = " ▁▂▃▄▅▆▇█"
_NUMERIC = ("integer", "number", "time", "duration")


@dataclass(frozen=True)
class Block:
    """A table's part of a page.

    `columns` are names, the most important first, as in `Section.columns`; `rows` says how many rows are shown; `bar`
    names a column whose part of the total is drawn as a bar; `more` is the command that shows the whole table.
    """

    title: str
    table: Table
    columns: Sequence[str] = ()
    rows: int = 5
    bar: str = ""
    more: str = ""

    @property
    def over_time(self) -> bool:
        """Whether it is drawn as a graph: a row is an interval of time."""
        return bool(self.bar) and [column.type for column in self.table.keys] == ["time"]


def joined(table: Table, row: Row, names: str) -> str:
    """What a row has for one column, or "-"; "address:port" joins two by a colon, "host/path" without anything.

    >>> from sharkstat import Column
    >>> columns = (Column("a", "address"), Column("p", "integer"))
    >>> table = Table("x", "X", "x", columns, [{"a": "2001:db8::1", "p": 80}])
    >>> joined(table, table.rows[0], "a:p")
    '[2001:db8::1]:80'
    """
    found = re.fullmatch(r"(.+?)([:/])(.+)", names)
    first, mark, second = found.groups() if found else (names, "", "")
    text = cell(table, table.column(first), row[first])
    if not second or row[second] is None:
        return text
    other = cell(table, table.column(second), row[second])
    if mark == "/":
        return other if row[first] is None else text + other
    return f"[{text}]:{other}" if ":" in text else f"{text}:{other}"


def parts(name: str) -> list[str]:
    """The columns that a column of a block is made of.

    >>> parts("address:port=Server"), parts("name")
    (['address', 'port'], ['name'])
    """
    return re.split("[:/]", name.partition("=")[0])


def lines(block: Block, width: int, rows: int, bold: Callable[[str], str] = str) -> list[str]:
    """The block as lines of at most that width, and that many rows: title and headings, rows, what is left out.

    The title stands in the place of the first column's heading, and a column without any value is left out.
    `bold` makes titles stand out.
    """
    if block.over_time:
        return [*_graph(block, width, bold), *_more(block, 0)]
    shown = block.table.rows[:rows]
    named = [spec.partition("=") for spec in block.columns] or [
        (column.name, "", "") for column in block.table.columns if column.shown
    ]
    named[1:] = [one for one in named[1:] if any(row[part] is not None for part in parts(one[0]) for row in shown)]
    names = [name for name, _, _ in named]
    headings = [text.replace("_", " ") or _heading(block.table, name) for name, _, text in named]
    headings[0] = block.title
    cells = [[joined(block.table, row, name) for name in names] for row in shown]
    right = [len(parts(name)) == 1 and block.table.column(name).type in _NUMERIC for name in names]
    right[0] = False
    shares = _shares(block, shown)
    # Behind the columns: a percentage, and a bar.
    behind = len("  100.0 %") + len(_GAP) + _SHORTEST_BAR if shares else 0
    widths = _fit(headings, cells, right, width - behind)
    count = len(widths)
    head = _laid(headings[:count], widths, right)
    used = sum(widths) + len(_GAP) * (count - 1)
    room = min(width - used - behind + _SHORTEST_BAR, _LONGEST_BAR)
    for at, size in enumerate(widths):
        for row, text in zip(cells, distinct([row[at] for row in cells], size), strict=True):
            row[at] = text
    title = shortened(block.title, widths[0])
    result = [(bold(title) + head[len(title) :] + (f"{'share':>9}" if shares else "")).rstrip()]
    for at, row in enumerate(cells):
        line = _laid(row[:count], widths, right)
        if shares is not None:
            line += " " * (used - display_width(line)) + f"{100 * shares[at]:7.1f} %{_GAP}{bar(shares[at], room)}"
        result.append(line.rstrip())
    return [*result, *_more(block, len(block.table.rows) - len(shown))]


def _heading(table: Table, name: str) -> str:
    return table.column(parts(name)[0]).label.lower()


def _more(block: Block, hidden: int) -> list[str]:
    if not block.more:
        return []
    return [f"  {f'{hidden:,} more: ' if hidden > 0 else ''}{block.more}"]


def _shares(block: Block, rows: Sequence[Row]) -> list[float] | None:
    if not block.bar:
        return None
    total = block.table.total(block.table.column(block.bar).share or block.bar)
    return [
        float(value) / total if total and isinstance(value := row[block.bar], (int, float)) else 0.0 for row in rows
    ]


def _fit(headings: list[str], cells: list[list[str]], right: Sequence[bool], width: int) -> list[int]:
    """The widths of the columns that fit: columns leave from the right, as long as texts would be hard to read."""
    widths = [
        max([display_width(heading), *(display_width(row[at]) for row in cells)]) for at, heading in enumerate(headings)
    ]
    texts = [at for at in range(1, len(widths)) if not right[at]]
    narrow = max(_NARROWEST, width * 9 // 20 // len(texts)) if texts else _NARROWEST
    least = [w if right[at] else min(w, narrow if at else _NARROWEST) for at, w in enumerate(widths)]
    while len(widths) > 1 and sum(least[: len(widths)]) + len(_GAP) * (len(widths) - 1) > width:
        widths.pop()
    while (excess := sum(widths) + len(_GAP) * (len(widths) - 1) - width) > 0:
        widest = max(range(len(widths)), key=lambda at: widths[at] - least[at])
        if widths[widest] <= least[widest]:
            break
        widths[widest] -= max(1, min(excess, (widths[widest] - least[widest]) // 2))
    return widths


def distinct(texts: Sequence[str], width: int) -> list[str]:
    """Texts of at most that width, of which two read alike only if they are.

    >>> distinct(["/backup?list&max&prefix", "/backup?list&token&max&prefix"], 16)
    ['/back…t&max&pre…', '/back…t&token&m…']
    """
    short = [shortened(text, width) for text in texts]
    for alike in {text for text in short if short.count(text) > 1}:
        which = [at for at, text in enumerate(short) if text == alike]
        different = {texts[at] for at in which}
        if len(different) > 1:
            together = enumerate(zip(*different, strict=False))
            differ = next((at for at, letters in together if len({*letters}) > 1), min(map(len, different)))
            for at in which:
                short[at] = _around(texts[at], differ, width)
    return short


def _around(text: str, place: int, width: int) -> str:
    """The beginning of a text, and what stands at a place in it."""
    head = width // 3
    room = width - head - 1
    start = max(head, min(place - 2, len(text) - room))
    behind = text[start:]
    if len(behind) > room:
        behind = behind[: room - 1] + "…"
    return shortened(f"{text[:head]}…{behind}", width)


def _laid(texts: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    parts = []
    for text, size, to_right in zip(texts, widths, right, strict=False):
        text = shortened(text, size)
        blank = " " * (size - display_width(text))
        parts.append(blank + text if to_right else text + blank)
    return _GAP.join(parts)


def bar(share: float, width: int) -> str:
    """A bar of eighths of a cell; what is not nothing is seen.

    >>> bar(0.5, 4), bar(0.0001, 4), bar(0, 4)
    ('██', '▏', '')
    """
    eighths = round(min(max(share, 0), 1) * width * 8)
    if share > 0:
        eighths = max(eighths, 1)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


@dataclass(frozen=True)
class Plot:
    """Sums of equal parts of a span: `values` one after the other, each of `length` nanoseconds, from `start` on."""

    start: int
    length: int
    values: list[int]

    @property
    def peak(self) -> float:
        """The most a second."""
        return max(self.values, default=0) * 1e9 / self.length


def plot(table: Table, column: str, most: int, key: str = "") -> Plot | None:
    """A table of intervals in at most so many parts; None where it has no rows. An interval counts where it begins.

    `key` says when that is; by default the first key does.
    """
    key = key or table.keys[0].name
    starts = [value for row in table if isinstance(value := row[key], int)]
    if not starts:
        return None
    length = length_of_parts(table, starts, most)
    first = min(starts) // length * length
    values = [0] * ((max(starts) - first) // length + 1)
    for row in table:
        start, value = row[key], row[column]
        if isinstance(start, int) and isinstance(value, int):
            values[(start - first) // length] += value
    return Plot(first, length, values)


def length_of_parts(table: Table, starts: Sequence[int], most: int) -> int:
    """A round length, such that what lies between the starts of its intervals is in at most so many parts."""
    lengths = [value for row in table if isinstance(value := row.get("length"), int)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(sorted(set(starts)))]
    unit = max(max(lengths, default=0) or min(gaps, default=10**9), 1)
    return next(n for n in round_lengths(unit) if max(starts) // n - min(starts) // n < most)


def columns_of_graph(width: int) -> int:
    """How many columns a graph has on a page of that width."""
    return max(width - _LABEL - 2, 10)


def round_lengths(unit: int) -> Iterator[int]:
    """Lengths of time that people call round, in nanoseconds, and multiples of the unit.

    A unit of 7 s has no round multiples; its own are given: 7 s, 14 s, 35 s, 70 s ...

    >>> lengths = round_lengths(7 * 10**9)
    >>> [next(lengths) // 10**9 for _ in range(4)]
    [7, 14, 35, 70]
    """
    second = 10**9
    below = [n * 10**power for power in range(9) for n in (1, 2, 5)]
    above = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10800, 21600, 43200]
    days = [86_400 * n * 10**power for power in range(6) for n in (1, 2, 5)]
    lengths = [*below, *(n * second for n in (*above, *days))]
    found = [length for length in lengths if length >= unit and length % unit == 0]
    if found and found[0] <= 10 * unit:
        yield from found
    yield from (unit * n * 10**power for power in itertools.count() for n in (1, 2, 5))


def _graph(block: Block, width: int, bold: Callable[[str], str]) -> list[str]:
    height, room = 3, columns_of_graph(width)
    drawn = plot(block.table, block.bar, room)
    if drawn is None:
        return [f"{bold(block.title)}: nothing"]
    top = max(drawn.values) or 1
    wide = min(max(1, room // len(drawn.values)), 8)
    unit = block.table.column(block.bar).unit
    peak = humanised_rate(drawn.peak) if unit == "bytes" else f"{drawn.peak:,.0f}/s"
    what = block.table.column(block.bar).label.lower()
    result = [f"{bold(block.title)}: {what}, a column is {round_length(drawn.length)}"]
    for level in range(height - 1, -1, -1):
        cells = []
        for value in drawn.values:
            eighths = -(-value * height * 8 // top) - level * 8
            cells.append(_HEIGHTS[min(max(eighths, 0), 8)] * wide)
        label = peak if level == height - 1 else "0" if level == 0 else ""
        result.append(f"{label:>{_LABEL}} │{''.join(cells).rstrip()}".rstrip())
    end = drawn.start + drawn.length * len(drawn.values)
    dated = clock(drawn.start, "%j") != clock(end, "%j")
    left, right = moment(drawn.start, drawn.length, dated), moment(end, drawn.length, dated)
    across = wide * len(drawn.values)
    gap = across - len(left) - len(right)
    result.append(" " * (_LABEL + 2) + (left + " " * gap + right if gap >= 2 else left))
    return result


def round_length(length: int) -> str:
    """A round length of time.

    >>> round_length(1_800 * 10**9), round_length(500_000_000), round_length(5 * 86_400 * 10**9)
    ('30 min', '500 ms', '5 d')
    """
    for unit, nanoseconds in (("d", 86_400 * 10**9), ("h", 3_600 * 10**9), ("min", 60 * 10**9), ("s", 10**9)):
        if length >= nanoseconds and length % nanoseconds == 0:
            return f"{length // nanoseconds} {unit}"
    return humanised_duration(length)


def moment(time: int, length: int, dated: bool) -> str:
    """A time as precise as intervals of that length need it."""
    if length >= 86_400 * 10**9:
        return safe(clock(time, "%Y-%m-%d") or "")
    digits = 0 if length >= 10**9 else 1 if length >= 10**8 else 2 if length >= 10**7 else 3
    fraction = f".{time % 10**9:09d}"[: digits + 1] if digits else ""
    pattern = ("%Y-%m-%d " if dated else "") + ("%H:%M" if length >= 60 * 10**9 else "%H:%M:%S")
    return (clock(time, pattern) or "") + fraction


def shares_of_room(wanted: Sequence[int], room: int) -> list[int]:
    """How many lines each gets of the room, where there is not enough for all: as evenly as can be, at least one.

    >>> shares_of_room([2, 50, 50], 20), shares_of_room([3, 4], 20), shares_of_room([5, 5], 0)
    ([2, 9, 9], [3, 4], [1, 1])
    """
    given = [min(1, count) for count in wanted]
    while sum(given) < room and (short := [at for at in range(len(wanted)) if given[at] < wanted[at]]):
        given[min(short, key=given.__getitem__)] += 1
    return given
