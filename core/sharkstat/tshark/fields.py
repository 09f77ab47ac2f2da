"""The fields of the installed tshark, for completion and for suggestions after a typo."""

from __future__ import annotations

import functools

from sharkstat.errors import SharkstatError
from sharkstat.tshark.process import Tshark
from sharkstat.tshark.workspace import answer


@functools.cache
def known_fields(tshark: Tshark) -> dict[str, str]:
    """Each field's and protocol's name with its title, a quarter of a million; asking takes half a second.

    TsharkError where tshark does not answer.
    """
    lines = (line.split("\t") for line in answer(tshark, "-G", "fields").splitlines())
    return {words[2]: words[1] for words in lines if len(words) > 2 and words[0] in ("F", "P")}


def nearest(names: dict[str, str], wanted: str, count: int = 3) -> list[str]:
    """The names that look most like one that does not exist.

    Only fields of protocols with a name like it, and those that end as it does, are looked at: all would take seconds.

    >>> nearest({"ip.src": "Source", "ip.dst": "Destination", "tcp.srcport": "Port"}, "ip.scr")[0]
    'ip.src'
    """
    import difflib

    protocol, _, rest = wanted.lower().partition(".")
    protocols = {name.partition(".")[0] for name in names}
    like = {protocol, *difflib.get_close_matches(protocol, protocols, n=5, cutoff=0.6)}
    tail = rest.rpartition(".")[2]
    candidates = [
        name
        for name in names
        if name.partition(".")[0] in like or (tail and name.endswith("." + tail)) or name == protocol
    ]
    return difflib.get_close_matches(wanted.lower(), candidates, n=count, cutoff=0.5)


def completions(tshark: Tshark, incomplete: str) -> list[str]:
    """What may follow: the names that begin so, as far as their next dot."""
    names = known_fields(tshark)
    depth = incomplete.count(".") + 1
    found = {".".join(name.split(".")[:depth]) for name in names if name.startswith(incomplete)}
    return sorted(name if name in names else f"{name}." for name in found)


def nearest_fields(tshark: Tshark, wanted: str) -> str:
    """The end of a message about a field that does not exist: the nearest ones, where there are any."""
    try:
        near = nearest(known_fields(tshark), wanted)
    except SharkstatError:
        near = []
    return f"; did you mean {', '.join(near)}?" if near else " (see Wireshark's display filter reference)"
