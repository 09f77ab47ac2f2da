"""Opens a source for tshark, with helper programs: mergecap for several files, dumpcap for interfaces."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING

from sharkstat.errors import RequestError, SourceError
from sharkstat.running import formats
from sharkstat.running.capturefile import is_plain
from sharkstat.running.interruption import Interruption
from sharkstat.running.merging import Merge
from sharkstat.running.pacing import Pacing
from sharkstat.running.pipes import Input, Pump, Wake
from sharkstat.running.recording import Recorder
from sharkstat.running.screening import Screen
from sharkstat.running.source import Source
from sharkstat.running.spool import Spool, hurry
from sharkstat.tshark.confinement import paths_in
from sharkstat.tshark.process import find_tool
from sharkstat.tshark.workspace import Workspace, wide_pipe

# The kernel's buffer, in MiB, for the time in which dumpcap and this process are kept from running; dumpcap's own is 2.
BUFFER = 32
# When a signal ends the run, what is not counted in so many seconds is left out.
LAST_SECONDS = 3.0
# Seconds between asking a program to end and killing it.
GRACE = 5.0

if TYPE_CHECKING:
    from sharkstat.running.drops import InterfaceDrops, KernelDrops
    from sharkstat.running.sockets import Sockets


@dataclass
class Helper:
    """A helper program: its messages, and whether it was asked to stop."""

    name: str
    process: subprocess.Popen[bytes]
    paths: Mapping[str, str]  # that it was given, and what they stand for
    said: list[str] = field(default_factory=list)
    told: bool = False
    ended: float | None = None  # when its messages ended, on the monotonic clock

    @property
    def died(self) -> str:
        """How it failed, or ""."""
        status = self.process.returncode
        if not status or self.told:
            return ""
        if status > 0:
            return f"{self.name} ended with status {status}"
        return f"{self.name} was killed ({signal.Signals(-status).name})"


class Opened:
    """A source opened for tshark: its standard input, or a path for two passes.

    Files are opened with sharkstat's rights and passed to tshark as standard input, since tshark may run as a user
    who cannot open them. Both processes share the file position, so it shows tshark's progress.
    """

    def __init__(
        self,
        source: Source,
        workspace: Workspace,
        interruption: Interruption,
        looks: bool = True,
        pacing: Pacing | None = None,
        capturing: Callable[[float], None] | None = None,
        sockets: Sockets | None = None,
        plain: bool = False,
    ) -> None:
        """`capturing` is called once the interfaces are open, with the time (seconds since 1970). `sockets` are those
        of whoever captures what is read. With `plain`, what can be read is pcap or pcapng, whatever the files are.
        """
        self.source = source
        self.is_part = False  # of a capture, whose other packets another tshark reads
        self.workspace = workspace
        self.interruption = interruption
        self.path = "-"
        self.stdin: int = subprocess.DEVNULL
        self.helpers: list[Helper] = []
        self.size = 0
        self.again = False  # whether it can be read again
        self.strangers: list[str] = []  # inputs that may not be captures
        self.cut: list[str] = []  # truncated compressed files
        self.screen = Screen(
            dedup=source.dedup,
            reorder=source.reorder,
            live=source.live,
            most=None if source.live else source.packets,
            folder=workspace.path,
            looks=looks,
            pacing=pacing,
        )
        self.spool: Spool | None = None
        self.recorder: Recorder | None = None
        self.capturing_since: float | None = None
        self._began: float | None = None  # the same, on the monotonic clock
        self._kernel_drops: KernelDrops | None = None
        self._interface_drops: InterfaceDrops | None = None
        self._pacing = pacing
        self._capturing = capturing
        self.sockets = sockets  # of this host's processes, while it captures
        self._own_sockets = False
        self._plain = plain
        self._wake = Wake()
        self._inputs: list[Input] = []
        self._pumps: list[Pump] = []
        self._merge: Merge | None = None
        self.stops_at_damage = False  # of one file: then what follows of the others is not read either
        self._threads: list[threading.Thread] = []

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
        else:
            self._open_inputs()
        if self.path != "-":
            return
        if self.source.two_pass:
            self._keep()
        elif self.source.live:
            keep = self.recorder.write if self.recorder is not None else None
            self.spool = Spool(self.stdin, self.workspace.path, keep)
            self.stdin = self.screen.draw(self.spool, self.workspace.pipe())
        else:
            self.stdin = self.screen.attach(self.stdin, self.workspace.pipe())

    def _open_inputs(self) -> None:
        several = len(self.source.files) > 1 and self.source.are_files  # of which there may be any number
        if self.source.files == ("-",):
            self._open_standard_input()
        else:
            for name in self.source.files:
                self._open_file(name)
                if several:
                    self._look_at(self._inputs[-1])
                    self._inputs[-1].let_go()
        for found in self._inputs:
            if not found.closed:
                self._look_at(found)
        if self._pacing is not None:
            self._check_watched()
        self.size = sum(found.size or 0 for found in self._inputs)
        self.again = all(found.seekable_file for found in self._inputs)
        if several:
            self.stdin, write_end = self.workspace.pipe()
            files = [(found.name, found.size or 0) for found in self._inputs]
            self._merge = Merge(files, write_end, self._wake, self._converted)
            return
        if len(self._inputs) > 1:
            self._merge_as_they_come()
            return
        (only,) = self._inputs
        packed = formats.packing(only.look()) in ("xz", "bzip2")
        changed = self.source.dedup or self.source.reorder or self._plain
        if changed and not packed and not is_plain(only.look()):
            self._merge_as_they_come()  # converts it to pcapng
        elif self.source.two_pass and not packed and not changed:
            self.path = self.workspace.lend(Path(only.name))
            self.screen.look_at(os.dup(only.descriptor))
        elif only.seekable_file and not packed:
            self.stdin = os.dup(only.descriptor)
        else:
            self.stdin, write_end = self.workspace.pipe()
            self._pumps.append(Pump(only, write_end, self._wake))

    def _check_watched(self) -> None:
        """RequestError for what gives its results at its end alone."""
        name = self._inputs[0].name
        if len(self._inputs) > 1 or self._inputs[0].seekable_file:
            raise RequestError(f"--watch needs a live source (-i INTERFACE or a pipe): {name} is a file")
        if not is_plain(self._inputs[0].look()):
            raise RequestError(f"--watch needs a pcap or pcapng, and {name} is neither: decompress or convert it first")

    def _open_standard_input(self) -> None:
        if sys.stdin is None:
            raise SourceError("standard input is closed: pipe a capture into it (dumpcap -w - | sharkstat run -)")
        if sys.stdin.isatty():
            raise SourceError("standard input is a terminal: pipe a capture into it (dumpcap -w - | sharkstat run -)")
        self._inputs.append(Input("standard input", os.dup(0), self._wake))

    def _open_file(self, name: str) -> None:
        try:
            with self.interruption.allowed():  # a named pipe opens once somebody writes to it
                descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise SourceError(f"{name}: no such file") from None
        except PermissionError:
            raise SourceError(f"{name}: permission denied: run sharkstat as a user who may read it") from None
        except (OSError, ValueError) as problem:  # ValueError: a NUL
            raise SourceError(f"{name}: {getattr(problem, 'strerror', None) or problem}") from None
        self._inputs.append(Input(name, descriptor, self._wake))
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise SourceError(f"{name} is a folder: give the capture files in it")
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise SourceError(f"{name} is neither a file nor a pipe: give a capture file")
        if self.source.two_pass and stat.S_ISFIFO(mode):
            raise RequestError(f"-2 cannot read {name} twice, since it is a pipe: save it to a file first")

    def _look_at(self, found: Input) -> None:
        """Raise SourceError for an input that cannot be a capture; note one that may not be."""
        with self.interruption.allowed():
            head = found.look()
        if not head:
            if self.source.files == ("-",):
                raise SourceError("standard input is empty: the command before the pipe wrote nothing")
            raise SourceError(f"{found.name} is empty: not even a capture file header")
        kind = formats.packing(head)
        if kind in ("zstd", "lz4") and found.seekable_file:
            frames = formats.frames_of(found.descriptor, kind)
            if not frames.whole:
                if not frames.blocks:
                    raise SourceError(f"{found.name} is cut short in its first block: no packet can be read")
                self.cut.append(found.name)
        needed = formats.header_size(head)
        if needed is not None:
            with self.interruption.allowed():
                head = found.look(min(needed, formats.HEAD))
            if (len(head) if found.size is None else found.size) < min(needed, formats.HEAD):
                raise SourceError(f"{found.name} is cut short in the file header: it contains no packets")
        elif not formats.is_capture(head):
            self.strangers.append(found.name)

    def _keep(self) -> None:
        """Copy a pipe into a file, which can be read twice."""
        target = self.workspace.path / "merged.pcapng"
        stdin, self.stdin = self.stdin, subprocess.DEVNULL
        with self.interruption.allowed():
            self.screen.write(stdin, target)
        self.path = self.workspace.lend(target)
        if self.workspace.user is not None:
            target.unlink()

    def _merge_as_they_come(self) -> None:
        """Merge what cannot be opened again, pipes, in time order with mergecap, run as unprivileged as tshark."""
        self.stops_at_damage = True
        self.stdin = self._mergecap(self._inputs)[0]

    def _converted(self, name: str) -> tuple[int, Callable[[], None]]:
        """Where the pcapng that mergecap makes of a file can be read from, and what ends that early."""
        descriptor, helper = self._mergecap([Input(name, os.open(name, os.O_RDONLY | os.O_CLOEXEC), self._wake)])
        return descriptor, lambda: self._tell(helper, signal.SIGKILL)

    def _mergecap(self, inputs: Sequence[Input]) -> tuple[int, Helper]:
        pipes = [self.workspace.pipe() for _ in inputs]
        command = [find_tool("mergecap", self.workspace.tshark), "-F", "pcapng", "-w", "-"]
        paths = {f"/dev/fd/{read_end}": i.name for (read_end, _), i in zip(pipes, inputs, strict=True)}
        started = self._help("mergecap", [*command, *paths], [read_end for read_end, _ in pipes], paths=paths)
        for found, (read_end, write_end) in zip(inputs, pipes, strict=True):
            os.close(read_end)
            self._pumps.append(Pump(found, write_end, self._wake))
        return started

    def _capture(self) -> None:
        source = self.source
        if source.write:
            self.recorder = Recorder(source.write, source.ring, self._end_capture)
        if source.process:  # what listens must be known before the first packet
            from sharkstat.running.sockets import Sockets

            self.sockets, self._own_sockets = Sockets(), True
            self.sockets.start()
        from sharkstat.running.drops import InterfaceDrops

        self._interface_drops = InterfaceDrops(source.interfaces)
        command = [find_tool("dumpcap", self.workspace.tshark), "-q", "-w", "-"]
        for interface in source.interfaces:
            command += ["-i", interface]
            # dumpcap's per-interface options follow -i.
            if source.capture_filter:
                command += ["-f", source.capture_filter]
            if source.snaplen is not None:
                command += ["-s", str(source.snaplen)]
            if not source.promiscuous:
                command += ["-p"]
            if source.link_type:
                command += ["-y", source.link_type]
            if source.time_stamp_type:
                command += ["--time-stamp-type", source.time_stamp_type]
            if source.monitor:
                command += ["-I"]
            command += ["-B", str(source.buffer_size or BUFFER)]
        for condition in source.autostop:
            command += ["-a", condition]
        if source.packets is not None:
            command += ["-c", str(source.packets)]
        self.stdin, _ = self._help("dumpcap", command, privileged=True)

    def _help(
        self,
        name: str,
        command: Sequence[str],
        given: Sequence[int] = (),
        privileged: bool = False,
        paths: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[int, Helper]:
        """Start a helper, and give where its output can be read. In its messages `paths` are replaced by names."""
        out_read, out_write = wide_pipe()
        try:
            process = self.workspace.start(command, stdout=out_write, pass_fds=given, privileged=privileged)
        except BaseException:
            os.close(out_read)
            raise
        finally:
            os.close(out_write)
        if name == "dumpcap":
            hurry(process.pid)
        helper = Helper(name, process, dict(paths))
        self.helpers.append(helper)
        thread = threading.Thread(target=self._listen, args=(helper,), daemon=True)
        thread.start()
        self._threads.append(thread)
        return out_read, helper

    def _listen(self, helper: Helper) -> None:
        assert helper.process.stderr is not None
        for line in helper.process.stderr:
            text = line.decode("utf-8", "replace").rstrip("\n").rpartition("\r")[2]
            for path, name in helper.paths.items():
                text = text.replace(f'"{path}"', f'"{name}"')
            helper.said.append(text)
            # dumpcap's first words come before it opens the interfaces, these after it.
            if helper.name == "dumpcap" and text.startswith("File:") and self.capturing_since is None:
                self.capturing_since, self._began = time.time(), time.monotonic()
                from sharkstat.running.drops import KernelDrops

                with contextlib.suppress(OSError):
                    self._kernel_drops = KernelDrops(helper.process.pid)
                if self._capturing is not None:
                    self._capturing(self.capturing_since)
        helper.ended = time.monotonic()

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
        arguments += ["-N", source.resolvers] if source.resolvers else ["-n"]
        self.workspace.network = "N" in (source.resolvers or "")
        if source.hosts:
            try:
                self.workspace.use_hosts(Path(source.hosts))
            except OSError as problem:
                raise SourceError(f"-H {source.hosts}: {problem.strerror}: give a readable hosts file") from None
        for option in source.decode_as:
            arguments += ["-d", option]
        for option in source.preferences:
            arguments += ["-o", option]
            for path in paths_in(option):
                self.workspace.allow(path)
        for name in source.heuristics:
            arguments += ["--enable-heuristic", name]
        if source.profile:
            self.workspace.use_profile(source.profile)
            arguments += ["-C", source.profile]
        if source.keylog:
            try:
                keys = self.workspace.lend(Path(source.keylog))
            except OSError as problem:
                raise SourceError(
                    f"--keylog {source.keylog}: {problem.strerror}: give a readable TLS key log file"
                ) from None
            arguments += ["-o", f"tls.keylog_file:{keys}"]
        return arguments

    @property
    def unknown(self) -> list[str]:
        """Those of the inputs that may be no captures which are not compressed either."""
        return [i.name for i in self._inputs if i.name in self.strangers and not formats.packing(i.look())]

    def without_packets(self, read: int) -> list[str]:
        """Inputs that may be no captures, and in which tshark, which `read` so many packets, found none.

        It takes many a file for a capture of a format that has no signature.
        """
        if self._merge is not None:
            return self._merge.without
        return self.strangers if not read and len(self.strangers) == len(self._inputs) else []

    @property
    def position(self) -> int:
        """How many bytes of the files have been read."""
        if self._merge is not None:
            return self._merge.position
        return sum(found.position for found in self._inputs)

    @property
    def kernel_dropped(self) -> int | None:
        """How many packets the kernel dropped that dumpcap will not tell of; None where only dumpcap is told."""
        return None if self._kernel_drops is None else self._kernel_drops.read()

    @property
    def interface_dropped(self) -> int | None:
        """How many packets the interfaces themselves dropped since the capture began; None where nobody tells."""
        return None if self._interface_drops is None else self._interface_drops.count

    @property
    def waiting(self) -> int:
        """How many captured bytes wait for tshark."""
        return 0 if self.spool is None else self.spool.waiting

    @property
    def said(self) -> list[str]:
        """The helpers' messages, line by line."""
        return list(dict.fromkeys(line for helper in self.helpers for line in helper.said))

    def interrupt(self) -> None:
        """End tshark's input, so that it prints its results; interrupting tshark itself would lose them."""
        self._wake.up()
        for helper in self.helpers:
            if helper.process.poll() is None:
                helper.process.send_signal(signal.SIGCONT)  # somebody may have stopped it
        if self.source.live:
            self._end_capture()
            if self.interruption.number in (signal.SIGTERM, signal.SIGHUP) and self.spool is not None:
                # Who sends these does not wait long. At a terminal, Ctrl-C again ends the counting.
                timer = threading.Timer(LAST_SECONDS, self.spool.cut)
                timer.daemon = True
                timer.start()
        elif not self._pumps and self._merge is None:
            for found in self._inputs:
                if found.seekable_file:
                    os.lseek(found.descriptor, 0, os.SEEK_END)
            self.screen.stop()

    def _end_capture(self) -> None:
        if self._kernel_drops is not None:  # what comes while it ends is dumpcap's
            self._kernel_drops.read()
            self._kernel_drops.close()
        for helper in self.helpers:
            self._tell(helper, signal.SIGINT)
        timer = threading.Timer(GRACE, self.kill)
        timer.daemon = True
        timer.start()

    def kill(self) -> None:
        """Kill the helpers that did not stop when asked."""
        for helper in self.helpers:
            self._tell(helper, signal.SIGKILL)

    def _tell(self, helper: Helper, number: int) -> None:
        if helper.process.poll() is None:
            helper.told = True
            helper.process.send_signal(number)
            helper.process.send_signal(signal.SIGCONT)

    def finish(self) -> None:
        """Wait for the helpers after tshark's end. Raises what kept several files from being read."""
        if self.spool is not None:
            self.spool.stop()
        if self.recorder is not None:
            self.recorder.close()
        for helper in self.helpers:
            # A helper that does not end by itself is asked to, then killed.
            for seconds, number in ((2, signal.SIGINT), (3, signal.SIGKILL)):
                try:
                    helper.process.wait(timeout=seconds)
                except subprocess.TimeoutExpired:
                    self._tell(helper, number)
        for helper in self.helpers:
            helper.process.wait()
        if self._kernel_drops is not None:
            self._kernel_drops.close()
        if self.sockets is not None and self._own_sockets:
            self.sockets.stop()
        self._join()
        self.cut += [pump.source.name for pump in self._pumps if pump.problem == "is cut short"]
        if self._merge is not None and self._merge.failure is not None:
            raise self._merge.failure

    def _join(self) -> None:
        if self._merge is not None:
            self._merge.join(5)
        for thread in self._threads:
            thread.join(5)
        for pump in self._pumps:
            pump.join(5)

    def stopped_early(self, captured: int) -> bool:
        """Whether somebody else asked dumpcap to end: it ended well, but before one of the conditions was met."""
        conditions = dict(condition.split(":", 1) for condition in self.source.autostop)
        if self.source.packets is not None:
            conditions["packets"] = str(self.source.packets)
        if not self.source.live or conditions.keys() & {"filesize", "files"}:
            return False
        if "packets" in conditions and captured >= float(conditions["packets"]):
            return False
        for helper in self.helpers:
            ended = helper.ended is not None and helper.process.returncode == 0 and not helper.told
            if ended and self._began is not None and helper.ended is not None:
                lasted = helper.ended - self._began
                return "duration" not in conditions or lasted < float(conditions["duration"]) - 0.5
        return False

    def problems(self) -> list[str]:
        """Why the source was not read to its end, apart from the messages of tshark and the helpers."""
        cut = [f"{name} is cut short: packets before that point are counted" for name in dict.fromkeys(self.cut)]
        others = [p for p in self._pumps if p.problem not in ("", "is cut short")]
        cut += [f"{p.source.name} {p.problem}: packets before that point are counted" for p in others]
        if self._merge is not None:
            cut += [
                f"{name} {problem}: packets before that point are counted" for name, problem in self._merge.problems
            ]
            cut += [f"{name}: what follows the compressed data is ignored" for name in self._merge.trailing]
        if self.recorder is not None and self.recorder.problem:
            cut.append(self.recorder.problem)
        if self.spool is not None and self.spool.problem:
            cut.append(f"{self.spool.problem}: packets before that point are counted")
        if self.spool is not None and self.spool.left_out:
            cut.append(f"the last {self.spool.left_out:,} bytes of the capture were not counted: the run had to end")
        return list(dict.fromkeys(cut))

    def given(self) -> None:
        """Close our copy of tshark's standard input, which would keep the pipe open."""
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = subprocess.DEVNULL

    def _close(self) -> None:
        self.given()
        if self.sockets is not None and self._own_sockets:
            self.sockets.stop()
        self.screen.stop()
        self._wake.up()
        if self._kernel_drops is not None:
            self._kernel_drops.close()
        if self._merge is not None:  # it may be about to start another helper
            self._merge.join(1)
        for helper in self.helpers:
            self._tell(helper, signal.SIGKILL)
            helper.process.wait()
        if self.spool is not None:
            self.spool.stop()
        if self.recorder is not None:
            self.recorder.close()
        self._join()
        for helper in self.helpers:
            if helper.process.stderr is not None:
                helper.process.stderr.close()
        for found in self._inputs:
            found.close()
        self._wake.close()
