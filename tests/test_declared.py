"""Declared statistics and `sharkstat group`: against tshark's own fields, on both engines, merged, and misused."""

from __future__ import annotations

import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from tests import oracle
from tests.command import DATA, frame, pcap, requests, sharkstat, tables
from tests.measure import GROUPS, corpus_captures, engines, grouped, swept

import sharkstat as library
from sharkstat import Registry, Table

DNS, HTTP, TLS = DATA / "dns.pcapng", DATA / "http.pcapng", DATA / "tls.pcapng"
REGISTRY = Registry.default()


def counted(capture: Path, request: str, **options: object) -> Table:
    (table,) = library.run(capture, request, registry=REGISTRY, **options)  # type: ignore[arg-type]
    return table


def both(capture: Path, request: str) -> list[Table]:
    """The table on each engine, from one run."""
    return [table for [table] in engines(capture, [request])]


# Against tshark's own fields ------------------------------------------------------------------------


def test_counts_and_sums_are_those_of_tsharks_fields() -> None:
    packets = oracle.fields(HTTP, ("ip.src", "frame.len", "tcp.len"))
    count: Counter[str | None] = Counter()
    size: Counter[str | None] = Counter()
    payload: Counter[str | None] = Counter()
    for sources, (length,), payloads in packets:
        key = sources[0] if sources else None
        count[key] += 1
        size[key] += int(length)
        payload[key] += sum(map(int, payloads))
    for table in both(HTTP, "group,by=ip.src,count,sum=frame.len,sum=tcp.len"):
        rows = {row["ip_src"]: (row["packets"], row["bytes"], row["tcp_len_sum"] or 0) for row in table}
        assert rows == {key: (count[key], size[key], payload[key]) for key in count}
        assert len(rows) > 2 and None in rows
        assert table["packets"] == sorted(count.values(), reverse=True), "the most counted first"


def test_extremes_means_and_distinct_values_are_those_of_tsharks_fields() -> None:
    times: defaultdict[str, list[int]] = defaultdict(list)
    types: defaultdict[str, set[str]] = defaultdict(set)
    for names, answered, asked in oracle.fields(DNS, ("dns.qry.name", "dns.time", "dns.qry.type"), "-Y", "dns"):
        times[names[0]] += map(oracle.nanoseconds, answered)
        types[names[0]].update(asked)
    request = "group,by=dns.qry.name,min=dns.time,max=dns.time,mean=dns.time,distinct=dns.qry.type,dns"
    for table in both(DNS, request):
        assert {row["dns_qry_name"] for row in table} == set(times)
        for row in table:
            name = str(row["dns_qry_name"])
            known = times[name]
            assert row["dns_time_min"] == min(known, default=None)
            assert row["dns_time_max"] == max(known, default=None)
            assert row["dns_time_mean"] == (round(sum(known) / len(known)) if known else None)
            assert row["dns_qry_type_distinct"] == len(types[name])
        assert table.column("dns_time_mean").type == table.column("dns_time_min").type == "duration"
        assert any(row["dns_time_min"] is None for row in table), "a name that was never answered"


def test_the_occurrence_that_was_asked_for_counts() -> None:
    quoted = DATA / "icmp-errors.pcapng"  # an ICMP error quotes the header that it is about
    values = [sources for (sources,) in oracle.fields(quoted, ("ip.dst",)) if sources]
    assert any(len(set(one)) > 1 for one in values)
    wanted: dict[str, Callable[[list[str]], list[str]]] = {
        "first": lambda one: one[:1],
        "last": lambda one: one[-1:],
        "all": lambda one: list(dict.fromkeys(one)),
    }
    for occurrence, of in wanted.items():
        for table in both(quoted, f"group,by=ip.dst:{occurrence},ip"):
            expected = Counter(value for one in values for value in of(one))
            assert {row["ip_dst"]: row["packets"] for row in table} == expected


@pytest.mark.parametrize("name", ["story-after.pcapng", "nanosecond.pcap", "unordered.pcap", "years.pcap"])
def test_intervals_are_those_of_the_clock(name: str) -> None:
    times = [oracle.nanoseconds(time) for ((time,),) in oracle.fields(DATA / name, ("frame.time_epoch",))]
    intervals = {"1s": 10**9, "250us": 250_000, "7d": 7 * 86400 * 10**9, "3.7s": 3_700_000_000}
    for tables_ in engines(DATA / name, [f"group,every={text}" for text in intervals]):
        for table, interval in zip(tables_, intervals.values(), strict=True):
            expected = Counter(time // interval * interval for time in times)
            assert [(row["time"], row["packets"]) for row in table] == sorted(expected.items())


def test_a_tree_has_a_row_for_every_node() -> None:
    nodes: Counter[tuple[str, ...] | None] = Counter()
    for (names,) in oracle.fields(DNS, ("dns.qry.name",)):
        parts = tuple(reversed(names[0].split("."))) if names else ()
        nodes.update(parts[: depth + 1] for depth in range(len(parts)))
        if not parts:
            nodes[None] += 1
    for table in both(DNS, "group,tree=dns.qry.name:split.:reverse"):
        assert {row["path"]: row["packets"] for row in table} == nodes
        shown = str(table)
        assert "└─ example" in shown and "   ├─ www" in shown


@pytest.mark.parametrize("capture", swept(), ids=lambda path: path.name)
def test_both_engines_say_the_same_of_every_small_capture(capture: Path) -> None:
    agree(capture, *grouped(capture))


def test_times_before_the_first_packet_are_exact() -> None:
    capture = DATA / "unordered.pcap"
    told = [oracle.nanoseconds(values[0]) for (values,) in oracle.fields(capture, ("udp.time_relative",)) if values]
    assert any(-(10**9) < time < 0 for time in told)
    for table in both(capture, "group,by=udp.time_relative,sum=udp.time_relative"):
        assert sorted(row["udp_time_relative"] for row in table) == sorted(set(told))  # type: ignore[type-var]
        assert table.total("udp_time_relative_sum") == sum(told)


def test_a_measure_counts_what_its_own_filter_matches() -> None:
    fields = ("ip.src", "frame.len", "dns.flags.response", "dns.flags.rcode")
    packets = [[values[0] if values else "" for values in packet] for packet in oracle.fields(DNS, fields, "-Y", "udp")]
    answered: Counter[str | None] = Counter()
    failed: Counter[str | None] = Counter()
    for source, length, response, code in packets:
        answered[source or None] += int(length) if response in ("1", "True") else 0
        failed[source or None] += code in ("2", "3")
    measures = "sum=frame.len where dns.flags.response == 1 as a,count where (dns.flags.rcode in {2, 3}) as f"
    for table in both(DNS, f"group,by=ip.src,{measures},udp"):
        assert {row["ip_src"]: row["a"] or 0 for row in table} == answered
        assert {row["ip_src"]: row["f"] for row in table} == failed and failed["192.0.2.20"]
    for bad, said in (
        ("dns.foo == 1", "dns.foo"),
        ("udp) || (tcp", "a ) is missing"),
        ("udp ||", "invalid display filter"),
    ):
        with pytest.raises(library.RequestError, match=re.escape(said)):
            counted(DNS, f"group,count where {bad}")


def test_quotients_are_of_the_columns_even_after_a_merge() -> None:
    measures = "count as packets_,sum=frame.len,ratio=bytes/packets_ as size,percent=dns_a_count/packets_,count=dns.a"
    for table in both(DNS, f"group,by=dns.qry.name,{measures},dns"):
        for one in (table, Table.merge([table, table])):
            for row in one:
                assert row["size"] == row["bytes"] / row["packets_"]  # type: ignore[operator]
                assert row["dns_a_count_percent"] == 100 * row["dns_a_count"] / row["packets_"]  # type: ignore[operator]
    with pytest.raises(library.RequestError, match="group: ratio=lost/packets: no column lost; there are"):
        counted(DNS, "group,count,ratio=lost/packets")


def test_a_group_without_a_key_is_one_row_even_of_nothing() -> None:
    sources = [source for (source,) in oracle.fields(DNS, ("ip.src",)) if source]
    all_, none = (
        "group,count,distinct=ip.src",
        "group,count,sum=frame.len,distinct=ip.src,mean=frame.len,seen,tcp.port == 1",
    )
    for total, nothing in engines(DNS, [all_, none]):
        [row] = total.rows
        assert (row["packets"], row["ip_src_distinct"]) == (total.reading.packets, len({one for [one] in sources}))
        assert list(nothing.rows[0].values()) == [0, None, (), 0, None, 0, None, None, None]
        assert Table.merge([nothing, nothing]).rows == nothing.rows


def test_an_empty_value_is_a_value(tmp_path: Path) -> None:
    """A request line without a target, beside packets that have none."""
    capture = tmp_path / "empty-value.pcap"
    asked = [b"GET  HTTP/1.1\r\nHost: a.example\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"]
    capture.write_bytes(
        pcap([*(frame(text, source_port=40000 + n) for n, text in enumerate(asked)), frame(b"", port=9)])
    )
    for table in both(capture, "group,by=http.request.uri"):
        assert {row["http_request_uri"]: row["packets"] for row in table} == {"": 1, "/": 1, None: 1}


# Times before their stream's first packet, a time that no clock shows, and an empty value.
STRANGE = ("geforcenow.pcapng", "fuzz-2021-06-07-c6c72a0a56.pcap", "http-manipulated.pcap")
SOME = [*corpus_captures()[::150], *(path for path in corpus_captures() if path.name in STRANGE)]


@pytest.mark.corpus
@pytest.mark.parametrize("capture", SOME, ids=lambda path: path.name)
def test_both_engines_say_the_same_of_real_captures(capture: Path) -> None:
    agree(capture, *engines(capture, GROUPS))


@pytest.mark.long
@pytest.mark.parametrize("capture", corpus_captures(), ids=lambda path: path.name)
def test_both_engines_say_the_same_of_all_captures(capture: Path) -> None:
    agree(capture, *engines(capture, GROUPS))


def agree(capture: Path, one: list[Table], other: list[Table]) -> None:
    """Both engines give equal tables, and what they count adds up to all that was read."""
    for lua, packets in zip(one, other, strict=True):
        assert lua.columns == packets.columns, lua.request
        assert lua.rows == packets.rows, f"{capture.name}: {lua.request}"
    whole = one[-1].rows
    assert [row["packets"] for row in whole] == ([one[-1].reading.packets] if one[-1].reading.packets else [])
    assert one[0].total("packets") == one[0].reading.packets
    assert one[0].total("bytes") == one[0].reading.bytes


def test_ten_in_one_run_are_what_each_is_alone() -> None:
    together = library.run(TLS, GROUPS[:10], registry=REGISTRY)
    for request, table in zip(GROUPS[:10], together, strict=True):
        assert counted(TLS, request).rows == table.rows


def test_a_hundred_in_one_run_are_what_python_counts() -> None:
    """More than one function of Lua's has room for."""
    known = [line.split("\t") for line in oracle.output("tshark", "-G", "fields").decode().splitlines()]
    integers = [line[2] for line in known if line[0] == "F" and line[3].startswith("FT_UINT")]
    fields = [name for name in integers if name.startswith(("ip.", "tcp.", "udp.", "eth."))][:100]
    asked = [f"group,by={field}:all,count" for field in fields]
    lua, packets = engines(DATA / "story-after.pcapng", asked)
    assert [table.rows for table in lua] == [table.rows for table in packets]
    assert sum(table.total("packets") > 0 for table in lua) > 30


# Merging --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["story-after.pcapng", "dns.pcapng", "http.pcapng"])
def test_the_parts_of_a_capture_merge_to_the_whole(name: str, tmp_path: Path) -> None:
    capture = DATA / name
    # What tshark computes over packets (times, analysis, what reassembled messages hold) is not that of a part.
    mergeable = [
        "group,by=ip.src,sum=frame.len,count",
        "group,by=ip.src/ipv6.src,by=ip.dst/ipv6.dst,count,distinct=tcp.dstport,seen",
        "group,every=1s,count,sum=tcp.len,mean=tcp.len,seen",
        "group,by=frame.time_epoch:all,min=frame.len,max=tcp.window_size_value",
        "group,tree=ip.src+tcp.dstport/udp.dstport,count,mean=frame.len,distinct=ip.dst",
        "group,tree=ip.src:split.,by=tcp.flags.syn,distinct=eth.addr,seen",
        "group,by=host,count,mean=frame.len,distinct=ip.ttl,seen",
        "group,by=conversation(ip.src/24,ip.dst),by=bucket(frame.len,100,1000),by=second_level(dns.qry.name),sum=frame.len",
    ]
    subprocess.run([oracle.tool("editcap"), "-c", "50", capture, tmp_path / "part.pcapng"], check=True)
    parts = sorted(tmp_path.glob("part*"))
    assert len(parts) > 1
    wholes = library.run(capture, mergeable, registry=REGISTRY)
    pieces = [library.run(part, mergeable, registry=REGISTRY) for part in parts]
    for at, whole in enumerate(wholes):
        merged = Table.merge([piece[at] for piece in pieces])
        assert sorted(map(str, merged.rows)) == sorted(map(str, whole.rows)), whole.request


def test_a_mean_is_merged_by_its_weights() -> None:
    one = counted(HTTP, "group,by=frame,mean=frame.len,http.request")
    other = counted(HTTP, "group,by=frame,mean=frame.len,!http.request")
    (row,) = Table.merge([one, other_request(other, one)]).rows
    lengths = [int(length) for ((length,),) in oracle.fields(HTTP, ("frame.len",))]
    assert row["frame_len_mean"] == pytest.approx(sum(lengths) / len(lengths))


def other_request(table: Table, like: Table) -> Table:
    """The same table as if it had been asked for as the other."""
    from dataclasses import replace

    return replace(table, request=like.request)


# What packets bring ---------------------------------------------------------------------------------


def test_hostile_values_stay_in_their_cells(tmp_path: Path) -> None:
    evil = [b"a\tb", b"a\\tb", b"x\x1fy", b"esc\x1b[31m", b"\xff\xfe", b"@12", b"-"]
    capture = tmp_path / "evil.pcap"
    capture.write_bytes(requests(*((host, b"/") for host in evil)))
    listed = ["group,by=http.host,count,distinct=http.host,http", "group,tree=http.host+http.request.uri,http"]
    lua, packets = engines(capture, listed)
    assert [table.rows for table in lua] == [table.rows for table in packets]
    hosts = {row["http_host"] for row in lua[0]}
    assert {"a\tb", "a\\tb", "x\x1fy", "esc\x1b[31m", "@12", "-"} <= hosts
    assert len(hosts) == len(evil) and all(row["http_host_distinct"] == 1 for row in lua[0])
    assert "\x1b" not in str(lua[0]) and "\t" not in str(lua[0])


def test_addresses_have_their_names_where_they_are_resolved() -> None:
    digits = counted(DATA / "story-after.pcapng", "group,by=ip.src")
    for [named] in engines(DATA / "story-after.pcapng", ["group,by=ip.src"], resolve="dn"):
        assert named.rows == digits.rows
        assert named.names, "DNS answers in the capture name addresses"
        assert any(name in str(named) for name in named.names.values())


def test_an_empty_capture_has_no_rows_but_columns_of_the_right_type() -> None:
    for table in both(DATA / "empty.pcap", "group,by=ip.src,by=tcp.port,mean=dns.time"):
        assert not table.rows
        types = {column.name: column.type for column in table.columns}
        assert (types["ip_src"], types["tcp_port"], types["dns_time_mean"]) == ("address", "integer", "duration")


# A plugin -------------------------------------------------------------------------------------------

SLOW = """
import sharkstat


class Slow(sharkstat.Declared):
    name = "dns,slow"
    title = "Slow DNS answers"
    description = "Which names took long to resolve?"
    parameters = (sharkstat.Parameter("over", "duration", "150us", "what is slow"),)

    def group(self, parameters):
        return sharkstat.Group(
            keys=[sharkstat.Key("dns.qry.name", "name")],
            measures=[sharkstat.Count("", "answers"), sharkstat.Max("dns.time", "slowest")],
            filter=f"dns.time > {parameters['over'] / 1e9:.9f}",
        )


@sharkstat.hookimpl
def register_statistics(register):
    register(Slow())
"""


def slow(tmp_path: Path, text: str = SLOW) -> Path:
    path = tmp_path / "slow.py"
    path.write_text(text)
    return path


def test_a_declared_statistic_has_parameters_and_a_filter_of_its_own(tmp_path: Path) -> None:
    path = slow(tmp_path)
    times = [oracle.nanoseconds(time) for (answered,) in oracle.fields(DNS, ("dns.time",)) for time in answered]
    asked = {"dns,slow,over=150us,udp": 150_000, "dns,slow,over=160us,udp": 160_000, "dns,slow": 150_000}
    words = [word for request in asked for word in ("-z", request)]
    for engine in ("lua", "packets"):
        for table in tables(DNS, "--plugin", path, *words, "--engine", engine):
            over = asked[table["request"]]
            assert sum(row["answers"] for row in table["rows"]) == sum(time > over for time in times) > 0
    assert "dns,slow[,over=DURATION][,FILTER]" in sharkstat("show", "dns,slow", "--plugin", path).stdout


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ("dns,slow,over=soon", "dns,slow: over=soon: give a duration, e.g. 500ms, 10s or 5m"),
        ("dns,slow,under=1s", "dns,slow has no parameter under; it has over"),
        ("dns,slow,over=1s,over=2s", "dns,slow: over is given twice"),
        ("dns,slow,udp) || (tcp", "invalid display filter"),
        ("group,by=ip.scr", "no such field: ip.scr; did you mean ip.src"),
        ("group,by=ip.src:some", "group: ip.src:some: no such occurrence; choose first, last or all"),
        ("group,sum=ip.src,by=ip.dst", "group: sum=ip.src: the field is an address"),
        ("group,by=ip.dst,mean=frame.time", "group: mean=frame.time: the field is a time"),
        ("group,by=ip.dst,max=http.host", "group: max=http.host: the field is a text"),
        ("group,every=0s", "group: every=0s: give an interval of at most 7d"),
        ("group,every=8d", "group: every=8d: give an interval of at most 7d"),
        ("group,by=ip.src,by=ip.src", "group: two columns are named ip_src: rename one"),
        ("group,tree=dns.qry.name:split", "write FIELD:splitC"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_before_reading(request_: str, said: str, tmp_path: Path) -> None:
    registry = Registry.default([slow(tmp_path)])
    for engine in ("lua", "packets"):
        with pytest.raises(library.RequestError) as told:
            library.run(DNS, request_, engine=engine, registry=registry)
        assert said in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"answers")', '"name")', "Slow: two columns are named name: rename one"),
        ('"dns.time", "slowest"', '"dns time", "slowest"', "Slow: 'dns time' is not a field name: write one"),
        ('[sharkstat.Key("dns.qry.name", "name")]', 'sharkstat.Key("dns.qry.name")', "Slow: keys must be a tuple"),
        ("sharkstat.Count(", "len(", "Slow"),
        ('"duration", "150us"', '"duration", "slow"', "default of over=slow: give a duration"),
        ('"duration", "150us"', '"time", "150us"', "parameter over: unknown type 'time': choose text, integer"),
    ],
)
def test_a_bad_declaration_is_told_when_it_is_loaded(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert old in SLOW
    path = slow(tmp_path, SLOW.replace(old, new))
    done = sharkstat("list", "--plugin", path)
    assert done.returncode == 0
    assert f"plugin slow ({path}) failed to load: " in done.stderr and done.stderr.count("\n") == 1
    assert said in done.stderr or said == "Slow"


# The command ----------------------------------------------------------------------------------------


def test_the_group_command_asks_for_what_its_options_say() -> None:
    done = sharkstat(
        "group", TLS, "--by", "ip.src", "--by", "tls.handshake.extensions_server_name", "--sum", "frame.len", "--count",
        "-Y", "tls", "--format", "csv", "--sort", "bytes", "--top", "2",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    sums: Counter[tuple[str, str]] = Counter()
    names = ("ip.src", "tls.handshake.extensions_server_name", "frame.len")
    for source, server, (length,) in oracle.fields(TLS, names, "-Y", "tls"):
        sums[source[0], "".join(server[:1])] += int(length)
    lines = done.stdout.splitlines()
    assert lines[0] == "ip_src,tls_handshake_extensions_server_name,packets,bytes"
    got = [(source, server, int(size)) for source, server, _, size in (line.split(",") for line in lines[1:])]
    assert got == [(*key, size) for key, size in sums.most_common(2)]


def test_the_group_command_takes_trees_and_intervals() -> None:
    done = sharkstat("group", DNS, "--tree", "ip.src,dns.qry.name", "--every", "10m", "--mean", "dns.time", "--seen")
    assert done.returncode == 0
    assert "www.example.net" in done.stdout and "First seen" in done.stdout
    words = ("--measure", "count where dns.flags.rcode == 3 as nx", "--measure", "percent=nx/packets", "--count")
    row = sharkstat("group", DNS, *words, "--format", "tsv").stdout.splitlines()[-1].split("\t")
    assert row[1] == str(len(oracle.fields(DNS, ("frame.number",), "-Y", "dns.flags.rcode == 3")))
    done = sharkstat("group", DNS, "--sum", "frame.len", "--format", "tsv")
    assert done.stdout.splitlines()[-1] == str(sum(int(length) for ((length,),) in oracle.fields(DNS, ("frame.len",))))


def test_field_names_are_completed() -> None:
    env = {"_SHARKSTAT_COMPLETE": "complete_bash", "COMP_WORDS": "sharkstat group --by dns.qry.na", "COMP_CWORD": "3"}
    assert sharkstat(env=env).stdout.split() == ["dns.qry.name"]
