"""The source of packets: capture files, standard input or live interfaces, with tshark's options."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from sharkstat.errors import RequestError

RESOLVERS = "dgmnNstv"
# From this size on, in bytes, a second tshark pays for its start.
LARGE = 16 << 20


class Options(TypedDict, total=False):
    """What may be given beside the name of a file: the fields of a `Source`."""

    interfaces: tuple[str, ...]
    capture_filter: str
    autostop: tuple[str, ...]
    snaplen: int | None
    promiscuous: bool
    packets: int | None
    display_filter: str
    read_filter: str
    two_pass: bool
    resolve: str
    hosts: str
    decode_as: tuple[str, ...]
    preferences: tuple[str, ...]
    profile: str
    keylog: str
    heuristics: tuple[str, ...]
    dedup: bool
    reorder: bool
    timeout: float | None
    max_memory: int | None
    write: str
    ring: tuple[str, ...]
    buffer_size: int | None
    link_type: str
    time_stamp_type: str
    monitor: bool
    max_drop: float
    process: bool


@dataclass(frozen=True)
class Source:
    """What to read and how. Most options are tshark's, given here with their letters.

    `files` are capture files ("-" is standard input), read as one capture in time order. Or `interfaces` (-i) are
    captured live, with `capture_filter` (-f), stop conditions `autostop` (-a, e.g. "duration:60"), `snaplen` (-s) and
    `promiscuous` mode (-p turns it off). `packets` (-c) is the number of packets to read. `display_filter` (-Y) limits
    what statistics count; `read_filter` (-R) limits what is read, and needs `two_pass` (-2). `resolve` (-N) has
    tshark's name resolution flags, "" for none; `hosts` (-H) is a hosts file. `decode_as` (-d), `preferences` (-o),
    `profile` (-C), `heuristics` (--enable-heuristic) and `keylog` work as in tshark. `dedup` (--dedup) ignores packets
    captured twice; `reorder` (--reorder) sorts packets by time (in a live capture, within a second). `timeout`
    (--timeout) is the number of seconds to read; packets read by then are counted. `max_memory` (--max-memory) is the
    number of bytes that the run may take (None: three quarters of what is available; 0: any number).

    For a live capture: `write` (-w) is a file for the packets, `ring` (-b, e.g. "filesize:100000") splits it into
    several; `buffer_size` (-B) is the capture buffer in MiB; `link_type` (-y), `time_stamp_type` (--time-stamp-type)
    and `monitor` (-I) are tshark's. If more than `max_drop` (--max-drop) percent of the packets were dropped, tables
    are not complete. `process` (--process) finds the local process of each connection.
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
    hosts: str = ""
    decode_as: tuple[str, ...] = ()
    preferences: tuple[str, ...] = ()
    profile: str = ""
    keylog: str = ""
    heuristics: tuple[str, ...] = ()
    dedup: bool = False
    reorder: bool = False
    timeout: float | None = None
    max_memory: int | None = None
    write: str = ""
    ring: tuple[str, ...] = ()
    buffer_size: int | None = None
    link_type: str = ""
    time_stamp_type: str = ""
    monitor: bool = False
    max_drop: float = 1.0
    process: bool = False

    @classmethod
    def of(cls, source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Source, options: Options) -> Source:
        """The source that is named: a file, several files, or a Source. RequestError for options beside a Source."""
        if isinstance(source, Source):
            if options:
                raise RequestError("with a Source, give the options in it, not as arguments")
            return source
        names = [source] if isinstance(source, (str, os.PathLike)) else list(source)
        return cls(files=tuple(os.fspath(name) for name in names), **options)

    def check(self) -> None:
        """Raise RequestError if options are invalid or exclude each other."""
        if not self.files and not self.interfaces:
            raise RequestError("nothing to read: give a capture file, `-` for standard input, or -i INTERFACE")
        if self.files and self.interfaces:
            raise RequestError("cannot read files and capture with -i in one run: leave out one")
        if "-" in self.files and len(self.files) > 1:
            raise RequestError("standard input cannot be combined with files: give `-` alone")
        live_only: dict[str, object] = {
            "-f": self.capture_filter,
            "-a": self.autostop,
            "-s": self.snaplen,
            "-p": not self.promiscuous,
            "-w": self.write,
            "-b": self.ring,
            "-B": self.buffer_size is not None,
            "-y": self.link_type,
            "--time-stamp-type": self.time_stamp_type,
            "-I": self.monitor,
            "--process": self.process,
        }
        if self.files and any(live_only.values()):
            names = ", ".join(name for name, given in live_only.items() if given)
            raise RequestError(f"{names}: only for live capture (-i); for files, use -Y or -c")
        if self.ring and not self.write:
            raise RequestError("-b says how the files of -w change: name them with -w FILE")
        for condition in self.ring:
            if not re.fullmatch(r"(duration|interval|packets|filesize|files):[0-9]*\.?[0-9]+", condition):
                raise RequestError(
                    "-b takes duration:SECONDS, interval:SECONDS, packets:COUNT, filesize:KILOBYTES or files:COUNT, "
                    f"not {condition!r}"
                )
        if self.buffer_size is not None and self.buffer_size < 1:
            raise RequestError(f"-B takes a number of MiB of at least 1, not {self.buffer_size}")
        if not 0 <= self.max_drop <= 100:
            raise RequestError(f"--max-drop takes a percentage from 0 to 100, not {self.max_drop:g}")
        if self.two_pass and (self.interfaces or self.files == ("-",)):
            raise RequestError("-2 needs a file, since it reads twice: save the capture first")
        if self.read_filter and not self.two_pass:
            raise RequestError("-R requires -2: add -2, or use -Y to limit what is counted")
        if self.timeout is not None and not self.timeout > 0:
            raise RequestError(f"--timeout {self.timeout:g}: give a number of seconds above 0")
        if self.packets is not None and self.packets < 1:
            raise RequestError(f"-c {self.packets}: give a number of packets, at least 1")
        if set(self.resolve) - set(RESOLVERS):
            raise RequestError(
                f"-N {self.resolve!r}: give tshark's flags {RESOLVERS} (m MAC, n network, t port, d from DNS packets)"
            )
        for condition in self.autostop:
            if not re.fullmatch(r"(duration|packets|filesize):[0-9]*\.?[0-9]+", condition):
                raise RequestError(f"-a {condition!r}: give duration:SECONDS, packets:COUNT or filesize:KILOBYTES")
        for option in self.decode_as:
            if "==" not in option:
                raise RequestError(f"-d {option!r}: give LAYER==VALUE,PROTOCOL, e.g. tcp.port==8888,http")

    def jobs(self, wanted: int | None = None) -> int:
        """How many tsharks may read it at one time: so many as are wanted, or as are worth it.

        RequestError for a number below 1.
        """
        if wanted is not None:
            if wanted < 1:
                raise RequestError(f"--jobs {wanted}: give a number of at least 1")
            return wanted
        if not self.are_files or self.size < LARGE:
            return 1
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @property
    def size(self) -> int:
        """The size of all files, in bytes."""
        return sum(Path(name).stat().st_size for name in self.files)

    @property
    def are_files(self) -> bool:
        """Whether it is regular files, which more than one tshark can read."""
        return not self.live and all(Path(name).is_file() for name in self.files)

    @property
    def resolvers(self) -> str:
        """tshark's flags for -N. Names from DNS packets (d) and from a hosts file need network names (n), too."""
        needs_network = ("d" in self.resolve or self.hosts) and "n" not in self.resolve
        return self.resolve + "n" if needs_network else self.resolve

    @property
    def live(self) -> bool:
        return bool(self.interfaces)

    @property
    def names(self) -> tuple[str, ...]:
        return self.interfaces or tuple("standard input" if name == "-" else name for name in self.files)
