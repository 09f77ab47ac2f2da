"""expert against the remarks that tshark's fields have for every packet."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests import oracle
from tests.measure import CORPUS, DATA, first
from tests.readers import asked, reader

import sharkstat
from sharkstat import RequestError, Row, Table, TextError
from sharkstat_plugins.expert import take

corpus = pytest.mark.skipif(not CORPUS.exists(), reason="the large captures are not there")
SEVERITIES = {8388608: "Error", 6291456: "Warning", 4194304: "Note", 2097152: "Chat", 1048576: "Comment"}
GROUPS = [
    "Checksum", "Sequence", "Response", "Request", "Undecoded", "Reassemble", "Malformed", "Debug", "Protocol",
    "Security", "Comment", "Decryption", "Assumption", "Deprecated", "Receive", "Interface",
]  # fmt: skip
FIELDS = ["_ws.expert.severity", "_ws.expert.group", "_ws.expert.message"]
CAPTURES = [
    "ndpi/mgcp.pcap",
    "ndpi/6in4tunnel.pcap",
    "ndpi/WebattackRCE.pcap",
    "ndpi/rtmp.pcap",
    "made/http_nasty.pcap",
    "made/gsm_a.pcap",
    "wireshark/dtn_udpcl_bpv7_bpsec_bcb_admin.pcapng",
]


def run(capture: Path, request: str, **options: str) -> Table:
    (table,) = sharkstat.run(capture, request, **options)  # type: ignore[arg-type]
    assert not any("unparsed" in warning for warning in table.warnings), table.warnings
    return table


def remarks(capture: Path, *options: str) -> Counter[tuple[str, str]]:
    """How often each summary was remarked with each severity, by the fields of every packet."""
    counted: Counter[tuple[str, str]] = Counter()
    for severities, _, messages in oracle.fields(capture, FIELDS, *options):
        assert len(severities) == len(messages)
        counted.update((SEVERITIES[int(s)], m) for s, m in zip(severities, messages, strict=True))
    return counted


def is_in_fields(row: Row) -> bool:
    """tshark 4.6 announces one remark that it then leaves out of the packet's tree and fields."""
    return oracle.version() < (4, 6) or not str(row["summary"]).startswith("This packet's length exceeds MSS")


def found(table: Table) -> Counter[tuple[str, str]]:
    counted: Counter[tuple[str, str]] = Counter()
    for row in table:
        if is_in_fields(row):
            counted[str(row["severity"]), str(row["summary"])] += row["count"]  # type: ignore[assignment,operator]
    return counted


@pytest.mark.corpus
@corpus
@pytest.mark.parametrize("name", first(3, CAPTURES))
def test_every_remark(name: str) -> None:
    table = run(CORPUS / name, "expert")
    assert found(table) == remarks(CORPUS / name)
    assert table.rows or (name == "ndpi/WebattackRCE.pcap" and oracle.version() >= (4, 4))  # HTTP chats are no more
    groups = {
        (SEVERITIES[int(s)], m, GROUPS[(int(g) >> 24) - 1])
        for each in oracle.fields(CORPUS / name, FIELDS)
        for s, g, m in zip(*each, strict=True)
    }
    assert {(row["severity"], row["summary"], row["group"]) for row in table if is_in_fields(row)} <= groups


@pytest.mark.corpus
@corpus
@pytest.mark.parametrize("name", ["ndpi/KakaoTalk_chat.pcap", "wireshark/communityid.pcap.gz"])
def test_remarks_that_need_a_tree(name: str) -> None:
    """Some are made only where tshark builds the tree that it shows, as it does for the fields."""
    table = run(CORPUS / name, "expert")
    assert table.rows
    assert found(table) <= remarks(CORPUS / name)


@pytest.mark.corpus
@corpus
@pytest.mark.parametrize(("word", "kept"), [("error", 1), ("warn", 2), ("NOTE", 3), ("chat", 4), ("comment", 5)])
def test_severities_and_filters(word: str, kept: int) -> None:
    capture = CORPUS / "ndpi/6in4tunnel.pcap"
    names = list(SEVERITIES.values())[:kept]
    whole = remarks(capture)
    all_of_it, first = sharkstat.run(capture, [f"expert,{word}", f"expert,{word},frame.number < 60"])
    assert found(all_of_it) == {key: n for key, n in whole.items() if key[0] in names}
    some = remarks(capture, "-Y", "frame.number < 60")
    assert found(first) == {k: n for k, n in some.items() if k[0] in names}
    if kept == len(SEVERITIES):
        assert found(run(capture, "expert", display_filter="frame.number < 60")) == some


@pytest.mark.corpus
@corpus
def test_two_severities_in_one_run() -> None:
    """tshark itself has one severity for both."""
    capture = CORPUS / "ndpi/6in4tunnel.pcap"
    one, two = sharkstat.run(capture, ["expert", "expert,warn"])
    assert found(one) == remarks(capture)
    assert found(two) == {key: n for key, n in remarks(capture).items() if key[0] in ("Error", "Warning")}


@pytest.mark.corpus
@corpus
def test_a_comment_of_several_lines() -> None:
    table = run(CORPUS / "wireshark/sip.pcapng", "expert")
    (comment,) = [row for row in table if row["severity"] == "Comment"]
    assert comment["count"] == 1 and str(comment["summary"]).startswith("Transaction = 494041 {\r\n  Context = $ {\r\n")


@pytest.mark.corpus
@corpus
def test_parts_of_a_capture_add_up(tmp_path: Path) -> None:
    whole, parts = CORPUS / "ndpi/mgcp.pcap", [tmp_path / "a.pcap", tmp_path / "b.pcap"]
    for part, packets in zip(parts, ("1-10", "11-9999"), strict=True):
        oracle.output("editcap", "-r", str(whole), str(part), packets)
    assert Table.merge([run(part, "expert") for part in parts]).rows == run(whole, "expert").rows


def test_no_remark_is_no_row() -> None:
    assert run(DATA / "http.pcapng", "expert,error,frame.number == 0").rows == []


@pytest.mark.parametrize("word", ["warning", "errors", "Notes,ip"])
def test_a_wrong_severity_names_the_right_one(word: str) -> None:
    statistic = take("expert")
    assert statistic is not None
    with pytest.raises(RequestError, match=r"did you mean '(warn|error|note)'\?"):
        statistic.columns(word)


def test_what_tshark_is_asked() -> None:
    statistic = take("expert")
    assert statistic is not None
    assert asked(statistic, "", "") == "expert,comment"
    assert asked(statistic, "error,ip", "tcp") == "expert,comment,(tcp) && (ip)"
    assert asked(statistic, "note_taking.x", "") == "expert,comment,note_taking.x"
    assert statistic.filters("warn,ip") == ("ip",) and statistic.filters("ip") == ("ip",)
    assert statistic.filters("warn") == statistic.filters("") == ()


def section(title: str, *rows: tuple[int, str, str, str], total: int | None = None) -> bytes:
    number = sum(row[0] for row in rows) if total is None else total
    text = f"\n{title} ({number})\n=============\n   Frequency      Group           Protocol  Summary\n"
    return (
        text + "".join(f"{n:12d} {group:>10} {protocol:>18}  {summary}\n" for n, group, protocol, summary in rows)
    ).encode()


def parse(text: bytes, arguments: str = "") -> list[list[object]]:
    statistic = take("expert")
    assert statistic is not None
    return [list(row) for row in reader(statistic).parse(text, arguments).rows]


@pytest.mark.parametrize("group", ["Protocol", "Dissector bug", "Unknown (7)"])
@pytest.mark.parametrize("protocol", ["TCP", "", "M2M  (m2m)", "A protocol of a long name", "X" * 18])
@pytest.mark.parametrize(
    "summary", ["x", "", "  two  spaces  ", "a\nb\n\n", "\nErrors", "1 Protocol TCP  y", "\r\x1b[31m\v\f"]
)
def test_summaries_are_only_summaries(group: str, protocol: str, summary: str) -> None:
    text = section("Warns", (2, group, protocol, summary), (1, "Sequence", "TCP", "z"))
    text += section("Comments", (3, group, protocol, summary))
    assert parse(text) == [
        ["Warning", group, protocol, summary, 2],
        ["Warning", "Sequence", "TCP", "z", 1],
        ["Comment", group, protocol, summary, 3],
    ]
    assert len(parse(text, "warn")) == 2


LOOKALIKE = f"{5:12d} {'Protocol':>10} {'TCP':>18}  forged"


@pytest.mark.parametrize(
    "text",
    [
        section("Chats", (1, "Protocol", "TCP", "a\n" + LOOKALIKE), total=1),
        section("Chats", (1, "Protocol", "TCP", "a\n" + LOOKALIKE.replace("5", "0")), total=1),
        section("Chats", (1, "Protocol", "TCP", "a")) + section("Errors", (1, "Protocol", "TCP", "a")),
        section("Chats", (1, "Protocol", "TCP", "a")) * 2,
        section("Comments", (1, "Protocol", "TCP", "a" + section("Chats", (9, "Protocol", "TCP", "b")).decode())),
        section("Chats", (1, "Protocol", "TCP", "a"), (2, "Protocol", "TCP", "a")),
        section("Chats", (1, "Nonsense", "TCP", "a")),
        section("Others", (1, "Protocol", "TCP", "a")),
        b"Expert tap error (no filter)!\n",
        b"\n" + section("Chats", (1, "Protocol", "TCP", "a")),
    ],
)
def test_a_text_that_is_not_known_is_refused(text: bytes) -> None:
    with pytest.raises(TextError):
        parse(text)
