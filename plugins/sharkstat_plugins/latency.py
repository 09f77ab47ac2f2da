"""latency: how long servers take to answer."""

from __future__ import annotations

from collections.abc import Iterator

from sharkstat import HealthFinding, Severity, Table, hookimpl
from sharkstat_plugins.shipped_tap import ShippedTap

# From when on a server is slow to answer, and from when on it is worse than that: its mean, in nanoseconds.
SLOW, VERY_SLOW, BAD = 100_000_000, 1_000_000_000, 5_000_000_000


class Latency(ShippedTap):
    def findings(self, table: Table) -> Iterator[HealthFinding]:
        rows = [row for row in table if isinstance(row["mean_time"], int) and row["server_address"] is not None]
        if not rows:
            return
        worst = max(rows, key=lambda row: row["mean_time"])  # type: ignore[arg-type, return-value]
        mean = worst["mean_time"]
        if not isinstance(mean, int) or mean < SLOW:
            return
        severity: Severity = "bad" if mean >= BAD else "warning" if mean >= VERY_SLOW else "note"
        responses = "response" if worst["responses"] == 1 else "responses"
        sentence = (
            f"the slowest server, {self.shown(table, worst, 'server_address:server_port')}, takes "
            f"{self.shown(table, worst, 'mean_time')} on average to answer {worst['protocol']} "
            f"({worst['responses']:,} {responses}, {self.shown(table, worst, 'max_time')} at most)"
        )
        yield HealthFinding(sentence, mean, None, severity, "seconds")


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(Latency("latency.lua"))
