"""follow,PROTOCOL: what the two ends of one stream said, a row a message.

Whatever way of showing it is asked for, tshark is asked for YAML: it alone loses no byte and has the packets' numbers.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable

from sharkstat import Column, Parsed, RequestError, Statistic, TextError, TsharkText, Value, hookimpl, text_of

SUBSTREAMS = ("http2", "quic", "mp2t", "mpeg-pes")  # a stream of theirs is two numbers
_ADDRESS = r"(?:\[[^\],]+\]|[^:,\[\]]+):\d+"
_STREAM = re.compile(rf"(?P<stream>\d{{1,9}}|{_ADDRESS},{_ADDRESS})(?:,(?P<first>\d{{1,9}})(?:-(?P<last>\d{{1,9}}))?)?")
_SUBSTREAM = re.compile(r"(?P<stream>\d{1,9},\d{1,9})(?:,(?P<first>\d{1,9})(?:-(?P<last>\d{1,9}))?)?")

_PEERS = re.compile(
    r"peers:\n  - peer: 0\n    host: (\S*)\n    port: (\d+)\n  - peer: 1\n    host: (\S*)\n    port: (\d+)\npackets:\n"
)
_MESSAGE = re.compile(
    r"  - packet: (\d+)\n    peer: ([01])\n    timestamp: -?\d+\.\d+\n    data: !!binary \|\n((?:      \S+\n)*)"
)
_MISSING = re.compile(rb"\[(\d+) bytes missing in capture file\]\0")


class Follow(Statistic):
    def __init__(self, protocol: str) -> None:
        self.engines = (TsharkText(self.parse, self.native, takes_filter=False),)
        self.protocol = protocol
        self.name = f"follow,{protocol}"
        self.title = f"{protocol.upper()} stream"
        self.parts = "STREAM,SUBSTREAM" if protocol in SUBSTREAMS else "STREAM"
        self.example = "ascii,0,0" if protocol in SUBSTREAMS else "ascii,0"
        self.usage = f"follow,{protocol},{'|'.join(MODES)},{self.parts}[,FIRST[-LAST]]"
        self.description = (
            "One row per message of a stream, with its sender and its data: printable characters (ascii), text (utf-8, "
            "ebcdic), a hex dump (hex), hex digits (raw) or base64 (yaml)."
        )

    def columns(self, arguments: str) -> tuple[Column, ...]:
        self._asked(arguments)
        return (
            Column("number", "integer", role="key", local="always", description="number of the message in the stream"),
            Column("packet", "integer", merge="none", description="the packet that completed it"),
            Column("node", "integer", merge="none", description="which endpoint sent it: 0 or 1"),
            Column("source", "address", merge="none"),
            Column("source_port", "integer", merge="none"),
            Column("destination", "address", merge="none"),
            Column("destination_port", "integer", merge="none"),
            Column("bytes", "integer", "bytes", merge="none"),
            Column(
                "missing",
                "integer",
                "bytes",
                merge="none",
                shown=False,
                description="bytes missing in the capture here; the data is then tshark's note about it",
            ),
            Column("data", "text", merge="none"),
        )

    def _asked(self, arguments: str) -> tuple[str, str, int, int]:
        """The mode, the stream, and the first and last message that are wanted (0: all that follow)."""
        if self.protocol == "sip":
            raise RequestError("tshark cannot follow SIP calls: use flow,any,standard,sip or follow,udp,ascii,STREAM")
        mode, _, rest = (part.strip() for part in arguments.partition(","))
        if mode not in MODES:
            raise RequestError(f"follow needs a mode, {', '.join(MODES)}: write {self.name},ascii,{self._example}")
        pattern = _SUBSTREAM if self.protocol in SUBSTREAMS else _STREAM
        found = pattern.fullmatch(rest.replace(" ", ""))
        if found is None:
            raise RequestError(
                f"{self.name} takes {self.parts}[,FIRST[-LAST]] after the mode, not {rest!r}: "
                f"write {self.name},{mode},{self._example}"
            )
        first, last = int(found["first"] or 1), int(found["last"] or found["first"] or 0)
        if first < 1 or (found["first"] and last < first):
            raise RequestError(f"{self.name}: invalid range {rest!r}: give the first and last message, counted from 1")
        return mode, found["stream"], first, last

    @property
    def _example(self) -> str:
        return "0,0" if self.protocol in SUBSTREAMS else "0"

    def filters(self, arguments: str) -> tuple[str, ...]:
        return ()

    def native(self, arguments: str, display_filter: str) -> str:
        # All messages are read, so that offsets in a hex dump count what comes before the first one wanted.
        return f"{self.name},yaml,{self._asked(arguments)[1]}"

    def parse(self, text: bytes, arguments: str) -> Parsed:
        mode, _, first, last = self._asked(arguments)
        whole = text_of(text)
        peers = _PEERS.match(whole)
        if peers is None:
            raise TextError("the two ends are not named")
        ends = [_end(peers[1], peers[2]), _end(peers[3], peers[4])]
        rows: list[list[Value]] = []
        at, offsets = peers.end(), [0, 0]
        number = 0
        while at < len(whole):
            message = _MESSAGE.match(whole, at)
            if message is None:
                raise TextError(f"no message in {whole[at : at + 60]!r}")
            at = message.end()
            number += 1
            node, data = int(message[2]), _bytes(message[3])
            missing = _MISSING.fullmatch(data) if self.protocol == "tcp" else None
            if number >= first and (not last or number <= last):
                ends_of_it = (*ends[node], *ends[1 - node])
                sizes = (None, int(missing[1])) if missing else (len(data), None)
                rows.append(
                    [number, int(message[1]) or None, node, *ends_of_it, *sizes, MODES[mode](data, offsets[node])]
                )
            offsets[node] += len(data)
        return Parsed(rows)

    def align(self, tables):  # type: ignore[no-untyped-def]
        raise self.refuse_merge("streams have different numbers in every file: read the files in one run instead")


def _end(host: str, port: str) -> tuple[str | None, int | None]:
    return (host, int(port)) if host else (None, None)


def _bytes(lines: str) -> bytes:
    """The data; tshark encodes each line by itself."""
    try:
        return b"".join(base64.b64decode(line, validate=True) for line in lines.split())
    except binascii.Error as problem:
        raise TextError(f"data that are no base64: {problem}") from None


def _ascii(data: bytes, offset: int) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 or byte in b"\r\n" else "." for byte in data)


def _ebcdic(data: bytes, offset: int) -> str:
    return "".join(letter if letter.isprintable() or letter in "\r\n" else "." for letter in data.decode("cp037"))


def _hex(data: bytes, offset: int) -> str:
    """A dump as tshark prints it, 16 bytes a line."""
    lines = []
    for at in range(0, len(data), 16):
        part = data[at : at + 16]
        digits = "  ".join(half.hex(" ") for half in (part[:8], part[8:]) if half)
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        letters = letters[:8] + (" " if len(part) >= 8 else "") + letters[8:]
        lines.append(f"{offset + at:08X}  {digits:<48}  {letters}".removesuffix(" "))
    return "\n".join(lines)


MODES: dict[str, Callable[[bytes, int], str]] = {
    "ascii": _ascii,
    "utf-8": lambda data, offset: data.decode("utf-8", "replace"),
    "hex": _hex,
    "ebcdic": _ebcdic,
    "raw": lambda data, offset: data.hex(),
    "yaml": lambda data, offset: base64.b64encode(data).decode(),
}


@hookimpl
def register_families(register):  # type: ignore[no-untyped-def]
    def take(name: str) -> Follow | None:
        return Follow(name.removeprefix("follow,")) if name.startswith("follow,") else None

    register("follow", take)
