"""What changed between two captures: tables, findings, and how they are shown."""

from __future__ import annotations

import html as html_escapes
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from sharkstat.tables import figures, texts, view
from sharkstat.tables.causes import Cause, Explanation, Kind
from sharkstat.tables.cells import MEASURES, By, Sum
from sharkstat.tables.column import Column, Reading, Row, Value
from sharkstat.tables.ink import Ink
from sharkstat.tables.table import Table
from sharkstat.tables.wording import (
    Scale,
    cause_text,
    chain,
    first_line,
    label,
    one_bytes,
    parts_of,
    percent,
    sentence,
    signed,
)

# Spans that differ less compare as totals; beyond the others a comparison is doubtful.
ALIKE, UNLIKE, SHORT = 0.05, 10, 10**9
_NARROWEST = 30
_NOTEBOOK = 110  # columns of a comparison in a notebook


@dataclass(frozen=True)
class Side:
    """One of the two: what was read, from when on, and for how long (nanoseconds)."""

    sources: tuple[str, ...]
    start: int | None
    span: int
    complete: bool = True

    def __str__(self) -> str:
        since = "" if self.start is None else f" from {figures.clock(self.start) or figures.seconds(self.start)} UTC"
        whole = "" if self.complete else ", INCOMPLETE"
        return texts.safe(f"{', '.join(self.sources)}: {figures.humanised_duration(self.span)}{since}{whole}")


@dataclass(frozen=True)
class Finding:
    """A cause of the change, in a sentence and in figures.

    `path` leads from the service down to what the change comes to. `before`, `after` and `change` are of the measure
    `by`: rates a second, or totals. `share` is its part of all that went up and down, from 0 to 1. `unit` is what there
    are more of (requests, connections, packets), with how many there were and are and how large each; the change by
    their number and the change by their size add up to the change.
    """

    sentence: str
    path: tuple[str, ...]
    kind: Kind
    by: By
    before: float
    after: float
    change: float
    share: float
    unit: str | None
    count: tuple[float, float]
    size: tuple[float, float]
    change_by_count: float
    change_by_size: float


@dataclass
class Diff:
    """What `sharkstat.diff` gives: findings, the largest first, and tables.

    Without requests the tables are `diff,change` (a row for each measure) and `diff,causes` (the tree of causes);
    with requests there is one for each. `explanation` holds the causes as they were found. `caution` says if a
    difference comes from how the packets were captured (packets captured twice on one side); the tables have it as
    their first warning. A Diff shows itself in a notebook; `str` of it is what the command prints.
    """

    before: Side
    after: Side
    scale: Scale
    tables: list[Table]
    findings: list[Finding] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    explanation: Explanation | None = None
    caution: str = ""

    @property
    def by(self) -> str:
        """The measure that was explained, or whose change the tables are sorted by."""
        if self.explanation is not None:
            return self.explanation.by
        names = [c.name for c in self.tables[0].columns if c.name.endswith("_factor")]
        return names[0].removesuffix("_factor") if names else ""

    @property
    def nothing_changed(self) -> bool:
        """Whether there is nothing to blame: what differs may be chance. Of tables, whether all rows are equal."""
        if self.explanation is not None:
            return self.explanation.nothing
        return not any(
            _is_change(row, column) for table in self.tables for column in table.columns for row in table.rows
        )

    @property
    def relative_change(self) -> float:
        """How much the measure changed, as a part of what it was: 0.2 is 20 % more; infinite where there was none."""
        before, after = self._totals()
        return (after - before) / before if before else (float("inf") if after else 0.0)

    def _totals(self) -> tuple[float, float]:
        if self.explanation is not None:
            total = self.explanation.total
            return self.scale.both((total.before.of(self.explanation.by), total.after.of(self.explanation.by)))
        table = self.tables[0]
        path = table.columns[0].name if table.columns and table.columns[0].type == "path" else None
        rows = [row for row in table.rows if path is None or len(row[path]) == 1]  # type: ignore[arg-type]
        names = (f"{self.by}_before", f"{self.by}_after")
        before, after = (sum(value for row in rows if isinstance(value := row[name], (int, float))) for name in names)
        return before, after

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self, width: int | None = None, colours: bool = False) -> list[str]:
        """The text for people; of its tables `width` columns; with `colours` for a terminal."""
        ink = Ink(colours)
        if self.explanation is None:
            texts = [view.text(table, width=width, ink=ink) for table in self.tables]
            return [*self._spans(), "", *"\n\n".join(texts).split("\n")]
        found = self.explanation
        line = first_line(found, self.scale)
        caution = [ink.bold(part) for part in _sentence(self.caution, width)] if self.caution else []
        if found.nothing:
            small = abs(self.relative_change) <= ALIKE
            what = "" if found.by == MEASURES[0] else f" in {found.by}"
            return [*caution, f"Nothing changed{what}{'' if small else ' more than by chance'}: {line}", *self._spans()]
        main = self.findings[0]
        cause = _sentence(f"{percent(main.share)} of it: {main.sentence}", width)
        first = [*caution, *_sentence(line[0].upper() + line[1:], width), *map(ink.bold, cause)]
        heads, *tree = self._tree(found, width)
        return [*first, *self._spans(), "", ink.bold(heads), *tree]

    def _spans(self) -> list[str]:
        return [f"Before: {self.before}", f"After:  {self.after}", *self.remarks]

    def _tree(self, found: Explanation, width: int | None) -> list[str]:
        rows = []
        for way, branch in _branches(found.causes):
            cause = way[-1]
            share = found.share(way)
            change = self.scale.of(found.change(cause.total))
            above = way[-2] if len(way) > 1 else None
            text = cause_text(cause, found.by, self.scale, [c.dimension for c in way[:-1]], above)
            rows.append([percent(share), self.amount(change), *self.split(cause), branch, text])
        heads = ["Share", "Change", "by number", "by size", "", "Cause"]
        widths = [max(len(row[at]) for row in [heads, *rows]) for at in range(4)]
        lines = []
        for row in [heads, *rows]:
            figures = "  ".join(cell.rjust(size) for cell, size in zip(row[:4], widths, strict=True))
            lines += _wrapped(f"{figures}  {row[4]}", row[5], row[4], width)
        return lines

    def split(self, cause: Cause) -> list[str]:
        """The change by number and that by size, for people; empty where there is no such split."""
        assert self.explanation is not None
        unit, _, _, (more, larger) = parts_of(cause.total, self.explanation.by, self.scale)
        if unit is None or cause.kind in ("rest", "moved"):
            return ["", ""]
        return [self.amount(more), self.amount(larger)]

    def amount(self, change: float) -> str:
        """A change of the measure, for people."""
        assert self.explanation is not None
        per = "/s" if self.scale.rates else ""
        if self.explanation.by == "bytes":
            return signed(one_bytes(change, per))
        return f"{change:+,.0f}" if not per else f"{change:+,.3g}{per}"

    def __repr__(self) -> str:
        what = ", ".join(t.request for t in self.tables) if self.explanation is None else f"{len(self.findings)} causes"
        return f"<Diff of {', '.join(self.before.sources)} and {', '.join(self.after.sources)}: {what}>"

    def _repr_html_(self) -> str:
        lines = self.lines(_NOTEBOOK) if self.explanation is not None else self._spans()
        shown = f'<pre style="white-space: pre-wrap">{html_escapes.escape(chr(10).join(lines))}</pre>'
        return shown + ("" if self.explanation is not None else "".join(view.html(table) for table in self.tables))


def _wrapped(start: str, text: str, branch: str, width: int | None) -> list[str]:
    """A line of the tree; what does not fit goes on below it, behind the branches that go on."""
    room = (width or 0) - len(start)
    if width is None or room < _NARROWEST:
        return [f"{start}{text}".rstrip()]
    below = branch.replace("├─ ", "│  ").replace("└─ ", "   ")
    indent = " " * (len(start) - len(branch)) + below + "  "
    first, *others = _folded(text, room - 2)
    return [f"{start}{first}".rstrip(), *(indent + other for other in others)]


def _sentence(text: str, width: int | None) -> list[str]:
    """A sentence in lines of that width, the first one further left."""
    if width is None or texts.display_width(text) <= width:
        return [text]
    first, *others = _folded(text, width - 2)
    return [first, *(f"  {other}" for other in others)]


def caution_of(before: Reading, after: Reading) -> str:
    """What looks like more traffic, and is none: packets that one capture has twice."""
    shares = [
        ((reading.duplicates or 0) + (reading.forwarded or 0)) / reading.packets
        if reading.packets and not reading.dedup
        else 0.0
        for reading in (before, after)
    ]
    if abs(shares[1] - shares[0]) <= ALIKE:
        return ""
    side = "AFTER" if shares[1] > shares[0] else "BEFORE"
    return (
        f"{side} has packets twice: {percent(max(shares))} of them are duplicates, {percent(min(shares))} on the other "
        "side. Add --dedup to compare without them."
    )


def _folded(text: str, room: int) -> list[str]:
    """A text in lines of so many characters, broken between words or the parameters of a request.

    >>> _folded("GET /list?prefix&max-keys[&continuation-token]: requests", 20)
    ['GET /list?prefix', '&max-keys', '[&continuation-token', ']: requests']
    """
    lines = [""]
    for piece in re.findall(r"\s*\[?&?[^\s&\[]+|\s*[&\[]+", text):
        if lines[-1] and texts.display_width(lines[-1] + piece) > room:
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
        while texts.display_width(lines[-1]) > room:
            lines.append(lines[-1][room:])
            lines[-2] = lines[-2][:room]
    return lines


def _is_change(row: Row, column: Column) -> bool:
    return column.name.endswith("_change") and bool(row[column.name])


def _branches(
    causes: Sequence[Cause], above: tuple[Cause, ...] = (), prefix: str = ""
) -> list[tuple[tuple[Cause, ...], str]]:
    found: list[tuple[tuple[Cause, ...], str]] = []
    for cause in causes:
        last = cause is causes[-1]
        mark = ("└─ " if last else "├─ ") if above else ""
        way = (*above, cause)
        found.append((way, prefix + mark))
        found += _branches(cause.children, way, prefix + (("   " if last else "│  ") if above else ""))
    return found


def make_scale(before: int, after: int, per: str) -> tuple[Scale, list[str]]:
    """How the two spans compare: as rates, or as totals where they are alike or `per` is "capture"."""
    remarks = []
    longest, shortest = max(before, after), min(before, after)
    rates = per == "second" or (not per and longest - shortest > ALIKE * longest)
    if rates and shortest <= 0:
        rates = False
        remarks.append("One capture has no duration, so totals are compared.")
    elif rates:
        remarks.append("The captures differ in length, so rates are compared (--per capture compares totals).")
    elif longest - shortest > ALIKE * longest:
        remarks.append("Totals are compared, although the captures differ in length.")
    if shortest < SHORT:
        remarks.append(
            f"A capture of {figures.humanised_duration(shortest)} is short: rare traffic may be missing by chance."
        )
    elif longest > UNLIKE * shortest:
        remarks.append(
            "One capture is more than ten times as long as the other: periodic traffic may be in only one of them."
        )
    return Scale((before, after), rates), remarks


def findings_of(found: Explanation, scale: Scale) -> list[Finding]:
    """The causes of the first level, each followed down to what it comes to."""
    findings = []
    for way in chain(found):
        if way[0].kind == "rest":
            continue
        last = way[-1]
        before, after = scale.both((last.total.before.of(found.by), last.total.after.of(found.by)))
        unit, count, size, (more, larger) = parts_of(last.total, found.by, scale)
        findings.append(
            Finding(
                sentence=sentence(way, found.by, scale),
                path=tuple(label(cause) for cause in way),
                kind=last.kind,
                by=found.by,
                before=before,
                after=after,
                change=after - before,
                share=found.share(way),
                unit=unit,
                count=count,
                size=size,
                change_by_count=more,
                change_by_size=larger,
            )
        )
    return findings


# As tables ------------------------------------------------------------------------------------------------

_UNITS = {"bytes": "bytes", "packets": "packets", "connections": "connections", "requests": "requests"}


def change_table(found: Explanation, scale: Scale, reading: Reading) -> Table:
    """A row for each measure, with what it was and is."""
    rows: list[Row] = []
    for by in MEASURES:
        before, after = scale.both((found.total.before.of(by), found.total.after.of(by)))
        factor = after / before if before else None
        rows.append({"measure": by, "before": before, "after": after, "change": after - before, "factor": factor})
    kind, per = ("number", " per second") if scale.rates else ("integer", "")
    columns = (
        Column("measure", "text", role="key"),
        *(Column(name, kind, role="derived") for name in ("before", "after", "change")),  # type: ignore[arg-type]
        Column("factor", "number", "times", role="derived"),
    )
    title = f"What changed{', per second' if per else ''}"
    return Table("diff,change", title, "diff,change", columns, rows, reading=reading)


def causes_table(found: Explanation, scale: Scale, reading: Reading) -> Table:
    """The tree of causes: the parts of each level, with the rest, add up to the level above."""
    unit = _UNITS[found.by] + (" per second" if scale.rates else "")
    number, exact = ("number", "number") if scale.rates else ("integer", "number")

    def amount(name: str, title: str = "", kind: str = number, of: str = unit, shown: bool = True) -> Column:
        return Column(name, kind, of, role="derived", title=title, shown=shown)  # type: ignore[arg-type]

    columns = (
        Column("cause", "path", role="key"),
        Column("kind", "text", role="derived", description="changed, new, gone, moved, or rest"),
        Column(
            "dimension", "text", role="derived", description="the dimension by which this level was split", shown=False
        ),
        amount("before"),
        amount("after"),
        amount("change"),
        Column("share", "number", "percent", role="derived", description="share of everything that went up and down"),
        Column("unit", "text", role="derived", title="Unit", description="the unit that became more, or larger"),
        amount("count_before", kind="number", of="per second" if scale.rates else ""),
        amount("count_after", kind="number", of="per second" if scale.rates else ""),
        amount("size_before", kind=exact, of=_UNITS[found.by]),
        amount("size_after", kind=exact, of=_UNITS[found.by]),
        amount("change_by_count", "By number", kind=exact, shown=False),
        amount("change_by_size", "By size", kind=exact, shown=False),
        Column("sentence", "text", role="derived", shown=False),
    )
    rows: list[Row] = []
    taken: set[Value] = set()
    for way, _ in _branches(found.causes):
        last = way[-1]
        path = _unique(tuple(label(cause) for cause in way), taken)
        rows.append({"cause": path, **_row(found, scale, way, last.total)})
    return Table("diff,causes", f"Causes, by {found.by}", "diff,causes", columns, rows, reading=reading)


def _unique(path: tuple[str, ...], taken: set[Value]) -> tuple[str, ...]:
    number, chosen = 2, path
    while chosen in taken:
        chosen, number = (*path[:-1], f"{path[-1]} ({number})"), number + 1
    taken.add(chosen)
    return chosen


def _row(found: Explanation, scale: Scale, way: Sequence[Cause], total: Sum) -> Row:
    before, after = scale.both((total.before.of(found.by), total.after.of(found.by)))
    unit, count, size, (more, larger) = parts_of(total, found.by, scale)
    cause = way[-1]
    return {
        "kind": cause.kind,
        "dimension": cause.dimension,
        "before": before,
        "after": after,
        "change": after - before,
        "share": 100 * found.share(way),
        "unit": unit,
        "count_before": count[0] if unit else None,
        "count_after": count[1] if unit else None,
        "size_before": size[0] if unit else None,
        "size_after": size[1] if unit else None,
        "change_by_count": more if unit else None,
        "change_by_size": larger if unit else None,
        "sentence": sentence(way, found.by, scale),
    }
