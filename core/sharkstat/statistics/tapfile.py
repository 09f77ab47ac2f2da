"""A Lua tap as a plugin of its own, described by the header of its file.

The header is the comment at the beginning of the file, with one `-- KEY: VALUE` per line. An indented line continues
the value before it:

    -- name: dns,slow
    -- title: Slow DNS answers
    -- description: Which names took long to resolve?
    --     Answers that took longer than `over`, by name.
    -- parameter: over duration 100ms  what is slow
    -- column: name text key
    -- column: answers integer sum
    -- column: total_time duration sum seconds hidden
    -- column: mean_time duration total_time/answers seconds; the time from query to answer
    -- sort: answers descending, name
    -- field: dns.qry.name

`sharkstat.tap(__FILE__, start)` of the Lua library reads the same lines. lua/sharkstat_lua/sharkstat.lua, docs/taps.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from sharkstat.engines.engine import Engine, Layer, Split
from sharkstat.engines.tap import Tap
from sharkstat.statistics.parameter import Parameter, ParameterType, read_arguments, usage_of
from sharkstat.statistics.section import read_check, read_section
from sharkstat.statistics.statistic import Statistic, hookimpl
from sharkstat.tables.column import Column, Local, Merge, Row, Type, Value
from sharkstat.tables.table import Table

_LINE = re.compile(r"--\s?([a-z]+):\s*(.*?)\s*$")
_MORE = re.compile(r"--\s{2,}(\S.*?)\s*$")
_TITLE = re.compile(r"""\btitle=(?:"([^"]*)"|(\S+))""")
_RATIO = re.compile(r"(\w+)/(\w+)")
_SIZE = re.compile(r"size:(\w+)")
_PERCENTILE = re.compile(r"p(\d+(?:\.\d+)?):(\w+)/(\w+)/(\w+)")
_WITH = re.compile(r"\bwith=(\S+)")
_UNION = re.compile(r"union:(\d+)")
MOST_IN_A_SET = 100  # as rows.add of the Lua library has it
ONCE = ("name", "title", "usage", "description", "arguments", "layer", "order", "section", "sort", "split")
MANY = ("column", "field", "finding", "parameter")
NEEDED = ("name", "title", "column")
RULES = (*(rule for rule in get_args(Merge) if rule), "key")


class TapFile(Statistic):
    """The statistic that a tap's Lua file describes. Raises ValueError, with the file and the fix, for a bad header.

    A Python plugin may register it, or a subclass of it: `register(TapFile(path))`.
    """

    def __init__(self, path: Path) -> None:
        header = read_header(path)
        self.name = header["name"][0]
        self.title = header["title"][0]
        self.description = header.get("description", [self.title])[0]
        self._takes = _one_of(path, header, "arguments", ("filter", "text", "none"))
        self._order = _one_of(path, header, "order", ("time", "any"))
        self.parameters = tuple(_parameter(path, text) for text in header.get("parameter", ()))
        self._columns = _columns(path, header["column"])
        self._with = _with(path, header["column"], self._columns, [parameter.name for parameter in self.parameters])
        self._most_in_sets = _most_in_sets(header["column"], self._columns)
        # Those that rest on tshark's notes of segments, which a plan spares it where nobody asks for them. The others
        # do not count: `layer` is the author's word for how far up they look.
        analysis = tuple(name for name in header.get("field", ()) if name.startswith("tcp.analysis"))
        layer = _one_of(path, header, "layer", tuple(reversed(get_args(Layer))))
        split = _one_of(path, header, "split", get_args(Split))
        self.engines = (Tap(path, layer, fields=lambda arguments: analysis, split=split),)
        self._sort = _sort(path, header.get("sort", [""])[0], self._columns)
        try:
            if "section" in header:
                self.section = read_section(header["section"][0], self._columns)
            self.checks = tuple(read_check(text, self._columns) for text in header.get("finding", ()))
        except ValueError as problem:
            raise ValueError(f"{path.name}: {problem}") from None
        self.usage = header.get("usage", [usage_of(self.name, self.parameters, self._takes != "none")])[0]

    def columns(self, arguments: str) -> tuple[Column, ...]:
        rest = self._rest(arguments)
        if rest and self._takes == "none":
            raise self.refuse_arguments(rest)
        if not self._with:
            return self._columns
        values = self.read(arguments)[0]
        given = {name for name, value in values.items() if value is not None}
        return tuple(c for c in self._columns if c.name not in self._with or self._with[c.name] & given)

    def read(self, arguments: str) -> tuple[dict[str, Any], str]:
        return read_arguments(self.name, arguments, self.parameters)

    def filters(self, arguments: str) -> Sequence[str]:
        return super().filters(arguments) if self._takes == "filter" else ()

    def follows_time(self, arguments: str, engine: Engine) -> bool:
        return bool(self._order == "time")

    def _rest(self, arguments: str) -> str:
        return self.read(arguments)[1]

    def align(self, tables: Sequence[Table]) -> Sequence[Sequence[Row]]:
        """Their rows. MergeError where the whole would have been cut by a bound, or intervals do not lie together."""
        aligned = super().align(tables)
        if len(tables) > 1:
            self._check_bounds(tables[0], aligned)
            self._check_intervals(tables[0], aligned)
        return aligned

    def _check_bounds(self, table: Table, parts: Sequence[Sequence[Row]]) -> None:
        keys = [column.name for column in table.keys]
        sets: dict[tuple[Value, ...], dict[str, set[str]]] = {}
        for row in (row for part in parts for row in part):
            found = sets.setdefault(tuple(row[name] for name in keys), {})
            for name in self._most_in_sets:
                found.setdefault(name, set()).update(row[name] or ())  # type: ignore[arg-type]
        most = self.read(_arguments_of(self, table))[0].get("max")
        if most is not None and len(sets) > most:
            raise self.refuse_merge(f"together they have more rows than max={most}: use a larger max=")
        for found in sets.values():
            for name, limit in self._most_in_sets.items():
                if len(found.get(name, ())) > limit:
                    raise self.refuse_merge(f"{name} holds at most {limit:,} values, and together there are more")

    def _check_intervals(self, table: Table, parts: Sequence[Sequence[Row]]) -> None:
        every = self.read(_arguments_of(self, table))[0].get("every")
        for name in (column.name for column in table.keys if column.type == "time" and every):
            offsets = {row[name] % every for part in parts for row in part if row[name] is not None}  # type: ignore[operator]
            if len(offsets) > 1:
                raise self.refuse_merge("the captures' intervals are not aligned: read the captures in one run instead")

    def ranking(self, arguments: str) -> Sequence[str]:
        """The same order, unless a subclass has one of its own."""
        if type(self).order is not TapFile.order or type(self).derive is not Statistic.derive:
            return ()
        columns = self.columns(arguments)
        keys = [column.name for column in columns if column.role == "key"]
        there = {column.name for column in columns}
        order = [f"{name} descending" if descending else name for name, descending in self._sort if name in there]
        return [*order, *keys]

    def order(self, table: Table) -> None:
        """As the header says, and where that leaves rows equal by their keys."""
        keys = [column.name for column in table.keys]
        table.rows.sort(key=lambda row: [_comparable(row, name) for name in keys])
        there = {column.name for column in table.columns}
        for name, descending in reversed([one for one in self._sort if one[0] in there]):
            table.rows.sort(key=lambda row, name=name: _comparable(row, name), reverse=descending)  # type: ignore[misc]


def _arguments_of(statistic: Statistic, table: Table) -> str:
    return table.request.strip()[len(statistic.name) :].lstrip().removeprefix(",")


def _comparable(row: Row, name: str) -> tuple[bool, Value]:
    value = row[name]
    return (value is not None, value)


def read_header(path: Path) -> dict[str, list[str]]:
    """The values of each key. ValueError for a key that is unknown, missing or there twice."""
    found: dict[str, list[str]] = {}
    last: list[str] | None = None
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("--"):
            break
        match, more = _LINE.match(line), _MORE.match(line)
        if not match and more and last:
            last[-1] += f" {more[1]}"
        if not match:
            continue
        key, value = match.groups()
        if key not in ONCE + MANY:
            raise ValueError(f"{path.name}: unknown key {key!r} in the header; known keys: {', '.join(ONCE + MANY)}")
        if key in ONCE and key in found:
            raise ValueError(f"{path.name}: {key!r} occurs twice in the header")
        last = found.setdefault(key, [])
        last.append(value)
    for key in NEEDED:
        if not any(found.get(key, ())):
            raise ValueError(f"{path.name}: the header lacks the required key '{key}' (a line `-- {key}: ...`)")
    return found


def _one_of(path: Path, header: dict[str, list[str]], key: str, allowed: tuple[str, ...]) -> Any:
    value = header.get(key, [allowed[0]])[0]
    if value not in allowed:
        raise ValueError(f"{path.name}: {key} must be {', '.join(allowed[:-1])} or {allowed[-1]}, not {value!r}")
    return value


def _parameter(path: Path, text: str) -> Parameter:
    name, kind, default, description = [*text.split(maxsplit=3), "", "", "", ""][:4]
    choices = tuple(kind.split("|")) if "|" in kind else ()
    if name == "format":
        raise ValueError(
            f"{path.name}: a parameter cannot be named format, since every tap has format=rows in plain tshark"
        )
    try:
        return Parameter(
            name,
            "text" if choices else kind,  # type: ignore[arg-type]
            None if default in ("", "-") else default,
            description,
            choices,
        )
    except ValueError as problem:
        raise ValueError(
            f"{path.name}: invalid parameter {text!r}: {problem}; write NAME TYPE DEFAULT DESCRIPTION, e.g. "
            f"`over duration 100ms what is slow` (types: {', '.join(get_args(ParameterType))}, or choices like a|b; "
            "`-` means no default)"
        ) from None


def _columns(path: Path, texts: Sequence[str]) -> tuple[Column, ...]:
    columns = tuple(_column(path, text) for text in texts)
    measures = {column.name for column in columns if column.role == "measure"}
    for column in columns:
        for name in filter(None, (*column.made_of, column.share)):
            if name not in measures:
                raise ValueError(f"{path.name}: column {column.name}: this tap has no measure {name}")
    return columns


def _column(path: Path, text: str) -> Column:
    said, _, description = (part.strip() for part in text.partition(";"))
    title = _TITLE.search(said)
    said = _TITLE.sub(" ", said)
    name, kind, rule, *unit = [*said.split(), "", ""]
    shown = "hidden" not in unit
    local: Local = "always" if "local" in unit else "dynamic" if "dynamic" in unit else ""
    shares = [word.partition("=")[2] or name for word in unit if word.partition("=")[0] == "share"]
    flags = ("hidden", "local", "dynamic", "share", "with", "")
    unit_text = " ".join(word for word in unit if word.partition("=")[0] not in flags)
    if _UNION.fullmatch(rule):
        rule = "union"
    ratio, size, percentile = _RATIO.fullmatch(rule), _SIZE.fullmatch(rule), _PERCENTILE.fullmatch(rule)
    if kind not in get_args(Type) or not (rule in RULES or ratio or size or percentile):
        raise ValueError(
            f"{path.name}: invalid column {text!r}: write NAME TYPE RULE [UNIT] [hidden] [local] [share] "
            f'[with=PARAMETER] [title="HEADING"] [; DESCRIPTION], e.g. `packets integer sum packets` (types: '
            f"{', '.join(get_args(Type))}; rules: "
            f"{', '.join(RULES)}, or MEASURE/MEASURE, size:SET, union:MOST, or p95:SKETCH/MIN/MAX)"
        )
    role: Any = "derived" if ratio or size or percentile else "key" if rule == "key" else "measure"
    merge: Any = rule if role == "measure" else ""
    quotient: Any = ratio.groups() if ratio else None
    return Column(
        name,
        kind,  # type: ignore[arg-type]
        unit_text,
        role=role,
        merge=merge,
        description=description,
        shown=shown,
        ratio=quotient,
        size_of=size[1] if size else "",
        percentile=(float(percentile[1]), percentile[2], percentile[3], percentile[4]) if percentile else None,
        local=local,
        share="".join(shares[:1]),
        title=(title[1] or title[2]).replace("|", "\n") if title else "",
    )


def _with(
    path: Path, texts: Sequence[str], columns: Sequence[Column], parameters: Sequence[str]
) -> dict[str, frozenset[str]]:
    """The columns that exist only with one of some parameters, and those parameters."""
    found = {}
    for text, column in zip(texts, columns, strict=True):
        said = _WITH.search(text.partition(";")[0])
        names = said[1].split(",") if said else ()
        for name in names:
            if name not in parameters:
                raise ValueError(f"{path.name}: column {column.name}: this tap has no parameter {name}")
        if names:
            found[column.name] = frozenset(names)
    return found


def _most_in_sets(texts: Sequence[str], columns: Sequence[Column]) -> dict[str, int]:
    """How many values the sets have at most that a merged row has all of."""
    return {
        column.name: int(found[1]) if (found := _UNION.search(text.partition(";")[0])) else MOST_IN_A_SET
        for text, column in zip(texts, columns, strict=True)
        if column.merge == "union"
    }


def _sort(path: Path, text: str, columns: Sequence[Column]) -> tuple[tuple[str, bool], ...]:
    known = {column.name for column in columns}
    order = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, direction = part.partition(" ")
        if name not in known or direction not in ("", "ascending", "descending"):
            raise ValueError(f"{path.name}: invalid sort {part!r}: write COLUMN or COLUMN descending")
        order.append((name, direction == "descending"))
    return tuple(order)


class TapPlugin:
    """The plugin that such a file is."""

    def __init__(self, path: Path) -> None:
        self._statistic = TapFile(path)

    @hookimpl
    def register_statistics(self, register: Callable[[Statistic], None]) -> None:
        register(self._statistic)
