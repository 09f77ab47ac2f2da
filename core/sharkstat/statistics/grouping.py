"""Groups on packets: what lua/sharkstat_lua/group.lua counts inside tshark, counted in Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from sharkstat.engines.packets import Listen, PacketCounter
from sharkstat.statistics.counted_keys import check_key, key_type, key_values
from sharkstat.statistics.counted_measures import check_field, counted, initial, measure_types, measured
from sharkstat.statistics.field_values import GIVEN, FieldValues, text_of_value
from sharkstat.statistics.folding import Fold
from sharkstat.statistics.group import Group
from sharkstat.statistics.keys import Counted
from sharkstat.tables.column import Type, Value
from sharkstat.tshark.filters import both_filters

if TYPE_CHECKING:
    from sharkstat.engines.packet import Packet


# So many rows are kept that the group's rows are made of, as in group.lua.
MOST_FOLDED = 50_000


class GroupCounter(PacketCounter):
    """A group on packets."""

    def __init__(self, group: Group, display_filter: str) -> None:
        self.group = group
        wheres = [Listen("frame", both_filters(display_filter, where)) for where in group.filters]
        self.listens = (Listen("frame", display_filter), *wheres)
        self.fields = tuple(name for name in group.fields if name not in GIVEN)
        self._keys = [counted for key in group.made_keys() for counted in key.counted]
        self.named = [key.field for key in self._keys if isinstance(key, Counted) and key.named]
        self._fold = Fold(group) if group.folded else None
        self._measures = group.counted_measures
        self._places = {where: number for number, where in enumerate(group.filters, 1)}
        self._values = FieldValues()
        self._rows: dict[tuple[Any, ...], list[Any]] = {}
        self._parts: list[Sequence[Value]] = []  # the group's rows of what was counted before

    def begin(self) -> None:
        self._values.types = self.types
        if not self._keys:  # a total is a row even of no packets
            self._rows[()] = [initial(measure) for measure in self._measures]
        for key in self._keys:
            check_key(key, self._values)
        for measure in self._measures:
            check_field(measure, self._values)

    def packet(self, packet: Packet) -> None:
        if not packet.hits[0]:
            return
        self._values.take(packet)
        if self._fold and len(self._rows) >= MOST_FOLDED:
            self._parts = self._fold.together(chain(self._parts, self._fold.rows(self._counted(), self._types())))
            self._rows = {}
        counting = [
            (at, measure)
            for at, measure in enumerate(self._measures)
            if not measure.where or packet.hits[self._places[measure.where]]
        ]
        keys: list[tuple[Any, ...]] = [()]
        for key in self._keys:
            keys = [(*before, value) for before in keys for value in key_values(key, self._values)]
        for row in keys:
            slots = self._rows.get(row)
            if slots is None:
                slots = self._rows[row] = [initial(measure) for measure in self._measures]
            for at, measure in counting:
                slots[at] = counted(measure, slots[at], self._values)

    def rows(self) -> Iterator[Sequence[Value]]:
        if not self._fold:
            return self._counted()
        rows = self._fold.rows(self._counted(), self._types())
        return iter(self._fold.together(chain(self._parts, rows)) if self._parts else rows)

    def _counted(self) -> Iterator[Sequence[Value]]:
        texts = [at for at, key in enumerate(self._keys) if key_type(key, self._values) == "text"]
        for key, slots in self._rows.items():
            row = list(key)
            for at in texts:
                if row[at] is not None:
                    row[at] = text_of_value(row[at])
            for measure, slot in zip(self._measures, slots, strict=True):
                row += measured(measure, slot)
            yield row

    def column_types(self) -> Sequence[Type]:
        return self._fold.types(self._types()) if self._fold else self._types()

    def _types(self) -> Sequence[Type]:
        return [
            *(key_type(key, self._values) for key in self._keys),
            *(kind for measure in self._measures for kind in measure_types(measure, self._values)),
        ]
