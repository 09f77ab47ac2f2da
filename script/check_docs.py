#!/usr/bin/env python3
"""Checks that the documentation tells the truth; `--write` brings its generated parts up to date.

Checked are README.md, CHANGELOG.md and docs/*.md:

1. What stands between `<!-- generated: KIND NAME -->` and `<!-- end -->` is what the code says today; a
   code block below `<!-- file: PATH -->` is that file; a JSON block below `<!-- result: COMMAND -->` means
   what the command prints. (--write rewrites all of them.)
2. Every `$ command` in a console block prints what is shown below it. Standard output is a terminal of 120
   columns; what goes to standard error is shown behind it. (--write rewrites what is shown.)
   Commands in sh blocks are not run; their options must exist.
3. Every python block runs, one with >>> as a doctest; those of a page share their names.
4. The doctests of core/ and plugins/ hold.
5. Every public name, hook, statistic, exit status and option is documented where it should be.
6. Links to files and headings lead somewhere.

Commands run in the checkout's root.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import doctest
import fcntl
import importlib
import inspect
import io
import json
import os
import pkgutil
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import typer

import sharkstat
from sharkstat import errors, testing
from sharkstat.commands import cli, manual
from sharkstat.engines.tap_info import INFO
from sharkstat.statistics import statistic
from sharkstat.statistics.registry import Registry
from sharkstat.tables import export
from sharkstat.testing import pytest_plugin

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from tests.warm import Warm  # noqa: E402

COLUMNS = 120
TIMEOUT = 60

GENERATED = re.compile(r"(<!-- generated: (\w+)(?: ([^\n]*?))? -->\n)(.*?)(<!-- end -->)", re.DOTALL)
INCLUDED = re.compile(r"(<!-- file: (\S+) -->\n```\w+\n)(.*?)(```\n)", re.DOTALL)
RESULT = re.compile(r"(<!-- result: (.+?) -->\n```json\n)(.*?)(```\n)", re.DOTALL)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


class Wrong(Exception):
    """Something in the documentation that cannot even be made."""


@dataclasses.dataclass
class Page:
    path: Path
    text: str

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    def line(self, offset: int) -> int:
        return self.text.count("\n", 0, offset) + 1

    def blocks(self, language: str) -> list[re.Match[str]]:
        return [match for match in BLOCK.finditer(self.text) if match[1] == language]

    def prose(self) -> str:
        """The text without its code blocks."""
        return BLOCK.sub("", self.text)


def pages() -> list[Page]:
    paths = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [Page(path, path.read_text(encoding="utf-8")) for path in paths]


def difference(shown: str, real: str) -> str:
    """The first lines in which they differ."""
    old, new = shown.splitlines(), real.splitlines()
    for number in range(max(len(old), len(new))):
        one = old[number] if number < len(old) else "(nothing)"
        other = new[number] if number < len(new) else "(nothing)"
        if one != other:
            return f"line {number + 1}\n    shown: {one[:160]}\n    real:  {other[:160]}"
    return "only the ends of lines differ"


# --- 1. generated parts -------------------------------------------------------------------------------------


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(text.replace('|', chr(92) + '|') for text in line)} |\n" for line in lines)


def anchor(heading: str) -> str:
    """What a heading can be linked by, as the usual renderers make it."""
    return re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def commands() -> dict[str, Any]:
    """Every command by its words: `taps list` is one."""
    group: Any = typer.main.get_command(cli.app)
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        found.update({f"{name} {word}": one for word, one in inner.items()} if inner else {name: command})
    return found


def generated_options(name: str) -> str:
    """A command: what its --help says, from its parameters, as Markdown."""
    command = commands()[name]
    summary, *examples = command.help.split("\n\n")
    rows = []
    words = [f"sharkstat {name}"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    words += ["[OPTION]..."] if options else []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            words.append(parameter.metavar if parameter.metavar else parameter.name.upper())
            rows.append([code(words[-1]), parameter.help, ""])
    for option in options:
        flag = getattr(option, "is_flag", False)
        value = "" if flag else f" {option.metavar or option.name.upper()}"
        default = code(str(option.default)) if option.default and not flag else ""
        rows.append([", ".join(code(f"{spelled}{value}") for spelled in option.opts), option.help, default])
    text = f"```sh\n{' '.join(words)}\n```\n\n{summary}\n"
    if rows:
        text += "\n" + markdown_table(("option", "meaning", "default"), rows)
    if examples:
        text += "\nFor example:\n\n```sh\n" + "\n".join(examples) + "\n```\n"
    return text


def statistic_names() -> list[str]:
    return sorted(Registry.default().statistics)


def engines(found: sharkstat.Statistic) -> str:
    return ", ".join(engine.name for engine in found.engines)


def generated_statistics(_: str) -> str:
    registry = Registry.default()
    rows = []
    for name in statistic_names():
        found = registry.statistics[name]
        rows.append([f"[`{name}`](#{anchor(name)})", str(found.title), engines(found)])
    return markdown_table(("statistic", "what it is", "engines"), rows)


def generated_tshark(_: str) -> str:
    """Every statistic of tshark's and of our own: engines, what is exact, what merges, where it was tested."""
    registry = Registry.default()
    versions = json.loads((ROOT / "docs" / "tshark-versions.json").read_text(encoding="utf-8"))
    rows = []
    for name in sorted({name for names in versions.values() for name in names} | set(registry.statistics)):
        found = registry.statistics.get(name) or registry.taken(name)
        try:
            columns = found.columns(found.example)
        except sharkstat.RequestError:  # it cannot be had, and says why
            rows.append([code(name), found.title, found.family, "", "", "", ""])
            continue
        rough = [c.heading.replace("\n", " ") for c in columns if c.approximate]
        exact = "exact" if found.engines[0].own else f"rounded: {', '.join(rough)}" if rough else "as tshark prints it"
        tested = ", ".join(v if names[name] else f"({v})" for v, names in versions.items() if name in names)
        rows.append([code(name), found.title, found.family, engines(found), exact, mergeable(found, columns), tested])
    return markdown_table(("statistic", "what it is", "family", "engines", "numbers", "merges", "tested with"), rows)


def mergeable(found: sharkstat.Statistic, columns: tuple[sharkstat.Column, ...]) -> str:
    request = ",".join(filter(None, (found.name, found.example)))
    empty = sharkstat.Table(found.name, found.title, request, columns, [])
    try:
        found.align([empty, empty])
    except sharkstat.MergeError:
        return "no"
    lost = [c.heading.replace("\n", " ") for c in columns if c.merge == "none"]
    return f"all but {', '.join(lost)}" if lost else "yes"


_COLUMNS_OF: dict[tuple[sharkstat.Column, ...], str] = {}


def generated_statistic(request: str) -> str:
    """A statistic: description, usage, engines and columns, with the columns of the request's arguments."""
    registry = Registry.default()
    found, arguments = registry.find(request)
    arguments = arguments or found.example
    columns = found.columns(arguments)
    description = textwrap.fill(str(found.description), 116, break_on_hyphens=False)
    text = f"{description}\n\nUsage: `-z '{found.usage}'`. Engines: {engines(found)}.\n"
    known = _COLUMNS_OF.setdefault(columns, found.name)
    if known != found.name:
        return f"{text}Its columns are those of [`{known}`](#{anchor(known)}).\n"
    with_arguments = f" of `{request}`" if arguments else ""
    rows = [
        [
            code(c.name),
            c.type,
            c.unit,
            c.role,
            c.merge,
            c.description if c.shown else (c.description + " (exports only)").strip(),
        ]
        for c in columns
    ]
    headings = ("column", "type", "unit", "role", "merge", "")
    return f"{text}\nThe columns{with_arguments}:\n\n{markdown_table(headings, rows)}"


def signature(name: str, thing: Callable[..., Any], drop_self: bool = False) -> str:
    """As it would be written; annotations are the source's own text."""
    found = inspect.signature(thing)
    parts = []
    for parameter in list(found.parameters.values())[1 if drop_self else 0 :]:
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        stars = 2 * (parameter.kind is parameter.VAR_KEYWORD) + (parameter.kind is parameter.VAR_POSITIONAL)
        text = "*" * stars + parameter.name
        text += f": {parameter.annotation}" if isinstance(parameter.annotation, str) else ""
        if parameter.default is not parameter.empty:
            default = repr(parameter.default)
            text += " = " + ("..." if default.startswith("<") else default)
        parts.append(text)
    returned = found.return_annotation
    end = f" -> {returned}" if isinstance(returned, str) and not inspect.isclass(thing) else ""
    line = f"{name}({', '.join(parts)}){end}"
    if len(line) <= 100:
        return line
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){end}"


def docstring(thing: Any) -> str:
    """Its docstring without examples; indented code becomes fenced."""
    text = inspect.getdoc(thing) or ""
    paragraphs = [p for p in text.split("\n\n") if not p.lstrip().startswith(">>>")]
    return "\n\n".join(paragraphs)


def generated_api(name: str) -> str:
    """A public function or class, as `run` or `testing.run`: its signature and what its docstring says."""
    module, _, name = name.rpartition(".")
    thing = getattr(testing if module else sharkstat, name)
    head = (
        "" if inspect.isclass(thing) and issubclass(thing, Exception) else f"```py\n{signature(name, thing)}\n```\n\n"
    )
    return f"{head}{docstring(thing)}\n"


def generated_methods(name: str) -> str:
    """The public methods of a class, each with its signature and docstring."""
    parts = []
    for member, thing in vars(getattr(sharkstat, name)).items():
        if member.startswith("_"):
            continue
        fetched = thing.fget if isinstance(thing, property) else getattr(thing, "__func__", thing)
        if inspect.isfunction(fetched) and inspect.getdoc(fetched):
            shown = (
                member
                if isinstance(thing, property)
                else signature(member, fetched, not isinstance(thing, staticmethod))
            )
            parts.append(f"```py\n{shown}\n```\n\n{docstring(fetched)}\n")
    return "\n".join(parts)


def generated_hook(name: str) -> str:
    hook = getattr(statistic.Hooks, name)
    return f"```py\ndef {signature(name, hook, True)}\n```\n\n{docstring(hook)}\n"


def status_rows() -> list[list[str]]:
    rows = [["0", "", "Success: the results are complete."], ["1", code("SharkstatError"), "Any other error."]]
    for error in sorted(error_classes(), key=lambda e: (e.exit_status, e.__name__ != "RequestError")):
        rows.append([str(error.exit_status), code(error.__name__), docstring(error).split("\n\n")[0]])
    rows += [
        [
            str(errors.EXIT_INCOMPLETE),
            "",
            "Results were printed, but they are incomplete: the source was not read to its end.",
        ],
        [str(errors.EXIT_CHANGED), "", "`sharkstat diff --fail-over`: traffic changed by more than the limit."],
        [
            str(errors.EXIT_INTERRUPTED),
            "",
            "Interrupted by Ctrl-C while reading files. The results so far are printed.",
        ],
        ["141", "", "The reader of standard output closed the pipe, as `head` does."],
    ]
    rows.sort(key=lambda row: int(row[0]))
    return rows


def generated_taps(_: str) -> str:
    rows = [(code(tap), ", ".join(map(code, names))) for tap, names in INFO.items() if names]
    return markdown_table(("tap", "its `info`"), rows)


def generated_statuses(_: str) -> str:
    return markdown_table(("status", "Python", "meaning"), status_rows())


def man_page(write: bool) -> Iterator[str]:
    """What is wrong with the man page; with `write` it is renewed."""
    meanings: dict[int, str] = {}
    for status, _, meaning in status_rows():
        text = meaning.replace("`", "")
        meanings[int(status)] = f"{meanings[int(status)]} {text}" if int(status) in meanings else text
    path, made = ROOT / "docs" / "sharkstat.1", manual.page(str(cli.app.info.help), commands(), meanings)
    if path.exists() and path.read_text(encoding="utf-8") == made:
        return
    if write:
        path.write_text(made, encoding="utf-8")
        print("written: docs/sharkstat.1")
    else:
        yield "docs/sharkstat.1: it is not what --help says (--write renews it)"


def error_classes() -> list[type[sharkstat.SharkstatError]]:
    return [
        c
        for c in vars(errors).values()
        if inspect.isclass(c) and issubclass(c, errors.SharkstatError) and c is not errors.SharkstatError
    ]


def without_version(text: str) -> str:
    """The one thing that is not compared: which tshark this is."""
    return re.sub(r'("tshark": )"[\d.]+"', r'\1"4.0.17"', text)


def laid_out(value: Any, indent: int = 0) -> str:
    """JSON for reading: what fits on a line is on one."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + indent <= 100 or not isinstance(value, (dict, list)) or not value:
        return line
    pad = " " * (indent + 2)
    if isinstance(value, dict):
        inner = [f"{pad}{json.dumps(key)}: {laid_out(item, indent + 2)}" for key, item in value.items()]
    else:
        inner = [f"{pad}{laid_out(item, indent + 2)}" for item in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n" + ",\n".join(inner) + f"\n{' ' * indent}{closing}"


def renew(page: Page) -> str:
    """The page with its generated parts, included files and JSON results as they should be."""
    problems: list[str] = []

    def generate(match: re.Match[str]) -> str:
        maker = globals().get(f"generated_{match[2]}")
        if maker is None:
            problems.append(f"{page.name}:{page.line(match.start())}: no such generated part: {match[2]}")
            return match[0]
        try:
            return f"{match[1]}{maker(match[3] or '')}{match[5]}"
        except (KeyError, AttributeError, sharkstat.SharkstatError) as problem:
            problems.append(f"{page.name}:{page.line(match.start())}: {match[2]} {match[3]}: {problem}")
            return match[0]

    def include(match: re.Match[str]) -> str:
        path = ROOT / match[2]
        if not path.is_file():
            problems.append(f"{page.name}:{page.line(match.start())}: no such file: {match[2]}")
            return match[0]
        return f"{match[1]}{path.read_text(encoding='utf-8')}{match[4]}"

    def result(match: re.Match[str]) -> str:
        real = json.loads(without_version(run_command(match[2], terminal=False)[0]))
        with contextlib.suppress(ValueError):
            if json.loads(match[3]) == real:
                return match[0]
        return f"{match[1]}{laid_out(real)}\n{match[4]}"

    _COLUMNS_OF.clear()
    text = GENERATED.sub(generate, page.text)
    text = INCLUDED.sub(include, text)
    text = RESULT.sub(result, text)
    if problems:
        raise Wrong("\n".join(problems))
    return text


# --- 2. commands --------------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}",
        "TERM": "xterm",
        "NO_COLOR": "1",
    }


def read_all(descriptor: int) -> str:
    pieces = []
    with contextlib.suppress(OSError):  # a terminal whose other end closed
        while piece := os.read(descriptor, 1 << 16):
            pieces.append(piece)
    os.close(descriptor)
    return b"".join(pieces).decode("utf-8", "replace").replace("\r\n", "\n")


WARM = Warm(str(Path(sys.executable).with_name("sharkstat")))


def plain_words(command: str) -> list[str]:
    """The arguments of a command that is sharkstat and nothing that needs a shell; else none."""
    if re.search(r"[$`*?\[~!\\\n]", command):
        return []
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    plain = words == shlex.split(command) and not any(set(word) <= set("();<>|&") for word in words)
    return words[1:] if words[0] == "sharkstat" and plain else []


def run_command(command: str, last_status: int = 0, terminal: bool = True) -> tuple[str, int]:
    """What a shell command prints (standard error behind standard output), and its exit status."""
    if terminal:
        mine, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    else:
        mine, its = os.pipe()
    with tempfile.TemporaryFile() as complaints:
        if words := plain_words(command):
            streams = [os.open(os.devnull, os.O_RDONLY), its, os.dup(complaints.fileno())]
            with ThreadPoolExecutor(1) as reader:
                read = reader.submit(read_all, mine)
                status = WARM.call(words, environment(), str(ROOT), streams, TIMEOUT)
                output = read.result()
        else:
            try:
                process = subprocess.Popen(
                    ["bash", "-c", f"(exit {last_status}); {command}"],
                    cwd=ROOT,
                    env=environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=its,
                    stderr=complaints,
                )
            finally:
                os.close(its)
            output = read_all(mine)
            status = process.wait(TIMEOUT)
        complaints.seek(0)
        said = complaints.read().decode("utf-8", "replace")
    # tshark warns root on stderr, whatever it does; of tshark, only the results are shown.
    return output + ("" if re.search(r"(^| )tshark ", command) else said), status


def lua_is_silent() -> bool:
    """tshark 4.4 and later, as root, loads no script that it is given."""
    from sharkstat.tshark.process import find_tshark

    return os.geteuid() == 0 and find_tshark().check().version >= "4.4"


def renew_console(body: str) -> str:
    """A console block as it would look now."""
    lines = body.splitlines()
    result: list[str] = []
    status = at = 0
    while at < len(lines):
        if not lines[at].startswith("$ "):
            at += 1
            continue
        command = [lines[at][2:]]
        while command[-1].endswith("\\") and at + 1 < len(lines):
            at += 1
            command.append(lines[at])
        at += 1
        end = next((n for n in range(at, len(lines)) if lines[n].startswith("$ ")), len(lines))
        result += [f"$ {command[0]}", *command[1:]]
        if re.search(r"(^| )tshark ", command[0]) and lua_is_silent():
            result += lines[at:end]
        else:
            output, status = run_command("\n".join(command), status)
            result += [line.rstrip() for line in output.splitlines()]
            if end < len(lines) and lines[end - 1 : end] == [""]:
                result.append("")
        at = end
    while result and not result[-1]:
        result.pop()
    return "\n".join(result) + "\n"


def check_options(page: Page) -> Iterator[str]:
    """The commands that are only shown: their options must exist."""
    for block in page.blocks("sh"):
        for line in block[2].splitlines():
            if "OPTION" in line:
                continue
            for part in re.findall(r"(?:^|\| )(sharkstat [^|]+)", line.partition("  #")[0]):
                words = shlex.split(part)
                if words[1].startswith("-"):
                    continue
                if "." in words[1]:  # a capture
                    words.insert(1, "overview")
                known_commands = commands()
                if " ".join(words[1:3]) in known_commands:
                    words[1:3] = [" ".join(words[1:3])]
                command = known_commands.get(words[1])
                where = f"{page.name}:{page.line(block.start())}"
                if command is None:
                    yield f"{where}: there is no command sharkstat {words[1]}"
                    continue
                known = {spelled for parameter in command.params for spelled in parameter.opts}
                for word in words[2:]:
                    if re.match(r"--?[A-Za-z]", word) and word.partition("=")[0] not in {
                        *known,
                        "--help",
                        "-h",
                    }:
                        yield f"{where}: sharkstat {words[1]} has no option {word}"


# --- 3 and 4. Python ----------------------------------------------------------------------------------------


def check_python(page: Page) -> Iterator[str]:
    """Run the page's blocks in order; they share their names, as in one session."""
    names: dict[str, Any] = {"__name__": "documentation"}
    for block in page.blocks("python"):
        where = f"{page.name}:{page.line(block.start())}"
        if ">>>" in block[2]:
            test = doctest.DocTestParser().get_doctest(block[2], names, where, page.name, 0)
            yield from run_doctest(test, names)
            continue
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(block[2], where, "exec"), names)
        except Exception:
            reason = textwrap.indent(traceback.format_exc(limit=-2), "    ")
            yield f"{where}: the python block does not run\n{reason}"


def run_doctest(test: doctest.DocTest, names: dict[str, Any] | None = None) -> Iterator[str]:
    if names is not None:
        test.globs = names  # the parser took a copy
    said = io.StringIO()
    outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.write, clear_globs=False)
    if outcome.failed:
        yield f"{test.name}: doctest\n{textwrap.indent(said.getvalue(), '    ')}"


def check_doctests() -> Iterator[str]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    for package in ("sharkstat", "sharkstat_plugins"):
        folder = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(folder, f"{package}."):
            if ".templates." in module.name:
                continue
            for test in finder.find(importlib.import_module(module.name)):
                if test.examples:
                    yield from run_doctest(test)


# --- 5. completeness ----------------------------------------------------------------------------------------


def check_complete(found: Sequence[Page]) -> Iterator[str]:
    text = {page.name: page.text for page in found}

    def missing(page: str, what: str, names: Sequence[str], form: str = "`{}`") -> Iterator[str]:
        for name in names:
            if form.format(name) not in text.get(page, ""):
                yield f"{page}: {what} {name} is not documented"

    modules = sorted({path.stem for path in (ROOT / "core" / "sharkstat").glob("*/*.py")} - {"__init__"})
    yield from missing("docs/architecture.md", "the module", modules)
    everything = text.get("docs/python.md", "") + text.get("docs/plugin-reference.md", "")
    for name in sharkstat.__all__:
        if f"`{name}`" not in everything:
            yield f"docs/python.md or docs/plugin-reference.md: the public name {name} is not documented"
    hooks = [name for name in vars(statistic.Hooks) if not name.startswith("_")]
    yield from missing("docs/plugin-reference.md", "the hook", hooks, "<!-- generated: hook {} -->")
    for name in ("Statistic", "PacketCounter", "Packet"):
        yield from missing("docs/plugin-reference.md", "the class", [name], "<!-- generated: methods {} -->")
    yield from missing("docs/plugin-reference.md", "the field of Listen", field_names(sharkstat.Listen))
    for owner in (sharkstat.Column, sharkstat.Reading, sharkstat.Source, sharkstat.Table):
        yield from missing("docs/python.md", f"the field of {owner.__name__}", field_names(owner))
    public = [name for name, thing in vars(testing).items() if getattr(thing, "__module__", "") == testing.__name__]
    functions = [name for name in public if name.islower() and not name.startswith("_")]
    yield from missing("docs/testing.md", "the function", functions, "<!-- generated: api testing.{} -->")
    yield from missing("docs/testing.md", "the type", [name for name in public if name[0].isupper()])
    fixtures = [name for name in vars(pytest_plugin) if name.startswith(("sharkstat_", "assert_"))]
    yield from missing("docs/testing.md", "the fixture", fixtures)
    yield from missing("docs/commands.md", "the command", list(commands()), "<!-- generated: options {} -->")
    for command in commands().values():
        for parameter in command.params:
            for spelled in parameter.opts:
                if spelled.startswith("-") and f"`{spelled}" not in text.get("docs/commands.md", ""):
                    yield f"docs/commands.md: the option {spelled} is not documented"
    for name in statistic_names():
        if not re.search(rf"<!-- generated: statistic {re.escape(name)}(,.*)? -->", text.get("docs/statistics.md", "")):
            yield f"docs/statistics.md: the statistic {name} is not documented"
    formats = ["table", *list(export.built_in())[:5]]
    yield from missing("docs/formats.md", "the format", formats)
    described = export.described(sharkstat.Table("", "", "", (sharkstat.Column("a", "text"),), []))
    layout = [*described, *described["read"], *described["columns"][0]]
    yield from missing("docs/formats.md", "the field", layout)
    statuses = {error.exit_status for error in error_classes()} | {
        0,
        1,
        errors.EXIT_INCOMPLETE,
        errors.EXIT_CHANGED,
        errors.EXIT_INTERRUPTED,
    }
    yield from missing("docs/exit-statuses.md", "the exit status", [str(s) for s in sorted(statuses)], "| {} |")
    yield from missing(
        "docs/README.md",
        "the page",
        [p.path.name for p in found if p.path.parent.name == "docs" and p.path.name != "README.md"],
        "({})",
    )


def field_names(owner: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(owner)]


# --- 6. links -----------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings."""
    text = BLOCK.sub("", path.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.replace("`", "")).strip().lower().replace(" ", "-") for title in titles}


def check_links(page: Page) -> Iterator[str]:
    for match in LINK.finditer(page.prose()):
        target, _, heading = match[1].partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = (page.path.parent / target).resolve() if target else page.path
        if not path.exists():
            yield f"{page.name}: the link to {match[1]} leads nowhere"
        elif heading and path.suffix == ".md" and heading not in anchors(path):
            yield f"{page.name}: {match[1]}: there is no such heading"


# --- all of it ----------------------------------------------------------------------------------------------


def renewed_pages(found: Sequence[Page]) -> dict[Path, str]:
    """Every page as it should be. The commands run side by side."""
    with ThreadPoolExecutor(max_workers=min(8, (os.cpu_count() or 2) + 2)) as pool:
        made = {page.path: renew(page) for page in found}
        blocks = {
            (path, match.start(2)): (match, pool.submit(renew_console, match[2]))
            for path, text in made.items()
            for match in BLOCK.finditer(text)
            if match[1] == "console"
        }
        for (path, at), (match, future) in sorted(blocks.items(), reverse=True):
            text = made[path]
            if without_version(future.result()) != without_version(match[2]):
                made[path] = text[:at] + future.result() + text[match.end(2) :]
    return made


def check(write: bool) -> list[str]:
    found = pages()
    try:
        renewed = renewed_pages(found)
    except Wrong as problem:
        return str(problem).splitlines()
    problems = []
    for page in found:
        if renewed[page.path] == page.text:
            continue
        if write:
            page.path.write_text(renewed[page.path], encoding="utf-8")
            print(f"written: {page.name}")
            page.text = renewed[page.path]
        else:
            what = difference(page.text, renewed[page.path])
            problems.append(f"{page.name} is not current (script/check_docs.py --write renews it): {what}")
    for page in found:
        problems += [*check_options(page), *check_python(page), *check_links(page)]
    return [*problems, *man_page(write), *check_doctests(), *check_complete(found)]


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the documentation, or bring it up to date.")
    parser.add_argument("--write", action="store_true", help="rewrite what is generated and what commands print")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    problems = check(arguments.write)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"check_docs: {len(problems)} wrong", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
