"""Decoded packets for the packets engine: real pyshark packets, made from a lean feed of fields.

tshark sends only the fields that were declared (lua/sharkstat_lua/feed.lua). pyshark's own layers are
made when they are first looked at, so a counter that asks for values alone never pays for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyshark.packet.fields import LayerField, LayerFieldsContainer
from pyshark.packet.layers.json_layer import JsonLayer
from pyshark.packet.packet import Packet as PysharkPacket

LIST, ITEM = "\x1f", "\x1e"
_UNESCAPED = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\", "u": LIST, "v": ITEM}


def unescape(text: str) -> str:
    """Undo sharkstat.escape of the Lua library; bytes that are no UTF-8 (surrogates here) become \\xNN."""
    if "\\" in text:
        text = _unescaped(text)
    if not text.isascii():
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text


def _unescaped(text: str) -> str:
    parts = text.split("\\")
    result = [parts[0]]
    at = 1
    while at < len(parts):
        part = parts[at]
        if part == "" and at + 1 < len(parts):  # an escaped backslash: the next part is plain text
            result.append("\\" + parts[at + 1])
            at += 2
            continue
        result.append(_UNESCAPED.get(part[:1], part[:1]) + part[1:])
        at += 1
    return "".join(result)


class UndeclaredField(AttributeError):
    """A field was read that the counter did not declare."""


def _plain(name: str) -> str:
    """A field's name as an attribute, as pyshark writes it: flags.syn is flags_syn."""
    return name.replace(".", "_").replace("-", "_").lower()


class Layer(JsonLayer):  # type: ignore[misc]
    """A pyshark layer that holds exactly the declared fields of one protocol."""

    __slots__ = ("_declared", "_values")

    def __init__(self, name: str, values: Mapping[str, Sequence[str]], declared: frozenset[str]) -> None:
        super().__init__(name, {full: found[0] for full, found in values.items()})
        self._values = {_plain(full.partition(".")[2]): (full, found) for full, found in values.items()}
        self._declared = declared

    def get_field(self, name: str) -> LayerFieldsContainer:
        """The field, as pyshark gives it: a str, the first value; `all_fields` has every one."""
        found = self._values.get(_plain(name))
        if found is not None:
            full, values = found
            container = LayerFieldsContainer(LayerField(name=full, show=values[0], value=values[0]))
            for value in values[1:]:
                container.add_field(LayerField(name=full, show=value, value=value))
            return container
        full = f"{self._layer_name}.{name}"
        if _plain(full) in self._declared:
            raise AttributeError(f"this packet has no {full}")
        raise UndeclaredField(f'the field {full} was not declared: add "{full}" to the counter\'s fields')

    def __getattr__(self, item: str) -> LayerFieldsContainer:
        if item.startswith("_"):
            raise AttributeError(item)
        return self.get_field(item)

    @property
    def field_names(self) -> list[str]:
        return list(self._values)


class Packet(PysharkPacket):  # type: ignore[misc]
    """One packet with the fields that were declared: `packet.ip.src`, `"tcp" in packet`.

    Beside pyshark's attributes: `number` (int), `length` (int, bytes on the wire), `relative_ns` and
    `time_ns` (int, nanoseconds since the capture's first packet, and since 1970), and `hits`: for each
    of the counter's `listens`, what the tap told, a tuple a header or message (None for what it did not tell);
    empty where it is silent. A field reads as a str; `values` gives all its values in the packet.
    """

    def __init__(
        self,
        number: int,
        length: int,
        relative_ns: int,
        base_ns: int,
        hits: Sequence[Sequence[tuple[Any, ...]]],
        fields: Mapping[str, str],
    ) -> None:
        # pyshark's own constructor wants finished layers; everything that it sets is set here or lazily.
        self.number = number
        self.length = length
        self.captured_length = None
        self.interface_captured = None
        self.relative_ns = relative_ns
        self.time_ns = base_ns + relative_ns
        self.hits = hits
        self._fields = fields
        self._layers: list[Layer] | None = None

    @property
    def sniff_timestamp(self) -> str:
        return f"{self.time_ns // 10**9}.{self.time_ns % 10**9:09d}"

    def values(self, field: str) -> list[str]:
        """All values of a declared field in this packet, in order; none where the packet has none.

        Raises UndeclaredField for a field that the counter did not declare.
        """
        try:
            raw = self._fields[field]
        except KeyError:
            raise UndeclaredField(
                f'the field {field} was not declared: add "{field}" to the counter\'s fields'
            ) from None
        if not raw:
            return []
        return [unescape(part) for part in raw.split(LIST)]

    def value(self, field: str) -> str | None:
        """The first value of a declared field, or None."""
        values = self.values(field)
        return values[0] if values else None

    @property
    def layers(self) -> list[Layer]:
        if self._layers is None:
            found: dict[str, dict[str, list[str]]] = {}
            for name in self._fields:
                values = self.values(name)
                if values:
                    layer = found.setdefault(name.split(".")[0], {})
                    if "." in name:
                        layer[name] = values
            declared = frozenset(map(_plain, self._fields))
            self._layers = [Layer(name, values, declared) for name, values in found.items()]
        return self._layers

    @property
    def frame_info(self) -> Layer:
        values = {"frame.number": [str(self.number)], "frame.len": [str(self.length)]}
        return Layer("frame", values, frozenset(map(_plain, values)))

    def __getattr__(self, item: str) -> Any:
        if item.startswith("_"):
            raise AttributeError(item)
        for layer in self.layers:
            if layer.layer_name.lower() == item.lower():
                return layer
        if any(name.split(".")[0].lower() == item.lower() for name in self._fields):
            raise AttributeError(f"packet {self.number} has no {item} layer: ask `{item!r} in packet` first")
        raise UndeclaredField(f"no field of {item} was declared: add one of its fields to the counter's fields")

    def __dir__(self) -> list[str]:
        return [*object.__dir__(self), *(layer.layer_name for layer in self.layers)]
