"""tcp,half-open: handshakes that the client does not finish in time, as a SYN flood leaves them."""

from collections.abc import Callable

import sharkstat


class HalfOpen(sharkstat.Joined):
    name = "tcp,half-open"
    title = "TCP handshakes, by server"
    request = "tcp.flags.syn == 1 && tcp.flags.ack == 1"  # the server's answer waits for the client's
    response = "tcp.flags.syn == 0 && tcp.flags.ack == 1 && tcp.dstport < 1024"
    pairs = (("ip.src", "ip.dst"), ("ip.dst", "ip.src"), ("tcp.srcport", "tcp.dstport"), ("tcp.dstport", "tcp.srcport"))
    keys = (sharkstat.Key("ip.src", "server"), sharkstat.Key("tcp.srcport", "port"))
    timeout = "3s"
    each = False
    section = sharkstat.Section(560, rows=0)  # for its finding alone
    checks = (sharkstat.Check("unanswered", "requests", "TCP handshakes are half-open", worst="server:port"),)


@sharkstat.hookimpl
def register_statistics(register: Callable[[sharkstat.Statistic], None]) -> None:
    register(HalfOpen())
