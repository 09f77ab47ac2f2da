"""The values of fields in packets, as lua/sharkstat_lua/values.lua gives them inside tshark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sharkstat.tables.column import Type

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
GIVEN: Mapping[str, tuple[Type, Callable[[Packet], int]]] = {
    "frame.len": ("integer", lambda packet: packet.length),
    "frame.number": ("integer", lambda packet: packet.number),
    "frame.time_relative": ("duration", lambda packet: packet.relative_ns),
    "frame.time_epoch": ("time", lambda packet: packet.time_ns),
    "frame.time": ("time", lambda packet: packet.time_ns),
}


def text_of_value(value: Any) -> str:
    """A value as text, as the tap writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.17g}"
    return str(value)


class FieldValues:
    """The values of fields in one packet after the other. `types` has the fields' types, in tshark's words."""

    def __init__(self) -> None:
        self.types: Mapping[str, str] = {}
        self._known: dict[str, list[Any]] = {}

    def take(self, packet: Packet) -> None:
        """The packet whose values are asked for next."""
        self.packet = packet
        self._known = {}

    def type(self, name: str) -> Type:
        return GIVEN[name][0] if name in GIVEN else column_type(self.types.get(name, ""))

    def all(self, name: str) -> list[Any]:
        """All values of a field, read once a packet."""
        known = self._known.get(name)
        if known is None:
            if name in GIVEN:
                known = [GIVEN[name][1](self.packet)]
            else:
                read = _READ.get(self.type(name))
                texts = self.packet.values(name)
                known = [read(text) for text in texts] if read else texts
                if read is float:
                    known = [value for value in known if value == value]  # what is not a number is no value
            self._known[name] = known
        return known

    def first_of(self, names: Sequence[str]) -> list[Any]:
        """All values of the first of these fields that the packet has."""
        return next((values for name in names if (values := self.all(name))), [])
