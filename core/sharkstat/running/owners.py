"""Whose traffic it was: connections joined with the sockets of this host, and rows added up by process.

Only what is certain is said. A connection belongs to the process that held its socket. Where no sample saw its socket,
it belongs to the one that listened for it, if the same listener was there before and after it. Everything else is `?`.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from sharkstat.running.openers import End, Kind, Process
from sharkstat.running.sockets import Socket, Sockets
from sharkstat.tables.column import Column, Row
from sharkstat.tables.figures import humanised_bytes
from sharkstat.tables.table import Table, merge_rows
from sharkstat.tshark.records import Flow

UNKNOWN = "?"
ELSEWHERE = "(other hosts)"
# These hold sockets for others, whom they start when somebody connects.
_SUPERSERVERS = {"systemd", "inetd", "xinetd", "s6-tcpserver", "tcpserver", "tcpsvd"}

COLUMNS = (
    Column("program", "text", role="key", description="of this host; ? where it is not known for certain"),
    Column("pid", "integer", role="key", title="PID", local="always", description="none where several hold the socket"),
    Column("user", "text", role="key"),
    Column("unit", "text", role="key", description="the container or systemd unit"),
    Column("peer_program", "text", role="key", title="Peer", shown=False, description="at the other end, on this host"),
)


@dataclass(frozen=True)
class Owner:
    program: str
    pid: int | None = None
    user: str | None = None
    unit: str | None = None
    peer: str | None = None

    def keys(self) -> Row:
        return dict(
            zip((c.name for c in COLUMNS), (self.program, self.pid, self.user, self.unit, self.peer), strict=True)
        )


class Owners:
    """The owner of each flow, by its number.

    A flow between two processes of this host belongs to the one that sent its first packet, or of which nobody knows
    more; the other is its `peer`.
    """

    def __init__(self, sockets: Sockets, flows: Mapping[int, Flow], start: int | None) -> None:
        """`start` is the time of the capture's first packet, to which the times of flows are relative."""
        self._sockets = sockets
        self._local: set[str] = set().union(*sockets.addresses.values())
        self._by_ends: dict[tuple[Kind, End, End], list[Socket]] = {}
        self._bound: dict[tuple[Kind, int], list[Socket]] = {}
        for one in sockets.seen:
            if one.remote is not None:
                self._by_ends.setdefault((one.kind, one.local, one.remote), []).append(one)
            else:
                self._bound.setdefault((one.kind, one.local[1]), []).append(one)
        begins = {} if start is None else self._begins(flows, start)
        self._owners = {
            number: self._owner(number, flow, start, begins) for number, flow in flows.items() if start is not None
        }

    def of(self, number: int | None) -> Owner:
        return Owner(UNKNOWN) if number is None else self._owners.get(number, Owner(UNKNOWN))

    def _begins(self, flows: Mapping[int, Flow], start: int) -> dict[tuple[End, End], list[int]]:
        """When the connections of TCP between two ends began, since ports are used again."""
        found: dict[tuple[End, End], list[int]] = {}
        for number, flow in flows.items():
            if number % 2 == 0:
                found.setdefault(_pair(flow), []).append(start + flow.first)
        return found

    def _owner(self, number: int, flow: Flow, start: int | None, begins: Mapping[tuple[End, End], list[int]]) -> Owner:
        assert start is not None
        kind: Kind = "udp" if number % 2 else "tcp"
        a, b = _end(flow.a), _end(flow.b)
        first, last = start + flow.first, start + flow.last
        until = last
        if kind == "tcp":  # what was seen until the next connection between these ends is this one
            until = min((t for t in begins[_pair(flow)] if t > first), default=last + 10**15)
        found = [self._found(kind, local, remote, first, last, until) for local, remote in ((a, b), (b, a))]
        one, other = (found[0], found[1]) if found[0].program != UNKNOWN or found[1].program == UNKNOWN else found[::-1]
        if one.program != UNKNOWN:
            return replace(one, peer=None if other.program == UNKNOWN else other.program)
        return one if self._is_local(a[0]) or self._is_local(b[0]) else Owner(ELSEWHERE)

    def _is_local(self, address: str) -> bool:
        return address in self._local or address.startswith("127.")

    def _found(self, kind: Kind, local: End, remote: End, first: int, last: int, until: int) -> Owner:
        """The owner of the socket at the local end of a connection."""
        direct = [s for s in self._by_ends.get((kind, local, remote), ()) if s.first < until and s.last >= first]
        if any(s.holders for s in direct):  # or it was gone before anybody could look who held it
            return _holder(self._in_namespace(direct, local))
        if not self._is_local(local[0]):
            return Owner(UNKNOWN)
        opened = self._opener(kind, local, remote, first, last)
        if opened is not None:
            return opened
        bound = [s for s in self._bound.get((kind, local[1]), ()) if self._takes(s, local)]
        # What listens accepts a connection at its first packet; what has no remote end gets all datagrams of a flow.
        if kind == "tcp":
            last = first
        possible = [s for s in bound if s.before < last and (s.after is None or s.after > first)]
        if kind == "tcp":
            possible = [s for s in possible if s.listening]
            certain = [s for s in possible if s.first <= first <= s.last]
        else:
            certain = [s for s in possible if s.before <= first <= s.last and (s.after is None or s.after >= last)]
        if not certain or len(certain) != len(possible):
            return Owner(UNKNOWN)
        closest = min(_vagueness(s, local) for s in certain)
        return _common(self._in_namespace([s for s in certain if _vagueness(s, local) == closest], local))

    def _opener(self, kind: Kind, local: End, remote: End, first: int, last: int) -> Owner | None:
        """The process that opened the connection, where the kernel told it, from a namespace with this address."""
        openers = self._sockets.openers
        if openers is None:
            return None
        possible = openers.opener(kind, local, remote, first, last)
        loopback = local[0] == "::1" or local[0].startswith("127.")
        for one in possible:
            there = self._sockets.addresses.get(one.namespace, ())
            # Where its namespace is not known any more, its own address says as much, but for loopback.
            if not one.namespace:
                fits = one.source == local[0] and (not loopback or len(self._sockets.addresses) == 1)
            else:
                fits = one.namespace == self._sockets.own if loopback else local[0] in there
            if fits:
                process = one.process
                return Owner(process.program, process.pid, process.user or None, process.unit or None)
        return None

    def _takes(self, one: Socket, local: End) -> bool:
        """Whether a socket without a remote end gets what is sent to this address."""
        if one.local[0] == local[0]:
            return True
        if not one.any_address or (one.local[0] == "0.0.0.0" and ":" in local[0]):
            return False
        return local[0] in self._sockets.addresses.get(one.namespace, ()) or local[0].startswith("127.")

    def _in_namespace(self, found: list[Socket], local: End) -> list[Socket]:
        """Loopback addresses are in every namespace: those that were captured are in ours."""
        if local[0] == "::1" or local[0].startswith("127."):
            return [s for s in found if s.namespace == self._sockets.own]
        return found


def _vagueness(one: Socket, local: End) -> int:
    if one.local[0] == local[0]:
        return 0
    return 1 if (":" in local[0]) == (":" in one.local[0]) else 2


def _holder(found: Sequence[Socket]) -> Owner:
    """Who holds a connection's socket. Of several processes that share it, it is the one that opened it."""
    leaders = {_leader(one.holders) for one in found}
    only = leaders.pop() if len(leaders) == 1 else None
    return _common(found) if only is None else Owner(only.program, only.pid, only.user, only.unit or None)


def _common(found: Sequence[Socket]) -> Owner:
    """What all have in common who hold these sockets, since any of them may have taken the connection."""
    everyone = [process for one in found for process in one.holders]
    programs, pids, users, units = ({getattr(p, n) for p in everyone} for n in ("program", "pid", "user", "unit"))
    if len(programs) != 1 or not all(one.holders for one in found) or programs & _SUPERSERVERS:
        return Owner(UNKNOWN)
    pid, user, unit = (values.pop() if len(values) == 1 else None for values in (pids, users, units))
    return Owner(programs.pop(), pid, user, unit or None)


def _leader(holders: Iterable[Process]) -> Process | None:
    """The only process; of several that share a socket the one that all others descend from."""
    by_pid = {process.pid: process for process in holders}
    roots = [process for process in by_pid.values() if process.parent not in by_pid]
    return roots[0] if len(roots) == 1 else None


@lru_cache(maxsize=1 << 16)
def _address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _end(end: End) -> End:
    return _address(end[0]), end[1]


def _pair(flow: Flow) -> tuple[End, End]:
    a, b = sorted((_end(flow.a), _end(flow.b)))
    return a, b


# Tables ------------------------------------------------------------------------------------------------------


def with_owners(table: Table, flows: Sequence[int | None], owners: Owners) -> Table:
    """The table with the columns of its processes, rows added up by them: `flows` has the number of each row's flow."""
    at = next((number for number, c in enumerate(table.columns) if c.role != "key"), len(table.columns))
    keys = [owners.of(number).keys() for number in flows]
    peers = any(key["peer_program"] for key in keys)
    own = tuple(replace(c, shown=c.shown or peers) for c in COLUMNS)
    rows: list[Row] = [{**key, **row} for key, row in zip(keys, table.rows, strict=True)]
    found = replace(table, columns=(*table.columns[:at], *own, *table.columns[at:]), rows=rows)
    names = [c.name for c in found.keys]
    if len({tuple(row[name] for name in names) for row in rows}) < len(rows):
        aligned = [found.rows] if found.statistic is None else found.statistic.align([found])
        found.rows = merge_rows(found.columns, [row for part in aligned for row in part])
    return found


def unknown_share(table: Table) -> str:
    """What there is to say of a table's bytes whose process is not known; "" where all are."""
    name = next((c.name for c in table.columns if c.name in ("bytes", "response_bytes")), "")
    if not name:
        return ""
    total = table.total(name)
    unknown = table.where(program=UNKNOWN).total(name)
    if not unknown or not total:
        return ""
    hint = "" if _may_see_all() else "; as root, those of other users are seen, too"
    return (
        f"{table.request}: the process of {100 * unknown / total:.1f} % of the bytes ({humanised_bytes(int(unknown))}) "
        "is not known for certain, and in the rows `?`: sockets that lived shorter than a sample, or none of TCP and "
        f"UDP{hint}"
    )


def _may_see_all() -> bool:
    return os.geteuid() == 0
