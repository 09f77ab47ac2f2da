"""apps: whose traffic it is, and what it carries."""

from __future__ import annotations

from sharkstat import hookimpl
from sharkstat_plugins.titles import TitledTap


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(TitledTap("apps.lua"))
