"""`sharkstat.packets`: the packets of a source, one after the other, without a statistic."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sharkstat.engines.engine import Question
from sharkstat.engines.packets import Listen, PacketCounter, Packets
from sharkstat.errors import RequestError, SourceError
from sharkstat.running.interruption import Interruption
from sharkstat.running.plan import Plan, Request
from sharkstat.running.runner import run_plan
from sharkstat.running.source import Options, Source
from sharkstat.statistics.statistic import Statistic
from sharkstat.tables.column import Column, Value
from sharkstat.tshark.process import find_tshark

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from sharkstat.engines.packet import Packet

_WAITING = 1024  # packets that are decoded before they are taken
_END = object()


class _Taker(PacketCounter):
    """Hands packets over to whoever iterates; waits where they are not taken."""

    listens = (Listen(),)

    def __init__(self, fields: Sequence[str] | None) -> None:
        self.fields = fields
        self.decoded: queue.Queue[Any] = queue.Queue(_WAITING)
        self.left = threading.Event()
        self._last = 0

    def packet(self, packet: Packet) -> None:
        if self._last < (number := int(packet.number)):  # what is read anew was handed over already
            self._last = number
            self.hand_over(packet)

    def hand_over(self, one: object) -> None:
        while not self.left.is_set():
            with contextlib.suppress(queue.Full):
                self.decoded.put(one, timeout=0.1)
                return

    def rows(self) -> Iterable[Sequence[Value]]:
        return ()


class _EachPacket(Statistic):
    name = "packets"
    title = "Packets"

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return ()


def packets(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Source,
    fields: Sequence[str] | None = (),
    **options: Unpack[Options],
) -> Iterator[Packet]:
    """The decoded packets of a source, one after the other, while tshark reads on.

    `fields` are what the packets carry, by Wireshark's names; None gives whole packets, as pyshark's own capture does,
    and as slowly. `source` and `options` are those of `sharkstat.run`. Leaving the loop early ends tshark.

    Each is a `Packet`: `packet.value("ip.src")`, `packet.values("dns.a")`, `packet.ip.src`, `packet.time_ns`,
    `packet.length`. A SourceError is raised after the last packet if the source was cut short, a SharkstatError before
    the first one if it cannot be read.

    >>> import sharkstat
    >>> for packet in sharkstat.packets("tests/data/dns.pcapng", ["dns.qry.name"], display_filter="dns"):
    ...     print(packet.number, packet.value("dns.qry.name"))
    ...     break
    4 www.example.net
    """
    wanted = Source.of(source, options)
    if isinstance(fields, str):
        raise RequestError(f"fields is a list of names: [{fields!r}]")
    wanted.check()
    taker = _Taker(fields)
    engine = Packets(lambda _: taker)
    statistic = _EachPacket()
    statistic.engines = (engine,)
    question = Question("packets", "packets", "", (), wanted.display_filter, wanted.resolvers)
    plan = Plan(wanted, [Request(statistic, engine, question, (), engine.ask(question))])
    return _each(plan, taker)


def _each(plan: Plan, taker: _Taker) -> Iterator[Packet]:
    interruption = Interruption()
    ends: list[BaseException] = []

    def read() -> None:
        try:
            [table] = run_plan(plan, find_tshark(), interruption=interruption)
            if not table.complete:
                ends.append(SourceError("; ".join(table.warnings) or "not all packets of the source were read"))
        except BaseException as problem:
            ends.append(problem)
        finally:
            taker.hand_over(_END)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        while (packet := taker.decoded.get()) is not _END:
            yield packet
    finally:
        taker.left.set()
        if thread.is_alive():
            interruption.tell()  # the first ends the reading, the second tshark
            interruption.tell()
        thread.join()
    if ends:
        raise ends[0]
