"""Measures on packets: what lua/sharkstat_lua/group_measures.lua does inside tshark, in Python.

What a measure has counted of a row's packets is its slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sharkstat.errors import RequestError
from sharkstat.statistics.field_values import FieldValues, text_of_value
from sharkstat.statistics.measures import Histogram, Measure, bound_of
from sharkstat.tables.column import Type, Value
from sharkstat.tables.distinct import Distinct
from sharkstat.tables.frequent import Frequent
from sharkstat.tables.histogram import Histogram as Buckets
from sharkstat.tables.sketch import Sketch


def check_field(measure: Measure, values: FieldValues) -> None:
    """RequestError if the measure cannot be taken of a field of this type."""
    kind = values.type(measure.field) if measure.field else ""
    if isinstance(measure, Histogram) and measure.bounds and kind != "duration" and bound_of(measure.bounds[0])[1]:
        raise RequestError(f"group: {measure.text}: the values have no unit: write plain numbers")
    allowed = {"integer", "number", "duration", *(["time"] if measure.kind in ("min", "max") else [])}
    if (
        measure.kind in ("sum", "min", "max", "mean", "percentile", "histogram")
        and values.type(measure.field) not in allowed
    ):
        kind = values.type(measure.field)
        raise RequestError(
            f"group: {measure.text}: the field is {'an' if kind == 'address' else 'a'} {kind}, not a number"
        )


def initial(measure: Measure) -> Any:
    """The slot of a row that has no packet yet."""
    if measure.kind == "distinct":
        return Distinct()
    if measure.kind == "top":
        return Frequent()
    if measure.kind == "percentile":
        return (Sketch(), None, None)
    if isinstance(measure, Histogram):
        return (None, None, None)
    return {"count": 0, "mean": (None, 0)}.get(measure.kind)


def counted(measure: Measure, before: Any, values: FieldValues) -> Any:
    """The slot after the packet."""
    if measure.kind == "seen":
        at = values.packet.time_ns
        return (at, at) if before is None else (min(before[0], at), max(before[1], at))
    if not measure.field:
        return before + 1
    found = values.all(measure.field)
    if not found:
        return before
    if measure.kind == "count":
        return before + len(found)
    if measure.kind in ("distinct", "top"):
        before.add(map(text_of_value, found))
        return before
    if measure.kind == "mean":
        return (_added(before[0], found), before[1] + len(found))
    if measure.kind in ("percentile", "histogram"):
        sketch, least, most = before
        if isinstance(measure, Histogram) and sketch is None:
            sketch = _buckets(measure, values.type(measure.field))
        sketch.add(found)
        return (sketch, _extreme(min, least, found), _extreme(max, most, found))
    if measure.kind == "sum":
        return _added(before, found)
    return _extreme(min if measure.kind == "min" else max, before, found)


def _buckets(measure: Histogram, kind: Type) -> Buckets:
    """The histogram before its first value; a plain number is in seconds where the values are durations."""
    numbers = [bound_of(bound) for bound in measure.bounds]
    scaled = [number if unit or kind != "duration" else round(number * 10**9) for number, unit in numbers]
    return Buckets(scaled, measure.labels)


def measured(measure: Measure, slot: Any) -> Sequence[Value]:
    """The values of the measure's columns, without derived ones."""
    if measure.kind in ("distinct", "top"):
        return (slot.texts(),)
    if measure.kind in ("percentile", "histogram"):
        return (slot[0].texts() if slot[0] else (), *slot[1:])
    if measure.kind in ("mean", "seen"):
        return slot or (None, None)
    return (slot,)


def measure_types(measure: Measure, values: FieldValues) -> Sequence[Type]:
    """The types of these columns."""
    kind = values.type(measure.field) if measure.field else "integer"
    if measure.kind == "seen":
        return ("time", "time")
    if measure.kind in ("distinct", "top"):
        return ("set",)
    if measure.kind in ("percentile", "histogram"):
        return ("set", kind, kind)
    if measure.kind == "count":
        return ("integer",)
    return (kind, "integer") if measure.kind == "mean" else (kind,)


def _extreme(choose: Any, before: Any, found: Sequence[Any]) -> Any:
    return choose(found if before is None else [before, *found])


def _added(before: Any, found: Sequence[Any]) -> Any:
    for value in found:  # one by one: a sum of floats depends on the order, and the tap's is this
        before = value if before is None else before + value
    return before
