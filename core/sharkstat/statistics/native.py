"""tshark's own statistics: which there are, and what each printed.

tshark prints all that it was asked for on one standard output, in layouts of its own. Between two
requests the host in tshark (host.lua) prints a mark that no packet can hold, since it is made for the run, so each
one's text is known to the byte. What a text means is for the families of statistics to say
(`Statistic.parse`); a text that none understands is shown as it is, line by line.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Sequence
from typing import IO

from sharkstat.errors import TsharkError
from sharkstat.statistics.statistic import Parsed, Statistic
from sharkstat.tables.column import Column
from sharkstat.tshark.process import Tshark, answer
from sharkstat.tshark.records import text_of

MARK = "sharkstat,mark"  # the name for -z under which host.lua registers the marks

LINES = (
    Column("line", "integer", role="key", description="the line's number in tshark's text"),
    Column("text", "text", merge="none", description="what tshark printed"),
)


@functools.cache
def listed(tshark: Tshark) -> tuple[str, ...]:
    """The names that `tshark -z help` lists, asked once. TsharkError where tshark lists nothing."""
    names = re.findall(r"^ {5}(\S+)$", answer(tshark, "-z", "help"), re.MULTILINE)
    if not names:
        tshark.check()
        raise TsharkError(f"{tshark.path} -z help lists no statistics: it is no tshark that sharkstat knows")
    return tuple(name for name in names if not name.startswith("sharkstat,"))  # taps that are installed for all users


def as_lines(text: bytes) -> Parsed:
    """A text that nothing reads, as it is: a row a line."""
    lines = text_of(text).strip("\n").split("\n")
    return Parsed(list(enumerate(lines, 1)) if any(lines) else [], LINES)


class Unparsed(Statistic):
    """A statistic of tshark's that no family takes: its text, and never a wrong table."""

    once = True  # for all that is known
    description = "A statistic of tshark's that sharkstat has no reader for: the lines of its text, as they are."

    def __init__(self, name: str) -> None:
        self.name = name
        self.title = f"{name} (text, unparsed)"
        self.usage = f"{name}[,ARGUMENTS]"

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return LINES

    def filters(self, arguments: str) -> Sequence[str]:
        return ()  # nobody knows where its filter stands

    def parse(self, text: bytes, arguments: str) -> Parsed:
        return as_lines(text)

    def align(self, tables):  # type: ignore[no-untyped-def]
        raise self.refuse_merge("nobody knows what its lines mean; --per-file gives a table a file")


class Printed:
    """What tshark prints on its standard output, collected while it runs."""

    def __init__(self, nonce: str) -> None:
        self._nonce = nonce.encode()
        self._parts: list[bytes] = []
        self._thread: threading.Thread | None = None

    def read(self, stream: IO[bytes]) -> None:
        """Collect the stream to its end, in a thread."""

        def pump() -> None:
            while chunk := stream.read(1 << 16):
                self.add(chunk)

        self._thread = threading.Thread(target=pump, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait until everything was read."""
        if self._thread is not None:
            self._thread.join()

    def add(self, part: bytes) -> None:
        self._parts.append(part)

    def texts(self, count: int) -> tuple[bytes, list[bytes]]:
        """What was printed while packets were read, and each of `count` statistics' own text.

        Results are printed in the reverse order of the requests; mark N stands before request N's end.
        TsharkError if a mark is missing.
        """
        pieces = re.split(b"\n" + self._nonce + rb" (\d+)\n", b"".join(self._parts))
        numbers, texts = [int(n) for n in pieces[1::2]], pieces[2::2]
        if numbers != list(range(count, -1, -1)):
            raise TsharkError("tshark did not print its statistics to their end: nothing of them is shown")
        return pieces[0], texts[:count][::-1]
