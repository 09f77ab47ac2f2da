"""A tap's Lua file as a plugin by itself: what its header says.

The header is the comment that the file begins with, one `-- KEY: VALUE` a line:

    -- name: dns,asked
    -- title: Names asked for
    -- usage: dns,asked[,FILTER]
    -- description: How often each name was asked for, in DNS queries.
    -- column: name text key
    -- column: count integer sum packets
    -- field: dns.qry.name

`sharkstat.tap(__FILE__, start)` of the Lua library reads the same lines. lua/sharkstat_lua/sharkstat.lua, docs/taps.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from sharkstat.column import Column, Merge, Type
from sharkstat.statistic import Layer, Statistic, hookimpl

_LINE = re.compile(r"--\s*([a-z]+):\s*(.*?)\s*$")
ONCE = ("name", "title", "usage", "description", "arguments", "layer")
MANY = ("column", "field")
NEEDED = ("name", "title", "column")
RULES = (*(rule for rule in get_args(Merge) if rule), "key")


class TapFile(Statistic):
    """The statistic that a tap's file describes. ValueError, naming the file and the fix, for a bad header."""

    def __init__(self, path: Path) -> None:
        self.tap = path
        header = read_header(path)
        self.name = header["name"][0]
        self.title = header["title"][0]
        self.usage = header.get("usage", [f"{self.name}[,FILTER]"])[0]
        self.description = header.get("description", [self.title])[0]
        self._takes = _one_of(path, header, "arguments", ("filter", "text", "none"))
        self.layer = _one_of(path, header, "layer", tuple(reversed(get_args(Layer))))
        self._columns = tuple(_column(path, text) for text in header["column"])

    def columns(self, arguments: str) -> tuple[Column, ...]:
        if arguments and self._takes == "none":
            raise self.refuse_arguments(arguments)
        return self._columns

    def filters(self, arguments: str) -> Sequence[str]:
        return super().filters(arguments) if self._takes == "filter" else ()


def read_header(path: Path) -> dict[str, list[str]]:
    """The values of each key. ValueError for a key that is unknown, missing or there twice."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("--"):
            break
        match = _LINE.match(line)
        if not match:
            continue
        key, value = match.groups()
        if key not in ONCE + MANY:
            raise ValueError(f"{path.name}: unknown key {key!r} in the header: take {', '.join(ONCE + MANY)}")
        if key in ONCE and key in found:
            raise ValueError(f"{path.name}: {key!r} is in the header twice")
        found.setdefault(key, []).append(value)
    for key in NEEDED:
        if not any(found.get(key, ())):
            raise ValueError(
                f"{path.name} is missing required field: '{key}' (a line `-- {key}: ...` at its beginning)"
            )
    return found


def _one_of(path: Path, header: dict[str, list[str]], key: str, allowed: tuple[str, ...]) -> Any:
    value = header.get(key, [allowed[0]])[0]
    if value not in allowed:
        raise ValueError(f"{path.name}: {key} is {', '.join(allowed[:-1])} or {allowed[-1]}, not {value!r}")
    return value


def _column(path: Path, text: str) -> Column:
    name, kind, rule, *unit = [*text.split(maxsplit=3), "", ""]
    if kind not in get_args(Type) or rule not in RULES:
        raise ValueError(
            f"{path.name}: bad column {text!r}: write NAME TYPE RULE [UNIT], as in `packets integer sum packets` "
            f"(types: {', '.join(get_args(Type))}; rules: {', '.join(RULES)})"
        )
    role: Any = "key" if rule == "key" else "measure"
    merge: Any = "" if rule == "key" else rule
    return Column(name, kind, unit[0], role=role, merge=merge)  # type: ignore[arg-type]


class TapPlugin:
    """The plugin that such a file is."""

    def __init__(self, path: Path) -> None:
        self._statistic = TapFile(path)

    @hookimpl
    def register_statistics(self, register: Callable[[Statistic], None]) -> None:
        register(self._statistic)
