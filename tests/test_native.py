"""The tshark engine: what the installed tshark lists, runs in the same pass and comes out typed, or as its text."""

from __future__ import annotations

import dataclasses
import json
import re
import stat
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests import oracle
from tests.command import DATA, TSHARK, public_folder, requests, sharkstat
from tests.measure import CORPUS, TREES, engines
from tests.readers import reader

import sharkstat as library
from sharkstat import Column, Registry, Statistic, Table, TextError, TsharkText, Value
from sharkstat.engines.text import LINES
from sharkstat.statistics.native import Unparsed
from sharkstat.tables.column import check_types

HTTP = DATA / "http.pcapng"
STORY = DATA / "story-after.pcapng"
FAMILIES = CORPUS.parent / "families.json"
REGISTRY = Registry.default()
LISTED = REGISTRY.discovered
READERS = [s for s in REGISTRY.all().values() if not s.engines[-1].own]


# What there is ---------------------------------------------------------------------------------------


def test_every_statistic_that_tshark_lists_is_taken_by_a_family() -> None:
    assert [name for name, statistic in LISTED.items() if isinstance(statistic, Unparsed)] == []
    assert len(READERS) > 150


def test_the_documentation_knows_what_this_tshark_lists() -> None:
    version = ".".join(map(str, oracle.version()[:2]))
    known = json.loads((DATA.parent.parent / "docs" / "tshark-versions.json").read_text(encoding="utf-8"))
    if version in known:
        assert set(LISTED) <= set(known[version]) <= set(Registry.default().all())


@pytest.mark.parametrize("statistic", LISTED.values(), ids=LISTED)
def test_every_statistic_says_what_it_is(statistic: Statistic) -> None:
    assert statistic.family
    assert statistic.title and statistic.title != statistic.name
    assert statistic.description.rstrip(")").endswith(".")
    assert statistic.usage.startswith(statistic.name)


def test_list_names_what_tshark_lists() -> None:
    done = sharkstat("list", "--format", "json")
    rows = {row["name"]: row for row in json.loads(done.stdout)["tables"][0]["rows"]}
    assert set(LISTED) <= set(rows)
    assert rows["mgcp,rtd"]["engines"] == "tshark"
    assert rows["mgcp,rtd"]["from"].startswith("tshark 4.")
    assert rows["conv,tcp"]["engines"] == "lua, packets, headers, tshark"


def test_tshark_is_asked_what_it_has_only_where_it_must_be() -> None:
    registry = Registry.default()
    registry.find("conv,tcp,port 80")
    assert registry._discovered is None
    assert registry.find("plen,tree")[0].name == "plen,tree"
    assert "plen,tree" in registry.discovered


def test_list_without_tshark_names_what_sharkstat_has() -> None:
    done = sharkstat("list", "--format", "json", env={"SHARKSTAT_TSHARK": "/nonexistent"})
    assert done.returncode == 0
    assert "tshark's own statistics are not listed: /nonexistent not found: install it" in done.stderr
    assert "conv,tcp" in {row["name"] for row in json.loads(done.stdout)["tables"][0]["rows"]}


@pytest.fixture
def future_tshark() -> Iterator[str]:
    """The installed tshark with one statistic more, which prints a text that no family knows."""
    with public_folder() as folder:
        (folder / "future.lua").write_text(
            """
            register_stat_cmd_arg("future,stat", function()
              local listener = Listener.new("frame")
              local packets = 0
              function listener.packet() packets = packets + 1 end
              function listener.draw() print("Future: " .. packets .. " packets") end
            end)
            """
        )
        program = folder / "tshark"
        program.write_text(f'#!/bin/sh\nexec {TSHARK} "$@" -X lua_script:{folder}/future.lua\n')
        for path in folder.iterdir():
            path.chmod(stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
        yield str(program)


def test_a_statistic_of_the_future_gives_its_text(future_tshark: str) -> None:
    known = oracle.capinfos([HTTP])[HTTP]
    env = {"SHARKSTAT_TSHARK": future_tshark}
    done = sharkstat("run", HTTP, "-z", "future,stat", "--format", "json", env=env)
    assert done.returncode == 0, done.stderr
    (table,) = json.loads(done.stdout)["tables"]
    assert "unparsed" in table["title"]
    assert [row["text"] for row in table["rows"]] == [f"Future: {known.packets} packets"]


def test_a_column_that_tsharks_text_has_not_loses_no_table() -> None:
    done = sharkstat("run", HTTP, "-z", "http,tree", "--engine", "tshark", "--columns", "path,first", "--format", "csv")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "http,tree has no column 'first'" in done.stderr
    assert done.stdout.startswith("path,count,average,")


# One pass --------------------------------------------------------------------------------------------


def test_all_engines_share_one_process() -> None:
    asked = ["plen,tree", "conv,udp", "io,phs", "sent", "whole"]
    with public_folder() as folder:
        (folder / "log").touch(mode=0o666)
        (folder / "log").chmod(0o666)
        program = folder / "tshark"
        program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/log\nexec {TSHARK} "$@"\n')
        program.chmod(0o755)
        plugin = folder / "mine.py"
        plugin.write_text(OWN)
        requests = [word for request in asked for word in ("-z", request)]
        done = sharkstat("run", HTTP, "--plugin", plugin, *requests, env={"SHARKSTAT_TSHARK": str(program)})
        assert done.returncode == 0 and done.stderr.count("\n") == 1 and "complete packets are slow" in done.stderr
        read = [line for line in (folder / "log").read_text().splitlines() if "-r -" in line]
    assert len(read) == 1


OWN = """
import sharkstat

class Own(sharkstat.Statistic):
    def __init__(self, name, fields):
        self.name = self.title = name
        self.engines = (sharkstat.Packets(lambda arguments: Counter(fields)),)

    def columns(self, arguments):
        return (sharkstat.Column("packets", "integer", "packets"),)

class Counter(sharkstat.PacketCounter):
    def __init__(self, fields):
        self.fields, self.seen = fields, 0

    def packet(self, packet):
        self.seen += 1

    def rows(self):
        return [[self.seen]]

@sharkstat.hookimpl
def register_statistics(register):
    register(Own("sent", ("ip.src",)))
    register(Own("whole", None))
"""


def test_together_is_as_alone() -> None:
    asked = ["plen,tree", "conv,udp", "io,phs", "http,tree", "dns,tree", "plen,tree", "endpoints,sctp"]
    together = library.run(HTTP, asked)
    assert [table.request for table in together] == asked
    for table in together:
        (alone,) = library.run(HTTP, table.request)
        assert (table.columns, table.rows, table.engine) == (alone.columns, alone.rows, alone.engine)
    assert {table.engine for table in together} == {"lua", "tshark"}


class Everything(library.PacketCounter):
    """Wants whole packets, so tshark prints all of them where its statistics print too."""

    fields = None

    def __init__(self) -> None:
        self.seen = 0

    def packet(self, packet: library.Packet) -> None:
        self.seen += 1

    def rows(self) -> Sequence[Sequence[Value]]:
        return [[self.seen]]


class Whole(Statistic):
    name = "whole"
    title = "Whole packets"
    engines = (library.Packets(lambda arguments: Everything()),)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return (Column("packets", "integer", "packets"),)


def test_whole_packets_stand_beside_tsharks_text() -> None:
    registry = Registry.default()
    registry.statistics["whole"] = Whole()
    alone, conversations = library.run(HTTP, ["plen,tree", "conv,tcp"])
    whole, tree, same = library.run(HTTP, ["whole", "plen,tree", "conv,tcp"], registry=registry)
    assert (tree.rows, same.rows) == (alone.rows, conversations.rows)
    assert whole.rows == [{"packets": tree.rows[0]["count"]}]


def test_the_display_filter_limits_tsharks_statistics_too() -> None:
    frames = len(oracle.fields(HTTP, ("frame.number",), "-Y", "tcp.port == 80 && ip"))
    (table,) = library.run(HTTP, "plen,tree,tcp.port == 80", display_filter="ip")
    assert table.rows[0]["count"] == frames > 0


def test_one_statistic_with_two_filters_counts_each() -> None:
    names = ["conv,tcp", "endpoints,udp", "plen,tree", "io,phs", "expert", "http,stat", "io,stat,1"]
    asked = [[f"{name}{filter_}" for name in names] for filter_ in ("", ",frame.number <= 20", ",frame.number > 20")]
    together = library.run(STORY, [request for requests_ in asked for request in requests_], engine="tshark")
    alone = [table for requests_ in asked for table in library.run(STORY, requests_, engine="tshark")]
    for one, other in zip(together, alone, strict=True):
        assert (one.request, one.rows) == (other.request, other.rows)
    for whole, part in zip(together, together[len(names) :], strict=False):
        assert whole.rows != part.rows, part.request


@pytest.mark.parametrize(
    ("request_", "options", "reason"),
    [
        ("plen,tree,tcp.prt", (), r"-z plen,tree,tcp.prt: .*tcp.prt"),
        ("conv,sctp,ip.src ==", (), r"-z conv,sctp,ip.src ==: "),
        ("rtp,streams", ("-Y", "ip"), r"tshark's rtp,streams takes no filter: leave out -Y"),
        ("plen,treee", (), r"unknown statistic 'plen,treee'; did you mean plen,tree"),
        ("conv,tcp", ("--engine", "tshak"), r"conv,tcp has no engine tshak: use --engine lua or packets or headers or"),
        ("plen,tree", ("--engine", "lua"), r"plen,tree has no engine lua: use --engine tshark"),
        ("dhcp,stat", ("-z", "dhcp,stat,udp"), r"tshark counts dhcp,stat only once per run: use one run per filter"),
        ("diameter,avp", ("-z", "sv"), r"print while tshark reads packets: use one run for each"),
    ],
)
def test_what_tshark_would_not_take_is_told_before_reading(
    request_: str, options: tuple[str, ...], reason: str
) -> None:
    done = sharkstat("run", HTTP, "-z", request_, *options)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert re.search(reason, done.stderr), done.stderr


def test_nothing_to_show_is_said() -> None:
    done = sharkstat("run", HTTP, "-z", "conv,ipx", "-z", "ancp,tree", "-z", "endpoints,fc")
    assert (done.returncode, done.stderr) == (0, "")
    assert [table.splitlines()[1] for table in done.stdout.split("\n\n")] == ["no matching packets"] * 3


def test_no_statistic_has_rows_of_nothing() -> None:
    """Whatever each prints of an empty capture: none, a frame, or rows of zeros."""
    asked: list[str] = []
    alone: list[str] = []
    for name, statistic in REGISTRY.all().items():
        request = ",".join(filter(None, (name, statistic.example)))
        try:
            statistic.columns(statistic.example)
        except library.RequestError:  # it cannot be had, and says why
            continue
        if not statistic.engines[-1].own:
            (alone if reader(statistic).prints_at_once or reader(statistic).resolve else asked).append(request)
    options: dict[str, Any] = {"engine": "tshark", "registry": REGISTRY}
    options["preferences"] = ("megaco.ctx_info:TRUE", "h248.ctx_info:TRUE")
    for requests_ in (asked, *alone):
        for table in library.run(DATA / "empty.pcap", requests_, **options):
            assert (table.rows, table.warnings) == ([], []), table.request
            assert table.columns != LINES, table.request


# The same numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("capture", ["http.pcapng", "story-after.pcapng", "tunnel.pcapng", "dns.pcapng"])
def test_tsharks_text_and_the_taps_agree(capture: str) -> None:
    kinds = ("eth", "ip", "ipv6", "tcp", "udp")
    asked = [f"conv,{k}" for k in kinds] + [f"endpoints,{k}" for k in kinds]
    exact, texts = engines(DATA / capture, asked, "lua", "tshark")
    compared = 0
    for ours, theirs in zip(exact, texts, strict=True):
        keys = [c.name for c in theirs.columns if c.role == "key" and c.name != "occurrence"]
        for table in (ours, theirs):
            table.rows.sort(key=lambda row: ([str(row[k]) for k in keys], row.get("start") or 0))
        for one, other in zip(ours.rows, theirs.rows, strict=True):
            for column in theirs.columns:
                if column.name in ("stream", "occurrence"):
                    continue
                a, b = one[column.name], other[column.name]
                if column.approximate:
                    assert isinstance(a, int) and isinstance(b, int)
                    parts = 2 if column.role == "derived" else 1  # a sum of two that were cut
                    margin = 100_001 if column.type != "integer" else parts * 10 ** max(0, len(str(a)) // 3 * 3)
                    assert abs(a - b) < margin, (ours.request, column.name)
                else:
                    assert a == b, (ours.request, column.name)
                compared += 1
    assert compared > 20


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.exists(), reason="the large captures are not there")
@pytest.mark.parametrize(("kind", "capture"), [("usb", "made/usb.pcap"), ("ipx", "ndpi/dos_win98_smb_netbeui.pcap")])
def test_usb_and_ipx_are_counted_exactly(kind: str, capture: str) -> None:
    asked = [f"conv,{kind}", f"endpoints,{kind}"]
    lua, packets, text = engines(CORPUS / capture, asked, "lua", "packets", "tshark")
    assert [table.rows for table in lua] == [table.rows for table in packets]
    assert sorted(map(str, lua[1].rows)) == sorted(map(str, text[1].rows))  # exact there, up to 4.4
    ends = {str(row["address"]): row for row in lua[1].rows}
    for end, row in ends.items():
        of_it = [r for r in lua[0].rows if end in (r["address_a"], r["address_b"])]
        assert row["bytes"] == sum(int(str(r["bytes"])) for r in of_it) > 0


def test_tsharks_trees_and_the_taps_agree() -> None:
    def counted(found: dict[Value, Value]) -> dict[Value, Value]:
        return {path: figures for path, figures in found.items() if not str(figures).startswith("0 ")}

    def nodes(table: Table) -> dict[Value, Value]:
        names = {"KO": "Error"}
        found: dict[Value, Value] = {}
        for row in table.rows:
            path = row["path"]
            assert isinstance(path, tuple)
            found[tuple(names.get(level, level) for level in path)] = f"{row['count']} {row['burst']}"
        return found

    for ours, theirs in zip(*engines(STORY, TREES, "lua", "tshark"), strict=True):
        assert counted(nodes(theirs)) == counted(nodes(ours))


def test_tsharks_io_stat_and_the_tap_agree() -> None:
    request = "io,stat,1,tcp,udp,SUM(ip.len)tcp,MAX(tcp.len)"
    [ours], [theirs] = engines(STORY, [request], "lua", "tshark")
    tap = {row["start"]: row for row in ours.rows}
    assert len(theirs) > 3
    # tshark's last interval may lack packets.
    for row in theirs.rows[:-1]:
        for column in theirs.columns:
            assert (row[column.name] or None) == (tap[row["start"]][column.name] or None), (row["start"], column.name)


def test_tsharks_io_stat_is_read_whatever_was_asked_for() -> None:
    """Where the list of columns is wider than the columns, tshark adds an empty one."""
    asked = [
        "1,SUM(frame.len)", "0,MIN(ip.ttl)", "1,MAX(tcp.len)tcp.port == 80", "0.25,COUNT(tcp.len),ip",
        "1,LOAD(dns.time)", "0.5,SUM(tcp.time_delta),MAX(dns.time)udp",
        "2,FRAMES()ip,BYTES()tcp,ip.src == 192.0.2.10 && tcp.port == 80",
        "1,tcp,udp,ip,icmp,dns,http,tls,arp,ipv6,tcp.len > 0,frame", "100000,SUM(ip.len)",
    ]  # fmt: skip
    requests = [f"io,stat,{arguments}" for arguments in asked]
    theirs, ours = engines(STORY, requests, "tshark", "lua")
    for text, tap in zip(theirs, ours, strict=True):
        assert text.columns != LINES, text.warnings
        counted = {row["start"]: row for row in tap.rows}
        for row in text.rows[: -1 if len(text) > 1 else None]:  # tshark's last interval may lack packets
            for column in text.columns:
                here, there = row[column.name] or 0, counted[row["start"]][column.name] or 0
                if isinstance(here, float):  # seconds, to six digits; LOAD is a number in both
                    assert isinstance(there, (int, float))
                    there = there if column.name.startswith("load") else there / 1e9
                    assert here == pytest.approx(there, abs=2e-6), (text.request, row, column.name)
                else:
                    assert here == there, (text.request, row, column.name)


def test_the_text_of_parts_merges_into_the_whole() -> None:
    asked = ["plen,tree", "ip_srcdst,tree", "http_req,tree", "conv,ip", "endpoints,tcp"]
    half = len(oracle.fields(STORY, ("frame.number",))) // 2
    parts = [f"frame.number <= {half}", f"frame.number > {half}"]
    options = {"engine": "tshark", "two_pass": True}  # a part alone knows nothing of requests in the other
    found = [library.run(STORY, asked, display_filter=part, **options) for part in ("", *parts)]  # type: ignore[arg-type]
    for whole, *tables in zip(*found, strict=True):
        for table in tables:
            table.reading = dataclasses.replace(table.reading, display_filter="")
        merged = Table.merge(tables)
        counted = [
            c.name for c in whole.columns if c.role == "key" or (c.merge in ("sum", "min", "max") and not c.approximate)
        ]
        one, other = (sorted(str([row[name] for name in counted]) for row in table) for table in (merged, whole))
        assert one == other, whole.request


# Whatever tshark prints ------------------------------------------------------------------------------


def hostile_trees(names: Sequence[bytes]) -> list[Table]:
    with tempfile.NamedTemporaryFile(suffix=".pcap") as file:
        file.write(requests(*((name, b"/" + name) for name in names)))
        file.flush()
        return library.run(file.name, ["http_req,tree", "http_srv,tree"], engine="tshark")


def test_a_host_name_forges_neither_row_nor_column() -> None:
    row = b"Forged".ljust(20) + b"99".ljust(56) + b"9.0000        50.00%        0.0400        1.000"
    for evil in (row, b"x\t 99", b"a  99  - - -", b"\xff\xfe", b"a" * 2000):
        for table in hostile_trees([b"good", evil, b"good"]):
            assert table.columns != LINES, table.warnings
            totals = [r["count"] for r in table.rows if len(r["path"]) == 1]  # type: ignore[arg-type]
            assert max(totals) == 3  # type: ignore[type-var]
            assert not any(r["path"][-1] == "Forged" for r in table.rows)  # type: ignore[index]


# A real text of every family: of our own captures where they make tshark print it, or else of the large ones.
OURS = {
    "conv,tcp": HTTP, "endpoints,tcp": HTTP, "plen,tree": HTTP, "http_req,tree": STORY, "io,stat,1": STORY,
    "io,phs": HTTP, "expert": STORY, "http,stat": HTTP, "flow,tcp,standard": HTTP, "follow,tcp,yaml,0": HTTP,
    "credentials": HTTP, "rtp,streams": HTTP,
}  # fmt: skip
THEIRS = (
    "afp,srt", "diameter,srt", "smb,srt", "mgcp,rtd", "h225_ras,rtd", "icmp,srt", "camel,srt", "rpc,programs",
    "dhcp,stat", "npm,stat", "mtp3,msus", "h225,counter", "gsm_a", "gsm_a,dtap_cc", "sip,stat", "rtsp,stat", "wsp,stat",
    "rtp,streams", "sctp,stat", "credentials", "diameter,avp", "sv", "flow,any", "hosts", "conv,sctp",
)  # fmt: skip


@cache
def printed() -> dict[str, bytes]:
    wanted: dict[str, tuple[Path, list[str]]] = {request: (capture, []) for request, capture in OURS.items()}
    if FAMILIES.exists():
        known = json.loads(FAMILIES.read_text(encoding="utf-8"))
        wanted |= {known[n]["arg"]: (CORPUS / known[n]["capture"], ["-N", "d"] * (n == "hosts")) for n in THEIRS}
    return {
        request: oracle.output("tshark", "-q", "-n", "-r", str(capture), *options, "-z", request)
        for request, (capture, options) in wanted.items()
    }


@pytest.mark.xdist_group("printed")
def test_every_reader_reads_what_it_is_then_given_changed() -> None:
    for request, text in printed().items():
        statistic, arguments = REGISTRY.find(request)
        reader(statistic).parse(text, arguments)


@pytest.mark.xdist_group("printed")
@settings(max_examples=750, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_text_crashes_a_reader_or_breaks_a_column(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(printed())))
    text = bytearray(printed()[name])
    pieces = st.one_of(st.binary(max_size=40), st.sampled_from([b"\n", b" ", b"\t", b"9", b"|", b" <-> ", b"-", b"%"]))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(at, min(len(text), at + 80)))
        text[at:end] = data.draw(pieces)
    statistic, arguments = REGISTRY.find(name)
    try:
        parsed = reader(statistic).parse(bytes(text), arguments)
    except (TextError, ValueError):
        return
    columns = [c for c in parsed.columns or statistic.columns(arguments) if c.role != "derived"]
    for row in parsed.rows:
        check_types(columns, row)


# The large captures ----------------------------------------------------------------------------------


def with_captures() -> list[tuple[list[str], str, list[str]]]:
    """Captures with what makes rows of them: many in one run, but for those that want one for themselves."""
    if not FAMILIES.exists():
        return []
    version = ".".join(map(str, oracle.version()[:2]))
    known = json.loads(FAMILIES.read_text(encoding="utf-8"))
    wanted: dict[tuple[str, str], list[str]] = {}
    for name, facts in known.items():
        shown = any(v.startswith(version) for v in facts["nonempty_in"])
        # Their captures make tshark print a frame, but these streams hold nothing.
        if not facts["capture"] or not shown or name in ("follow,http2", "follow,quic", "follow,websocket"):
            continue
        if name in LISTED:
            texts = [engine for engine in LISTED[name].engines if isinstance(engine, TsharkText)]
            apart = name.startswith(("mac-", "rlc-", "megaco")) or any(t.prints_at_once or t.resolve for t in texts)
            request = facts["arg"].replace("<interval>[,<filter>...]", "10")
            alone = (
                name if apart else "a stream" if name.startswith("follow") else ""
            )  # of several, it has another number
            wanted.setdefault((facts["capture"], alone), []).append(request)
    single = [([capture], apart, asked) for (capture, apart), asked in wanted.items() if apart]
    others = [(capture, asked) for (capture, apart), asked in wanted.items() if not apart]
    batches = [others[first : first + 10] for first in range(0, len(others), 10)]
    return single + [([c for c, _ in batch], "", [r for _, asked in batch for r in asked]) for batch in batches]


@pytest.mark.corpus
@pytest.mark.parametrize(("captures", "apart", "asked"), with_captures() or [([], "", [])])
def test_what_makes_tshark_print_gives_rows(captures: list[str], apart: str, asked: list[str]) -> None:
    options: dict[str, Any] = {}
    if apart.startswith(("mac-", "rlc-")):
        options = {"heuristics": (f"{apart[:3]}_lte_udp",)}
    if apart.startswith("megaco"):
        options = {"preferences": ("megaco.ctx_info:TRUE", "h248.ctx_info:TRUE")}
    for table in library.run([CORPUS / capture for capture in captures], asked, registry=REGISTRY, **options):
        assert table.rows, table.request
        assert table.columns != LINES, table.warnings
