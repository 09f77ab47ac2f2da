"""Lua taps: they count inside tshark and send their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from sharkstat.engines.engine import Engine, Layer, Part, Question, Result, Split, Task
from sharkstat.errors import StatisticError, TsharkError
from sharkstat.tables.column import Column, Row, Type, Value, typed
from sharkstat.tshark.records import LIST, Records, split, unescape

if TYPE_CHECKING:
    from sharkstat.tshark.output import Output


class Fold(Protocol):
    """What makes a table's rows of those that a tap counts, whose columns are `columns`."""

    columns: tuple[Column, ...]

    def types(self, types: Sequence[Type]) -> Sequence[Type]: ...
    def rows(self, rows: Iterable[Sequence[Value]], types: Sequence[Type]) -> Iterable[Sequence[Value]]: ...


@runtime_checkable
class FoldOfParts(Fold, Protocol):
    """One whose taps may send what they count in parts."""

    def together(self, rows: Iterable[Sequence[Value]]) -> list[Sequence[Value]]: ...


class Tap(Engine):
    """An engine that counts in Lua, inside tshark.

    `file` is the Lua file, which registers the statistic's name (see docs/taps.md). `layer` tells how far up packets
    must be dissected, which saves time: "transport" if the results do not depend on anything above TCP and UDP, "http"
    if they depend on HTTP but not on its bodies, "messages" if they depend on any protocol but not on pages, scripts
    or images in HTTP bodies. `fields` returns the fields that the tap reads for given arguments, if `layer` alone does
    not tell. `call` returns the name and arguments to start the tap with, by default the statistic's own. `fold` makes
    the rows of those that the tap counts, where they differ. `split` is "hosts" if the rows of two taps add up to those
    of one, by the columns' merge rules, as long as each sees all packets of the hosts that it sees.

    engines = (sharkstat.Tap(Path(__file__).with_name("dns_slow.lua")),)
    """

    name = "lua"
    by_flow = True

    def __init__(
        self,
        file: Path,
        layer: Layer = "application",
        *,
        fields: Callable[[str], Sequence[str]] | None = None,
        call: Callable[[str], tuple[str, str]] | None = None,
        split: Split = "whole",
        fold: Callable[[str], Fold | None] | None = None,
    ) -> None:
        self.file: Path = file
        self.layer: Layer = layer
        self._fields = fields
        self._call = call
        self._fold = fold
        self.split: Split = split

    def ask(self, question: Question) -> TapTask:
        call = self._call(question.arguments) if self._call else (question.name, question.arguments)
        reads = self._fields(question.arguments) if self._fields else ()
        fold = self._fold(question.arguments) if self._fold else None
        if fold:
            question = replace(question, first=None)  # which rows are the first, only all of them tell
        return TapTask(question, self.layer, reads, split=self.split, file=self.file, call=call, fold=fold)


class TapPart(Part):
    """The taps of one pass: each file is loaded once."""

    def __init__(self, tasks: Mapping[int, TapTask]) -> None:
        self._tasks = tasks
        self._by_flow = any(task.question.by_flow for task in tasks.values())  # then all rows have one
        self._columns: dict[int, list[str]] = {}
        self._rows: dict[int, list[bytes]] = {}  # as they came, which takes a tenth of what is made of them
        self._rests: dict[int, bytes] = {}
        self._counted: dict[int, tuple[int, ...]] = {}
        self._capped: set[int] = set()
        self._parts: dict[int, list[Sequence[Value]]] = {}  # rows that were made of others, which are gone

    def files(self) -> Iterable[tuple[int, Path]]:
        return ((number, task.file) for number, task in self._tasks.items())

    def job(self, files: Mapping[Path, Path]) -> Iterable[tuple[str, ...]]:
        yield from (("load", str(files[path])) for path in dict.fromkeys(task.file for task in self._tasks.values()))
        yield from (
            ("top", str(number), *words) for number, task in self._tasks.items() if (words := first_rows(task.question))
        )
        yield from (("run", str(number), *task.call) for number, task in self._tasks.items())

    def start(self, records: Records, output: Output) -> Mapping[bytes, Callable[[bytes], None]]:
        self._records = records
        return {
            b"C": self._take_columns,
            b"R": self._take_row,
            b"Q": self._take_rest,
            b"D": self._take_end,
            b"O": self._take_cap,
            b"J": self._take_part,
        }

    def _take_columns(self, line: bytes) -> None:
        _, number, *words = split(line)
        self._columns[int(number)] = words

    def _take_row(self, line: bytes) -> None:
        self._rows.setdefault(int(line[2 : line.index(b"\t", 2)]), []).append(line)

    def _take_rest(self, line: bytes) -> None:
        self._rests[int(line.split(b"\t", 3)[2])] = line

    def _take_end(self, line: bytes) -> None:
        number, *counts = map(int, split(line)[1:])
        self._counted[number] = tuple(counts)

    def _take_cap(self, line: bytes) -> None:
        self._capped.add(int(split(line)[1]))

    def _take_part(self, line: bytes) -> None:
        """The rows that came are a part of what the group's rows are made of, and are not kept."""
        number, sent = map(int, split(line)[1:])
        fold, raw = self._tasks[number].fold, self._rows.pop(number, [])
        assert isinstance(fold, FoldOfParts) and sent == len(raw)
        said = self._columns.get(number, [])
        columns = typed(fold.columns, [words.rpartition(" ")[2] for words in said])
        rows = fold.rows(self._values(raw, columns, []), [column.type for column in columns])
        self._parts[number] = fold.together(chain(self._parts.get(number, ()), rows))

    def result(self, number: int, last_words: str, so_far: bool = False) -> Result:
        question, fold = self._tasks[number].question, self._tasks[number].fold
        said = self._columns.get(number, [])
        columns = typed(fold.columns if fold else question.columns, [words.rpartition(" ")[2] for words in said])
        raw = self._rows.pop(number, [])
        sent, *of_all = self._counted.pop(number, (None,))
        if sent != len(raw):
            raise TsharkError(
                f"the tap did not finish (tshark said: {last_words}): its results would be incomplete and are not shown"
            )
        counted = [column for column in columns if column.role != "derived"]
        names = [words.rpartition(" ")[0] for words in said]
        declared = [c.name for c in counted]
        if len(names) != len(declared) or any(n in declared and n != d for n, d in zip(names, declared, strict=True)):
            raise StatisticError(f"the tap sends the columns {names} instead of {declared}")
        empty: Row = dict.fromkeys((c.name for c in columns), None)
        flows: list[int | None] = []
        found: Iterable[Sequence[Value]] = self._values(raw, counted, flows)
        if fold:
            types = [column.type for column in counted]
            found = fold.rows(found, types)
            if number in self._parts and isinstance(fold, FoldOfParts):
                found = fold.together(chain(self._parts[number], found))
            columns = typed(question.columns, fold.types(types))
            declared = [column.name for column in columns if column.role != "derived"]
            empty = dict.fromkeys((c.name for c in columns), None)
        rows = [{**empty, **dict(zip(declared, values, strict=True))} for values in found]
        capped = number in self._capped
        self._capped.discard(number)
        result = Result(columns, rows, capped=capped, flows=() if fold else flows)
        if rest := self._rests.pop(number, b""):
            result.left = int(rest.split(b"\t", 2)[1])
            line = b"R\t" + rest.split(b"\t", 2)[2]
            [values] = self._values([line], counted, [])
            result.rest = {**empty, **dict(zip(declared, values, strict=True))}
        if of_all and question.first and question.first.rest:
            result.replaced = of_all[1]
        elif of_all and question.first:
            result.omitted, result.replaced, *totals = of_all
            result.totals = dict(zip((column.name for column in question.first.totals), totals, strict=True))
        return result

    def _values(self, raw: list[bytes], columns: Sequence[Column], flows: list[int | None]) -> Iterator[list[Value]]:
        """The values of each row; `flows` gets the number of its connection. Each line goes as its row comes."""
        readers = [reader(column, self._records.base_ns) for column in columns]
        raw.reverse()
        while raw:
            _, _, *words = split(raw.pop())
            if self._by_flow:
                number_of_flow = words.pop()
                flows.append(None if number_of_flow == "\\N" else int(number_of_flow))
            values: list[Value] = []
            for column, read, word in zip(columns, readers, words, strict=True):
                try:
                    values.append(None if word == "\\N" else read(word))
                except ValueError:
                    raise StatisticError(
                        f"the tap gives {word!r:.40} in the column {column.name}, whose type is {column.type}"
                    ) from None
            yield values


@dataclass(kw_only=True)
class TapTask(Task):
    """A request for a tap: its file, and the call that counts it."""

    part: ClassVar[type[Part]] = TapPart

    file: Path
    call: tuple[str, str]
    fold: Fold | None = None

    @property
    def speakers(self) -> tuple[str, ...]:
        return (self.question.name, f"{self.call[0]}:")


def first_rows(question: Question) -> list[str]:
    """The words that ask for the first rows alone (first_rows.lua); none where all are to be sent."""
    first = question.first
    if first is None:
        return []
    places = {column.name: number for number, column in enumerate(question.counted, 1)}
    ranks = []
    for rank in first.ranks:
        asked = _expression(rank.column, places)
        if not asked:
            break
        none = "zero" if rank.none_is_zero else "least"
        ranks.append(f"rank:{'down' if rank.descending else 'up'}:{none}:{asked}")
    totals = [_expression(column, places) for column in first.totals]
    if not ranks or not all(totals):
        return []
    if first.rest:
        totals = []
    rules = [
        f"merge:{places[column.name]}:{column.merge}"
        for column in question.counted
        if first.rest and column.role == "measure"
    ]
    keys = [f"key:{places[column.name]}:{column.type}" for column in question.columns if column.role == "key"]
    when = "rest" if first.rest else "always" if first.final else "snapshots"
    return [str(first.count), when, *ranks, *(f"total:{total}" for total in totals), *keys, *rules]


def _expression(column: Column, places: Mapping[str, int]) -> str:
    """The value of a column as first_rows.lua computes it; nothing where only Python does."""
    if column.name in places:
        return f"value:{places[column.name]}"
    if not all(name in places for name in column.made_of):
        return ""
    if column.size_of:
        return f"size:{places[column.size_of]}"
    if column.sum_of:
        return f"sum:{','.join(str(places[name]) for name in column.sum_of)}"
    if column.ratio:
        factor = 100 if column.unit == "percent" else 10**9 if column.unit.endswith("per second") else 1
        whole = column.type in ("duration", "integer")
        return f"ratio:{'whole' if whole else factor}:{','.join(str(places[name]) for name in column.ratio)}"
    return ""


def reader(column: Column, base: int | None) -> Callable[[str], Value]:
    """What makes a value of a record's word; `base` is the time of the capture's first packet."""
    if column.type in ("integer", "duration"):
        return int
    if column.type == "number":
        return lambda text: float(text) if set(text) & set(".en") else int(text)
    if column.type == "boolean":
        return lambda text: text in ("1", "true")
    if column.type == "time":
        # "@" stands before what is since 1970; the rest is since the capture's first packet.
        return lambda text: int(text[1:]) if text[0] == "@" else None if base is None else base + int(text)
    if column.type == "path":
        return lambda text: tuple(unescape(level) for level in text.split(LIST))
    if column.type == "set":
        return lambda text: tuple(sorted({unescape(value) for value in text.split(LIST)})) if text else ()
    return unescape
