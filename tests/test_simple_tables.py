"""tshark's simple tables against sharkd, which has them as JSON, and against the packets' own fields."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests import oracle
from tests.measure import CORPUS
from tests.readers import asked, reader
from tests.test_service_times import every_capture, near, needs_corpus, of_family, statistic, table_of, whole_and_merged

import sharkstat
from sharkstat import Table, TextError
from sharkstat_plugins.simple_tables import OranFlows

MICROSECOND, SECOND = 10**3, 10**9
TIMED = [
    name
    for name in of_family("simple_stat")
    if name.endswith(",stat") and name not in ("dhcp,stat", "oran-fh-cus,stat")
]

# The columns of sharkd's rows that text cannot spoil, by those of sharkstat.
COUNTED = {
    "iei": "IEI", "message_name": "Message Name", "count": "Count", "packets": "Packets", "messages": "Messages ",
    "bytes": "Bytes (B)", "opc": "OPC", "dpc": "DPC", "si": "SI", "msus": "MSUs", "operation": "Operation Code",
    "operation_code": "ID", "invokes": "Invokes", "results": "Return Result",
    "message_type_or_reason": "Message Type or Reason",
}  # fmt: skip


@pytest.mark.long
@pytest.mark.corpus
@needs_corpus
def test_every_table_is_that_of_sharkd_in_every_capture() -> None:
    names = [name for name in of_family("simple_stat") if name != "oran-fh-cus,stat"]
    assert len(names) == 26
    seen: dict[str, set[str]] = {}
    for capture, answers in every_capture([f"nstat:{name}" for name in names]):
        for table in sharkstat.run(capture, names, two_pass=True):
            assert not any("unparsed" in warning for warning in table.warnings), (capture, table.warnings)
            answer = answers[f"nstat:{table.name}"]
            if answer is not None:
                same_counts(table, answer)
            if table.rows:
                seen.setdefault(table.name, set()).add(capture.name)
    assert {"dhcp,stat", "npm,stat", "h225,counter", "camel,counter", "mtp3,msus", "gsm_map,operation"} <= set(seen)
    assert {name for name in seen if name.startswith("gsm_a,")} == {name for name in names if name.startswith("gsm_a,")}
    assert len(seen["dhcp,stat"]) >= 8


def same_counts(table: Table, answer: dict[str, Any]) -> None:
    titles = [field["c"] for field in answer["fields"]]
    rows: list[dict[str, Any]] = []
    for part in answer["tables"]:
        for cells in part["i"]:
            row: dict[str, Any] = {}
            for title, cell in zip(titles, cells, strict=False):
                row.setdefault(title, cell)  # the first of several of one name
            if any(
                type(cell) is int and cell
                for title, cell in zip(titles, cells, strict=False)
                if title not in ("ID", "IEI", "OpCode")
            ):
                rows.append(row)
    assert len(table) == len(rows), table.name
    for ours, theirs in zip(table, rows, strict=True):
        for column, value in ours.items():
            title = COUNTED.get(column)
            if column == "message_type":
                assert str(value) == theirs[titles[0]].strip()
            elif title in theirs:
                expected = theirs[title]
                if isinstance(value, str):
                    assert value == str(expected).strip(), (table.name, column)
                else:
                    assert value == int(str(expected).strip(), 0), (table.name, column, theirs)
        if "message_share" in ours:
            same_rates(table, ours, theirs)


def same_rates(table: Table, ours: sharkstat.Row, theirs: dict[str, Any]) -> None:
    """sharkd's rates are right wherever it can compute them; its shares, of what it was asked about once."""
    start: Any = table.reading.start
    assert near(ours["first_seen"], start + oracle.nanoseconds(theirs["First Seen (s)"]), MICROSECOND)
    assert near(ours["last_seen"], start + oracle.nanoseconds(theirs["Last Seen (s)"]), MICROSECOND)
    if table.name == "npm,stat":
        assert ours["message_share"] == pytest.approx(float(theirs["Messages Share (%)"]), abs=1e-6)
        assert ours["byte_share"] == pytest.approx(float(theirs["Bytes Share (%) "]), abs=1e-6)
    if ours["interval"]:
        assert ours["message_rate"] == pytest.approx(float(theirs["Message Rate (Msg/s)"]), rel=1e-5)
        assert ours["byte_rate"] == pytest.approx(float(theirs["Byte Rate (B/s)"]), rel=1e-5)
    else:
        assert ours["message_rate"] is ours["byte_rate"] is None


# What each packet says itself --------------------------------------------------------------------------

DHCP = {"1": "Discover", "2": "Offer", "3": "Request", "5": "ACK", "6": "NAK", "7": "Release", "8": "Inform"}


@pytest.mark.corpus
@needs_corpus
@pytest.mark.parametrize(
    "name", ["wireshark/dhcp.pcap", "wireshark/dhcp-nanosecond.pcap", "ndpi/teams.pcap", "ndpi/wechat.pcap"]
)
def test_dhcp_messages_are_those_of_the_packets(name: str) -> None:
    kinds = oracle.fields(CORPUS / name, ["dhcp.option.dhcp"])
    expected = Counter(DHCP[kind] for (values,) in kinds for kind in values)
    (table,) = sharkstat.run(CORPUS / name, "dhcp,stat")
    assert {row["message_type"]: row["packets"] for row in table} == expected and expected


@pytest.mark.corpus
@needs_corpus
def test_a_filter_counts_only_what_it_takes_and_a_display_filter_is_one_more() -> None:
    capture = CORPUS / "wireshark" / "dhcp.pcap"
    (table,) = sharkstat.run(capture, "dhcp,stat,dhcp.option.dhcp == 1 or dhcp.option.dhcp == 2")
    assert {row["message_type"] for row in table} == {"Discover", "Offer"}
    (table,) = sharkstat.run(
        capture, "dhcp,stat,dhcp.option.dhcp == 1 or dhcp.option.dhcp == 2", display_filter="dhcp.option.dhcp >= 2"
    )
    assert {row["message_type"] for row in table} == {"Offer"}
    (table,) = sharkstat.run(capture, "dhcp,stat,tcp")
    assert table.rows == [] and table.warnings == []


@pytest.mark.corpus
@needs_corpus
@pytest.mark.parametrize("name", TIMED)
def test_shares_add_up_and_rates_are_counts_over_time(name: str) -> None:
    capture = CORPUS / ("wireshark/netperfmeter.pcapng.gz" if name == "npm,stat" else "made/rserpool.pcap")
    (table,) = sharkstat.run(capture, name)
    if name == "npm,stat":
        assert len(table) == 8
    for row in table:
        values: Any = row
        assert values["messages"] > 0 and values["first_seen"] <= values["last_seen"]
        assert values["interval"] == values["last_seen"] - values["first_seen"]
        assert (values["message_rate"] is None) == (values["interval"] == 0)
        if values["interval"]:
            assert values["message_rate"] == pytest.approx(values["messages"] * SECOND / values["interval"])
    if table.rows:
        assert sum(table["message_share"]) == pytest.approx(100)  # type: ignore[arg-type]
        assert sum(table["byte_share"]) == pytest.approx(100)  # type: ignore[arg-type]


@pytest.mark.corpus
@needs_corpus
@pytest.mark.parametrize(
    ("name", "request_", "cut"),
    [
        ("wireshark/netperfmeter.pcapng.gz", "npm,stat", 500),
        ("wireshark/dhcp.pcap", "dhcp,stat", 2),
        ("ndpi/h323.pcap", "h225,counter", 66),
        ("made/mtp3.pcap", "mtp3,msus", 2),
        ("made/gsm_a.pcap", "gsm_a,bssmap", 1),
    ],
)
def test_parts_merge_into_the_whole(name: str, request_: str, cut: int, tmp_path: Path) -> None:
    whole, merged = whole_and_merged(CORPUS / name, request_, cut, tmp_path)
    keys = [column.name for column in whole.keys]
    ours = {tuple(row[key] for key in keys): row for row in merged}
    assert len(whole) > 0 and len(ours) == len(merged) == len(whole)
    for row in whole:
        part = ours[tuple(row[key] for key in keys)]
        for column in whole.columns:
            expected: Any = row[column.name]
            if column.approximate and expected is not None:
                assert part[column.name] == pytest.approx(expected, rel=1e-5, abs=2 * MICROSECOND)
            else:
                assert part[column.name] == expected, column.name


# Text --------------------------------------------------------------------------------------------------


def text(title: str, header: str, *lines: str) -> str:
    bar = "=" * 101
    body = "".join(f"{line}\n" for line in lines)
    return f"\n{bar}\n{title}:\nFilter for statistics: ip\n{header}\n{title} Statistics\n{body}{bar}\n"


NAMED = "IEI |Message Name |Count |"
RATED = (
    "ASAP Message Type |Messages  |Messages Share (%) |Bytes (B) |Bytes Share (%)  |First Seen (s) |Last Seen (s) "
    "|Interval (s) |Message Rate (Msg/s) |Byte Rate (B/s) |"
)
MAP = "ID |Operation Code |Invokes |Num Bytes |Avg Bytes |Return Result |Num Bytes |Avg Bytes |Total Bytes |Avg Bytes |"


def test_wrong_shares_and_endless_rates_are_computed_instead() -> None:
    lines = (
        f"ASAP Registration         |1 |0.000 % |16 |0.000 % |0.000000 |0.000000 |0.000000 |{'4' * 308}.00 |inf |",
        "ASAP Deregistration       |0 |inf % |0 |inf % |",
        "ASAP Error                |0 |",
        "ASAP Cookie               |3 |7.000 % |48 |0.100 % |1.500000 |3.500000 |2.000000 |-nan |9.99 |",
    )
    one, two = table_of("asap,stat", text("ASAP", RATED, *lines)).rows
    assert (one["message_share"], one["byte_share"], one["interval"], one["message_rate"]) == (25, 25, 0, None)
    assert (two["message_share"], two["byte_share"], two["interval"]) == (75, 75, 2 * SECOND)
    assert (two["message_rate"], two["byte_rate"]) == (1.5, 24)


def test_totals_and_means_are_computed() -> None:
    (row,) = table_of(
        "gsm_map,operation", text("MAP", MAP, "2 |updateLocation            |1 |31 |9.00 |3 |9 |9.00 |0 |31.00 |")
    ).rows
    assert (row["total_bytes"], row["avg_bytes"], row["avg_invoke_bytes"], row["avg_result_bytes"]) == (40, 10, 31, 3)


def test_one_name_may_stand_for_several_numbers_written_either_way() -> None:
    lines = ("11 |Reserved                  |1 |", "0x0c   |Reserved    |2 |", "13 |Reserved |0 |")
    table = table_of("gsm_a,dtap_rr", text("RR", NAMED, *lines))
    assert [(row["iei"], row["message_name"], row["count"]) for row in table] == [
        (11, "Reserved", 1),
        (12, "Reserved", 2),
    ]


@pytest.mark.parametrize(
    "lines",
    [
        ["1 |a |b |2 |"],
        ["1 |a |2"],
        ["1 |a |"],
        ["1 |"],
        ["nothing at all"],
        ["1 |a |-2 |"],
        ["1 |a |1_0 |"],
        ["x |a |2 |"],
        ["1 |a |2 |", "1 |a |3 |"],
        ["=" * 101, "1 |a |2 |"],
    ],
)
def test_a_row_that_is_not_known_is_not_read(lines: Sequence[str]) -> None:
    with pytest.raises(TextError):
        table_of("gsm_a,dtap_rr", text("RR", NAMED, *lines))


@pytest.mark.parametrize(
    "broken",
    [
        "",
        text("RR", NAMED)[1:],
        text("RR", NAMED)[:-5],
        text("RR", NAMED.replace("Count", "Number")),
        text("RR", "More |" + NAMED),
    ],
)
def test_a_table_of_another_form_is_not_read(broken: str) -> None:
    with pytest.raises(TextError):
        table_of("gsm_a,dtap_rr", broken)


def test_a_counted_row_that_ends_early_is_not_read() -> None:
    with pytest.raises(TextError):
        table_of("asap,stat", text("ASAP", RATED, "ASAP Error |1 |0.000 % |16 |0.000 % |"))


def test_h225_reasons_of_other_kinds_are_not_guessed() -> None:
    with pytest.raises(TextError, match="reasons"):
        table_of(
            "h225,counter", text("H.225", "Message Type or Reason |Count |", "gatekeeperRequest |1 |", "setup |1 |")
        )


def test_nothing_counted_gives_no_rows() -> None:
    assert table_of("gsm_a,dtap_rr", text("RR", NAMED, "1 |a |0 |")).rows == []
    assert table_of("mtp3,msus", text("MTP3", "OPC |DPC |SI |MSUs |Bytes |Avg Bytes |")).rows == []


def test_every_one_says_what_it_is_and_takes_a_filter() -> None:
    for name in of_family("simple_stat"):
        found = statistic(name)
        assert found.title and found.description.endswith(".") and found.usage == f"{name}[,FILTER]"
        assert found.filters("tcp") == ("tcp",) and asked(found, "tcp", "ip") == f"{name},(ip) && (tcp)"
        assert any(column.role == "key" for column in found.columns(""))


# oran-fh-cus,stat --------------------------------------------------------------------------------------


def flows(*rows: tuple[Any, ...]) -> str:
    """As its source prints it: tshark 4.6, by its own formats."""
    titles = (
        " Plane", "eAxC ID ", "Direction  ", "Frames ", "Largest PDU  ", "Section Types                ",
        "Section IDs        ", "Extensions", "Highest Slot", "Missing SNs   ", "PRBs", "Zero-PRBs      ", "REs ",
        "Zero-REs",
    )  # fmt: skip
    lines = ["".join(f"{title}  " for title in titles), "=" * 180]
    widths = (6, 8, 11, 9, 13, 17, 20, 18, 13, 12)
    for row in rows:
        line = " ".join(f"{value:>{width}}" for value, width in zip(row, widths, strict=False))
        lines.append(
            line
            + (" " + " ".join(f"{v:>{w}}" for v, w in zip(row[10:], (8, 10, 10, 10), strict=True)) if row[10:] else "")
        )
    return "".join(line + "\n" for line in lines)


def test_flows_of_both_planes_are_read_however_wide_their_lists() -> None:
    found = OranFlows()
    ids = "0 1 2 3 4 5 6 7 8 9 10 11 "
    raw = flows(
        ("C", 5, "DL", 10, 1500, "1 3 ", ids, "6 11 ", 19, 2),
        ("C", 5, "UL", 10, 1500, "1 ", "-", "-", 19, 2),
        ("U", 5, "UL", 7, 9000, "", "7 ", "-", 3, 0, 273, 1, 12, 4294967295),
    )
    rows = reader(found).parse(raw.encode(), "").rows
    assert [list(row) for row in rows] == [
        ["C", 5, "DL", 10, 1500, "1 3", ids.strip(), "6 11", 19, 2, None, None, None, None],
        ["C", 5, "UL", 10, 1500, "1", None, None, 19, 2, None, None, None, None],
        ["U", 5, "UL", 7, 9000, None, "7", None, 3, 0, 273, 1, 12, 4294967295],
    ]
    assert reader(found).parse(flows().encode(), "").rows == []
    for broken in (raw + "\n First radio frame\n", raw[1:], re.sub("U ", "X ", raw), raw.replace("9000", "-1")):
        with pytest.raises(TextError):
            reader(found).parse(broken.encode(), "")
