"""Turns requests into one pass: chooses the engines and writes the job for the Lua host in tshark."""

from __future__ import annotations

import itertools
import re
import traceback
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sharkstat.engines.engine import Engine, FirstRows, Part, Question, Rank, Task
from sharkstat.errors import RequestError, SharkstatError, StatisticError
from sharkstat.running.source import Source
from sharkstat.statistics.registry import Registry
from sharkstat.statistics.several import Several
from sharkstat.statistics.statistic import Statistic
from sharkstat.tables.column import Column, check_columns
from sharkstat.tables.shares import share_columns
from sharkstat.tshark.records import Failure, described, escape
from sharkstat.tshark.sparing import LEVELS, is_by_itself, leaf_options, level_of, level_read, needs_names, protocols_of

if TYPE_CHECKING:
    from sharkstat.tables.selection import Selection

# ICMP lies beside TCP and UDP, not above them.
_ICMP = re.compile(r"\bicmp(?:v6)?\b[\w.]*")
# tshark's own statistics that count by streams, and those (beside endpoints) that count packets one by one.
_CONVERSATIONS = {"conv,tcp": "tcp", "conv,udp": "udp", "conv,dccp": "dccp"}
_OF_PACKETS = re.compile(r"(?:io,(?:stat|phs)|plen|dests|ip_\w+|ipv6_\w+|ptype)\b")
_OF_PORTS = re.compile(r"\b(?:tcp|udp)\b(?!\.analysis)")
_OF_STREAMS = re.compile(r"\b(?:tcp|udp|dccp)\.(?:stream|time_|analysis|completeness)")


@dataclass
class Request:
    """One statistic with its arguments, on the engine that will run it."""

    statistic: Statistic
    engine: Engine
    question: Question
    filters: Sequence[str]
    task: Task

    @property
    def text(self) -> str:
        return self.question.text

    @property
    def arguments(self) -> str:
        return self.question.arguments

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.question.columns

    @property
    def above_transport(self) -> bool:
        """Whether sharkstat's own counting needs protocols above TCP and UDP."""
        # Conversations and endpoints count headers at or below TCP and UDP, whatever tshark reads to find them.
        own = [] if self.statistic.family in ("conv", "endpoints") else self.task.reads
        reads = (_ICMP.sub("ip", text) for text in (self.question.display_filter, *self.filters, *own))
        levels = [self.task.layer, *map(level_of, reads)]
        return self.engine.own and any(level != "transport" for level in levels)

    @property
    def level(self) -> str:
        """How far up the layers tshark must look for it."""
        return max([self.task.layer, *map(level_of, (*self.filters, *self.task.reads))], key=LEVELS.index)

    @property
    def follows_streams(self) -> bool:
        """Whether its numbers depend on which packets tshark takes for those of one connection."""
        reads = (*self.filters, *self.task.reads)
        if any(map(_OF_STREAMS.search, reads)):
            return True
        if self.engine.own:
            return self.above_transport
        family, name = self.statistic.family, self.statistic.name
        return name in _CONVERSATIONS if family in ("conv", "endpoints") else not _OF_PACKETS.match(name)

    @property
    def reads_ports(self) -> bool:
        """Whether it reads fields of TCP or UDP, and none above: it lacks packets that are cut before those."""
        if not self.engine.own or self.above_transport or self.statistic.family in ("conv", "endpoints"):
            return False
        return any(map(_OF_PORTS.search, (self.question.display_filter, *self.filters, *self.task.reads)))

    @property
    def read_above(self) -> tuple[str, ...]:
        """A filter for the packets of which it reads what is above TCP and UDP, and the protocols that it reads there.

        Without protocols it may be any; a filter that looks above TCP and UDP cannot say which packets those are.
        """
        own = [] if self.statistic.family in ("conv", "endpoints") else self.task.reads
        texts = [self.question.display_filter, *self.filters]
        plain = [f"({text})" for text in texts if text and level_of(_ICMP.sub("ip", text)) == "transport"]
        takes = " && ".join(plain) if len(self.filters) < 2 else ""
        return takes, *protocols_of([*texts, *own])

    @property
    def any_filter(self) -> str:
        """What takes the packets that any of its filters takes."""
        return " || ".join(f"({text})" for text in self.filters)

    @property
    def can_split(self) -> bool:
        """Whether tsharks that each see some of the hosts can count it together."""
        texts = [self.question.display_filter, *self.filters, *self.task.reads]
        return self.task.split == "hosts" and all(map(is_by_itself, texts))

    def again(self) -> Request:
        """The same request with nothing counted yet."""
        return self.asking(self.question)

    def asking(self, question: Question) -> Request:
        """The same request with nothing counted yet, asked so."""
        return replace(self, question=question, task=self.engine.ask(question))

    def instead(self) -> Request:
        """The same request on the engine that takes the place of its own, if there is one."""
        engine = self.engine.instead or self.engine
        return replace(self, engine=engine, task=engine.ask(self.question))

    @property
    def all_rows(self) -> FirstRows | None:
        """What says that all rows are wanted that its table may have; None where nothing bounds them in tshark."""
        return _all_rows(self.statistic, self.question)

    def from_headers(self) -> Request | None:
        """The same request where plain packets are counted from their headers alone, if that is possible."""
        for engine in self.statistic.engines:
            if engine.instead is self.engine and self.engine.instead is None:
                task = engine.ask(self.question)
                return replace(self, engine=engine, task=task) if task.plain is not None else None
        return None

    def first_rows(self, chosen: Selection, count: int, final: bool) -> FirstRows | None:
        """What says that no more than the first rows of a selection are wanted; None where all are needed for them."""
        if self.question.most is not None and count > self.question.most:
            return self.all_rows
        said = self.statistic.ranking(self.arguments)
        by_itself = bool(said) or type(self.statistic).derive is Statistic.derive
        if self.question.by_flow or not by_itself or (self.columns and self.columns[0].type == "path"):
            return None
        columns = {column.name: column for column in self.columns}
        name, descending = chosen.sort_key()
        first = [Rank(columns[name], descending)] if name in columns else []
        if chosen.sort and not first and name.endswith(("_share", "_rate")):
            return None
        totals = share_columns(self.columns, chosen.share == "every") if chosen.share else {}
        whole = dict.fromkeys(columns[name].share or name for name in totals)
        ranks = (*first, *(_rank(text, columns) for text in said))
        return FirstRows(count, ranks, tuple(columns[name] for name in whole), final) if ranks else None


@dataclass
class Plan:
    """One pass: the requests that one tshark process serves. A plan can be run only once."""

    source: Source
    requests: list[Request]
    refused: dict[str, Failure] = field(default_factory=dict)  # what a plugin's own fault kept out, and why
    named: bool = False  # the user named the engine
    parts: list[Part] = field(init=False)
    _part_of: list[Part] = field(init=False)

    def __post_init__(self) -> None:
        """Raises RequestError if the requests cannot run together."""
        kinds: dict[type[Part], dict[int, Task]] = {}
        for number, request in enumerate(self.requests):
            kinds.setdefault(request.task.part, {})[number] = request.task
        made = {kind: kind(tasks) for kind, tasks in kinds.items()}
        self.parts = list(made.values())
        self._part_of = [made[request.task.part] for request in self.requests]

    def part_of(self, number: int) -> Part:
        """The part with the task of this request number."""
        return self._part_of[number]

    def with_first_rows(self, chosen: Selection, count: int, final: bool = True) -> Plan:
        """The same plan where no more than the first so many rows of each result are wanted, before `chosen` applies.

        Results still have all rows where they are needed to tell which are the first. Without `final`, only those of
        snapshots may lack the others.
        """
        asked = [
            request.asking(
                replace(request.question, first=request.first_rows(chosen, count, final) or request.all_rows)
            )
            for request in self.requests
        ]
        return Plan(self.source, asked, self.refused, self.named)

    def with_all_rows(self, unbounded: bool = False) -> Plan:
        """The same plan where all rows of tables are wanted; `unbounded`, those beyond a bound, too."""
        asked = [
            request.asking(replace(request.question, first=None if unbounded else request.all_rows))
            for request in self.requests
        ]
        return Plan(self.source, asked, self.refused, self.named)

    def instead(self) -> Plan:
        """The same plan on the engines that take the place of others, where they do."""
        return Plan(self.source, [request.instead() for request in self.requests], self.refused)

    def again(self) -> Plan:
        """The same plan with nothing counted yet."""
        return Plan(self.source, [request.again() for request in self.requests], named=self.named)

    def without(self, failed: Container[str]) -> Plan:
        """The plan of the other requests, as if nothing had been counted."""
        return self.only([number for number, request in enumerate(self.requests) if request.text not in failed])

    def only(self, numbers: Sequence[int]) -> Plan:
        """The plan of some of its requests, by their numbers, as if nothing had been counted."""
        return Plan(self.source, [self.requests[number].again() for number in numbers], named=self.named)

    def dealt(self, jobs: int) -> list[list[int]]:
        """The numbers of the requests, dealt out to as many passes as are worth it: at most so many, at least one.

        Requests that look equally far up the layers are in one pass, since tshark goes as far as any of them looks, and
        so are those that share their work.
        """
        if jobs == 1 or len(self.requests) == 1:
            return [list(range(len(self.requests)))]
        order = sorted(range(len(self.requests)), key=lambda number: LEVELS.index(self.requests[number].level))
        units: dict[object, list[int]] = {}
        for number in order:
            one = self.requests[number]
            units.setdefault(one.task.question.name if one.engine.shares else number, []).append(number)
        together = list(units.values())
        passes = min(jobs, len(together))
        cuts = [len(together) * at // passes for at in range(passes + 1)]
        return [[number for unit in together[a:b] for number in unit] for a, b in itertools.pairwise(cuts)]

    def leaf_options(self, plain: bool = False) -> list[str]:
        """tshark options that skip dissection nobody needs; where packets are `plain`, all of it above TCP and UDP."""
        return leaf_options(*self._read, plain)

    @property
    def is_lean(self) -> bool:
        """Whether tshark is spared something of plain packets."""
        return self.leaf_options(plain=True) != self.leaf_options()

    @property
    def needs_names(self) -> bool:
        """Whether tshark may need its tables of the names of makers, enterprises and services."""
        layers, reads = self._read
        return needs_names(level_read(layers, reads), reads)

    @property
    def _read(self) -> tuple[list[str], list[str]]:
        """The levels that are looked at, and all filters and names of fields."""
        source = self.source
        layers: list[str] = [request.task.layer for request in self.requests]
        if source.keylog or source.decode_as or source.preferences or source.profile or source.heuristics:
            layers.append("application")
        if source.resolvers:  # tshark learns names from DNS answers
            layers.append("application")
        reads = [source.display_filter, source.read_filter]
        for request in self.requests:
            reads += [*request.filters, *request.task.reads]
        return layers, reads

    def options(self) -> list[str]:
        """The tshark options that the engines need."""
        return [option for part in self.parts for option in part.options()]

    def job(
        self,
        rows: str,
        first: Path,
        files: Mapping[Path, Path],
        exact: str | None,
        cut: bool | None,
        stranger: bool,
        control: str = "",
        shard: Sequence[tuple[str, ...]] = (),
        networks: bool = False,
    ) -> str:
        """The job for host.lua, as text.

        `rows` is the pipe for its records, `first` the file for the first packet; `files` says where each Lua file
        of the engines is for tshark. Unless `exact` is None, times that no double holds are read from fields;
        it may say when the capture begins whose first packets have no time (nanoseconds since 1970). With `cut`
        packets may be cut; without it (but not None) the host is to tell if one is. With `stranger`, what is read may
        be no capture. With `networks` some packets are in virtual networks and others in none. `control` is the pipe
        that asks for snapshots, `shard` has the lines for a part of a capture.
        """
        lines: list[Iterable[str]] = [("rows", rows), ("first", str(first))]
        if control:  # before anything that listens
            lines.append(("watch", control))
        if exact is not None:
            lines.append(("exact", exact) if exact else ("exact",))
        if cut is not None:
            lines.append(("cut",) if cut else ("whole",))
        if cut and may_decrypt(self.source):
            lines.append(("keys",))
        if networks:
            lines.append(("networks",))
        if stranger:
            lines.append(("stranger",))
        lines += shard
        if self.source.display_filter:
            lines.append(("filter", self.source.display_filter))
        if self.source.resolvers:
            lines.append(("names",))
        if any(request.question.by_flow for request in self.requests):
            lines.append(("flows",))
        lines += [("check", str(i), text) for i, request in enumerate(self.requests) for text in request.filters]
        lines += [
            ("partial", str(i), *request.read_above)
            for i, request in enumerate(self.requests)
            if request.above_transport
        ]
        lines += [("partial", str(i), "", "ports") for i, request in enumerate(self.requests) if request.reads_ports]
        lines += [
            (
                *("streams", str(i), r.any_filter, _CONVERSATIONS.get(r.statistic.name, "tcp udp")),
                *(["apart"] if r.task.knows_networks else []),
            )
            for i, r in enumerate(self.requests)
            if r.follows_streams
        ]
        lines += [line for part in self.parts for line in part.job(files)]
        return "".join("\t".join(map(escape, words)) + "\n" for words in lines)


def _all_rows(statistic: Statistic, question: Question) -> FirstRows | None:
    most = question.most
    said = () if most is None or question.by_flow else statistic.ranking(question.arguments)
    if most is None or not said or any(column.type == "path" for column in question.columns):
        return None
    columns = {column.name: column for column in question.columns}
    return FirstRows(most, tuple(_rank(text, columns) for text in said), rest=True)


def _rank(text: str, columns: Mapping[str, Column]) -> Rank:
    """A step of `Statistic.ranking`."""
    step = text.removesuffix(", none is 0")
    name = step.removesuffix(" descending")
    return Rank(columns[name], descending=name != step, none_is_zero=step != text)


def may_decrypt(source: Source) -> bool:
    """Whether tshark has keys to decrypt what it reads."""
    from sharkstat.running.capturefile import has_secrets

    given = source.keylog or source.profile or any("key" in text for text in source.preferences)
    return bool(given) or any(has_secrets(Path(file)) for file in source.files)


def _check_processes(source: Source, statistics: Sequence[Statistic], registry: Registry) -> None:
    """RequestError where a process is asked for and cannot be told."""
    if source.process and not any(statistic.by_connection for statistic in statistics):
        names = ", ".join(s.name for s in registry.statistics.values() if s.by_connection)
        raise RequestError(f"--process tells nothing here: ask for one of {names}, counted inside tshark")
    for statistic in statistics:
        if statistic.by_connection == "only" and not source.process:
            raise RequestError(f"{statistic.name} needs --process, and a live capture (-i)")


def make_plan(source: Source, texts: Sequence[str], engine: str, registry: Registry) -> Plan:
    """Find the statistics, check their arguments and choose the engines: `engine`, or "" for each statistic's first.

    Raises RequestError if anything is wrong.
    """
    source.check()
    if not texts:
        raise RequestError("no statistic given: add -z NAME (see `sharkstat list`)")
    found = []
    for text in texts:
        statistic, arguments = registry.find(text)
        parts = statistic.requests(arguments) if isinstance(statistic, Several) else [(text.strip(), statistic)]
        found += [(said, part, arguments, part.engine(engine)) for said, part in parts]
    wanting = [(statistic.name, chosen.resolve) for _, statistic, _, chosen in found if chosen.resolve]
    if wanting and not source.resolvers:
        name, letters = wanting[0]
        if len(wanting) < len(found):
            raise RequestError(f"{name} needs name resolution: add -N {letters}, or run it alone")
        source = replace(source, resolve=letters)
    _check_processes(source, [statistic for _, statistic, _, chosen in found if chosen.by_flow], registry)
    requests, refused = [], {}
    for text, statistic, arguments, chosen in found:
        try:
            columns = statistic.columns(arguments)
            check_columns(columns)
            by_flow = source.process and bool(statistic.by_connection) and chosen.by_flow
            values, rest = statistic.read(arguments)
            question = Question(
                text, statistic.name, arguments, columns, source.display_filter, source.resolvers, by_flow, values, rest
            )
            question = replace(question, most=statistic.bound(arguments))
            question = replace(question, first=_all_rows(statistic, question))
            filters = statistic.filters(arguments)
            requests.append(Request(statistic, chosen, question, filters, chosen.ask(question)))
        except SharkstatError:
            raise
        except Exception as problem:  # a plugin may raise anything
            said = f"{text}: the statistic failed to start: {described(problem)}"
            refused[text] = Failure(said, traceback=traceback.format_exc())
            if len(refused) == len(found):
                raise StatisticError.of(refused) from problem
    return Plan(source, requests, refused, bool(engine))
