"""Makes a package with a statistic of your own: `sharkstat new`.

The packages in templates/ are whole: each is called my-statistic, in all spellings, and gets another name. Files of
common/ are in all of them.
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

TEMPLATES = Path(str(files("sharkstat.commands"))) / "templates"
CAPTURE = Path(str(files("sharkstat"))) / "captures" / "dns.pcapng"
# Where they lie, these would mean something to git and to ruff.
_ELSEWHERE = {"gitignore": ".gitignore", "pyproject.template.toml": "pyproject.toml"}
KINDS = ("declared", "packets", "tap")
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_STATISTIC = re.compile(r"[\w.-]+(,[\w.-]+)*", re.ASCII)


@dataclass(frozen=True)
class Made:
    """A package that was made: its folder, its statistic and its files, relative to the folder."""

    folder: Path
    statistic: str
    files: tuple[str, ...]

    @property
    def next_commands(self) -> tuple[str, ...]:
        """What to do with it first: install, run, test."""
        return (
            f"cd {shlex.quote(str(self.folder))} && python -m pip install -e '.[test]'",
            f"sharkstat run tests/{CAPTURE.name} -z {self.statistic}",
            "python -m pytest",
        )


def make(name: str, kind: str, folder: Path, statistic: str, registry: Registry) -> Made:
    """Make the package of that name in the folder.

    `kind` is "declared", "packets" or "tap"; `statistic` what is asked for with -z, "" to make it from the name.
    RequestError for names that cannot be, or where something of that name is there already; OutputError where it cannot
    be written.
    """
    module = _module(name)
    statistic = statistic or ",".join(re.split(r"[-_.]+", name.lower().removeprefix("sharkstat-")))
    if kind not in KINDS:
        raise RequestError(f"--kind {kind}: take {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    if not _STATISTIC.fullmatch(statistic):
        raise RequestError(f"--statistic {statistic}: take words with commas between them, as dns,slow")
    if statistic in registry.names:
        raise RequestError(f"there is a statistic {statistic} already: give another --statistic")
    place = folder / name
    if place.exists() or place.is_symlink():
        raise RequestError(f"{place} exists, and nothing is overwritten: take another NAME or --folder")
    words = {
        "my-statistic": name,
        "my_statistic": module,
        "my,statistic": statistic,
        "MyStatistic": "".join(part.capitalize() for part in module.split("_")),
        "My statistic": statistic.replace(",", " ").capitalize(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".sharkstat-new-") as unfinished:
            made = Path(unfinished) / name
            written = _write(kind, made, words)
            made.rename(place)  # whole, or not at all
    except OSError as problem:
        raise OutputError(f"cannot make {place}: {problem.strerror}: name another --folder") from None
    return Made(place, statistic, written)


def _module(name: str) -> str:
    """The module of a distribution of that name."""
    if not _DISTRIBUTION.fullmatch(name):
        raise RequestError(f"{name!r} cannot be a package's name: take letters and digits, with - or _ between them")
    module = re.sub(r"[-_.]+", "_", name).lower()
    if not module.isidentifier() or keyword.iskeyword(module):
        raise RequestError(f"{name}: Python cannot import a module {module}: take a name that begins with a letter")
    if module in sys.stdlib_module_names or importlib.util.find_spec(module):
        raise RequestError(f"{name}: there is a module {module} already: take another name")
    return module


def _write(kind: str, folder: Path, words: dict[str, str]) -> tuple[str, ...]:
    """Write the files, every word of the template replaced; gives their names."""
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
    return tuple(sorted(written))
