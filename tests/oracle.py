"""What others say of a capture: sharkd, tshark's own text, capinfos and plain field dumps, parsed.

Nothing here uses sharkstat. Names are never resolved.
"""

from __future__ import annotations

import json
import math
import os
import re
import select
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

KINDS = ("eth", "ip", "ipv6", "tcp", "udp")
WORDS = {"eth": "Ethernet", "ip": "IPv4", "ipv6": "IPv6", "tcp": "TCP", "udp": "UDP"}
TREES = {"Packet Counter": "http,tree", "Requests": "http_req,tree", "Load Distribution": "http_srv,tree"}

# What sharkd and capinfos read instead of an option: no names, for anything.
PREFERENCES = "".join(
    f"nameres.{name}: FALSE\n"
    for name in ("mac_name", "transport_name", "network_name", "vlan_name", "ss7_pc_name", "use_external_name_resolver")
)

Row = tuple[Any, ...]


def environment() -> dict[str, str]:
    """The environment of every oracle: a fixed locale and zone, and preferences of its own."""
    own = {"HOME": _home(), "WIRESHARK_CONFIG_DIR": _home(), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    return {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC", **own}


_folder: tempfile.TemporaryDirectory[str] | None = None
_folder_lock = threading.Lock()


def _home() -> str:
    global _folder
    with _folder_lock:
        if _folder is None:
            _folder = tempfile.TemporaryDirectory(prefix="oracle-", ignore_cleanup_errors=True)
            Path(_folder.name, "preferences").write_text(PREFERENCES)
            Path(_folder.name).chmod(0o755)
        return _folder.name


def tool(name: str) -> str:
    """The path of a program of Wireshark's, beside the tshark under test where there is one."""
    tshark = shutil.which(os.environ.get("SHARKSTAT_TSHARK", "tshark"))
    beside = Path(tshark or "").parent / name
    path = tshark if name == "tshark" else str(beside) if beside.exists() else shutil.which(name)
    if path is None:
        raise FileNotFoundError(name)
    return path


def output(name: str, *arguments: str, status: Sequence[int] = (0,)) -> bytes:
    """What a program prints; it must end with one of these."""
    done = subprocess.run([tool(name), *arguments], capture_output=True, env=environment(), timeout=120)
    assert done.returncode in status, f"{name} {arguments}: {done.returncode}: {done.stderr.decode()}"
    return done.stdout


@cache
def version() -> tuple[int, ...]:
    """tshark's version."""
    found = re.search(rb"(\d+)\.(\d+)\.(\d+)", output("tshark", "--version"))
    assert found
    return tuple(map(int, found.groups()))


# What a capture holds ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """A capture as capinfos sees it: the span from its earliest packet to its latest in nanoseconds."""

    packets: int
    bytes: int
    span: int
    ordered: bool


def capinfos(captures: Sequence[Path]) -> dict[Path, Known]:
    """What many captures hold; none for those that it cannot read."""
    if not captures:
        return {}
    options = ["-T", "-M", "-S", "-c", "-d", "-a", "-e", "-o"]
    text = output("capinfos", *options, *map(str, captures), status=(0, 1, 2)).decode()
    found = {}
    for line in text.splitlines()[1:]:
        name, packets, size, first, last, ordered = line.split("\t")
        if packets.isdigit() and size.isdigit():
            # 4.4 writes a nonsensical fraction as "-1.(1404616000 nanoseconds)".
            times = [nanoseconds(time.partition("(")[0]) for time in (first, last) if time != "n/a"]
            span = max(times) - min(times) if times else 0
            found[Path(name)] = Known(int(packets), int(size), span, ordered == "True")
    return found


def fields(capture: Path, names: Sequence[str], *options: str) -> list[list[list[str]]]:
    """All values of the fields in every packet, as -T fields prints them. Not to be changed: others may ask again."""
    facts = capture.stat()
    state = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
    if options or not set(names) <= set(USUAL):
        return _fields(capture, state, tuple(names), options)
    at = [USUAL.index(name) for name in names]
    return [[packet[number] for number in at] for packet in _fields(capture, state, USUAL, ())]


# What several tests ask of the same captures: one tshark tells all of it.
USUAL = (
    *("dns.time", "http.time", "smb2.time", "smb.time", "dcerpc.time", "rpc.time", "snmp.time", "ldap.time"),
    *("radius.time", "diameter.resp_time", "stun.time", "coap.response_time", "pfcp.response_time", "ncp.time"),
    *("frame.number", "frame.protocols", "frame.len", "frame.time_relative", "frame.time_epoch"),
    *("tcp", "udp", "ip", "ipv6", "ip.len", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst"),
    *("tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport", "sctp.srcport", "sctp.dstport"),
    *("tcp.stream", "tcp.flags", "tcp.flags.reset", "tcp.len", "tcp.seq_raw", "tcp.time_relative"),
    *("tcp.analysis.ack_rtt", "tcp.analysis.retransmission", "tcp.analysis.fast_retransmission"),
    *("tcp.analysis.spurious_retransmission", "tcp.analysis.duplicate_ack", "tcp.analysis.out_of_order"),
    *("tcp.analysis.lost_segment", "tcp.analysis.zero_window"),
    *("rtp.ssrc", "dns.qry.name", "dns.qry.type", "http.request.method", "http.response.code"),
)


@lru_cache(maxsize=50)
def _fields(
    capture: Path, _state: tuple[int, ...], names: Sequence[str], options: Sequence[str]
) -> list[list[list[str]]]:
    arguments = ["-n", "-r", str(capture), *options, "-T", "fields", "-E", "separator=\x1f", "-E", "aggregator=\x1e"]
    for name in names:
        arguments += ["-e", name]
    text = output("tshark", *arguments, status=(0, 2, 14)).decode("utf-8", "replace")
    lines = text.split("\n")[:-1]
    return [[cell.split("\x1e") if cell else [] for cell in line.split("\x1f")] for line in lines]


# sharkd --------------------------------------------------------------------------------------------


class Sharkd:
    """One sharkd that answers for one capture after the other. It reads each as tshark -2 does."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._number = 0

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [tool("sharkd"), "-"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment(),
            )
        return self._process

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None

    def ask(self, method: str, params: dict[str, str]) -> Any:
        """The answer's result. TimeoutError where there is none in time: it is stopped then."""
        process = self._start()
        assert process.stdin is not None and process.stdout is not None
        self._number += 1
        request = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        answer = b""
        while not answer.endswith(b"\n"):
            if not select.select([process.stdout], [], [], 60)[0]:
                self.close()
                raise TimeoutError(f"sharkd does not answer: {method} {params}")
            more = os.read(process.stdout.fileno(), 1 << 20)
            if not more:
                self.close()
                raise ChildProcessError(f"sharkd ended: {method} {params}")
            answer += more
        # Times keep their digits.
        return json.loads(answer.decode("utf-8", "surrogateescape"), parse_float=str)["result"]

    def tables(self, capture: Path, trees: bool = False) -> dict[str, list[Row]]:
        """Conversations and endpoints of every kind (and the trees), by the names of -z.

        A conversation is (a, [port,] b, [port,] packets a to b, bytes, packets b to a, bytes, start,
        stop), an endpoint (address, [port,] packets sent, bytes, packets received, bytes), a node
        (path, count). Times are those of `shown`.
        """
        self.ask("load", {"file": str(capture.absolute())})
        taps = [f"conv:{WORDS[kind]}" for kind in KINDS] + [f"endpt:{WORDS[kind]}" for kind in KINDS]
        if trees:
            taps += ["stat:http", "stat:http_req", "stat:http_srv"]
        answer = self.ask("tap", {f"tap{number}": tap for number, tap in enumerate(taps)})
        found = {}
        kinds = {word: kind for kind, word in WORDS.items()}
        for tap in answer["taps"]:
            if tap["type"] == "conv":
                found[f"conv,{kinds[tap['proto']]}"] = [_conversation(c) for c in tap["convs"]]
            elif tap["type"] == "host":
                found[f"endpoints,{kinds[tap['proto']]}"] = [_endpoint(e) for e in tap["hosts"]]
            else:
                name = tap["tap"].partition(":")[2] + ",tree"
                found[name] = [(path, count) for path, count in _nodes(tap["stats"], ())]
        return found


def _name(raw: bytes) -> str:
    """A node's name: bytes that are no UTF-8 as \\xff; what 4.4 calls Error was KO."""
    return "Error" if raw == b"KO" else raw.decode("utf-8", "backslashreplace")


def _nodes(nodes: Sequence[dict[str, Any]], above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    for node in nodes:
        path = (*above, _name(node["name"].encode("utf-8", "surrogateescape")))
        yield path, node["count"]
        yield from _nodes(node.get("sub", ()), path)


def nanoseconds(text: str) -> int:
    """Seconds as nanoseconds, exactly.

    >>> nanoseconds("-0.5")
    -500000000
    """
    sign = -1 if text.startswith("-") else 1
    whole, _, part = text.lstrip("-").partition(".")
    return sign * (int(whole) * 10**9 + int(part[:9].ljust(9, "0") or "0"))


def seconds(time: int) -> float:
    """Nanoseconds as the double that tshark makes of its whole seconds and nanoseconds."""
    whole, part = divmod(abs(time), 10**9)
    value = whole + part / 1e9
    return -value if time < 0 else value


def shown(time: int) -> str:
    """Nanoseconds as tshark and sharkd print seconds: nine digits of a double."""
    return f"{seconds(time):.9f}"


def _conversation(c: dict[str, Any]) -> Row:
    ends: Row = (c["saddr"], c["daddr"])
    if "sport" in c:
        ends = (c["saddr"], int(c["sport"]), c["daddr"], int(c["dport"]))
    return (*ends, c["txf"], c["txb"], c["rxf"], c["rxb"], c["start"], c["stop"])


def _endpoint(e: dict[str, Any]) -> Row:
    end: Row = (e["host"], int(e["port"])) if "port" in e else (e["host"],)
    return (*end, e["txf"], e["txb"], e["rxf"], e["rxb"])


# tshark's own text ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Size:
    """A number of bytes as tshark shows it: cut to thousands, millions or more where it is large."""

    least: int
    unit: int

    def shows(self, number: int) -> bool:
        return self.least <= number < self.least + self.unit


def size(number: str, unit: str) -> Size:
    """A size from its two words in the text.

    >>> size("178", "kB").shows(178_999), size("4845", "bytes").shows(4846)
    (True, False)
    """
    factor = {"bytes": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}[unit]
    return Size(int(number) * factor, factor)


@dataclass(frozen=True)
class Node:
    """A row of a tree: None where the cell is empty."""

    count: int
    rate: float | None
    percent: float | None
    burst_rate: float | None
    burst_start: float | None


@dataclass(frozen=True)
class Text:
    """What `tshark -q -n -z ...` prints of one capture: each table by its name, io,stat's in order."""

    conversations: dict[str, list[Row]]
    endpoints: dict[str, list[Row]]
    trees: dict[str, dict[tuple[str, ...], Node]]
    io_stat: list[list[list[str]]]


def tshark_text(capture: Path, requests: Sequence[str], *options: str) -> Text:
    """Ask one tshark for everything, with exact sizes where it has them to give."""
    arguments = ["-q", "-n", "-r", str(capture), *options]
    if version() >= (4, 6):
        arguments += ["-o", "conv.machine_readable:TRUE"]
    for request in requests:
        arguments += ["-z", request]
    return parse(output("tshark", *arguments, status=(0, 2, 14)))


_TABLE = re.compile(rb"(Ethernet|IPv4|IPv6|TCP|UDP) (Conversations|Endpoints)$")
_TREE = re.compile(rb"HTTP ?/ ?(Packet Counter|Requests|Load Distribution):$")


def parse(text: bytes) -> Text:
    """Take the text apart. tshark prints the last request first."""
    result = Text({}, {}, {}, [])
    kinds = {word: kind for kind, word in WORDS.items()}
    lines = iter(text.split(b"\n"))
    for line in lines:
        if found := _TABLE.match(line):
            kind, body = kinds[found[1].decode()], _until(lines, b"====")
            if found[2] == b"Conversations":
                result.conversations[f"conv,{kind}"] = [_text_conversation(r, kind) for r in body if b"<->" in r]
            else:
                rows = [r for r in body if b"|" not in r and not r.startswith(b"Filter:")]
                result.endpoints[f"endpoints,{kind}"] = [_text_endpoint(r, kind) for r in rows]
        elif found := _TREE.match(line):
            result.trees[TREES[found[1].decode()]] = _text_tree(next(lines), _until(lines, b"----", skip=1))
        elif line.startswith(b"| IO Statistics"):
            cells = (row.split(b"|")[2:-1] for row in _until(lines, b"====") if b"<>" in row)
            result.io_stat.insert(0, [[cell.strip().decode() for cell in row] for row in cells])
    return result


def _until(lines: Iterator[bytes], mark: bytes, skip: int = 0) -> list[bytes]:
    body = []
    for line in lines:
        if line.startswith(mark):
            if not skip:
                break
            skip -= 1
        else:
            body.append(line)
    return body


def _end(text: str, kind: str) -> Row:
    if kind not in ("tcp", "udp"):
        return (text,)
    address, _, port = text.rpartition(":")
    return (address, int(port))


def _mac(address: str) -> str:
    return "ff:ff:ff:ff:ff:ff" if address == "Broadcast" else address


def _text_conversation(line: bytes, kind: str) -> Row:
    """(a, [port,] b, [port,] packets a to b, Size, packets b to a, Size, start, duration)"""
    a, _, rest = line.decode().partition(" <-> ")
    b, *cells = rest.split()
    start, duration = cells[-2:]
    if len(cells) == 8:  # no units: exact, as 4.6 has them where it is asked to
        back, ahead = ((int(cells[at]), Size(int(cells[at + 1]), 1)) for at in (0, 2))
    else:
        back, ahead = ((int(cells[at]), size(cells[at + 1], cells[at + 2])) for at in (0, 3))
    ends = (*_end(_mac(a.strip()), kind), *_end(_mac(b), kind))
    return (*ends, *ahead, *back, start, duration)


def _text_endpoint(line: bytes, kind: str) -> Row:
    address, *cells = line.decode().split()
    numbers = [int(cell) for cell in cells]
    if kind in ("tcp", "udp"):
        port, _, _, *counts = numbers
        return (_mac(address), port, *counts)
    return (_mac(address), *numbers[2:])


def _text_tree(header: bytes, body: Sequence[bytes]) -> dict[tuple[str, ...], Node]:
    titles = (b"Count", b"Average", b"Rate (ms)", b"Percent", b"Burst Rate", b"Burst Start")
    at = [header.index(title) for title in titles] + [len(header) + 100]
    path: list[str] = []
    nodes = {}
    for line in body:
        if not line.strip():
            continue
        name = line[: at[0]].rstrip(b" ")
        depth = len(name) - len(name.lstrip(b" "))
        path = [*path[:depth], _name(name.lstrip(b" "))]
        cells = [line[start:stop].decode().strip().rstrip("%") for start, stop in pairwise(at)]
        numbers = [None if cell in ("", "-") else float(cell) for cell in cells]
        nodes[tuple(path)] = Node(int(cells[0]), *numbers[2:])
    return nodes


# io,stat, counted here ---------------------------------------------------------------------------------

Column = tuple[str, str, str]  # calculation ("" for frames and bytes), field, filter


@dataclass(frozen=True)
class Question:
    """An io,stat: its interval in microseconds (0: one for all) and its columns."""

    interval: int
    columns: tuple[Column, ...]


def count_io(capture: Path, questions: Sequence[Question]) -> list[dict[int, list[Any]]]:
    """For each question intervals by number, with their values a column, from one plain dump of the fields.

    Filters may only be fields or protocols that must be there. Durations come in nanoseconds. LOAD is left out
    (None): see `count_load`.
    """
    wanted = list(dict.fromkeys(n for q in questions for _, *names in q.columns for n in names if n))
    packets = []
    for times, lengths, *values in fields(capture, ["frame.time_relative", "frame.len", *wanted]) if questions else ():
        packets.append((nanoseconds(times[0]), int(lengths[0]), dict(zip(wanted, values, strict=True))))
    return [_counted(packets, question) for question in questions]


def _counted(packets: Sequence[tuple[int, int, dict[str, list[str]]]], question: Question) -> dict[int, list[Any]]:
    interval_us, columns = question.interval, question.columns
    buckets: dict[int, list[Any]] = {}
    samples: dict[int, list[list[Any]]] = {}
    for time, length, values in packets:
        bucket = (time + 500) // 1000 // interval_us if interval_us else 0
        found = samples.setdefault(bucket, [[] for _ in columns])
        for column, (_, field, present) in enumerate(columns):
            if present and not values[present]:
                continue
            found[column] += [length] if not field else [_value(text) for text in values[field]]
    for bucket, found in samples.items():
        row: list[Any] = []
        for (calculation, _, _), numbers in zip(columns, found, strict=True):
            row += _calculated(calculation, numbers)
        buckets[bucket] = row
    return buckets


def count_load(capture: Path, interval_us: int, field: str) -> dict[int, int]:
    """How many microseconds of each interval the durations that end in the packets cover."""
    busy: dict[int, int] = {}
    for times, durations in fields(capture, ["frame.time_relative", field]):
        end = (nanoseconds(times[0]) + 500) // 1000
        for duration in durations:
            start = max(0, end - nanoseconds(duration) // 1000)
            for bucket in range(start // interval_us, end // interval_us + 1):
                inside = min(end, (bucket + 1) * interval_us) - max(start, bucket * interval_us)
                busy[bucket] = busy.get(bucket, 0) + inside
    return busy


def _value(text: str) -> int:
    return nanoseconds(text) if "." in text else int(text, 0)


def _calculated(calculation: str, numbers: Sequence[int]) -> list[Any]:
    if calculation == "":
        return [len(numbers), sum(numbers)]
    if calculation in ("FRAMES", "COUNT"):
        return [len(numbers)]
    if calculation == "BYTES":
        return [sum(numbers)]
    if not numbers or calculation == "LOAD":
        return [None]
    if calculation == "AVG":
        return [sum(numbers) / len(numbers)]
    if calculation == "SUM":
        return [sum(numbers)]
    return [min(numbers) if calculation == "MIN" else max(numbers)]


def near(value: float, shown: float, digits: int) -> bool:
    """Whether a value is shown as this with so many decimals."""
    return math.isclose(value, shown, abs_tol=0.5000001 * 10**-digits, rel_tol=1e-12)
