"""Colours on a terminal: bold titles, dim keys, and marks on what is wrong."""

from __future__ import annotations

import os
from dataclasses import dataclass

# Of the eight colours that every terminal has and the user's theme chooses.
# Source: ECMA-48, "SGR"; https://man7.org/linux/man-pages/man4/console_codes.4.html
_BOLD, _DIM, _RED, _YELLOW = "1", "2", "1;31", "33"


@dataclass(frozen=True)
class Ink:
    r"""Paints text that has been made safe; without `colours` it stays as it is.

    >>> Ink(True).bold("Health"), Ink().bold("Health"), Ink(True).mark("bad", "5.0 %")
    ('\x1b[1mHealth\x1b[0m', 'Health', '\x1b[1;31m5.0 %\x1b[0m')
    """

    colours: bool = False

    def bold(self, text: str) -> str:
        return self._painted(_BOLD, text)

    def dim(self, text: str) -> str:
        return self._painted(_DIM, text)

    def mark(self, severity: str, text: str) -> str:
        """The text in the colour of a finding of that severity; a note has none."""
        return self._painted({"bad": _RED, "warning": _YELLOW}.get(severity, ""), text)

    def _painted(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colours and code and text.strip() else text


def ink_for(terminal: bool) -> Ink:
    """The ink for an output that is a terminal or not: none where NO_COLOR is set, or the terminal has no colours.

    Source: https://no-color.org
    """
    return Ink(terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") != "dumb")
