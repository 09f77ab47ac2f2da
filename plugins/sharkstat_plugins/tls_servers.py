"""tls,servers: which TLS servers are spoken to, with what, and how long handshakes take."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from sharkstat import HealthFinding, Table, hookimpl
from sharkstat_plugins.shipped_tap import ShippedTap

SOON = timedelta(days=30)


class TlsServers(ShippedTap):
    def findings(self, table: Table) -> Iterator[HealthFinding]:
        """Certificates that had expired when they were captured, or were to expire soon."""
        if table.reading.last is None:
            return
        try:
            then = datetime.fromtimestamp(table.reading.last / 1e9, timezone.utc)
        except (OverflowError, OSError, ValueError):  # what a damaged file says is beyond any calendar
            return
        earliest: dict[str, datetime] = {}
        for row in table:
            expires = _moment(row["certificate_expires"])
            name = str(row["server_name"] or self.shown(table, row, "address:port"))
            if expires and expires - then < SOON and expires <= earliest.get(name, expires):
                earliest[name] = expires
        for name, expires in sorted(earliest.items(), key=lambda one: one[1])[:3]:
            left = expires - then
            tense = "expired on" if left < timedelta(0) else "expires on"
            sentence = f"the certificate of {name} {tense} {expires:%Y-%m-%d}, {abs(left.days)} days "
            sentence += "before" if left < timedelta(0) else "after"
            yield HealthFinding(f"{sentence} it was captured", left.days, None, "warning", "days")


def _moment(text: object) -> datetime | None:
    try:
        return datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return None


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(TlsServers("tls_servers.lua"))
