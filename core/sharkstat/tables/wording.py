"""Figures and causes in words, as an engineer would write them: "requests 6 → 21, 1.0 → 4.7 kB each"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sharkstat.tables.causes import Cause, Explanation, split
from sharkstat.tables.cells import Amount, By, Cell, Sum, Value, Weights
from sharkstat.tables.figures import clock, humanised_duration
from sharkstat.tables.moves import Several, Time
from sharkstat.tables.texts import safe

SECOND = 10**9
# Sizes that differ less read alike.
ALIKE = 0.05
# Connections that carry so many times as many requests are used otherwise.
REUSED = 2.0
# What is counted in requests or connections must be theirs to so large a part.
IN_UNITS = 0.8
# A cause is what is meant if it makes up so much of the one above it, and of all that are named beside it.
MOST, OF_NAMED = 0.5, 0.67


@dataclass(frozen=True)
class Scale:
    """What totals of both sides are compared as: totals, or rates over the spans, in nanoseconds."""

    spans: tuple[int, int]
    rates: bool

    @property
    def weights(self) -> Weights:
        return Weights(self.spans[1], self.spans[0]) if self.rates else Weights()

    def of(self, weighted: float) -> float:
        """A weighted number as a total, or a second's."""
        return weighted * SECOND / (self.spans[0] * self.spans[1]) if self.rates else weighted

    def both(self, totals: tuple[float, float]) -> tuple[float, float]:
        if not self.rates:
            return totals
        return totals[0] * SECOND / self.spans[0], totals[1] * SECOND / self.spans[1]


def figure(value: float) -> str:
    """Two digits, or all of the whole part.

    >>> figure(1.04), figure(4.7), figure(47.2), figure(1234.5), figure(0.034), figure(0)
    ('1.0', '4.7', '47', '1,234', '0.034', '0')
    """
    if value == 0:
        return "0"
    if abs(value) >= 9.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 0.995 else f"{value:.2g}"


def _in_unit(values: Sequence[float]) -> tuple[list[float], str]:
    largest = max(map(abs, values))
    units = ((1.0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB"))
    factor, unit = next((pair for pair in units if largest < 999.5 * pair[0]), units[-1])
    return [value / factor for value in values], unit


def bytes_pair(before: float, after: float, per: str = "") -> str:
    """
    >>> bytes_pair(1000, 4700), bytes_pair(950, 28_000_000), bytes_pair(5, 7, "/s")
    ('1.0 → 4.7 kB', '950 B → 28 MB', '5 → 7 B/s')
    """
    ends = [_in_unit([value]) for value in (before, after)]
    texts = [_whole(numbers[0], unit) for numbers, unit in ends]
    units = [unit for _, unit in ends]
    if before == 0 or units[0] == units[1]:
        return f"{texts[0] if before else '0'} → {texts[1]} {units[1]}{per}"
    return f"{texts[0]} {units[0]}{per} → {texts[1]} {units[1]}{per}"


def _whole(number: float, unit: str) -> str:
    return f"{number:.0f}" if unit == "B" and number >= 1 else figure(number)


def one_bytes(value: float, per: str = "") -> str:
    """
    >>> one_bytes(98_700), one_bytes(-12), one_bytes(1_049_000, "/s")
    ('99 kB', '-12 B', '1.0 MB/s')
    """
    (number,), unit = _in_unit([abs(value)])
    return f"{'-' if value < 0 else ''}{_whole(number, unit)} {unit}{per}"


def signed(text: str) -> str:
    return text if text.startswith("-") else f"+{text}"


def _per(rate: float) -> tuple[float, str]:
    """A number a second in the unit in which it is read best."""
    for factor, unit in ((1, "/s"), (60, "/min"), (3600, "/h")):
        if rate * factor >= 1:
            return factor, unit
    return 86400, "/day"


def count_pair(scale: Scale, totals: tuple[float, float]) -> str:
    """
    >>> count_pair(Scale((SECOND, SECOND), False), (6, 21)), count_pair(Scale((SECOND, 10 * SECOND), True), (6, 21))
    ('6 → 21', '6.0 → 2.1/s')
    """
    before, after = scale.both(totals)
    if not scale.rates:
        return f"{before:,.0f} → {after:,.0f}"
    factor, unit = _per(max(before, after))
    return f"{figure(before * factor)} → {figure(after * factor)}{unit}"


def one_count(scale: Scale, totals: tuple[float, float]) -> str:
    """The count where both sides have (about) the same."""
    before, after = scale.both(totals)
    if not scale.rates:
        return f"{after:,.0f}"
    factor, unit = _per(max(before, after))
    return f"{figure((before + after) / 2 * factor)}{unit}"


def amount_pair(scale: Scale, by: By, totals: tuple[float, float]) -> str:
    """What a measure was and is."""
    if by == "bytes":
        return bytes_pair(*scale.both(totals), per="/s" if scale.rates else "")
    return count_pair(scale, totals)


def factor_of(before: float, after: float) -> float | None:
    return after / before if before else None


def times(before: float, after: float) -> str:
    """How a rate changed, in words.

    >>> times(100, 375), times(100, 75), times(100, 100), times(0, 5), times(5, 0), times(1000, 1001)
    ('3.8 times', '-25 %', 'as before', 'new', 'gone', 'as before')
    """
    if before == after:
        return "as before"
    if not before:
        return "new"
    if not after:
        return "gone"
    factor = after / before
    if factor >= 2:
        return f"{figure(factor)} times"
    percent = 100 * (factor - 1)
    if abs(percent) < 0.5:
        return "as before"
    return f"{percent:+.0f} %"


def percent(share: float) -> str:
    """
    >>> percent(0.994), percent(0.004), percent(0)
    ('99 %', '<1 %', '0 %')
    """
    return "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


# What a cause is ------------------------------------------------------------------------------------------


def service_text(service: Value, cells: Sequence[Cell] = ()) -> str:
    """A service as people call it, with its address where it has a name and but one address."""
    protocol, name, port, _ = service
    if name is None:
        return safe(str(protocol)) + ("" if port is None else f" port {port}")
    text = f"{protocol} {_at(name, port)}"
    hosts = {host for cell in cells if (host := cell.values.get("host")) is not None}
    if len(hosts) == 1 and name not in hosts:
        text += f" ({hosts.pop()})"
    return safe(text)


def _at(name: str, port: Value) -> str:
    host = f"[{name}]" if ":" in name and port is not None else name
    return host if port is None else f"{host}:{port}"


def request_text(cells: Sequence[Cell]) -> str:
    """What is asked for: the parameters that only some have stand in brackets.

    >>> def asked(query): return Cell({"request": ("GET", "/backup"), "query": query})
    >>> request_text([asked("list&max"), asked("list&max&token")])
    'GET /backup?list&max[&token]'
    """
    values = cells[0].values
    operation, path = values["request"]
    queries = {query: None for cell in cells if (query := cell.values.get("query")) is not None}
    text = " ".join(part for part in (operation, path) if part)
    if queries and any(queries):
        parts = [query.split("&") if query else [] for query in queries]
        common = [name for name in parts[0] if all(name in other for other in parts)]
        others = sorted({name for names in parts for name in names} - {*common})
        text += "?" + "&".join(common) if common else ""
        mark = "&" if common else "?"
        shown = others[:3] + (["…"] if len(others) > 3 else [])
        text += "".join(f"[{mark}{name}]" for name in shown)
    return safe(text)


def label(cause: Cause, above: Cause | None = None) -> str:
    """What a cause is about."""
    if cause.kind == "rest":
        return _rest_text(cause)
    if cause.kind == "moved":
        return _moved_text(cause, above)
    return element_text(cause.dimension, cause.value, cause.total)


def element_text(dimension: str, value: Value, total: Sum) -> str:
    if dimension == "service":
        return service_text(value, total.cells)
    if dimension == "client":
        known = any(cell.values.get("host") is not None for cell in total.cells)
        connected = any(_comes_in(cell, "connections") for cell in total.cells)
        what = "client" if known or not connected else "host"  # of a connection whose server is unknown, one end
        return f"{what} {safe(str(value))}" if value is not None else "no client known"
    if dimension == "host":
        return f"server {safe(str(value))}" if value is not None else "no server known"
    if dimension == "port":
        protocol, port, _ = value
        return safe(str(protocol)) if port is None else f"{safe(str(protocol))} port {port}"
    if dimension == "request":
        return request_text(total.cells) if value is not None else "packets of no request"
    if dimension == "query":
        return f"with ?{safe(value)}" if value else "without parameters"
    if dimension == "status":
        return f"answered {safe(str(value))}" if value is not None else "without an answer"
    return "retransmissions" if value else "all but retransmissions"


_PLURAL = {
    "service": ("service", "services"),
    "client": ("client", "clients"),
    "host": ("server", "servers"),
    "request": ("request", "requests"),
    "query": ("form of the request", "forms of the request"),
    "status": ("status", "statuses"),
    "resent": ("kind of packets", "kinds of packets"),
    "port": ("port or protocol", "ports and protocols"),
}


def _rest_text(cause: Cause) -> str:
    one, many = _PLURAL[cause.dimension]
    return f"the other {one}" if cause.elements == 1 else f"{cause.elements:,} other {many}"


def _moved_text(cause: Cause, above: Cause | None) -> str:
    source, target = cause.source, cause.target
    if cause.dimension == "time":
        return f"moved {_times_text(source, target)}"
    if cause.dimension == "service":
        one, other = (_service_cells(cause, value) for value in (source, target))
        names = _common(cause, "name")
        if names and len(names) == 1 and None not in names:
            (name,) = names
            ends = [_place(value, cells, source, target) for value, cells in ((source, one), (target, other))]
            return safe(f"{name} moved from {ends[0]} to {ends[1]}")
        return f"moved from {service_text(source, one)} to {service_text(target, other)}"
    if isinstance(source, Several):
        return f"moved from {_several_text(cause.dimension, source)} to {_several_text(cause.dimension, target)}"
    elements = {
        value: Sum.of(c for c in cause.total.cells if c.values.get(cause.dimension) == value)
        for value in (source, target)
    }
    texts = [element_text(cause.dimension, value, elements[value]) for value in (source, target)]
    return f"moved from {texts[0]} to {texts[1]}"


def _several_text(dimension: str, end: Several) -> str:
    """
    >>> _several_text("host", Several(("192.0.2.1",)))
    'server 192.0.2.1'
    >>> _several_text("host", Several(("192.0.2.1", "192.0.2.2", "2001:db8::1")))
    '3 servers (192.0.2.1, 192.0.2.2, …)'
    """
    one, many = _PLURAL[dimension]
    if len(end.values) == 1:
        return f"{one} {safe(str(end.values[0]))}"
    more = ", …" if len(end.values) > 2 else ""
    return f"{len(end.values):,} {many} ({', '.join(safe(str(value)) for value in end.values[:2])}{more})"


def _times_text(source: Time, target: Time) -> str:
    """
    >>> _times_text(Time(12 * SECOND, False), Time(42 * SECOND, False))
    'from 12.00 s to 42.00 s after the beginning'
    >>> _times_text(Time(2 * 3600 * SECOND, True), Time(14 * 3600 * SECOND, True))
    'from 02:00:00 to 14:00:00 UTC'
    """
    if source.of_day:
        ends = [clock(time.nanoseconds, "%H:%M:%S") for time in (source, target)]
        return f"from {ends[0]} to {ends[1]} UTC"
    ends = [humanised_duration(time.nanoseconds) for time in (source, target)]
    return f"from {ends[0]} to {ends[1]} after the beginning"


def _service_cells(cause: Cause, value: Value) -> list[Cell]:
    return [cell for cell in cause.total.cells if cell.values.get("service") == value]


def _common(cause: Cause, dimension: str) -> set[Value]:
    return {cell.values.get(dimension) for cell in cause.total.cells}


def _place(service: Value, cells: Sequence[Cell], source: Value, target: Value) -> str:
    """What differs of a service that moved: its protocol, port, address."""
    protocol, name, port, _ = service
    parts = []
    if source[0] != target[0]:
        parts.append(str(protocol))
    if source[2] != target[2]:
        parts.append(f"port {port}")
    hosts = sorted({str(host) for cell in cells if (host := cell.values.get("host")) is not None})
    if not parts:
        parts.append(name if name in hosts or not hosts else ", ".join(hosts[:2]))
    return " ".join(parts)


UNITS: tuple[By, ...] = ("requests", "connections", "packets")
_ONE = {"requests": "request", "connections": "connection", "packets": "packet"}


def unit_of(total: Sum, by: By) -> By | None:
    """What there are more of, or larger ones: requests where there are any, else connections, else packets."""
    if by in ("requests", "connections"):
        return None
    for unit in UNITS[: 2 if by == "packets" else 3]:
        part = Sum.of(cell for cell in total.cells if _comes_in(cell, unit))
        sides = [
            (side.of(unit), side.of(by), own.of(by))
            for side, own in ((total.before, part.before), (total.after, part.after))
        ]
        if all(bool(count) == bool(whole) and own >= IN_UNITS * whole for count, whole, own in sides):
            return unit
    return None


def _comes_in(cell: Cell, unit: By) -> bool:
    if unit == "requests":
        return cell.values.get("request") is not None
    service = cell.values.get("service")
    return unit == "packets" or (service is not None and bool(service[3]))


def how(total: Sum, by: By, scale: Scale, used: Sequence[str] = ()) -> str:
    """How a part changed: in number, and in size. `used` are the dimensions that tell it from others."""
    amounts = (total.before.of(by), total.after.of(by))
    unit = unit_of(total, by)
    if unit is None:
        if by in ("requests", "connections"):
            return f"{by} {count_pair(scale, amounts)}"
        return f"{amount_pair(scale, by, amounts)}" if by == "bytes" else f"packets {amount_pair(scale, by, amounts)}"
    counts = (total.before.of(unit), total.after.of(unit))
    each = [amount / count if count else 0.0 for amount, count in zip(amounts, counts, strict=True)]
    rates = scale.both(counts)
    if counts[0] == counts[1] or (scale.rates and max(rates) - min(rates) <= ALIKE * max(rates)):
        noun = unit if scale.rates or counts[1] != 1 else _ONE[unit]
        number = f"{one_count(scale, counts)} {noun}"
    else:
        number = f"{unit} {count_pair(scale, counts)}"
    text = f"{number}, {_sizes(each, by)} each"
    if by == "packets":
        text += _packet_sizes(total)
    # A connection counts where it begins, so parts of connections tell nothing of it.
    whole = unit == "requests" and not {"request", "status", "resent"} & {*used}
    return f"{text}{_reuse(total)}" if whole else text


def _reuse(total: Sum) -> str:
    """How many requests a connection has, where that changed much."""
    ends = [side.requests / side.connections if side.connections else 0.0 for side in (total.before, total.after)]
    if not all(ends) or max(ends) < REUSED * min(ends):
        return ""
    return f", {figure(ends[0])} → {figure(ends[1])} a connection"


def _sizes(each: Sequence[float], by: By) -> str:
    before, after = each
    same = before and after and abs(after - before) <= ALIKE * max(each)
    if by == "bytes":
        return (
            one_bytes(after if same or not before else before)
            if same or not (before and after)
            else bytes_pair(before, after)
        )
    if same or not (before and after):
        return f"{figure(after or before)} packets"
    return f"{figure(before)} → {figure(after)} packets"


def _packet_sizes(total: Sum) -> str:
    sides = [side.bytes / side.packets if side.packets else 0.0 for side in (total.before, total.after)]
    if not all(sides) or abs(sides[1] - sides[0]) <= 0.2 * max(sides):
        return ""
    return f", {bytes_pair(sides[0], sides[1])} a packet"


def context(total: Sum, used: Sequence[str]) -> str:
    """What all of a cause's packets have in common beyond what it says already."""
    said, told = [], [*used]
    for dimension in ("service", "host", "client", "request", "status"):
        if dimension in used or (dimension == "host" and "service" in told):
            continue
        values = {cell.values.get(dimension) for cell in total.cells}
        ports = {cell.values["service"][2] for cell in total.cells if cell.values.get("service")}
        hosts = {host for cell in total.cells if (host := cell.values.get("host"))}
        kinds = {cell.values.get("port") for cell in total.cells}
        if len(values) == 1 and None not in values:
            said.append(element_text(dimension, next(iter(values)), total))
            told.append(dimension)
        elif dimension == "service" and len(ports) > 3 and "client" in used:
            said.append(f"to {len(ports):,} ports")
        elif (
            dimension == "service"
            and len(kinds := {cell.values.get("port") for cell in total.cells}) == 1
            and any(kinds)
        ):
            said.append(element_text("port", kinds.pop(), total))
        elif dimension == "host" and "service" not in used and len(hosts) > 1:
            said.append(f"{len(hosts):,} servers")
        elif dimension == "client" and len(values) > 1:
            said.append(f"{len(values):,} clients")
    return ", ".join(said)


def cause_text(cause: Cause, by: By, scale: Scale, used: Sequence[str] = (), above: Cause | None = None) -> str:
    """A cause in a line: what it is, whether it is new, and how it changed."""
    text = label(cause, above)
    if cause.kind == "rest":
        return text
    if cause.kind in ("new", "gone"):
        text += f", {cause.kind}"
    known = context(cause.total, (*used, cause.dimension)) if not cause.children and cause.kind != "moved" else ""
    changed = how(cause.total, by, scale, (*used, cause.dimension))
    return f"{text}: {changed}{f' ({known})' if known else ''}"


def chain(explanation: Explanation) -> list[tuple[Cause, ...]]:
    """For each cause of the first level the way down to where no single cause explains most of it."""
    ways = []
    for cause in explanation.causes:
        way = [cause]
        while way[-1].children:
            first = way[-1].children[0]
            if first.kind == "rest" or first.dimension == "query":
                break  # a request is named with all of its forms
            weight = explanation.weight(first)
            whole = sum(map(explanation.weight, way[-1].children))
            named = sum(explanation.weight(child) for child in way[-1].children if child.kind != "rest")
            if weight < MOST * whole or weight < OF_NAMED * named:
                break
            way.append(first)
        ways.append(tuple(way))
    return ways


def sentence(way: Sequence[Cause], by: By, scale: Scale) -> str:
    """A cause and what it comes down to, in one sentence."""
    *above, last = way
    said = ", ".join(label(cause) for cause in above)
    used = [cause.dimension for cause in above]
    text = cause_text(last, by, scale, used, above[-1] if above else None)
    return f"{said}, {text}" if said else text


def parts_of(
    total: Sum, by: By, scale: Scale
) -> tuple[str | None, tuple[float, float], tuple[float, float], tuple[float, float]]:
    """The unit, its counts, the size of each, and the change by count and by size, on the scale."""
    unit = unit_of(total, by)
    amounts = scale.both((total.before.of(by), total.after.of(by)))
    if unit is None:
        return None, (0.0, 0.0), (0.0, 0.0), (amounts[1] - amounts[0], 0.0)
    counts = scale.both((total.before.of(unit), total.after.of(unit)))
    each = tuple(a / c if c else 0.0 for a, c in zip(amounts, counts, strict=True))
    return unit, counts, (each[0], each[1]), split(counts, amounts)


def first_line(explanation: Explanation, scale: Scale) -> str:
    """How the rate of bytes, packets, requests and connections changed."""
    parts = []
    measures: tuple[By, ...] = ("bytes", "packets", "requests", "connections")
    for by in measures:
        pair = (explanation.total.before.of(by), explanation.total.after.of(by))
        if by == "bytes" or any(pair):
            parts.append(f"{by} {amount_pair(scale, by, pair)} ({times(*scale.both(pair))})")
    return ", ".join(parts)


def span_text(nanoseconds: int) -> str:
    return humanised_duration(nanoseconds)


__all__ = ["Amount", "Scale", "cause_text", "chain", "first_line", "how", "label", "parts_of", "sentence"]
