"""Tables as data frames, and in notebooks: what other libraries read of a table is what the table holds."""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import duckdb
import pandas
import polars
import pyarrow
import pytest
from tests.command import DATA

import sharkstat
from sharkstat import Column, Table


@pytest.fixture(scope="module")
def tables() -> dict[str, Table]:
    requests = ["conv,tcp", "io,stat,1", "http_req,tree", "tcp,servers", "http,requests"]
    return {t.name: t for t in sharkstat.run(DATA / "story-after.pcapng", requests)}


def test_arrow_holds_the_very_values(tables: dict[str, Table]) -> None:
    for table in tables.values():
        arrow = pyarrow.table(table)
        arrow.validate(full=True)
        assert arrow.column_names == [column.name for column in table.columns]
        for column in table.columns:
            values = arrow.column(column.name)
            if column.type in ("time", "duration"):
                values = values.cast(pyarrow.int64())
            found = [tuple(v) if isinstance(v, list) else v for v in values.to_pylist()]
            assert found == table[column.name], column.name


def test_the_fields_say_what_the_columns_are(tables: dict[str, Table]) -> None:
    schema = tables["conv,tcp"].to_arrow().schema
    assert schema.field("bytes").metadata[b"unit"] == b"bytes"
    assert schema.field("address_a").metadata[b"role"] == b"key"
    assert schema.field("start").type == pyarrow.timestamp("ns", "UTC")
    assert schema.field("duration").type == pyarrow.duration("ns")
    assert pyarrow.types.is_dictionary(schema.field("address_a").type)
    assert tables["http_req,tree"].to_arrow().schema.field("path").type == pyarrow.list_(pyarrow.string())
    empty = tables["conv,tcp"].with_rows([]).to_arrow()
    assert empty.schema.equals(schema)
    assert len(empty) == 0


def test_polars_duckdb_and_pandas_take_a_table_as_it_is(tables: dict[str, Table]) -> None:
    table = conversations = tables["conv,tcp"]
    assert polars.DataFrame(table)["bytes"].sum() == table.to_polars()["bytes"].sum() == table.total("bytes")
    found = duckdb.sql("select sum(bytes) from conversations")
    assert found is not None
    assert found.fetchall() == [(conversations.total("bytes"),)]
    frame = table.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["bytes"]) == table["bytes"]
    assert [moment.value for moment in frame["start"]] == table["start"]
    assert str(frame.dtypes["start"]) == "datetime64[ns, UTC]"
    assert str(frame.dtypes["stream"]) == "Int64"


def test_numbers_that_int64_does_not_hold_stay_exact() -> None:
    columns = (Column("sum", "integer"), Column("mean", "number"), Column("seen", "boolean"), Column("at", "time"))
    rows: list[sharkstat.Row] = [
        {"sum": 27670116110564327421, "mean": 0.5, "seen": True, "at": 1_700_000_000_000_000_001},
        {"sum": None, "mean": None, "seen": None, "at": None},
    ]
    arrow = Table("big", "Big", "big", columns, rows).to_arrow()
    assert arrow.column("sum").to_pylist() == [Decimal(27670116110564327421), None]
    assert arrow.column("seen").to_pylist() == [True, None]
    assert arrow.column("mean").to_pylist() == [0.5, None]
    moment: Any = arrow.column("at")[0].as_py()
    assert moment.floor("s") == datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.timezone.utc)
    assert arrow.column("at").cast(pyarrow.int64()).to_pylist() == [1_700_000_000_000_000_001, None]


def test_a_missing_library_says_how_to_have_it(tables: dict[str, Table], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(sharkstat.OutputError, match=r"pip install 'sharkstat\[arrow\]'"):
        tables["conv,tcp"].to_arrow()


def test_sort_top_and_where(tables: dict[str, Table]) -> None:
    table = tables["conv,tcp"]
    assert table.sort("bytes", descending=False)["bytes"] == sorted(table["bytes"])  # type: ignore[type-var]
    top = table.top(1, by="packets")
    assert (top["packets"], top.omitted) == ([max(table["packets"])], 2)  # type: ignore[type-var]
    assert {row["port_b"] for row in table.where(port_b=443)} == {443}
    assert len(table.where(lambda row: row["port_b"] == 80)) == 2
    wrongs: list[Callable[[], Table]] = [
        lambda: table.sort("byte"),
        lambda: table.where(byte=1),
        lambda: table.top(1, by="byte"),
    ]
    for wrong in wrongs:
        with pytest.raises(KeyError, match="no column 'byte'"):
            wrong()
    tree = tables["http_req,tree"].top(1)
    assert [len(row["path"]) for row in tree] == [1, 2, 3]  # type: ignore[arg-type]


def test_a_notebook_shows_the_first_rows(tables: dict[str, Table]) -> None:
    table = tables["conv,tcp"]
    many = table.with_rows([{**table.rows[0], "stream": number} for number in range(6060)])
    page = many._repr_html_()
    assert page.count("<tr>") == 21
    assert "… and 6,040 more rows" in page
    assert len(page) < 20_000
    assert "story-after.pcapng: 243 packets, 135 kB" in page
    assert repr(many) == "<Table 'conv,tcp': 6,060 rows, 14 columns>"
    assert re.search(r"text-align: right[^>]*>66.4 kB<", table._repr_html_())
    assert "└─ store.example.net" in tables["http_req,tree"]._repr_html_()
    hostile = Table("x", "X", "x", (Column("name", "text", role="key"),), [{"name": "<script>\x1b[31m"}])
    assert "&lt;script&gt;\\x1b[31m" in hostile._repr_html_()


def test_dir_has_every_public_name() -> None:
    look = "import sharkstat; print(set(sharkstat.__all__) - set(dir(sharkstat)))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
