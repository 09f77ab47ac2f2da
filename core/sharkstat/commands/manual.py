"""The man page, made of the texts that --help shows. script/check_docs.py --write renews docs/sharkstat.1 with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sharkstat import __version__

FILES = (
    ("~/.config/sharkstat/plugins", "Plugins of the user: Python files, and Lua taps."),
    ("~/.cache/sharkstat", "An index of the plugins, which may be deleted at any time."),
)
ENVIRONMENT = (
    ("SHARKSTAT_TSHARK", "The tshark to use instead of the first on the PATH."),
    ("SHARKSTAT_NO_PLUGINS", "If set, only the built-in statistics are loaded."),
    ("NO_COLOR", "If set, no colors are used."),
)


def page(about: str, commands: Mapping[str, Any], statuses: Mapping[int, str]) -> str:
    """The page in roff, of what the program is, its commands by their words, and its exit statuses."""
    return "\n".join(_lines(about, commands, statuses)) + "\n"


def _lines(about: str, commands: Mapping[str, Any], statuses: Mapping[int, str]) -> Iterator[str]:
    yield f'.TH SHARKSTAT 1 "" "sharkstat {__version__}" "User Commands"'
    yield from (".SH NAME", "sharkstat \\- statistics of network traffic as tables")
    yield from (".SH SYNOPSIS", ".B sharkstat", "FILE...", ".br", ".B sharkstat", "COMMAND [OPTION]... [ARGUMENT]...")
    yield from (".SH DESCRIPTION", _text(about), "A capture file without a command shows its overview.")
    yield ".SH COMMANDS"
    for name, command in commands.items():
        summary, *examples = command.help.split("\n\n")
        words = [p.metavar or p.name.upper() for p in command.params if p.param_type_name == "argument"]
        yield from (f".SS {_text(f'sharkstat {name}')} [OPTION]... {_text(' '.join(words))}".rstrip(), _text(summary))
        for parameter in command.params:
            if not parameter.help:
                continue
            if parameter.param_type_name == "argument":
                term = parameter.metavar or parameter.name.upper()
            else:
                value = (
                    "" if getattr(parameter, "is_flag", False) else f" {parameter.metavar or parameter.name.upper()}"
                )
                term = ", ".join(f"{option}{value}" for option in parameter.opts)
            yield from (".TP", f".B {_text(term)}", _text(parameter.help))
        if examples:
            yield from (".PP", "Examples:", ".PP", ".nf", *(f"    {_text(line)}" for line in examples), ".fi")
    yield from (".SH EXIT STATUS", *_terms({str(status): meaning for status, meaning in statuses.items()}))
    yield from (".SH ENVIRONMENT", *_terms(dict(ENVIRONMENT)))
    yield from (".SH FILES", *_terms(dict(FILES)))
    yield from (".SH SEE ALSO", ".BR tshark (1),", ".BR dumpcap (1),", ".BR wireshark\\-filter (4)")


def _terms(meanings: Mapping[str, str]) -> Iterator[str]:
    for term, meaning in meanings.items():
        yield from (".TP", f".B {_text(term)}", _text(meaning))


def _text(text: str) -> str:
    """Text that roff shows as it is."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("\n", " ")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
