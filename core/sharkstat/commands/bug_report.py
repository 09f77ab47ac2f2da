"""`sharkstat doctor --report`: what a bug report needs to say of this machine, and nothing private."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import socket
import sys
from collections.abc import Iterable, Iterator
from getpass import getuser
from pathlib import Path

from sharkstat.commands.doctor import Check
from sharkstat.errors import SharkstatError
from sharkstat.tshark.process import find_tshark

# Those of sharkstat and its extras; what else is installed is nobody's business.
_LIBRARIES = (
    *("pluggy", "pyshark", "tabulate", "typer", "rich", "wcwidth", "numpy", "pyarrow"),
    *("altair", "jinja2", "vl-convert-python", "prometheus-client", "distributed"),
)
# Variables that change what tshark and sharkstat do. Their values may be paths or names: most are only named.
_VARIABLES = re.compile(r"SHARKSTAT_\w+|WIRESHARK_\w+|LANG|LC_\w+|TZ|TERM|NO_COLOR|COLUMNS|PYTHON\w+")
_TOLD_WHOLE = ("LANG", "LC_ALL", "LC_CTYPE", "TERM", "TZ")
_ADDRESS = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b|\b(?:[0-9a-f]{1,4}:){2,}[0-9a-f:]+\b", re.IGNORECASE)


def report(checks: Iterable[Check]) -> Iterator[str]:
    """The lines of a report in Markdown. Paths in the home folder, user, host and interface names are left out."""
    from sharkstat import __version__

    yield "### sharkstat doctor --report"
    yield ""
    yield f"- sharkstat {__version__}"
    yield f"- {platform.python_implementation()} {platform.python_version()}, {sys.platform}, {platform.machine()}"
    yield f"- {_system()}, kernel {platform.release()}, {os.cpu_count()} processors{_memory()}"
    yield f"- {_tshark()}"
    versions = ((name, _version_of(name)) for name in _LIBRARIES)
    yield f"- {', '.join(f'{name} {version}' for name, version in versions if version)}"
    names = sorted(name for name in os.environ if _VARIABLES.fullmatch(name))
    yield f"- variables: {', '.join(f'{n}={os.environ[n]}' if n in _TOLD_WHOLE else n for n in names) or 'none'}"
    yield ""
    yield "```text"
    for check in checks:
        yield _private(f"{check.mark:<4}  {check.name}: {check.text}")
    yield "```"


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _memory() -> str:
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return ""
    return f", {size / 2**30:.0f} GiB of memory"


def _tshark() -> str:
    try:
        facts = find_tshark().check()
    except SharkstatError as problem:
        return f"tshark: {_private(str(problem))}"
    return f"tshark {facts.version}, Lua {facts.lua}"


def _version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _private(text: str) -> str:
    """The text without what tells who and where this is.

    >>> _private("warn  dumpcap: 192.0.2.10 refused"), _private("FAIL  plugin a: it is broken (/srv/acme/a.py)")
    ('warn  dumpcap: ADDRESS refused', 'FAIL  plugin a: it is broken (…/a.py)')
    """
    text = re.sub(r"\(tried [^)]*\)", "", text).rstrip()  # names of interfaces
    home = str(Path.home())
    if home not in ("/", ""):
        text = text.replace(home, "~")
    text = re.sub(r"/(?:home|Users)/[^/\s]+", "~", text)
    text = re.sub(r"(?<![\w~./])/(?!(?:usr|opt|bin)/)(?:[^\s/,]+/)+", "…/", text)
    for name, what in ((_user(), "USER"), (socket.gethostname(), "HOST")):
        if name and name != "root":
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", what, text)
    return _ADDRESS.sub("ADDRESS", text)


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):
        return ""
