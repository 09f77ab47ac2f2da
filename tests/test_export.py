"""Every output format holds what the tables hold, and no packet can forge a line of it."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests import oracle
from tests.command import DATA, PROJECT, requests, sharkstat

import sharkstat as library
from sharkstat import Column, Table
from sharkstat.tables import view
from sharkstat.tables.export import TextExporter, built_in, time_text

STATISTICS = ["io,stat,0.01,tcp,AVG(tcp.len)", "conv,tcp", "endpoints,ip", "http_req,tree"]
HOSTILE = {
    "escape": b"\x1b[31mred\x1b]0;title\x07",
    "columns": b"a\tb\tc",
    "return": b"x\rfake 1 2 3",
    "pipes": b"a | 9,999 | b",
    "html": b"<script>alert(1)</script>&lt;",
    "commas": b"a,\"b\",'c'",
    "bidi": "a\u202egnp.exe\u2066b\u2069".encode(),
    "c1": "a\u009b31mb".encode(),
    "lines": "a\u2028b\u2029c\u0085d".encode(),
    "not utf-8": b"a\xff\xfe\xc3b",
    "like no utf-8": rb"a\xff\xfe\xc3b",
    "like the rest": b"(other)",
    "like a backslash": rb"a\x5cxff\XFF",
    "latex": b"\\input{/etc/passwd}$x$%_#",
    "formula": b"=1+1",
    "formula, defused": b"'=1+1",
    "at": b"@SUM(A1)",
    "image": b"![x](http://192.0.2.9/x)",
    "emphasis": b"**a** _b_ ~~c~~ # d",
    "backticks": b"`a``b```",
    "autolink": b"http://www.example.com/?a=b",
    "invisible": "a\xad\u034f\u180e\u206a\u2800\u3164\ufe0f\U000e0041b".encode(),
    "backslash": b"a\\tb\\",
    "separators": b"a\x1fb\x1ec\x00d",
    "zero width": "a\u200bb\ufeffc".encode(),
    "branches": "├─ b".encode(),
    "slash": b"../a/b",
    "long": b"a" * 3000,
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "hostile.pcap"
    path.write_bytes(requests(*((text, b"/" + text) for text in HOSTILE.values())))
    return path


@pytest.fixture(scope="module")
def results() -> list[Table]:
    return library.run(DATA / "http.pcapng", STATISTICS)


def printed(capture: Path, style: str, *options: str) -> str:
    asked = [word for request in STATISTICS for word in ("-z", request)]
    done = sharkstat("run", capture, *asked, "--format", style, *options)
    assert done.returncode == 0 and all("U+FFFD" in line for line in done.stderr.splitlines())
    return done.stdout


def exact(column: dict[str, str], value: Any) -> Any:
    """A value of the JSON layout as the Python API has it."""
    if value is None:
        return None
    if column["type"] == "path":
        return tuple(value)
    if column["type"] in ("time", "duration"):
        return nanoseconds(value)
    return value


def nanoseconds(value: str) -> int:
    from datetime import datetime, timezone

    if "T" in value:
        whole, _, rest = value.rstrip("Z").partition(".")
        moment = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
        return int(moment.timestamp()) * 10**9 + int(rest)
    sign, value = (-1, value[1:]) if value.startswith("-") else (1, value)
    whole, _, rest = value.partition(".")
    return sign * (int(whole) * 10**9 + int(rest.ljust(9, "0") or 0))


def test_json_is_the_python_values_exactly(results: list[Table]) -> None:
    text = printed(DATA / "http.pcapng", "json")
    document = json.loads(text, parse_float=str)
    assert document["schema"] == 1 and document["generator"] == "sharkstat"
    for table, found in zip(results, document["tables"], strict=True):
        assert (found["name"], found["title"], found["request"]) == (table.name, table.title, table.request)
        assert (found["engine"], found["tshark"], found["complete"]) == ("lua", table.tshark, True)
        assert [(c["name"], c["type"], c["unit"], c["role"]) for c in found["columns"]] == [
            (c.name, c.type, c.unit, c.role) for c in table.columns
        ]
        read = found["read"]
        assert (read["packets"], read["bytes"]) == (table.reading.packets, table.reading.bytes)
        assert nanoseconds(read["first"]) == table.reading.first
        for column in found["columns"]:
            mine = [exact(column, _number(column, row[column["name"]])) for row in found["rows"]]
            assert mine == table[column["name"]], column["name"]
    keys = [
        "name",
        "title",
        "request",
        "engine",
        "tshark",
        "complete",
        "capped",
        "omitted",
        "warnings",
        "read",
        "columns",
    ]
    assert [list(found) for found in document["tables"]] == [[*keys, "names", "rows"]] * len(results)


def _number(column: dict[str, str], value: Any) -> Any:
    """Numbers were kept as their digits; durations stay so."""
    if column["type"] == "duration" and value is not None:
        return str(value)
    return float(value) if column["type"] == "number" and isinstance(value, str) else value


def test_a_packet_that_says_other_is_not_the_row_of_all_others(tmp_path: Path) -> None:
    path = tmp_path / "other.pcap"
    path.write_bytes(requests((b"h", b"(other)"), (b"h", b"/b"), (b"h", b"/c")))
    (table,) = library.run(path, "http,requests,max=1")
    assert {(row["path"], row["requests"]) for row in table} == {(r"\x28other)", 1), ("(other)", 2)}


@pytest.mark.parametrize("engine", ["lua", "packets"])
def test_every_byte_of_a_packet_survives_json(hostile: Path, engine: str) -> None:
    """tshark ends a host at a NUL, and finds none where a carriage return is in it."""
    document = json.loads(printed(hostile, "json", "--engine", engine))
    paths = [row["path"] for row in document["tables"][-1]["rows"]]
    hosts = [library.bytes_of(path[1]) for path in paths if len(path) == 2]
    whole = [host.partition(b"\0")[0] for host in HOSTILE.values() if b"\r" not in host]
    if oracle.version() >= (4, 4):  # which replaces each byte beyond ASCII
        whole = [re.sub(rb"[\x80-\xff]", "\ufffd".encode(), host) for host in whole]
        assert any("U+FFFD" in text for text in document["tables"][-1]["warnings"])
    assert sorted(hosts) == sorted(set(whole))


def test_jsonl_has_a_line_a_row() -> None:
    document = json.loads(printed(DATA / "http.pcapng", "json"))
    lines = [json.loads(line) for line in printed(DATA / "http.pcapng", "jsonl").splitlines()]
    for number, table in enumerate(document["tables"]):
        (head,) = [line for line in lines if line["type"] == "table" and line["table"] == number]
        assert head["schema"] == 1 and head["columns"] == table["columns"] and head["read"] == table["read"]
        rows = [line for line in lines if line["type"] == "row" and line["table"] == number]
        assert [{k: v for k, v in row.items() if k not in ("type", "table")} for row in rows] == table["rows"]


def unescaped(text: str) -> str:
    """Undo the escapes of CSV and TSV, but for \\xNN and \\uNNNN, which stand for themselves in the text of `safe`."""
    plain = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r", "\\/": "/"}

    def one(match: re.Match[str]) -> str:
        found = match.group()
        return plain.get(found) or chr(int(found[2:], 16))

    return re.sub(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|[\\tnr/])", one, text)


@pytest.mark.parametrize(("style", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_csv_and_tsv_can_be_read_back(style: str, delimiter: str, hostile: Path) -> None:
    for table in library.run(hostile, STATISTICS):
        done = sharkstat("run", hostile, "-z", table.request, "--format", style)
        head, *rows = csv.reader(io.StringIO(done.stdout, newline=""), delimiter=delimiter)
        assert [unescaped(name) for name in head] == [c.name for c in table.columns]
        assert len(rows) == len(table.rows) == len(done.stdout.splitlines()) - 1
        for at, column in enumerate(table.columns):
            texts = [row[at] for row in rows]
            found: list[Any]
            if column.type == "path":
                found = [tuple(map(unescaped, SLASH.split(text))) for text in texts]
            elif column.type in ("time", "duration"):
                found = [nanoseconds(text) if text else None for text in texts]
            elif column.type == "integer":
                found = [int(text) if text else None for text in texts]
            elif column.type == "number":
                found = [float(text) if text else None for text in texts]
            else:
                found = [unescaped(text) for text in texts]
            assert found == table[column.name], column.name


def test_a_spreadsheet_runs_no_text(hostile: Path) -> None:
    asked = ("run", hostile, "-z", "http,requests", "--columns", "host,path", "--format", "csv")
    plain, raw = (list(csv.reader(io.StringIO(sharkstat(*asked, *option).stdout))) for option in ([], ["--raw"]))
    (table,) = library.run(hostile, "http,requests")
    hosts = [unescaped(row[0]) for row in raw[1:]]
    assert hosts == [host or "" for host in table["host"]] and {"=1+1", "'=1+1", "@sum(a1)"} <= set(hosts)
    shown = [row[0] for row in plain[1:]]
    assert not [text for text in shown if re.match("[=+@-]", text)]
    # An apostrophe less is the text as it was.
    assert [text[1:] if re.match("'+[=+@-]", text) else text for text in shown] == [row[0] for row in raw[1:]]


# A slash that no odd number of backslashes stands before.
SLASH = re.compile(r"(?<=(?<!\\)[^\\])/|(?<=[^\\]\\\\)/")


def test_several_tables_in_csv_are_told_apart() -> None:
    text = printed(DATA / "http.pcapng", "csv")
    assert re.findall("^# (.*): .*http.pcapng$", text, re.MULTILINE) == STATISTICS


STYLES = ["table", *built_in()]


@pytest.fixture(scope="module")
def written(hostile: Path) -> Iterator[dict[str, str]]:
    """The hostile capture in every format, by the exporters themselves."""
    tables = library.run(hostile, STATISTICS)
    texts = {style: "".join(exporter(tables)) for style, exporter in built_in().items()}
    yield {"table": printed(hostile, "table"), **texts}


@pytest.mark.parametrize("style", STYLES)
def test_no_packet_writes_a_control_character(style: str, written: dict[str, str]) -> None:
    text = written[style]
    allowed = "\n\t" if style == "tsv" else "\n"
    bad = {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in allowed}
    assert not bad, bad
    assert "192.0.2.1" in text


@pytest.mark.parametrize("capture", ["http.pcapng", "http_nasty.pcap"])
def test_real_hostile_traffic_writes_no_control_character(capture: str) -> None:
    path = DATA / capture
    if not path.exists():
        path = PROJECT.parent / "shared" / "captures" / "made" / capture
    if not path.exists():
        pytest.skip(f"{capture} is not here: NOT TESTED")
    tables = library.run(path, [*STATISTICS, "http,tree", "http_srv,tree"])

    def pages(found: Sequence[Table]) -> Iterator[str]:
        return (table._repr_html_() for table in found)

    exporters: dict[str, TextExporter] = {**built_in(), "text": lambda found: map(str, found), "notebook": pages}
    for style, exporter in exporters.items():
        text = "".join(exporter(tables))
        allowed = "\n\t" if style == "tsv" else "\n"
        acting = set(text) - set(allowed)
        assert not [c for c in acting if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")], style
        assert not acting & set("\xa0\xad\u034f\u180e\u206a\u2800\u3164\ufe0f\U000e0041"), style


def test_one_format_is_printed_by_the_command_as_by_the_library(hostile: Path, written: dict[str, str]) -> None:
    for style in ("json", "jsonl", "csv"):  # for those who read, the command adds shares
        assert printed(hostile, style) == written[style]


def test_a_host_name_cannot_forge_a_row_or_a_column(hostile: Path, written: dict[str, str]) -> None:
    (table,) = library.run(hostile, "http_req,tree")
    one = built_in()
    lines = str(table).splitlines()
    assert len(lines) == 3 + len(table)
    assert len({len(line) for line in "".join(one["grid"]([table])).splitlines()[2:]}) == 1
    assert max(map(len, lines)) < 400  # 3,000 letters are cut where people read them


def test_markdown_shows_texts_and_nothing_else(hostile: Path) -> None:
    """As a renderer reads it: each text is a code span, so that no link, image, tag or emphasis comes of it."""
    from markdown_it import MarkdownIt

    (table,) = library.run(hostile, "http,requests")
    table = table.where(lambda row: len(str(row["path"])) < 200)
    laid = view.grid(table)
    at = [column.name for column in laid.columns].index("host")
    for style in ("pipe", "github", "markdown"):
        text = "".join(built_in()[style]([table]))
        tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
        cells = [token for token in tokens if token.type == "inline"][1:]
        assert len(cells) == len(laid.columns) * (1 + len(table))
        for number, cell in enumerate(cells[len(laid.columns) :]):
            row, column = divmod(number, len(laid.columns))
            (child,) = cell.children or []
            assert child.content == laid.rows[row][column]
            assert child.type == "code_inline" or column != at or child.content == "-"


class Cells(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_is_whole_and_escaped(hostile: Path) -> None:
    (table,) = library.run(hostile, "http_req,tree")
    table = table.where(lambda row: len(row["path"]) < 3)  # type: ignore[arg-type]
    table = table.with_rows(table.rows[:20])  # a notebook shows no more

    cells = Cells(table._repr_html_())
    assert cells.open == []
    assert set(cells.tags) <= {"p", "b", "table", "thead", "tbody", "tr", "th", "td"}
    assert cells.tags.count("tr") == 1 + len(table)
    assert "<script>alert(1)</script>" in cells.text
    forged = Table("x", "<b>title</b>", "x,<i>", (Column("<u>", "text"),), [{"<u>": "<s>"}])
    assert set(Cells(forged._repr_html_()).tags) <= {"p", "b", "table", "thead", "tbody", "tr", "th", "td"}
    assert set(Cells(Table("x", "<b>", "<i>", (), [])._repr_html_()).tags) == {"p", "b"}


def test_formats_that_would_let_a_packet_write_markup_are_not_offered() -> None:
    marked = {"rst", "asciidoc", "jira", "mediawiki", "moinmoin", "textile", "youtrack", "orgtbl", "colon_grid"}
    assert not {"unsafehtml", "latex_raw", *marked} & set(built_in())
    for style in ("unsafehtml", "rst"):
        done = sharkstat("run", DATA / "http.pcapng", "-z", "conv,ip", "--format", style)
        assert done.returncode == 2 and f"unknown format '{style}'" in done.stderr


def test_times_are_exact_in_every_year() -> None:
    assert time_text(0) == "1970-01-01T00:00:00.000000000Z"
    assert time_text(-1) == "1969-12-31T23:59:59.999999999Z"
    assert nanoseconds(time_text(4_102_444_800_123_456_789)) == 4_102_444_800_123_456_789


# Where it goes


def test_output_to_a_file_and_to_a_folder(tmp_path: Path) -> None:
    capture = DATA / "http.pcapng"
    whole = printed(capture, "json")
    out = tmp_path / "out.json"
    out.write_text("old")
    out.chmod(0o640)
    assert printed(capture, "json", "--force", "--output", str(out)) == ""
    assert out.read_text() == whole
    assert out.stat().st_mode & 0o777 == 0o640
    folder = tmp_path / "folder"
    assert printed(capture, "json", "--output", f"{folder}/") == ""
    assert sorted(p.name for p in folder.iterdir()) == [
        "conv_tcp.json", "endpoints_ip.json", "http_req_tree.json", "io_stat_0_01_tcp_AVG_tcp_len.json",
    ]  # fmt: skip
    both = [json.loads(p.read_text())["tables"] for p in folder.iterdir()]
    assert sorted(t["request"] for (t,) in both) == sorted(STATISTICS)
    sharkstat("run", capture, capture, "--per-file", "-z", "conv,ip", "--format", "csv", "--output", folder)
    head, *lines = (folder / "conv_ip.csv").read_text().splitlines()
    half = len(lines) // 2
    assert head.startswith("file,") and lines[:half] == lines[half:] != []
    assert sorted(tmp_path.iterdir()) == [folder, out]


def test_results_are_utf_8_whatever_the_locale_says(tmp_path: Path) -> None:
    done = sharkstat("run", DATA / "http.pcapng", "-z", "conv,tcp", env={"PYTHONIOENCODING": "latin-1", "LC_ALL": "C"})
    assert done.returncode == 0 and "A → B" in done.stdout
