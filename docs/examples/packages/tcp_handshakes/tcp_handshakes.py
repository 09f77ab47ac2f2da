"""tcp,handshakes: how long each server takes to accept a connection, and how often it does not."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import sharkstat


@dataclass
class Handshake:
    """One connection, as far as it came: nanoseconds since the capture's first packet."""

    client: tuple[str, str]
    asked: int
    retries: int = 0
    answered: int | None = None
    completed: int | None = None
    refused: bool = False


@dataclass
class Server:
    """What is known of one server and port."""

    attempts: int = 0
    refused: int = 0
    unanswered: int = 0
    retries: int = 0
    answers: list[int] = field(default_factory=list)
    completions: list[int] = field(default_factory=list)

    def add(self, handshake: Handshake) -> None:
        self.attempts += 1
        self.retries += handshake.retries
        self.refused += handshake.refused
        self.unanswered += handshake.answered is None and not handshake.refused
        if handshake.answered is not None:
            self.answers.append(handshake.answered - handshake.asked)
            if handshake.completed is not None:
                self.completions.append(handshake.completed - handshake.answered)


class HandshakeCounter(sharkstat.PacketCounter):
    fields = ("tcp.stream", "tcp.flags.syn", "tcp.flags.ack", "tcp.flags.reset")

    def __init__(self, display_filter: str) -> None:
        # tshark's tap tells the ends of the segment itself, not of one that an ICMP error quotes.
        self.listens = (sharkstat.Listen("tcp", display_filter, ("ip_src", "th_sport", "ip_dst", "th_dport")),)
        self.open: dict[str, tuple[tuple[str, str], Handshake]] = {}
        self.servers: dict[tuple[str, str], Server] = {}

    def packet(self, packet: sharkstat.Packet) -> None:
        stream = packet.value("tcp.stream") or ""
        syn, ack, reset = (packet.value(f"tcp.flags.{flag}") == "1" for flag in ("syn", "ack", "reset"))
        source, source_port, destination, destination_port = packet.hits[0][0]
        sender, receiver, now = (source, source_port), (destination, destination_port), packet.relative_ns
        if syn and not ack:
            known = self.open.get(stream)
            if known is None:
                self.open[stream] = (receiver, Handshake(sender, now))
            elif known[1].answered is None:
                known[1].retries += 1
            return
        if stream not in self.open:  # it began before the capture, or is long past its handshake
            return
        server, handshake = self.open[stream]
        if sender == server and handshake.answered is None:
            if syn and ack:
                handshake.answered = now
            elif reset:
                handshake.refused = True
                self.close(stream)
        elif sender == handshake.client and handshake.answered is not None and ack:
            handshake.completed = now
            self.close(stream)

    def close(self, stream: str) -> None:
        """Its numbers are kept, and it is forgotten: a capture has many connections."""
        server, handshake = self.open.pop(stream)
        self.servers.setdefault(server, Server()).add(handshake)

    def rows(self) -> Iterable[tuple[sharkstat.Value, ...]]:
        for stream in list(self.open):
            self.close(stream)
        for (address, port), server in self.servers.items():
            yield (
                address,
                int(port),
                server.attempts,
                server.refused,
                server.unanswered,
                server.retries,
                len(server.answers),
                sum(server.answers),
                max(server.answers, default=None),
                len(server.completions),
                sum(server.completions),
                max(server.completions, default=None),
            )


class TcpHandshakes(sharkstat.Statistic):
    name = "tcp,handshakes"
    title = "TCP handshakes by server"
    usage = "tcp,handshakes[,FILTER]"
    description = (
        "How long each server takes to answer the first SYN of a connection (retries included), how long the client "
        "takes then, and how many attempts were refused or never answered. Captured at the client, the server's time "
        "is the round trip; at the server, the client's is."
    )
    engines = (sharkstat.Packets(HandshakeCounter),)

    def columns(self, arguments: str) -> tuple[sharkstat.Column, ...]:
        Column = sharkstat.Column
        return (
            Column("address", "address", role="key"),
            Column("port", "integer", role="key"),
            Column("attempts", "integer", "connections"),
            Column("refused", "integer", "connections", description="answered with a reset"),
            Column("unanswered", "integer", "connections"),
            Column("retries", "integer", "packets", description="SYN that were sent again"),
            Column("answered", "integer", "connections", shown=False),
            Column("server_time", "duration", "seconds", shown=False, description="from SYN to SYN/ACK, in all"),
            Column("server_max", "duration", "seconds", merge="max"),
            Column("completed", "integer", "connections", shown=False),
            Column("client_time", "duration", "seconds", shown=False, description="from SYN/ACK to ACK, in all"),
            Column("client_max", "duration", "seconds", merge="max"),
            Column("server_mean", "duration", "seconds", role="derived", ratio=("server_time", "answered")),
            Column("client_mean", "duration", "seconds", role="derived", ratio=("client_time", "completed")),
        )

    def order(self, table: sharkstat.Table) -> None:
        sharkstat.sort_rows(table, lambda row: (row["address"], row["port"]))
        sharkstat.sort_rows(table, lambda row: row["attempts"], descending=True)


@sharkstat.hookimpl
def register_statistics(register: Callable[[sharkstat.Statistic], None]) -> None:
    register(TcpHandshakes())
