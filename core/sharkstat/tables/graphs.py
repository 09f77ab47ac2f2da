"""Tables as pictures of characters, for a terminal: over time, and bars of the largest rows."""

from __future__ import annotations

from collections.abc import Sequence

from sharkstat.tables.charts import adds_up, interval, largest, measure_of, series_of, summed_over_time, untimed
from sharkstat.tables.column import Column, Row
from sharkstat.tables.labels import labels_of
from sharkstat.tables.page import Plot, bar, moment, plot, round_length
from sharkstat.tables.table import Table
from sharkstat.tables.texts import display_width, shortened
from sharkstat.tables.view import caption, cell, omitted, text

_HEIGHT, _BESIDE, _FIGURE = 8, 12, 9
_LEVELS, _ASCII_LEVELS = " ▁▂▃▄▅▆▇█", " .:=#"
WIDTH = 80


def graph(table: Table, width: int | None = None, unicode: bool = True) -> str:
    """The table drawn at that width (80 where it is None); as it is where there is nothing to draw.

    Without `unicode` the picture has only characters of ASCII.
    """
    width = width or WIDTH
    lines = _over_time(table, width, unicode) if interval(table) is not None else _bars(table, width, unicode)
    if not lines:
        return text(table, width=width)
    return "\n".join([caption(table), *lines, *filter(None, [untimed(table)])]) + omitted(table)


def _over_time(table: Table, width: int, unicode: bool) -> list[str]:
    """All rows added up, and below, where there are other keys, a line for each of the largest by itself."""
    key, measure = interval(table), summed_over_time(table)
    if key is None or measure is None:
        return []
    names = [column for column in table.keys if column is not key and column.shown]
    series = series_of(table, measure, names, max(width // 3, 12)) if names else {}
    beside = _BESIDE
    if series:
        named = max(map(display_width, series))
        beside = named + 2 + _FIGURE
    drawn = plot(table, measure.name, max(width - beside - 2, 10), key.name)
    if drawn is None:
        return []
    top = max(drawn.values) or 1
    wide = min(max(1, (width - beside - 2) // len(drawn.values)), 8)
    edge = "│" if unicode else "|"
    result = [f"{_heading(measure)} per {round_length(drawn.length)}"]
    for level in range(_HEIGHT - 1, -1, -1):
        cells = []
        for value in drawn.values:
            eighths = min(max(-(-value * _HEIGHT * 8 // top) - level * 8, 0), 8)
            mark = _LEVELS[eighths] if unicode else "#" if eighths >= 4 or (level == 0 and value > 0) else " "
            cells.append(mark * wide)
        figure = cell(table, measure, top) if level == _HEIGHT - 1 else "0" if level == 0 else ""
        result.append(f"{figure:>{beside}} {edge}{''.join(cells)}".rstrip())
    levels = _LEVELS if unicode else _ASCII_LEVELS
    for label, rows in series.items():
        part = _parts(rows, key, measure, drawn)
        most = max(part)
        figure = f"{cell(table, measure, most):>{beside - named - 2}}"
        marks = "".join(levels[-(-value * (len(levels) - 1) // most) if most else 0] * wide for value in part)
        short = shortened(label, named)
        if not unicode:
            short = short.replace("…", "~")
        result.append(f"{short}{' ' * (named - display_width(short))}  {figure} {edge}{marks}".rstrip())
    ends = [drawn.start, drawn.start + drawn.length * len(drawn.values)]
    dated = ends[1] // (86_400 * 10**9) != ends[0] // (86_400 * 10**9)
    left, right = (moment(end, drawn.length, dated) if key.type == "time" else f"{end / 1e9:g} s" for end in ends)
    gap = wide * len(drawn.values) - len(left) - len(right)
    result.append(" " * (beside + 2) + (left + " " * gap + right if gap >= 2 else left))
    return result


def _parts(rows: Sequence[Row], key: Column, measure: Column, whole: Plot) -> list[int]:
    """The sums of these rows in the parts of the whole graph."""
    values = [0] * len(whole.values)
    for row in rows:
        start, value = row[key.name], row[measure.name]
        if isinstance(start, int) and isinstance(value, int):
            values[(start - whole.start) // whole.length] += value
    return values


def _heading(column: Column) -> str:
    return column.label


def _bars(table: Table, width: int, unicode: bool) -> list[str]:
    measure, names = measure_of(table), [column for column in table.keys if column.shown]
    if measure is None or not names:
        return []
    rows, rest = largest(table, measure, 20)
    labels = labels_of(table, rows, names, width // 2)
    if rest and adds_up(measure):
        labels.append(f"{len(rest):,} other{'' if len(rest) == 1 else 's'}")
        rows = [*rows, _sum(measure, rest)]
    values = [value if isinstance(value := row[measure.name], (int, float)) else 0 for row in rows]
    top = max(values, default=0)
    if top <= 0:
        return []
    figures = [cell(table, measure, row[measure.name]) for row in rows]
    beside = max(map(len, figures))
    named = min(max(map(display_width, labels)), width // 2)
    room = width - named - beside - 4
    result = [_heading(measure)]
    for label, value, figure in zip(labels, values, figures, strict=True):
        short = shortened(label, named)
        drawn = bar(value / top, room)
        if not unicode:
            drawn, short = "#" * max(round(value / top * room), value > 0), short.replace("…", "~")
        result.append(f"{short}{' ' * (named - display_width(short))}  {figure:>{beside}}  {drawn}".rstrip())
    return result


def _sum(measure: Column, rows: Sequence[Row]) -> Row:
    return {measure.name: sum(value for row in rows if isinstance(value := row[measure.name], (int, float)))}
