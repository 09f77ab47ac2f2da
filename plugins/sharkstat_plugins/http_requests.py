"""http,requests: what is asked of HTTP servers, with what success, and how long it takes."""

from __future__ import annotations

from collections.abc import Iterator

from sharkstat import HealthFinding, Row, Table, hookimpl, most_of, part_of
from sharkstat_plugins.shipped_tap import ShippedTap

# What the statuses of gRPC mean, in the words of its documentation.
GRPC = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)


class HttpRequests(ShippedTap):
    by_connection = "also"

    def findings(self, table: Table) -> Iterator[HealthFinding]:
        responses = table.total("responses")
        for first, warning, bad in ((500, 0.001, 0.05), (400, 0.02, 0.5)):
            rows = [row for row in table if isinstance(row["status"], int) and first <= row["status"] < first + 100]
            where = most_of(table, "responses", "host/path", rows, "for")
            what = f"HTTP responses have a status of {first // 100}xx"
            count = sum(_count(row, "responses") for row in rows)
            yield from part_of(count, responses, what, where, warning=warning, bad=bad)
        calls = [row for row in table if row["grpc_status"] is not None]
        failed = [row for row in calls if row["grpc_status"] != 0]
        where = most_of(table, "responses", "host/path", failed, "for")
        [status, *others] = sorted({_count(row, "grpc_status") for row in failed}) or [0]
        if not others and status < len(GRPC):
            where = f": {GRPC[status]}{where}"
        total = sum(_count(row, "responses") for row in calls)
        count = sum(_count(row, "responses") for row in failed)
        yield from part_of(count, total, "gRPC calls failed", where, warning=0.001, bad=0.05)
        unanswered = table.total("unanswered")
        where = most_of(table, "unanswered", "host")
        yield from part_of(
            unanswered, table.total("requests"), "HTTP requests without a response", where, warning=0.02, bad=0.2
        )


def _count(row: Row, name: str) -> int:
    value = row[name]
    return value if isinstance(value, int) else 0


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(HttpRequests("http_requests.lua"))
