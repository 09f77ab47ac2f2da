"""Display filters as text."""

from __future__ import annotations


def both_filters(one: str, other: str) -> str:
    """A display filter that matches if both match; "" matches everything.

    >>> both_filters("ip", "tcp || udp"), both_filters("", "tcp")
    ('(ip) && (tcp || udp)', 'tcp')
    """
    given = [text for text in (one.strip(), other.strip()) if text]
    return " && ".join(f"({text})" for text in given) if len(given) > 1 else "".join(given)
