"""Makes tables from the engines' results and the facts about the source."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from sharkstat.engines.engine import Result
from sharkstat.errors import StatisticError
from sharkstat.running.diagnosis import Ending
from sharkstat.running.drops import Drops
from sharkstat.running.plan import Plan, Request
from sharkstat.running.remarks import HEADLESS, cuts, remarks, replaced
from sharkstat.running.screening import Screened
from sharkstat.running.source import Source
from sharkstat.statistics.native import Unparsed
from sharkstat.tables.bounds import bounded
from sharkstat.tables.column import Reading
from sharkstat.tables.table import Table
from sharkstat.tshark.process import time_zone
from sharkstat.tshark.records import Failure, Records, described

if TYPE_CHECKING:
    from sharkstat.running.opened import Opened
    from sharkstat.running.owners import Owners
    from sharkstat.running.sockets import Sockets


@dataclass
class Answer:
    """What came of one request: a result, or what kept it from having one."""

    request: Request
    result: Result | None
    failure: Failure | None = None
    skipped: int = 0  # packets that were cut, and are not counted for that
    partial: int = 0  # and those that are counted only in part
    lacks: bool = False  # whether something else is counted wrong, or not at all


@dataclass
class Outcome:
    """What one or more passes over a source gave."""

    answers: list[Answer]
    reading: Reading
    screened: Screened | None
    complete: bool
    warnings: list[str]
    version: str
    names: dict[str, str]
    headless: int  # packets truncated within the network header
    owners: Owners | None = None  # whose connections they were, where that was asked for


def outcome_of(plan: Plan, records: Records, ending: Ending) -> Outcome:
    """What a pass gave. Raises what kept it from having results; what kept one statistic is its answer."""
    ending.raise_failures()
    screened = ending.screened = ending.opened.screen.finish()
    complete, warnings = ending.judge()
    reading = _reading(plan, records, screened, ending.drops())
    for part in plan.parts:
        part.finish()
    outcome = _outcome(plan, records, reading, screened, complete, warnings, ending.last_words())
    return replace(outcome, owners=_owners(ending.opened.sockets, records))


def tables_so_far(plan: Plan, records: Records, opened: Opened) -> list[Table]:
    """A table for every request, of what was counted until now. StatisticError as from `make_tables`."""
    kernel, interface, sockets = opened.kernel_dropped, opened.interface_dropped, opened.sockets
    drops = Drops() if kernel is None else Drops(kernel=kernel, interface=interface)
    reading = _reading(plan, records, None, drops)
    outcome = _outcome(plan, records, reading, None, True, [], "nothing", so_far=True)
    return make_tables(plan.source, replace(outcome, owners=_owners(sockets, records)))


def _owners(sockets: Sockets | None, records: Records) -> Owners | None:
    if not sockets:
        return None
    from sharkstat.running.owners import Owners

    return Owners(sockets, records.flows, records.base_ns)


def _outcome(
    plan: Plan,
    records: Records,
    reading: Reading,
    screened: Screened | None,
    complete: bool,
    warnings: list[str],
    last_words: str,
    so_far: bool = False,
) -> Outcome:
    answers = []
    for number, request in enumerate(plan.requests):
        failure, result = records.failures.get(str(number)), None
        if failure is None:
            try:
                result = plan.part_of(number).result(number, last_words, so_far)
                said = (f"{request.text}: {text}" for text in records.remarks.pop(number, ()))
                result.warnings = (*said, *result.warnings)
            except Exception as problem:  # a plugin may raise anything: the others continue
                failure = Failure(described(problem), traceback=traceback.format_exc())
        lost = records.skipped.get(number, 0), records.partial.get(number, 0)
        answers.append(Answer(request, result, failure, *lost, lacks=number in records.lacking))
    headless = int(records.books[HEADLESS])
    return Outcome(answers, reading, screened, complete, warnings, records.version, records.names, headless)


def make_tables(source: Source, outcome: Outcome, refused: Mapping[str, Failure] = MappingProxyType({})) -> list[Table]:
    """One table per request, in order. `refused` are those that could not start, and why.

    If some statistics failed, raises StatisticError with the tables of the others.
    """
    reading, screened = outcome.reading, outcome.screened
    tables: list[Table] = []
    failed = dict(refused)
    for answer in outcome.answers:
        request, result, failure = answer.request, answer.result, answer.failure
        if result is not None:
            try:
                statistic = Unparsed(request.statistic.name) if result.unread else request.statistic
                lost = cuts(request, reading, outcome.headless, answer.skipped, answer.partial)
                table = Table(
                    name=statistic.name,
                    title=statistic.title,
                    request=request.text,
                    columns=result.columns,
                    rows=result.rows,
                    engine=request.engine.name,
                    tshark=outcome.version,
                    complete=outcome.complete and not lost and not answer.lacks,
                    capped=result.capped,
                    reading=reading,
                    warnings=[
                        *outcome.warnings,
                        *remarks(source, request, reading, screened),
                        *lost,
                        *replaced(result),
                        *result.warnings,
                    ],
                    names=outcome.names,
                    omitted=result.omitted,
                    totals=dict(result.totals) if result.omitted else {},
                    statistic=statistic,
                )
                owners = outcome.owners if request.question.by_flow else None
                if owners:
                    from sharkstat.running.owners import unknown_share, with_owners

                    table = with_owners(table, result.flows, owners)
                statistic.derive(table)
                if owners:
                    table.warnings += filter(None, [unknown_share(table)])
                statistic.order(table)
                most, first = request.question.most, request.question.first
                if most is not None and not result.omitted and not (first and first.final and not first.rest):
                    table = bounded(table, most, result.rest, result.left)
                tables.append(table)
                continue
            except Exception as problem:  # a plugin may raise anything: the others continue
                failure = Failure(described(problem), traceback=traceback.format_exc())
        assert failure is not None
        at = f" at packet {failure.packet}" if failure.packet else ""
        said = f"{request.text} failed{at}: {failure.message}"
        failed[request.text] = replace(failure, message=said)
    if failed:
        raise StatisticError.of(failed, tables)
    return tables


def _reading(plan: Plan, records: Records, screened: Screened | None, drops: Drops) -> Reading:
    packets, size, first, last, unordered, lateness, cut, timeless, _ = records.books
    base = records.base_ns

    def at(text: str) -> int | None:
        return None if text == "\\N" or base is None else base + int(text)

    return Reading(
        sources=plan.source.names,
        packets=int(packets),
        bytes=int(size),
        start=base,
        first=at(first),
        last=at(last),
        display_filter=plan.source.display_filter,
        capture_filter=plan.source.capture_filter,
        captured=drops.captured,
        dropped=drops.dropped,
        dropped_by_kernel=drops.kernel,
        dropped_by_interface=drops.interface,
        dropped_by_dumpcap=drops.dumpcap,
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
