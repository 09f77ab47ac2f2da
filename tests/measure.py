"""Every capture measured once: by sharkstat on both engines, and by the oracles."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests import oracle
from tests.oracle import KINDS, Known, Text

import sharkstat
from sharkstat import Registry, Source, Table
from sharkstat.running.plan import Plan, make_plan
from sharkstat.running.runner import run_plan
from sharkstat.tshark.process import find_tshark

PROJECT = Path(__file__).resolve().parent.parent
DATA = PROJECT / "tests" / "data"
CORPUS = PROJECT.parent / "shared" / "captures"

ADDRESSES = [*(f"conv,{kind}" for kind in KINDS), *(f"endpoints,{kind}" for kind in KINDS)]
TREES = ["http,tree", "http_req,tree", "http_srv,tree"]

# With fewer rows than there are: what must stay the same is held against the whole tables.
BOUNDED = [
    *("tcp,health,max=3", "tcp,servers,max=2", "tcp,connections,max=2", "apps,max=2", "talkers,max=2", "talkers,max=0"),
    *(
        "latency,max=1",
        "loss,max=1",
        "dns,names,max=3",
        "dns,names,max=1",
        "http,requests,max=5",
        "http,requests,max=1",
    ),
    *("tls,servers,max=1", "quic,servers,max=1", "arp,hosts,max=2", "services,max=3"),
]

# On both engines.
GROUPS = [
    "group,by=ip.src,sum=frame.len,count",
    "group,by=ip.src/ipv6.src,by=ip.dst/ipv6.dst,count,distinct=tcp.dstport,seen",
    "group,every=500ms,count,sum=frame.len,sum=tcp.len,mean=tcp.len,frame",
    "group,by=ip.src:all,by=ip.dst:last,count,min=frame.number,max=frame.time_relative",
    "group,by=tcp.flags.syn,by=tcp,count=ip.src,percentile=tcp.time_delta,sum=tcp.time_delta,mean=tcp.time_relative,max=tcp.analysis.ack_rtt",
    "group,tree=ip.src+tcp.dstport/udp.dstport,count,mean=frame.len,distinct=ip.dst",
    "group,tree=dns.qry.name:split.:reverse,count,sum=dns.time",
    "group,by=frame.protocols,count,ip",
    "group,by=eth.addr,by=eth.type,count,distinct=ip.ttl,count=eth.addr",
    "group,by=http.request.uri,by=http.response.code,count,max=http.time,percentile=frame.len,percentile=ip.ttl:5",
    "group,by=frame.time_epoch,max=frame.time_epoch,distinct=frame.time_epoch,count",
    "group,by=tls.handshake.random,by=tls.handshake.extensions_server_name:all,count,distinct=tls.handshake.ciphersuite",
    "group,by=ntp.xmt,by=tcp.options.timestamp.tsval,count,sum=ip.len,min=ip.ttl",
    "group,by=host,count,sum=frame.len,distinct=tcp.dstport,mean=tcp.time_delta,seen",
    "group,by=conversation(ip.src/ipv6.src/24/64,ip.dst/ipv6.dst/24/64),by=bucket(frame.len,64,1024),count,sum=ip.len",
    "group,by=lower(dns.qry.name):all,by=segment(http.request.uri,1),by=bucket(tcp.time_delta,1ms,1s),sum=dns.time",
    "group,by=ip.src,every=1s,count where tcp as t,sum=frame.len where udp,distinct=ip.dst where (ip.ttl in {1,64})",
    "group,by=frame,count,sum=frame.len,seen",
]

# What tests ask of many captures: `once` has all of them in one run.
OURS = [
    *("tcp,health", "tcp,servers", "tcp,connections", "apps", "talkers", "talkers,every=1s", "talkers,every=1d"),
    *("latency", "loss", "dns,names", "http,requests", "http,requests,query=yes", "http,requests,query=no"),
    *("tls,servers", "quic,servers", "arp,hosts", "dhcp,leases", "icmp,errors", "dns,tree", "rtp,streams", "io,stat,1"),
    "services",
    *ADDRESSES,
    *TREES,
    *BOUNDED,
]

# Any preference, even one at its default, has tshark dissect everything.
FULL = ("ip.defragment:TRUE",)

# io,stat's columns: as tshark wants them, with the field named again in the filter.
WITH_FILTERS: list[oracle.Column] = [("", "", "tcp"), ("", "", "udp"), ("", "", "ip"), ("", "", "ipv6")]
WITH_NUMBERS: list[oracle.Column] = [
    ("FRAMES", "", "tcp"),
    ("BYTES", "", "udp"),
    *((c, "ip.len", "ip.len") for c in ("COUNT", "SUM", "MIN", "MAX", "AVG")),
]
WITH_TIMES: list[oracle.Column] = [
    (c, "tcp.time_relative", "tcp.time_relative") for c in ("COUNT", "SUM", "MIN", "MAX", "AVG", "LOAD")
]


# The traffic of another capture here, which tests of their own hold against it: sweeps leave them to script/test-long.
TWINS = ("http.pcap.gz", "nanosecond.pcap")


def data_captures() -> list[Path]:
    """The captures of tests/data."""
    names = ("*.pcap", "*.pcapng", "*.pcap.gz")
    found = (path for name in names for path in DATA.glob(name))
    return sorted(path for path in found if path.name != "garbage.pcap")


def swept() -> list[object]:
    """They as parameters of a sweep, TWINS marked as long."""
    return [
        pytest.param(path, id=path.name, marks=[pytest.mark.long] if path.name in TWINS else [])
        for path in data_captures()
    ]


def first(kept: int, names: Sequence[Any]) -> list[object]:
    """Names as parameters of a sweep: so many by default, the others with script/test-long."""
    return [pytest.param(name, marks=[] if number < kept else [pytest.mark.long]) for number, name in enumerate(names)]


# Of an archive that is cut in its first block nothing can be read.
NO_CAPTURES = ("README.md", "cut.pcapng.lz4", "cut.pcapng.zst")


def corpus_captures() -> list[Path]:
    """The large captures beside the checkout; none where they are not."""
    return sorted(path for path in CORPUS.glob("*/*") if path.is_file() and path.name not in NO_CAPTURES)


@cache
def known() -> dict[Path, Known]:
    """What capinfos knows of every capture."""
    return oracle.capinfos([*data_captures(), *corpus_captures()])


class IoRequest(oracle.Question):
    """One io,stat."""

    @property
    def text(self) -> str:
        parts = [f"{c}({field}){present}" if c else present for c, field, present in self.columns]
        return ",".join(
            ["io,stat", f"{self.interval / 10**6:.6f}".rstrip("0").rstrip("."), *([] if parts == [""] else parts)]
        )


def io_requests(facts: Known) -> list[IoRequest]:
    """io,stat in several forms, with intervals that give tshark no more rows than it can bear."""
    span = facts.span
    # LOAD divides by the duration: tshark is killed by SIGFPE where there is none.
    with_times = WITH_TIMES if span >= 1000 else WITH_TIMES[:-1]
    wide = 10**6 if span < 10**12 else -(-span // 10**11) * 10**6
    narrow = 10**4 if span < 10**10 else wide // 2
    return [
        IoRequest(wide, (("", "", ""),)),
        IoRequest(10 * wide, (("", "", ""),)),
        IoRequest(narrow, tuple(WITH_FILTERS)),
        IoRequest(wide, tuple(WITH_NUMBERS)),
        IoRequest(wide, tuple(with_times)),
        IoRequest(0, (("", "", ""), *WITH_FILTERS, *WITH_NUMBERS, *with_times)),
    ]


@dataclass(frozen=True)
class Measured:
    """All results of one capture.

    `lua` is dissected as far as HTTP, `packets` fully (our own captures), `lean` (one pass, as those) and
    `twice` (read with -2) no further than TCP and UDP. Of the many large captures `lean` is what `twice` has of
    io,stat, but for relative times: starting tshark takes the most of the time.
    """

    capture: Path
    known: Known
    io: list[IoRequest]
    lua: list[Table]
    packets: list[Table]
    lean: list[Table]
    twice: list[Table]
    text: Text
    sharkd: dict[str, list[oracle.Row]] | None

    def tables(self, prefix: str) -> list[Table]:
        return [table for table in self.lua if table.name.startswith(prefix)]


def on_both_engines(capture: Path, requests: list[str]) -> tuple[list[Table], list[Table]]:
    """In one process where there are hundreds of captures: starting tshark takes the most of the time."""
    if capture.parent == DATA:
        return sharkstat.run(capture, requests), _in_full(capture)[1]
    lua, packets = engines(capture, requests)
    return lua, packets


def engines(capture: Path, requests: Sequence[str], *names: str, **options: Any) -> list[list[Table]]:
    """The tables of each of these engines (lua and packets, where none is named), in one run of tshark."""
    return at_once(capture, [(requests, name) for name in names or ("lua", "packets")], **options)


def at_once(capture: Path, asked: Sequence[tuple[Sequence[str], str]], **options: Any) -> list[list[Table]]:
    """The tables of several requests, each on its engine, in one run of tshark."""
    source = Source(files=(str(capture),), **options)
    plans = [make_plan(source, requests, engine, Registry.default()) for requests, engine in asked]
    tables = iter(run_plan(Plan(source, [request for plan in plans for request in plan.requests]), find_tshark()))
    return [[next(tables) for _ in requests] for requests, _ in asked]


@cache
def _in_full(capture: Path) -> list[list[Table]]:
    """Of one of our own captures, fully dissected: OURS, what is measured, on packets, and GROUPS on both engines."""
    measured = [*ADDRESSES, *(request.text for request in io_requests(known()[capture])), *TREES]
    asked = [(OURS, ""), (measured, "packets"), (GROUPS, "lua"), (GROUPS, "packets")]
    return at_once(capture, asked, preferences=FULL)


def grouped(capture: Path) -> list[list[Table]]:
    """GROUPS of one of our own captures on both engines."""
    return _in_full(capture)[2:]


def once(capture: Path, request: str) -> Table:
    """A statistic of a capture that does not change, from one run for all tests that want it. Not to be changed.

    That statistics together are what each is alone has tests of its own.
    """
    return _all_of_ours(capture)[request] if request in OURS else _alone(capture, request)


@cache
def _all_of_ours(capture: Path) -> dict[str, Table]:
    own = capture.parent == DATA
    return {table.request: table for table in (_in_full(capture)[0] if own else sharkstat.run(capture, OURS))}


@cache
def _alone(capture: Path, request: str) -> Table:
    [table] = sharkstat.run(capture, request)
    return table


_local = threading.local()


def measure(capture: Path) -> Measured:
    """Run everything once; the sharkd of this thread lives on for the next capture."""
    if not hasattr(_local, "sharkd"):
        _local.sharkd = oracle.Sharkd()
    facts = known()[capture]
    io = io_requests(facts)
    transport = [*ADDRESSES, *(request.text for request in io)]
    requests = [*transport, *TREES]
    # Of our own captures, services look further up than the rest would need: test_services.py reads them.
    lua, packets = on_both_engines(capture, requests if capture.parent == DATA else [*requests, "services"])
    if capture.parent == DATA:
        lean = sharkstat.run(capture, transport)
        twice = sharkstat.run(capture, ADDRESSES, two_pass=True)
    else:
        twice = sharkstat.run(capture, transport, two_pass=True)
        # In its second pass tshark 4.4 tells other times of a stream whose packets are out of order.
        lean = [table for table in twice[len(ADDRESSES) :] if "tcp.time_relative" not in table.request]
    return Measured(
        capture,
        facts,
        io,
        lua,
        packets,
        lean,
        twice,
        oracle.tshark_text(capture, requests),
        # sharkd never answers for a file that is cut short.
        _local.sharkd.tables(capture) if lua[0].complete else None,
    )
