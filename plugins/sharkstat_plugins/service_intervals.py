"""Services by intervals of time: what services.lua and service_intervals.lua count, on packets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sharkstat import Row, Table, Value

Keys = tuple[Value, ...]

MILLISECOND, DAY = 10**6, 86_400 * 10**9
MOST_CELLS = 500_000
MOST_RESTS = 100_000
MOST_CLIENTS = 100_000
OTHER = "(other)"
NOBODY: Keys = (OTHER, None, None, None, None)

# Each is a multiple of the one before it; then days by twos.
_LENGTHS = [
    MILLISECOND * n
    for n in (1, 2, 10, 20, 100, 200, 1_000, 2_000, 10_000, 20_000, 60_000, 120_000, 600_000, 1_200_000, 3_600_000)
] + [DAY // 12, DAY // 4, DAY // 2, DAY]


Packet = tuple[int, int]  # its bytes and time


class Cell:
    """What a connection has in an interval: packets and bytes of both ends, the first one's before, and times."""

    __slots__ = ("at", "first", "got", "last", "sent")

    def __init__(self, at: int, time: int) -> None:
        self.at = at
        self.sent, self.got = [0, 0], [0, 0]
        self.first = self.last = time


class Service:
    """What was counted of a service, in an interval or in all."""

    def __init__(self, keys: Keys, at: int | None = None) -> None:
        self.keys, self.at = keys, at
        self.clients: set[str] = set()
        self.connections: int | None = None
        self.packets = self.bytes = 0
        self.ways: list[int] | None = None  # packets and bytes to the server, and from it
        self.first: int | None = None
        self.last: int | None = None

    @property
    def is_rest(self) -> bool:
        return self.keys[0] == OTHER

    def count(self, packets: int, size: int, first: int, last: int) -> None:
        self.packets += packets
        self.bytes += size
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)

    def count_ways(self, to: Sequence[int], back: Sequence[int]) -> None:
        self.ways = [one + other for one, other in zip(self.ways or [0] * 4, (*to, *back), strict=True)]

    def add_client(self, address: str) -> None:
        if len(self.clients) < MOST_CLIENTS:
            self.clients.add(address)

    def add(self, other: Service) -> None:
        if other.first is not None and other.last is not None:
            self.count(other.packets, other.bytes, other.first, other.last)
        if other.connections is not None:
            self.connections = (self.connections or 0) + other.connections
        if self.is_rest:
            return
        if other.ways is not None:
            self.count_ways(other.ways[:2], other.ways[2:])
        for address in other.clients:
            self.add_client(address)

    def row(self) -> list[Value]:
        clients = None if self.ways is None else tuple(sorted(self.clients))
        ways: Sequence[int | None] = self.ways or [None] * 4
        return [*self.keys, self.connections, self.packets, self.bytes, *ways, self.first, self.last, clients]


class _Cells:
    """Those of services, at most so many. Those beyond share one an interval, of the first intervals that need one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[tuple[int | None, Keys], Service] = {}
        self._rest: dict[int | None, Service] = {}

    def of(self, at: int | None, keys: Keys) -> Service:
        cell = self._known.get((at, keys))
        if cell is not None:
            return cell
        if keys[0] == OTHER or len(self._known) >= self._most:
            if at not in self._rest and len(self._rest) >= MOST_RESTS:
                at = None
            return self._rest.setdefault(at, Service(NOBODY, at))
        cell = self._known[at, keys] = Service(keys, at)
        return cell

    def __iter__(self) -> Iterator[Service]:
        yield from self._known.values()
        yield from (cell for at, cell in self._rest.items() if at is not None)
        if None in self._rest:
            yield self._rest[None]


class Intervals:
    """The rows of `services,every=` and `services,intervals=`."""

    def __init__(self, most_rows: int, every: int | None, intervals: int | None) -> None:
        self._most_rows, self._most = most_rows, None if intervals is None else max(2, intervals)
        self._length, self._step = every or _LENGTHS[0], 0
        self._seen: set[int] = set()
        self._cells = _Cells(most_rows)
        self._open: list[list[Cell]] = []  # those of connections whose service is not known for certain
        self._held = 0

    def opened(self) -> list[Cell]:
        """The cells of a connection that begins."""
        self._open.append([])
        return self._open[-1]

    def _interval(self, time: int) -> int:
        at = time // self._length
        while self._most is not None and at not in self._seen:
            if len(self._seen) < self._most:
                self._seen.add(at)
                break
            self._grow()
            at = time // self._length
        return at

    def _grow(self) -> None:
        self._step += 1
        before = self._length
        self._length = _LENGTHS[self._step] if self._step < len(_LENGTHS) else before * 2
        factor = self._length // before
        self._seen = {at // factor for at in self._seen}
        self._held = 0
        for cells in self._open:
            finer = list(cells)
            cells.clear()
            for cell in finer:
                cell.at //= factor
                if cells and cells[-1].at == cell.at:
                    last = cells[-1]
                    last.sent = [one + other for one, other in zip(last.sent, cell.sent, strict=True)]
                    last.got = [one + other for one, other in zip(last.got, cell.got, strict=True)]
                    last.first, last.last = min(last.first, cell.first), max(last.last, cell.last)
                else:
                    cells.append(cell)
            self._held += len(cells)
        services, self._cells = self._cells, _Cells(self._most_rows)
        for service in services:
            self._cells.of(None if service.at is None else service.at // factor, service.keys).add(service)

    def note(self, time: int) -> None:
        """A fragment waits for the packet that completes it."""
        self._interval(time)

    def add(self, cells: list[Cell], from_first: bool, packets: Iterable[Packet]) -> bool:
        """Packets of a connection whose service may still show; True where there is too much to wait for that."""
        for size, time in packets:
            at = self._interval(time)
            if not cells or cells[-1].at != at:
                cells.append(Cell(at, time))
                self._held += 1
            cell = cells[-1]
            side = cell.sent if from_first else cell.got
            side[0] += 1
            side[1] += size
            cell.first, cell.last = min(cell.first, time), max(cell.last, time)
        return self._held > MOST_CELLS

    def settle(self, connections: Iterable[tuple[list[Cell], Keys, bool | None, str]]) -> None:
        """The connections that are open have these services; of each: which end serves, and the client."""
        for one in connections:
            _add(self._cells, *one)
        self._open.clear()
        self._held = 0

    def add_to_service(
        self, keys: Keys, packets: Iterable[Packet], connected: bool, from_server: bool | None = None, client: str = ""
    ) -> None:
        """Packets of a service that is known for certain, or of no connection."""
        for size, time in packets:
            at = self._interval(time)  # which may replace the cells
            service = self._cells.of(at, keys)
            service.count(1, size, time, time)
            if connected:
                service.connections = service.connections or 0
            if from_server is None or service.is_rest:
                continue
            service.add_client(client)
            service.count_ways(*(((0, 0), (1, size)) if from_server else ((1, size), (0, 0))))

    def rows(
        self, connections: Iterable[tuple[list[Cell], Keys, bool | None, str]], alone: Iterable[tuple[Keys, Packet]]
    ) -> Iterator[list[Value]]:
        """All rows, with what the open connections have, and packets of no connection."""
        for one in connections:
            _add(self._cells, *one)
        for keys, packet in alone:
            self.add_to_service(keys, [packet], False)
        for service in self._cells:
            start = None if service.at is None else service.at * self._length
            yield [start, *service.row(), self._length]


def _add(to: _Cells, cells: Sequence[Cell], keys: Keys, second: bool | None, client: str) -> None:
    """Add a connection to its service. It counts where its first packet is."""
    for number, cell in enumerate(cells):
        service = to.of(cell.at, keys)
        service.count(cell.sent[0] + cell.got[0], cell.sent[1] + cell.got[1], cell.first, cell.last)
        service.connections = (service.connections or 0) + (number == 0)
        if second is not None and not service.is_rest:
            service.add_client(client)
            service.count_ways(*((cell.sent, cell.got) if second else (cell.got, cell.sent)))


def aligned(tables: Sequence[Table]) -> Sequence[Sequence[Row]]:
    """Rows of the longest intervals that there are: each length is a multiple of those before it."""
    longest = max((value for table in tables for value in table["length"] if isinstance(value, int)), default=1)
    return [[{**row, "start": _begin(row["start"], longest), "length": longest} for row in table] for table in tables]


def _begin(time: Value, length: int) -> int | None:
    return time // length * length if isinstance(time, int) else None
