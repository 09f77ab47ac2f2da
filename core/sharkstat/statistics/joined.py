"""Joined statistics: requests and their responses, declared by a filter for each and what pairs them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharkstat.engines.packets import Listen, PacketCounter, Packets
from sharkstat.engines.tap import Tap
from sharkstat.statistics.counted_keys import key_type, key_values
from sharkstat.statistics.expressions import Expression
from sharkstat.statistics.field_values import GIVEN, FieldValues
from sharkstat.statistics.keys import Key, field_or_expression
from sharkstat.statistics.pairing import REQUEST, RESPONSE, JoinedRows, Joint, Pair, Pairing, joined_types
from sharkstat.statistics.parameter import Parameter, read_arguments, usage_of
from sharkstat.statistics.statistic import Statistic
from sharkstat.tshark.filters import both_filters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sharkstat.engines.packet import Packet
    from sharkstat.tables.column import Column, Type, Value
    from sharkstat.tables.table import Table

TAP = Path(str(files("sharkstat_lua"))) / "joined.lua"


class Joined(Statistic):
    """A statistic of requests with their responses, for protocols whose response time tshark does not tell.

    import sharkstat

    class Calls(sharkstat.Joined):
        name = "clock,calls"
        title = "Calls of the clock service"
        request = "udp.dstport == 7007"
        response = "udp.srcport == 7007"
        pairs = (("ip.src", "ip.dst"), ("udp.srcport", "udp.dstport"), sharkstat.regex("data.data", "^(....)"))
        keys = (sharkstat.Key("ip.dst", "server"),)

    `request` and `response` are display filters. `pairs` says which values of both must be equal: a field or expression
    that both have, or a pair of them, the request's first. `keys` are columns of the request, `answer` columns of the
    response. By default there is a row for each request; with `each = False`, or each=no in the request, requests with
    equal columns are counted in one row.

    A response after `timeout` is late. A request that is repeated before it is answered is the same request, as long as
    it is not timed out. Its arguments are timeout=DURATION, each=yes|no, and a display filter for both sides. The
    constructor raises ValueError for an invalid declaration.
    """

    request: str = ""
    response: str = ""
    pairs: Sequence[str | Expression | tuple[str | Expression, str | Expression]] = ()
    keys: Sequence[Key | Expression | str] = ()
    answer: Sequence[Key | Expression | str] = ()
    timeout: str = "5s"
    each: bool = True

    def __init__(self) -> None:
        self.parameters = (
            Parameter("timeout", "duration", self.timeout, "how long a request waits for its response"),
            Parameter("each", "boolean", "yes" if self.each else "no", "a row for each request"),
        )
        self.usage = self.usage or usage_of(self.name, self.parameters)
        fold = lambda arguments: JoinedRows(self._joint(arguments))  # noqa: E731
        tap = Tap(TAP, "transport", fields=self._fields, call=self._call, fold=fold)
        self.engines = (tap, Packets(self._counter))
        try:
            self._joint("")
        except ValueError as problem:
            raise ValueError(f"{type(self).__name__}: {problem}") from None

    def _joint(self, arguments: str) -> Joint:
        if not (self.request.strip() and self.response.strip() and self.pairs):
            raise ValueError("a joined statistic needs request, response and pairs")
        values, rest = read_arguments(self.name, arguments, self.parameters)
        joint = Joint(
            both_filters(self.request, rest),
            both_filters(self.response, rest),
            [_pair(given) for given in self.pairs],
            [_key(given) for given in self.keys],
            [_key(given) for given in self.answer],
            int(str(values["timeout"])),
            bool(values["each"]),
        )
        names = [column.name for column in joint.columns()]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two columns are named {name}: rename one with name=")
        return joint

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return self._joint(arguments).columns()

    def filters(self, arguments: str) -> Sequence[str]:
        joint = self._joint(arguments)
        return (joint.request, joint.response)

    def _fields(self, arguments: str) -> Sequence[str]:
        return _fields_of(self._joint(arguments))

    def _call(self, arguments: str) -> tuple[str, str]:
        joint = self._joint(arguments)
        lines = [" ".join(joint.request.split("\n")), " ".join(joint.response.split("\n"))]
        for word, side in (("request", REQUEST), ("response", RESPONSE)):
            lines += [
                f"{word} {one.field}:{one.occurrence}{':names' if one.named else ''}" for one in joint.counted(side)
            ]
        return "joined", "\n".join(lines)

    def _counter(self, filter: str, **parameters: Any) -> PacketCounter:
        said = [f"timeout={parameters['timeout']}ns", f"each={'yes' if parameters['each'] else 'no'}", filter]
        return _Counter(self._joint(",".join(said)))

    def order(self, table: Table) -> None:
        """By time, or the most requests first."""
        if any(column.name == "packet" for column in table.keys):
            table.rows.sort(key=lambda row: (row["time"] or 0, row["packet"]))
        else:
            names = [column.name for column in table.keys]
            table.rows.sort(key=lambda row: (-_whole(row["requests"]), [(row[n] is not None, row[n]) for n in names]))


class _Counter(PacketCounter):
    """The same on packets."""

    def __init__(self, joint: Joint) -> None:
        self._joint = joint
        self.listens = (Listen("frame", joint.request), Listen("frame", joint.response))
        self.fields = tuple(name for name in _fields_of(joint) if name not in GIVEN)
        self._values = FieldValues()
        self._sides = (joint.counted(REQUEST), joint.counted(RESPONSE))
        self.named = [one.field for side in self._sides for one in side if one.named]

    def begin(self) -> None:
        self._values.types = self.types
        self._types: tuple[Sequence[Type], Sequence[Type]] = (self._kinds(0), self._kinds(1))
        self._pairing = Pairing(self._joint, self._types)

    def _kinds(self, side: int) -> Sequence[Type]:
        return [key_type(one, self._values) for one in self._sides[side]]

    def packet(self, packet: Packet) -> None:
        self._values.take(packet)
        sides = sum(bit for bit, hits in zip((REQUEST, RESPONSE), packet.hits, strict=True) if hits)
        found = [[next(iter(key_values(one, self._values))) for one in counted] for counted in self._sides]
        self._pairing.add(packet.number, packet.time_ns, sides, *found)

    def rows(self) -> Iterator[list[Value]]:
        return self._pairing.rows()

    def column_types(self) -> Sequence[Type]:
        return joined_types(self._joint, self._types)


def _whole(value: Value) -> int:
    return value if isinstance(value, int) else 0


def _pair(given: object) -> Pair:
    ends = given if isinstance(given, tuple) else (given, given)
    if len(ends) != 2:
        raise ValueError(f'pairs: {given!r} is no pair: write ("ip.src", "ip.dst"), the request\'s field first')
    return field_or_expression(ends[0]), field_or_expression(ends[1])


def _key(given: Key | Expression | str) -> Key:
    key = given if isinstance(given, Key) else Key(given)
    if key.occurrence == "all":
        raise ValueError(f"{key.text}: a joined statistic takes the first or the last value")
    return key


def _fields_of(joint: Joint) -> Sequence[str]:
    counted = [*joint.counted(REQUEST), *joint.counted(RESPONSE)]
    return tuple(dict.fromkeys(name for one in counted for name in one.fields))
