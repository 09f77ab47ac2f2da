"""The functions of expressions: what becomes of the text of a value."""

from __future__ import annotations

import functools
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import ip_address, ip_network
from itertools import pairwise
from typing import Literal

from sharkstat.statistics.parameter import duration
from sharkstat.statistics.path_template import path_template
from sharkstat.tables.column import Type

Argument = str | int | float
Change = Callable[[str], "str | None"]
Kind = Literal["whole", "text", "bound"]


@dataclass(frozen=True)
class Function:
    """A function: how it is written, and what makes a change of its arguments.

    `made` is called with them and with the type of the values; ValueError says what is wrong with an argument.
    `takes` has the kinds of the arguments behind the field, `least` is how many there must be; with `more` the last
    kind may be repeated. `accepts` are the types of fields that it can be used for, by default all.
    """

    name: str
    usage: str
    says: str
    made: Callable[..., Change]
    takes: tuple[Kind, ...] = ()
    least: int = 0
    more: bool = False
    accepts: tuple[Type, ...] = ()
    needs: tuple[str, str] | None = None  # a module, and the extra of sharkstat that has it


def _subnet(prefix: int, prefix6: int | None = None, *, of: Type) -> Change:
    if not 0 <= prefix <= 128:
        raise ValueError("a prefix is from 0 to 128")
    if prefix6 is not None and (not 0 <= prefix6 <= 128 or prefix > 32):
        raise ValueError("with two prefixes, the first is IPv4's, up to 32, the second IPv6's, up to 128")

    def change(text: str) -> str | None:
        try:
            address = ip_address(text)
        except ValueError:
            return None
        bits = prefix if prefix6 is None or address.version == 4 else prefix6
        network = ip_network((address, min(bits, address.max_prefixlen)), strict=False)
        return str(network)

    return change


def _lower(*, of: Type) -> Change:
    return str.lower


def _regex(pattern: str, *, of: Type) -> Change:
    try:
        compiled = re.compile(pattern)
    except re.error as problem:
        raise ValueError(f"not a regular expression: {problem}") from None
    if compiled.groups > 1:
        raise ValueError("it has several groups: write (?:...) for all but the one that is the value")

    def change(text: str) -> str | None:
        found = compiled.search(text)
        return found[compiled.groups] if found else None

    return change


_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^/]*")


def _segment(number: int, separator: str = "", *, of: Type) -> Change:
    if number == 0:
        raise ValueError("segments are counted from 1; the last is -1")
    if separator == "":

        def parts_of(text: str) -> list[str]:
            path = _ORIGIN.sub("", re.split("[?#]", text, maxsplit=1)[0], count=1)
            return path.removeprefix("/").split("/")
    else:

        def parts_of(text: str) -> list[str]:
            return text.split(separator)

    def change(text: str) -> str | None:
        parts = parts_of(text)
        at = number - 1 if number > 0 else len(parts) + number
        return parts[at] if 0 <= at < len(parts) else None

    return change


def _template(*, of: Type) -> Change:
    return path_template


@functools.cache
def _registered() -> Callable[[str], str | None]:
    from publicsuffixlist import PublicSuffixList  # it takes a while to load

    registered: Callable[[str], str | None] = PublicSuffixList(only_icann=True).privatesuffix
    return registered


def _second_level(*, of: Type) -> Change:
    def change(text: str) -> str | None:
        name = text.rstrip(".").lower()
        try:
            return _registered()(name) or name
        except ValueError:  # no name
            return name

    return change


def _number(text: str, of: Type) -> int | Decimal:
    """A bound as the values are counted: times and durations in nanoseconds."""
    if of in ("duration", "time"):
        return -duration(text[1:]) if text.startswith("-") else duration(text)
    try:
        return Decimal(text)
    except ArithmeticError:
        raise ValueError(f"{text}: the values have no unit: write a plain number") from None


def _bucket(*bounds: Argument, of: Type) -> Change:
    texts = [str(bound) for bound in bounds]
    numbers = [_number(text, of) for text in texts]
    if any(a >= b for a, b in pairwise(numbers)):
        raise ValueError("write its bounds in rising order")
    labels = bucket_labels(texts)

    def change(text: str) -> str | None:
        try:
            value = Decimal(text)
        except ArithmeticError:
            return None
        return labels[bisect_right(numbers, value)] if value == value else None

    return change


def bucket_labels(bounds: Sequence[Argument]) -> list[str]:
    """The names of a bucket's rows: each is from its first bound up to, but without, its second.

    >>> bucket_labels([1, 10])
    ['below 1', '1 to 10', 'from 10']
    """
    texts = [str(bound) for bound in bounds]
    between = [f"{a} to {b}" for a, b in pairwise(texts)]
    return [f"below {texts[0]}", *between, f"from {texts[-1]}"]


FUNCTIONS: Mapping[str, Function] = {
    function.name: function
    for function in (
        Function(
            "subnet",
            "subnet(FIELD, PREFIX[, PREFIX6])",
            "the network of an address; also FIELD/PREFIX",
            _subnet,
            ("whole", "whole"),
            1,
            accepts=("address", "text"),
        ),
        Function("lower", "lower(FIELD)", "the text in lower case", _lower),
        Function(
            "regex", 'regex(FIELD, "PATTERN")', "what the pattern's group matches, or all of it", _regex, ("text",), 1
        ),
        Function(
            "segment",
            'segment(FIELD, NUMBER[, "SEPARATOR"])',
            "one part of a path, from 1, or from the end with -1",
            _segment,
            ("whole", "text"),
            1,
        ),
        Function("template", "template(FIELD)", "the template of an HTTP path", _template),
        Function(
            "second_level",
            "second_level(FIELD)",
            "the registered domain of a name",
            _second_level,
            needs=("publicsuffixlist", "domains"),
        ),
        Function(
            "bucket",
            "bucket(FIELD, BOUND, BOUND...)",
            "the interval between two bounds that the number is in",
            _bucket,
            ("bound",),
            1,
            more=True,
            accepts=("integer", "number", "duration", "text"),
        ),
    )
}
