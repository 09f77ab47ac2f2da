"""Runs a plan: one tshark process, its records read, its tables made."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sharkstat.errors import RequestError, SharkstatError, SourceError, StatisticError, TsharkError
from sharkstat.plan import Plan, Request, make_plan
from sharkstat.records import LIST, Failure, Records, described, unescape
from sharkstat.registry import Registry
from sharkstat.source import Opened, Source, interfaces_hint
from sharkstat.table import Column, Reading, Row, Table, Value
from sharkstat.tshark import Tshark, Workspace, find_tshark

if TYPE_CHECKING:
    from sharkstat.feed import Feed

NO_CAPTURE = "{} is not a capture file in a format that tshark knows: check the name"
Progress = Callable[[int, int], None]


def run_plan(plan: Plan, tshark: Tshark, progress: Progress | None = None) -> list[Table]:
    """One pass over the source. Gives a table a request, in order."""
    try:
        # What cannot be read again reads its times exactly from the start (see host.lua).
        exact = plan.source.live or not all(Path(name).is_file() for name in plan.source.files)
        while True:
            with Workspace(tshark) as workspace, Opened(plan.source, workspace) as opened:
                tables = _Pass(plan, tshark, workspace, opened, progress, exact).run()
            if tables is not None:
                return tables
            exact = True
            plan = plan.again()
    except OSError as problem:
        # shutil's own error is a list of (from, to, reason).
        reason = problem.args[0][0][2] if isinstance(problem, shutil.Error) else problem.strerror
        raise TsharkError(
            f"cannot work in {tempfile.gettempdir()}: {reason}: make room there, or set TMPDIR to another folder"
        ) from problem


class _Pass:
    def __init__(
        self,
        plan: Plan,
        tshark: Tshark,
        workspace: Workspace,
        opened: Opened,
        progress: Progress | None,
        exact: bool,
    ) -> None:
        self.plan = plan
        self.tshark = tshark
        self.workspace = workspace
        self.opened = opened
        self.progress = progress
        self.exact = exact
        self.records = Records()
        self.stderr: list[str] = []
        self.interrupted = False

    def run(self) -> list[Table] | None:
        """The tables; None if times came that only another, exact pass can tell."""
        read_end, write_end = self.workspace.pipe()
        with contextlib.ExitStack() as stack:
            command = self._command(stack, write_end)
            stdout = subprocess.PIPE if self.plan.whole_packets else subprocess.DEVNULL
            try:
                process = self.workspace.start(command, stdin=self.opened.stdin, stdout=stdout, pass_fds=[write_end])
            finally:
                os.close(write_end)
                self.opened.given()
            records = stack.enter_context(os.fdopen(read_end, "rb"))
            stack.callback(_reap, process)
            assert process.stderr is not None
            errors = threading.Thread(target=self._read_errors, args=(process.stderr,), daemon=True)
            errors.start()
            feed = None
            if self.plan.listens:
                from sharkstat.feed import Feed  # and pyshark: tshark starts while they are imported

                feed = Feed(self.plan, self.records, process.stdout)
            with self._watched(), self._interruptible(process):
                self._read(records, process, feed)
            status = process.wait()
            errors.join(timeout=10)
            helper_errors = self.opened.finish()
        if self.records.too_far and not self.interrupted:
            return None
        return self._tables(status, helper_errors)

    def _command(self, stack: contextlib.ExitStack, write_end: int) -> list[str]:
        lua = stack.enter_context(as_file(files("sharkstat_lua")))
        library = self.workspace.readable(lua, "lua")
        taps: dict[Path, Path] = {}
        for request in self.plan.requests:
            path = request.statistic.tap
            if request.engine == "lua" and path is not None and path not in taps:
                try:
                    path.open("rb").close()
                except OSError as problem:
                    raise StatisticError(f"{request.text}: its tap {path} cannot be read: {problem.strerror}") from None
                taps[path] = (
                    library / path.name if path.parent == lua else self.workspace.readable(path, f"taps/{path.name}")
                )
        job = self.workspace.write("job", self.plan.job(f"/dev/fd/{write_end}", self.first_path, taps, self.exact))
        return [
            self.tshark.path,
            "-q",
            *(["-T", "pdml"] if self.plan.whole_packets else []),
            *self.plan.leaf_options(),
            *self.opened.arguments(),
            "-X",
            f"lua_script:{library / 'host.lua'}",
            "-X",
            f"lua_script1:{job}",
        ]

    @property
    def first_path(self) -> Path:
        """Where the tap saves the first packet, for its time."""
        return self.workspace.path / "first.pcap"

    def _read_errors(self, stream: IO[bytes]) -> None:
        for line in stream:
            self.stderr.append(line.decode("utf-8", "replace").rstrip("\n"))

    # Reading -----------------------------------------------------------------------------------

    def _read(self, stream: IO[bytes], process: subprocess.Popen[bytes], feed: Feed | None) -> None:
        for line in stream:
            if not line.endswith(b"\n"):  # tshark was killed in the middle of it
                return
            if feed is not None and line.startswith(b"P\t"):
                feed.packet(line)
                continue
            self._record(line)
            if self.records.too_far or (not self.records.ready and self.records.failures):
                process.kill()
                self.opened.interrupt()

    @contextlib.contextmanager
    def _interruptible(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Ctrl-C (or a kill) ends the source, and what was read is counted; a second one ends it all."""

        def interrupt(number: int, frame: object) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True
            self.opened.interrupt()
            if self.plan.source.two_pass:  # it reads the file by itself
                process.kill()

        before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    before[number] = signal.signal(number, interrupt)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _record(self, line: bytes) -> None:
        records = self.records
        kind, *words = line.decode("utf-8", "surrogateescape").rstrip("\n").split("\t")
        if kind == "R":
            records.rows.setdefault(int(words[0]), []).append(words[1:])
        elif kind == "H":
            records.ready, records.version = True, words[0]
        elif kind == "E":
            where, message, packet, lua_traceback = map(unescape, words)
            records.failures[where] = Failure(message, packet, lua_traceback)
        elif kind == "C":
            records.columns[int(words[0])] = words[1:]
        elif kind == "D":
            records.counted[int(words[0])] = int(words[1])
        elif kind == "F":
            records.types[words[0]] = words[1]
        elif kind == "T":
            secs, nsecs = map(int, words[1:3])
            known = secs * 10**9 + nsecs if self.exact else first_time(self.first_path, secs)
            records.base_ns = known - int(words[0])
            records.has_times = True
        elif kind == "X":
            records.too_far = True
        elif kind == "A":
            records.names[unescape(words[0])] = unescape(words[1])
        elif kind == "B":
            records.books = words
        elif kind == "Z":
            records.ended = True

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Tell `progress` of the position in the files, from time to time."""
        if self.progress is None or not self.opened.size:
            yield
            return
        done = threading.Event()
        thread = threading.Thread(target=self._watch, args=(done,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _watch(self, done: threading.Event) -> None:
        assert self.progress is not None
        while not done.wait(0.1):
            self.progress(self.opened.position, self.opened.size)
        self.progress(self.opened.size, self.opened.size)

    # Tables ------------------------------------------------------------------------------------

    def _tables(self, status: int, helper_errors: list[str]) -> list[Table]:
        self._raise_early_failures(status, helper_errors)
        complete, warnings = self._judge(status, helper_errors)
        reading = self._reading(helper_errors)
        tables: list[Table] = []
        failed: list[str] = []
        traces: list[str] = []
        for index, request in enumerate(self.plan.requests):
            failure = self.records.failures.get(str(index))
            if failure is None:
                try:
                    table = Table(
                        name=request.statistic.name,
                        title=request.statistic.title,
                        request=request.text,
                        columns=self._columns(index, request),
                        rows=self._rows(index, request),
                        engine=request.engine,
                        tshark=self.records.version,
                        complete=complete,
                        reading=reading,
                        warnings=list(warnings),
                        names=self.records.names,
                        statistic=request.statistic,
                    )
                    request.statistic.derive(table)
                    request.statistic.order(table)
                    tables.append(table)
                    continue
                except Exception as problem:  # a stranger's statistic may do anything: the others go on
                    failure = Failure(described(problem), traceback=traceback.format_exc())
            at = f" at packet {failure.packet}" if failure.packet else ""
            failed.append(f"{request.text} failed{at}: {failure.message}")
            traces.append(failure.traceback)
        if failed:
            raise StatisticError("; ".join(failed), tables, traceback="\n".join(traces))
        return tables

    def _columns(self, index: int, request: Request) -> tuple[Column, ...]:
        """The columns, with "number" made "duration" where the engine says that the values are."""
        if request.counter is not None:
            types: Sequence[str] | None = request.counter.column_types()
        else:
            types = [words.rpartition(" ")[2] for words in self.records.columns.get(index, [])]
        if not types:
            return request.columns
        given = dict(zip((c.name for c in request.counted), types, strict=True))
        return tuple(
            replace(c, type="duration", unit="seconds") if c.type == "number" and given.get(c.name) == "duration" else c
            for c in request.columns
        )

    def _rows(self, index: int, request: Request) -> list[Row]:
        given = {column.name: column for column in self._columns(index, request)}
        columns = [given[column.name] for column in request.counted]
        base = self.records.base_ns if self.records.has_times else None
        empty: Row = dict.fromkeys((c.name for c in request.columns), None)
        if request.counter is not None:
            return [_counted_row(columns, values, base, empty) for values in request.counter.rows()]
        raw = self.records.rows.pop(index, [])
        if self.records.counted.get(index) != len(raw):
            raise TsharkError(
                f"the tap did not reach its end (tshark says: {self._last_words()}); "
                "nothing is shown, since it would not be whole"
            )
        names = [words.rpartition(" ")[0] for words in self.records.columns.get(index, [])]
        declared = [c.name for c in columns]
        if len(names) != len(declared) or any(n in declared and n != d for n, d in zip(names, declared, strict=True)):
            raise StatisticError(f"the tap gives the columns {names}, not {declared}")
        readers = [_reader(column, base) for column in columns]
        rows = []
        for values in raw:
            row = dict(empty)
            for column, reader, value in zip(columns, readers, values, strict=True):
                row[column.name] = None if value == "\\N" else reader(value)
            rows.append(row)
        return rows

    def _reading(self, helper_errors: Iterable[str]) -> Reading:
        packets, size, first, last = self.records.books[:4]
        base = self.records.base_ns if self.records.has_times else None

        def at(text: str) -> int | None:
            return None if text == "\\N" or base is None else base + int(text)

        captured = dropped = None
        if self.plan.source.live:
            captured, dropped = _capture_counts(helper_errors)
        return Reading(
            sources=self.plan.source.names,
            packets=int(packets),
            bytes=int(size),
            start=base,
            first=at(first),
            last=at(last),
            display_filter=self.plan.source.display_filter,
            capture_filter=self.plan.source.capture_filter,
            captured=captured,
            dropped=dropped,
        )

    # What went wrong ---------------------------------------------------------------------------

    def _last_words(self) -> str:
        words = [line for line in self._complaints() if line]
        return words[-1] if words else "nothing"

    def _complaints(self) -> list[str]:
        """What tshark said on stderr, without what it always says, and with the source's own name."""
        name = self.plan.source.names[0] if self.plan.source.names else "-"
        lines = []
        for line in self.stderr:
            text = line.strip().removeprefix("tshark: ")
            if not text or text.startswith(("Running as user", "Capturing on")):
                continue
            text = text.replace('The file "-"', f'The file "{name}"').replace("The standard input", name)
            lines.append(text)
        return lines

    def _raise_early_failures(self, status: int, helper_errors: list[str]) -> None:
        records = self.records
        source = self.plan.source
        if source.live and self.opened.helper_status not in (0, -signal.SIGINT) and not _books_packets(records):
            self._raise_capture_failure(helper_errors)
        for name in (
            n for line in helper_errors if "isn't a capture file" in line for n in source.files if f'"{n}"' in line
        ):
            raise SourceError(NO_CAPTURE.format(name))
        if not records.ready:
            for where, failure in records.failures.items():
                raise self._start_error(where, failure)
        if records.ended:
            return
        if self.interrupted:
            raise KeyboardInterrupt
        complaint = self._complaints()
        if not records.ready and status >= 0:
            self.tshark.check()
        if status < 0:
            name = signal.Signals(-status).name
            raise TsharkError(
                f"tshark was killed ({name}) before its end: no results; is memory short? Try fewer requests"
            )
        text = " ".join(complaint)
        for path in (self.opened.path, "-"):
            text = text.replace(f'"{path}"', f'"{source.names[0]}"')
        if any(
            s in text
            for s in (
                "isn't a capture file",
                "not a capture file",
                "file format",
                "unknown file",
                "isn't a valid",
            )
        ):
            raise SourceError(NO_CAPTURE.format(source.names[0]))
        if not records.ready and not complaint:
            raise TsharkError(
                "tshark ran no Lua script, without a word: tshark 4.4 and later do so in group 0; "
                "run sharkstat as a user outside the group root"
            )
        if not records.ready and status == 0:
            raise TsharkError(f"tshark did not load the taps: {text}")
        if source.live and helper_errors:
            raise SourceError(interfaces_hint(helper_errors))
        if status == 0:
            raise TsharkError(
                "tshark stopped before its end, without a word: no results for "
                + ", ".join(r.text for r in self.plan.requests)
            )
        raise _option_error(complaint[0] if complaint else f"tshark ended with status {status}", status)

    def _start_error(self, where: str, failure: Failure) -> SharkstatError:
        message = failure.message
        if where.startswith("load "):
            return StatisticError(
                f"the tap {Path(where[5:]).name} does not load: {message}", traceback=failure.traceback
            )
        if "-z" not in message and message.endswith("no such field"):
            return RequestError(f"{message} (check its name in Wireshark's display filter reference)")
        if where.startswith("field "):
            return RequestError(f"no such field: {where[6:]} (check its name in Wireshark's display filter reference)")
        what = "-Y" if where == "-" else f"-z {self.plan.requests[int(where)].text}"
        if "is invalid" in message:
            quoted = message[message.index('Filter "') :] if 'Filter "' in message else message
            head, _, reason = quoted.partition(" is invalid - ")
            return RequestError(
                f"{what}: bad display filter {head.removeprefix('Filter ')}: {' '.join(reason.split())}"
            )
        if message.startswith(self.plan.requests[int(where)].statistic.name if where != "-" else "\0"):
            return RequestError(message)
        return StatisticError(f"{what}: {message}", traceback=failure.traceback)

    def _raise_capture_failure(self, helper_errors: list[str]) -> None:
        reason = interfaces_hint(helper_errors)
        text = " ".join(helper_errors)
        interface = ", ".join(self.plan.source.interfaces)
        if "Invalid capture filter" in text or "isn't a valid capture filter" in text:
            detail = text[text.find("(") + 1 : text.rfind(")")] if "(" in text else reason
            raise RequestError(f"-f: bad capture filter {self.plan.source.capture_filter!r}: {detail}")
        if "permission" in text.lower() or "not permitted" in text.lower():
            raise SourceError(
                f"no permission to capture on {interface}: run as root, or join the group that may "
                "(Debian: dpkg-reconfigure wireshark-common, then adduser $USER wireshark, and log in again)"
            )
        if (
            "No such device" in text
            or "doesn't exist" in text
            or "no interface" in text.lower()
            or "There is no" in text
        ):
            raise SourceError(f"no such interface: {interface} (`dumpcap -D` lists them)")
        if reason.startswith(("The specified", "Invalid or unknown")):
            raise RequestError(f"dumpcap refused: {reason}")
        raise SourceError(f"cannot capture on {interface}: {reason}")

    def _judge(self, status: int, helper_errors: list[str]) -> tuple[bool, list[str]]:
        """Whether the source was read to its end, and what there is to say of it."""
        warnings: list[str] = []
        complete = True
        for text in [*self._complaints(), *(line.removeprefix("mergecap: ") for line in helper_errors)]:
            if "cut short" in text and not self.interrupted:
                rest = "; of the other files what is later is not: --per-file counts it" if self.opened.helper else ""
                warnings.append(f"{text.rstrip('.')}: what was read before the cut is counted{rest}")
                complete = False
            elif self.interrupted:
                continue
            elif "corrupt" in text or "damaged" in text or "malformed" in text:
                warnings.append(text)
                complete = False
        if self.interrupted:
            if not self.plan.source.live:
                warnings.append("interrupted: only a part of the source was read")
            return complete and self.plan.source.live, warnings
        if status != 0 and complete:
            warnings += self._complaints() or [f"tshark ended with status {status}"]
            complete = False
        if complete and (self.opened.helper_status > 0 or any(line.startswith("dumpcap: ") for line in helper_errors)):
            warnings.append(interfaces_hint(helper_errors))
            complete = False
        return complete, warnings


def _books_packets(records: Records) -> int:
    return int(records.books[0]) if records.books else 0


def _option_error(text: str, status: int) -> SharkstatError:
    if status in (1, 2, 3, 4):  # 4 is a bad filter, from tshark 4.2 on
        return RequestError(f"tshark refused: {text}")
    return TsharkError(f"tshark failed with status {status}: {text}")


def _capture_counts(helper_errors: Iterable[str]) -> tuple[int | None, int | None]:
    """Packets captured and dropped, from dumpcap's own last lines."""
    captured = dropped = None
    for line in helper_errors:
        if line.startswith("Packets captured:"):
            captured = int(line.split(":")[1])
        elif "Packets received/dropped on interface" in line:
            dropped = (dropped or 0) + int(line.rsplit("': ", 1)[1].split("/")[1].split()[0])
    return captured, dropped


def _reader(column: Column, base: int | None) -> Callable[[str], Value]:

    if column.type in ("integer", "duration"):
        return int
    if column.type == "number":
        return lambda text: float(text) if set(text) & set(".en") else int(text)
    if column.type == "boolean":
        return lambda text: text in ("1", "true")
    if column.type == "time":
        return lambda text: None if base is None else base + int(text)
    if column.type == "path":
        return lambda text: tuple(unescape(level) for level in text.split(LIST))
    return unescape


def _counted_row(columns: Sequence[Column], values: Sequence[Value], base: int | None, empty: Row) -> Row:
    if len(values) != len(columns):
        raise ValueError(f"a row has {len(values)} values for the {len(columns)} columns {[c.name for c in columns]}")
    row = dict(empty)
    for column, value in zip(columns, values, strict=True):
        row[column.name] = None if column.type == "time" and base is None else value
    return row


def first_time(path: Path, about: int) -> int:
    """The time of the one packet in a nanosecond pcap file (draft-ietf-opsawg-pcap, sections 4 and 5).

    The file holds the seconds modulo 2**32; `about` is the whole time, in seconds.
    """
    head = path.read_bytes()[:32]
    order = "<" if head[:4] == b"\x4d\x3c\xb2\xa1" else ">"
    secs, nanos = struct.unpack(f"{order}II", head[24:32])
    secs += round((about - secs) / 2**32) * 2**32
    return int(secs) * 10**9 + int(nanos)


def _reap(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def run(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Source,
    requests: str | Sequence[str],
    *,
    engine: str = "",
    registry: Registry | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> list[Table]:
    """Read a capture once and give a table for each request.

    `source` is a file, several files (read as one capture in time order), or a `Source`; `options` are
    `Source`'s (display_filter="ip", packets=1000, ...). `requests` are statistics as after tshark's -z.
    `engine` is "lua" (inside tshark, the default) or "packets" (in Python). `progress` is called with the bytes read
    and the size of the files.

    Raises a SharkstatError whose message says what is wrong and how to mend it; a StatisticError has
    the tables of the statistics that did not fail. A table whose source was cut short is not `complete`.

    >>> import sharkstat
    >>> tables = sharkstat.run("tests/data/story-after.pcapng", ["conv,tcp", "io,stat,1"])
    >>> [table.name for table in tables]
    ['conv,tcp', 'io,stat']
    """
    if isinstance(source, Source):
        wanted = source
        if options:
            raise RequestError("give options in the Source or beside a file name, not both")
    else:
        names = [source] if isinstance(source, (str, os.PathLike)) else list(source)
        wanted = Source(files=tuple(os.fspath(name) for name in names), **options)
    texts = [requests] if isinstance(requests, str) else list(requests)
    plan = make_plan(wanted, texts, engine, registry or Registry.default())
    return run_plan(plan, find_tshark(), progress)
