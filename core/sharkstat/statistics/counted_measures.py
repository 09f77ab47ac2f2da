"""Measures on packets: what lua/sharkstat_lua/group_measures.lua does inside tshark, in Python.

What a measure has counted of a row's packets is its slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sharkstat.errors import RequestError
from sharkstat.statistics.field_values import FieldValues, text_of_value
from sharkstat.statistics.measures import Measure
from sharkstat.tables.column import Type, Value
from sharkstat.tables.sketch import Sketch


def check_field(measure: Measure, values: FieldValues) -> None:
    """RequestError if the measure cannot be taken of a field of this type."""
    allowed = {"integer", "number", "duration", *(["time"] if measure.kind in ("min", "max") else [])}
    if measure.kind in ("sum", "min", "max", "mean", "percentile") and values.type(measure.field) not in allowed:
        kind = values.type(measure.field)
        raise RequestError(
            f"group: {measure.text}: the field is {'an' if kind == 'address' else 'a'} {kind}, not a number"
        )


def initial(measure: Measure) -> Any:
    """The slot of a row that has no packet yet."""
    return {"count": 0, "distinct": set(), "mean": (None, 0), "percentile": (Sketch(), None, None)}.get(measure.kind)


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
    if measure.kind == "distinct":
        before.update(map(text_of_value, found))
        return before
    if measure.kind == "mean":
        return (_added(before[0], found), before[1] + len(found))
    if measure.kind == "percentile":
        sketch, least, most = before
        sketch.add(found)
        return (sketch, _extreme(min, least, found), _extreme(max, most, found))
    if measure.kind == "sum":
        return _added(before, found)
    return _extreme(min if measure.kind == "min" else max, before, found)


def measured(measure: Measure, slot: Any) -> Sequence[Value]:
    """The values of the measure's columns, without derived ones."""
    if measure.kind == "distinct":
        return (tuple(sorted(slot)),)
    if measure.kind == "percentile":
        return (slot[0].texts() or None, *slot[1:])
    if measure.kind in ("mean", "seen"):
        return slot or (None, None)
    return (slot,)


def measure_types(measure: Measure, values: FieldValues) -> Sequence[Type]:
    """The types of these columns."""
    kind = values.type(measure.field) if measure.field else "integer"
    if measure.kind == "seen":
        return ("time", "time")
    if measure.kind == "distinct":
        return ("set",)
    if measure.kind == "percentile":
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
