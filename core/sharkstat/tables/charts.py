"""Tables as charts: over time, by size, and how their values are distributed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sharkstat.errors import OutputError
from sharkstat.tables.column import Column, Row
from sharkstat.tables.distributions import distributions
from sharkstat.tables.drawing import (
    COLOURS,
    GREY,
    ROW_HEIGHT,
    WIDTH,
    axis,
    colour,
    configuration,
    heading,
    labelled,
    letters,
    library,
    number,
)
from sharkstat.tables.labels import labels_of
from sharkstat.tables.page import length_of_parts, round_length
from sharkstat.tables.table import Table
from sharkstat.tables.texts import safe, shortened
from sharkstat.tables.view import cell

if TYPE_CHECKING:
    import altair

_MOST_BARS, _MOST_SERIES, _MOST_INTERVALS = 12, 6, 240
OTHERS = "others"
_REST = "(other)"  # of a table that is bounded


def chart(table: Table, width: int = WIDTH) -> altair.Chart | altair.LayerChart:
    """The chart that says most of the table, as an altair chart. `width` is in pixels.

    A table of intervals is drawn over time, another as bars of its largest rows, or as the distribution of its values.
    OutputError where altair is not installed, or where the table has nothing to draw.
    """
    drawn: altair.Chart | altair.LayerChart
    for drawn in charts(table, width):
        return drawn
    raise OutputError(f"{safe(table.request)}: nothing to draw: it has no rows, or no sums")


def charts(table: Table, width: int = WIDTH) -> Iterator[Any]:
    """All charts of a table, the one that says most first."""
    if not table.rows:
        return
    if interval(table) is not None:
        yield from _over_time(table, width)
        return
    bars, others = _bars(table, width), distributions(table, width)
    # What counts no bytes is asked for its times.
    timed = any(c.percentile and c.shown for c in table.columns) and all(c.unit != "bytes" for c in table.columns)
    for drawn in (others, bars) if timed else (bars, others):
        yield from drawn


# Over time


def interval(table: Table) -> Column | None:
    """The key that says when an interval begins, or when something was."""
    for column in table.keys:
        if column.type == "time" or (column.type == "duration" and column.name == "start"):
            return column if any(row[column.name] is not None for row in table.rows) else None
    return None


def untimed(table: Table) -> str:
    """What a drawing over time lacks: rows that are in no interval, such as the rest of a table that is bounded."""
    key, measure = interval(table), summed_over_time(table)
    if key is None or measure is None:
        return ""
    left = [value for row in table.rows if row[key.name] is None and isinstance(value := row[measure.name], int)]
    if not any(left):
        return ""
    return f"Not drawn, since in no interval: {cell(table, measure, sum(left))} ({heading(measure)})"


def _summed(table: Table) -> list[Column]:
    numeric = ("integer", "number", "duration")
    return [c for c in table.columns if c.shown and c.role == "measure" and c.merge == "sum" and c.type in numeric]


def summed_over_time(table: Table) -> Column | None:
    """What is drawn of each interval: bytes, or else the first that can be added up."""
    summed = _summed(table)
    found = next((c for c in summed if c.unit == "bytes"), summed[0] if summed else None)
    # What counts every byte twice, as in and out of hosts, is not added up.
    return table.column(found.share) if found is not None and found.share else found


def _over_time(table: Table, width: int) -> Iterator[Any]:
    key = interval(table)
    assert key is not None
    summed, wanted = _summed(table), summed_over_time(table)
    if wanted is None:
        return
    names = [column for column in table.keys if column is not key]
    if names:
        series = {name: [(row, wanted) for row in rows] for name, rows in series_of(table, wanted, names, 40).items()}
    else:
        alike = [c for c in summed if c.unit == wanted.unit and c.type == wanted.type and _base(c) == _base(wanted)]
        series = {_series(column): [(row, column) for row in table.rows] for column in alike[: _MOST_SERIES + 1]}
    starts = sorted({start for row in table.rows if isinstance(start := row[key.name], int)})
    if not starts:
        return
    length = length_of_parts(table, starts, _MOST_INTERVALS)
    first = starts[0] // length * length
    count = (starts[-1] - first) // length + 1
    whole = bool(names) or len(series) == 1  # bars, one on the other; lines where one series has others in it
    points: list[dict[str, Any]] = []
    for rank, (name, cells) in enumerate(series.items()):
        sums = [0.0] * count
        for row, column in cells:
            start, value = row[key.name], number(column, row[column.name])
            if isinstance(start, int) and value is not None:
                sums[(start - first) // length] += value
        points += [
            {"at": first + at * length, "to": first + (at + 1) * length, "name": name, "value": value, "rank": rank}
            for at, value in enumerate(sums)
            if value or not whole
        ]
        if not whole:  # a line of steps goes on to the end of the last
            points.append({**points[-1], "at": points[-1]["to"]})
    scale = 1e6 if key.type == "time" else 1e9  # milliseconds since 1970, or seconds
    for point in points:
        point["at"] /= scale
        point["to"] /= scale
    alt = library("altair")
    timed = key.type == "time"
    labels = {"format": _clock(starts[0], starts[-1], length)} if timed else {}
    ends = [first / scale, (first + count * length) / scale]
    vertical = alt.Y(
        "value:Q",
        title=f"{heading(wanted) if whole else _base(wanted)} per {round_length(length)}",
        axis=axis(wanted),
        stack="zero" if whole else None,
    )
    horizontal = alt.X(
        "at",
        type="temporal" if timed else "quantitative",
        title=None if timed else "seconds",
        axis=alt.Axis(grid=False, tickCount=6, **labels),
        scale=alt.Scale(domain=ends, nice=False, **({"type": "utc"} if timed else {})),
    )
    drawn = alt.Chart(alt.Data(values=points))
    if whole:
        drawn = drawn.mark_bar(orient="vertical", color=COLOURS[0])
        drawn = drawn.encode(x=horizontal, x2="to", y=vertical, order="rank:O")
    else:
        drawn = drawn.mark_line(interpolate="step-after").encode(x=horizontal, y=vertical)
    if len(series) > 1:
        colours = [GREY if name == OTHERS else COLOURS[at] for at, name in enumerate(series)]
        drawn = drawn.encode(color=colour(list(series), colours))
    if lacks := untimed(table):
        drawn = drawn.properties(title=alt.TitleParams(lacks, anchor="start", fontSize=11, fontWeight="normal"))
    yield drawn.properties(width=width - 80, height=180).configure(**configuration())


def _clock(first: int, last: int, length: int) -> str:
    """d3's format of times on the axis: as precise as the intervals need."""
    second, day = 10**9, 86_400 * 10**9
    if last - first > 3 * day:
        return "%Y-%m-%d"
    return "%m-%d %H:%M" if first // day != last // day else "%H:%M" if length >= 60 * second else "%H:%M:%S"


def _base(column: Column) -> str:
    """The measure of a column of `io,stat` with filters: "bytes" of "bytes[tcp]"."""
    return column.name.partition("[")[0]


def _series(column: Column) -> str:
    base, mark, condition = column.name.partition("[")
    return shortened(safe(condition.removesuffix("]")), 40) if mark else f"all {base}"


def series_of(table: Table, wanted: Column, names: Sequence[Column], width: int) -> dict[str, list[Row]]:
    """Rows over time by what their other keys say, those with the most first; beyond the first few all are `OTHERS`."""
    total: Counter[tuple[object, ...]] = Counter()
    rows: dict[tuple[object, ...], list[Row]] = {}
    time = interval(table)
    for row in table.rows:
        if time is not None and row[time.name] is None:
            continue
        key = tuple(row[column.name] for column in names)
        total[key] += int(number(wanted, row[wanted.name]) or 0)
        rows.setdefault(key, []).append(row)
    kept = [key for key, _ in total.most_common() if key[0] != _REST][:_MOST_SERIES]
    labels = labels_of(table, [rows[key][0] for key in kept], names, width)
    series = {label: rows.pop(key) for label, key in zip(labels, kept, strict=True)}
    if rows:
        series[OTHERS] = [row for some in rows.values() for row in some]
    return series


# By size


def measure_of(table: Table) -> Column | None:
    """What the bars of a table are drawn of: what has a share, bytes, or else the first that can be added up."""
    shown = [c for c in table.columns if c.shown and c.role != "key" and c.type in ("integer", "number")]
    summed = [c for c in shown if c.merge == "sum" or c.share]
    return next((c for c in summed if c.share or c.name == "bytes"), summed[0] if summed else None)


def adds_up(measure: Column) -> bool:
    """Whether the sum over rows is a number that means something: no byte is in two rows."""
    return measure.share in ("", measure.name)


def largest(table: Table, measure: Column, most: int) -> tuple[list[Row], list[Row]]:
    """The rows with the most, and the others; of a tree its leaves."""
    rows = table.rows
    if any(column.type == "path" for column in table.columns):
        name = next(column.name for column in table.columns if column.type == "path")
        paths = {row[name] for row in rows}
        above = {path[:-1] for path in paths if isinstance(path, tuple)}
        rows = [row for row in rows if row[name] not in above]  # leaves: the others are their sums
    ordered = sorted(rows, key=lambda row: -(number(measure, row[measure.name]) or 0))
    return ordered[:most], ordered[most:]


def _bars(table: Table, width: int) -> Iterator[Any]:
    measure = measure_of(table)
    names = [column for column in table.keys if column.shown]
    if measure is None or not names or not any(number(measure, row[measure.name]) for row in table.rows):
        return
    rows, rest = largest(table, measure, _MOST_BARS)
    halves = _halves(table, measure)
    values = []
    labels = labels_of(table, rows, names, letters(width))
    for label, row in zip(labels, rows, strict=True):
        values += [{"label": label, "name": heading(c), "value": number(c, row[c.name]) or 0} for c in halves]
    if rest and adds_up(measure):
        label = f"{len(rest):,} other{'' if len(rest) == 1 else 's'}"
        labels.append(label)
        values += [
            {"label": label, "name": heading(c), "value": sum(number(c, row[c.name]) or 0 for row in rest)}
            for c in halves
        ]
    alt = library("altair")
    drawn = (
        alt.Chart(alt.Data(values=values))
        .mark_bar(color=COLOURS[0])
        .encode(
            x=alt.X("value:Q", title=heading(measure), axis=axis(measure)),
            y=labelled(labels),
        )
    )
    if len(halves) > 1:
        drawn = drawn.encode(color=colour([heading(column) for column in halves]))
    height = ROW_HEIGHT * len(labels)
    yield drawn.properties(width=width * 3 // 5, height=height).configure(**configuration())


def _halves(table: Table, measure: Column) -> list[Column]:
    """Two columns that add up to the measure in every row, such as both directions; or the measure by itself."""
    parts = [
        c
        for c in table.columns
        if c.shown and c.unit == measure.unit == "bytes" and c.merge == "sum" and c is not measure
    ]
    for at, one in enumerate(parts):
        for other in parts[at + 1 :]:
            if all(
                (number(one, row[one.name]) or 0) + (number(other, row[other.name]) or 0)
                == (number(measure, row[measure.name]) or 0)
                for row in table.rows[:1000]
            ):
                return [one, other]
    return [measure]
