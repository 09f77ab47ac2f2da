"""The finest parts of traffic on both sides of a comparison: what their packets have in common, and how much it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sharkstat.tables.column import Row

By = Literal["bytes", "packets", "connections", "requests"]
MEASURES: tuple[By, ...] = ("bytes", "packets", "connections", "requests")
DIMENSIONS = ("service", "name", "host", "client", "request", "query", "status", "resent", "port")

Value = Any


@dataclass(frozen=True)
class Amount:
    """What was counted on one side, weighted so that both sides compare (a rate times a constant).

    `parts` is how many connections have packets in a cell, `squares` the sum of the squares of their bytes in it, and
    `products` of their bytes in it times their bytes in all: by so much they may differ by chance. The products of all
    cells of a connection add up to the square of its bytes. `first` and `last` are the times of its connections, None
    where they are not known.
    """

    bytes: int = 0
    packets: int = 0
    connections: int = 0
    requests: int = 0
    parts: int = 0
    squares: float = 0.0
    products: float = 0.0
    first: int | None = None
    last: int | None = None

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.bytes + other.bytes,
            self.packets + other.packets,
            self.connections + other.connections,
            self.requests + other.requests,
            self.parts + other.parts,
            self.squares + other.squares,
            self.products + other.products,
            _of_both(min, self.first, other.first),
            _of_both(max, self.last, other.last),
        )

    def of(self, measure: By) -> int:
        return int(getattr(self, measure))


def _of_both(choose: Callable[[int, int], int], one: int | None, other: int | None) -> int | None:
    return choose(one, other) if one is not None and other is not None else one if other is None else other


NOTHING = Amount()


@dataclass(frozen=True)
class Cell:
    """The packets that have all of this in common, on both sides."""

    values: Mapping[str, Value]
    before: Amount = NOTHING
    after: Amount = NOTHING


@dataclass(frozen=True)
class Weights:
    """By what totals are multiplied so that they compare: the other side's span for rates, 1 for totals."""

    before: int = 1
    after: int = 1

    def swapped(self) -> Weights:
        return Weights(self.after, self.before)


@dataclass(frozen=True)
class Sum:
    """Cells and what they add up to."""

    cells: tuple[Cell, ...]
    before: Amount
    after: Amount

    @staticmethod
    def of(cells: Iterable[Cell]) -> Sum:
        kept = tuple(cells)
        before = after = NOTHING
        for cell in kept:
            before, after = before + cell.before, after + cell.after
        return Sum(kept, before, after)


def by_value(cells: Iterable[Cell], dimension: str) -> dict[Value, Sum]:
    groups: dict[Value, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.values.get(dimension), []).append(cell)
    return {value: Sum.of(group) for value, group in groups.items()}


def values_of(cells: Sequence[Cell], dimension: str) -> set[Value]:
    return {value for cell in cells if (value := cell.values.get(dimension)) is not None}


def cells_of(before: Sequence[Row], after: Sequence[Row]) -> list[Cell]:
    """The cells of both sides' rows of the statistic `traffic`.

    A service that has a name on one side, or for one client, has it for all; a service with a name is the same
    wherever it is served.
    """
    names, protocols = _agreed((*before, *after))
    sums: dict[tuple[Value, ...], list[Amount]] = {}
    for side, rows in enumerate((before, after)):
        for row in rows:
            key = _key_of(row, names, protocols)
            amounts = sums.setdefault(key, [NOTHING, NOTHING])
            amounts[side] = amounts[side] + _amount(row)
    return [Cell(dict(zip(DIMENSIONS, key, strict=True)), *amounts) for key, amounts in sums.items()]


def _end(row: Row) -> tuple[Value, ...]:
    return row["server_address"], row["server_port"], row["transport"]


def _agreed(rows: Sequence[Row]) -> tuple[dict[tuple[Value, ...], Value], dict[tuple[Value, ...], Value]]:
    """The one name, and the one protocol above the transport, of each server's port: None where there are several."""
    names: dict[tuple[Value, ...], Value] = {}
    protocols: dict[tuple[Value, ...], Value] = {}
    for row in rows:
        if row["server_address"] is None:
            continue
        end = _end(row)
        for found, value in ((names, row["server_name"]), (protocols, row["protocol"])):
            if value is not None and value != row["transport"]:
                found[end] = value if found.get(end, value) == value else None
    return names, protocols


def _key_of(
    row: Row, names: Mapping[tuple[Value, ...], Value], protocols: Mapping[tuple[Value, ...], Value]
) -> tuple[Value, ...]:
    end = _end(row)
    protocol, name = row["protocol"], row["server_name"] or names.get(end)
    if protocol == row["transport"]:
        protocol = protocols.get(end) or protocol
    service = (protocol, name or row["server_address"], row["server_port"], row["transport"] or "")
    operation, path = row["operation"], row["path"]
    request, query = None, None
    if operation is not None or path is not None:
        target, _, query = str(path or "").partition("?") if _is_target(path) else (str(path or ""), "", "")
        request = (operation or "", target)
    host, client, resent = row["server_address"], row["client"], bool(row["retransmitted"])
    port = (protocol, row["server_port"], row["transport"] or "")
    return service, name, host, client, request, query, row["status"], resent, port


def _is_target(path: Value) -> bool:
    return isinstance(path, str) and (path.startswith("/") or "://" in path)


def _amount(row: Row) -> Amount:
    counts = {
        name: row[name] or 0 for name in ("bytes", "packets", "connections", "requests", "parts", "squares", "products")
    }
    return Amount(**counts, first=row.get("first"), last=row.get("last"))  # type: ignore[arg-type]
