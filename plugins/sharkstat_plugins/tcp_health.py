"""tcp,health: how each TCP connection fares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sharkstat import Row, Table, Value, hookimpl
from sharkstat_plugins.shipped_tap import ShippedTap


class TcpHealth(ShippedTap):
    """A connection has one row, and two captures cannot tell whether theirs are the same one."""

    def align(self, tables: Sequence[Table]) -> Sequence[Sequence[Row]]:
        owner: dict[tuple[Value, ...], int] = {}
        aligned = []
        for number, rows in enumerate(super().align(tables)):
            times = Counter(map(_ends, rows))
            for row in rows:
                if owner.setdefault(_ends(row), number) != number and row["server_address"] is not None:
                    raise self.refuse_merge(
                        "{}:{} to {}:{} is in two of the captures, as one connection or as a reused port; read the "
                        "captures in one run instead".format(*_ends(row))
                    )
            # tshark numbers streams within a capture: the number stays only where it tells rows apart.
            aligned.append([row if times[_ends(row)] > 1 else {**row, "stream": None} for row in rows])
        return aligned


def _ends(row: Row) -> tuple[Value, ...]:
    return (row["client_address"], row["client_port"], row["server_address"], row["server_port"])


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(TcpHealth("tcp_health.lua"))
