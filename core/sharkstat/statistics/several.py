"""A statistic that is several tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sharkstat.statistics.statistic import Statistic
from sharkstat.tables.column import Column


class Several(Statistic):
    """A statistic that gives the tables of several others, counted in one pass.

    import sharkstat

    class Lookups(sharkstat.Several):
        name = "dns,report"
        title = "DNS at a glance"
        statistics = (Domains(), LateAnswers())

    Its arguments go to each of them. They are registered with it, and can also be asked for by their own names. The
    constructor raises ValueError if there are none.
    """

    statistics: Sequence[Statistic] = ()

    def __init__(self) -> None:
        if not self.statistics or not all(isinstance(part, Statistic) for part in self.statistics):
            raise ValueError(
                f"{type(self).__name__}: statistics = {self.statistics!r:.60}: give objects, e.g. (Domains(), Late())"
            )
        names = [{engine.name for engine in part.engines} for part in self.statistics]
        of_all = set.intersection(*names)
        self.engines = tuple(engine for engine in self.statistics[0].engines if engine.name in of_all)
        parts = ", ".join(part.name for part in self.statistics)
        self.usage = self.usage or f"{self.name}[,ARGUMENTS]"
        self.description = self.description or f"The tables of {parts}, with the same arguments."

    def columns(self, arguments: str) -> tuple[Column, ...]:
        """None: its tables have their own."""
        return ()

    def requests(self, arguments: str) -> Iterator[tuple[str, Statistic]]:
        """The requests that it stands for, each with its statistic."""
        for part in self.statistics:
            if isinstance(part, Several):
                yield from part.requests(arguments)
            else:
                yield (f"{part.name},{arguments}" if arguments else part.name), part
