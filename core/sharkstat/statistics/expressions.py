"""Expressions: a value that is made of a field's, e.g. the network of an address.

    EXPRESSION = FIELD[/FIELD...] | FIELD[/FIELD...]/PREFIX[/PREFIX6] | FUNCTION(EXPRESSION[, ARGUMENT...])
    ARGUMENT   = NUMBER | NUMBER with a unit of time | "TEXT"

functions.py has the functions. tshark's side counts by the field's own values; what an expression makes of them is
computed here, once a value, for every engine (folding.py). So engines cannot differ.
"""

from __future__ import annotations

import difflib
import functools
import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sharkstat.errors import RequestError
from sharkstat.statistics.field_names import fields_of, snake_case
from sharkstat.statistics.field_values import text_of_value
from sharkstat.statistics.functions import FUNCTIONS, Argument, Function
from sharkstat.tables.column import Type, Value

KEPT = 1 << 16  # values whose result is remembered


@dataclass(frozen=True)
class Expression:
    """What a function makes of a field's value, or of another expression's.

    Make one with `sharkstat.subnet`, `lower`, `regex`, `segment`, `template`, `second_level` or `bucket`. Raises
    ValueError for an unknown function or wrong arguments.

    >>> Expression("subnet", "ip.src", (24,)).text
    'subnet(ip.src, 24)'
    """

    function: str
    of: str | Expression
    arguments: tuple[Argument, ...] = ()

    def __post_init__(self) -> None:
        rule = self._rule
        if isinstance(self.of, str):
            fields_of(self.of)
        elif not isinstance(self.of, Expression):
            raise ValueError(f"{self.function}: {self.of!r} is no field: write {rule.usage}")
        if len(self.arguments) < rule.least or (len(self.arguments) > len(rule.takes) and not rule.more):
            few = "too few" if len(self.arguments) < rule.least else "too many"
            raise ValueError(f"{self.text}: {few} arguments: write {rule.usage}")
        for number, argument in enumerate(self.arguments):
            if not _is(argument, rule.takes[min(number, len(rule.takes) - 1)]):
                raise ValueError(f"{self.text}: {_written(argument)} does not fit: write {rule.usage}")
        if self.function == "bucket":  # of which type it is, is not known yet
            kinds: Sequence[Type] = ("duration",) if any(_has_unit(bound) for bound in self.arguments) else ("number",)
        else:
            kinds = ("text",)
        self._change(kinds[0])
        of_ipv4 = all(name.startswith("ip.") for name in self.fields)
        if self.function == "subnet" and of_ipv4 and int(self.arguments[0]) > 32:
            raise ValueError(f"{self.text}: an IPv4 prefix is at most 32")

    @property
    def _rule(self) -> Function:
        if self.function not in FUNCTIONS:
            near = difflib.get_close_matches(self.function, FUNCTIONS, n=1, cutoff=0.5)
            fix = f"did you mean {near[0]}?" if near else f"choose {', '.join(FUNCTIONS)}"
            raise ValueError(f"no function {self.function}: {fix}")
        return FUNCTIONS[self.function]

    @property
    def source(self) -> str:
        """The field, or the fields of which the first that a packet has is used."""
        return self.of if isinstance(self.of, str) else self.of.source

    @property
    def fields(self) -> tuple[str, ...]:
        return fields_of(self.source)

    @property
    def types(self) -> tuple[Type, ...]:
        """The types of fields that it can be used for; all, if empty."""
        if isinstance(self.of, Expression):
            return self.of.types
        if self.function == "bucket" and any(map(_has_unit, self.arguments)):
            return ("duration",)
        return self._rule.accepts

    @property
    def text(self) -> str:
        of = self.of if isinstance(self.of, str) else self.of.text
        return f"{self.function}({', '.join([of, *map(_written, self.arguments)])})"

    @property
    def name(self) -> str:
        """The name of a column with it.

        >>> Expression("segment", Expression("lower", "http.request.uri"), (1,)).name
        'http_request_uri_lower_segment_1'
        """
        of = snake_case("_or_".join(self.fields)) if isinstance(self.of, str) else self.of.name
        whole = [str(argument) for argument in self.arguments if isinstance(argument, int)]
        return "_".join([of, self.function, *(whole if self.function != "bucket" else [])]).replace("-", "last_")

    def check(self) -> None:
        """RequestError if a library that the function needs is not installed."""
        needs = self._rule.needs
        if needs and not importlib.util.find_spec(needs[0]):
            raise RequestError(f"{self.function} needs {needs[0]}: pip install 'sharkstat[{needs[1]}]'")
        if isinstance(self.of, Expression):
            self.of.check()

    def change(self, kind: Type) -> Callable[[Value], str | None]:
        """What makes the expression's value of a field's, whose type is `kind`.

        Raises ValueError if an argument does not fit that type.
        """
        inner = None if isinstance(self.of, str) else self.of.change(kind)
        own = self._change(kind if inner is None else "text")

        @functools.lru_cache(KEPT)
        def changed(value: Value) -> str | None:
            text = inner(value) if inner else None if value is None else text_of_value(value)
            return None if text is None else own(text)

        return changed

    def _change(self, kind: Type) -> Callable[[str], str | None]:
        rule = self._rule
        try:
            return rule.made(*self.arguments, of=kind)
        except ValueError as problem:
            raise ValueError(f"{self.text}: {problem}") from None


_UNIT = re.compile(r"-?\d+(?:\.\d+)?(?:ns|us|µs|ms|s|min|m|h|d)", re.ASCII)
_NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def _has_unit(argument: Argument) -> bool:
    return isinstance(argument, str) and bool(_UNIT.fullmatch(argument))


def _is(argument: object, kind: str) -> bool:
    if isinstance(argument, bool):
        return False
    if kind == "whole":
        return isinstance(argument, int)
    if kind == "text":
        return isinstance(argument, str)
    return isinstance(argument, (int, float)) or (
        isinstance(argument, str) and bool(_UNIT.fullmatch(argument) or _NUMBER.fullmatch(argument))
    )


def _written(argument: object) -> str:
    if isinstance(argument, str) and not _has_unit(argument):
        return '"' + argument.replace('"', '\\"') + '"'
    return str(argument)


def subnet(field: str | Expression, prefix: int, ipv6_prefix: int | None = None) -> Expression:
    """The network of an address: `subnet("ip.src", 24)` gives "192.0.2.0/24". On the command line also `ip.src/24`.

    `ipv6_prefix` is that of IPv6 addresses, where the field may be of either. What is no address has no value.
    """
    return Expression("subnet", field, (prefix,) if ipv6_prefix is None else (prefix, ipv6_prefix))


def lower(field: str | Expression) -> Expression:
    """The text in lower case: `lower("http.host")`."""
    return Expression("lower", field)


def regex(field: str | Expression, pattern: str) -> Expression:
    """What the group of a Python regular expression matches, or the whole match if it has no group.

    It is searched for anywhere in the text; text without a match has no value.

    >>> regex("http.user_agent", r"^(\\w+)/").change("text")("curl/8.5.0")
    'curl'
    """
    return Expression("regex", field, (pattern,))


def segment(field: str | Expression, number: int, separator: str = "") -> Expression:
    """One part of a path: `segment("http.request.uri", 1)` gives "api" of /api/v2/users?id=1; -1 is the last part.

    With a `separator`, one part of any text: `segment("dns.qry.name", 1, ".")`.
    """
    return Expression("segment", field, (number, separator) if separator else (number,))


def template(field: str | Expression) -> Expression:
    """The template of an HTTP path, as that of `http,requests`: `template("http.request.uri")` gives "/user/{n}"."""
    return Expression("template", field)


def second_level(field: str | Expression) -> Expression:
    """The registered domain of a name, by the public suffix list: "example.co.uk" of www.example.co.uk.

    It is in lower case. A name without one, as "localhost" or "co.uk", stays as it is. Needs `sharkstat[domains]`.
    """
    return Expression("second_level", field)


def bucket(field: str | Expression, *bounds: int | float | str) -> Expression:
    """The interval that a number is in: `bucket("frame.len", 100, 1000)` gives "100 to 1000", without 1000 itself.

    Bounds of times have a unit, as "10ms", or are seconds.
    """
    return Expression("bucket", field, bounds)


# Reading -----------------------------------------------------------------------------------------------


_NAME = re.compile(r"[A-Za-z_]\w*(?=\s*\()", re.ASCII)
_SOURCE = re.compile(r"[\w.\-]+(?:/[\w.\-]+)*")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'', re.DOTALL)
_ARGUMENT = re.compile(f"(?:{_UNIT.pattern}|{_NUMBER.pattern})(?=\\s*[,)])")


class _Text(str):
    """A text in quotes, which is no field."""

    __slots__ = ()


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    @property
    def here(self) -> str:
        rest = self.text[self.at :]
        return f"before {rest!r}" if rest else "at the end"

    def space(self) -> None:
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1

    def mark(self, character: str) -> bool:
        self.space()
        found = self.text.startswith(character, self.at)
        self.at += found
        return found

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self.space()
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
        return found

    def call(self) -> tuple[str, list[object]] | None:
        name = self.match(_NAME)
        if not name:
            return None
        self.mark("(")
        arguments: list[object] = []
        while not self.mark(")"):
            if arguments and not self.mark(","):
                raise ValueError(f"{self.text}: a comma or ) is missing {self.here}")
            arguments.append(self.argument())
        return name[0], arguments

    def argument(self) -> object:
        quoted = self.match(_TEXT)
        if quoted:
            return _Text(re.sub(r"\\([\"'])", r"\1", quoted[1] if quoted[1] is not None else quoted[2]))
        number = self.match(_ARGUMENT)
        if number:
            text = number[0]
            return _Bound(text) if _UNIT.fullmatch(text) else int(text) if re.fullmatch(r"-?\d+", text) else float(text)
        return self.expression()

    def expression(self) -> str | Expression:
        called = self.call()
        if called:
            return expression_of(*called)
        source = self.match(_SOURCE)
        if not source:
            raise ValueError(f"{self.text}: a field is missing {self.here}")
        return _short(source[0])


class _Bound(str):
    """A number with a unit."""

    __slots__ = ()


def expression_of(name: str, arguments: Sequence[object]) -> Expression:
    """NAME(ARGUMENT, ...) as an expression. Raises ValueError for wrong arguments."""
    of, *others = arguments or ("",)
    rule = FUNCTIONS.get(name)
    if rule and (not isinstance(of, (str, Expression)) or isinstance(of, (_Text, _Bound)) or not of):
        raise ValueError(f"{name}: its first argument is a field: write {rule.usage}")
    plain: list[Argument] = []
    for argument in others:
        if rule and (isinstance(argument, Expression) or (type(argument) is str)):
            said = argument.text if isinstance(argument, Expression) else argument
            raise ValueError(f"{name}: {said} does not fit: write {rule.usage}")
        plain.append(str(argument) if isinstance(argument, str) else argument)  # type: ignore[arg-type]
    return Expression(name, of, tuple(plain))  # type: ignore[arg-type]


def _short(text: str) -> str | Expression:
    """FIELD/24 and FIELD/24/64: the network of an address."""
    names = text.split("/")
    prefixes: list[int] = []
    while names and re.fullmatch(r"\d+", names[-1], re.ASCII):
        prefixes.insert(0, int(names.pop()))
    if not prefixes:
        fields_of(text)
        return text
    if not names or len(prefixes) > 2:
        raise ValueError(f"{text}: write FIELD/PREFIX or FIELD/PREFIX/PREFIX6, e.g. ip.src/24")
    return Expression("subnet", "/".join(names), tuple(prefixes))


def read_expression(text: str) -> str | Expression:
    """A field, or an expression. Raises ValueError if the text is neither.

    >>> read_expression("ip.src/24").text, read_expression("ip.src/ipv6.src")
    ('subnet(ip.src, 24)', 'ip.src/ipv6.src')
    """
    reader = _Reader(text)
    found = reader.expression()
    reader.space()
    if reader.at < len(text):
        raise ValueError(f"{text}: {text[reader.at :]!r} behind {text[: reader.at]!r} means nothing")
    return found


def read_call(text: str) -> tuple[str, list[object]]:
    """NAME or NAME(...), whatever NAME is: its name and arguments, which are fields, expressions, numbers or texts."""
    reader = _Reader(text)
    called = reader.call()
    reader.space()
    if not called or reader.at < len(text):
        raise ValueError(f"{text}: write NAME(FIELD, ...)")
    return called


def end_of_word(text: str, start: int = 0) -> int:
    """Where the word of a request ends: at the next comma that is in no parentheses and no quotes.

    >>> text = 'by=regex(http.host, "a,(b)"),count'
    >>> text[: end_of_word(text)]
    'by=regex(http.host, "a,(b)")'
    """
    depth, at = 0, start
    while at < len(text):
        character = text[at]
        if character in "\"'" and depth:
            quoted = _TEXT.match(text, at)
            if not quoted:
                raise ValueError(f"{text[start:]}: a quotation mark is missing")
            at = quoted.end()
            continue
        if character == "," and depth == 0:
            return at
        depth += (character in "({") - (character in ")}" and depth > 0)
        at += 1
    if depth:
        raise ValueError(f"{text[start:]}: a ) is missing")
    return at
