"""dns,names: which names are asked for, with what success, and how long the answers take."""

from __future__ import annotations

from collections.abc import Iterator

from sharkstat import HealthFinding, Table, hookimpl, most_of, part_of
from sharkstat_plugins.shipped_tap import ShippedTap


class DnsNames(ShippedTap):
    def findings(self, table: Table) -> Iterator[HealthFinding]:
        yield from super().findings(table)
        responses = table.total("responses")
        unknown = [row for row in table if row["response_code"] == "NXDOMAIN"]
        failed = [row for row in table if row["response_code"] not in ("NXDOMAIN", "NOERROR", None)]
        missing = "DNS answers are NXDOMAIN"
        for rows, what, bad in ((failed, "DNS answers are errors", 0.05), (unknown, missing, 0.5)):
            count = sum(row["responses"] for row in rows if isinstance(row["responses"], int))
            codes = ", ".join(sorted({str(row["response_code"]) for row in rows})[:3])
            where = most_of(table, "responses", "name", rows, "for")
            what = f"{what} ({codes})" if rows is failed else what
            yield from part_of(count, responses, what, where, warning=0.01 if rows is failed else 0.05, bad=bad)


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(DnsNames("dns_names.lua"))
