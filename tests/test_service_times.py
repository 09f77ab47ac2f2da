"""Response times against sharkd, which has them to the nanosecond, and against the fields that tell a packet's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from json import JSONDecodeError
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import pytest
from tests import oracle
from tests.measure import CORPUS, corpus_captures
from tests.readers import asked, reader

import sharkstat
from sharkstat import MergeError, Registry, RequestError, Row, Statistic, Table, TextError

needs_corpus = pytest.mark.skipif(not CORPUS.exists(), reason="the large captures are not there")

MICROSECOND, MILLISECOND = 10**3, 10**6
REGISTRY = Registry.default()
TRACKED = ("megaco.ctx_info:TRUE", "h248.ctx_info:TRUE")  # without them, megaco,rtd is refused


def of_family(*families: str) -> list[str]:
    """The names of this tshark's statistics of these families that need no arguments."""
    return [
        name
        for name, statistic in REGISTRY.discovered.items()
        if statistic.family in families and statistic.usage == f"{name}[,FILTER]"
    ]


def statistic(name: str) -> Statistic:
    return REGISTRY.find(name)[0]


class Oracle:
    """sharkd, asked for any number of taps."""

    def __init__(self) -> None:
        self._sharkd = oracle.Sharkd()

    def taps(self, capture: Path, names: Sequence[str]) -> dict[str, Any]:
        for protocol in ("megaco", "h248"):
            self._sharkd.ask("setconf", {"name": f"{protocol}.ctx_info", "value": "TRUE"})
        self._sharkd.ask("load", {"file": str(capture.absolute())})
        return {
            tap: answer
            for start in range(0, len(names), 12)  # it takes 16 at once
            for tap, answer in self._answers(names[start : start + 12])
        }

    def _answers(self, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """None for a tap with a rate that is infinite: sharkd writes JSON then that is none."""
        try:
            taps = self._sharkd.ask("tap", {f"tap{number}": name for number, name in enumerate(names)})["taps"]
        except JSONDecodeError:
            if len(names) == 1:
                yield names[0], None
            else:
                for name in names:
                    yield from self._answers([name])
        else:
            yield from ((answer["tap"], answer) for answer in taps)

    def close(self) -> None:
        self._sharkd.close()


def every_capture(names: Sequence[str]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every capture where sharkd has something for any of these taps, and some where it has nothing."""
    sharkd = Oracle()
    for number, capture in enumerate(corpus_captures()):
        try:
            answers = sharkd.taps(capture, names)
        except TimeoutError:  # it never answers for a file that is cut short
            continue
        if number % 40 == 0 or any(something(answer) for answer in answers.values()):
            yield capture, answers
    sharkd.close()


def something(answer: dict[str, Any] | None) -> bool:
    if answer is None:
        return True
    if answer["type"] == "nstat":
        return any(value for table in answer["tables"] for row in table["i"] for value in row[1:] if type(value) is int)
    return bool(answer.get("stats")) or any(table["r"] for table in answer.get("tables", ()))


@cache
def run(capture: Path, request: str, *options: str) -> Table:
    (table,) = sharkstat.run(capture, request, preferences=options)
    assert not any("unparsed" in warning for warning in table.warnings), table.warnings
    return table


def rounded(time: int, unit: int) -> int:
    return (time + unit // 2) // unit * unit


def near(shown: Any, time: float, unit: int) -> bool:
    return bool(abs(shown - time) <= unit // 2 + 1)


# sharkd ------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.corpus
@needs_corpus
def test_service_times_and_delays_are_those_of_sharkd_in_every_capture() -> None:
    services, delays = of_family("srt"), of_family("rtd")
    assert len(services) >= 9 and len(delays) == 4
    taps = [f"srt:{name.removesuffix(',srt')}" for name in services]
    taps += [f"rtd:{name.removesuffix(',rtd')}" for name in delays]
    seen: dict[str, set[str]] = {}
    for capture, answers in every_capture(taps):
        tables = sharkstat.run(capture, [*services, *delays], two_pass=True, preferences=TRACKED)
        for table, tap in zip(tables, taps, strict=True):
            same = same_services if tap.startswith("srt:") else same_delays
            same(table, answers[tap])
            assert [w for w in table.warnings if "unparsed" in w] == [], capture
            if table.rows:
                seen.setdefault(tap[:3], set()).add(capture.name)
    assert len(seen["srt"]) >= 8 and len(seen["rtd"]) >= 4


def same_services(table: Table, answer: dict[str, Any]) -> None:
    expected = []
    for part in answer["tables"]:
        for row in part["r"]:
            low, high, total = (oracle.nanoseconds(row[name]) for name in ("min", "max", "tot"))
            times = [rounded(time, MICROSECOND) for time in (low, high, total)]
            expected.append((part.get("f", ""), row.get("idx"), row["n"], row["num"], *times))
    names = ("table", "index", "procedure", "calls", "min_srt", "max_srt", "sum_srt")
    there = [name in {c.name for c in table.columns} for name in names]
    rows = [tuple(row[name] for name, has in zip(names, there, strict=True) if has) for row in table]
    assert rows == [tuple(v for v, has in zip(row, there, strict=True) if has) for row in expected], table.name
    for row in table:
        assert near(row["avg_srt"], row["sum_srt"] / row["calls"], 2)  # type: ignore[operator]


def same_delays(table: Table, answer: dict[str, Any]) -> None:
    rows = [row for row in table if row["messages"]]
    assert [(r["type"], r["messages"], r["min_frame"], r["max_frame"]) for r in rows] == [
        (stat["type"].strip(), stat["num"], stat["min_frame"], stat["max_frame"]) for stat in answer["stats"]
    ], table.name
    for row, stat in zip(rows, answer["stats"], strict=True):
        low, high, total = (oracle.nanoseconds(stat[name]) for name in ("min", "max", "tot"))
        for name, time in (("min_rtd", low), ("max_rtd", high), ("avg_rtd", total / stat["num"])):
            assert near(row[name], time, 10 * MICROSECOND), (table.name, row, name)
    losses = {"open_requests": "open_req", "discarded_responses": "disc_rsp"}
    losses |= {"duplicate_requests": "req_dup", "duplicate_responses": "rsp_dup"}
    for column, name in losses.items():
        if name in answer:  # one for all types
            assert table.total(column) == answer[name], (table.name, column)
        else:
            assert [row[column] for row in rows] == [stat[name] for stat in answer["stats"]], (table.name, column)


# Fields ------------------------------------------------------------------------------------------------


def times_by(capture: Path, time: str, keys: Sequence[str], *options: str) -> dict[tuple[int, ...], list[int]]:
    """Each packet's response time, by what its other fields say."""
    found: dict[tuple[int, ...], list[int]] = {}
    for times, *values in oracle.fields(capture, [time, *keys], *options):
        for place, text in enumerate(times):
            key = tuple(int(value[min(place, len(value) - 1)], 0) for value in values)
            found.setdefault(key, []).append(oracle.nanoseconds(text))
    return found


@pytest.mark.corpus
@needs_corpus
@pytest.mark.parametrize(
    ("name", "request_", "time", "key", "only"),
    [
        ("ndpi/nfsv3.pcap", "rpc,srt,100003,3", "rpc.time", "rpc.procedure", "rpc.program==100003"),
        ("ndpi/nfsv2.pcap", "rpc,srt,100003,2", "rpc.time", "rpc.procedure", "rpc.program==100003"),
        ("wireshark/nfs.pcap", "rpc,srt,100003,3", "rpc.time", "rpc.procedure", "rpc.program==100003"),
        (
            "ndpi/profinet-io-le.pcap",
            "dcerpc,srt,dea00001-6c97-11d1-8271-00a02442df7d,1.0",
            "dcerpc.time",
            "dcerpc.opnum",
            "dcerpc",
        ),
        ("made/iscsi.pcap", "scsi,srt,0", "scsi.time", "scsi_sbc.opcode", "scsi"),
    ],
)
def test_services_with_arguments_are_those_of_the_packets(
    name: str, request_: str, time: str, key: str, only: str
) -> None:
    capture = CORPUS / name
    expected = {
        number: (len(times), *(rounded(t, MICROSECOND) for t in (min(times), max(times), sum(times))))
        for (number,), times in times_by(capture, time, [key], "-2", "-Y", only).items()
    }
    rows = run(capture, request_).rows
    assert {r["index"]: (r["calls"], r["min_srt"], r["max_srt"], r["sum_srt"]) for r in rows} == expected
    assert rows and all(row["procedure"] for row in rows)


@pytest.mark.corpus
@needs_corpus
@pytest.mark.parametrize("name", ["ndpi/nfsv2.pcap", "ndpi/nfsv3.pcap", "wireshark/nfs.pcap"])
def test_rpc_programs_are_those_of_the_packets_or_left_out(name: str) -> None:
    capture = CORPUS / name
    expected = times_by(capture, "rpc.time", ["rpc.program", "rpc.programversion"], "-2")
    table = run(capture, "rpc,programs")
    assert {(row["program_number"], row["version"]) for row in table} == set(expected)
    for row in table:
        times = expected[row["program_number"], row["version"]]  # type: ignore[index]
        assert (row["calls"], row["max_srt"]) == (len(times), rounded(max(times), MICROSECOND))
        assert near(row["avg_srt"], fmean(times), MICROSECOND)
        if row["min_srt"] is None:
            assert min(times) == 0 and table.warnings
        else:
            assert row["min_srt"] == rounded(min(times), MICROSECOND)


@pytest.mark.corpus
@needs_corpus
@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("wireshark/communityid.pcap.gz", "icmp,srt"),
        ("wireshark/communityid.pcap.gz", "icmpv6,srt"),
        pytest.param("wireshark/icmp.pcapng.gz", "icmp,srt", marks=pytest.mark.long),
        pytest.param("wireshark/wireguard-ping-tcp-dsb.pcapng", "icmp,srt", marks=pytest.mark.long),
        pytest.param("ndpi/6in4tunnel.pcap", "icmpv6,srt", marks=pytest.mark.long),
        ("ndpi/viber.pcap", "icmp,srt"),
    ],
)
def test_echo_times_are_those_of_the_packets(name: str, request_: str) -> None:
    capture = CORPUS / name
    protocol, request_type = ("icmpv6", 128) if request_ == "icmpv6,srt" else ("icmp", 8)
    packets = oracle.fields(capture, [f"{protocol}.type", f"{protocol}.resptime", "frame.number"], "-2")
    requests = [kinds for kinds, _, _ in packets if kinds and int(kinds[0]) == request_type]
    times = {int(frame[0]): oracle.nanoseconds(value[0]) // 10**3 for _, value, frame in packets if value}
    (row,) = run(capture, request_).rows
    assert (row["requests"], row["replies"]) == (len(requests), len(times))
    assert row["lost"] == len(requests) - len(times)
    assert (times[row["min_frame"]], times[row["max_frame"]]) == (min(times.values()), max(times.values()))  # type: ignore[index]
    for column, time in (
        ("minimum", min(times.values())),
        ("maximum", max(times.values())),
        ("mean", fmean(times.values())),
        ("median", median(times.values())),
        ("standard_deviation", stdev(times.values()) if len(times) > 1 else 0),
    ):
        assert near(row[column], time, MICROSECOND + 2), column


@pytest.mark.corpus
@needs_corpus
def test_camel_times_are_those_of_sharkd() -> None:
    sharkd = Oracle()
    expected = sharkd.taps(CORPUS / "made" / "camel.pcap", ["srt:camel"])["srt:camel"]["tables"]
    sharkd.close()
    (table,) = sharkstat.run(CORPUS / "made" / "camel.pcap", "camel,srt", two_pass=True)
    rows = [
        (row["n"], row["num"], rounded(oracle.nanoseconds(row["min"]), 10 * MILLISECOND)) for row in expected[0]["r"]
    ]
    assert [(row["category"], row["measures"], row["min_srt"]) for row in table] == rows
    assert not any("unparsed" in warning for warning in table.warnings)


# Merging -----------------------------------------------------------------------------------------------


def whole_and_merged(capture: Path, request: str, cut: int, folder: Path) -> tuple[Table, Table]:
    parts = [folder / "one.pcap", folder / "two.pcap"]
    oracle.output("editcap", "-r", str(capture), str(parts[0]), f"1-{cut}")
    oracle.output("editcap", str(capture), str(parts[1]), f"1-{cut}")
    return run(capture, request), Table.merge([sharkstat.run(part, request)[0] for part in parts])


@pytest.mark.corpus
@needs_corpus
def test_parts_that_cut_no_pair_in_two_merge_into_the_whole(tmp_path: Path) -> None:
    capture = CORPUS / "ndpi" / "nfsv3.pcap"
    pairs = [(int(q[0]), int(r[0])) for r, q in oracle.fields(capture, ["frame.number", "rpc.repframe"], "-2") if q]
    cuts = [at for at in range(20, 100) if not any(call <= at < reply for reply, call in pairs)]
    cut = cuts[len(cuts) // 2]
    whole, merged = whole_and_merged(capture, "rpc,srt,100003,3", cut, tmp_path)
    assert len(whole) > 10
    assert {row["procedure"]: row for row in merged} == {row["procedure"]: row for row in whole}
    whole, merged = whole_and_merged(capture, "rpc,programs", cut, tmp_path)
    counted = [
        sorted((r["program_number"], r["version"], r["calls"], r["max_srt"]) for r in t) for t in (whole, merged)
    ]
    assert counted[0] == counted[1]


def table_of(name: str, text: str, arguments: str = "") -> Table:
    """The table of a text."""
    found = statistic(name)
    parsed = reader(found).parse(text.encode("utf-8", "surrogateescape"), arguments)
    columns = parsed.columns or found.columns(arguments)
    given = [column.name for column in columns if column.role != "derived"]
    rows: list[Row] = [
        {**dict.fromkeys((c.name for c in columns), None), **dict(zip(given, row, strict=True))} for row in parsed.rows
    ]
    table = Table(name, name, name, columns, rows, statistic=found, warnings=list(parsed.warnings))
    found.derive(table)
    return table


# Text --------------------------------------------------------------------------------------------------


def services(*rows: tuple[int, str, int, str, str, str], field: str = "afp.command") -> str:
    """As tshark prints it, by its own formats; times as it gives them."""
    lines = [
        f"{i:5d}  {name:<22} {calls:6d} {low:>10} {high:>10} {'0.000000':>10} {total:>10}\n"
        for i, name, calls, low, high, total in rows
    ]
    header = f"Filter: {field}\nIndex  {'Procedure':<22} Calls    Min SRT    Max SRT    Avg SRT    Sum SRT\n"
    return f"\n{'=' * 67}\nAFP SRT Statistics:\n{header}{''.join(lines)}{'=' * 66}\n"


def delays(*lines: str, counts: Sequence[int] = (0, 0, 0, 0)) -> str:
    twice = ("Duplicate requests", "Duplicate responses", "Open requests", "Discarded responses")
    header = "Type    | Messages   |    Min RTD    |    Max RTD    |    Avg RTD    | Min in Frame | Max in Frame |\n"
    body = "".join(f"{name}: {count}\n" for name, count in zip(twice, counts, strict=True))
    heading = "MGCP Response Time Delay (RTD) Statistics:\nFilter for statistics: \n"
    return f"\n{'=' * 101}\n{heading}{body}{header}{''.join(lines)}{'=' * 101}\n"


def delay(kind: str, number: int, low: float, high: float, mean: float) -> str:
    times = "".join(f" {time:8.2f} msec |" for time in (low, high, mean))
    return f"{kind} | {number:7d}    |{times}  {1:10d}  |  {2:10d}  |\n"


def echoes(first: str, second: str, filter_text: str = "<none>") -> str:
    return (
        f"\n{'=' * 74}\nICMP Service Response Time (SRT) Statistics (all times in ms):\nFilter: {filter_text}\n\n"
        f"Requests  Replies   Lost      % Loss\n{first}\n\n"
        f"Minimum   Maximum   Mean      Median    SDeviation     Min Frame Max Frame\n{second}\n{'=' * 74}\n"
    )


def programs(*lines: str) -> str:
    header = "Program    Version  Calls    Min SRT    Max SRT    Avg SRT\n"
    return f"\n{'=' * 58}\nONC-RPC Program Statistics:\n{header}{''.join(lines)}{'=' * 67}\n"


def test_times_are_read_as_whole_numbers_even_where_the_fraction_is_a_second() -> None:
    table = table_of("afp,srt", services((7, "FP 12 Open  Fork", 1, "0.1000000", "0.1000000", "1.000000")))
    (row,) = table.rows
    assert (row["index"], row["procedure"], row["calls"]) == (7, "FP 12 Open  Fork", 1)
    assert row["min_srt"] == row["max_srt"] == row["sum_srt"] == row["avg_srt"] == 10**9


def test_a_name_may_be_wide_and_end_in_numbers() -> None:
    name = "A procedure that is wider than its column 12   0.000001"
    (row,) = table_of("afp,srt", services((300, name, 1234567, "0.000001", "1000.000001", "2000.000000"))).rows
    assert (row["procedure"], row["calls"]) == (name, 1234567)
    assert (row["max_srt"], row["avg_srt"]) == (1000 * 10**9 + 1000, (2000 * 10**9 * 2 + 1234567) // 2469134)


def test_responses_before_their_requests_leave_no_wrong_sum() -> None:
    table = table_of("afp,srt", services((1, "Open", 2, "0.-00004", "-1.-00003", "1266874889.709500")))
    (row,) = table.rows
    assert (row["min_srt"], row["max_srt"]) == (-4000, -(10**9) - 3000)
    assert row["sum_srt"] is row["avg_srt"] is None and table.warnings
    merged = Table.merge([table, table_of("afp,srt", services((1, "Open", 1, "1.000000", "1.000000", "1.000000")))])
    assert merged.rows[0]["sum_srt"] is None and merged.rows[0]["calls"] == 3


def test_sub_tables_are_told_apart_by_their_field() -> None:
    both = services((1, "Read", 1, "0.000001", "0.000001", "0.000001"), field="smb.cmd").replace("=" * 66 + "\n", "", 2)
    text = services((1, "Read", 2, "0.000001", "0.000001", "0.000002"), field="smb.trans2.cmd")
    part = text[text.index("Filter: ") :]
    head = f"\n{'=' * 67}\n" + both[both.index("AFP") :]
    rows = table_of("smb,srt", head + "\n" + part).rows
    assert [(row["table"], row["index"], row["calls"]) for row in rows] == [("smb.cmd", 1, 1), ("smb.trans2.cmd", 1, 2)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("afp,srt", ""),
        ("afp,srt", services()[:-20]),
        ("afp,srt", services((1, "a\nname", 1, "0.000001", "0.000001", "0.000001"))),
        ("afp,srt", services((1, "a", 1, "0.000001", "0.000001", "x"))),
        ("afp,srt", services((1, "a", 1, "0.0001", "0.000001", "0.000001"))),
        ("afp,srt", services((1, "a", -1, "0.000001", "0.000001", "0.000001"))),
        ("afp,srt", services(*[(1, "twice", 1, "0.000001", "0.000001", "0.000001")] * 2)),
        ("afp,srt", services().replace("Sum SRT", "Dev SRT")),
        ("mgcp,rtd", ""),
        ("mgcp,rtd", delays(delay("RQNT", 1, 1, 1, 1).replace("msec", "sec"))),
        ("mgcp,rtd", delays(delay("RQNT", 1, 1, 1, 1)).replace("Open requests", "Open")),
        ("mgcp,rtd", delays(*[delay("RQNT", 1, 1, 1, 1)] * 2)),
        ("icmp,srt", ""),
        ("icmp,srt", echoes("1  1  0  0.0%", "1.000 1.000 1.000 1.000")),
        ("camel,srt", ""),
        ("rpc,programs", ""),
        ("rpc,programs", programs("NFS(1) 3 1 0.000001 0.000001 0.000001 more\n")),
        ("rpc,programs", programs("a name that is cut off(1000 3 1 0.000001 0.000001 0.000001\n")),
        ("rpc,programs", programs(*["NFS(1) 3 1 0.000001 0.000001 0.000001\n"] * 2)),
    ],
)
def test_a_text_that_is_not_known_to_the_last_line_is_not_read(name: str, text: str) -> None:
    with pytest.raises((TextError, ValueError)):
        table_of(name, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("afp,srt", services()),
        ("ncp,srt", f"\n{'=' * 67}\nNCP SRT Statistics:\n{'=' * 66}\n"),
        ("mgcp,rtd", delays()),
        (
            "icmp,srt",
            echoes(
                "0         0         0           0.0%",
                "0.000     0.000     0.000     0.000     0.000          0         0",
            ),
        ),
        ("rpc,programs", programs()),
    ],
)
def test_nothing_counted_gives_no_rows(name: str, text: str) -> None:
    assert table_of(name, text).rows == []


def test_what_is_counted_for_all_types_stands_once_and_is_never_lost() -> None:
    lines = (delay("Overall", 2, 0.45, 21.96, 5.21), delay("RQNT   ", 2, 0.45, 21.96, 5.21))
    table = table_of("mgcp,rtd", delays(*lines, counts=(1, 2, 3, 4)))
    names = ("duplicate_requests", "duplicate_responses", "open_requests", "discarded_responses")
    assert [[row[name] for name in names] for row in table] == [[1, 2, 3, 4], [None] * 4]
    assert table["min_rtd"] == [450_000, 450_000] and table["type"] == ["Overall", "RQNT"]
    unanswered = table_of("mgcp,rtd", delays(counts=(0, 0, 7, 0)))
    assert [(row["type"], row["messages"], row["open_requests"]) for row in unanswered] == [("Overall", 0, 7)]
    merged = Table.merge([unanswered, table])
    assert [(r["type"], r["messages"], r["open_requests"]) for r in merged] == [("Overall", 2, 10), ("RQNT", 2, None)]
    assert merged.rows[0]["avg_rtd"] is None


def test_more_echo_replies_than_requests_leave_no_wrong_loss() -> None:
    numbers = "4294967.000429496.0000.000     1.000     1.000          12        4294967295"
    table = table_of("icmp,srt", echoes("1         3         4294967294429496729400.0%", numbers))
    (row,) = table.rows
    assert (row["requests"], row["replies"], row["lost"], row["loss"]) == (1, 3, None, None)
    assert (row["minimum"], row["max_frame"]) == (4_294_967_000 * 1_000, 4294967295)


def test_a_program_that_cannot_have_its_shortest_time_has_none() -> None:
    lines = (
        f"{'MOUNT(100005)':<15} {3:2d} {2:6d}   0.020000   0.020000   0.010000\n",
        f"{'Odd (name)(-2)':<15} {1:2d} {1:6d}   0.020000   0.020000   0.020000\n",
    )
    table = table_of("rpc,programs", programs(*lines))
    assert [(r["program"], r["program_number"], r["min_srt"]) for r in table] == [
        ("MOUNT", 100005, None),
        ("Odd (name)", 2**32 - 2, 20_000_000),
    ]
    assert table.warnings


@pytest.mark.parametrize(
    ("request_", "fix"),
    [
        ("rpc,srt", "PROGRAM,VERSION"),
        ("rpc,srt,nfs,3", "PROGRAM,VERSION"),
        ("rpc,srt,100003,3x", "PROGRAM,VERSION"),
        ("dcerpc,srt,1234,1.0", "UUID,VERSION"),
        ("scsi,srt", "SET"),
        ("scsi,srt,2", "SET"),
        ("scsi,srt,00", "SET"),
        ("rpc,programs,tcp", "no arguments"),
    ],
)
def test_bad_arguments_are_refused_with_what_is_wanted(request_: str, fix: str) -> None:
    found, arguments = REGISTRY.find(request_)
    with pytest.raises(RequestError, match=fix):
        found.columns(arguments)


def test_the_filter_stands_behind_what_is_required() -> None:
    rpc, arguments = REGISTRY.find("rpc,srt,100003,3,ip.src == 10.0.0.1, 10.0.0.2")
    assert list(rpc.filters(arguments)) == ["ip.src == 10.0.0.1, 10.0.0.2"]
    assert asked(rpc, arguments, "tcp") == "rpc,srt,100003,3,(tcp) && (ip.src == 10.0.0.1, 10.0.0.2)"
    assert asked(rpc, "100003,3", "") == "rpc,srt,100003,3"
    assert asked(rpc, "100003,3", "tcp") == "rpc,srt,100003,3,tcp"
    assert asked(statistic("afp,srt"), "tcp", "") == "afp,srt,tcp"
    with pytest.raises(MergeError):
        Table.merge(
            [
                table_of("afp,srt", services()),
                table_of("icmp,srt", echoes("0 0 0 0.0%", "0.000 0.000 0.000 0.000 0.000 0 0")),
            ]
        )


def camel(*rows: tuple[str, int, float, float, float, str], percentiles: Sequence[float]) -> str:
    """As tshark prints it, by its own formats."""
    bar, kinds = "=" * 97, ("Category", "Measure", "Min SRT", "Max SRT", "Avg SRT", "Min frame", "Max frame")
    widths = (25, 9, 11, 11, 11, 11, 11)
    above = (
        "|        Category         | Measure |"
        + "".join(f"  {kind}  |" for kind in kinds[2:5])
        + " Min frame | Max frame |"
    )
    rule = "|" + "|".join("-" * width for width in widths) + "|"
    criteria = "".join(f"{p:7.2f}% |" for p in (5, 10, 75, 90, 95, 99, 99.9))
    lines = [
        f"|{n:>24} |{c:8d} |{a:8.2f} {u}|{b:8.2f} {u}|{m:8.2f} {u}|{3:10d} |{4:10d} |" for n, c, a, b, m, u in rows
    ]
    within = [f"X{row[0]:>24} |" + "".join(f"{p:8.2f} |" for p in percentiles) for row in rows if row[5] == "ms"]
    parts = ["", "Camel Service Response Time (SRT) Statistics:", bar, above, rule, *lines, bar]
    parts += ["|   Category/Criteria     |" + criteria, "|-------------------------|" + "---------|" * 7, *within, bar]
    return "\n".join(parts) + "\n"


def test_camel_times_are_in_two_units_and_those_that_are_cut_are_left_out() -> None:
    text = camel(
        ("TCAP_Session", 2, 9999.0, 10001.5, 10000.25, "s "),
        ("InitialDP/Continue", 3, 0.25, 9999.0, 9999.0, "ms"),
        ("Slice1_ACR/ACH", 0, 0, 0, 0, "ms"),
        percentiles=(0.25, 0.5, 1, 2, 4, 8, 9999),
    )
    table = table_of("camel,srt", text)
    session, pair = table.rows
    assert (session["min_srt"], session["max_srt"]) == (9999 * 10**9, 10001_500_000_000)
    assert session["percentile_5"] is None
    assert (pair["min_srt"], pair["max_srt"], pair["avg_srt"]) == (250_000, None, None)
    assert (pair["percentile_5"], pair["percentile_99"], pair["percentile_99_9"]) == (250_000, 8_000_000, None)
    assert (pair["min_frame"], pair["max_frame"]) == (3, 4) and table.warnings
    assert Table.merge([table, table]).rows[1]["max_srt"] is None
    for broken in (
        text.replace(" ms|", " us|"),
        text[:-3],
        text.replace("X ", "Y "),
        text.replace("Measure", "Measures"),
    ):
        with pytest.raises(TextError):
            table_of("camel,srt", broken)
