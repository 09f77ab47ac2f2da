"""What is read: capture files, standard input or live interfaces; and how tshark is to read it."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from sharkstat.errors import RequestError, SourceError
from sharkstat.tshark.process import Workspace, find_tool

RESOLVERS = "dgmnNstv"


@dataclass(frozen=True)
class Source:
    """What to read and how; the options are tshark's own, by their letters.

    `files` are capture files ("-" is standard input), read as one capture in time order; `interfaces`
    are captured live instead (-i), with `capture_filter` (-f), stop conditions `autostop` (-a, also as
    "duration:60"), `snaplen` (-s), `promiscuous` (-p turns it off). `packets` (-c) ends the reading.
    `display_filter` (-Y) limits what statistics see; `read_filter` (-R) what is read, with `two_pass`
    (-2). `resolve` (-N) has tshark's letters for names, "" for none; `decode_as` (-d), `preferences`
    (-o), `profile` (-C), `heuristics` (--enable-heuristic) and `keylog` are as in tshark.
    """

    files: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    capture_filter: str = ""
    autostop: tuple[str, ...] = ()
    snaplen: int | None = None
    promiscuous: bool = True
    packets: int | None = None
    display_filter: str = ""
    read_filter: str = ""
    two_pass: bool = False
    resolve: str = ""
    decode_as: tuple[str, ...] = ()
    preferences: tuple[str, ...] = ()
    profile: str = ""
    keylog: str = ""
    heuristics: tuple[str, ...] = ()

    def check(self) -> None:
        """RequestError for options that do not go together."""
        if not self.files and not self.interfaces:
            raise RequestError("nothing to read: name a capture file, `-` for standard input, or -i INTERFACE")
        if self.files and self.interfaces:
            raise RequestError("read files or capture from interfaces, not both: leave out one")
        if "-" in self.files and len(self.files) > 1:
            raise RequestError("standard input cannot be read together with files: give `-` alone")
        live_only = {
            "-f": self.capture_filter,
            "-a": self.autostop,
            "-s": self.snaplen,
            "-p": not self.promiscuous,
        }
        if self.files and any(live_only.values()):
            names = ", ".join(name for name, given in live_only.items() if given)
            raise RequestError(f"{names} is for live capture (-i): for files, use -Y or -c")
        if self.two_pass and (self.interfaces or self.files == ("-",)):
            raise RequestError("-2 reads the source twice: save it to a file first")
        if self.read_filter and not self.two_pass:
            raise RequestError("-R needs -2: use -Y to limit what the statistics see")
        if self.packets is not None and self.packets < 1:
            raise RequestError(f"-c takes a number of packets of at least 1, not {self.packets}")
        if set(self.resolve) - set(RESOLVERS):
            raise RequestError(
                f"-N takes tshark's letters, {RESOLVERS} (m MAC, n network, t port, d from DNS): not {self.resolve!r}"
            )
        for condition in self.autostop:
            if not re.fullmatch(r"(duration|packets|filesize):[0-9]*\.?[0-9]+", condition):
                raise RequestError(f"-a takes duration:SECONDS, packets:COUNT or filesize:KILOBYTES, not {condition!r}")
        for option in self.decode_as:
            if "==" not in option:
                raise RequestError(f"-d takes LAYER==VALUE,PROTOCOL (as in tcp.port==8888,http), not {option!r}")

    @property
    def live(self) -> bool:
        return bool(self.interfaces)

    @property
    def names(self) -> tuple[str, ...]:
        return self.interfaces or tuple("standard input" if name == "-" else name for name in self.files)


class Opened:
    """A source made ready for tshark: its standard input, or a path where it reads twice.

    Files are opened here, with our rights, and given to tshark as its standard input: tshark may run
    as a user that could not open them. The file's position, which the processes share, tells how far
    tshark has come.
    """

    def __init__(self, source: Source, workspace: Workspace) -> None:
        self.source = source
        self.workspace = workspace
        self.path = "-"
        self.stdin: int = subprocess.DEVNULL
        self.helper: subprocess.Popen[bytes] | None = None
        self.size = 0
        self._helper_errors: list[str] = []
        self._threads: list[threading.Thread] = []
        self._files: list[IO[bytes]] = []
        self._relay: _Relay | None = None
        self._pipes: dict[str, str] = {}

    def __enter__(self) -> Opened:
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._close()

    def _open(self) -> None:
        if self.source.live:
            self._capture()
        elif self.source.files == ("-",):
            self._open_standard_input()
        else:
            self._files = [self._open_file(name) for name in self.source.files]
            self.size = sum(os.fstat(f.fileno()).st_size for f in self._files)
            if self.source.two_pass:
                self._open_twice()
            elif len(self._files) == 1:
                self._give(self._files[0])
            else:
                self._merge()

    def _open_standard_input(self) -> None:
        if sys.stdin is None:
            raise SourceError("standard input is closed: pipe a capture into it (dumpcap -w - | sharkstat run -)")
        if sys.stdin.isatty():
            raise SourceError("standard input is a terminal: pipe a capture into it (dumpcap -w - | sharkstat run -)")
        file = os.fdopen(os.dup(0), "rb", buffering=0)
        self._files = [file]
        state = os.fstat(0)
        regular = stat.S_ISREG(state.st_mode)
        self.size = state.st_size if regular else 0
        if (regular and not self.size) or not _readable(0):
            raise SourceError("standard input is empty: what was to write a capture there gave nothing")
        self._give(file)

    def _give(self, file: IO[bytes]) -> None:
        """Make the file tshark's standard input; a pipe goes through our hands, so that we can end it."""
        if file.seekable():
            self.stdin = os.dup(file.fileno())
            return
        self._relay = _Relay(os.dup(file.fileno()))
        self.stdin = self._relay.read_end

    def _open_file(self, name: str) -> IO[bytes]:
        try:
            file = Path(name).open("rb", buffering=0)  # noqa: SIM115 - closed by _close
        except FileNotFoundError:
            raise SourceError(f"{name}: no such file") from None
        except IsADirectoryError:
            raise SourceError(f"{name} is a folder: name the capture files in it") from None
        except PermissionError:
            raise SourceError(f"{name}: permission denied: run as a user who may read it") from None
        except OSError as problem:
            raise SourceError(f"{name}: {problem.strerror}") from None
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISREG(mode) and os.fstat(file.fileno()).st_size == 0:
            file.close()
            raise SourceError(f"{name} is empty: it holds not even a capture file's header")
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            file.close()
            raise SourceError(f"{name} is neither a file nor a pipe: name a capture file")
        if self.source.two_pass and stat.S_ISFIFO(mode):
            file.close()
            raise RequestError(f"-2 reads the source twice, and {name} is a pipe: save it to a file first")
        return file

    def _open_twice(self) -> None:
        names = self.source.files
        if len(names) == 1:
            self.path = str(self.workspace.readable(Path(names[0]), "capture"))
            return
        self._merge()
        target = self.workspace.path / "merged.pcapng"
        with target.open("wb") as out:
            while chunk := os.read(self.stdin, 1 << 20):
                out.write(chunk)
        self.path = str(self.workspace.readable(target, "merged-copy.pcapng"))
        os.close(self.stdin)
        self.stdin = subprocess.DEVNULL

    def _merge(self) -> None:
        """Several files become one capture in time order, by mergecap, as unprivileged as tshark."""
        pipes = [self.workspace.pipe() for _ in self._files]
        command = [find_tool("mergecap", self.workspace.tshark), "-F", "pcapng", "-w", "-"]
        self._pipes = {
            f"/dev/fd/{read_end}": name for (read_end, _), name in zip(pipes, self.source.files, strict=True)
        }
        command += self._pipes
        out_read, out_write = os.pipe()
        try:
            self.helper = self.workspace.start(command, stdout=out_write, pass_fds=[r for r, _ in pipes])
        finally:
            os.close(out_write)
            for read_end, _ in pipes:
                os.close(read_end)
        self.stdin = out_read
        self._read_helper_errors()
        for file, (_, write_end) in zip(self._files, pipes, strict=True):
            self._in_thread(_pump, os.dup(file.fileno()), write_end)

    def _capture(self) -> None:
        source = self.source
        command = [find_tool("dumpcap", self.workspace.tshark), "-q", "-w", "-"]
        for interface in source.interfaces:
            command += ["-i", interface]
            # dumpcap's options for an interface follow its -i.
            if source.capture_filter:
                command += ["-f", source.capture_filter]
            if source.snaplen is not None:
                command += ["-s", str(source.snaplen)]
            if not source.promiscuous:
                command += ["-p"]
        for condition in source.autostop:
            command += ["-a", condition]
        if source.packets is not None:
            command += ["-c", str(source.packets)]
        out_read, out_write = os.pipe()
        try:
            self.helper = self.workspace.start(command, stdout=out_write, privileged=True)
        finally:
            os.close(out_write)
        self.stdin = out_read
        self._read_helper_errors()

    def _in_thread(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        thread.start()
        self._threads.append(thread)

    def _read_helper_errors(self) -> None:
        helper = self.helper
        assert helper is not None and helper.stderr is not None
        stream = helper.stderr

        def read() -> None:
            for line in stream:
                text = line.decode("utf-8", "replace").rstrip("\n").rpartition("\r")[2]
                for path, name in self._pipes.items():
                    text = text.replace(f'"{path}"', f'"{name}"')
                self._helper_errors.append(text)

        self._in_thread(read)

    def arguments(self) -> list[str]:
        """tshark's options for this source."""
        source = self.source
        arguments = ["-r", self.path]
        if source.packets is not None and not source.live:
            arguments += ["-c", str(source.packets)]
        if source.two_pass:
            arguments += ["-2"]
        if source.read_filter:
            arguments += ["-R", source.read_filter]
        arguments += ["-N", source.resolve] if source.resolve else ["-n"]
        for option in source.decode_as:
            arguments += ["-d", option]
        for option in source.preferences:
            arguments += ["-o", option]
        for name in source.heuristics:
            arguments += ["--enable-heuristic", name]
        if source.profile:
            self.workspace.use_profile(source.profile)
            arguments += ["-C", source.profile]
        if source.keylog:
            try:
                keys = self.workspace.readable(Path(source.keylog), "tls.keys")
            except OSError as problem:
                raise SourceError(f"{source.keylog}: {problem.strerror}: name a readable TLS key log") from None
            arguments += ["-o", f"tls.keylog_file:{keys}"]
        return arguments

    @property
    def position(self) -> int:
        """How many bytes of the files have been read."""
        return sum(os.lseek(f.fileno(), 0, os.SEEK_CUR) for f in self._files if not f.closed and f.seekable())

    def interrupt(self) -> None:
        """End what tshark reads, so that it gives what it has: it draws no results when it is interrupted itself."""
        if self.helper is not None:
            if self.helper.poll() is None:
                self.helper.send_signal(signal.SIGINT)
        elif self._relay is not None:
            self._relay.stop()
        else:
            for file in self._files:
                file.seek(0, os.SEEK_END)

    def finish(self) -> list[str]:
        """Wait for the helper and give what it said, line by line."""
        if self.helper is not None:
            try:
                self.helper.wait(timeout=2)  # tshark has left: what is not about to end by itself must be told
            except subprocess.TimeoutExpired:
                self.interrupt()
            try:
                self.helper.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.helper.kill()
                self.helper.wait()
        for thread in self._threads:
            thread.join(timeout=10)
        return self._helper_errors

    @property
    def helper_status(self) -> int:
        return 0 if self.helper is None or self.helper.returncode is None else self.helper.returncode

    def given(self) -> None:
        """tshark has its standard input now; our copy would keep the pipe open."""
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = subprocess.DEVNULL

    def _close(self) -> None:
        self.given()
        if self.helper is not None:
            if self.helper.poll() is None:
                self.helper.kill()
            self.helper.wait()
            if self.helper.stderr is not None:
                for thread in self._threads:
                    thread.join(timeout=10)
                self.helper.stderr.close()
        for file in self._files:
            file.close()


def _readable(descriptor: int) -> bool:
    """Wait until there is something to read; False where the writer left before it wrote."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll()[0][1] & select.POLLIN)


class _Relay:
    """Copies one pipe into another, so that the copy can be ended while the first goes on."""

    def __init__(self, source: int) -> None:
        self._source = source
        self.read_end, self._write_end = os.pipe()
        self._lock = threading.Lock()
        threading.Thread(target=self._copy, daemon=True).start()

    def _copy(self) -> None:
        with contextlib.suppress(OSError):  # the reader may leave early
            while _readable(self._source) and (chunk := os.read(self._source, 1 << 16)):
                view = memoryview(chunk)
                while view:
                    view = view[os.write(self._write_end, view) :]
        with self._lock:
            os.close(self._write_end)
            self._write_end = -1
        os.close(self._source)

    def stop(self) -> None:
        """Let the reader see the end; the copying goes on, to nowhere."""
        with self._lock, Path(os.devnull).open("wb") as nowhere:
            if self._write_end >= 0:
                os.dup2(nowhere.fileno(), self._write_end, inheritable=False)


def _pump(read_end: int, write_end: int) -> None:
    """Copy a file into a pipe, and close both; the reader may leave early."""
    try:
        while chunk := os.read(read_end, 1 << 16):
            view = memoryview(chunk)
            while view:
                view = view[os.write(write_end, view) :]
    except OSError:
        return
    finally:
        os.close(read_end)
        os.close(write_end)


def interfaces_hint(problem: Sequence[str]) -> str:
    """The first telling line of dumpcap's complaint."""
    for line in problem:
        text = line.removeprefix("dumpcap: ").strip()
        if text and not text.startswith(("Capturing on", "File:", "Packets")):
            return text
    return "dumpcap gave no reason"
