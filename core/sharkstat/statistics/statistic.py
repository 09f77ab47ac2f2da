"""What a plugin author implements: a `Statistic`, and a `PacketCounter` where it runs in Python.

import sharkstat

class Hosts(sharkstat.Statistic):
    name = "hosts,sent"
    title = "Packets sent by each host"

    def columns(self, arguments):
        return (sharkstat.Column("address", "address", role="key"),
                sharkstat.Column("packets", "integer", unit="packets"))

    def counter(self, arguments):
        return HostCounter(arguments)

@sharkstat.hookimpl
def register_statistics(register):
    register(Hosts())
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import pluggy

from sharkstat.errors import MergeError, RequestError, TextError

if TYPE_CHECKING:
    from sharkstat.statistics.packet import Packet
    from sharkstat.statistics.parameter import Parameter
    from sharkstat.tables.column import Column, Row, Type, Value
    from sharkstat.tables.table import Table

Layer = Literal["transport", "http", "messages", "application"]

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


@dataclass(frozen=True)
class Listen:
    """One tap of tshark's that a packet counter listens to.

    `tap` is "frame" (every packet once) or a protocol's tap ("eth", "ip", "ipv6", "tcp", "udp",
    "http"), which tshark announces once for every header or message that counts; `filter` is a
    display filter that the packet must match; `info` names what the tap itself says of each, as
    tshark gives it to Lua ("ip_src", "th_sport", ...), or the packet's own addresses ("pinfo.src",
    "pinfo.dst").
    """

    tap: str = "frame"
    filter: str = ""
    info: tuple[str, ...] = ()


class PacketCounter(ABC):
    """Counts decoded packets in Python for one request.

    `listens` says which packets are wanted; `fields` which fields they carry. `fields` = None asks
    for whole packets, as pyshark's own capture gives them: everything is there, very slowly. Before the
    first packet, `types` is set to the types of the fields, in tshark's words ("UINT32", "RELATIVE_TIME").
    """

    listens: Sequence[Listen] = (Listen(),)
    fields: Sequence[str] | None = ()
    types: Mapping[str, str] = MappingProxyType({})

    def begin(self) -> None:
        """Called once, when `types` is set and before the first packet. RequestError ends the run."""
        return

    @abstractmethod
    def packet(self, packet: Packet) -> None:
        """Count one packet; it is called once a packet that any of `listens` takes."""

    @abstractmethod
    def rows(self) -> Iterable[Sequence[Value]]:
        """The rows: values in the order of the statistic's columns that are not derived."""

    def column_types(self) -> Sequence[Type] | None:
        """The types of those columns, where they depend on the fields that were asked for."""
        return None


@dataclass(frozen=True)
class Parsed:
    """What a text of tshark's says: rows, in the order of `columns` (those that are not derived).

    Times are nanoseconds since the capture's first packet. Without `columns`, they are the statistic's own.
    """

    rows: Sequence[Sequence[Value]]
    columns: tuple[Column, ...] = ()
    warnings: tuple[str, ...] = ()


class Statistic(ABC):
    """A statistic that can be asked for with -z.

    `name` is what is asked for, `title` a heading, `description` a paragraph for `sharkstat show`,
    `usage` its argument grammar, `parameters` those of its arguments that are NAME=VALUE. `tap` is
    the Lua file of a tap that registers the same name, for the lua engine. `layer` is "transport"
    where neither the numbers nor the names that it gives depend on anything above TCP and UDP,
    "http" where they depend on HTTP but not on what its bodies hold, "messages" where they depend on
    any protocol but not on pages, scripts, images and the like in the bodies of HTTP: tshark is then
    spared the work above.

    `family` names the family of tshark's own statistics that it belongs to. For the tshark engine: `takes_filter`
    says whether tshark takes a display filter at the end of its arguments; `prints_at_once` whether it
    prints while packets are read, `once` whether it counts but once a run; `resolve` has tshark's letters
    (-N) for the names without which it shows nothing. `example` are arguments, where it needs some. `doubts` are
    display filters for packets whose content, printed raw, could mislead the reader of tshark's text: where one comes,
    the text is shown unparsed; a filter with a field that this tshark has not takes none. `tshark` is set to the
    version of the tshark that printed, before `parse` is called.
    """

    name: str = ""
    title: str = ""
    description: str = ""
    usage: str = ""
    parameters: Sequence[Parameter] = ()
    tap: Path | None = None
    layer: Layer = "application"
    family: str = ""
    takes_filter: bool = True
    prints_at_once: bool = False
    once: bool = False
    example: str = ""
    resolve: str = ""
    doubts: Sequence[str] = ()
    tshark: str = ""

    @abstractmethod
    def columns(self, arguments: str) -> tuple[Column, ...]:
        """The table's columns for these arguments (what follows the name); RequestError if they are bad.

        Columns that are not derived come in the order in which the engines give their values.
        """

    def filters(self, arguments: str) -> Sequence[str]:
        """The display filters in the arguments. By default the arguments are one."""
        return (arguments,) if arguments.strip() else ()

    def tap_fields(self, arguments: str) -> Sequence[str]:
        """The fields that its tap reads, where `layer` alone does not say how far up the layers it looks."""
        return ()

    def follows_time(self, arguments: str, engine: str) -> bool:
        """Whether its numbers depend on the packets being in time order: the run then warns where they are not.

        By default they do. Counts of headers do not; response times and whatever needs TCP's payload put together do.
        """
        return True

    def tap_call(self, arguments: str) -> tuple[str, str]:
        """The name and arguments with which the tap is started. By default its own."""
        return self.name, arguments

    def counter(self, arguments: str) -> PacketCounter | None:
        """A new counter for the packets engine; None where there is none."""
        return None

    def native(self, arguments: str, display_filter: str) -> str:
        """What follows tshark's -z for the tshark engine, with the run's display filter in it.

        By default the arguments are a filter. RequestError where tshark's statistic takes none.
        """
        if not self.takes_filter and display_filter:
            raise RequestError(f"tshark's {self.name} takes no filter: leave out -Y, or read with -2 -R FILTER")
        if not self.takes_filter:
            return f"{self.name},{arguments}" if arguments else self.name
        return ",".join(filter(None, (self.name, both_filters(display_filter, arguments))))

    def parse(self, text: bytes, arguments: str) -> Parsed:
        """Read what tshark's own statistic printed. TextError where its layout is not the one that is known."""
        raise TextError(f"{self.name} is none of tshark's own statistics")

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

    def align(self, tables: Sequence[Table]) -> Sequence[Sequence[Row]]:
        """The rows of the tables, such that rows of equal key may be combined. MergeError if they cannot."""
        return [table.rows for table in tables]

    @property
    def engines(self) -> tuple[str, ...]:
        has = {
            "lua": self.tap is not None,
            "packets": type(self).counter is not Statistic.counter,
            "tshark": type(self).parse is not Statistic.parse,
        }
        return tuple(engine for engine, there in has.items() if there)

    def refuse_arguments(self, arguments: str) -> RequestError:
        return RequestError(f"{self.name} takes no arguments: leave out {arguments!r}")

    def refuse_merge(self, reason: str) -> MergeError:
        return MergeError(f"{self.name} cannot be merged: {reason}")


def both_filters(one: str, other: str) -> str:
    """A display filter that takes what both take; "" takes everything.

    >>> both_filters("ip", "tcp || udp"), both_filters("", "tcp")
    ('(ip) && (tcp || udp)', 'tcp')
    """
    given = [text for text in (one.strip(), other.strip()) if text]
    return " && ".join(f"({text})" for text in given) if len(given) > 1 else "".join(given)


def sort_rows(table: Table, key: Callable[[Row], Any], descending: bool = False) -> None:
    """Sort a table's rows in place; for `Statistic.order`."""
    table.rows.sort(key=key, reverse=descending)
