"""`sharkstat doctor`: checks that everything sharkstat needs is installed and works."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from sharkstat.errors import SharkstatError
from sharkstat.tshark.confinement import forbids_sockets, reason_without, version
from sharkstat.tshark.process import Tshark, find_tool, find_tshark
from sharkstat.tshark.users import unprivileged_user


@dataclass(frozen=True)
class Check:
    """The result of one check; mark is "ok", "warn" or "FAIL"."""

    mark: str
    name: str
    text: str


def examine() -> Iterator[Check]:
    """Run the checks in order and yield each result."""
    yield Check("ok", "python", f"{platform.python_version()} on {platform.system()}")
    libraries = ("pluggy", "pyshark", "tabulate", "typer")
    yield Check("ok", "libraries", ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries))
    try:
        tshark = find_tshark()
        facts = tshark.check()
    except SharkstatError as problem:
        yield Check("FAIL", "tshark", str(problem))
        return
    yield Check("ok", "tshark", f"{facts.version} at {tshark.path}, with Lua {facts.lua}")
    yield _user()
    yield _isolation(tshark)
    yield _taps(tshark)
    yield Check("ok", "taps", f"{files('sharkstat_lua')} (they also run in plain tshark: docs/taps.md)")
    for tool, use in (("dumpcap", "live capture"), ("mergecap", "several files at once")):
        yield _tool(tool, use, tshark)
    yield _capture(tshark)
    yield from _plugins()


def _user() -> Check:
    user = unprivileged_user()
    if user is not None:
        user.release()
        return Check("ok", "user", f"root; tshark runs as uid {user.uid}, gid {user.gid}")
    if 0 in (os.getgid(), os.getegid()):
        return Check("warn", "user", "in group root, tshark 4.4 and later run no Lua: use another group")
    return Check("ok", "user", f"uid {os.getuid()}, not root")


def _isolation(tshark: Tshark) -> Check:
    why = reason_without(tshark.path)
    if why:
        return Check("warn", "isolation", f"{why}: tshark may read and write what its user may")
    network = (
        "no network" if forbids_sockets() else "no TCP, but UDP" if version() >= 4 else "the network is not confined"
    )
    return Check("ok", "isolation", f"Landlock {version()}: tshark reads its own files and what it is given; {network}")


def _taps(tshark: Tshark) -> Check:
    """Count a one-packet capture with every engine except tshark's own, which prints nothing for it."""
    from sharkstat.running.runner import run
    from sharkstat.statistics.registry import Registry

    frame = bytes(12) + struct.pack("!H", 0x88B5) + bytes(46)
    capture = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    capture += struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.pcap"
        path.write_bytes(capture)
        statistic, _ = Registry.default(only_built_in=True).find("io,stat")
        engines = [engine.name for engine in statistic.engines if engine.own and engine.instead is None]
        for engine in engines:
            try:
                (table,) = run(path, "io,stat,0", engine=engine)
            except SharkstatError as problem:
                return Check("FAIL", "engines", f"{engine}: {problem}")
            if (table.total("frames"), table.total("bytes")) != (1, len(frame)):
                return Check("FAIL", "engines", f"{engine}: wrong result for a one-packet capture: {table.rows}")
    return Check("ok", "engines", f"{' and '.join(engines)} count a test packet correctly")


def _tool(name: str, use: str, tshark: Tshark) -> Check:
    try:
        return Check("ok", name, f"{find_tool(name, tshark)}, for {use}")
    except SharkstatError as problem:
        return Check("warn", name, str(problem))


def _capture(tshark: Tshark) -> Check:
    """Which interfaces dumpcap can open; `dumpcap -D` also lists those it may not."""

    def dumpcap(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [find_tool("dumpcap", tshark), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    try:
        listed = [line.split("\t")[0].partition(". ")[2] for line in dumpcap("-D", "-M").stdout.splitlines()]
        # One interface that opens proves the permission; special ones may fail for other reasons.
        opened = [name for name in listed[:4] if name and dumpcap("-i", name, "-L").returncode == 0]
    except (SharkstatError, OSError, subprocess.TimeoutExpired) as problem:
        return Check("warn", "capture", str(problem))
    if not opened:
        return Check(
            "warn",
            "capture",
            "no permission to capture: run as root, or join the group that may capture "
            "(Debian: dpkg-reconfigure wireshark-common, adduser $USER wireshark)",
        )
    return Check("ok", "capture", f"permission to capture (tried {', '.join(opened)})")


def _plugins() -> Iterator[Check]:
    from sharkstat.statistics.registry import Registry

    registry = Registry.default()
    for plugin in registry.plugins:
        if plugin.complaint:
            yield Check("FAIL", f"plugin {plugin.name}", f"{plugin.complaint} ({plugin.origin})")
    yield Check("ok", "statistics", f"{len(registry.names)} from {len(registry.plugins)} plugins")
