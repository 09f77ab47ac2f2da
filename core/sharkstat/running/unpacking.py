"""The bytes of a file, decompressed: gzip, xz and bzip2 by Python, zstd and lz4 by the libraries that tshark uses."""

from __future__ import annotations

import bz2
import ctypes
import functools
import lzma
import os
import zlib
from ctypes.util import find_library
from typing import Any, Protocol

from sharkstat.running.formats import packing

PIECE = 1 << 16


class Damaged(Exception):
    """Why the rest of a file is not read."""


class _Unpacker(Protocol):
    """Decompresses one frame (zlib: member, xz: stream), as Python's own decompressors do."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class FileBytes:
    """The decompressed bytes of a file, a piece at a time. The file is only open while a piece is read."""

    def __init__(
        self, name: str, piece: int = PIECE, limit: int | None = None, identity: tuple[int, int] | None = None
    ) -> None:
        """Read at most `limit` bytes of the file, whose device and inode are `identity`, if that is known."""
        self.name = name
        self.position = 0  # in the file
        self.trailing = False  # whether something follows the compressed data
        self._size, self._limit, self._identity = piece, limit, identity
        self._unpack: _Unpacker | None = None
        self._rest = b""
        self._packed = ""

    def more(self) -> bytes:
        """The next piece; b"" at the end. Damaged where it cannot be read, or decompressed."""
        if self._unpack is not None and (piece := self._unpacked(b"")):
            return piece
        while piece := self._piece():
            if self.position == len(piece):
                self._packed = packing(piece)
                self._unpack = _unpacker(self._packed)
            if self._unpack is None:
                return piece
            if unpacked := self._unpacked(piece):
                return unpacked
        if self._unpack is not None and not self._unpack.eof:
            raise Damaged("is cut short")
        self.trailing = self.trailing or bool(self._rest)
        return b""

    def _piece(self) -> bytes:
        size = self._size if self._limit is None else min(self._size, self._limit - self.position)
        try:
            descriptor = os.open(self.name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                found = os.fstat(descriptor)
                self._identity = self._identity or (found.st_dev, found.st_ino)
                if self._identity != (found.st_dev, found.st_ino):
                    raise Damaged("was replaced by another file")
                piece = os.pread(descriptor, size, self.position)
            finally:
                os.close(descriptor)
        except OSError as problem:
            raise Damaged(f"cannot be read to its end ({problem.strerror})") from None
        self.position += len(piece)
        return piece

    def _unpacked(self, packed: bytes) -> bytes:
        """At most a piece of what the bytes are decompressed; what remains comes with the next call."""
        assert self._unpack is not None
        packed = self._rest + packed
        try:
            while True:
                if self._unpack.eof:
                    if packing(packed) != self._packed:  # the beginning of another part, or what belongs to nobody
                        self._rest = packed if len(packed) < 6 else b""
                        self.trailing = self.trailing or len(packed) >= 6
                        return b""
                    self._unpack = _unpacker(self._packed)
                    assert self._unpack is not None
                piece = self._unpack.decompress(packed, self._size)
                eof = self._unpack.eof
                self._rest = packed = self._unpack.unused_data if eof else getattr(self._unpack, "unconsumed_tail", b"")
                if piece or not packed:
                    return piece
        except (zlib.error, lzma.LZMAError, OSError):
            raise Damaged("is damaged") from None


def _unpacker(kind: str) -> _Unpacker | None:
    """What decompresses a file of this kind; None if nothing here does."""
    if kind == "gzip":
        return zlib.decompressobj(31)
    if kind in _LIBRARIES:
        return _LIBRARIES[kind]() if _library(kind) is not None else None
    made = {"xz": lzma.LZMADecompressor, "bzip2": bz2.BZ2Decompressor}.get(kind)
    return made() if made is not None else None


# zstd and lz4: Python has them only from 3.14 on, or not at all. -----------------------------------------


@functools.cache
def _library(kind: str) -> Any:
    """The library, if it is here."""
    name = {"zstd": "libzstd.so.1", "lz4": "liblz4.so.1"}[kind]
    try:
        return ctypes.CDLL(name)
    except OSError:
        found = find_library(kind)
        return ctypes.CDLL(found) if found else None


class _Frame:
    """What is common to both: the part of the input that a call did not take comes again with the next call."""

    def __init__(self) -> None:
        self.eof = False
        self.unused_data = self.unconsumed_tail = b""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        out = ctypes.create_string_buffer(max_length)
        given, taken = self._call(out, data)
        left = data[taken:]
        if self.eof:
            self.unused_data = left
        else:
            self.unconsumed_tail = left
        return out.raw[:given]

    def _call(self, out: ctypes.Array[ctypes.c_char], data: bytes) -> tuple[int, int]:
        """How many bytes it gave, and how many it took; OSError if they are damaged."""
        raise NotImplementedError


class _Buffer(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("at", ctypes.c_size_t))


class _Zstd(_Frame):
    def __init__(self) -> None:
        super().__init__()
        library = _library("zstd")
        self._decompress = library.ZSTD_decompressStream
        self._decompress.restype, self._decompress.argtypes = ctypes.c_size_t, [ctypes.c_void_p] * 3
        self._is_error = library.ZSTD_isError
        self._is_error.argtypes = [ctypes.c_size_t]
        library.ZSTD_createDStream.restype = ctypes.c_void_p
        self._free = library.ZSTD_freeDStream
        self._free.argtypes = [ctypes.c_void_p]
        self._stream = library.ZSTD_createDStream()

    def _call(self, out: ctypes.Array[ctypes.c_char], data: bytes) -> tuple[int, int]:
        target = _Buffer(ctypes.addressof(out), len(out), 0)
        source = _Buffer(ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p), len(data), 0)
        left = self._decompress(self._stream, ctypes.byref(target), ctypes.byref(source))
        if self._is_error(left):
            raise OSError("zstd")
        self.eof = not left
        return target.at, source.at

    def __del__(self) -> None:
        self._free(self._stream)


class _Lz4(_Frame):
    def __init__(self) -> None:
        super().__init__()
        library = _library("lz4")
        self._decompress = library.LZ4F_decompress
        self._decompress.restype, self._decompress.argtypes = ctypes.c_size_t, [ctypes.c_void_p] * 6
        self._is_error = library.LZ4F_isError
        self._is_error.argtypes = [ctypes.c_size_t]
        self._free = library.LZ4F_freeDecompressionContext
        self._free.argtypes = [ctypes.c_void_p]
        self._context = ctypes.c_void_p()
        library.LZ4F_createDecompressionContext(ctypes.byref(self._context), 100)

    def _call(self, out: ctypes.Array[ctypes.c_char], data: bytes) -> tuple[int, int]:
        given, taken = ctypes.c_size_t(len(out)), ctypes.c_size_t(len(data))
        left = self._decompress(self._context, out, ctypes.byref(given), data, ctypes.byref(taken), None)
        if self._is_error(left):
            raise OSError("lz4")
        self.eof = not left
        return given.value, taken.value

    def __del__(self) -> None:
        self._free(self._context)


_LIBRARIES = {"zstd": _Zstd, "lz4": _Lz4}
