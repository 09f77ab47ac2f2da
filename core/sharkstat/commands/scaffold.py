"""`sharkstat new`: creates a plugin package.

The packages in templates/ are complete. Each is called my-statistic, in several spellings, and is renamed. The files
in common/ belong to all of them.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
import shlex
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from sharkstat.errors import OutputError, RequestError
from sharkstat.statistics.registry import Registry
from sharkstat.tables.output import FORMATS

TEMPLATES = Path(str(files("sharkstat.commands"))) / "templates"
CAPTURE = Path(str(files("sharkstat"))) / "captures" / "dns.pcapng"
# Under their real names, git and ruff would obey these files where they lie.
_ELSEWHERE = {"gitignore": ".gitignore", "pyproject.template.toml": "pyproject.toml"}
KINDS = ("declared", "packets", "tap", "exporter")
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_STATISTIC = re.compile(r"[\w.-]+(,[\w.-]+)*", re.ASCII)


@dataclass(frozen=True)
class Made:
    """A package that was created: its folder, what it has, and its files relative to the folder."""

    folder: Path
    kind: str
    statistic: str  # or the format, of an exporter
    files: tuple[str, ...]

    @property
    def next_commands(self) -> tuple[str, ...]:
        """The commands to start with: install, run, test."""
        request = f"dns,names --format {self.statistic}" if self.kind == "exporter" else self.statistic
        return (
            f"cd {shlex.quote(str(self.folder))} && python -m pip install -e '.[test]'",
            f"sharkstat run tests/{CAPTURE.name} -z {request}",
            "python -m pytest",
        )


def make(name: str, kind: str, folder: Path, statistic: str, registry: Registry) -> Made:
    """Create the package of this name in the folder.

    `kind` is one of KINDS; `statistic` the name for -z, or of an exporter the format, or "" to make it of `name`.
    Raises RequestError for an invalid name or one that is taken, OutputError if the package cannot be written.
    """
    module = _module(name)
    between = "-" if kind == "exporter" else ","
    statistic = statistic or between.join(re.split(r"[-_.]+", name.lower().removeprefix("sharkstat-")))
    if kind not in KINDS:
        raise RequestError(f"--kind {kind}: no such kind; choose {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    if not _STATISTIC.fullmatch(statistic):
        raise RequestError(f"--statistic {statistic}: not a valid name; use words separated by commas, e.g. dns,slow")
    if kind == "exporter" and not re.fullmatch(r"[a-z0-9][a-z0-9-]*", statistic):
        raise RequestError(f"--statistic {statistic}: not a valid format; use small letters, digits and -")
    if kind == "exporter" and statistic in (*FORMATS, *registry.formats):
        raise RequestError(f"the format {statistic} already exists: choose another name with --statistic")
    if kind != "exporter" and statistic in registry.names:
        raise RequestError(f"the statistic {statistic} already exists: choose another name with --statistic")
    place = folder / name
    if place.exists() or place.is_symlink():
        raise RequestError(f"{place} already exists: choose another NAME or --folder")
    words = {
        "my-statistic": name,
        "my_statistic": module,
        "my,statistic": statistic,
        "MyStatistic": "".join(part.capitalize() for part in module.split("_")),
        **({"a statistic for sharkstat": "an output format for sharkstat"} if kind == "exporter" else {}),
        "My statistic": statistic.replace(",", " ").capitalize(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".sharkstat-new-") as unfinished:
            made = Path(unfinished) / name
            written = _write(kind, made, words)
            made.rename(place)  # all or nothing
    except OSError as problem:
        raise OutputError(f"cannot create {place}: {problem.strerror}: choose another --folder") from None
    return Made(place, kind, statistic, written)


def _module(name: str) -> str:
    """The module name for a distribution of this name."""
    if not _DISTRIBUTION.fullmatch(name):
        raise RequestError(f"{name!r} is not a valid package name: use letters and digits, separated by - or _")
    module = re.sub(r"[-_.]+", "_", name).lower()
    if not module.isidentifier() or keyword.iskeyword(module):
        raise RequestError(f"{name}: {module} is not a valid module name: start with a letter")
    if module in sys.stdlib_module_names or importlib.util.find_spec(module):
        raise RequestError(f"{name}: a module {module} already exists: choose another name")
    return module


def _write(kind: str, folder: Path, words: dict[str, str]) -> tuple[str, ...]:
    """Write the files of the template, renamed throughout, and return their names."""
    spelled = re.compile("|".join(map(re.escape, words)))

    def renamed(text: str) -> str:
        return spelled.sub(lambda found: words[found[0]], text)

    written = ["tests/" + CAPTURE.name]
    for template in (TEMPLATES / "common", TEMPLATES / kind):
        for path in sorted(template.rglob("*")):
            if not path.is_file() or path.suffix == ".pyc":
                continue
            relative = renamed(path.relative_to(template).as_posix())
            relative = _ELSEWHERE.get(relative, relative)
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(renamed(path.read_text(encoding="utf-8")), encoding="utf-8")
            written.append(relative)
    shutil.copyfile(CAPTURE, folder / written[0])
    return tuple(sorted(set(written)))
