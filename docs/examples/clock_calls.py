"""clock,calls: the calls of a protocol over UDP that Wireshark does not know, each request with its response.

A message has two bytes of identification, which a response has from its request, and one that says what it is: 1 asks
for the time, 2 is the time, 3 an error.
"""

from collections.abc import Callable

import sharkstat

identification = sharkstat.regex("udp.payload", "^(..:?..)")
kind = sharkstat.regex("udp.payload", "^..:?..:?(..)")


class ClockCalls(sharkstat.Joined):
    name = "clock,calls"
    title = "Calls of the clock service"
    request = "udp.dstport == 7007"
    response = "udp.srcport == 7007"
    pairs = (("ip.src", "ip.dst"), ("ip.dst", "ip.src"), ("udp.srcport", "udp.dstport"), identification)
    keys = (sharkstat.Key("ip.src", "client"), sharkstat.Key("ip.dst", "server"))
    answer = (sharkstat.Key(kind, "answer"),)
    timeout = "1s"


@sharkstat.hookimpl
def register_statistics(register: Callable[[sharkstat.Statistic], None]) -> None:
    register(ClockCalls())
