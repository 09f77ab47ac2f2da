"""What an engine is: the `Engine` of a statistic, the `Task` for one request, and the `Part` in one pass.

A run uses only these three and no engine by name. A new engine is a new module next to this one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:
    from sharkstat.engines.headers import OfIntervals, OfMessages, OfWays
    from sharkstat.tables.column import Column, Row
    from sharkstat.tshark.output import Output
    from sharkstat.tshark.records import Records

Layer = Literal["transport", "http", "messages", "application"]
Prints = Literal["", "text", "packets"]
Split = Literal["whole", "hosts"]


class Rank(NamedTuple):
    """One step of an order of rows: by the values of a column, where none is the least value of all or 0."""

    column: Column
    descending: bool = False
    none_is_zero: bool = False


@dataclass(frozen=True)
class FirstRows:
    """Only the first `count` rows of a result are wanted, in the order of `ranks`; `final` says, of the final one, too.

    With `rest`, what the others add up to is wanted, too, as a row.

    An engine may leave out the others, if it gives all rows that are equal to the last of them, rows in the order in
    which they came, and what the `Result` says of all: the sums of `totals`, and which rows are `omitted`.
    """

    count: int
    ranks: tuple[Rank, ...]
    totals: tuple[Column, ...] = ()
    final: bool = True
    rest: bool = False


@dataclass(frozen=True)
class Question:
    """One request, as an engine sees it.

    `text` is the whole request, `name` the statistic's, `arguments` what follows it; `columns` are the table's for
    these arguments, `display_filter` the run's (-Y), and `resolve` its letters for names (-N). `by_flow` says that rows
    are to be kept apart by connection. `values` has the value of each parameter of the statistic,
    `rest` what follows them: the display filter. `first` says that not all rows are wanted; `most` is how many rows the
    table may have.
    """

    text: str
    name: str
    arguments: str
    columns: tuple[Column, ...]
    display_filter: str = ""
    resolve: str = ""
    by_flow: bool = False  # rows are kept apart by connection
    values: Mapping[str, Any] = field(default_factory=dict)
    rest: str = ""
    first: FirstRows | None = None
    most: int | None = None

    @property
    def counted(self) -> tuple[Column, ...]:
        """The columns whose values the engine gives."""
        return tuple(column for column in self.columns if column.role != "derived")


class Engine(ABC):
    """One way to count a statistic. A `Statistic` has one or more `engines`; the first is the default.

    `name` is its name for --engine. `own` says whether sharkstat or a plugin counts, rather than tshark. `resolve` has
    tshark's name resolution flags (-N) if it shows nothing without names. `file` is the Lua file that also counts in
    plain tshark. `instead` is the engine that takes its place where it cannot count, or need not. `shares` says that
    requests for one statistic share much of their work, if they are counted in one pass.
    """

    name: ClassVar[str]
    own: ClassVar[bool] = True
    by_flow: ClassVar[bool] = False
    resolve: str = ""
    file: Path | None = None
    instead: Engine | None = None
    shares: bool = False

    @abstractmethod
    def ask(self, question: Question) -> Task:
        """What is to be done for one request in one pass. RequestError where it cannot be asked."""


@dataclass
class Task:
    """One request on one engine, in one pass.

    `layer` says how far up the layers it looks, where `reads`, the names of fields and filters, does not say more;
    `split` says how the packets may be dealt out to several tsharks, whose rows are then put together: "hosts" where
    those of two hosts must stay together, "whole" where all must. `plain` says what can be counted of plain TCP and UDP
    from headers alone, so that the rest is to be read.
    It `knows_networks` if it separates connections of several virtual networks, which tshark takes for one.
    `remarks` are for the user, before the run; `speakers` begin a message that the user can understand as it is.
    """

    part: ClassVar[type[Part]]

    question: Question
    layer: Layer = "transport"
    reads: Sequence[str] = ()
    remarks: tuple[str, ...] = ()
    split: Split = "whole"
    plain: OfWays | OfIntervals | OfMessages | None = None
    knows_networks: bool = False

    @property
    def speakers(self) -> tuple[str, ...]:
        return (self.question.name,)


@dataclass
class Result:
    """What came of a task: the table's columns and rows, not yet derived.

    `unread` says that the rows are the lines of a text that nothing could read; `capped` that a bound kept some rows,
    or values of sets, from being told apart. `flows` has the number of each row's connection, where rows are by flow.
    Of a result without all rows (`FirstRows`), `omitted` is how many are not there, `totals` the sums of all by column,
    and `replaced` in how many of all tshark replaced bytes of a key. `rest` is what `left` others add up to, where they
    have no rows.
    """

    columns: tuple[Column, ...]
    rows: list[Row]
    warnings: tuple[str, ...] = ()
    unread: bool = False
    capped: bool = False
    flows: Sequence[int | None] = ()
    omitted: int = 0
    totals: Mapping[str, int] = field(default_factory=dict)
    replaced: int | None = None
    rest: Row | None = None
    left: int = 0


class Part(ABC):
    """What one kind of engine does in one pass, for all tasks that it has there, by the number of their request.

    `prints` says what it reads of tshark's standard output: nothing, text, or packets (as PDML, with text between).
    """

    prints: Prints = ""

    @abstractmethod
    def __init__(self, tasks: Mapping[int, Task]) -> None:
        """RequestError where these tasks do not go together in one pass."""

    def options(self) -> Sequence[str]:
        """What it adds to tshark's command line."""
        return ()

    def files(self) -> Iterable[tuple[int, Path]]:
        """The Lua files that tshark needs, each with the number of a request that does."""
        return ()

    def job(self, files: Mapping[Path, Path]) -> Iterable[tuple[str, ...]]:
        """The lines that it adds to the host's job; `files` says where each file is for tshark."""
        return ()

    def start(self, records: Records, output: Output) -> Mapping[bytes, Callable[[bytes], None]]:
        """tshark has started. Gives what takes each kind of record (as b"R") that is this engine's own."""
        return {}

    def ready(self) -> None:
        """The host has taken every filter and field; the first packet follows."""
        return

    def finish(self) -> None:
        """tshark has come to its end. TsharkError where something of it did not come."""
        return

    @abstractmethod
    def result(self, number: int, last_words: str, so_far: bool = False) -> Result:
        """What came of the task of that number; `last_words` are tshark's. Any exception is the statistic's failure.

        With `so_far` more will come, and be counted on: it must not matter that it was asked.
        """

    @property
    def suspects(self) -> Sequence[str]:
        """What may be at fault where tshark aborts."""
        return ()
