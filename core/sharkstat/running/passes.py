"""How a source is read: in one pass, in several at one time with some of the requests each, or in shards."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from sharkstat.errors import RequestError, SharkstatError, TsharkError
from sharkstat.running.interruption import Interruption
from sharkstat.running.memory import available
from sharkstat.running.one_pass import Pass, Progress
from sharkstat.running.opened import Opened
from sharkstat.running.plan import Plan
from sharkstat.running.together import together
from sharkstat.running.watching import Ticker, Watch
from sharkstat.tshark.process import Tshark
from sharkstat.tshark.records import Records
from sharkstat.tshark.workspace import Workspace

if TYPE_CHECKING:
    from sharkstat.running.results import Outcome
    from sharkstat.running.sockets import Sockets


@dataclass(frozen=True)
class Passes:
    """Reads sources with at most `jobs` tsharks at one time. The other fields are as in `run_plan`."""

    tshark: Tshark
    progress: Progress | None = None
    meanwhile: Callable[[], None] = lambda: None
    jobs: int = 1
    capturing: Callable[[float], None] | None = None
    watch: Watch | None = None
    sockets: Sockets | None = None
    began: float = field(default_factory=time.monotonic)  # from when --timeout counts, for all passes
    most_memory: int = field(default_factory=lambda: (available() or 0) * 3 // 4)  # where --max-memory says nothing

    def read(self, plan: Plan, interruption: Interruption) -> Outcome:
        """What came of all requests of the plan."""
        if any(request.engine.instead for request in plan.requests):
            from sharkstat.running.walking import Unsplittable

            try:
                return self._from_headers(plan, interruption)
            except Unsplittable as reason:
                names = ", ".join(request.text for request in plan.requests)
                if plan.named:
                    raise RequestError(
                        f"{names}: not counted from headers alone: {reason}: leave out --engine"
                    ) from None
                _note("%s: not counted from headers alone: %s", names, reason)
            plan = plan.instead()
        if not plan.source.are_files:
            if self.jobs > 1:
                why = "which packets can be dealt out is only known at the end, and it cannot be read twice"
                _note("%s: read in one piece: %s", ", ".join(plan.source.names), why)
            return self._once(plan, interruption)
        if self.jobs > 1 and not plan.named:
            plain = [number for number, one in enumerate(plan.requests) if one.from_headers() is not None]
            outcome = self._with_headers(plan, plain, interruption) if plain else None
            if outcome is not None:
                return outcome
        return self._by_tsharks(plan, interruption)

    def _by_tsharks(self, plan: Plan, interruption: Interruption) -> Outcome:
        """Files, all of whose packets go to tsharks: in shards, where that is possible."""
        if self.jobs > 1:
            from sharkstat.running.walking import Unsplittable

            try:
                return self._in_shards(plan, interruption)
            except Unsplittable as reason:
                _note("%s: read in one piece: %s", ", ".join(plan.source.names), reason)
        return self._whole(plan, interruption)

    def _with_headers(self, plan: Plan, plain: Sequence[int], interruption: Interruption) -> Outcome | None:
        """The requests of these numbers from headers, and the others beside them. None if headers do not tell."""
        from sharkstat.running.walking import Unsplittable

        others = [number for number in range(len(plan.requests)) if number not in plain]
        asked = [request for number in plain if (request := plan.requests[number].from_headers()) is not None]

        def read_headers(own: Interruption) -> Outcome | None:
            try:
                return self._from_headers(Plan(plan.source, asked), own)
            except Unsplittable as reason:
                names = ", ".join(request.text for request in asked)
                _note("%s: not counted from headers alone: %s", names, reason)
                return None

        def read_others(own: Interruption) -> Outcome | None:
            return replace(self._beside(), jobs=self.jobs - 1)._by_tsharks(plan.only(others), own)

        outcomes = together([read_headers, read_others] if others else [read_headers], interruption)
        counted = outcomes[0]
        if counted is None:
            if not others:
                return None
            counted = self._by_tsharks(plan.only(plain), interruption)
        answers = dict(zip(plain, counted.answers, strict=True))
        for outcome in outcomes[1:]:
            assert outcome is not None
            answers.update(zip(others, outcome.answers, strict=True))
        for number, answer in answers.items():  # whoever counts, a table is that of the engine that was asked for
            answers[number] = replace(answer, request=plan.requests[number])
        return replace(counted, answers=[answers[number] for number in range(len(plan.requests))])

    def _beside(self) -> Passes:
        """For a pass beside the first, which alone tells of what all of them see."""
        return replace(self, progress=None, meanwhile=lambda: None)

    def _from_headers(self, plan: Plan, interruption: Interruption) -> Outcome:
        """Plain packets counted from their headers, and the rest by a tshark. Unsplittable where that is not exact."""
        import importlib.util

        from sharkstat.running.walking import Unsplittable

        others = [request.text for request in plan.requests if request.task.plain is None]
        if others:
            raise Unsplittable(f"tshark must look at all packets for {', '.join(others)}")
        if not plan.source.are_files:
            raise Unsplittable("it is no file")
        if importlib.util.find_spec("numpy") is None:
            raise Unsplittable("it needs numpy: pip install 'sharkstat[jobs]'")
        from sharkstat.running.headers import Headers
        from sharkstat.running.shards import OpenedShard

        plan = plan.with_all_rows(unbounded=True)
        with Headers(plan, interruption, plan.named) as shards:
            for networks in (False, True):
                with (
                    Workspace(self.tshark) as workspace,
                    Ticker(None, workspace) as ticker,
                    OpenedShard(plan.source, workspace, interruption, shards, 0) as opened,
                ):
                    cut, job = shards.cut, shards.job(0)
                    reading = self._pass(
                        plan.instead(), workspace, opened, interruption, None, cut, ticker, job, networks
                    )
                    rest = reading.run()
                if rest is not None or not reading.records.networks:
                    break
                shards.again()
            if rest is None:
                raise Unsplittable("its packets have unusual times, or are cut")
            counted, records = shards.counted(rest)
            joined, found = shards.joined([rest, counted], [reading.records, records])
        if len(found) < len(plan.requests):
            raise Unsplittable("tables of plain packets and of the rest do not go together")
        return replace(
            joined, answers=[replace(found[number], request=one) for number, one in enumerate(plan.requests)]
        )

    def _in_shards(self, plan: Plan, interruption: Interruption) -> Outcome:
        """Those requests that can be, from shards of the capture; others beside them. Unsplittable where none can."""
        import importlib.util

        from sharkstat.running.walking import Unsplittable

        if importlib.util.find_spec("numpy") is None:
            raise Unsplittable("to deal out packets it needs numpy: pip install 'sharkstat[jobs]'")
        from sharkstat.running.shards import OpenedShard, Shards

        everything = range(len(plan.requests))
        split = [number for number in everything if plan.requests[number].can_split]
        whole = [number for number in everything if number not in split]
        if not split:
            raise Unsplittable("nothing that is asked for can be counted in parts")
        beside = plan.only(whole) if whole else None
        groups = beside.dealt(self.jobs // 2 or 1) if beside else []
        count = self.jobs - len(groups)
        if count < 2:
            raise Unsplittable("what can be counted in parts has one processor left")
        with Shards(plan.source, count, [plan.requests[number] for number in split], interruption) as shards:
            uncertain = [number for number in split if not shards.is_certain(plan.requests[number])]
            split = [number for number in split if number not in uncertain]
            for number in uncertain if split else ():
                _note("%s: read in one piece: where its streams begin may be uncertain", plan.requests[number].text)
            if not split:
                raise Unsplittable("where its streams begin may be uncertain, and all that is asked for numbers them")
            records: dict[int, Records] = {}

            def read_shard(number: int, own: Interruption) -> Outcome:
                part, reader = plan.only(split).with_all_rows(), self if number == 0 else self._beside()
                with (
                    Workspace(self.tshark) as workspace,
                    Ticker(None, workspace) as ticker,
                    OpenedShard(plan.source, workspace, own, shards, number) as opened,
                ):
                    job = shards.job(number)
                    reading = reader._pass(part, workspace, opened, own, None, shards.cut, ticker, job)
                    outcome = reading.run()
                if outcome is None:
                    raise Unsplittable("its packets have unusual times, or are cut")
                records[number] = reading.records
                return outcome

            def read_group(number: int, own: Interruption) -> Outcome:
                assert beside is not None
                return self._beside()._once(beside.only(groups[number]), own, looks=False)

            works = [partial(read_shard, number) for number in range(count)]
            works += [partial(read_group, number) for number in range(len(groups))]
            try:
                outcomes = together(works, interruption)
            except SharkstatError as problem:  # the pass over all packets says what is wrong with them
                raise Unsplittable(f"a part of it failed: {problem}") from problem
            joined, found = shards.joined(outcomes[:count], [records[number] for number in range(count)])
        answers = {split[number]: answer for number, answer in found.items()}
        for group, outcome in zip(groups, outcomes[count:], strict=True):
            answers.update(zip((whole[number] for number in group), outcome.answers, strict=True))
        missing = [number for number in everything if number not in answers]
        if missing:
            again = self._whole(plan.only(missing), interruption)
            answers.update(zip(missing, again.answers, strict=True))
        return replace(joined, answers=[answers[number] for number in everything])

    def _whole(self, plan: Plan, interruption: Interruption) -> Outcome:
        """All packets in each pass, and the requests dealt out to as many as there may be."""
        groups = plan.dealt(self.jobs)
        if len(groups) == 1:
            return self._once(plan, interruption)

        def reader(number: int) -> Callable[[Interruption], Outcome]:
            part = plan.only(groups[number])
            if number:
                return lambda own: self._beside()._once(part, own, looks=False)
            return lambda own: self._once(part, own)

        outcomes = together([reader(number) for number in range(len(groups))], interruption)
        answers = {
            number: answer
            for group, outcome in zip(groups, outcomes, strict=True)
            for number, answer in zip(group, outcome.answers, strict=True)
        }
        return replace(outcomes[0], answers=[answers[number] for number in range(len(plan.requests))])

    def _once(self, plan: Plan, interruption: Interruption, looks: bool = True) -> Outcome:
        """Make one pass over the source, and a second, prepared one if the packets need it."""
        exact: str | None = None
        cut: bool | None = False
        networks = False
        for last in (False, False, False, True):
            with (
                Workspace(self.tshark) as workspace,
                Ticker(self.watch, workspace) as ticker,
                Opened(
                    plan.source, workspace, interruption, looks, ticker.pacing, self.capturing, self.sockets
                ) as opened,
            ):
                if not opened.again:  # prepare for everything from the start (see host.lua)
                    exact = ""
                    cut = True if plan.source.snaplen or not plan.source.live else None
                    networks = not plan.source.live
                reading = self._pass(plan, workspace, opened, interruption, exact, cut, ticker, networks=networks)
                outcome = reading.run()
            if outcome is not None:
                return outcome
            if last or not opened.again:
                break
            if reading.records.networks:
                networks = True
            elif reading.records.cut:
                cut = True
            else:
                exact = reading.records.first
            plan = plan.again()
        raise TsharkError(f"no results: tshark gives no exact times for {', '.join(plan.source.names)}")

    def _pass(
        self,
        plan: Plan,
        workspace: Workspace,
        opened: Opened,
        interruption: Interruption,
        exact: str | None,
        cut: bool | None,
        ticker: Ticker,
        shard: Sequence[tuple[str, ...]] = (),
        networks: bool = False,
    ) -> Pass:
        return Pass(
            plan,
            self.tshark,
            workspace,
            opened,
            self.progress,
            interruption,
            exact,
            cut,
            self.meanwhile,
            ticker,
            shard,
            networks,
            None if plan.source.timeout is None else self.began + plan.source.timeout,
            self.most_memory if plan.source.max_memory is None else plan.source.max_memory,
        )


def _note(said: str, *of: object) -> None:
    """For --debug. logging takes a hundredth of a short run to load, and only few runs have a word for it."""
    import logging

    logging.getLogger("sharkstat").debug(said, *of)
