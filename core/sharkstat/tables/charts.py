"""Tables as charts: over time, by size, and how long things took. Drawn by Vega-Lite (altair) as SVG or PNG."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sharkstat.errors import OutputError
from sharkstat.tables.column import Column, Row
from sharkstat.tables.page import joined, length_of_parts, round_length
from sharkstat.tables.table import Table
from sharkstat.tables.texts import safe, shortened
from sharkstat.tables.view import cell

if TYPE_CHECKING:
    import altair

# Told apart by people who see colours differently, and on white as on black.
COLOURS = ("#3b82f6", "#f59e0b", "#10b981", "#ef4444", "#8b5cf6", "#06b6d4", "#9ca3af")
_GREY = COLOURS[-1]
WIDTH = 720
_MOST_BARS, _MOST_SERIES, _MOST_INTERVALS = 12, 6, 240
OTHERS = "others"
_REST = "(other)"  # of a table that is bounded
_ROW_HEIGHT = 22


def require(*others: str) -> None:
    """OutputError that says how to install what charts need (and `others`), where it is missing. Imports nothing."""
    for name in ("altair", "vl_convert", *others):
        if importlib.util.find_spec(name) is None:
            raise OutputError(f"charts and HTML pages need {name}: pip install 'sharkstat[report]'")


def _library(name: str) -> Any:
    require()
    return importlib.import_module(name)


def chart(table: Table, width: int = WIDTH) -> altair.Chart | altair.LayerChart:
    """The chart that says most of the table, as an altair chart. `width` is in pixels.

    A table of intervals is drawn over time, another as bars of its largest rows. OutputError where altair is not
    installed, or where the table has nothing to draw.
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
    yield from _bars(table, width)
    yield from _ranges(table, width)


def svg(drawn: Any) -> str:
    """The chart as SVG that stands by itself, or in a page: `currentColor` is the colour of its text."""
    text: str = _library("vl_convert").vegalite_to_svg(drawn.to_dict())
    return text


def png(drawn: Any) -> bytes:
    """The chart as a picture on white, of twice its size in pixels."""
    specification = drawn.configure(**_configuration("#111827", "white")).to_dict()
    data: bytes = _library("vl_convert").vegalite_to_png(specification, scale=2)
    return data


def _configuration(ink: str = "currentColor", background: str = "transparent") -> dict[str, Any]:
    lines = {"gridColor": ink, "gridOpacity": 0.12, "domainColor": ink, "domainOpacity": 0.4}
    texts = {"labelColor": ink, "titleColor": ink, "titleFontWeight": "normal", "labelFontSize": 11}
    return {
        "background": background,
        "padding": {"left": 16, "right": 16, "top": 4, "bottom": 4},  # fonts differ in width
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": {**lines, **texts, "tickColor": ink, "tickOpacity": 0.4, "labelLimit": 260},
        "legend": {**texts, "orient": "top", "title": None, "symbolType": "square", "labelLimit": 260},
    }


def _figures(column: Column) -> str:
    """Vega's expression for a number of this column on an axis."""
    if column.type == "duration":
        return "format(datum.value, '.3~s') + 's'"
    unit = {"bytes": "B", "bytes per second": "B/s"}.get(column.unit, "")
    return f"format(datum.value, '.3~s') + '{unit}'"


def _axis(column: Column) -> Any:
    alt = _library("altair")
    whole = {"tickMinStep": 1} if column.type == "integer" else {}
    return alt.Axis(labelExpr=_figures(column), tickCount=5, **whole)


def _letters(width: int) -> int:
    """How long names beside bars may be."""
    return min(width // 15, 56)


def _number(column: Column, value: object) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return value / 1e9 if column.type == "duration" else float(value)


def _heading(column: Column) -> str:
    return safe(column.label)


# Over time


def interval(table: Table) -> Column | None:
    """The key that says when an interval begins, or when something was."""
    for column in table.keys:
        if column.type == "time" or (column.type == "duration" and column.name == "start"):
            return column if any(row[column.name] is not None for row in table.rows) else None
    return None


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
    points: list[dict[str, Any]] = []
    for name, cells in series.items():
        sums = [0.0] * count
        for row, column in cells:
            start, value = row[key.name], _number(column, row[column.name])
            if isinstance(start, int) and value is not None:
                sums[(start - first) // length] += value
        points += [
            {"at": first + at * length, "to": first + (at + 1) * length, "name": name, "value": value}
            for at, value in enumerate(sums)
        ]
        if not names and len(series) > 1:  # a line of steps goes on to the end of the last
            points.append({**points[-1], "at": points[-1]["to"]})
    scale = 1e6 if key.type == "time" else 1e9  # milliseconds since 1970, or seconds
    for point in points:
        point["at"] /= scale
        point["to"] /= scale
    alt = _library("altair")
    kind = "temporal" if key.type == "time" else "quantitative"
    across = {"scale": alt.Scale(type="utc")} if key.type == "time" else {}
    title = None if key.type == "time" else "seconds"
    labels = {"format": _clock(starts[0], starts[-1], length)} if key.type == "time" else {}
    colours = [_GREY if name == OTHERS else COLOURS[at] for at, name in enumerate(series)]
    scale_of = alt.Scale(domain=list(series), range=colours)
    colour = alt.Color("name:N", sort=list(series), scale=scale_of) if len(series) > 1 else None
    vertical = alt.Y(
        "value:Q",
        title=f"{_heading(wanted) if names or len(series) == 1 else _base(wanted)} per {round_length(length)}",
        axis=_axis(wanted),
        stack="zero" if names or len(series) == 1 else None,
    )
    horizontal = alt.X("at", type=kind, title=title, axis=alt.Axis(grid=False, tickCount=6, **labels), **across)
    drawn = alt.Chart(alt.Data(values=points))
    if names or len(series) == 1:
        drawn = drawn.mark_bar(orient="vertical", color=COLOURS[0]).encode(x=horizontal, x2="to", y=vertical)
    else:
        drawn = drawn.mark_line(interpolate="step-after").encode(x=horizontal, y=vertical)
    if colour is not None:
        drawn = drawn.encode(color=colour)
    yield drawn.properties(width=width - 80, height=180).configure(**_configuration())


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
    """Rows by what their other keys say, those with the most first; those beyond the first few are `OTHERS`."""
    total: Counter[tuple[object, ...]] = Counter()
    rows: dict[tuple[object, ...], list[Row]] = {}
    for row in table.rows:
        key = tuple(row[column.name] for column in names)
        total[key] += int(_number(wanted, row[wanted.name]) or 0)
        rows.setdefault(key, []).append(row)
    kept = [key for key, _ in total.most_common() if key[0] != _REST][:_MOST_SERIES]
    labels = labels_of(table, [rows[key][0] for key in kept], names, width)
    series = {label: rows.pop(key) for label, key in zip(labels, kept, strict=True)}
    if rows:
        series[OTHERS] = [row for some in rows.values() for row in some]
    return series


# By size


def labels_of(table: Table, rows: Sequence[Row], names: Sequence[Column], width: int) -> list[str]:
    """What each row is of, in a line of at most that width: no two are alike.

    Where a line is too long, its last keys are left out, as long as what is left says which row it is.
    """
    texts = [_texts(table, row, names) for row in rows]
    whole = [" ".join(parts) for parts in texts]
    labels = [
        line if len(line) <= width else _beginning(parts, width) for line, parts in zip(whole, texts, strict=True)
    ]
    many = Counter(labels)
    labels = [label if many[label] == 1 else shortened(line, width) for label, line in zip(labels, whole, strict=True)]
    taken: Counter[str] = Counter()
    for at, label in enumerate(labels):
        taken[label] += 1
        if taken[label] > 1:
            labels[at] = f"{label} ({taken[label]})"
    return labels


def _beginning(parts: Sequence[str], width: int) -> str:
    """As many whole parts as there is room for, two at least, of which the second may be shortened."""
    count = len(parts)
    while count > 2 and len(" ".join(parts[:count])) > width:
        count -= 1
    return shortened(" ".join(parts[:count]), width)


def _texts(table: Table, row: Row, names: Sequence[Column]) -> list[str]:
    """The keys of a row as people write them: addresses with their ports."""
    parts: list[str] = []
    left = [column.name for column in names]
    for column in names:
        if column.name not in left:
            continue
        port = column.name.replace("address", "port")
        if row[column.name] is None:
            continue
        if isinstance(path := row[column.name], tuple) and column.type == "path":
            parts.append(safe(" / ".join(path[1:] or path)))  # all have one root
        elif column.type == "address" and port in left and port != column.name:
            left.remove(port)
            parts.append(joined(table, row, f"{column.name}:{port}"))
        else:
            parts.append(cell(table, column, row[column.name]))
    return parts or ["-"]


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
    ordered = sorted(rows, key=lambda row: -(_number(measure, row[measure.name]) or 0))
    return ordered[:most], ordered[most:]


def _bars(table: Table, width: int) -> Iterator[Any]:
    measure = measure_of(table)
    names = [column for column in table.keys if column.shown]
    if measure is None or not names or not any(_number(measure, row[measure.name]) for row in table.rows):
        return
    rows, rest = largest(table, measure, _MOST_BARS)
    halves = _halves(table, measure)
    values = []
    labels = labels_of(table, rows, names, _letters(width))
    for label, row in zip(labels, rows, strict=True):
        values += [{"label": label, "half": _heading(c), "value": _number(c, row[c.name]) or 0} for c in halves]
    if rest and adds_up(measure):
        label = f"{len(rest):,} other{'' if len(rest) == 1 else 's'}"
        labels.append(label)
        values += [
            {"label": label, "half": _heading(c), "value": sum(_number(c, row[c.name]) or 0 for row in rest)}
            for c in halves
        ]
    alt = _library("altair")
    drawn = (
        alt.Chart(alt.Data(values=values))
        .mark_bar(color=COLOURS[0])
        .encode(
            x=alt.X("value:Q", title=_heading(measure), axis=_axis(measure)),
            y=alt.Y("label:N", sort=labels, title=None, axis=alt.Axis(labelLimit=0, domain=False)),
        )
    )
    if len(halves) > 1:
        order = [_heading(column) for column in halves]
        drawn = drawn.encode(color=alt.Color("half:N", sort=order, scale=alt.Scale(range=list(COLOURS))))
    height = _ROW_HEIGHT * len(labels)
    yield drawn.properties(width=width * 3 // 5, height=height).configure(**_configuration())


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
                (_number(one, row[one.name]) or 0) + (_number(other, row[other.name]) or 0)
                == (_number(measure, row[measure.name]) or 0)
                for row in table.rows[:1000]
            ):
                return [one, other]
    return [measure]


# How long


def _ranges(table: Table, width: int) -> Iterator[Any]:
    """From the shortest to the longest time, with the mean: of rows with the longest."""
    durations = {column.name: column for column in table.columns if column.type == "duration" and column.shown}
    of = next(
        (
            name[5:]
            for name in durations
            if name.startswith("mean_") and {f"min_{name[5:]}", f"max_{name[5:]}"} <= {*durations}
        ),
        None,
    )
    if of is None:
        return
    names = [column for column in table.keys if column.shown]
    rows = [row for row in table.rows if all(isinstance(row[f"{what}_{of}"], int) for what in ("min", "mean", "max"))]
    rows.sort(key=lambda row: -int(row[f"max_{of}"]))  # type: ignore[arg-type]
    rows = rows[:_MOST_BARS]
    if not rows:
        return
    values = []
    for label, row in zip(labels_of(table, rows, names, _letters(width)), rows, strict=True):
        times = {what: int(row[f"{what}_{of}"]) / 1e9 for what in ("min", "mean", "max")}  # type: ignore[arg-type]
        values.append({"label": label, **times})
    labels = [value["label"] for value in values]
    least = min(int(row[f"min_{of}"]) for row in rows)  # type: ignore[arg-type]
    far = least > 0 and max(int(row[f"max_{of}"]) for row in rows) > 50 * least  # type: ignore[arg-type]
    alt = _library("altair")
    column = durations[f"mean_{of}"]
    base = alt.Chart(alt.Data(values=values)).encode(
        y=alt.Y("label:N", sort=labels, title=None, axis=alt.Axis(labelLimit=0, domain=False))
    )
    across = alt.X(
        "min:Q",
        title=f"{of.replace('_', ' ')}: shortest, mean and longest",
        scale=alt.Scale(type="log") if far else alt.Scale(zero=True),
        axis=_axis(column),
    )
    whole = base.mark_rule(strokeWidth=6, opacity=0.35, color=COLOURS[0], strokeCap="round").encode(x=across, x2="max")
    mean = base.mark_tick(thickness=3, size=14, color=COLOURS[0]).encode(x="mean:Q")
    height = _ROW_HEIGHT * len(labels)
    yield (whole + mean).properties(width=width * 3 // 5, height=height).configure(**_configuration())


def with_ids(text: str, prefix: str) -> str:
    """SVG whose identifiers begin with a prefix, so that several can stand in one page."""
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}", text)
