"""The header of a tap's file and its parameters: the same to sharkstat, in Python, and to the library, in Lua."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.command import DATA, PROJECT

from sharkstat.errors import RequestError
from sharkstat.statistics.parameter import Parameter, duration, read_arguments
from sharkstat.statistics.tapfile import TapFile
from sharkstat.tables.column import Column
from sharkstat.tshark.process import find_tshark
from sharkstat.tshark.workspace import Workspace

EXAMPLE = PROJECT / "docs" / "examples" / "dns_slow.lua"
LUA = PROJECT / "lua" / "sharkstat_lua"

PARAMETERS = (
    Parameter("over", "duration", "100ms"),
    Parameter("top", "integer", "10"),
    Parameter("share", "number"),
    Parameter("all", "boolean", "no"),
    Parameter("by", "text", "host", choices=("host", "name")),
    Parameter("key", "field", "ip.src"),
    Parameter("note", "text"),
)
AS_LINES = (
    "over duration 100ms",
    "top integer 10 how many",
    "share number",
    "all boolean no",
    "by host|name host",
    "key field ip.src",
    "note text - anything",
)

# Reads each text with the library's own reader, and writes what it makes of it: only Lua's answer is here.
READER = """
local sharkstat = require "sharkstat"
local run = {}
sharkstat.register = function(statistic) run.statistic = statistic end
sharkstat.tap(HEADER, function() end)
local function quoted(text)
  return '"' .. text:gsub('[%c"\\\\\\127-\\255]', function(c) return ("\\\\u%04x"):format(c:byte()) end) .. '"'
end
local function value(one)
  if type(one) == "string" then return quoted(one) end
  if type(one) == "number" then return ("%.17g"):format(one) end
  return tostring(one)
end
for line in io.lines(TEXTS) do
  local text = line:gsub("%x%x", function(hex) return string.char(tonumber(hex, 16)) end)
  local fine, values, rest = pcall(sharkstat.read_arguments, "x,y", text, run.statistic.parameters)
  local parts = {}
  if fine then
    for _, parameter in ipairs(run.statistic.parameters) do
      local given = values[parameter.name]
      parts[#parts + 1] = quoted(parameter.name) .. ":" .. (given == nil and "null" or value(given))
    end
    print("{" .. table.concat(parts, ",") .. "}\\t" .. quoted(rest))
  else
    print("error\\t" .. quoted(tostring(values)))
  end
end
"""


def in_lua(texts: Sequence[str], parameters: Sequence[str] = AS_LINES) -> list[tuple[dict[str, object], str] | None]:
    """What the Lua library reads from each text; None for an error."""
    header = "-- name: x,y\n-- title: X\n-- column: a text key\n" + "".join(f"-- parameter: {p}\n" for p in parameters)
    with Workspace(find_tshark()) as workspace:
        folder = workspace.readable(LUA, "taps")
        values = {
            "HEADER": workspace.write("header.lua", header),
            "TEXTS": workspace.write("texts", "".join(text.encode().hex() + "\n" for text in texts)),
        }
        given = "".join(f"local {name} = {json.dumps(str(path))}\n" for name, path in values.items())
        script = workspace.write(
            "reader.lua", f"package.path = {json.dumps(str(folder / '?.lua'))} .. ';' .. package.path\n{given}{READER}"
        )
        capture = workspace.readable(DATA / "empty.pcap", "empty.pcap")
        process = workspace.start(
            [workspace.tshark.path, "-q", "-r", str(capture), "-X", f"lua_script:{script}"], stdout=-1
        )
        out, err = process.communicate(timeout=60)
    assert not err.strip(), err.decode()

    def text_of(quoted: str) -> str:
        return str(json.loads(quoted)).encode("latin-1").decode()

    read: list[tuple[dict[str, object], str] | None] = []
    for line in out.decode().splitlines():
        first, rest = line.split("\t")
        if first == "error":
            read.append(None)
            continue
        found = json.loads(first)
        texts_of = {k: v.encode("latin-1").decode() if isinstance(v, str) else v for k, v in found.items()}
        read.append((texts_of, text_of(rest)))
    assert len(read) == len(texts)
    return read


def in_python(text: str) -> tuple[dict[str, object], str] | None:
    try:
        values, rest = read_arguments("x,y", text, PARAMETERS)
    except RequestError:
        return None
    return dict(values), rest


NUMBERS = ["1", "-3", "+4", "1.5", ".5", "5.", "1e3", "0x1f", "inf", "250us", "3 ms", "2µs", "1.25h", "5 d"]
OTHERS = ["under", "host", "yes", "No", "tcp.port", "==", "=", "~", ",", " ", "\t", "é", "\u2003", "ip.addr == 1.2.3.4"]
WORDS = st.sampled_from([*(p.name for p in PARAMETERS), *NUMBERS, *OTHERS])
PAIRS = st.builds("{}={}".format, st.sampled_from([*(p.name for p in PARAMETERS), "x"]), WORDS)
ARGUMENTS = st.one_of(
    st.lists(WORDS, max_size=8).map("".join),
    st.lists(PAIRS, max_size=5).map(",".join),
    st.builds("{},{}".format, st.lists(PAIRS, max_size=3).map(",".join), WORDS),
)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@example(["over=1s,udp", "over=100,top=3", "by=name", "by=other", "top=1_000", "share=nan", "all=YES", "over=1.5min,"])
@example(["over = 5 ms , dns", "key=ip.dst,key=ip.src", "over==1", "ip.addr=1.2.3.4", "note=a b c,tcp", "note=", "tcp"])
@given(st.lists(ARGUMENTS, min_size=40, max_size=80))
def test_lua_and_python_read_the_same_arguments(texts: list[str]) -> None:
    for text, lua in zip(texts, in_lua(texts), strict=True):
        assert lua == in_python(text), repr(text)


def test_arguments() -> None:
    assert read_arguments("x,y", "over=250us,top=3,ip.addr == 192.0.2.1", PARAMETERS[:2]) == (
        {"over": 250_000, "top": 3},
        "ip.addr == 192.0.2.1",
    )
    assert read_arguments("x,y", "frame.len=7", PARAMETERS[:1]) == ({"over": 100_000_000}, "frame.len=7")
    assert (duration("0.5ns"), duration("1.5 min")) == (1, 90 * 10**9)
    for text in ("under=1s", "over=1s,over=2s", "over=soon", "top=1.5", "by=port", "all=perhaps"):
        with pytest.raises(RequestError, match=r"^x,y"):
            read_arguments("x,y", text, PARAMETERS)


def test_a_header_with_everything() -> None:
    tap = TapFile(EXAMPLE)
    assert (tap.name, tap.title) == ("dns,slow", "Slow DNS answers")
    assert tap.description == "Which names took long to resolve? Answers that took longer than `over`, by name."
    assert tap.parameters == (Parameter("over", "duration", "100us", "what is slow"),)
    assert tap.usage == "dns,slow[,over=DURATION][,FILTER]"
    assert tap.columns("over=1s,udp") == (
        Column("name", "text", role="key"),
        Column("answers", "integer"),
        Column("total_time", "duration", "seconds", shown=False),
        Column(
            "mean_time",
            "duration",
            "seconds",
            role="derived",
            description="the time from query to answer",
            ratio=("total_time", "answers"),
        ),
    )
    assert list(tap.filters("over=1s,udp")) == ["udp"]


def wrong_headers() -> Iterator[tuple[str, str]]:
    yield "-- parameter: over time 1s", "invalid parameter .*types: text, integer"
    yield "-- parameter: over duration soon", "default of over=soon: give a duration"
    yield "-- parameter: by a|b c", "by=c: choose a or b"
    yield "-- parameter: format text", "cannot be named format"
    yield "-- column: mean number count/none", "column mean: this tap has no measure none"
    yield "-- column: mean number name/count", "column mean: this tap has no measure name"
    yield "-- column: total integer add", "invalid column .*rules: sum"
    yield "-- column: total", "invalid column"
    yield "-- sort: nothing", "invalid sort 'nothing'"
    yield "-- sort: count downwards", "invalid sort 'count downwards'"
    yield "-- order: count", "order must be time or any, not 'count'"
    yield "-- title: again", "'title' occurs twice in the header"


@pytest.mark.parametrize(("line", "reason"), list(wrong_headers()))
def test_a_wrong_line_is_told_with_the_file(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "mine.lua"
    path.write_text(f"-- name: a,b\n-- title: A\n-- column: name text key\n-- column: count integer sum\n{line}\n")
    with pytest.raises(ValueError, match=rf"^mine\.lua: .*{reason}"):
        TapFile(path)


def test_a_header_ends_with_the_comment_and_prose_is_not_of_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.lua"
    path.write_text(
        "-- name: a,b\n-- Some prose between.\n--   and more of the name\n-- title: A\n"
        "-- column: n text key\n\n-- order: no\n"
    )
    assert TapFile(path).name == "a,b and more of the name"
