"""Counting in Python: tshark sends the packets and fields that counters ask for."""

from __future__ import annotations

import copy
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from sharkstat.engines.engine import Engine, Part, Prints, Question, Result, Task
from sharkstat.errors import RequestError
from sharkstat.tables.column import Column, Row, Type, Value, check_keys, check_types, typed
from sharkstat.tshark.records import Failure, Records, described, split

if TYPE_CHECKING:
    from sharkstat.engines.feed import Feed
    from sharkstat.engines.packet import Packet
    from sharkstat.tshark.output import Output


MOST_WARNINGS = 10  # of one table


@dataclass(frozen=True)
class Listen:
    """A tshark tap that a packet counter listens to.

    `tap` is "frame" (once per packet) or a protocol's tap ("eth", "ip", "ipv6", "tcp", "udp", "http"), which tshark
    calls once per header or message; `filter` is a display filter that the packet must match; `info` names values of
    the tap's info, as tshark gives them to Lua ("ip_src", "th_sport", ...), or the packet's addresses and ports
    ("pinfo.src", "pinfo.dst", "pinfo.src_port", "pinfo.dst_port"). ValueError for a name that the info does not have.
    """

    tap: str = "frame"
    filter: str = ""
    info: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.info:
            from sharkstat.engines.tap_info import check

            check(self.tap, self.info)


class PacketCounter(ABC):
    """Counts decoded packets in Python for one request.

    `listens` selects the packets, `fields` the fields they carry. `fields` = None gives complete packets, like
    pyshark's own capture, but this is very slow. Of the fields in `named`, the names of their values are told in
    `Table.names`, for columns with the same `Column.named`. Before the first packet, `types` is set to the fields'
    types, in tshark's terms ("UINT32", "RELATIVE_TIME"). A counter `knows_networks` that separates connections of
    several virtual networks (VLANs) with the same addresses and ports, which tshark takes for one.
    """

    listens: Sequence[Listen] = (Listen(),)
    fields: Sequence[str] | None = ()
    named: Sequence[str] = ()
    knows_networks: bool = False
    types: Mapping[str, str] = MappingProxyType({})
    _warned: tuple[str, ...] = ()
    _not_told = 0

    def warn(self, text: str) -> None:
        """Add a warning to the table, e.g. in `packet` or `rows`: a sentence. The same sentence is there once.

        After the first ten different ones, only their number is told.
        """
        if text in self._warned:
            return
        if len(self._warned) < MOST_WARNINGS:
            self._warned = (*self._warned, text)
        else:
            self._not_told += 1

    @property
    def warnings(self) -> Sequence[str]:
        """What `warn` was called with."""
        more = f"and {self._not_told} more warnings" if self._not_told else ""
        return (*self._warned, *([more] if more else []))

    def begin(self) -> None:
        """Called once, after `types` is set and before the first packet. A RequestError ends the run."""
        return

    @abstractmethod
    def packet(self, packet: Packet) -> None:
        """Count one packet. Called once for each packet that any of `listens` matches."""

    @abstractmethod
    def rows(self) -> Iterable[Sequence[Value]]:
        """The rows: values in the order of the statistic's columns, without derived ones.

        In a watched live run, this is called on copies of the counter (copy.deepcopy) while packets arrive.
        """

    def others(self) -> tuple[Sequence[Value], int] | None:
        """What more rows add up to, of which `rows` has none, and how many they are: for a statistic with a `bound`."""
        return None

    def column_types(self) -> Sequence[Type] | None:
        """The types of these columns, if they depend on the requested fields."""
        return None


class Packets(Engine):
    """An engine that counts decoded packets in Python.

    `counter` makes a new `PacketCounter` from a request's arguments; usually it is the class itself.
    If the statistic has `parameters`, it gets the display filter, and the value of each parameter by its name:

        class SlowCounter(sharkstat.PacketCounter):
            def __init__(self, filter: str, over: int) -> None: ...

        engines = (sharkstat.Packets(SlowCounter),)
    """

    name = "packets"

    def __init__(self, counter: Callable[..., PacketCounter]) -> None:
        self.counter = counter

    def ask(self, question: Question) -> PacketsTask:
        if question.values:
            counter = self.counter(question.rest, **question.values)
        else:
            counter = self.counter(question.arguments)
        if isinstance(counter.fields, str):
            raise ValueError(f"fields = ({counter.fields!r}) is one text: write fields = ({counter.fields!r},)")
        reads = [text for listen in counter.listens for text in (listen.tap, listen.filter)]
        if counter.fields is not None:
            reads += counter.fields
            return PacketsTask(question, "transport", reads, counter=counter, knows_networks=counter.knows_networks)
        remark = (
            f"{question.text}: complete packets are slow (some hundred per second): declare in "
            f'{type(counter).__name__} which fields it reads, e.g. fields = ("ip.src", "tcp.len")'
        )
        return PacketsTask(question, "application", reads, (remark,), counter=counter)


class PacketsPart(Part):
    """The counters of one pass: what they ask for goes through one feed."""

    def __init__(self, tasks: Mapping[int, PacketsTask]) -> None:
        self.counters = {number: task.counter for number, task in tasks.items()}
        self.fields = list(dict.fromkeys(name for c in self.counters.values() for name in c.fields or ()))
        self.types: dict[str, str] = {}
        self._tasks = tasks
        self.prints: Prints = "packets" if any(c.fields is None for c in self.counters.values()) else ""

    def options(self) -> Sequence[str]:
        return ("-T", "pdml") if self.prints else ()

    def job(self, files: Mapping[Path, Path]) -> Iterable[tuple[str, ...]]:
        if self.prints:
            yield ("prompt",)
        for number, counter in self.counters.items():
            yield from (("listen", str(number), one.tap, one.filter, *one.info) for one in counter.listens)
        named = {name for counter in self.counters.values() for name in counter.named}
        yield from (("field", name, *(["named"] if name in named else [])) for name in self.fields)

    def start(self, records: Records, output: Output) -> Mapping[bytes, Callable[[bytes], None]]:
        from sharkstat.engines.feed import Feed  # and pyshark: tshark starts while they are imported

        self._records = records
        for counter in self.counters.values():
            counter.types = self.types
        self._feed: Feed = Feed(self.counters, self.fields, records, output)
        return {
            b"P": self._feed.packet,
            b"F": self._take_type,
            b"S": lambda line: output.pass_over(int(line[2:])),
        }

    def _take_type(self, line: bytes) -> None:
        _, name, kind = split(line)
        self.types[name] = kind

    def ready(self) -> None:
        """The types of the fields are known. RequestError where a counter cannot count them."""
        for number, counter in self.counters.items():
            try:
                counter.begin()
            except RequestError:
                raise
            except Exception as problem:
                self._records.failures[str(number)] = Failure(described(problem), traceback=traceback.format_exc())

    def result(self, number: int, last_words: str, so_far: bool = False) -> Result:
        task = self._tasks[number]
        # Many a counter settles in `rows` what is still open.
        counter = copy.deepcopy(task.counter) if so_far else task.counter
        columns = typed(task.question.columns, counter.column_types())
        counted = [column for column in columns if column.role != "derived"]
        empty: Row = dict.fromkeys((c.name for c in columns), None)
        rows = [{**empty, **self._row(counted, values)} for values in counter.rows()]
        check_keys(columns, rows)
        said = (f"{task.question.text}: {text}" for text in counter.warnings)
        result = Result(columns, rows, (*task.remarks, *said))
        if others := counter.others():
            values, result.left = others
            result.rest = {**empty, **self._row(counted, values)}
        return result

    def _row(self, columns: Sequence[Column], values: Sequence[Value]) -> Row:
        if len(values) != len(columns):
            names = [c.name for c in columns]
            raise ValueError(f"a row has {len(values)} values for the {len(columns)} columns {names}")
        check_types(columns, values)
        timeless = self._records.base_ns is None
        return {c.name: None if c.type == "time" and timeless else v for c, v in zip(columns, values, strict=True)}


@dataclass(kw_only=True)
class PacketsTask(Task):
    """A request for a counter in Python."""

    part: ClassVar[type[Part]] = PacketsPart

    counter: PacketCounter
