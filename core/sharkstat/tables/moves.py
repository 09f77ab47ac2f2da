"""What is the same in another place, or at another time: one part of traffic fell, and another rose about as much."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sharkstat.tables.cells import By, Cell, Sum, Value, values_of
from sharkstat.tables.chance import Judge

# What moved must have about the same size on both sides, and be (nearly) gone or (nearly) new on one.
SAME_SIZE, NEARLY = 0.5, 0.8
# From here on, ends are so closely related that the same number of connections or requests will do.
SURELY = 4
# What came at another time took a small part of its span, and both times are apart by more than that.
BRIEF, APART = 0.2, 0.1
HOUR, DAY = 3600 * 10**9, 86400 * 10**9

_COUNTED: tuple[By, ...] = ("requests", "connections")
_KIN = ({"http", "tls", "quic", "http2", "tcp", "grpc"}, {"dns", "tls", "quic"}, {"ldap", "tls"}, {"smtp", "tls"})


@dataclass(frozen=True)
class Several:
    """Some elements of a dimension: one end of a move."""

    values: tuple[Value, ...]


def moved_together(
    dimension: str, whole: Sum, elements: Mapping[Value, Sum], judge: Judge
) -> tuple[Several, Several] | None:
    """The servers that a service has left, and those to which it has gone, where those are several.

    Each of them may have too little to be blamed for anything, as where a name has many addresses.
    """
    if dimension != "host" or len(elements) < 3:
        return None
    gone = {value: part for value, part in elements.items() if not judge.sizes(part)[1]}
    new = {value: part for value, part in elements.items() if not judge.sizes(part)[0]}
    sides = [Sum.of(cell for part in some.values() for cell in part.cells) for some in (gone, new)]
    left, came = judge.sizes(sides[0])[0], judge.sizes(sides[1])[1]
    before, after = judge.sizes(whole)
    if left < NEARLY * before or came < NEARLY * after or not _alike(left, came) or not all(map(judge.changed, sides)):
        return None
    return Several(tuple(sorted(gone, key=str))), Several(tuple(sorted(new, key=str)))


def moves(
    dimension: str, elements: Mapping[Value, Sum], changed: Collection[Value], judge: Judge
) -> list[tuple[Value, Value]]:
    """The elements of a dimension of which one took the other's place; at least one is among those that changed."""
    change = {value: judge.change(part) for value, part in elements.items()}
    # One end of a move may be too small by itself to be blamed for anything.
    least = judge.support() * SAME_SIZE
    # Answers that say that something failed are small: that end counts too, if as many requests are answered so.
    seen = 1 if dimension == "status" else least
    fallen = [value for value in elements if change[value] <= -seen]
    risen = [value for value in elements if change[value] >= seen]
    candidates = []
    for source in fallen:
        for target in risen:
            if source not in changed and target not in changed:
                continue  # both ends by chance
            parts = elements[source], elements[target]
            related = _relation(dimension, source, parts[0], target, parts[1])
            down, up = -change[source], change[target]
            if not related or not (_alike(down, up) or (related >= SURELY and _counts_alike(judge, *parts))):
                continue
            left, came = (judge.sizes(part) for part in parts)
            wholly = down >= NEARLY * left[0], up >= NEARLY * came[1]
            if min(down, up) < least and not (all(wholly) and max(down, up) >= least and _counts_alike(judge, *parts)):
                continue
            if not any(wholly) or not (all(wholly) or {source, target} <= {*changed}):
                continue
            candidates.append((-related, -min(down, up), str(source), str(target), source, target))
    pairs: list[tuple[Value, Value]] = []
    taken: set[Value] = set()
    for *_, source, target in sorted(candidates, key=lambda c: c[:4]):
        if source not in taken and target not in taken:
            pairs.append((source, target))
            taken |= {source, target}
    return pairs


def _alike(down: int, up: int) -> bool:
    return min(down, up) > 0 and min(down, up) >= SAME_SIZE * max(down, up)


def _counts_alike(judge: Judge, source: Sum, target: Sum) -> bool:
    """Whether as many connections or requests came as went."""
    return any(_alike(-judge.change(source, by), judge.change(target, by)) for by in _COUNTED)


def _relation(dimension: str, source: Value, one: Sum, target: Value, other: Sum) -> int:
    """How much speaks for it that one element is the other in a new place: 0 for nothing."""
    if dimension == "resent":
        return 0
    if dimension in ("status", "host"):
        return SURELY
    if dimension != "service":
        return 1
    cells = one.cells, other.cells
    names, hosts, clients = (values_of(cells[0], of) & values_of(cells[1], of) for of in ("name", "host", "client"))
    same_port = source[2] is not None and source[2] == target[2] and source[3] == target[3]
    same_protocol = bool(source[0] == target[0])
    if names:
        return SURELY + same_protocol
    if hosts:  # two services of a host are two services, unless the same clients use them
        alike = same_protocol or _are_kin(source, target)
        return 2 + same_protocol if clients and alike else 0
    named = any(values_of(side, "name") for side in cells)  # another name is another service
    if same_port and same_protocol and not named:
        return 1 + bool(clients) if clients or _families(cells[0]) != _families(cells[1]) else 0
    return 0


def _are_kin(one: tuple[Value, ...], other: tuple[Value, ...]) -> bool:
    """Whether one protocol is what the other is called when it is encrypted, carried otherwise, or not recognised."""
    protocols = {one[0], other[0]}
    unknown = one[3] == other[3] and one[3] in protocols
    return unknown or any(protocols <= kin for kin in _KIN)


def _families(cells: Sequence[Cell]) -> set[bool]:
    return {":" in host for host in values_of(cells, "host")}


# Times ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spans:
    """When each side begins, and how long it is, in nanoseconds."""

    starts: tuple[int, int]
    lengths: tuple[int, int]

    @property
    def by_the_clock(self) -> bool:
        """Whether times of day compare, rather than times since the beginning: from an hour on."""
        return min(self.lengths) >= HOUR

    def holds(self, side: int, moment: int) -> bool:
        """Whether a side has that time of day, or that time since the beginning."""
        since = (moment - self.starts[side]) % DAY if self.by_the_clock else moment
        return since <= self.lengths[side]


@dataclass(frozen=True)
class Time:
    """When something came: a time of day where spans are of hours, or else a time since the beginning of its side."""

    nanoseconds: int
    of_day: bool


def shift(part: Sum, spans: Spans, judge: Judge) -> tuple[Time, Time] | None:
    """When a part came before, and when after, if that is another time.

    It must have about the same size, and be brief on both sides. On 100 steady pairs, nothing was taken for a shift
    with half of this support, and four times with a fifth of it.
    """
    sizes = judge.sizes(part)
    if judge.by not in ("bytes", "packets") or min(sizes) < SAME_SIZE * max(sizes):
        return None
    if min(sizes) < judge.support() or min(spans.lengths) < SAME_SIZE * max(spans.lengths):
        return None
    moments, widths = [], []
    for side, amount in enumerate((part.before, part.after)):
        if amount.first is None or amount.last is None or amount.last - amount.first > BRIEF * spans.lengths[side]:
            return None
        widths.append(amount.last - amount.first)
        moments.append(amount.first % DAY if spans.by_the_clock else amount.first - spans.starts[side])
    apart = abs(moments[1] - moments[0])
    if spans.by_the_clock:
        apart = min(apart, DAY - apart)
    if apart <= max(*widths, APART * max(spans.lengths)):
        return None
    if not (spans.holds(0, moments[1]) and spans.holds(1, moments[0])):
        return None
    return Time(moments[0], spans.by_the_clock), Time(moments[1], spans.by_the_clock)
