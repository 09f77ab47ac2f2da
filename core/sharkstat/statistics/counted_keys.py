"""Keys on packets: what lua/sharkstat_lua/group_keys.lua does inside tshark, in Python."""

from __future__ import annotations

from collections.abc import Iterable

from sharkstat.errors import RequestError
from sharkstat.statistics.field_values import FieldValues, text_of_value
from sharkstat.statistics.keys import Counted, Every, Tree
from sharkstat.statistics.parameter import duration
from sharkstat.tables.column import Type, Value


def check_key(key: Counted | Every | Tree, values: FieldValues) -> None:
    """RequestError if the key's expression has no use for a field of this type."""
    if not isinstance(key, Counted) or not key.types:
        return
    for name in key.fields:
        kind = values.type(name)
        if kind not in key.types:
            article = "an" if kind in ("address", "integer") else "a"
            raise RequestError(f"group: {name}: the field is {article} {kind}, not {' or '.join(key.types)}")


def key_values(key: Counted | Every | Tree, values: FieldValues) -> Iterable[Value]:
    """The values of a key in the packet, at least one: its rows."""
    if isinstance(key, Every):
        interval = duration(key.interval)
        return [values.packet.time_ns // interval * interval]
    if isinstance(key, Tree):
        return _nodes(key, values) or [None]
    found = values.first_of(key.fields)
    if not found:
        return [None]
    if key.occurrence == "set":
        return [tuple(sorted({text_of_value(value) for value in found}))]
    if key.occurrence == "all":
        return dict.fromkeys(found)
    return found[:1] if key.occurrence == "first" else found[-1:]


def _nodes(tree: Tree, values: FieldValues) -> list[tuple[str, ...]]:
    path: list[str] = []
    for level in tree.levels:
        found = values.first_of(level.fields)
        if not found:
            break
        text = text_of_value(found[0])
        parts = [part for part in text.split(level.split) if part] if level.split else [text]
        path += reversed(parts) if level.reverse else parts
    return [tuple(path[: depth + 1]) for depth in range(len(path))]


def key_type(key: Counted | Every | Tree, values: FieldValues) -> Type:
    """The type of the key's column."""
    if isinstance(key, Counted):
        if key.occurrence == "set":
            return "set"
        kinds = {values.type(name) for name in key.fields}
        return kinds.pop() if len(kinds) == 1 else "text"
    return key.column.type
