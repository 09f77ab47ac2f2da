"""A folder of results, one for each period of the clock: their names, how they are written, chosen and removed.

2026-11-01T100000Z_1h.json              the tables of the hour that began at 10:00 UTC
2026-11-01T100000Z_1h.2.json            and of what came after a restart within it
2026-11-01T110000Z_1h.services.parquet  as Parquet, a table has a file
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from sharkstat.errors import OutputError, RequestError, SourceError
from sharkstat.tables.export import to_json
from sharkstat.tables.output import Output
from sharkstat.tables.table import Table

SECOND = 10**9
DAY = 86400 * SECOND
SHORTEST = SECOND
FORMATS = ("json", "parquet")
_UNITS = {"d": DAY, "h": 3600 * SECOND, "m": 60 * SECOND, "min": 60 * SECOND, "s": SECOND}
_LENGTH = re.compile(r"(\d+)(s|min|m|h|d)")
_NAME = re.compile(r"(\d{4}-\d\d-\d\dT\d{6})Z_(\d+[smhd])(?:\.(\d+))?(?:\.([A-Za-z0-9_]+))?\.(json|parquet)")
_STAMP = "%Y-%m-%dT%H%M%S"
_MOMENT = re.compile(r"(\d{4})-(\d\d)(?:-(\d\d)(?:T(\d\d)(?::?(\d\d)(?::?(\d\d))?)?Z?)?)?")
# The epoch was a Thursday; weeks begin on Monday.
_MONDAY = 4 * DAY


def length_of(text: str, option: str = "--every") -> int:
    """Nanoseconds of a length of time, such as 1h. RequestError for anything else.

    >>> length_of("15m") // SECOND, length_of("90d") // DAY
    (900, 90)
    """
    match = _LENGTH.fullmatch(text.strip())
    if not match or not int(match[1]):
        raise RequestError(f"{option} takes a number with s, m, h or d, e.g. 1h: not {text!r}")
    return int(match[1]) * _UNITS[match[2]]


def period_length(text: str) -> int:
    """Nanoseconds of a period of the clock: what divides a day, or days. RequestError for anything else."""
    length = length_of(text)
    if length < SHORTEST:
        raise RequestError(f"--every {text}: periods last at least {SHORTEST // SECOND} s")
    if DAY % length and length % DAY:
        raise RequestError(f"--every {text}: periods must divide a day, e.g. 1h, 15m or 6h, or be days, e.g. 1d or 7d")
    return length


def period_start(time: int, length: int) -> int:
    """When the period began that a moment is in; several days begin on a Monday.

    >>> period_start(1_700_000_123 * SECOND, 3600 * SECOND) // SECOND
    1699999200
    """
    offset = _MONDAY if length % (7 * DAY) == 0 else 0
    return (time - offset) // length * length + offset


@dataclass(order=True)
class Period:
    """One result: when its period began and how long that is (nanoseconds), and the files that have its tables.

    A period that was interrupted by a restart has several, by `part`.
    """

    start: int
    length: int
    part: int = 1
    paths: list[Path] = field(default_factory=list, compare=False)

    @property
    def end(self) -> int:
        return self.start + self.length

    @property
    def name(self) -> str:
        """What the names of its files begin with."""
        stamp = (_EPOCH + timedelta(seconds=self.start // SECOND)).strftime(_STAMP)
        return f"{stamp}Z_{_short(self.length)}" + (f".{self.part}" if self.part > 1 else "")


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def _short(length: int) -> str:
    """
    >>> _short(3600 * SECOND), _short(90 * SECOND)
    ('1h', '90s')
    """
    unit = next(name for name in ("d", "h", "m", "s") if length % _UNITS[name] == 0)
    return f"{length // _UNITS[unit]}{unit}"


class Archive:
    """The folder. It is made where it is not there; other files in it are left alone."""

    def __init__(self, folder: str | Path, kind: str = "json") -> None:
        """RequestError for a format that periods cannot have."""
        self.folder = Path(folder)
        self.kind = kind
        if kind not in FORMATS:
            raise RequestError(
                f"--every writes {' or '.join(FORMATS)}, not {kind}: what is kept must be readable again"
            )

    def prepare(self) -> None:
        """Make the folder. OutputError where nothing can be written in it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            Output(f"{self.folder}/")
        except OSError as problem:
            raise OutputError(f"{self.folder}: {problem.strerror}: choose another folder") from None

    def periods(self) -> list[Period]:
        """What is there, in order of time. SourceError where the folder cannot be read."""
        found: dict[tuple[int, int, int], Period] = {}
        try:
            paths = sorted(self.folder.iterdir())
        except OSError as problem:
            raise SourceError(f"{self.folder}: {problem.strerror}: give the folder of --every") from None
        for path in paths:
            match = _NAME.fullmatch(path.name)
            if match is None:
                continue
            with contextlib.suppress(ValueError):
                stamp = datetime.strptime(match[1], _STAMP).replace(tzinfo=timezone.utc)
                start = int(stamp.timestamp()) * SECOND
                key = (start, length_of(match[2]), int(match[3] or 1))
                found.setdefault(key, Period(*key)).paths.append(path)
        return sorted(found.values())

    def write(self, start: int, length: int, tables: Sequence[Table]) -> Period:
        """Write the result of a period, each file whole or not at all. OutputError where that cannot be."""
        taken = [p.part for p in self.periods() if (p.start, p.length) == (start, length)]
        period = Period(start, length, max(taken, default=0) + 1)
        if self.kind == "json":
            period.paths = [self._put(f"{period.name}.json", tables, to_json)]
            return period
        from sharkstat.tables.arrow import to_parquet

        names: set[str] = set()
        for table in tables:
            slug = base = re.sub(r"[^A-Za-z0-9]+", "_", table.request).strip("_")[:80] or "table"
            while slug in names or slug.isdigit():
                slug = f"{base}_{len(names)}"
            names.add(slug)
            period.paths.append(self._put(f"{period.name}.{slug}.parquet", [table], to_parquet))
        return period

    def _put(
        self, name: str, tables: Sequence[Table], exporter: Callable[[Sequence[Table]], Iterable[str | bytes]]
    ) -> Path:
        path = self.folder / name
        Output(str(path)).write(tables, exporter)
        return path

    def keep(self, age: int, now: int) -> int:
        """Remove the results of periods that ended more than so long before `now`. How many files that were."""
        removed = 0
        for period in self.periods():
            if period.end + age <= now:
                for path in period.paths:
                    with contextlib.suppress(FileNotFoundError):
                        path.unlink()
                        removed += 1
        return removed

    def chosen(self, when: str, now: int) -> list[Period]:
        """The periods that began in a span of time (see `span_of`). RequestError where there are none."""
        begin, end = span_of(when, now)
        everything = self.periods()
        found = [period for period in everything if begin <= period.start < end]
        if not found:
            there = "it has no results of --every"
            if everything:
                there = f"it has {everything[0].name} to {everything[-1].name}"
            raise RequestError(f"{self.folder}@{when}: no period began then; {there}")
        return found


def span_of(when: str, now: int) -> tuple[int, int]:
    """The beginning and end (nanoseconds since 1970) of a span of time, in UTC.

    A day (2026-11-01), month (2026-11), hour (2026-11-01T10) or minute; "today" and "yesterday"; the last so long
    ("7d", "24h"); or two of the former as FROM..TO, which includes all of TO. RequestError for anything else.

    >>> [second // SECOND for second in span_of("2023-11-14..2023-11-15", 0)]
    [1699920000, 1700092800]
    """
    first, dots, last = when.partition("..")
    if dots:
        return _span(first, when, now)[0], _span(last, when, now)[1]
    return _span(first, when, now)


def _span(text: str, whole: str, now: int) -> tuple[int, int]:
    today = now // DAY * DAY
    if text in ("today", "yesterday"):
        begin = today if text == "today" else today - DAY
        return begin, begin + DAY
    if _LENGTH.fullmatch(text):
        return now - length_of(text), now + 1
    match = _MOMENT.fullmatch(text)
    try:
        if match is None:
            raise ValueError(f"{text!r} is no time")
        year, month, *rest = (None if word is None else int(word) for word in match.groups())
        assert year is not None and month is not None
        given = [word for word in rest if word is not None]
        day, hour, minute, second = (*given, *(1, 0, 0, 0)[len(given) :])
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
        if not given:
            until = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=timezone.utc)
        else:
            until = (
                moment
                + [timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)][len(given) - 1]
            )
    except ValueError as problem:
        raise RequestError(
            f"@{whole}: {problem}: give a day (2026-11-01), a span of days (2026-11-01..2026-11-07), a month, an hour "
            "(2026-11-01T10), today, yesterday, or the last 7d; in UTC"
        ) from None
    return int(moment.timestamp()) * SECOND, int(until.timestamp()) * SECOND


def archived(name: str, now: int) -> list[Period] | None:
    """The periods that DIR@WHEN, or DIR alone, means; None for what is no such name.

    RequestError where it means none.
    """
    path = Path(name)
    if path.is_dir():
        return Archive(path).periods() or None
    folder, at, when = name.rpartition("@")
    if at and not path.exists() and Path(folder).is_dir():
        return Archive(folder).chosen(when, now)
    return None
