"""A saved result read back is the table that was saved, to the nanosecond, and anything else is refused in a line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.command import DATA

import sharkstat
from sharkstat import Column, Reading, SourceError, Table, Type
from sharkstat.tables.export import to_json, to_jsonl
from sharkstat.tables.saved import tables_of

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TIMES = st.integers(-(2**70), 2**70)  # beyond the years that a date can have, too
VALUES: dict[str, st.SearchStrategy[object]] = {
    **dict.fromkeys(("text", "address"), TEXT),
    "integer": st.integers(),
    "number": st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
    "boolean": st.booleans(),
    "time": TIMES,
    "duration": TIMES,
    "path": st.lists(TEXT, max_size=3).map(tuple),
    "set": st.sets(TEXT, max_size=3).map(sorted).map(tuple),
}
KINDS: tuple[Type, ...] = get_args(Type)
COLUMNS = tuple(
    replace(
        Column(kind, kind, unit="bytes", title="", description="What it is"),
        role="key" if number < 3 else "measure",
        merge="" if number < 3 else "union" if kind == "set" else "max",
        shown=kind != "boolean",
        approximate=kind == "number",
        local="always" if kind == "time" else "",
    )
    for number, kind in enumerate(KINDS)
)


@given(
    rows=st.lists(st.fixed_dictionaries({c.name: st.one_of(st.none(), VALUES[c.type]) for c in COLUMNS}), max_size=4),
    start=st.one_of(st.none(), TIMES),
    names=st.dictionaries(TEXT, TEXT, max_size=2),
)
def test_every_type_and_all_that_json_holds_come_back(
    rows: list[sharkstat.Row], start: int | None, names: dict[str, str]
) -> None:
    reading = Reading(
        ("a.pcap", "b"), 3, 180, start, start, None, "tcp", "port 80", 3, 0, 2, 1_500_000_001, 1, 4, "UTC+1"
    )
    mean = Column("mean", "number", "percent", "derived", title="A\nmean", ratio=("integer", "number"))
    both = Column("both", "number", role="derived", title="Both", sum_of=("integer", "number"), numbering="tcp")
    empty = {"mean": None, "both": None}
    table = Table("a,b", "A title", "a,b,c", (*COLUMNS, mean, both), [{**row, **empty} for row in rows])
    table = replace(table, engine="lua", tshark="4.4.0", complete=False, reading=reading, warnings=["w"], names=names)
    table.omitted = 7
    for write in (to_json, to_jsonl):
        assert tables_of("".join(write([table, table]))) == [table, table]


def test_results_saved_by_the_hour_merge_into_what_the_whole_would_give(tmp_path: Path) -> None:
    requests = ["conv,tcp", "io,stat,1", "http_req,tree", "tcp,servers"]
    parts = [sharkstat.run(DATA / f"story-{part}.pcapng", requests) for part in ("before", "after")]
    for number, tables in enumerate(parts):
        (tmp_path / f"{number}.json").write_text("".join(to_json(tables)))
    again = [sharkstat.read(tmp_path / f"{number}.json") for number in (0, 1)]
    for fresh, saved in zip(zip(*parts, strict=True), zip(*again, strict=True), strict=True):
        if fresh[0].name == "io,stat":
            continue  # they do not start a whole number of intervals apart
        assert Table.merge(list(saved)).rows == Table.merge(list(fresh)).rows
        assert Table.merge([fresh[0], saved[1]]).rows == Table.merge(list(fresh)).rows


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{}", "neither a table nor a row"),
        ("", "it holds no table"),
        ("no json", "line 1 is not JSON"),
        ('{"schema": 2, "tables": []}', "schema is 2"),
        ('{"schema": 1, "tables": [{}]}', "lacks"),
        ('{"schema": 1, "tables": 1}', "tables is not a list"),
        ("VALUE", "packets is 'many'"),
        ("TIME", "is not a saved result"),
    ],
)
def test_what_is_no_saved_result_is_refused_in_a_line(text: str, word: str, tmp_path: Path) -> None:
    document = json.loads("".join(sharkstat.run(DATA / "dns.pcapng", "conv,udp")[0].to_json()))
    row = document["tables"][0]["rows"][0]
    if text in ("VALUE", "TIME"):
        row.update(packets="many") if text == "VALUE" else row.update(start="yesterday")
        text = json.dumps(document)
    path = tmp_path / "saved.json"
    path.write_text(text)
    with pytest.raises(SourceError, match="is not a saved result") as caught:
        sharkstat.read(path)
    assert word in str(caught.value) and "\n" not in str(caught.value)


def test_a_capture_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"dns.pcapng is not a saved result"):
        sharkstat.read(DATA / "dns.pcapng")
    with pytest.raises(SourceError, match="No such file"):
        sharkstat.read(tmp_path / "none.json")


def test_a_result_of_a_version_that_kept_other_sets_is_not_merged() -> None:
    [table] = sharkstat.run(DATA / "dns.pcapng", ["group,by=ip.src,distinct=dns.qry.name"])
    older = [replace(c, merge="union") if c.merge == "distinct" else c for c in table.columns]
    assert older != list(table.columns)
    with pytest.raises(sharkstat.MergeError, match="different columns; if another version of sharkstat"):
        Table.merge([table, replace(table, columns=tuple(older))])
