"""A statistic's part of `sharkstat overview`: its block of rows, and the problems it finds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from sharkstat.tables.column import Column
from sharkstat.tables.figures import humanised_bytes, humanised_duration
from sharkstat.tables.page import joined, parts

if TYPE_CHECKING:
    from sharkstat.tables.column import Row
    from sharkstat.tables.table import Table

Severity = Literal["bad", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


@dataclass(frozen=True)
class Section:
    """A statistic's block in the overview.

    Blocks are sorted by `position`, from 1. The built-in ones are traffic over time (100), services (200), hosts (300),
    HTTP requests (400), DNS names (500), TLS and QUIC servers (600, 650). Health comes last.

    `columns` are column names, the most important first: if space is short, columns at the right are dropped.
    "address:port" joins two columns with a colon, "host/path" with nothing; "name=Heading" sets the heading. The
    `title` (by default the statistic's) is the heading of the first column.

    `rows` is the number of rows shown; with 0 there is no block, and the statistic runs only for its findings.
    `bar` is a column with a total, drawn as a bar at the right, or as a graph if the table's only key is a time.
    `arguments` are those of the request. `over_time` are those of another request, whose rows by interval are drawn on
    an HTML page; in the same run, it should cost little.

    >>> Section(420, ("server_name=Name", "address:port=Server", "connections"), rows=3, bar="bytes").rows
    3
    """

    position: int
    columns: tuple[str, ...] = ()
    rows: int = 5
    title: str = ""
    bar: str = ""
    arguments: str = ""
    over_time: str = ""


@dataclass(frozen=True)
class HealthFinding:
    """A problem found in a capture: a sentence, with its figure and the base of that figure.

    `figure` and `base` are numbers, in nanoseconds if the unit is "seconds". Findings of equal severity are sorted by
    their share (figure / base), the largest first.

    >>> HealthFinding("certificate of a.example expired on 2024-01-31", 1).severity
    'warning'
    """

    sentence: str
    figure: int | float
    base: int | float | None = None
    severity: Severity = "warning"
    unit: str = ""

    @property
    def share(self) -> float | None:
        """Figure divided by base; None without a base."""
        return self.figure / self.base if self.base else None

    @property
    def rank(self) -> tuple[int, float]:
        """The sort key: the worst first."""
        return SEVERITIES.index(self.severity), -(self.share or 0.0)


def part_of(
    figure: int | float,
    base: int | float,
    text: str,
    where: str = "",
    *,
    unit: str = "",
    warning: float = 0.01,
    bad: float = 0.1,
) -> list[HealthFinding]:
    """A finding of the form "FIGURE of BASE ..."; none if the figure is 0.

    `where` is appended after the percentage. A share of at least `warning` is a warning, at least `bad` is bad, less
    is a note.

    >>> [finding] = part_of(2, 243, "TCP segments retransmitted")
    >>> finding.sentence, finding.severity
    ('2 of 243 TCP segments retransmitted (0.8 %)', 'note')
    """
    if not figure or not base:
        return []
    said = f"{_shown(figure, unit)} of {_shown(base, unit)} {text} ({percent(figure / base)}){where}"
    return [HealthFinding(said, figure, base, severity_of(figure, base, warning, bad), unit)]


def severity_of(figure: int | float, base: int | float, warning: float, bad: float) -> Severity:
    """A share of at least `bad` is bad, of at least `warning` a warning, of less a note."""
    share = figure / base if base else 1.0
    return "bad" if share >= bad else "warning" if share >= warning else "note"


def percent(share: float) -> str:
    """
    >>> percent(0.5), percent(0.0002), percent(1)
    ('50.0 %', 'less than 0.1 %', '100.0 %')
    """
    return f"{100 * share:.1f} %" if share >= 0.0005 else "less than 0.1 %"


def _shown(number: int | float, unit: str) -> str:
    if unit == "bytes":
        return humanised_bytes(int(number))
    if unit == "seconds":
        return humanised_duration(int(number))
    return f"{number:,}"


@dataclass(frozen=True)
class Check:
    """A finding without code: the total of one column as a share of the total of another.

    `worst` is the column (or "address:port") that names the row with the most.

    >>> Check("unanswered", "queries", "DNS queries without an answer", warning=0.02).text
    'DNS queries without an answer'
    """

    figure: str
    base: str
    text: str
    warning: float = 0.01
    bad: float = 0.1
    worst: str = ""

    def severity(self, row: Row) -> Severity | None:
        """How bad the figure of a row is, by itself; None where there is none."""
        figure, base = row.get(self.figure), row.get(self.base)
        if not isinstance(figure, (int, float)) or not isinstance(base, (int, float)) or figure <= 0:
            return None
        return severity_of(figure, base, self.warning, self.bad)

    def of(self, table: Table) -> list[HealthFinding]:
        """The finding of a table, if any."""
        unit = table.column(self.figure).unit
        unit = unit if unit in ("bytes", "seconds") else ""
        totals = table.total(self.figure), table.total(self.base)
        at = "at" if ":" in self.worst else "for"
        where = most_of(table, self.figure, self.worst, at=at) if self.worst else ""
        return part_of(*totals, self.text, where, unit=unit, warning=self.warning, bad=self.bad)


def most_of(table: Table, figure: str, name: str, rows: Sequence[Row] | None = None, at: str = "at") -> str:
    """The row with the most of a figure: ", most at 192.0.2.1:80", or ", all at ..." if no other row has any.

    `name` is a column, or "address:port"; `rows` are some of the table's; `at` is the word before the name.
    """
    found = [
        row for row in (table.rows if rows is None else rows) if isinstance(row[figure], (int, float)) and row[figure]
    ]
    if len(found) < 2:
        return f", all {at} {joined(table, found[0], name)}" if found else ""
    return f", most {at} {joined(table, max(found, key=lambda row: row[figure]), name)}"  # type: ignore[arg-type, return-value]


# As a tap's header has them -------------------------------------------------------------------------

SECTION = "POSITION [title=WORD] [rows=N] [bar=COLUMN] [columns=A,B:C,D=Heading] [arguments=TEXT] [over_time=TEXT]"
FINDING = "FIGURE/BASE [warning=SHARE] [bad=SHARE] [worst=COLUMN] TEXT"


def read_section(text: str, columns: Sequence[Column]) -> Section:
    """A section from the line of a header. ValueError says what is wrong, and how to write it.

    >>> read_section("420 title=Slow_names rows=3 columns=name=Name", [Column("name", "text")]).title
    'Slow names'
    """
    position, _, rest = text.partition(" ")
    given, left = _options(rest.strip(), ("rows", "bar", "columns", "title", "arguments", "over_time"))
    names = tuple(filter(None, given.get("columns", "").split(",")))
    rows = given.get("rows", str(Section.rows))
    used = [part for name in names for part in parts(name)] + [given.get("bar", "")]
    wrong = _unknown(used, columns) or ("it cannot be parsed" if left or not (position + rows).isdigit() else "")
    if wrong:
        example = "`section: 420 rows=3 columns=name,answers`"
        raise ValueError(f"invalid section {text!r}: {wrong}; write {SECTION}, e.g. {example}")
    title, bar, arguments, over_time = (given.get(name, "") for name in ("title", "bar", "arguments", "over_time"))
    return Section(int(position), names, int(rows), title.replace("_", " "), bar, arguments, over_time)


def read_check(text: str, columns: Sequence[Column]) -> Check:
    """A check from the line of a header. ValueError says what is wrong, and how to write it."""
    what, _, rest = text.partition(" ")
    given, said = _options(rest.strip(), ("warning", "bad", "worst"))
    figure, slash, base = what.partition("/")
    worst = given.get("worst", "")
    wrong = _unknown([figure, base, *(parts(worst) if worst else ())], columns)
    warning, bad = given.get("warning", str(Check.warning)), given.get("bad", str(Check.bad))
    if not slash or not said or not all(re.fullmatch(r"\d*\.?\d+", share) for share in (warning, bad)):
        wrong = "it cannot be parsed"
    if wrong:
        example = "`finding: unanswered/queries warning=0.02 DNS queries without an answer`"
        raise ValueError(f"invalid finding {text!r}: {wrong}; write {FINDING}, e.g. {example}")
    return Check(figure, base, said, float(warning), float(bad), worst)


def _options(text: str, names: Sequence[str]) -> tuple[dict[str, str], str]:
    """The NAME=VALUE words that a text begins with, those of these names, and the rest."""
    found: dict[str, str] = {}
    rest = text
    while match := re.match(rf"({'|'.join(names)})=(\S+)\s*", rest):
        found[match[1]] = match[2]
        rest = rest[match.end() :]
    return found, rest


def _unknown(names: Sequence[str], columns: Sequence[Column]) -> str:
    known = {column.name for column in columns}
    return next((f"it has no column {name}" for name in names if name and name not in known), "")
