"""Decoded packets for the packets engine: real pyshark packets, made from a lean feed of fields.

tshark sends only the fields that were declared (lua/sharkstat_lua/feed.lua). pyshark's own layers are
made when they are first looked at, so a counter that asks for values alone never pays for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyshark.packet.fields import LayerField, LayerFieldsContainer
from pyshark.packet.layers.base import BaseLayer
from pyshark.packet.layers.json_layer import JsonLayer
from pyshark.packet.packet import Packet as PysharkPacket

from sharkstat.tshark.records import LIST, bytes_of, escape, unescape


class UndeclaredField(AttributeError):
    """A field was read that the counter did not declare."""


def _plain(name: str) -> str:
    """A field's name as an attribute, as pyshark writes it: flags.syn is flags_syn."""
    return name.replace(".", "_").replace("-", "_").lower()


class Shape:
    """What all packets of one pass have in common: which fields they carry, and where."""

    def __init__(self, fields: Sequence[str], base_ns: int = 0) -> None:
        self.base_ns = base_ns
        self.at = {name: position for position, name in enumerate(fields)}
        self.declared = frozenset(map(_plain, fields))
        # Per protocol: where its values stand, and its fields by the name that an attribute has.
        self.layers: dict[str, tuple[list[int], dict[str, tuple[str, int]]]] = {}
        for name, position in self.at.items():
            protocol, _, rest = name.partition(".")
            positions, names = self.layers.setdefault(protocol.lower(), ([], {}))
            positions.append(position)
            if rest:
                names[_plain(rest)] = (name, position)


class FieldText(LayerFieldsContainer):  # type: ignore[misc]
    """A field as pyshark gives it, a str: the first value. What else pyshark has of it is made when asked for."""

    full_name: str
    raw: str

    @staticmethod
    def __new__(cls: type[FieldText], value: str) -> FieldText:
        return str.__new__(cls, value)

    @property
    def fields(self) -> list[LayerField]:
        """Every value, as a LayerField."""
        values = [unescape(part) for part in self.raw.split(LIST)]
        return [LayerField(name=self.full_name, show=value, value=value) for value in values]


class Layer(JsonLayer):  # type: ignore[misc]
    """A pyshark layer that holds exactly the declared fields of one protocol."""

    __slots__ = ("_shape", "_words")

    def __init__(self, name: str, words: Sequence[str], shape: Shape) -> None:
        # What JsonLayer's own constructor sets is of no use here: every field is read from the words.
        BaseLayer.__init__(self, name)
        self._words = words
        self._shape = shape

    def get_field(self, name: str) -> LayerFieldsContainer:
        """The field, as pyshark gives it: a str, the first value; `all_fields` has every one."""
        names = self._shape.layers[self._layer_name.lower()][1]
        found = names.get(name) or names.get(_plain(name))
        if found is None:
            full = f"{self._layer_name}.{name}"
            raise UndeclaredField(f'the field {full} is not declared: add "{full}" to the counter\'s fields')
        full, position = found
        raw = self._words[position]
        if not raw:
            raise AttributeError(f"this packet has no {full}")
        field = FieldText.__new__(FieldText, unescape(raw.partition(LIST)[0]))
        field.full_name = full
        field.raw = raw
        return field

    def __getattr__(self, item: str) -> LayerFieldsContainer:
        if item.startswith("_"):
            raise AttributeError(item)
        return self.get_field(item)

    @property
    def field_names(self) -> list[str]:
        names = self._shape.layers[self._layer_name.lower()][1]
        return [name for name, (_, position) in names.items() if self._words[position]]


class Packet(PysharkPacket):  # type: ignore[misc]
    """A packet with the declared fields: `packet.ip.src`, `"tcp" in packet`.

    In addition to pyshark's attributes it has `number` (int), `length` (int, bytes on the wire), `relative_ns` and
    `time_ns` (int, nanoseconds since the capture's first packet and since 1970), and `hits`: for each of the counter's
    `listens`, one tuple per header or message with the tap's info (None where it has none), empty if the tap did not
    call. A field is a str; `values` gives all its values in the packet.
    """

    def __init__(
        self,
        number: int,
        length: int,
        relative_ns: int,
        hits: Sequence[Sequence[tuple[Any, ...]]],
        words: Sequence[str],
        shape: Shape,
    ) -> None:
        # pyshark's own constructor wants finished layers; everything that it sets is set here or lazily.
        self.number = number
        self.length = length
        self.relative_ns = relative_ns
        self.hits = hits
        self._words = words
        self._shape = shape

    captured_length = None
    interface_captured = None

    @classmethod
    def made(
        cls,
        fields: Mapping[str, str | Sequence[str]],
        *,
        number: int = 1,
        length: int = 60,
        time_ns: int = 0,
        hits: Sequence[Sequence[tuple[Any, ...]]] = ([("",)],),
    ) -> Packet:
        """Make a packet to test a counter with: its fields, each with its value or values.

        >>> Packet.made({"ip.src": "192.0.2.1", "tcp.len": ""}, length=80).ip.src
        '192.0.2.1'
        """
        values = [[value] if isinstance(value, str) else value for value in fields.values()]
        words = [
            LIST.join(escape(bytes_of(text).decode("utf-8", "surrogateescape")) for text in several)
            for several in values
        ]
        return cls(number, length, time_ns, hits, words, Shape(list(fields)))

    @property
    def time_ns(self) -> int:
        return self._shape.base_ns + self.relative_ns

    @property
    def sniff_timestamp(self) -> str:
        return f"{self.time_ns // 10**9}.{self.time_ns % 10**9:09d}"

    def _raw(self, field: str) -> str:
        try:
            return self._words[self._shape.at[field]]
        except KeyError:
            raise UndeclaredField(
                f'the field {field} is not declared: add "{field}" to the counter\'s fields'
            ) from None

    def values(self, field: str) -> list[str]:
        """All values of a declared field in this packet, in order; empty if the packet has none.

        Raises UndeclaredField if the counter did not declare the field.
        """
        raw = self._raw(field)
        return [unescape(part) for part in raw.split(LIST)] if raw else []

    def value(self, field: str) -> str | None:
        """The first value of a declared field, or None."""
        raw = self._raw(field)
        return unescape(raw.partition(LIST)[0]) if raw else None

    def __contains__(self, item: str) -> bool:
        known = self._shape.layers.get(item.lower())
        if known is None:
            raise UndeclaredField(
                f'no field of {item} is declared: add one, e.g. "{item.lower()}", to the counter\'s fields'
            )
        return any(self._words[position] for position in known[0])

    def __getitem__(self, item: int | str) -> Layer:
        if isinstance(item, int):
            return self.layers[item]
        if item in self:
            return Layer(item.lower(), self._words, self._shape)
        raise KeyError("Layer does not exist in packet")

    @property
    def layers(self) -> list[Layer]:
        return [Layer(name, self._words, self._shape) for name in self._shape.layers if name in self]

    @property
    def frame_info(self) -> Layer:
        return Layer("frame", [str(self.number), str(self.length)], Shape(("frame.number", "frame.len")))

    def __getattr__(self, item: str) -> Any:
        if item.startswith("_"):
            raise AttributeError(item)
        if item in self:
            return Layer(item, self._words, self._shape)
        raise AttributeError(f"packet {self.number} has no {item} layer: check `{item!r} in packet` first")

    def __dir__(self) -> list[str]:
        return [*object.__dir__(self), *(layer.layer_name for layer in self.layers)]
