"""What the host in tshark sends, one record a line (lua/sharkstat_lua/host.lua lists them), and its escapes."""

from __future__ import annotations

from dataclasses import dataclass, field

LIST, ITEM = "\x1f", "\x1e"
_UNESCAPED = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\", "u": LIST, "v": ITEM, "e": ""}


def escape(text: str) -> str:
    """A value as the job and the records have it."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def unescape(text: str) -> str:
    """Undo sharkstat.escape of the Lua library; bytes that are no UTF-8 (surrogates here) become \\xNN."""
    if "\\" in text:
        text = _unescaped(text)
    if not text.isascii():
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text


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


@dataclass
class Failure:
    message: str
    packet: str = ""
    traceback: str = ""


@dataclass
class Records:
    """What the host in tshark has sent so far."""

    ready: bool = False
    ended: bool = False
    too_far: bool = False
    version: str = ""
    base_ns: int | None = None
    columns: dict[int, list[str]] = field(default_factory=dict)
    rows: dict[int, list[list[str]]] = field(default_factory=dict)
    counted: dict[int, int] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    books: list[str] = field(default_factory=list)
    doubts: dict[int, str] = field(default_factory=dict)


def described(problem: Exception) -> str:
    return f"{type(problem).__name__}: {problem}"
