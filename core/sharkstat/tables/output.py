"""Writes results to standard output, a file, or a folder with one file per table; completely or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sharkstat.errors import OutputError, RequestError

if TYPE_CHECKING:
    from sharkstat.tables.export import Exporter
    from sharkstat.tables.table import Table

# The formats for programs, whose columns are those that were counted.
LOSSLESS = ("json", "jsonl", "csv", "tsv", "parquet", "arrow")
# Made by sharkstat.reports and charts, which need more than the tables.
DRAWN = ("html", "svg", "png")
# Those of tabulate's formats in which a value cannot act: plain text, and those whose marks are escaped. In the others
# (reStructuredText, and the wikis' formats) a packet could write links, images or directives.
TABULATED = (
    *("plain", "simple", "grid", "simple_grid", "rounded_grid", "heavy_grid", "mixed_grid", "double_grid"),
    *("fancy_grid", "outline", "simple_outline", "rounded_outline", "heavy_outline", "mixed_outline"),
    *("double_outline", "fancy_outline", "presto", "pretty", "psql", "pipe", "github"),
    *("latex", "latex_booktabs", "latex_longtable"),
)
FORMATS = ("table", *LOSSLESS, "markdown", *TABULATED, *DRAWN)
ENDINGS = {"markdown": "md", **{name: name for name in (*LOSSLESS, *DRAWN)}}


def format_for(output: str, wanted: str, others: Mapping[str, str] | None = None) -> str:
    """The format: the one that is wanted, or that of the file's suffix; a table for people where neither says.

    `others` are the formats of plugins, and their endings. RequestError for a suffix that no format has.

    >>> format_for("result.json", ""), format_for("result.json", "csv"), format_for("", "")
    ('json', 'csv', 'table')
    """
    if wanted or output in ("", "-") or output.endswith("/") or _special(output):
        return wanted or "table"
    suffix, name = Path(output).suffix, Path(output).name.lower()
    known = {".txt": "table", **{f".{ending}": name for name, ending in ENDINGS.items()}}
    known.update({f".{ending.lower()}": name for name, ending in (others or {}).items()})
    long = [ending for ending in known if ending.count(".") > 1 and name.endswith(ending)]  # such as .tar.gz
    if long:
        return known[max(long, key=len)]
    if suffix and not Path(output).is_dir() and suffix.lower() not in known:
        raise RequestError(
            f"--output {output}: unknown suffix {suffix}: give --format, or a suffix of {', '.join(known)}"
        )
    return known.get(suffix.lower(), "table")


def ending_of(name: str, others: Mapping[str, str] | None = None) -> str:
    """The ending of a format's files; `others` are those of plugins."""
    return {**ENDINGS, **(others or {})}.get(name, "txt")


def _special(output: str) -> bool:
    """Whether it names an open stream or a device, and no file."""
    return output.startswith("/dev/")


class Output:
    """A place for results, checked before any work.

    "" and "-" are standard output; what ends in a slash is a folder, which is made. A file that is there is replaced
    only with `force`, and then in one step. A symbolic link is never followed, and what was read never replaced.
    """

    def __init__(self, output: str, ending: str = "txt", force: bool = False, read: Sequence[str] = ()) -> None:
        """`ending` is that of files in a folder; `read` are the files that are read. OutputError for a bad place."""
        self.output = output
        self.ending = ending
        self.force = force
        self.standard = output in ("", "-")
        if self.standard:
            return
        self.path = Path(output)
        try:
            self.folder = output.endswith("/") or self.path.is_dir()
            self._check(read)
        except OSError as problem:
            raise OutputError(f"{output}: {problem.strerror}: choose another name") from None
        except ValueError as problem:  # a NUL
            raise OutputError(f"{output}: {problem}: choose another name") from None

    @property
    def in_folder(self) -> bool:
        """Whether each table has a file of its own."""
        return not self.standard and self.folder

    def _check(self, read: Sequence[str]) -> None:
        self._refuse_links(self.path)
        there = _exists(self.path)
        target = self.path if there else self.path.parent
        if not target.exists():
            raise OutputError(f"{self.output}: the folder {target} does not exist: create it first")
        if not os.access(target, os.W_OK):
            raise OutputError(f"{self.output}: permission denied: choose another folder")
        if self.folder or not there:
            return
        for name in read:
            with contextlib.suppress(OSError):
                if name != "-" and self.path.samefile(name):
                    raise OutputError(f"{self.output} is an input file: choose another name")
        self._refuse_files(self.path)

    def _refuse_links(self, path: Path) -> None:
        if path.is_symlink() and not _special(str(path)):
            raise OutputError(f"{path} is a symbolic link: give the file itself, or remove the link")

    def _refuse_files(self, path: Path) -> None:
        if _exists(path) and path.is_file() and not self.force and not _special(str(path)):
            raise OutputError(f"{path} already exists: choose another name, or overwrite it with --force")

    def expect(self, requests: Iterable[str]) -> None:
        """OutputError where files in the folder are in the way of those that these requests will give."""
        if self.standard or not self.folder:
            return
        for path in self._paths(requests):
            self._refuse_links(path)
            self._refuse_files(path)

    def _paths(self, requests: Iterable[str]) -> Iterator[Path]:
        """A file a request, of different names."""
        taken: set[str] = set()
        for request in requests:
            base = re.sub(r"[^A-Za-z0-9]+", "_", request).strip("_")[:80] or "table"
            name, number = base, 2
            while name in taken:
                name, number = f"{base}_{number}", number + 1
            taken.add(name)
            yield self.path / f"{name}.{self.ending}"

    def write(self, tables: Sequence[Table], exporter: Exporter) -> None:
        """Write the tables. OutputError where that cannot be, BrokenPipeError where the reader of a pipe left."""
        if self.standard:
            self._print(exporter(tables))
            return
        try:
            if not self.folder:
                self._write(self.path, exporter(tables))
                return
            self.path.mkdir(exist_ok=True)
            for table, path in zip(tables, self._paths(table.request for table in tables), strict=True):
                self._write(path, exporter([table]))
        except BrokenPipeError:
            raise
        except OSError as problem:
            raise OutputError(f"{self.output}: {problem.strerror}: results not written") from None

    def _print(self, pieces: Iterable[str | bytes]) -> None:
        try:
            sys.stdout.flush()
            descriptor = sys.stdout.fileno()
        except (OSError, ValueError, AttributeError):
            sys.stdout.writelines(map(str, pieces))  # no file, but what an application put in its place
            return
        try:
            _write_all(descriptor, pieces, sys.stdout.encoding or "utf-8", sys.stdout.errors or "strict")
        except BrokenPipeError:
            raise
        except OSError as problem:
            raise OutputError(f"standard output: {problem.strerror}: results are incomplete") from None

    def _write(self, path: Path, pieces: Iterable[str | bytes]) -> None:
        """Whole or not at all: a file that was there stays as it was until the new one is written."""
        self._refuse_links(path)
        if _special(str(path)) or (_exists(path) and not path.is_file()):
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                _write_all(descriptor, pieces)
            finally:
                os.close(descriptor)
            return
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".sharkstat-")
        try:
            try:
                _write_all(descriptor, pieces)
                os.fchmod(descriptor, path.stat().st_mode & 0o7777 if path.exists() else 0o666 & ~_umask())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._put(Path(name), path)
        finally:
            with contextlib.suppress(OSError):
                Path(name).unlink()

    def _put(self, written: Path, path: Path) -> None:
        """Give the file its name; one that came there meanwhile is left alone."""
        if self.force:
            written.replace(path)
            return
        try:
            path.hardlink_to(written)
        except FileExistsError:
            raise OutputError(f"{path} already exists: choose another name, or overwrite it with --force") from None
        except OSError:  # a file system without links
            self._refuse_files(path)
            written.replace(path)


def _exists(path: Path) -> bool:
    """As Path.exists, but an OSError where nobody can know (a name that is too long)."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _write_all(descriptor: int, pieces: Iterable[str | bytes], encoding: str = "utf-8", errors: str = "strict") -> None:
    """Write everything, also where a pipe takes but a part at a time, whatever Python was told of buffers."""
    waiting = bytearray()

    def flush() -> None:
        view = memoryview(bytes(waiting))
        waiting.clear()
        while view:
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                ready = select.poll()
                ready.register(descriptor, select.POLLOUT)
                ready.poll()

    for piece in pieces:
        waiting += piece if isinstance(piece, bytes) else piece.encode(encoding, errors)
        if len(waiting) >= 1 << 16:
            flush()
    flush()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def no_more_output() -> None:
    """Standard output can take no more: what is left in buffers must not be tried again at the end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
