"""Groups on packets: what lua/sharkstat_lua/group.lua counts inside tshark, counted in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sharkstat.engines.packets import Listen, PacketCounter
from sharkstat.errors import RequestError
from sharkstat.statistics.group import AnyKey, Every, Group, Key, Measure, Tree
from sharkstat.statistics.parameter import duration
from sharkstat.tables.column import Type, Value

if TYPE_CHECKING:
    from sharkstat.engines.packet import Packet

_INTEGERS = frozenset(
    ["CHAR", "FRAMENUM", *(f"{sign}INT{size}" for sign in ("U", "") for size in (8, 16, 24, 32, 40, 48, 56, 64))]
)


def _nanoseconds(text: str) -> int:
    seconds, _, rest = text.partition(".")
    return int(seconds + rest.ljust(9, "0"))


def column_type(kind: str) -> Type:
    """The type of a column with the values of a field of that type, in tshark's words.

    >>> column_type("UINT16"), column_type("RELATIVE_TIME"), column_type("STRING")
    ('integer', 'duration', 'text')
    """
    if kind in _INTEGERS:
        return "integer"
    known: Mapping[str, Type] = {
        **dict.fromkeys(("PROTOCOL", "NONE", "BOOLEAN"), "boolean"),
        **dict.fromkeys(("IPv4", "IPv6", "ETHER"), "address"),
        **dict.fromkeys(("FLOAT", "DOUBLE"), "number"),
        "RELATIVE_TIME": "duration",
        "ABSOLUTE_TIME": "time",
    }
    return known.get(kind, "text")


_READ: Mapping[str, Callable[[str], Any]] = {
    "integer": int,
    "boolean": lambda text: text == "1",
    "number": float,
    "duration": _nanoseconds,
    "time": _nanoseconds,
}

# What a packet tells without any field.
_GIVEN: Mapping[str, tuple[Type, Callable[[Packet], int]]] = {
    "frame.len": ("integer", lambda packet: packet.length),
    "frame.number": ("integer", lambda packet: packet.number),
    "frame.time_relative": ("duration", lambda packet: packet.relative_ns),
    "frame.time_epoch": ("time", lambda packet: packet.time_ns),
    "frame.time": ("time", lambda packet: packet.time_ns),
}


class GroupCounter(PacketCounter):
    """A group on packets."""

    def __init__(self, group: Group, display_filter: str) -> None:
        self.group = group
        self.listens = (Listen("frame", display_filter),)
        self.fields = tuple(name for name in group.fields if name not in _GIVEN)
        self._keys = group.made_keys()
        self._rows: dict[tuple[Any, ...], list[Any]] = {}
        self._values: dict[str, list[Any]] = {}
        self._started = False

    def _type(self, name: str) -> Type:
        return _GIVEN[name][0] if name in _GIVEN else column_type(self.types.get(name, ""))

    def begin(self) -> None:
        for measure in self.group.measures:
            allowed = {"integer", "number", "duration", *(["time"] if measure.kind in ("min", "max") else [])}
            if measure.kind in ("sum", "min", "max", "mean") and self._type(measure.field) not in allowed:
                kind = self._type(measure.field)
                raise RequestError(
                    f"group: {measure.text}: the field is {'an' if kind == 'address' else 'a'} {kind}, not a number"
                )

    def packet(self, packet: Packet) -> None:
        self._values = {}
        keys: list[tuple[Any, ...]] = [()]
        for key in self._keys:
            keys = [(*before, value) for before in keys for value in self._of(packet, key)]
        for row in keys:
            slots = self._rows.get(row)
            if slots is None:
                slots = self._rows[row] = [_initial(measure) for measure in self.group.measures]
            for at, measure in enumerate(self.group.measures):
                slots[at] = self._counted(measure, slots[at], packet)

    def _all(self, packet: Packet, name: str) -> list[Any]:
        """All values of a field, read once a packet."""
        known = self._values.get(name)
        if known is None:
            if name in _GIVEN:
                known = [_GIVEN[name][1](packet)]
            else:
                read = _READ.get(self._type(name))
                texts = packet.values(name)
                known = [read(text) for text in texts] if read else texts
                if read is float:
                    known = [value for value in known if value == value]  # what is not a number is no value
            self._values[name] = known
        return known

    def _first_of(self, packet: Packet, names: Sequence[str]) -> list[Any]:
        return next((values for name in names if (values := self._all(packet, name))), [])

    def _of(self, packet: Packet, key: AnyKey) -> Iterable[Any]:
        if isinstance(key, Every):
            interval = duration(key.interval)
            return [packet.time_ns // interval * interval]
        if isinstance(key, Tree):
            return self._nodes(packet, key) or [None]
        values = self._first_of(packet, key.fields)
        if not values:
            return [None]
        if key.occurrence == "all":
            return dict.fromkeys(values)
        return values[:1] if key.occurrence == "first" else values[-1:]

    def _nodes(self, packet: Packet, tree: Tree) -> list[tuple[str, ...]]:
        path: list[str] = []
        for level in tree.levels:
            values = self._first_of(packet, level.fields)
            if not values:
                break
            text = _text(values[0])
            parts = [part for part in text.split(level.split) if part] if level.split else [text]
            path += reversed(parts) if level.reverse else parts
        return [tuple(path[: depth + 1]) for depth in range(len(path))]

    def _counted(self, measure: Measure, before: Any, packet: Packet) -> Any:
        if measure.kind == "seen":
            at = packet.time_ns
            return (at, at) if before is None else (min(before[0], at), max(before[1], at))
        if not measure.field:
            return before + 1
        values = self._all(packet, measure.field)
        if not values:
            return before
        if measure.kind == "count":
            return before + len(values)
        if measure.kind == "distinct":
            before.update(map(_text, values))
            return before
        if measure.kind == "mean":
            return (_added(before[0], values), before[1] + len(values))
        if measure.kind == "sum":
            return _added(before, values)
        choose = min if measure.kind == "min" else max
        return choose(values if before is None else [before, *values])

    def rows(self) -> Iterator[Sequence[Value]]:
        for key, slots in self._rows.items():
            row = list(key)
            types = self._key_types()
            for at, kind in enumerate(types):
                if kind == "text" and row[at] is not None:
                    row[at] = _text(row[at])
            for measure, slot in zip(self.group.measures, slots, strict=True):
                if measure.kind == "distinct":
                    row.append(tuple(sorted(slot)))
                elif measure.kind in ("mean", "seen"):
                    row += slot or (None, None)
                else:
                    row.append(slot)
            yield row

    def _key_types(self) -> list[Type]:
        types: list[Type] = []
        for key in self._keys:
            if isinstance(key, Key):
                kinds = {self._type(name) for name in key.fields}
                types.append(kinds.pop() if len(kinds) == 1 else "text")
            else:
                types.append(key.column.type)
        return types

    def column_types(self) -> Sequence[Type]:
        types = self._key_types()
        for measure in self.group.measures:
            kind = self._type(measure.field) if measure.field else "integer"
            if measure.kind == "seen":
                types += ["time", "time"]
            elif measure.kind == "distinct":
                types.append("set")
            elif measure.kind == "count":
                types.append("integer")
            else:
                types += [kind, "integer"] if measure.kind == "mean" else [kind]
        return types


def _initial(measure: Measure) -> Any:
    return {"count": 0, "distinct": set(), "mean": (None, 0)}.get(measure.kind)


def _added(before: Any, values: Sequence[Any]) -> Any:
    for value in values:  # one by one: a sum of floats depends on the order, and the tap's is this
        before = value if before is None else before + value
    return before


def _text(value: Any) -> str:
    """A value as text, as the tap writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.17g}"
    return str(value)
