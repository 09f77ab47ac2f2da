"""A capture whose plain packets are counted from their headers, and of which one tshark reads the rest."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from sharkstat.engines.engine import Result
from sharkstat.engines.headers import OfMessages
from sharkstat.running.interruption import Interruption
from sharkstat.running.plan import Plan, Request
from sharkstat.running.results import Answer, Outcome
from sharkstat.running.shards import Shards
from sharkstat.running.splitter import Feed, Split, apart, scan
from sharkstat.running.tally import Results, Tally
from sharkstat.running.walking import Unsplittable
from sharkstat.tables.column import Row
from sharkstat.tshark.records import Records

MOST = 0.8  # of all packets in the rest: more is not worth it


class Headers(Shards):
    """The rest of a capture, which is to be read, and what was counted of all else. Unsplittable where that cannot be.

    With `always` it is done also where it is not worth it.
    """

    def __init__(self, plan: Plan, interruption: Interruption, always: bool) -> None:
        self._plan, self._always = plan, always
        super().__init__(plan.source, 2, plan.requests, interruption)
        self._results: Results = self._tally.results(self.split.scan.rest)

    def _dealt(self, stopped: threading.Event, shards: int) -> Split:
        self._tally = Tally([request.task.plain for request in self._plan.requests if request.task.plain is not None])
        found = apart(scan(self.content, stopped, self._tally))
        rest = found.sizes[0]
        if rest == found.scan.packets or (rest > MOST * found.scan.packets and not self._always):
            raise Unsplittable(f"{rest:,} of {found.scan.packets:,} packets are not plain TCP or UDP")
        asked = [request.task.plain for request in self._plan.requests]
        if found.scan.secrets and any(isinstance(one, OfMessages) for one in asked):
            raise Unsplittable("it has keys, and what is decrypted may be HTTP")
        if "tcp" in self.protocols and found.scan.hides:
            raise Unsplittable("a tunnel or proxy in it may begin streams that no packet tells")
        return found

    def joined(self, outcomes: Sequence[Outcome], records: Sequence[Records]) -> tuple[Outcome, dict[int, Answer]]:
        """As for any shards. What is to be said of the rest is said of all, since plain packets have no part in it."""
        said = [() if one.result is None else one.result.warnings for one in outcomes[0].answers]
        silent = [
            one if one.result is None else replace(one, result=replace(one.result, warnings=()))
            for one in outcomes[0].answers
        ]
        joined, found = super().joined([replace(outcomes[0], answers=silent), *outcomes[1:]], records)
        for number, one in found.items():
            if one.result is not None:
                one.result.warnings = said[number]
        return joined, found

    def again(self) -> None:
        """Deal the packets out once more, to a tshark that begins anew."""
        self.feed.close()
        self.feed = Feed(self.content, self.split)

    def counted(self, outcome: Outcome) -> tuple[Outcome, Records]:
        """What the second shard gives, as if a tshark had read it; `outcome` is that of the rest."""
        records = Records(ready=True, ended=True, newest=self.split.sizes[1])
        numbers = self.split.numbers()[1]
        for protocol in self.protocols:
            import numpy as np

            began = np.searchsorted(numbers, self._results.streams(protocol)) + 1
            records.shard += [["stream", protocol, str(n), str(at), str(at)] for n, at in enumerate(began.tolist())]
        answers = [Answer(request, _result(request, self._results)) for request in self._plan.requests]
        packets, size, first, last, cut = self._results.books
        reading = replace(
            outcome.reading,
            packets=packets,
            bytes=size,
            start=self.split.scan.since,
            first=first,
            last=last,
            cut=cut,
        )
        return replace(outcome, answers=answers, reading=reading, warnings=[], names={}, headless=0), records


def _result(request: Request, results: Results) -> Result:
    """What a request's rows are for these packets."""
    assert request.task.plain is not None
    counted = [column.name for column in request.question.counted]
    empty: Row = dict.fromkeys((column.name for column in request.columns), None)
    rows = [{**empty, **dict(zip(counted, row, strict=True))} for row in results.of(request.task.plain)]
    return Result(request.columns, rows)
