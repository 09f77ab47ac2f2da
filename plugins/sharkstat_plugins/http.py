"""http,tree http_req,tree http_srv,tree: HTTP messages by kind and status, by host and path, by server.

http,requests: requests by method, host, path and status, with bytes and response times.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import sharkstat_lua
from sharkstat import Headers, Listen, OfMessages, PacketCounter, Packets, Tap, TsharkText, Value, hookimpl
from sharkstat_plugins.tree import Tree, TreeStatistic

if TYPE_CHECKING:
    from sharkstat import Packet

CLASSES = (
    "???: broken",
    "1xx: Informational",
    "2xx: Success",
    "3xx: Redirection",
    "4xx: Client Error",
    "5xx: Server Error",
)


class HttpCounter(PacketCounter):
    """What the three share: one call a message, with what tshark's http tap tells of it."""

    fields: Sequence[str] = ()

    def __init__(self, display_filter: str) -> None:
        info = ("response_code", "request_method", "http_host", "request_uri", "pinfo.src", "pinfo.dst")
        self.listens = (Listen("http", display_filter, info),)
        self.tree = Tree()

    def packet(self, packet: Packet) -> None:
        for code, method, host, uri, source, destination in packet.hits[0]:
            self.tree.at(packet.relative_ns, packet.time_ns)
            self.message(packet, int(code or 0), method, host, uri, source, destination)

    def message(
        self,
        packet: Packet,
        status: int,
        method: str | None,
        host: str | None,
        uri: str | None,
        source: str,
        destination: str,
    ) -> None:
        raise NotImplementedError

    def rows(self) -> Sequence[Sequence[Value]]:
        return self.tree.rows()


class PacketTree(HttpCounter):
    fields = ("http.response.code", "http.response.code.desc")

    def __init__(self, display_filter: str) -> None:
        super().__init__(display_filter)
        self._words: dict[int, str] = {}

    def _status(self, packet: Packet, status: int) -> str:
        if status not in self._words:
            codes, words = packet.values(self.fields[0]), packet.values(self.fields[1])
            for code, word in zip(codes, words, strict=False):
                self._words[int(code)] = word
        return f"{status} {self._words.get(status, f'Unknown ({status})')}"

    def message(self, packet, status, method, host, uri, source, destination):  # type: ignore[no-untyped-def]
        top, responses, requests = "Total HTTP Packets", "HTTP Response Packets", "HTTP Request Packets"
        for path in (
            (),
            (requests,),
            (responses,),
            *((responses, name) for name in CLASSES),
            ("Other HTTP Packets",),
        ):
            self.tree.node(top, *path)
        self.tree.tick(top)
        if status:
            name = CLASSES[status // 100 if 100 <= status < 600 else 0]
            self.tree.tick(top, responses)
            self.tree.tick(top, responses, name)
            self.tree.tick(top, responses, name, self._status(packet, status))
        elif method is not None:
            self.tree.tick(top, requests)
            self.tree.tick(top, requests, method)
        else:
            self.tree.tick(top, "Other HTTP Packets")


class RequestTree(HttpCounter):
    def message(self, packet, status, method, host, uri, source, destination):  # type: ignore[no-untyped-def]
        if method is None:
            return
        path = ["HTTP Requests by HTTP Host"]
        self.tree.tick(*path)
        for level in (host, uri):
            if level is None:
                return
            path.append(level)
            self.tree.tick(*path)


class ServerTree(HttpCounter):
    def message(self, packet, status, method, host, uri, source, destination):  # type: ignore[no-untyped-def]
        requests, responses = "HTTP Requests by Server", "HTTP Responses by Server Address"
        by_address, by_host = "HTTP Requests by Server Address", "HTTP Requests by HTTP Host"
        for path in ((requests,), (requests, by_address), (requests, by_host), (responses,)):
            self.tree.node(*path)
        if method is not None:
            self.tree.tick(requests)
            self.tree.tick(requests, by_address)
            self.tree.tick(requests, by_host)
            self.tree.tick(requests, by_address, destination)
            if host is not None:
                self.tree.tick(requests, by_host, host)
                self.tree.tick(requests, by_host, host, destination)
                self.tree.tick(requests, by_address, destination, host)
        elif status:
            self.tree.tick(responses)
            self.tree.tick(responses, source)
            self.tree.tick(responses, source, "OK" if 100 <= status < 400 else "Error")


class HttpTree(TreeStatistic):
    def __init__(self, name: str, title: str, description: str, counter: type[HttpCounter]) -> None:
        self.name = name
        self.title = title
        self.usage = f"{name}[,FILTER]"
        self.description = description
        doubts = [f'{field} matches "^[ ]"' for field in ("http.host", "http.request.uri")]
        tap = Tap(Path(sharkstat_lua.__file__).with_name("http.lua"), "http")
        self.engines = (
            tap,
            Packets(counter),
            Headers(tap, lambda arguments: None if arguments.strip() else OfMessages()),
            TsharkText(read=self.read_text, layer="http", doubts=doubts),
        )


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(
        HttpTree(
            "http,tree",
            "HTTP packet counter",
            "HTTP messages: requests by method, responses by class and status code.",
            PacketTree,
        )
    )
    register(
        HttpTree(
            "http_req,tree",
            "HTTP requests by host and path",
            "HTTP requests by Host header and request path. Requests without a Host header count only in the top row.",
            RequestTree,
        )
    )
    register(
        HttpTree(
            "http_srv,tree",
            "HTTP load by server",
            "HTTP requests by server address and by Host header; responses by server address, OK (below 400) or Error. "
            "100 Continue is OK, as in tshark 4.4.",
            ServerTree,
        )
    )
