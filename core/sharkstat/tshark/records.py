"""What the host in tshark sends, one record a line (lua/sharkstat_lua/host.lua lists them), and its escapes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

LIST, ITEM = "\x1f", "\x1e"
_UNESCAPED = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\", "u": LIST, "v": ITEM, "e": ""}


def escape(text: str) -> str:
    """A value as the job and the records have it."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


# What stands for all keys that have no row of their own (sharkstat_exact.lua), and what a packet may say like it.
OTHER = "(other)"
_SENT = {"\0(other)": OTHER, OTHER: r"\x28other)"}
# A backslash that would read as the beginning of a spelt byte.
_LIKE_A_BYTE = re.compile(r"\\(?=x[0-9a-f]{2})")
_BYTE = re.compile(rb"\\x([0-9a-f]{2})")


def unescape(text: str) -> str:
    """Undo sharkstat.escape of the Lua library; bytes that are no UTF-8 (surrogates here) are spelt as in `text_of`."""
    return _spelt(_unescaped(text) if "\\" in text else text)


def _spelt(text: str) -> str:
    if text in _SENT:
        return _SENT[text]
    if "\\x" in text:
        text = _LIKE_A_BYTE.sub(r"\\x5c", text)
    if not text.isascii():
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text


def text_of(raw: bytes) -> str:
    r"""Bytes from packets or tshark as text. `bytes_of` reverses it without loss.

    A byte that is not valid UTF-8 becomes `\xNN`. A backslash that would look like the start of one (before x and two
    lower-case hexadecimal digits) becomes `\x5c`; other backslashes stay. The text "(other)", which is the name of the
    row of all others, becomes `\x28other)`.

    >>> text_of(b"caf\xc3\xa9 \xff"), text_of(rb"C:\tmp"), text_of(rb"\xff")
    ('café \\xff', 'C:\\tmp', '\\x5cxff')
    """
    return _spelt(raw.decode("utf-8", "surrogateescape"))


def bytes_of(text: str) -> bytes:
    r"""The bytes that a table's text stands for: the inverse of `text_of`.

    >>> bytes_of(r"café \xff"), bytes_of(r"\x5cxff")
    (b'caf\xc3\xa9 \xff', b'\\xff')
    """
    return _BYTE.sub(lambda match: bytes([int(match[1], 16)]), text.encode("utf-8", "surrogateescape"))


def _unescaped(text: str) -> str:
    parts = text.split("\\")
    result = [parts[0]]
    at = 1
    while at < len(parts):
        part = parts[at]
        if part == "" and at + 1 < len(parts):  # an escaped backslash: the next part is plain text
            result.append("\\" + parts[at + 1])
            at += 2
            continue
        result.append(_UNESCAPED.get(part[:1], part[:1]) + part[1:])
        at += 1
    return "".join(result)


def split(line: bytes) -> list[str]:
    """A record's words, its kind the first; each is still escaped."""
    return line.decode("utf-8", "surrogateescape").rstrip("\n").split("\t")


@dataclass
class Failure:
    """What went wrong in tshark: at which packet, and where in the script."""

    message: str
    packet: str = ""
    traceback: str = ""


class Flow(NamedTuple):
    """A connection of TCP or UDP: its ends, who sent first before the other, and nanoseconds since the first packet."""

    a: tuple[str, int]
    b: tuple[str, int]
    first: int
    last: int


@dataclass
class Records:
    """What the host in tshark has sent so far."""

    ready: bool = False
    ended: bool = False
    too_far: bool = False  # for doubles: the run must be read again, with times from fields
    first: str = ""  # then: when the capture begins, where its first packets have no time
    stranger: str = ""  # what kind of file is read, where it is no capture
    cut: bool = False  # packets are: the run must be read again, prepared for that
    networks: bool = False  # some packets are in virtual networks: it must be read again, prepared for that
    skipped: dict[int, int] = field(default_factory=dict)  # by request: cut packets that are not counted
    partial: dict[int, int] = field(default_factory=dict)  # and those that are only in part
    remarks: dict[int, list[str]] = field(default_factory=dict)  # by request
    lacking: set[int] = field(default_factory=set)  # requests for which something is counted wrong, or not at all
    unannounced: int = 0  # packets that tshark told nobody of
    newest: int = 0  # the number of the last packet that it told of
    version: str = ""
    base_ns: int | None = None
    failures: dict[str, Failure] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    flows: dict[int, Flow] = field(default_factory=dict)  # by number: twice tshark's, and one more for UDP
    books: list[str] = field(default_factory=list)
    shard: list[list[str]] = field(default_factory=list)  # what is to be known of it, where this is one

    @property
    def again(self) -> bool:
        """Whether the run must be read again."""
        return self.too_far or self.cut or self.networks

    def take(self, line: bytes) -> None:
        """Take a record that is of the pass as a whole; engines take their own."""
        kind, *words = split(line)
        if kind == "H":
            self.ready, self.version = True, words[0]
        elif kind == "E":
            where, message, packet, traceback = map(unescape, words)
            self.failures[where] = Failure(message, packet, traceback)
        elif kind == "T":
            relative, since = map(int, words)
            self.base_ns = since - relative
        elif kind == "X":
            self.too_far, self.first = True, words[0].removeprefix("\\N")
        elif kind == "L":
            self.cut = True
        elif kind == "I":
            self.networks = True
        elif kind == "N":
            number, skipped, partial = map(int, words)
            self.skipped[number] = max(self.skipped.get(number, 0), skipped)
            self.partial[number] = max(self.partial.get(number, 0), partial)
        elif kind == "W":
            self.remarks.setdefault(int(words[0]), []).append(unescape(words[1]))
            if words[2] == "1":
                self.lacking.add(int(words[0]))
        elif kind == "M":
            self.unannounced, self.newest = map(int, words)
        elif kind == "K":
            self.stranger = words[0]
        elif kind == "G":
            flow, a, port_a, b, port_b, first, last = words
            ends = (unescape(a), int(port_a)), (unescape(b), int(port_b))
            self.flows[int(flow)] = Flow(*ends, int(first), int(last))
        elif kind == "A":
            self.names[unescape(words[0])] = unescape(words[1])
        elif kind == "Y":
            self.shard.append(words)
        elif kind == "B":
            self.books = words
        elif kind == "Z":
            self.ended = True


def described(problem: BaseException) -> str:
    """An exception of a plugin's code in a line: what it says, and where it was raised."""
    place = _place_of(problem)
    return f"{type(problem).__name__}: {problem}" + (f" ({place})" if place else "")


def _place_of(problem: BaseException) -> str:
    """The file and line of the plugin's code; nothing where it was sharkstat's own."""
    import sysconfig
    import traceback
    from pathlib import Path

    standard, ours = sysconfig.get_path("stdlib"), str(Path(__file__).parents[1])
    for frame in reversed(traceback.extract_tb(problem.__traceback__)):
        file = Path(frame.filename)
        library = "pluggy" in file.parts or (frame.filename.startswith(standard) and "site-packages" not in file.parts)
        if not (library or frame.filename.startswith((ours, "<"))):
            return f"{file.name}, line {frame.lineno}"
    return ""
