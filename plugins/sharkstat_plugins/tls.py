"""tls,servers: which TLS servers are spoken to, with what, and how long handshakes take."""

from __future__ import annotations

from pathlib import Path

import sharkstat_lua
from sharkstat import TapFile, hookimpl


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(TapFile(Path(sharkstat_lua.__file__).with_name("tls_servers.lua")))
