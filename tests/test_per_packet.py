"""diameter,avp sv proto,colinfo smb,sids, against the fields of the packets."""

from __future__ import annotations

import pytest
from tests import oracle
from tests.measure import CORPUS, DATA

import sharkstat
from sharkstat import RequestError, TextError
from sharkstat_plugins.per_packet import ColumnInfo, DiameterAvp, SampledValues, SmbSids

corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the captures beside the checkout")
DIAMETER = CORPUS / "ndpi" / "diameter.pcap"


@corpus
@pytest.mark.corpus
def test_diameter_messages_have_their_avps() -> None:
    names = ["Session-Id", "Origin-Host", "CC-Request-Type"]
    wanted = ["frame.number", "frame.time_epoch", "ip.src", "ip.dst", *(f"diameter.{name}" for name in names)]
    truth = oracle.fields(DIAMETER, wanted, "-Y", "diameter.cmd.code == 272")
    rows = sharkstat.run(DIAMETER, f"diameter,avp,272,{','.join(names)}")[0].rows
    assert len(rows) == len(truth) > 0
    for row, (number, time, source, destination, *values) in zip(rows, truth, strict=True):
        assert [str(row["packet"]), row["source"], row["destination"]] == [number[0], source[0], destination[0]]
        assert abs(row["time_since_1970"] - oracle.nanoseconds(time[0])) <= 500  # type: ignore[operator]
        assert [row[name] for name in names[:2]] == [", ".join(value) for value in values[:2]]
        assert values[2][0] in str(row[names[2]])
    requests = [row["packet"] for row in rows if row["request"]]
    assert [row["request_packet"] for row in rows if not row["request"]] == requests
    assert sharkstat.run(DIAMETER, "diameter,avp,257")[0].rows == []


LINE = (
    "frame='1' time='1.000000' src='10.0.0.1' srcport='1' dst='10.0.0.2' dstport='2' proto='diameter' msgnr='0' "
    "is_request='1' cmd='272' req_frame='1' ans_frame='0' resp_time='0.000000' Session-Id='a=b' Session-Id='c' \n"
)
SUMMARY = "=== Diameter Summary ===\nrequest count:\t1\nanswer count:\t0\nreq/ans pairs:\t0\n"


def test_a_diameter_message_is_read_whole() -> None:
    found = DiameterAvp().parse((LINE + SUMMARY).encode(), "0,Session-Id")
    assert found.columns[-1].name == "Session-Id"
    assert list(found.rows[0]) == [
        *(1, 0, 10**9, "10.0.0.1", 1, "10.0.0.2", 2, True, 272, 1, None, None, "a=b, c"),
    ]
    assert DiameterAvp().parse(SUMMARY.replace("1", "0").encode(), "").rows == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        LINE,
        SUMMARY,
        LINE + LINE.replace("frame='1'", "frame='2'") + SUMMARY,  # a row that tshark did not count
        LINE + LINE + SUMMARY.replace("count:\t1", "count:\t2"),
        LINE.replace("a=b", "a'b") + SUMMARY,
        LINE.replace("a=b", "a\nb") + SUMMARY,
        LINE + SUMMARY + SUMMARY,
    ],
)
def test_other_diameter_texts_are_not_read(text: str) -> None:
    with pytest.raises(TextError):
        DiameterAvp().parse(text.encode(), "0,Session-Id")


def test_diameter_arguments_are_checked() -> None:
    assert DiameterAvp().filters("272,Session-Id,diameter.flags.request") == (
        "diameter.Session-Id",
        "diameter.flags.request",
    )
    for arguments in ("Session-Id", "272,", "272,A,A"):
        with pytest.raises(RequestError):
            DiameterAvp().columns(arguments)


@corpus
@pytest.mark.corpus
def test_sampled_values_are_the_counters() -> None:
    capture = CORPUS / "made" / "sv.pcap"
    truth = oracle.fields(capture, ["frame.time_relative", "sv.smpCnt"], "-Y", "sv")
    table = sharkstat.run(capture, "sv")[0]
    start = table.reading.start or 0
    told = [(row["time"], str(row["sample"])) for row in table.rows]
    assert told == [(start + oracle.nanoseconds(time[0]), count) for time, counts in truth for count in counts] != []


def test_samples_have_a_column_a_value() -> None:
    found = SampledValues().parse(b"0.000000 1 -5 7 \n0.000250 2 \n", "")
    assert [column.name for column in found.columns] == ["number", "time", "sample", "value_1", "value_2"]
    assert [list(row) for row in found.rows] == [[1, 0, 1, -5, 7], [2, 250_000, 2, None, None]]
    for text in (b"0.0 1 \n", b"0.000000 1\n", b"0.000000 1 x \n", b"0.000000 1 "):
        with pytest.raises(TextError):
            SampledValues().parse(text, "")


@pytest.mark.parametrize("field", ["tcp.port", "http.host", "tcp.options.timestamp.tsval"])
def test_field_values_are_those_of_the_packets(field: str) -> None:
    capture = DATA / "http.pcapng"
    truth = oracle.fields(capture, ["frame.number", "frame.time_relative", field], "-Y", f"tcp && {field}")
    table = sharkstat.run(capture, f"proto,colinfo,tcp,{field}")[0]
    start = table.reading.start or 0
    told = [[str(row["packet"]), row["time"], row["value"]] for row in table.rows]
    assert told == [  # -T fields escapes tabs
        [number[0], start + oracle.nanoseconds(time[0]), ", ".join(values).replace(r"\t", "\t")]
        for number, time, values in truth
    ]


def test_field_arguments_are_checked() -> None:
    assert ColumnInfo().filters("tcp.port in {1,2},tcp.len") == ("tcp.port in {1,2}", "tcp.len")
    for arguments in ("", "tcp", "tcp,", "tcp,a b"):
        with pytest.raises(RequestError):
            ColumnInfo().columns(arguments)


def test_smb_sids_says_what_to_take() -> None:
    with pytest.raises(RequestError, match=r"proto,colinfo,nt\.sid,nt\.sid"):
        SmbSids().columns("")
