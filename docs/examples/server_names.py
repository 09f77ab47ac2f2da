"""tls,names: which servers TLS clients ask for."""

import sharkstat


class ServerNames(sharkstat.Declared):
    name = "tls,names"
    title = "TLS server names"
    filter = "tls.handshake.extensions_server_name"
    keys = (sharkstat.Key("tls.handshake.extensions_server_name", "server_name"),)
    measures = (sharkstat.Count(), sharkstat.Sum("frame.len"), sharkstat.Distinct("ip.src", "clients"))


@sharkstat.hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(ServerNames())
