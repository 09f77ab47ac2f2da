"""Names of fields in a group request."""

from __future__ import annotations

import re

_FIELD = re.compile(r"\w[\w.\-]*")


def fields_of(text: str) -> tuple[str, ...]:
    """The fields of FIELD[/FIELD...]. Raises ValueError if one is no field name."""
    names = tuple(text.split("/"))
    for name in names:
        if not _FIELD.fullmatch(name):
            raise ValueError(
                f"{name!r} is not a field name: write one like ip.src, or alternatives like ip.src/ipv6.src"
            )
    return names


def snake_case(text: str) -> str:
    return re.sub(r"\W+", "_", text)
