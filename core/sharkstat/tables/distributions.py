"""How the values of rows are distributed, as charts: percentiles over sketches, or from the smallest to the largest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sharkstat.tables.column import Column, Row
from sharkstat.tables.drawing import (
    COLOURS,
    ROW_HEIGHT,
    axis,
    colour,
    configuration,
    labelled,
    letters,
    library,
    number,
)
from sharkstat.tables.labels import labels_of
from sharkstat.tables.sketch import Sketch
from sharkstat.tables.table import Table
from sharkstat.tables.texts import safe

_MOST_ROWS, _BINS = 12, 30
_FAR = 20  # so many times the least value: the axis is logarithmic
# The marks of a row's percentiles: where they are the same, each is seen around the one before.
_SIZES = (40, 110, 220, 360)


def distributions(table: Table, width: int) -> Iterator[Any]:
    """A chart for each sketch of the table; where it has none, one of the smallest, mean and largest values."""
    found = _percentiles(table)
    for columns in found.values():
        yield from _of_sketch(table, columns, width)
    if not found:
        yield from _of_ends(table, width)


def _percentiles(table: Table) -> Mapping[str, list[Column]]:
    """The percentiles that are shown, the smallest first, by the sketch that they are estimated from."""
    found: dict[str, list[Column]] = {}
    for column in table.columns:
        if column.percentile and column.shown:
            found.setdefault(column.percentile[1], []).append(column)
    for columns in found.values():
        columns.sort(key=lambda column: column.percentile or ())
    return found


def _of_sketch(table: Table, columns: Sequence[Column], width: int) -> Iterator[Any]:
    """The rows with the largest values: how many are where, as shades, and the percentiles as dots."""
    last = columns[-1]
    assert last.percentile is not None
    sketch = last.percentile[1]
    rows = [row for row in table.rows if number(last, row[last.name]) is not None]
    rows = sorted(rows, key=lambda row: -(number(last, row[last.name]) or 0))[:_MOST_ROWS]
    if not rows:
        return
    labels = labels_of(table, rows, [column for column in table.keys if column.shown], letters(width))
    values = [
        [(number(last, value) or 0.0, count) for value, count in Sketch(found).values()]
        if isinstance(found := row[sketch], tuple)
        else []
        for row in rows
    ]
    ends = [value for some in values for value, _ in (some[:1] + some[-1:])]
    ends += [number(c, row[c.name]) or 0.0 for row in rows for c in columns]
    least, most = min(ends), max(ends)
    far = least > 0 and most > _FAR * least
    shades = [
        {"label": label, "from": start, "to": end, "part": math.sqrt(part)}
        for label, some in zip(labels, values, strict=True)
        for start, end, part in _binned(some, least, most, far)
    ]
    names = [f"p{percent:g}" for percent, *_ in (c.percentile for c in columns if c.percentile)]
    dots = [
        {"label": label, "name": name, "value": number(column, row[column.name]), "size": _SIZES[min(at, 3)]}
        for label, row in zip(labels, rows, strict=True)
        for at, (name, column) in reversed([*enumerate(zip(names, columns, strict=True))])
    ]
    alt = library("altair")
    across = {"scale": _scale(least, most, far), "axis": axis(last, **_ticks(least, most, far))}
    shaded = (
        alt.Chart(alt.Data(values=shades))
        .mark_bar(height=14, color=COLOURS[0])
        .encode(
            x=alt.X("from:Q", title=_title(last, names), **across),
            x2="to",
            y=labelled(labels),
            opacity=alt.Opacity("part:Q", scale=alt.Scale(domain=[0, 1], range=[0.06, 0.6]), legend=None),
        )
    )
    dotted = (
        alt.Chart(alt.Data(values=dots))
        .mark_point(filled=True, opacity=1, stroke="white", strokeWidth=0.7)
        .encode(
            x=alt.X("value:Q", **across),
            y=labelled(labels),
            color=colour(names),
            size=alt.Size("size:Q", scale=None, legend=None),
        )
    )
    height = ROW_HEIGHT * len(labels)
    yield (shaded + dotted).properties(width=width * 3 // 5, height=height).configure(**configuration())


def _title(column: Column, names: Sequence[str]) -> str:
    """What is measured: the heading without the percentile, or the name where it says no more."""
    for words in (safe(column.label).split(), column.name.split("_")):
        left = [word for word in words if word.lower() not in names and word != "of"]
        if left:
            return " ".join(left)
    return "value"


def _binned(
    values: Sequence[tuple[float, int]], least: float, most: float, far: bool
) -> Iterator[tuple[float, float, float]]:
    """From where to where, and how many are there as a part of where the most are."""
    if len(values) < 2 or most <= least:
        return
    low, high = (math.log(least), math.log(most)) if far else (least, most)
    counts = [0] * _BINS
    for value, count in values:
        place = ((math.log(value) if far else value) - low) / (high - low)
        counts[min(max(int(place * _BINS), 0), _BINS - 1)] += count
    for at, count in enumerate(counts):
        if count:
            start, end = (low + (high - low) * edge / _BINS for edge in (at, at + 1))
            yield (math.exp(start), math.exp(end), count / max(counts)) if far else (start, end, count / max(counts))


def _scale(least: float, most: float, far: bool) -> Any:
    alt = library("altair")
    if far:
        return alt.Scale(type="log", domain=[least / 1.15, most * 1.15], nice=False)
    return alt.Scale(zero=least >= 0)


def _ticks(least: float, most: float, far: bool) -> dict[str, Any]:
    """Where a logarithmic axis has its figures: few, and round."""
    if not far:
        return {}
    decades = math.log10(most / least)
    steps = (1,) if decades > 3 else (1, 3) if decades > 2 else (1, 2, 5)
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
    every = max(1, round(decades / 6))
    values = [step * 10.0**power for power in range(first, last + 1, every) for step in steps]
    return {"values": [value for value in values if least / 1.15 <= value <= most * 1.15]}


def _of_ends(table: Table, width: int) -> Iterator[Any]:
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
    rows = sorted(rows, key=lambda row: -_seconds(row, f"max_{of}"))[:_MOST_ROWS]
    if not rows:
        return
    labels = labels_of(table, rows, names, letters(width))
    values = [
        {"label": label, **{what: _seconds(row, f"{what}_{of}") for what in ("min", "mean", "max")}}
        for label, row in zip(labels, rows, strict=True)
    ]
    least, most = min(_seconds(row, f"min_{of}") for row in rows), max(_seconds(row, f"max_{of}") for row in rows)
    far = least > 0 and most > _FAR * least
    alt = library("altair")
    base = alt.Chart(alt.Data(values=values)).encode(y=labelled(labels))
    across = alt.X(
        "min:Q",
        title=f"{of.replace('_', ' ')}: shortest, mean and longest",
        scale=_scale(least, most, far),
        axis=axis(durations[f"mean_{of}"], **_ticks(least, most, far)),
    )
    whole = base.mark_rule(strokeWidth=6, opacity=0.35, color=COLOURS[0], strokeCap="round").encode(x=across, x2="max")
    mean = base.mark_tick(thickness=3, size=14, color=COLOURS[0]).encode(x="mean:Q")
    height = ROW_HEIGHT * len(labels)
    yield (whole + mean).properties(width=width * 3 // 5, height=height).configure(**configuration())


def _seconds(row: Row, name: str) -> float:
    value = row[name]
    return value / 1e9 if isinstance(value, int) else 0.0
