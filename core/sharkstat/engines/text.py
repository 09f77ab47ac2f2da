"""tshark's own statistics: how they are requested, and how their text is read.

tshark prints all results to standard output, each in its own layout. Between two requests, the Lua host (host.lua)
prints a mark that no packet can contain, since it is random for each run, so the text of each request is known to
the byte. Its reader parses the text; a text that no reader understands is shown unchanged, line by line.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar

from sharkstat.engines.engine import Engine, Layer, Part, Prints, Question, Result, Task
from sharkstat.errors import RequestError, TextError, TsharkError
from sharkstat.tables.column import Column, Row, Value, check_types
from sharkstat.tshark.filters import both_filters
from sharkstat.tshark.records import Records, split, text_of

if TYPE_CHECKING:
    from sharkstat.tshark.output import Output
    from sharkstat.tshark.printed import Printed

MARK = "sharkstat,mark"  # the name for -z under which host.lua registers the marks

LINES = (
    Column("line", "integer", role="key", description="line number in tshark's text"),
    Column("text", "text", merge="none", description="the line"),
)

# Names from DNS that tshark prints raw under -N, and that no honest host has: with blanks and control characters, which
# the field holds escaped.
HOSTILE_NAMES = (r'(dns.a || dns.aaaa) && dns.resp.name matches "[\\x00-\\x20\\x7f\\\\]"',)


@dataclass(frozen=True)
class Parsed:
    """The content of a tshark text: rows, in the order of `columns` without derived ones.

    Times are nanoseconds since the capture's first packet. Without `columns`, the statistic's columns apply.
    """

    rows: Sequence[Sequence[Value]]
    columns: tuple[Column, ...] = ()
    warnings: tuple[str, ...] = ()


def as_lines(text: bytes) -> Parsed:
    """A text that nothing reads, as it is: a row a line."""
    lines = text_of(text).strip("\n").split("\n")
    return Parsed(list(enumerate(lines, 1)) if any(lines) else [], LINES)


class TsharkText(Engine):
    """An engine that reads one of tshark's own statistics from the text that tshark prints.

    `parse` gets the text and the request's arguments, and raises TextError if the layout is not as expected; the text
    is then shown unparsed. `native` returns the text after tshark's -z for given arguments and the run's display
    filter; by default the name and the arguments, with the display filter at their end if tshark `takes_filter`.

    `prints_at_once` says that tshark prints while it reads packets, `once` that tshark can count it only once per run.
    `resolve` has tshark's name resolution flags (-N) if it shows nothing without names. `doubts` are display filters
    for packets whose content, printed raw, could mislead the reader: if one matches, the text is shown unparsed. A
    filter with a field unknown to this tshark never matches. `layer` is that of a `Tap`. `version` is set to tshark's
    version before `parse` is called.

    engines = (sharkstat.TsharkText(parse_hosts, takes_filter=False, resolve="d"),)

    With `read` in place of `parse`, a text that may be far larger than the capture is read from a binary stream; it is
    never whole in memory, unless it must be shown unparsed.
    """

    name = "tshark"
    own = False

    def __init__(
        self,
        parse: Callable[[bytes, str], Parsed] | None = None,
        native: Callable[[str, str], str] | None = None,
        *,
        read: Callable[[IO[bytes], str], Parsed] | None = None,
        takes_filter: bool = True,
        prints_at_once: bool = False,
        once: bool = False,
        resolve: str = "",
        doubts: Sequence[str] = (),
        layer: Layer = "application",
    ) -> None:
        if (parse is None) == (read is None):
            raise TypeError("TsharkText needs either parse or read")
        self._parse, self._read = parse, read
        self.takes_filter = takes_filter
        self.prints_at_once = prints_at_once
        self.once = once
        self.resolve = resolve
        self.doubts = doubts
        self.layer: Layer = layer
        self.version = ""
        self._native = native

    def parse(self, text: bytes, arguments: str) -> Parsed:
        """What that text says."""
        if self._read is not None:
            return self._read(io.BytesIO(text), arguments)
        assert self._parse is not None
        return self._parse(text, arguments)

    def parsed(self, printed: Printed, parts: Sequence[tuple[int, int]], arguments: str) -> Parsed:
        """What these parts of what tshark printed say, one after the other."""
        if self._read is not None and len(parts) == 1:
            return self._read(printed.stream(*parts[0]), arguments)
        return self.parse(b"".join(printed.whole(*part) for part in parts), arguments)

    def native(self, name: str, arguments: str, display_filter: str) -> str:
        """What follows tshark's -z. RequestError where there is a display filter, and tshark takes none."""
        if display_filter and not self.takes_filter:
            raise RequestError(f"tshark's {name} takes no filter: leave out -Y, or use -2 -R FILTER")
        if self._native is not None:
            return self._native(arguments, display_filter)
        own = both_filters(display_filter, arguments) if self.takes_filter else arguments
        return f"{name},{own}" if own else name

    def ask(self, question: Question) -> TextTask:
        native = self.native(question.name, question.arguments, question.display_filter)
        # Names that the run resolves stand in every text; one that resolves them itself says what is doubtful of them.
        hostile = HOSTILE_NAMES if question.resolve and not self.resolve else ()
        return TextTask(question, self.layer, engine=self, native=native, doubts=(*self.doubts, *hostile))


class TextPart(Part):
    """tshark's own statistics in one pass. The same question twice is asked once: some can run but once."""

    prints: Prints = "text"

    def __init__(self, tasks: Mapping[int, TextTask]) -> None:
        self._tasks = tasks
        self._natives = list(dict.fromkeys(task.native for task in tasks.values()))
        self._nonce = os.urandom(16).hex()
        self._doubts: dict[int, str] = {}
        self._texts: list[tuple[int, int]] = []  # of each statistic: from where to where
        self._at_once = (0, 0)
        asked: dict[str, set[str]] = {}
        for task in tasks.values():
            asked.setdefault(task.question.name, set()).add(task.native)
            if task.engine.once and len(asked[task.question.name]) > 1:
                raise RequestError(f"tshark counts {task.question.name} only once per run: use one run per filter")
        talkers = {task.native: task.question.name for task in tasks.values() if task.engine.prints_at_once}
        if len(talkers) > 1:
            raise RequestError(
                f"{' and '.join(talkers.values())} print while tshark reads packets: use one run for each"
            )

    def options(self) -> Sequence[str]:
        """The statistics, with marks around each."""
        options = ["-z", f"{MARK},0"]
        for number, native in enumerate(self._natives, 1):
            options += ["-z", native, "-z", f"{MARK},{number}"]
        return options

    def job(self, files: Mapping[Path, Path]) -> Iterable[tuple[str, ...]]:
        yield "marks", self._nonce
        yield from (("doubt", str(number), text) for number, task in self._tasks.items() for text in task.doubts)

    def start(self, records: Records, output: Output) -> Mapping[bytes, Callable[[bytes], None]]:
        self._records, self._output = records, output
        return {b"U": self._take_doubt}

    def _take_doubt(self, line: bytes) -> None:
        _, number, packet = split(line)
        self._doubts.setdefault(int(number), packet)

    @property
    def suspects(self) -> Sequence[str]:
        return self._natives

    def finish(self) -> None:
        """Part what tshark printed.

        Results are printed in the reverse order of the requests; mark N stands before request N's end.
        TsharkError if a mark is missing.
        """
        text = self._output.text
        marks = list(text.marks(re.compile(b"\n" + self._nonce.encode() + rb" (\d+)\n")))
        if [int(number) for _, _, number in marks] != list(range(len(self._natives), -1, -1)):
            raise TsharkError("tshark did not print its statistics completely: they are not shown")
        self._at_once = (0, marks[0][0])
        self._texts = [(end, after) for (_, end, _), (after, _, _) in pairwise(marks)][::-1]

    def result(self, number: int, last_words: str, so_far: bool = False) -> Result:
        task = self._tasks[number]
        question, base, doubt = task.question, self._records.base_ns, self._doubts.get(number, "")
        parts = [self._texts[self._natives.index(task.native)]]
        if task.engine.prints_at_once:
            parts.insert(0, self._at_once)
        task.engine.version = self._records.version
        unread = False
        try:
            if doubt:
                raise TextError(f"the content of packet {doubt} could be mistaken for part of it")
            parsed = task.engine.parsed(self._output.text, parts, question.arguments)
            columns = parsed.columns or question.columns
            counted = [column for column in columns if column.role != "derived"]
            for values in parsed.rows:
                check_types(counted, values)
        except (TextError, ValueError, IndexError, KeyError) as problem:
            cause = "cannot be parsed reliably" if doubt else "does not have the expected layout"
            remark = f"{question.text}: tshark's text {cause}, so it is shown unparsed ({problem})"
            text = b"".join(self._output.text.whole(*part) for part in parts)
            parsed, unread = replace(as_lines(text), warnings=(remark,)), True
            columns, counted = parsed.columns, list(parsed.columns)
        empty: Row = dict.fromkeys((c.name for c in columns), None)
        rows = []
        for values in parsed.rows:
            row = dict(empty)
            for column, value in zip(counted, values, strict=True):
                absolute = column.type == "time" and value is not None
                row[column.name] = (None if base is None else base + value) if absolute else value  # type: ignore[operator]
            rows.append(row)
        return Result(columns, rows, parsed.warnings, unread or columns == LINES)


@dataclass(kw_only=True)
class TextTask(Task):
    """A request for one of tshark's own statistics."""

    part: ClassVar[type[Part]] = TextPart

    engine: TsharkText
    native: str
    doubts: Sequence[str]
