"""http,requests: what is asked of HTTP servers, with what success, and how long it takes."""

from __future__ import annotations

from sharkstat import hookimpl
from sharkstat_plugins.shipped_tap import ShippedTap


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(ShippedTap("http_requests.lua"))
