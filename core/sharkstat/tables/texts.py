"""Text for people: safe for a terminal, measured in its cells, and shortened to fit."""

from __future__ import annotations

import re
from collections.abc import Sequence

# What moves a cursor, colours, reorders, breaks a line, or cannot be seen: controls, formats and invisible characters
# of Unicode 15 (Cc, Cf, Zl, Zp, Cs, Default_Ignorable_Code_Point), blanks that pass for a space, and U+2800.
# lua/sharkstat_lua/sharkstat_text.lua has the same.
ACTING = (
    "\x00-\x1f\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f"
    "\u205f-\u206f\u2800\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_UNSAFE = re.compile(f"[{ACTING}]")
# A text is cut in the middle where people read it; exports have it whole.
_LONGEST_TEXT = 256


def safe(text: str) -> str:
    r"""The text with everything that a terminal would act upon written out.

    >>> safe("a\x1b[31mb\n")
    'a\\x1b[31mb\\x0a'
    """

    def written(match: re.Match[str]) -> str:
        code = ord(match.group())
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return _UNSAFE.sub(written, text)


def read(text: str) -> str:
    """A text as a person reads it: safe, and not longer than anybody reads."""
    if len(text) > 2 * _LONGEST_TEXT:  # before it is made safe, which takes time for megabytes
        text = text[:_LONGEST_TEXT] + "…" + text[-_LONGEST_TEXT:]
    shown = safe(text)
    return shown if len(shown) <= _LONGEST_TEXT // 2 else shortened(shown, _LONGEST_TEXT)  # a character has two cells


# What sharkstat itself writes beside ASCII, each one cell wide: for these, wcwidth and its tables need not be loaded.
_NARROW = str.maketrans(dict.fromkeys("µ·≈…→│├└─", "x"))


def is_narrow(text: str) -> bool:
    return text.isascii() or text.translate(_NARROW).isascii()


def display_width(text: str) -> int:
    """How many cells of a terminal the text takes.

    >>> display_width("abc"), display_width("日本")
    (3, 4)
    """
    if is_narrow(text):
        return len(text)
    from wcwidth import wcwidth

    return sum(max(wcwidth(character), 0) for character in text)


def widest_of(texts: Sequence[str]) -> int:
    """How many cells the widest of the texts takes, looking at most at all of them together.

    >>> widest_of(["abc", "12 µs"]), widest_of(["日本", "abc"])
    (5, 4)
    """
    return max(map(len if is_narrow("".join(texts)) else display_width, texts), default=0)


def _beginning(text: str, width: int) -> str:
    """As much of the beginning as fits."""
    if is_narrow(text):
        return text[:width]
    end = 0
    while end < len(text) and (width := width - display_width(text[end])) >= 0:
        end += 1
    return text[:end]


def shortened(text: str, width: int) -> str:
    """The text in at most that many cells, its middle left out.

    >>> shortened("/backup?list-type=2&prefix=157", 16)
    '/backup?…fix=157'
    """
    if display_width(text) <= width:
        return text
    tail = (width - 1) // 2
    return _beginning(text, width - 1 - tail) + "…" + _beginning(text[::-1], tail)[::-1]
