"""What a plugin author implements: a `Statistic`, which says what the table is, and has engines that count it.

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
from typing import TYPE_CHECKING, Any, Literal

import pluggy

from sharkstat.errors import MergeError, RequestError

if TYPE_CHECKING:
    from sharkstat.engines.engine import Engine
    from sharkstat.statistics.parameter import Parameter
    from sharkstat.statistics.section import Check, HealthFinding, Section
    from sharkstat.tables.column import Column, Row
    from sharkstat.tables.table import Table

hookspec = pluggy.HookspecMarker("sharkstat")
hookimpl = pluggy.HookimplMarker("sharkstat")


class Hooks:
    """The hooks that a plugin may implement, in a module or an object, marked with `hookimpl`."""

    @hookspec
    def register_statistics(self, register: Callable[[Statistic], None]) -> None:
        """Call `register(statistic)` once for every statistic that the plugin brings."""

    @hookspec
    def register_families(self, register: Callable[[str, Callable[[str], Statistic | None]], None]) -> None:
        """Call `register(family, take)` for every family of tshark's own statistics that the plugin reads.

        `take` is called with a name that the installed tshark lists (`tshark -z help`), and gives the
        statistic for it, or None for a name of another family.
        """

    @hookspec
    def register_exporters(self, register: Callable[[str, Callable[[Sequence[Table]], Iterable[str]]], None]) -> None:
        """Call `register(format, exporter)` for every output format that the plugin brings."""


class Statistic(ABC):
    """A statistic that can be asked for with -z.

    `name` is what is asked for, `title` a heading, `description` a paragraph for `sharkstat show`,
    `usage` its argument grammar, `parameters` those of its arguments that are NAME=VALUE, `example` arguments, where
    it needs some; `family` names the family of tshark's own statistics that it belongs to.

    `engines` are the ways to count it, each with the same columns: a `Tap` in Lua, `Packets` in Python, or
    `TsharkText`. Without --engine, the first one runs.

    `by_connection` says that its tap can keep rows apart by connection, so that --process can tell whose they are;
    "only", that it tells nothing without that.

    With a `section` it is a part of `sharkstat overview`, which also tells its `findings`: those of its `checks`.
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
        """The table's columns for these arguments (what follows the name); RequestError if they are bad.

        Columns that are not derived come in the order in which the engines give their values.
        """

    def filters(self, arguments: str) -> Sequence[str]:
        """The display filters in the arguments. By default the arguments are one."""
        return (arguments,) if arguments.strip() else ()

    def follows_time(self, arguments: str, engine: Engine) -> bool:
        """Whether its numbers depend on the packets being in time order: the run then warns where they are not.

        By default they do. Counts of headers do not; response times and whatever needs TCP's payload put together do.
        """
        return True

    def derive(self, table: Table) -> None:
        """Set the derived columns of every row of the table, from its measures.

        By default those that have a `ratio` or `size_of`.
        """
        derived = [column for column in table.columns if column.ratio or column.size_of]
        for row in table.rows if derived else ():
            for column in derived:
                row[column.name] = column.derived_from(row)

    def order(self, table: Table) -> None:
        """Put the rows in the order in which they are shown by default."""
        return

    def findings(self, table: Table) -> Iterable[HealthFinding]:
        """What is wrong, going by its table; for the overview. By default what `checks` say."""
        for check in self.checks:
            yield from check.of(table)

    def facts(self, table: Table) -> Iterable[str]:
        """What its table says of the capture as a whole, in a few words each; for the first lines of the overview."""
        return ()

    def align(self, tables: Sequence[Table]) -> Sequence[Sequence[Row]]:
        """The rows of the tables, such that rows of equal key may be combined. MergeError if they cannot."""
        return [table.rows for table in tables]

    def engine(self, name: str = "") -> Engine:
        """The engine of that name; "" takes the first. RequestError where there is none."""
        for engine in self.engines:
            if name in ("", engine.name):
                return engine
        names = " or ".join(engine.name for engine in self.engines)
        raise RequestError(f"{self.name} does not run on {name}: take --engine {names}")

    def refuse_arguments(self, arguments: str) -> RequestError:
        return RequestError(f"{self.name} takes no arguments: leave out {arguments!r}")

    def refuse_merge(self, reason: str) -> MergeError:
        return MergeError(f"{self.name} cannot be merged: {reason}")


def sort_rows(table: Table, key: Callable[[Row], Any], descending: bool = False) -> None:
    """Sort a table's rows in place; for `Statistic.order`."""
    table.rows.sort(key=key, reverse=descending)
