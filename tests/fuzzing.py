"""Damaged captures by seed, and what must hold of every run on one; for tests/test_fuzz.py and script/fuzz."""

from __future__ import annotations

import json
import random
import re
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.command import DATA, TSHARK, sharkstat

CORPUS = DATA.parent.parent.parent / "shared" / "captures"
LARGEST = 300_000  # bytes of a capture that is damaged: what is done to it matters, not its size
STATUSES = (0, 3, 4, 6, 7)  # docs/exit-statuses.md, of a run that nobody interrupts
SECONDS = 90
# At their extremes, and beside them.
_EXTREMES = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 999_999, 1_000_000, 999_999_999, 1_000_000_000)
_OFFSETS = (2**63 - 1, -(2**63), 2**62, -1, 2**40, 2**33)
_LINK_TYPES = (0, 1, 9, 101, 105, 113, 127, 147, 192, 195, 228, 229, 276, 9999)
_BLOCK = struct.Struct("<II")
_SECTION, _INTERFACE, _SIMPLE, _PACKET = 0x0A0D0D0A, 1, 3, 6
# What may be negative; the intervals of io,stat may lie before the first packet.
_FREE = re.compile(r"change|offset|delta|skew|lost|balance|stop")


def captures() -> list[Path]:
    """What is damaged: our own captures, and those of the corpus where there is one."""
    found = [path for path in sorted(DATA.iterdir()) if path.suffix in (".pcap", ".pcapng")]
    if CORPUS.is_dir():
        found += sorted(path for path in CORPUS.rglob("*") if path.suffix in (".pcap", ".pcapng", ".cap"))
    return [path for path in found if 0 < path.stat().st_size <= LARGEST]


def requests() -> list[str]:
    """Every statistic of our own that needs no argument, and some with arguments."""
    from sharkstat import Registry

    registry = Registry.default(only_built_in=True)
    needy = ("group", "io,stat", "processes")  # these need arguments, or a live capture
    named = {name: registry.find(name)[0] for name in registry.names if name not in needy}
    own = [name for name, statistic in named.items() if any(engine.own for engine in statistic.engines)]
    return [
        *own,
        *("io,stat,0.5,tcp,udp", "io,stat,1,AVG(tcp.time_delta)tcp.time_delta", "talkers,every=1"),
        *("http,requests,path=template", "group,by=ip.src,count,sum=frame.len,mean=tcp.time_delta,seen"),
        "group,by=frame.protocols,every=1s,count,max=tcp.analysis.ack_rtt",
    ]


# Damage ---------------------------------------------------------------------------------------------------


def damaged(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """What kind of damage, and the capture with it."""
    kinds: list[Callable[[bytearray, random.Random], bytes]] = [_flipped, _cut]
    if data[:4] == struct.pack("<I", _SECTION) and data[8:12] == b"\x4d\x3c\x2b\x1a":
        kinds += [_block_lengths, _interface_options, _packet_fields, _blocks_moved, _packet_times] * 2
    elif data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1"):
        kinds += [_file_header, _record_fields, _record_times, _records_moved, _fractions] * 2
    kind = chance.choice(kinds)
    return kind.__name__.strip("_").replace("_", " "), kind(bytearray(data), chance)


def _flipped(data: bytearray, chance: random.Random) -> bytes:
    rate = chance.choice((0.0005, 0.005, 0.05))
    for _ in range(max(1, int(len(data) * rate))):
        data[chance.randrange(24, len(data)) if len(data) > 24 else 0] = chance.randrange(256)
    return bytes(data)


def _cut(data: bytearray, chance: random.Random) -> bytes:
    return bytes(data[: chance.randrange(len(data))])


def _blocks(data: bytes | bytearray) -> list[tuple[int, int, int]]:
    """Kind, place and length of each block of a pcapng file, as long as they make sense."""
    found, at = [], 0
    while at + 12 <= len(data):
        kind, length = _BLOCK.unpack_from(data, at)
        if length < 12 or at + length > len(data):
            break
        found.append((kind, at, length))
        at += length
    return found


def _some(chance: random.Random, things: Sequence[Any]) -> list[Any]:
    return chance.sample(list(things), min(len(things), chance.choice((1, 1, 2, 5)))) if things else []


def _block_lengths(data: bytearray, chance: random.Random) -> bytes:
    for _, at, length in _some(chance, _blocks(data)):
        wrong = chance.choice((0, 4, 8, 12, length - 4, length + 4, length + 1, 2**31, 2**32 - 1))
        struct.pack_into("<I", data, at + 4 if chance.random() < 0.7 else at + length - 4, wrong % 2**32)
    return bytes(data)


def _interface_options(data: bytearray, chance: random.Random) -> bytes:
    """Resolutions and offsets of times at their extremes, wrong lengths, other link types and snapshot lengths."""
    out = bytearray()
    for kind, at, length in _blocks(data):
        block = bytes(data[at : at + length])
        if kind == _INTERFACE:
            link, _, snap = struct.unpack_from("<HHI", block, 8)
            if chance.random() < 0.2:
                link = chance.choice(_LINK_TYPES)
            if chance.random() < 0.3:
                snap = chance.choice((0, 1, 64, 2**32 - 1))
            options = b""
            if chance.random() < 0.7:
                resolution = chance.choice((0, 3, 6, 9, 12, 14, 18, 19, 20, 127, 0x80, 0x80 | 9, 0x80 | 63, 0xFF))
                options += struct.pack("<HHBxxx", 9, chance.choice((1, 1, 1, 0, 4)), resolution)
            if chance.random() < 0.5:
                options += struct.pack("<HHq", 14, 8, chance.choice(_OFFSETS))
            if chance.random() < 0.3:
                options += struct.pack("<HH", chance.randrange(20), chance.choice((0, 3, 8, 65535))) + b"\0" * 8
            body = struct.pack("<HHI", link, 0, snap) + options + b"\0\0\0\0"
            block = _BLOCK.pack(kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)
        out += block
    return bytes(out)


def _packet_fields(data: bytearray, chance: random.Random) -> bytes:
    for kind, at, length in _some(chance, [b for b in _blocks(data) if b[0] in (_PACKET, _SIMPLE)]):
        place = at + 8 + (chance.choice((0, 12, 16)) if kind == _PACKET else 0)
        (value,) = struct.unpack_from("<I", data, place)
        wrong = chance.choice((0, 1, value + 1, value * 2, length, 65536, 2**31, 2**32 - 1))
        struct.pack_into("<I", data, place, wrong % 2**32)
    return bytes(data)


def _packet_times(data: bytearray, chance: random.Random) -> bytes:
    for _, at, _ in _some(chance, [b for b in _blocks(data) if b[0] == _PACKET]):
        high, low = struct.unpack_from("<II", data, at + 12)
        time = (high << 32 | low) + chance.choice((-(10**7), 10**7, -(10**13), 10**13, 1, -1))
        value = chance.choice((time, time, 0, 2**63 - 1, 2**63, 2**64 - 1)) % 2**64
        struct.pack_into("<II", data, at + 12, value >> 32, value & 0xFFFFFFFF)
    return bytes(data)


def _blocks_moved(data: bytearray, chance: random.Random) -> bytes:
    blocks = [bytes(data[at : at + length]) for _, at, length in _blocks(data)]
    for _ in range(chance.choice((1, 3))):
        one, other = chance.randrange(len(blocks)), chance.randrange(len(blocks))
        what = chance.randrange(3)
        if what == 0:
            blocks[one], blocks[other] = blocks[other], blocks[one]
        elif what == 1:
            blocks.insert(one, blocks[other])
        elif len(blocks) > 1:
            del blocks[one]
    return b"".join(blocks)


def _records(data: bytes | bytearray) -> list[tuple[int, int]]:
    """Place and length of each record of a pcap file, as long as they make sense."""
    found, at = [], 24
    while at + 16 <= len(data):
        length = 16 + struct.unpack_from("<I", data, at + 8)[0]
        if at + length > len(data):
            break
        found.append((at, length))
        at += length
    return found


def _file_header(data: bytearray, chance: random.Random) -> bytes:
    at, size, values = chance.choice(
        (
            (0, 4, (0xA1B23C4D, 0xA1B2C3D4, 0xA1B2CD34, 0xA1B2C3D5)),  # another resolution, or a format unlike this
            (4, 2, (0, 1, 3, 255)),
            (16, 4, (0, 1, 64, 2**32 - 1)),
            (20, 4, _LINK_TYPES),
        )
    )
    struct.pack_into("<I" if size == 4 else "<H", data, at, chance.choice(values))
    return bytes(data)


def _record_fields(data: bytearray, chance: random.Random) -> bytes:
    for at, length in _some(chance, _records(data)):
        kept = length - 16
        if chance.random() < 0.6:  # the length on the wire
            struct.pack_into("<I", data, at + 12, chance.choice((0, 1, kept // 2, kept * 3, 65535, 2**31, 2**32 - 1)))
        else:
            struct.pack_into("<I", data, at + 8, chance.choice((0, kept // 2, kept + 1, 262145, 2**31, 2**32 - 1)))
    return bytes(data)


def _record_times(data: bytearray, chance: random.Random) -> bytes:
    for at, _ in _some(chance, _records(data)):
        (seconds,) = struct.unpack_from("<I", data, at)
        value = chance.choice((seconds - 1, seconds + 1, seconds - 10_000, seconds + 5_000_000, *_EXTREMES)) % 2**32
        struct.pack_into("<I", data, at, value)
    return bytes(data)


def _fractions(data: bytearray, chance: random.Random) -> bytes:
    """Microseconds beyond a million."""
    for at, _ in _some(chance, _records(data)):
        struct.pack_into("<I", data, at + 4, chance.choice(_EXTREMES))
    return bytes(data)


def _records_moved(data: bytearray, chance: random.Random) -> bytes:
    records = [bytes(data[at : at + length]) for at, length in _records(data)]
    if records and chance.random() < 0.5:
        chance.shuffle(records)
    elif records:
        at = chance.randrange(len(records))
        records[at:at] = [records[at]] * chance.choice((1, 2, 50))
    return bytes(data[:24]) + b"".join(records)


# What must hold -------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """How the runs on one damaged capture ended; `faults` is what must not be."""

    seed: int
    capture: str
    kind: str
    status: int = 0
    tables: int = 0
    faults: list[str] = field(default_factory=list)


def tried(seed: int, sources: Sequence[Path], asked: Sequence[str], folder: Path) -> Outcome:
    """Damage one capture, run some statistics on it, in several ways, and judge the results."""
    chance = random.Random(seed)
    source = chance.choice(sources)
    kind, data = damaged(source.read_bytes(), chance)
    path = folder / f"fuzz-{seed}{source.suffix}"
    path.write_bytes(data)
    outcome = Outcome(seed, source.name, kind)
    some = chance.sample(list(asked), 6)
    try:
        plain = _run(path, some, outcome, ())
        outcome.status = plain.status
        outcome.tables = len(plain.tables)
        if plain.tables:
            outcome.faults += [*_books(path, plain), *(fault for table in plain.tables for fault in _impossible(table))]
        how = chance.choice(("packets", "jobs", "overview", "", ""))
        if how == "overview":
            _ended(sharkstat("overview", path, "--format", "json"), outcome, "overview")
        elif how and plain.tables:
            _compared(path, plain, outcome, how)
    finally:
        if not outcome.faults:
            path.unlink()
    return outcome


@dataclass
class _Run:
    status: int
    tables: list[dict[str, Any]]
    errors: str


def _ended(done: subprocess.CompletedProcess[str], outcome: Outcome, how: str) -> _Run:
    """Whether it ended as documented: with a status, no traceback, and JSON that can be read."""
    if "Traceback" in done.stderr or "Traceback" in done.stdout:
        outcome.faults.append(f"{how}: traceback: {done.stderr.strip().splitlines()[-1]}")
    if done.returncode not in STATUSES:
        outcome.faults.append(f"{how}: status {done.returncode}: {done.stderr.strip()[-300:]}")
    if done.returncode and not done.stderr.strip() and how != "overview":  # its findings say it
        outcome.faults.append(f"{how}: status {done.returncode} without a word")
    try:
        tables = json.loads(done.stdout)["tables"] if done.stdout else []
    except ValueError as problem:
        outcome.faults.append(f"{how}: JSON that cannot be read: {problem}")
        tables = []
    return _Run(done.returncode, tables, done.stderr)


def _run(path: Path, asked: Sequence[str], outcome: Outcome, options: Sequence[str]) -> _Run:
    words = [word for request in asked for word in ("-z", request)]
    done = sharkstat("run", path, *words, "--format", "json", "--timeout", str(SECONDS - 20), *options)
    return _ended(done, outcome, " ".join(options) or "run")


def _books(path: Path, run: _Run) -> Iterator[str]:
    """Every table has read the packets that Wireshark's capinfos finds in the file, with their bytes."""
    capinfos = str(Path(TSHARK).with_name("capinfos"))
    done = subprocess.run([capinfos, "-TrcdQ", str(path)], capture_output=True, timeout=SECONDS, check=False, text=True)
    if run.status not in (0, 6) or not (counted := re.search(r"\t(\d+)\t(\d+)\s*$", done.stdout.replace('"', ""))):
        return
    known = tuple(map(int, counted.groups()))
    for table in run.tables:
        read = table["read"]["packets"], table["read"]["bytes"]
        if read != known:
            yield f"{table['request']} has read {read[0]} packets, {read[1]} bytes; capinfos: {known[0]}, {known[1]}"


def _impossible(table: dict[str, Any]) -> Iterator[str]:
    """Values that no traffic can have: a negative duration, a share above 100 %, a mean outside of min and max."""
    columns = {column["name"]: column for column in table["columns"]}
    if table["name"] == "group":
        return  # what tshark's fields say, whatever that is
    for row in table["rows"]:
        for name, column in columns.items():
            value = row[name]
            if not isinstance(value, (int, float)) or column["role"] == "key":
                continue
            free = _FREE.search(name)
            if column["type"] == "duration" and value < 0 and not free:
                yield f"{table['request']}: {name} is {value}"
            if column["unit"] == "percent" and not free and not 0 <= value <= 100.0000001:
                yield f"{table['request']}: {name} is {value} %"
            if column["unit"] in ("packets", "bytes") and value < 0 and not free:
                yield f"{table['request']}: {name} is {value}"
        for name in columns:
            least, most = (row.get(name.replace("mean_", f"{which}_")) for which in ("min", "max"))
            mean = row[name]
            if name.startswith("mean_") and None not in (least, mean, most) and least != mean != most:
                slack = 1e-9 + 1e-9 * abs(mean)
                if not least - slack <= mean <= most + slack:
                    yield f"{table['request']}: {name} {mean} is not within {least} and {most}"


def _compared(path: Path, plain: _Run, outcome: Outcome, how: str) -> None:
    """The same tables on the packets engine, or in shards."""
    from sharkstat import Registry

    registry = Registry.default(only_built_in=True)
    asked = [table["request"] for table in plain.tables]
    if how == "packets":
        engines = {text: [engine.name for engine in registry.find(text)[0].engines] for text in asked}
        asked = [text for text in asked if {"lua", "packets"} <= {*engines[text]}]
    options = ("--engine", "packets") if how == "packets" else ("--jobs", "3")
    if not asked:
        return
    other = _run(path, asked, outcome, options)
    if other.status != plain.status:
        return  # what failed says so
    known = {table["request"]: table for table in plain.tables}
    for table in other.tables:
        if table["rows"] != known[table["request"]]["rows"]:
            outcome.faults.append(f"{table['request']}: other rows with {' '.join(options)}")
