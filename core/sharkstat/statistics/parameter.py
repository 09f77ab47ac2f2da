"""A statistic's parameters: `NAME=VALUE` at the beginning of its arguments, before the filter.

    -z 'dns,slow,over=100ms,ip.addr == 192.0.2.53'

A value ends at the next comma. Text that does not start with a parameter's name is the display filter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal, TypeAlias, get_args

from sharkstat.errors import RequestError

ParameterType = Literal["text", "integer", "number", "boolean", "duration", "field"]
ParameterValue: TypeAlias = str | int | float | bool | None

_GIVEN = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*([^=,~\s][^,]*?)\s*(?:,|\Z)", re.ASCII)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ns|us|µs|ms|s|min|m|h|d|)", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_SPACE = " \t\n\r\f\v"  # what is one in Lua
_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "": 10**9,
    "m": 60 * 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}
_BOOLEANS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True)
class Parameter:
    """A parameter: its name, type, default (as text), and its choices if it has only a few possible values.

    A duration has a unit (ns, us, ms, s, m, h, d; seconds without one) and becomes an integer number of nanoseconds.
    Without a default, the value is None if the parameter is not given.

    >>> Parameter("over", "duration", "100ms").value()
    100000000
    """

    name: str
    type: ParameterType = "text"
    default: str | None = None
    description: str = ""
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z_]\w*", self.name):
            raise ValueError(f"invalid parameter name {self.name!r}: use letters, digits and _")
        if self.type not in get_args(ParameterType):
            raise ValueError(
                f"parameter {self.name}: unknown type {self.type!r}: choose {', '.join(get_args(ParameterType))}"
            )
        if self.default is not None:
            try:
                self.read(self.default)
            except RequestError as problem:
                raise ValueError(f"default of {problem}") from None

    def value(self) -> ParameterValue:
        """The value of the default."""
        return None if self.default is None else self.read(self.default)

    def read(self, text: str) -> ParameterValue:
        """The value of a text. Raises RequestError if it is invalid.

        >>> Parameter("every", "duration").read("1.5s"), Parameter("top", "integer").read("10")
        (1500000000, 10)
        """
        if self.choices and text not in self.choices:
            raise RequestError(f"{self.name}={text}: choose {' or '.join(self.choices)}")
        try:
            if self.type == "integer" and _INTEGER.fullmatch(text):
                return int(text)
            if self.type == "number" and _NUMBER.fullmatch(text):
                return float(text)
            if self.type in ("integer", "number"):
                raise ValueError
            if self.type == "boolean":
                return _BOOLEANS[text.lower()]
            return duration(text) if self.type == "duration" else text
        except (ValueError, KeyError):
            meant = {"boolean": "yes or no", "duration": "a duration, e.g. 500ms, 10s or 5m"}
            raise RequestError(f"{self.name}={text}: give {meant.get(self.type, f'a whole {self.type}')}") from None


def duration(text: str) -> int:
    """A duration in nanoseconds. Raises ValueError if the text is not a duration.

    >>> duration("10"), duration("250us")
    (10000000000, 250000)
    """
    found = _DURATION.fullmatch(text.strip(_SPACE))
    if not found:
        raise ValueError(f"not a duration: {text}")
    return int((Decimal(found[1]) * _NANOSECONDS[found[2]]).to_integral_value(ROUND_HALF_UP))


def read_arguments(name: str, arguments: str, parameters: Sequence[Parameter]) -> tuple[dict[str, ParameterValue], str]:
    """The value of every parameter, and the filter after them. Raises RequestError if one is invalid.

    >>> read_arguments("dns,slow", "over=1s,udp", [Parameter("over", "duration", "100ms")])
    ({'over': 1000000000}, 'udp')
    """
    known = {parameter.name: parameter for parameter in parameters}
    given: dict[str, ParameterValue] = {}
    rest = arguments
    while found := _GIVEN.match(rest):
        key, text = found.groups()
        if key not in known:
            if not known:
                break  # tshark says what it thinks of such a filter
            raise RequestError(f"{name} has no parameter {key}; it has {', '.join(known)}")
        if key in given:
            raise RequestError(f"{name}: {key} is given twice: leave out one")
        try:
            given[key] = known[key].read(text)
        except RequestError as problem:
            raise RequestError(f"{name}: {problem}") from None
        rest = rest[found.end() :]
    return {key: given.get(key, parameter.value()) for key, parameter in known.items()}, rest.strip(_SPACE)


def usage_of(name: str, parameters: Sequence[Parameter], takes_filter: bool = True) -> str:
    """The grammar of a statistic's arguments.

    >>> usage_of("dns,slow", [Parameter("over", "duration", "100ms")])
    'dns,slow[,over=DURATION][,FILTER]'
    """
    given = "".join(f"[,{p.name}={'|'.join(p.choices) if p.choices else p.type.upper()}]" for p in parameters)
    return f"{name}{given}{'[,FILTER]' if takes_filter else ''}"
