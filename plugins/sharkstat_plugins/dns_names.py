"""dns,names: which names are asked for, with what success, and how long the answers take."""

from __future__ import annotations

from sharkstat import hookimpl
from sharkstat_plugins.shipped_tap import ShippedTap


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(ShippedTap("dns_names.lua"))
