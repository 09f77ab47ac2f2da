"""The tshark program: found and checked, and the environment in which its results are the same everywhere."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from sharkstat.errors import TsharkError

OLDEST = (4, 0)
ANSWER = 20.0  # seconds for tshark to say what it is, or what it knows
INSTALL = (
    "install it (Debian, Ubuntu: apt install tshark; Fedora: dnf install wireshark-cli; macOS: brew install wireshark)"
)


class Facts(NamedTuple):
    """What a tshark says of itself: version, and the version of Lua that it was built with."""

    version: str
    lua: str


class Tshark(NamedTuple):
    """A tshark program. Asking it what it is takes as long as reading many packets, so only who must asks."""

    path: str

    def check(self) -> Facts:
        """Raise TsharkError if it is not tshark, too old, or built without Lua."""
        try:
            done = subprocess.run(
                [self.path, "--version"],
                capture_output=True,
                text=True,
                timeout=ANSWER,
                env=clean_environment(None),
            )
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise TsharkError(f"cannot run {self.path} ({problem}): {INSTALL}") from None
        found = re.search(r"TShark \(Wireshark\) (\d+)\.(\d+)\.(\d+)", done.stdout)
        if not found and (done.returncode < 0 or done.stderr.strip()):
            said = done.stderr.strip().splitlines() or [f"it was killed: {signal.Signals(-done.returncode).name}"]
            raise TsharkError(f"cannot run {self.path}: {said[-1]}")
        if not found:
            raise TsharkError(f"{self.path} prints no version and is probably not tshark: {INSTALL}")
        version = ".".join(found.groups())
        if tuple(map(int, found.groups()))[:2] < OLDEST:
            raise TsharkError(f"{self.path} is {version}: sharkstat needs tshark 4.0 or later; {INSTALL}")
        lua = re.search(r"(?:with\s+|\+)Lua\s+(\S+?)[,\s]", done.stdout.replace("\n", " "))  # "+Lua" since 4.6
        if not lua:
            raise TsharkError(
                f"{self.path} was built without Lua, which the taps need: install your distribution's package"
            )
        return Facts(version, lua.group(1))


def find_tshark() -> Tshark:
    """The tshark to use: $SHARKSTAT_TSHARK, or the first on the PATH. TsharkError where there is none."""
    wanted = os.environ.get("SHARKSTAT_TSHARK", "tshark")
    path = shutil.which(wanted)
    if path is None:
        raise TsharkError(f"{wanted} not found: {INSTALL}")
    return Tshark(path)


def find_tool(name: str, tshark: Tshark) -> str:
    """The path of a program that comes with tshark: dumpcap, mergecap."""
    beside = Path(tshark.path).parent / name
    path = str(beside) if beside.exists() else shutil.which(name)
    if path is None:
        raise TsharkError(
            f"{name} not found next to tshark: install the other Wireshark tools (Debian: wireshark-common)"
        )
    return path


MALLOC = "glibc.malloc.hugetlb=1:glibc.malloc.top_pad=4194304"
_KEPT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR", "DYLD_LIBRARY_PATH", "TZ", "TZDIR")


def time_zone() -> str:
    """The time zone in which tshark reads dates: TZ, or the system's. Its name, as "Europe/Berlin" or "UTC"."""
    chosen = os.environ.get("TZ")
    if chosen is not None:
        return chosen.removeprefix(":") or "UTC"
    _, found, name = os.path.realpath("/etc/localtime").partition("/zoneinfo/")
    return name.removeprefix("Etc/") if found else time.tzname[0]


NAMES = frozenset(("manuf", "enterprises.tsv", "services"))  # tshark's tables of names


def data_of(tshark: str) -> Path | None:
    """The folder of tshark's data if its tables of names are files there, as in 4.0; None if not, or it is unknown."""
    data = Path(tshark).resolve().parent.parent / "share" / "wireshark"
    with contextlib.suppress(OSError), Path(tshark).open("rb") as program:
        if program.read(4) == b"\x7fELF" and (data / "init.lua").exists() and (data / "manuf").exists():
            return data
    return None  # a script may start any tshark


def clean_environment(home: Path | None, data: Path | None = None) -> dict[str, str]:
    """An environment in which tshark's output does not depend on the user's; `data` stands for tshark's own folder.

    The time zone stays the user's: tshark reads the dates in display filters in it.
    """
    kept = {k: v for k, v in os.environ.items() if k in _KEPT}
    # Of its start, most is allocating for 200,000 fields: in large pages and pieces that takes a twentieth less.
    kept.update(LC_ALL="C.UTF-8", GLIBC_TUNABLES=MALLOC)
    if home is not None:
        kept.update(HOME=str(home), WIRESHARK_CONFIG_DIR=str(home / "config"), XDG_CONFIG_HOME=str(home / ".config"))
    if data is not None:
        kept.update(WIRESHARK_DATA_DIR=str(data))
    return kept
