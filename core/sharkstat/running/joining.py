"""What several tsharks counted of one source, in shards, put together as one would have counted it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from ipaddress import ip_address

from sharkstat.engines.engine import Result
from sharkstat.errors import MergeError
from sharkstat.running.pairs import pair_number
from sharkstat.running.plan import Request
from sharkstat.running.results import Answer, Outcome
from sharkstat.running.source import Source
from sharkstat.running.walking import Unsplittable
from sharkstat.tables.column import Column, Row, Value
from sharkstat.tables.table import Table, combine
from sharkstat.tshark.records import Records

LOG = logging.getLogger("sharkstat")
MUCH = 0.05  # of all packets


def kept_whole(source: Source) -> str:
    """Why files are not even looked at; or ""."""
    options = {
        "-2": source.two_pass,
        "-c": source.packets is not None,
        "-d": source.decode_as,
        "-o": source.preferences,
        "-C": source.profile,
        "-N": source.resolve,
        "--process": source.process,
        "-H": source.hosts,
        "--enable-heuristic": source.heuristics,
        "--keylog": source.keylog,
        "--dedup": source.dedup,
        "--reorder": source.reorder,
        "--timeout": source.timeout is not None,
    }
    given = [name for name, value in options.items() if value]
    return f"{', '.join(given)} asks for all packets together" if given else ""


def is_certain(request: Request, announces: bool, hides: bool, rest: int, packets: int) -> bool:
    """Whether shards can count it, as far as is known before they are read.

    Where conversations are announced, packets of other ports may be of one UDP stream. Where much is of the rest,
    tshark is likely to begin a TCP stream there, and not to say in which packet.
    """
    numbered = {column.numbering for column in request.columns}
    uncertain = {"udp"} if announces else set()
    uncertain |= {"tcp"} if hides or rest > MUCH * packets else set()
    return not numbered & uncertain


@dataclass(frozen=True)
class Joining:
    """How packets were dealt out to shards, of which the first has the rest.

    `sizes` are their packets, `since` is the first packet's time (nanoseconds since 1970). `announces` says whether a
    protocol is in it that announces conversations of others. `elsewhere` gives those of some pairs that other shards
    than the first have; `position` tells where in the source a packet is that a shard has as its number so and so (both
    from 1 on). The streams of `protocols` are numbered anew.
    """

    sizes: Sequence[int]
    since: int
    announces: bool
    elsewhere: Callable[[Set[int]], Set[int]]
    position: Callable[[int, int], int]
    protocols: Sequence[str]

    def joined(self, outcomes: Sequence[Outcome], records: Sequence[Records]) -> tuple[Outcome, dict[int, Answer]]:
        """The outcome of all of them, and by its number the answer to each request for which it is that of the whole.

        Unsplittable where it may be so for none.
        """
        interrupted = any(
            text.startswith(("interrupted", "stopped a")) for outcome in outcomes for text in outcome.warnings
        )
        if any(outcome.warnings for outcome in outcomes) and not interrupted:
            raise Unsplittable("something is to be said of a part of it, which may not be so of the whole")
        counted = [one.newest - one.unannounced for one in records]
        if counted != list(self.sizes) and not interrupted:
            raise Unsplittable("tshark announced some packets to nobody")
        self._check(records)
        streams = self._streams(records)
        announces = self.announces or any(kind == "announced" for one in records for kind, *_ in one.shard)
        if announces and "udp" in streams:  # then packets of other ports may be of one stream
            streams["udp"] = [{} for _ in records]
        answers = {}
        for at in range(len(outcomes[0].answers)):
            try:
                answers[at] = _joined([outcome.answers[at] for outcome in outcomes], streams, outcomes)
            except Unsplittable as reason:
                LOG.debug("%s: read in one piece: %s", outcomes[0].answers[at].request.text, reason)
        first = outcomes[0]
        readings = [outcome.reading for outcome in outcomes]
        firsts = [reading.first for reading in readings if reading.first is not None]
        lasts = [reading.last for reading in readings if reading.last is not None]
        reading = replace(
            first.reading,
            packets=sum(reading.packets for reading in readings),
            bytes=sum(reading.bytes for reading in readings),
            start=self.since if any(reading.start is not None for reading in readings) else None,
            first=min(firsts, default=None),
            last=max(lasts, default=None),
            cut=sum(reading.cut for reading in readings),
        )
        joined = replace(
            first,
            answers=[],
            reading=reading,
            complete=all(outcome.complete for outcome in outcomes),
            warnings=list(dict.fromkeys(text for outcome in outcomes for text in outcome.warnings)),
            names={name: value for outcome in outcomes for name, value in outcome.names.items()},
            headless=sum(outcome.headless for outcome in outcomes),
        )
        return joined, answers

    def _check(self, records: Sequence[Records]) -> None:
        """Unsplittable where a shard has packets that those of another one have something to do with."""
        quoted: dict[int, list[str]] = {}
        for number, found in enumerate(records):
            for kind, *words in found.shard:
                if kind == "announced" and number:
                    raise Unsplittable(f"{words[0]} announces conversations of other hosts")
                if kind == "layers" and int(words[0]) != found.newest - found.unannounced:
                    raise Unsplittable("a tunnel was found that its port does not tell")
                if kind == "pair":
                    a, b = (ip_address(word).packed for word in words)
                    if len(a) == len(b):
                        quoted[pair_number(a, b)] = words
        for name in self.elsewhere(quoted.keys()) if quoted else ():
            raise Unsplittable(f"packets of {' and '.join(quoted[name])} are in a tunnel, and outside")

    def _streams(self, records: Sequence[Records]) -> dict[str, list[dict[int, int]]]:
        """By protocol and shard: the number in the whole capture of each stream, as far as that is known."""
        streams: dict[str, list[dict[int, int]]] = {}
        for protocol in self.protocols:
            began = []
            for shard, found in enumerate(records):
                for kind, *words in found.shard:
                    if kind == "stream" and words[0] == protocol:
                        stream, packet, since = map(int, words[1:])
                        after = self.position(shard, since) if since else 0
                        began.append((self.position(shard, packet), shard, stream, after))
            began.sort()
            streams[protocol] = [{} for _ in records]
            for number, (packet, shard, stream, after) in enumerate(began):
                if after < packet and number and began[number - 1][0] > after:
                    before = next((one for one in reversed(began[:number]) if one[1] != shard), None)
                    if before is not None and before[0] > after:
                        break
                streams[protocol][shard][stream] = number
        return streams


def _joined(
    answers: Sequence[Answer], streams: Mapping[str, Sequence[Mapping[int, int]]], outcomes: Sequence[Outcome]
) -> Answer:
    """One answer of those of all shards to one request."""
    request = answers[0].request
    failed = next((answer for answer in answers if answer.failure is not None), None)
    if failed is not None:
        raise Unsplittable(f"{request.text} failed: {failed.failure.message if failed.failure else ''}")
    results = [answer.result for answer in answers if answer.result is not None]
    if any(result.capped or result.unread or result.warnings for result in results):
        raise Unsplittable(f"{request.text} was bounded, or has something to say")
    columns = _common([result.columns for result in results])
    for column in columns:
        if column.numbering:
            for result, known in zip(results, streams[column.numbering], strict=True):
                for row in result.rows:
                    number = row[column.name]
                    if isinstance(number, int):
                        if number not in known:
                            raise Unsplittable(f"it is not known which packets of {column.numbering} are of one stream")
                        row[column.name] = known[number]
    tables = [
        Table(request.statistic.name, "", request.text, columns, result.rows, reading=outcome.reading)
        for result, outcome in zip(results, outcomes, strict=True)
    ]
    try:
        aligned = request.statistic.align_shards(tables)
    except MergeError as problem:
        raise Unsplittable(str(problem)) from None
    result = Result(columns, _rows(request.text, columns, [row for rows in aligned for row in rows]))
    skipped, partial = (sum(counts) for counts in zip(*((a.skipped, a.partial) for a in answers), strict=True))
    return Answer(request, result, None, skipped, partial)


def _common(parts: Sequence[tuple[Column, ...]]) -> tuple[Column, ...]:
    """The columns of all parts, whose types one knows and another does not."""
    columns = []
    for same in zip(*parts, strict=True):
        known = {column.type: column for column in same if column.type not in ("text", "number")} or {
            column.type: column for column in same
        }
        if len(known) > 1:
            raise Unsplittable(f"{same[0].name} is of several types")
        columns.append(next(iter(known.values())))
    return tuple(columns)


def _rows(text: str, columns: Sequence[Column], rows: Sequence[Row]) -> list[Row]:
    """Rows of equal key made one by the columns' rules. Unsplittable where these do not tell the value of the whole."""
    keys = [column.name for column in columns if column.role == "key"]
    measures = [column for column in columns if column.role == "measure"]
    merged: dict[tuple[Value, ...], Row] = {}
    for row in rows:
        known = merged.setdefault(tuple(row[name] for name in keys), row)
        if known is row:
            continue
        for column in measures:
            a, b = known[column.name], row[column.name]
            if a is not None and b is not None:
                unknown = column.merge == "none" or (column.merge in ("first", "last") and a != b)
                if unknown or (column.merge == "sum" and (isinstance(a, float) or isinstance(b, float))):
                    raise Unsplittable(f"{text}: {column.name} of all packets is not known from two parts of them")
            known[column.name] = combine(column.merge, a, b)
    return list(merged.values())
