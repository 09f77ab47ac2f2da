"""tls,networks: which servers TLS clients ask for, and in which networks they are."""

from collections.abc import Callable

import sharkstat


class ServerNetworks(sharkstat.Declared):
    name = "tls,networks"
    title = "TLS servers by network"
    filter = "tls.handshake.extensions_server_name"
    keys = (
        sharkstat.Key("lower(tls.handshake.extensions_server_name)", "server_name"),
        sharkstat.Key(sharkstat.subnet("ip.dst/ipv6.dst", 24, 64), "network"),
    )
    measures = (sharkstat.Count(name="connections"), sharkstat.Distinct("ip.src", "clients"))


@sharkstat.hookimpl
def register_statistics(register: Callable[[sharkstat.Statistic], None]) -> None:
    register(ServerNetworks())
