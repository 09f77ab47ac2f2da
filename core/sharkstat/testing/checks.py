"""For the tests of a statistic: run it on a capture, and check what holds for every good statistic.

The fixtures of the pytest plugin (sharkstat.testing.pytest_plugin) are these functions, with the installed plugins as
their `registry`. Each also works without pytest. See docs/testing.md.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Collection, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Protocol

from sharkstat.errors import MergeError, RequestError, SharkstatError, StatisticError, TextError
from sharkstat.running.plan import Plan, make_plan
from sharkstat.running.runner import run as _run
from sharkstat.running.runner import run_plan
from sharkstat.running.source import Source
from sharkstat.statistics.registry import Registry
from sharkstat.tables.column import Row, Value, check_types
from sharkstat.tables.table import Table
from sharkstat.testing.cutting import Records
from sharkstat.testing.cutting import mutants as _mutants
from sharkstat.tshark.process import find_tshark

StrPath = str | os.PathLike[str]
CAPTURES = Path(str(files("sharkstat"))) / "captures"
SHOWN = 5  # differences that a failure tells


class Capture(Protocol):
    """The type of the fixture `sharkstat_capture`."""

    def __call__(self, name: str) -> Path: ...


class Mutants(Protocol):
    """The type of the fixture `sharkstat_mutants`."""

    def __call__(self, capture: StrPath, seeds: Sequence[int] = ...) -> Iterator[Path]: ...


class Run(Protocol):
    """The type of the fixture `sharkstat_run`."""

    def __call__(self, capture: StrPath, request: str, *, engine: str = "", **options: Any) -> Table: ...


class Check(Protocol):
    """The type of the fixtures `assert_engines_agree`, `assert_balanced`, `assert_merges` and `assert_survives`."""

    def __call__(self, capture: StrPath, request: str, **options: Any) -> None: ...


def capture(name: str) -> Path:
    """A small capture of real traffic that comes with sharkstat: "dns", "http" or "tls". ValueError for other names.

    >>> capture("dns").name
    'dns.pcapng'
    """
    path = CAPTURES / f"{name}.pcapng"
    if not path.is_file():
        known = ", ".join(sorted(path.stem for path in CAPTURES.glob("*.pcapng")))
        raise ValueError(f"sharkstat has no capture {name!r}: choose one of {known}, or use your own file")
    return path


def mutants(capture: StrPath, folder: StrPath, seeds: Sequence[int] = (0, 1)) -> Iterator[Path]:
    """Write damaged copies of a capture into a folder, and yield their paths one by one.

    They are: one without packets, one that is cut short within a packet, one with every packet twice, and for each
    seed one with flipped bits, one with truncated packets, and one in random order. Equal seeds give equal files.
    Raises SourceError if the capture cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.stem for path in mutants(capture("dns"), folder, seeds=[7])]
    ['dns-empty', 'dns-cut-short', 'dns-doubled', 'dns-flipped-7', 'dns-snapped-7', 'dns-shuffled-7']
    """
    return _mutants(Path(capture), Path(folder), seeds)


def run(capture: StrPath, request: str, *, engine: str = "", registry: Registry | None = None, **options: Any) -> Table:
    """Run one statistic on a capture and return its table. `options` are those of sharkstat.run.

    Raises the errors of sharkstat.run, and AssertionError if a value does not match its column's type.

    >>> run(capture("dns"), "conv,udp").total("packets")
    50
    """
    (table,) = _run(capture, request, engine=engine, registry=registry or Registry.default(), **options)
    return _checked(table)


def _checked(table: Table) -> Table:
    """The table, if its values are what its columns say."""
    for row in table:
        try:
            check_types(table.columns, [row[column.name] for column in table.columns])
        except TextError as problem:
            raise AssertionError(f"{table.request}: the row {_shown(row)}: {problem}") from None
    return table


def _on_each(
    capture: StrPath, request: str, engines: Sequence[str], registry: Registry, options: dict[str, Any]
) -> list[Table]:
    """A table for each engine, all from one run: starting tshark takes longer than reading a small capture."""
    source = Source(files=(os.fspath(capture),), **options)
    plans = [make_plan(source, [request], engine, registry) for engine in engines]
    plan = Plan(plans[0].source, [request for plan in plans for request in plan.requests])
    return [_checked(table) for table in run_plan(plan, find_tshark())]


def assert_engines_agree(
    capture: StrPath,
    request: str,
    *,
    engines: Sequence[str] = (),
    registry: Registry | None = None,
    **options: Any,
) -> None:
    """Check that a statistic gives the same table on each engine; by default on all except tshark's text.

    Raises AssertionError with the first differences, and RequestError if it does not have these engines.

    >>> assert_engines_agree(capture("http"), "conv,tcp")
    """
    __tracebackhide__ = True
    registry = registry or Registry.default()
    engines = engines or _own_engines(request, registry)
    if len(engines) < 2:
        raise RequestError(f"{request} runs only on {' and '.join(engines) or 'tshark'}: nothing to compare")
    first, *others = _on_each(capture, request, engines, registry, options)
    for engine, other in zip(engines[1:], others, strict=True):
        _assert_equal(first, other, f"{request} on {engine}", f"on {engines[0]}")


def _own_engines(request: str, registry: Registry) -> list[str]:
    """The engines of a statistic but tshark's own."""
    return [engine.name for engine in registry.find(request)[0].engines if engine.own]


def assert_balanced(
    capture: StrPath,
    request: str,
    *,
    packets: str = "packets",
    bytes: str = "bytes",
    registry: Registry | None = None,
    **options: Any,
) -> None:
    """Check that the rows add up to the packets and bytes of the capture, so that each packet counts once.

    `packets` and `bytes` name the columns; "" skips one. Give a `display_filter` if the statistic counts only some of
    the packets. In a tree, the top-level rows must add up. Raises AssertionError with both numbers.

    >>> assert_balanced(capture("http"), "conv,eth")
    >>> assert_balanced(capture("http"), "endpoints,ip", display_filter="ip", packets="tx_packets", bytes="tx_bytes")
    """
    __tracebackhide__ = True
    table = run(capture, request, registry=registry, **options)
    paths = [column.name for column in table.keys if column.type == "path"]
    top = table.with_rows([row for row in table if all(len(_levels(row[name])) < 2 for name in paths)])
    for name, read in ((packets, table.reading.packets), (bytes, table.reading.bytes)):
        counted = top.total(name) if name else read
        if counted != read:
            raise AssertionError(f"{request}: {name} adds up to {counted:,}, but {read:,} were read")


def assert_merges(
    capture: StrPath,
    request: str,
    *,
    by: Literal["packets", "pair"] = "packets",
    parts: int = 3,
    without: Collection[str] = (),
    registry: Registry | None = None,
    **options: Any,
) -> None:
    """Check that the tables of a capture's parts, merged in any order, equal the table of the whole.

    `by="packets"` splits the capture in time order into parts with equal numbers of packets; `by="pair"` splits it by
    pairs of hosts, so that no conversation is split. Columns that a merge does not keep (`merge="none"`), and those in
    `without`, are not compared. Raises AssertionError with the first differences, or the reason why merging failed.

    >>> assert_merges(capture("http"), "conv,ip")
    >>> assert_merges(capture("http"), "conv,tcp", by="pair", without=["stream"])
    """
    __tracebackhide__ = True
    registry = registry or Registry.default()
    whole = run(capture, request, registry=registry, **options)
    with tempfile.TemporaryDirectory(prefix="sharkstat-test-") as folder:
        tables = [run(path, request, registry=registry, **options) for path in _parts(Path(capture), by, parts, folder)]
    lost = {*without, *(column.name for column in whole.columns if column.merge == "none")}
    for order in (tables, tables[::-1]):
        try:
            merged = Table.merge(order)
        except MergeError as problem:
            hint = ' (by="pair" splits no conversation)' if by == "packets" else ""
            raise AssertionError(f"{request}: {problem}{hint}") from None
        _assert_equal(whole, merged, f"{request} merged of {len(tables)} parts", "in the whole", lost)


def assert_survives(
    capture: StrPath,
    request: str,
    *,
    seeds: Sequence[int] = (0, 1),
    registry: Registry | None = None,
    **options: Any,
) -> None:
    """Check that a statistic gives a table for each of the `mutants`, on each of its engines except tshark's text.

    Raises AssertionError with the mutant, which is kept, and the packet at which it failed; try `sharkstat run` on it.

    >>> assert_survives(capture("dns"), "conv,udp", seeds=[1])
    """
    __tracebackhide__ = True
    registry = registry or Registry.default()
    engines = _own_engines(request, registry)
    if not engines:
        raise RequestError(f"{request} runs only on tshark's text: nothing to check")
    folder = Path(tempfile.mkdtemp(prefix="sharkstat-test-"))
    for path in mutants(capture, folder, seeds):
        try:
            _on_each(path, request, engines, registry, options)
        except RequestError:
            path.unlink()
            folder.rmdir()
            raise
        except (SharkstatError, AssertionError) as problem:
            engine = _failing(path, request, engines, registry, options)
            trace = f"\n{problem.traceback}" if isinstance(problem, StatisticError) else ""
            raise AssertionError(f"{request} on {engine}, of {path}: {problem}{trace}") from None
        path.unlink()
    folder.rmdir()


def _failing(path: Path, request: str, engines: Sequence[str], registry: Registry, options: dict[str, Any]) -> str:
    """The first engine that fails by itself; all of them, where that is none."""
    for engine in engines:
        try:
            run(path, request, engine=engine, registry=registry, **options)
        except (SharkstatError, AssertionError):
            return engine
    return " and ".join(engines)


def _parts(path: Path, by: str, count: int, folder: str) -> list[Path]:
    whole = Records.of(path)
    if by == "packets":
        shares = whole.in_parts(count)
    elif by == "pair":
        shares = whole.shared_out(_pairs(path), count)
    else:
        raise ValueError(f"by={by!r}: choose packets or pair")
    paths = []
    for number, share in enumerate(shares):
        paths.append(Path(folder) / f"{number}.pcap")
        paths[-1].write_bytes(share.written())
    return paths


def _pairs(path: Path) -> list[frozenset[Value]]:
    """The two hosts of every packet."""
    ends = [f"by=ip.{end}/ipv6.{end}/eth.{end}" for end in ("src", "dst")]
    table = run(path, ",".join(["group", "by=frame.number", *ends]), registry=Registry.default(only_built_in=True))
    number, source, destination = (column.name for column in table.keys)
    return [frozenset((row[source], row[destination])) for row in sorted(table, key=lambda row: int(str(row[number])))]


def _levels(path: Value) -> Sequence[str]:
    return path if isinstance(path, tuple) else ()


def _assert_equal(wanted: Table, found: Table, what: str, where: str, without: Collection[str] = ()) -> None:
    __tracebackhide__ = True
    if wanted.columns != found.columns:
        raise AssertionError(
            f"{what}: the columns differ: {', '.join(_described(found))}; {where}: {', '.join(_described(wanted))}"
        )
    kept = [column.name for column in wanted.columns if column.name not in without]
    differences = list(_differences(wanted, found, kept, where))
    if differences:
        more = f"\n  … and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
        raise AssertionError(f"{what}:" + "".join(f"\n  {text}" for text in differences[:SHOWN]) + more)


def _described(table: Table) -> list[str]:
    return [f"{column.name} {column.type} {column.role} {column.merge}".strip() for column in table.columns]


def _differences(wanted: Table, found: Table, names: Sequence[str], where: str) -> Iterator[str]:
    """In what the rows differ, whatever their order; keys may repeat."""
    keys = [column.name for column in wanted.keys if column.name in names]
    others = [name for name in names if name not in keys]
    left = _by_key(found, keys, others)
    for key, rows in _by_key(wanted, keys, others).items():
        matching = left.pop(key, [])
        if len(matching) != len(rows):
            yield f"the row {_named(keys, key)} occurs {len(matching)} times, {where} {len(rows)} times"
            continue
        for one, other in zip(rows, matching, strict=True):
            for name in others:
                if not _same(one[name], other[name]):
                    yield f"the row {_named(keys, key)}: {name} is {other[name]!r}, {where} {one[name]!r}"
    for key in left:
        yield f"the row {_named(keys, key)} is missing {where}"


def _by_key(table: Table, keys: Sequence[str], others: Sequence[str]) -> dict[tuple[Value, ...], list[Row]]:
    found: dict[tuple[Value, ...], list[Row]] = {}
    for row in sorted(table, key=lambda row: repr([row[name] for name in others])):
        found.setdefault(tuple(row[name] for name in keys), []).append(row)
    return found


def _same(one: Value, other: Value) -> bool:
    if isinstance(one, float) and isinstance(other, (int, float)):  # a sum of floats depends on the order
        return math.isclose(one, other, rel_tol=1e-9)
    return one == other


def _named(keys: Sequence[str], values: Sequence[Value]) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in zip(keys, values, strict=True)) or "without keys"


def _shown(row: Row) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in row.items())
