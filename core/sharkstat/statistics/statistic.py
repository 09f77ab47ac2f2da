"""What a plugin author implements: a `Statistic`, which describes a table and has engines that count it.

import sharkstat

class Hosts(sharkstat.Statistic):
    name = "hosts,sent"
    title = "Packets sent by each host"
    engines = (sharkstat.Packets(HostCounter),)

    def columns(self, arguments):
        return (sharkstat.Column("address", "address", role="key"),
                sharkstat.Column("packets", "integer", unit="packets"))

@sharkstat.hookimpl
def register_statistics(register):
    register(Hosts())
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import pluggy

from sharkstat.errors import MergeError, RequestError

if TYPE_CHECKING:
    from sharkstat.engines.engine import Engine
    from sharkstat.statistics.parameter import Parameter
    from sharkstat.statistics.section import Check, HealthFinding, Section
    from sharkstat.tables.column import Column, Row
    from sharkstat.tables.table import Table

# What makes an output of tables, in pieces of text or bytes.
Exporter: TypeAlias = "Callable[[Sequence[Table]], Iterable[str | bytes]]"


class RegisterExporter(Protocol):
    """What the hook `register_exporters` is given."""

    def __call__(self, format: str, exporter: Exporter, /, ending: str = "") -> None: ...


hookspec = pluggy.HookspecMarker("sharkstat")
hookimpl = pluggy.HookimplMarker("sharkstat")


class Hooks:
    """The hooks that a plugin may implement, in a module or object, marked with `hookimpl`."""

    @hookspec
    def register_statistics(self, register: Callable[[Statistic], None]) -> None:
        """Call `register(statistic)` once for every statistic of the plugin."""

    @hookspec
    def register_families(self, register: Callable[[str, Callable[[str], Statistic | None]], None]) -> None:
        """Call `register(family, take)` for every family of tshark's own statistics that the plugin reads.

        `take` is called with a name that the installed tshark lists (`tshark -z help`). It returns the statistic for
        that name, or None if the name belongs to another family.
        """

    @hookspec
    def register_exporters(self, register: RegisterExporter) -> None:
        """Call `register(format, exporter)` for every output format of the plugin.

        An exporter takes the tables and yields pieces of text or bytes. Its files end in the format's name, or in
        `ending`: `register("sheet", exporter, ending="xlsx")`.
        """


class Statistic(ABC):
    """A statistic for -z.

    `name` is its name after -z, `title` its heading, `description` a paragraph for `sharkstat show`. `usage` is the
    grammar of its arguments, `parameters` are its NAME=VALUE arguments, and `example` has arguments to show it with if
    it needs some. `family` is the family of tshark's own statistics that it belongs to.

    `engines` are the ways to count it, each with the same columns: a `Tap` in Lua, `Packets` in Python, or
    `TsharkText`. The first one is used unless --engine is given.

    `by_connection` says that its tap can split rows by connection, so that --process can find their owner; "only" means
    that it has no use otherwise.

    With a `section` it is part of `sharkstat overview`, which also shows its `findings`, by default those of `checks`.
    """

    name: str = ""
    title: str = ""
    description: str = ""
    usage: str = ""
    parameters: Sequence[Parameter] = ()
    example: str = ""
    family: str = ""
    engines: Sequence[Engine] = ()
    by_connection: Literal["", "also", "only"] = ""
    section: Section | None = None
    checks: Sequence[Check] = ()

    @abstractmethod
    def columns(self, arguments: str) -> tuple[Column, ...]:
        """The table's columns for these arguments (the text after the name). Raises RequestError if they are invalid.

        Columns that are not derived must be in the order in which the engines give their values.
        """

    def read(self, arguments: str) -> tuple[dict[str, Any], str]:
        """The value of each of the `parameters`, and what follows them: the display filter. RequestError if bad."""
        from sharkstat.statistics.parameter import read_arguments

        return read_arguments(self.name, arguments, self.parameters) if self.parameters else ({}, arguments)

    def filters(self, arguments: str) -> Sequence[str]:
        """The display filters in the arguments. By default, what follows the parameters is one."""
        rest = self.read(arguments)[1]
        return (rest,) if rest.strip() else ()

    def follows_time(self, arguments: str, engine: Engine) -> bool:
        """Whether its numbers depend on packets being in time order; the run then warns if they are not.

        True by default. Counts of headers do not depend on it; response times and anything that reassembles TCP do.
        """
        return True

    def derive(self, table: Table) -> None:
        """Compute the derived columns of every row from its measures.

        By default, those with a `ratio`, `size_of`, `percentile` or `rate`.
        """
        first, last = table.reading.first, table.reading.last
        span = None if first is None or last is None else last - first
        derived = [column for column in table.columns if column.computed]
        names = {column.name for column in derived}
        derived.sort(key=lambda column: not names.isdisjoint(column.made_of))  # a quotient of means comes after them
        for row in table.rows if derived else ():
            for column in derived:
                row[column.name] = column.derived_from(row, span)

    def order(self, table: Table) -> None:
        """Sort the rows into their default order."""
        return

    def ranking(self, arguments: str) -> Sequence[str]:
        """The beginning of `order`, where it is one of columns: "COLUMN", "COLUMN descending".

        Then --top need not wait for all rows: those behind the first never leave tshark. No value is the least of
        all; "COLUMN descending, none is 0" says otherwise. It also says that `derive` looks at each row by itself.
        By default nothing is said, and tables are whole before they are put in order.
        """
        return ()

    def bound(self, arguments: str) -> int | None:
        """How many rows its table has at most, in the order of `order`; one more adds up the others, `(other)`.

        None, the default, bounds nothing. A tap that bounds its rows itself (rows.lua) needs no other bound.
        """
        return None

    def findings(self, table: Table) -> Iterable[HealthFinding]:
        """The problems that the table shows, for the overview. By default, those of `checks`."""
        for check in self.checks:
            yield from check.of(table)

    def facts(self, table: Table) -> Iterable[str]:
        """Facts about the capture as a whole, a few words each, for the first lines of the overview."""
        return ()

    def joins_packets(self, request: str) -> bool:
        """Whether it counts connections, requests or messages, whose packets may lie in two captures."""
        arguments = request.strip()[len(self.name) :].lstrip().removeprefix(",")
        return self.follows_time(arguments, self.engine())

    def align(self, tables: Sequence[Table]) -> Sequence[Sequence[Row]]:
        """The rows of the tables, so that rows with equal keys can be combined. Raises MergeError if they cannot."""
        return [table.rows for table in tables]

    def align_shards(self, tables: Sequence[Table]) -> Sequence[Sequence[Row]]:
        """The same for tables of one capture, whose packets were dealt out by their hosts."""
        return self.align(tables)

    def engine(self, name: str = "") -> Engine:
        """The engine of this name; the first one for "". Raises RequestError if there is none."""
        for engine in self.engines:
            if name in ("", engine.name):
                return engine
        names = " or ".join(engine.name for engine in self.engines)
        raise RequestError(f"{self.name} has no engine {name}: use --engine {names}")

    def refuse_arguments(self, arguments: str) -> RequestError:
        return RequestError(f"{self.name} takes no arguments: leave out {arguments!r}")

    def refuse_merge(self, reason: str) -> MergeError:
        return MergeError(f"{self.name} cannot be merged: {reason}")


def sort_rows(table: Table, key: Callable[[Row], Any], descending: bool = False) -> None:
    """Sort a table's rows in place, e.g. in `Statistic.order`."""
    table.rows.sort(key=key, reverse=descending)
