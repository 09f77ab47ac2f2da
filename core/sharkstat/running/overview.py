"""The overview: a capture at a glance, from all statistics that have a section, in one pass."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from sharkstat.errors import StatisticError
from sharkstat.running.one_pass import Progress
from sharkstat.running.plan import make_plan
from sharkstat.running.runner import run_plan
from sharkstat.running.source import Options, Source
from sharkstat.running.watching import Watch
from sharkstat.statistics.registry import Registry
from sharkstat.statistics.section import HealthFinding, Section, part_of, percent
from sharkstat.statistics.statistic import Statistic
from sharkstat.tables.column import Column, Reading, Row
from sharkstat.tables.figures import clock, humanised_bytes, humanised_duration, humanised_rate, seconds
from sharkstat.tables.ink import Ink
from sharkstat.tables.page import Block, Plot, columns_of_graph, lines, plot, round_length
from sharkstat.tables.table import Table
from sharkstat.tables.texts import safe, shortened
from sharkstat.tshark.process import find_tshark
from sharkstat.tshark.records import described

if TYPE_CHECKING:
    from typing_extensions import Unpack

_T = TypeVar("_T")

_MARKS = {"bad": "!!", "warning": "! ", "note": "- "}
_PARTS_OF_THE_SPAN = 60  # the peak is the one with the most bytes
_FEWEST_ROWS = 2
_MOST_FINDINGS = 8
_PAGE = 120  # columns of a page that is no terminal's


@dataclass(frozen=True)
class Part:
    """One statistic of the overview, with its section and its table; `over_time` has its rows by interval, if asked."""

    statistic: Statistic
    section: Section
    table: Table
    over_time: Table | None = None


@dataclass
class Overview:
    """An overview of a capture.

    `capture` has one row with facts about the capture, `findings` one row per problem, the worst first. `parts` are the
    statistics in order; `failures` are the errors of statistics that failed.

    >>> import sharkstat
    >>> found = sharkstat.overview("tests/data/story-after.pcapng")
    >>> found.capture["packets"], found["services"]["server_name"][0]
    ([243], 'store.example.net')
    """

    capture: Table
    parts: list[Part]
    findings: Table
    source: Source = field(repr=False)
    facts: list[str] = field(default_factory=list, repr=False)
    failures: list[StatisticError] = field(default_factory=list, repr=False)

    @property
    def tables(self) -> list[Table]:
        """All tables: the capture, every part, and the findings."""
        return [self.capture, *(part.table for part in self.parts), self.findings]

    def __getitem__(self, name: str) -> Table:
        """The table of this name. Raises KeyError if there is none."""
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(f"the overview has no {name!r}; it has {', '.join(t.name for t in self.tables)}")

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        reading = self.capture.reading
        return (
            f"<Overview of {', '.join(reading.sources)}: {len(self.parts)} tables, {len(self.findings.rows)} findings>"
        )

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.tables if table.rows)

    def text(self, width: int = 80, height: int | None = None, colours: bool = False) -> str:
        """The page for a terminal of this width. With a `height`, it shows fewer rows so that the page fits."""
        ink = Ink(colours)
        blocks = [
            Block(
                part.section.title or part.table.title,
                part.table,
                part.section.columns,
                part.section.rows,
                part.section.bar,
                self.command([part.table.request], width - 2),
            )
            for part in self.parts
            if part.section.rows and part.table.rows
        ]
        rows = [min(block.rows, len(block.table.rows)) for block in blocks]
        while True:
            page = [*self._head(width, ink.bold)]
            for block, count in zip(blocks, rows, strict=True):
                page += ["", *lines(block, width, count, ink.bold)]
            page += ["", *self._health(width, ink)]
            largest = max(range(len(rows)), key=lambda at: 0 if blocks[at].over_time else rows[at], default=None)
            if height is None or len(page) < height or largest is None or rows[largest] <= _FEWEST_ROWS:
                return "\n".join(page)
            if blocks[largest].over_time:
                return "\n".join(page)
            rows[largest] -= 1

    def command(self, requests: Sequence[str], width: int = 10_000) -> str:
        """The command that shows the complete tables."""
        source = self.source
        words = [f"-i {shlex.quote(name)}" for name in source.interfaces] + [shlex.quote(name) for name in source.files]
        given = [f"-Y {shlex.quote(source.display_filter)}"] if source.display_filter else []
        told = [p.table.request for p in self.parts if any(c.name == "program" for c in p.table.columns)]
        given += ["--process"] if set(told) & set(requests) else []
        asked = [f"-z {shlex.quote(text)}" for text in requests]
        whole = " ".join(["sharkstat run", *words, *given, *asked])
        if len(whole) > width:
            whole = " ".join(["sharkstat run", "FILE..." if source.files else "-i ...", *given[:0], *asked])
        return safe(whole)

    def head(self) -> list[str]:
        """The facts of the capture, in lines."""
        return [line.strip() for line in list(self._head(_PAGE, str))[1:]]

    def _head(self, width: int, bold: Callable[[str], str]) -> Iterator[str]:
        [row] = self.capture.rows
        names = ", ".join(self.capture.reading.sources)
        if not row["packets"]:
            yield f"{safe(names)}: no packets"
            return
        yield bold(shortened(safe(names), width))
        yield f"  {_span(self.capture.reading)}"
        rates = ""
        if isinstance(row["mean_rate"], float):
            rates = f": {humanised_rate(row['mean_rate'])} on average"
            if peak := _peak(self.parts, columns_of_graph(width)):
                rates += f", {humanised_rate(peak.peak)} at most (for {round_length(peak.length)})"
        packets = f"{row['packets']:,} packet{'' if row['packets'] == 1 else 's'}"
        yield f"  {packets}, {humanised_bytes(_int(row['bytes']))}{rates}"
        odd = [*self.facts, *_state(self.capture)]
        if odd:
            yield f"  {shortened('; '.join(map(safe, odd)), width - 2)}"

    def _health(self, width: int, ink: Ink) -> Iterator[str]:
        if not self.findings.rows:
            nothing = "no problems found" if self.capture.reading.packets else "unknown, since no packets were read"
            yield f"{ink.bold('Health')}: {nothing}"
            return
        yield ink.bold("Health")
        shown = self.findings.rows[:_MOST_FINDINGS]
        for row in shown:
            mark = _MARKS[severity := str(row["severity"])]
            first, *more = _wrapped(f"{mark} {safe(str(row['finding']))}", width)
            yield from (ink.mark(severity, mark) + first.removeprefix(mark), *more)
        requests = list(dict.fromkeys(str(row["request"]) for row in self.findings.rows if row["request"]))
        if requests:
            hidden = len(self.findings.rows) - len(shown)
            command = self.command(requests, width - 14)
            yield from _continued(f"{f'{hidden:,} more: ' if hidden else ''}{command}", width - 2)


def overview(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Source,
    *,
    registry: Registry | None = None,
    progress: Progress | None = None,
    jobs: int | None = None,
    capturing: Callable[[float], None] | None = None,
    watch: Watch | None = None,
    over_time: bool = False,
    **options: Unpack[Options],
) -> Overview:
    """Read a capture once and return its overview.

    `source`, `options`, `progress` and `jobs` are as for `sharkstat.run`. `capturing` is called once the interfaces of
    a live source are open, with the time (seconds since 1970); `watch` gets snapshots. With `over_time`, a page that
    `sharkstat.report` makes of it also shows the bytes of each service over time. The statistics are those of the
    registry that have a `Section`. Raises a SharkstatError whose message says what is wrong; a statistic that failed is
    among the overview's `failures`, if any other did not.

    >>> import sharkstat
    >>> sharkstat.overview("tests/data/story-before.pcapng").findings["finding"][1]
    '2 of 22 HTTP responses have a status of 4xx (9.1 %), all for store.example.net/backup/lock'
    """
    source = Source.of(source, options)
    registry = registry or Registry.default()
    requests = asked(source, registry)
    texts = [text for text, _, _ in requests]
    texts += [text for _, statistic, section in requests if over_time and (text := _over_time(statistic, section))]
    plan = make_plan(source, texts, "", registry)
    failures = []
    try:
        tables = run_plan(plan, find_tshark(), progress, jobs=plan.source.jobs(jobs), capturing=capturing, watch=watch)
    except StatisticError as problem:
        if not problem.tables:
            raise
        tables, failures = problem.tables, [problem]
    return made(source, requests, tables, failures)


def asked(source: Source, registry: Registry) -> list[tuple[str, Statistic, Section]]:
    """What an overview asks, in its order: each request, its statistic, and that one's section."""
    chosen = [
        (statistic, section)
        for statistic in registry.statistics.values()
        if (section := statistic.section) and (source.process or statistic.by_connection != "only")
    ]
    chosen.sort(key=lambda one: (one[1].position, one[0].name))
    return [(",".join(filter(None, (some.name, section.arguments))), some, section) for some, section in chosen]


def _over_time(statistic: Statistic, section: Section) -> str:
    """The request for the same by interval; none where there is none."""
    return f"{statistic.name},{section.over_time}" if section.over_time else ""


def _each(given: Iterable[_T], kind: type[_T], what: str) -> list[_T]:
    """What a plugin gave, all of this kind; TypeError otherwise."""
    some = list(given)
    for one in some:
        if not isinstance(one, kind):
            raise TypeError(f"{what} gave {one!r:.40}, which is no {kind.__name__}")
    return some


def made(
    source: Source,
    requests: Sequence[tuple[str, Statistic, Section]],
    tables: Sequence[Table],
    failures: list[StatisticError],
) -> Overview:
    """The overview of the tables that the requests gave; of those that failed there is none."""
    by_request = {table.request: table for table in tables}
    parts = [
        Part(
            statistic,
            _with_process(section, by_request[text]),
            by_request[text],
            by_request.get(_over_time(statistic, section)),
        )
        for text, statistic, section in requests
        if text in by_request
    ]
    some = parts[0].table
    found: list[tuple[HealthFinding, str, str]] = [(finding, "", "") for finding in _of_reading(some.reading)]
    facts: list[str] = []
    for part in parts:
        try:
            those = _each(part.statistic.findings(part.table), HealthFinding, "findings")
            words = _each(part.statistic.facts(part.table), str, "facts")
            found += [(finding, part.table.name, part.table.request) for finding in those]
            facts += words
        except Exception as problem:  # a plugin may raise anything: the others continue
            failures.append(StatisticError(f"{part.table.request}: its findings failed: {described(problem)}"))
    found.sort(key=lambda one: one[0].rank)
    rows: list[Row] = [
        {
            "severity": finding.severity,
            "finding": finding.sentence,
            "figure": finding.figure,
            "base": finding.base,
            "share": None if finding.share is None else 100 * finding.share,
            "unit": finding.unit or None,
            "statistic": name or None,
            "request": request or None,
        }
        for finding, name, request in found
    ]
    findings = _table(some, "findings", "Health", FINDINGS, rows)
    capture = _capture(some, facts, _peak(parts, _PARTS_OF_THE_SPAN))
    return Overview(capture, parts, findings, source, facts, failures)


def _with_process(section: Section, table: Table) -> Section:
    """The section with the program behind its first column, where the table has it."""
    if all(column.name != "program" for column in table.columns):
        return section
    from sharkstat.running.owners import COLUMNS as OWNERS

    keys = section.columns[:1] if len(table.keys) > len(OWNERS) else ()
    own = ("program",) if keys else ("program", "pid", "user", "unit")
    return replace(section, columns=(*keys, *own, *section.columns[len(keys) :]))


def _peak(parts: Sequence[Part], most: int) -> Plot | None:
    """The bytes over time in at most this many parts, if any statistic has them."""
    timed = (p for p in parts if p.section.bar == "bytes" and Block("", p.table, bar="bytes").over_time)
    return next((plot(part.table, "bytes", most) for part in timed), None)


FINDINGS = (
    Column("severity", "text", role="key", description="bad, warning or note"),
    Column("finding", "text", role="key", description="the problem, as a sentence"),
    Column("figure", "number", merge="none", description="how many or how much; times in nanoseconds"),
    Column("base", "number", merge="none", description="out of how many"),
    Column("share", "number", "percent", merge="none"),
    Column("unit", "text", merge="none", description="unit of the figure: bytes or seconds; none for counts"),
    Column("statistic", "text", merge="none", description="the statistic that found it; none if the run did"),
    Column("request", "text", merge="none", description="the request that shows more"),
)
CAPTURE = (
    Column("sources", "set", merge="union"),
    Column("start", "time", merge="min"),
    Column("end", "time", merge="max"),
    Column("duration", "duration", "seconds", merge="none"),
    Column("packets", "integer", "packets"),
    Column("bytes", "integer", "bytes"),
    Column("mean_rate", "number", "bytes per second", merge="none"),
    Column("peak_rate", "number", "bytes per second", merge="none"),
    Column(
        "peak_length",
        "duration",
        "seconds",
        merge="none",
        description="the interval over which the peak rate is averaged",
    ),
    Column("captured", "integer", "packets", description="by dumpcap (live capture)"),
    Column("dropped", "integer", "packets", description="by dumpcap (live capture)"),
    Column("cut", "integer", "packets", description="truncated by the snapshot length"),
    Column("out_of_order", "integer", "packets"),
    Column("late_by", "duration", "seconds", merge="max", description="largest delay of an out-of-order packet"),
    Column("facts", "set", merge="union", description="facts found by statistics, e.g. link types"),
    Column("complete", "boolean", merge="none"),
)


def _table(some: Table, name: str, title: str, columns: tuple[Column, ...], rows: list[Row]) -> Table:
    return Table(name, title, name, columns, rows, tshark=some.tshark, complete=some.complete, reading=some.reading)


def _capture(some: Table, facts: Sequence[str], peak: Plot | None) -> Table:
    reading = some.reading
    duration = None if reading.first is None or reading.last is None else reading.last - reading.first
    row: Row = {
        "sources": tuple(sorted(set(reading.sources))),
        "start": reading.first,
        "end": reading.last,
        "duration": duration,
        "packets": reading.packets,
        "bytes": reading.bytes,
        "mean_rate": reading.bytes * 1e9 / duration if duration else None,
        "peak_rate": peak.peak if peak and duration else None,
        "peak_length": peak.length if peak and duration else None,
        "captured": reading.captured,
        "dropped": reading.dropped,
        "cut": reading.cut,
        "out_of_order": reading.out_of_order,
        "late_by": reading.late_by,
        "facts": tuple(sorted(set(facts))),
        "complete": some.complete,
    }
    return _table(some, "capture", "Capture", CAPTURE, [row])


def _of_reading(reading: Reading) -> Iterator[HealthFinding]:
    """Problems of the packets themselves."""
    if reading.dropped:
        yield from part_of(
            reading.dropped, reading.dropped + (reading.captured or reading.packets), "packets dropped while capturing"
        )
    late = f", by up to {humanised_duration(reading.late_by)}: results that depend on packet order may be wrong"
    yield from part_of(reading.out_of_order, reading.packets, "packets out of time order", late)
    copies, forwarded = reading.duplicates or 0, reading.forwarded or 0
    if not reading.dedup:
        read = max(reading.packets, copies + forwarded)
        yield from part_of(
            copies, read, "packets captured more than once, or sent twice", ": --dedup ignores the copies"
        )
        yield from part_of(forwarded, read, "packets captured on both sides of a router: --dedup ignores the copies")
    yield from part_of(reading.timeless, reading.packets, "packets without a timestamp")
    yield from part_of(reading.cut, reading.packets, "packets truncated by the snapshot length", warning=0.0, bad=2.0)


def _span(reading: Reading) -> str:
    """
    >>> _span(Reading(first=1_700_000_000_000_000_000, last=1_700_000_009_000_000_000))
    '9.00 s, from 2023-11-14 22:13:20 to 22:13:29 UTC'
    """
    first, last = reading.first or 0, reading.last or 0
    start, end = clock(first), clock(last)
    if start is None or end is None:
        return f"{humanised_duration(last - first)}, from {seconds(first)} s after 1970"
    if start[:10] == end[:10]:
        end = end[11:]
    said = f"from {start} to {end} UTC" if start[-8:] != end[-8:] else f"at {start} UTC"
    return f"{humanised_duration(last - first)}, {said}"


def _state(capture: Table) -> Iterator[str]:
    reading = capture.reading
    if not capture.complete:
        yield "INCOMPLETE"
    if reading.display_filter:
        yield f"only packets matching {reading.display_filter!r}"
    if reading.dropped == 0:
        yield "none dropped"
    for count, text in (
        (reading.dropped, "dropped"),
        (reading.cut, "truncated"),
        (reading.out_of_order, "out of order"),
    ):
        if count:
            yield f"{count:,} {text} ({percent(count / reading.packets)})"


def _wrapped(text: str, width: int) -> Iterator[str]:
    """A finding as one line, or as several with the rest indented."""
    while len(text) > width:
        at = text.rfind(" ", 8, width)
        if at < 0:
            break
        yield text[:at]
        text = "   " + text[at + 1 :]
    yield shortened(text, width)


def _continued(command: str, width: int) -> Iterator[str]:
    """A command as one line, or as several joined by backslashes."""
    while len(command) > width and (at := command.rfind(" -z ", 0, width - 1)) > 0:
        yield f"  {command[:at]} \\"
        command = f"  {command[at + 1 :]}"
    yield f"  {command}"


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0
