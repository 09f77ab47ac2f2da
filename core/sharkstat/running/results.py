"""From what the engines gave to tables, with what was read."""

from __future__ import annotations

import traceback

from sharkstat.errors import StatisticError
from sharkstat.running.diagnosis import Ending
from sharkstat.running.plan import Plan
from sharkstat.running.remarks import cuts, remarks
from sharkstat.running.screening import Screened
from sharkstat.statistics.native import Unparsed
from sharkstat.tables.column import Reading
from sharkstat.tables.table import Table
from sharkstat.tshark.process import time_zone
from sharkstat.tshark.records import Failure, Records, described


def make_tables(plan: Plan, records: Records, ending: Ending) -> list[Table]:
    """A table for every request, in order.

    Raises what kept the run from having results, or StatisticError with the tables of the statistics that
    did not fail.
    """
    ending.raise_failures()
    screened = ending.opened.screen.finish()
    complete, warnings = ending.judge()
    reading = _reading(plan, records, ending, screened)
    for part in plan.parts:
        part.finish()
    tables: list[Table] = []
    failed: list[str] = []
    traces: list[str] = []
    for number, request in enumerate(plan.requests):
        failure = records.failures.get(str(number))
        if failure is None:
            try:
                result = plan.part_of(number).result(number, ending.last_words())
                statistic = Unparsed(request.statistic.name) if result.unread else request.statistic
                lost = cuts(request, reading, records, number)
                table = Table(
                    name=statistic.name,
                    title=statistic.title,
                    request=request.text,
                    columns=result.columns,
                    rows=result.rows,
                    engine=request.engine.name,
                    tshark=records.version,
                    complete=complete and not lost,
                    capped=result.capped,
                    reading=reading,
                    warnings=[*warnings, *remarks(plan, request, reading, screened), *lost, *result.warnings],
                    names=records.names,
                    statistic=statistic,
                )
                statistic.derive(table)
                statistic.order(table)
                tables.append(table)
                continue
            except Exception as problem:  # a stranger's statistic may do anything: the others go on
                failure = Failure(described(problem), traceback=traceback.format_exc())
        at = f" at packet {failure.packet}" if failure.packet else ""
        failed.append(f"{request.text} failed{at}: {failure.message}")
        traces.append(failure.traceback)
    if failed:
        raise StatisticError("; ".join(failed), tables, traceback="\n".join(traces))
    return tables


def _reading(plan: Plan, records: Records, ending: Ending, screened: Screened | None) -> Reading:
    packets, size, first, last, unordered, lateness, cut, timeless, _ = records.books
    base = records.base_ns

    def at(text: str) -> int | None:
        return None if text == "\\N" or base is None else base + int(text)

    captured, dropped = ending.capture_counts()
    return Reading(
        sources=plan.source.names,
        packets=int(packets),
        bytes=int(size),
        start=base,
        first=at(first),
        last=at(last),
        display_filter=plan.source.display_filter,
        capture_filter=plan.source.capture_filter,
        captured=captured,
        dropped=dropped,
        out_of_order=int(unordered),
        late_by=int(lateness),
        cut=int(cut),
        duplicates=None if screened is None else screened.copies,
        forwarded=None if screened is None else screened.forwarded,
        dedup=plan.source.dedup,
        reorder=plan.source.reorder,
        time_zone=time_zone(),
        timeless=int(timeless),
    )
