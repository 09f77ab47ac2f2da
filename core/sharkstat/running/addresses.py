"""Capture files that are no local files: they have an address that fsspec reads, such as s3://bucket/a.pcap."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sharkstat.errors import SourceError
from sharkstat.running.unpacking import Damaged, FileBytes

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*(?:::|://)", re.IGNORECASE)


def is_address(name: str) -> bool:
    """Whether it is an address, and no file's path.

    >>> is_address("s3://bucket/a.pcap"), is_address("/captures/a.pcap")
    (True, False)
    """
    return bool(_ADDRESS.match(name))


class AddressBytes(FileBytes):
    """The decompressed bytes of what is at an address."""

    _opened: Any = None

    def _piece(self) -> bytes:
        try:
            if self._opened is None:
                import fsspec

                self._opened = fsspec.open(self.name, "rb").open()
            piece: bytes = self._opened.read(self._size)
            if not piece:
                self._opened.close()
        except Exception as problem:  # each kind of address raises its own
            raise Damaged(f"cannot be read: {_said(problem)}") from None
        self.position += len(piece)
        return piece


@contextmanager
def as_files(names: Sequence[str]) -> Iterator[dict[str, str]]:
    """Local files for these names, by name: of addresses copies, which go with the context. Raises SourceError."""
    with tempfile.TemporaryDirectory(prefix="sharkstat-") as folder:
        found = {}
        for name in names:
            found[name] = name
            if not is_address(name):
                continue
            try:
                import fsspec

                found[name] = fsspec.open_local(f"simplecache::{name}", simplecache={"cache_storage": folder})
            except Exception as problem:
                raise SourceError(f"{name} cannot be read: {_said(problem)}") from None
        yield found


def _said(problem: BaseException) -> str:
    """What went wrong, in a line."""
    said = " ".join(str(problem).split())
    return f"{type(problem).__name__}: {said}" if said else type(problem).__name__
