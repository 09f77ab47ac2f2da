"""A capture read in shards by several tsharks: which has which packets, and how each gets them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sharkstat.running.content import Content
from sharkstat.running.interruption import Interruption
from sharkstat.running.joining import Joining, is_certain, kept_whole
from sharkstat.running.opened import Opened
from sharkstat.running.plan import Request
from sharkstat.running.results import Answer, Outcome
from sharkstat.running.source import Source
from sharkstat.running.splitter import Feed, Split, scan, split
from sharkstat.running.walking import Unsplittable
from sharkstat.tshark.records import Records
from sharkstat.tshark.workspace import Workspace

if TYPE_CHECKING:
    from typing_extensions import Self


LOG = logging.getLogger("sharkstat")


class Shards:
    """A source split into so many shards. Unsplittable where it cannot be, or need not.

    `interruption` is that of the thread that makes them.
    """

    def __init__(self, source: Source, shards: int, requests: Sequence[Request], interruption: Interruption) -> None:
        reason = kept_whole(source) if source.are_files else "it is no file"
        if reason:
            raise Unsplittable(reason)
        self.protocols = sorted({c.numbering for request in requests for c in request.columns} - {""})
        # Where a table cannot hold all pairs, one tshark keeps its first rows, which those of parts do not tell.
        bounds = [
            request.question.most
            for request in requests
            if request.question.most is not None and any(column.type == "address" for column in request.columns)
        ]
        self._most = min(bounds, default=None)
        self.content = Content(source.files)
        stopped = threading.Event()
        with interruption.softly(stopped.set):
            self.split: Split = self._dealt(stopped, shards)
        self.feed = Feed(self.content, self.split)

    def _dealt(self, stopped: threading.Event, shards: int) -> Split:
        return split(scan(self.content, stopped, most=self._most), shards)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.feed.close()

    @property
    def cut(self) -> bool:
        """Whether packets were captured only in part."""
        return self.split.scan.cut

    def is_certain(self, request: Request) -> bool:
        """Whether the shards can count it, as far as is known before they are read."""
        found = self.split.scan
        rest = sum(found.counts.get(name, 0) for name in found.rest)
        return is_certain(request, found.announces, found.hides, rest, found.packets)

    def job(self, number: int) -> list[tuple[str, ...]]:
        """The lines that tell the host which shard it reads."""
        return [("since", str(self.split.scan.since)), ("shard", "plain" if number else "rest", *self.protocols)]

    def joined(self, outcomes: Sequence[Outcome], records: Sequence[Records]) -> tuple[Outcome, dict[int, Answer]]:
        """The outcome of all of them, and by its number the answer to each request for which it is that of the whole.

        Unsplittable where it may be so for none.
        """
        if self.feed.problem:
            raise Unsplittable(self.feed.problem)
        found, elsewhere = self.split.scan, {name for name, shard in self.split.shard_of.items() if shard}
        numbers = self.split.numbers() if self.protocols else []
        joining = Joining(
            self.split.sizes,
            found.since,
            found.announces,
            elsewhere.intersection,
            lambda shard, packet: int(numbers[shard][packet - 1]),
            self.protocols,
        )
        return joining.joined(outcomes, records)


class OpenedShard(Opened):
    """What one tshark reads of a capture in shards."""

    def __init__(
        self, source: Source, workspace: Workspace, interruption: Interruption, shards: Shards, number: int
    ) -> None:
        super().__init__(source, workspace, interruption)
        self._shards, self._number = shards, number
        self.is_part = True

    def _open(self) -> None:
        self.stdin, write_end = self.workspace.pipe()
        if self._number == 0:  # it tells of what all of them see
            if self._shards.content.passes_through:
                self._shards.feed.beside = self.screen.look_along()
            else:
                self.screen.look_at(os.open(self.source.files[0], os.O_RDONLY | os.O_CLOEXEC))
            self.size = self._shards.content.size
        self._shards.feed.attach(self._number, write_end)

    @property
    def position(self) -> int:
        return self._shards.feed.position

    def interrupt(self) -> None:
        super().interrupt()
        self._shards.feed.stop()
        self.screen.stop()
