"""Plugins in files of their own: found, checked, and never able to take the tool down."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from tests import oracle
from tests.command import DATA, sharkstat, tables

import sharkstat as library

HTTP = DATA / "http.pcapng"

SENT = """
import sharkstat


class Counter(sharkstat.PacketCounter):
    fields = ("ip.src",)

    def __init__(self, filter):
        self.listens = (sharkstat.Listen("ip", filter),)
        self.seen = {}

    def packet(self, packet):
        self.seen[packet.ip.src] = self.seen.get(packet.ip.src, 0) + 1

    def rows(self):
        return self.seen.items()


class Sent(sharkstat.Statistic):
    name = "hosts,sent"
    title = "Packets sent by each host"
    usage = "hosts,sent[,FILTER]"
    engines = (sharkstat.Packets(Counter),)

    def columns(self, arguments):
        return (sharkstat.Column("address", "address", role="key"), sharkstat.Column("packets", "integer", "packets"))


@sharkstat.hookimpl
def register_statistics(register):
    register(Sent())
"""

TAP = """
from pathlib import Path
import sharkstat


class Tapped(sharkstat.Statistic):
    name = title = "tapped"
    engines = (sharkstat.Tap(Path(__file__).with_suffix(".lua")),)

    def columns(self, arguments):
        return (sharkstat.Column("key", "text", role="key"), sharkstat.Column("packets", "integer", "packets"))


@sharkstat.hookimpl
def register_statistics(register):
    register(Tapped())
"""

LUA = """
package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
sharkstat.register {
  name = "tapped",
  title = "tapped",
  columns = { { "key", "text" }, { "packets", "integer" } },
  start = function(run)
    local packets = 0
    run:listen("frame", function(pinfo)
      packets = packets + 1
      %s
    end)
    return function()
      %s
      run:row { "all", packets }
    end
  end,
}
"""


def plugin(folder: Path, text: str, name: str = "mine") -> Path:
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


def tapped(folder: Path, on_packet: str = "", at_end: str = "") -> Path:
    path = plugin(folder, TAP)
    path.with_suffix(".lua").write_text(LUA % (on_packet, at_end))
    return path


def given(paths: Iterable[Path]) -> list[object]:
    """The options that bring these plugins."""
    return [word for path in paths for word in ("--plugin", path)]


def test_a_plugin_file_brings_a_statistic(tmp_path: Path) -> None:
    path = plugin(tmp_path, SENT)
    (table,) = tables(HTTP, "--plugin", path, "-z", "hosts,sent", "--engine", "packets")
    (known,) = tables(HTTP, "-z", "endpoints,ip")
    assert {row["address"]: row["packets"] for row in table["rows"]} == {
        row["address"]: row["tx_packets"] for row in known["rows"]
    }
    (listed,) = json.loads(sharkstat("list", "--plugin", path, "--format", "json").stdout)["tables"]
    (mine,) = [row for row in listed["rows"] if row["name"] == "hosts,sent"]
    assert (mine["engines"], mine["from"]) == ("packets", str(path))
    assert sharkstat("show", "hosts,sent", "--plugin", path).stdout.startswith(
        "hosts,sent: Packets sent by each host\n"
    )


def test_an_engine_that_a_statistic_has_not_is_told(tmp_path: Path) -> None:
    done = sharkstat("run", HTTP, "--plugin", plugin(tmp_path, SENT), "-z", "hosts,sent", "--engine", "lua")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "sharkstat: hosts,sent has no engine lua: use --engine packets\n"


def test_a_tap_of_a_plugin_runs_inside_tshark(tmp_path: Path) -> None:
    path = tapped(tmp_path)
    (table,) = tables(HTTP, "--plugin", path, "-z", "tapped")
    assert table["rows"] == [{"key": "all", "packets": 204}]


BROKEN = [
    ("1 / 0", "ZeroDivisionError: division by zero"),
    ("import nosuchmodule", "ModuleNotFoundError: No module named 'nosuchmodule'"),
    ("def", "SyntaxError: "),
    ("raise SystemExit(3)", "SystemExit: 3"),
    ("x = 1", "it registers nothing: mark register_statistics with @sharkstat.hookimpl"),
    (
        SENT.replace('"hosts,sent"', '"conv,tcp"'),
        "the statistic conv,tcp is already registered by conversations (shark",
    ),
    (SENT.replace('"hosts,sent"', '""'), "Sent needs a name and a title"),
    (SENT.replace("engines =", "motors ="), "hosts,sent has no engine: set engines = (sharkstat.Packets("),
    (SENT.replace("Packets(Counter),)", "Packets(Counter))"), "set engines = (sharkstat.Packets("),
    (SENT.replace("Packets(Counter),)", "Packets(Counter),) * 2"), "hosts,sent has two engines with the same name"),
]


def test_broken_plugins_are_named_and_the_others_work(tmp_path: Path) -> None:
    paths = [plugin(tmp_path, text, f"broken{number}") for number, (text, _) in enumerate(BROKEN)]
    done = sharkstat("run", DATA / "edges.pcap", *given(paths), "-z", "io,stat,0", "--format", "csv")
    assert (done.returncode, done.stdout) == (0, "start,frames,bytes\n0,5,370\n") or done.stdout.count("\n") == 2
    for line, path, (_, said) in zip(done.stderr.splitlines(), paths, BROKEN, strict=True):
        assert line.startswith(f"sharkstat: plugin {path.stem} ({path})") and said in line


def test_two_plugins_with_one_name_are_told(tmp_path: Path) -> None:
    one, other = plugin(tmp_path, SENT, "one"), plugin(tmp_path, SENT, "other")
    done = sharkstat("list", "--plugin", one, "--plugin", other)
    assert "plugin other" in done.stderr
    assert f"hosts,sent is already registered by one ({one})" in done.stderr


def run_with(path: Path, *more: object) -> tuple[int, str, str]:
    done = sharkstat("run", HTTP, "--plugin", path, "-z", "tapped", "-z", "io,stat,0", "--format", "csv", *more)
    return done.returncode, done.stdout, done.stderr


def test_a_tap_that_fails_at_a_packet_ends_alone(tmp_path: Path) -> None:
    path = tapped(tmp_path, 'if pinfo.number == 5 then error("no more") end')
    status, out, err = run_with(path)
    assert status == 7
    assert out.splitlines()[0].startswith("start,") and "204" in out
    assert err.startswith("sharkstat: tapped failed at packet 5: ") and "no more" in err
    assert f"{path.with_suffix('.lua')}:" in err  # the author's file, not the copy that tshark was given
    assert err.count("\n") == 1
    assert "stack traceback" in run_with(path, "--debug")[2]


def test_a_tap_that_fails_at_its_end_ends_alone(tmp_path: Path) -> None:
    status, out, err = run_with(tapped(tmp_path, at_end='run:row { "all", 1 } error("at the end")'))
    assert (status, err.count("\n")) == (7, 1)
    assert "204" in out and "all" not in out
    assert err.startswith("sharkstat: tapped failed: ") and "at the end" in err


@pytest.mark.parametrize("way", ["os.exit(0)", "os.exit(0, true)"])
def test_a_tap_that_ends_tshark_gives_no_results(way: str, tmp_path: Path) -> None:
    status, out, err = run_with(tapped(tmp_path, at_end=way))
    assert (status, out, err.count("\n")) == (3, "", 1)
    assert "tshark silently stopped early: no results" in err


UNLIKE = [
    ("this is no Lua", "/mine0.lua:1: "),
    ("-- registers nothing", "no tap registers tapped1"),
    (
        LUA.replace('{ "key", "text" }, { "packets", "integer" }', '{ "packets", "integer" }, { "key", "text" }')
        % ("", ""),
        "the tap sends the columns ['packets', 'key'] instead of ['key', 'packets']",
    ),
]


def test_a_tap_that_is_not_what_was_declared(tmp_path: Path) -> None:
    paths = []
    for number, (lua, _) in enumerate(UNLIKE):
        paths.append(plugin(tmp_path, TAP.replace('"tapped"', f'"tapped{number}"'), f"mine{number}"))
        paths[-1].with_suffix(".lua").write_text(lua.replace('"tapped"', f'"tapped{number}"'))
    requests = [word for number in range(len(UNLIKE)) for word in ("-z", f"tapped{number}")]
    done = sharkstat("run", HTTP, *given(paths), *requests, "-z", "io,stat,0", "--format", "csv")
    assert (done.returncode, done.stderr.count("\n")) == (7, 1) and "204" in done.stdout  # the others go on
    assert [said for _, said in UNLIKE if said not in done.stderr] == []


def test_a_tap_file_that_is_missing_is_told(tmp_path: Path) -> None:
    path = tapped(tmp_path)
    path.with_suffix(".lua").unlink()
    status, out, err = run_with(path)
    assert (status, err.count("\n")) == (7, 1) and "204" in out
    assert f"cannot read its tap {path.with_suffix('.lua')}: No such file" in err


def test_a_plugin_brings_a_format(tmp_path: Path) -> None:
    path = plugin(
        tmp_path,
        "import sharkstat\n\n@sharkstat.hookimpl\ndef register_exporters(register):\n"
        "    register('count', lambda tables: (f'{t.name} {len(t)}\\n' for t in tables))\n",
    )
    done = sharkstat("run", HTTP, "--plugin", path, "-z", "io,stat,0", "--format", "count")
    assert (done.returncode, done.stdout, done.stderr) == (0, "io,stat 1\n", "")


def in_folder(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A plugin in the user's plugin folder, and the environment in which it is that."""
    folder = tmp_path / "config" / "sharkstat" / "plugins"
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    (folder / "sent.py").write_text(SENT.replace("hosts,sent", "sent,hosts"))
    return folder, {"XDG_CONFIG_HOME": str(tmp_path / "config")}


def test_a_plugin_in_the_users_folder_is_loaded(tmp_path: Path) -> None:
    folder, env = in_folder(tmp_path)
    (table,) = tables(HTTP, "-z", "sent,hosts", env=env)
    assert table["rows"]
    done = sharkstat("plugins", "--format", "json", env=env)
    rows = {row["plugin"]: row for row in json.loads(done.stdout)["tables"][0]["rows"]}
    assert rows["sent"]["from"] == str(folder / "sent.py")
    assert rows["sent"]["statistics"] == "sent,hosts"
    assert rows["conversations"]["families"] == "conv"
    assert str(folder) in done.stderr


@pytest.mark.parametrize(("options", "more"), [(["--no-plugins"], {}), ([], {"SHARKSTAT_NO_PLUGINS": "1"})])
def test_only_the_built_in_statistics_where_asked(options: list[str], more: dict[str, str], tmp_path: Path) -> None:
    _, env = in_folder(tmp_path)
    done = sharkstat("run", HTTP, *options, "-z", "sent,hosts", env=env | more)
    assert done.returncode == 2
    assert done.stderr.startswith("sharkstat: unknown statistic 'sent,hosts'")
    assert sharkstat("run", HTTP, *options, "-z", "conv,ip", env=env | more).returncode == 0


def test_a_folder_that_others_can_write_to_is_not_trusted(tmp_path: Path) -> None:
    folder, env = in_folder(tmp_path)
    folder.chmod(0o777)
    done = sharkstat("run", HTTP, "-z", "sent,hosts", env=env)
    assert done.returncode == 2
    assert f"plugin folder {folder} " in done.stderr


def test_a_file_that_others_can_write_to_is_not_trusted(tmp_path: Path) -> None:
    folder, env = in_folder(tmp_path)
    mine, other = folder / "sent.py", folder / "other.py"
    other.write_text(SENT.replace("hosts,sent", "other,hosts"))
    other.chmod(0o666)
    if os.geteuid() == 0:
        other.chmod(0o644)
        os.chown(other, 65534, 65534)
    mine.chmod(0o644)
    done = sharkstat("list", "--format", "csv", env=env)
    assert '"sent,hosts"' in done.stdout and "other,hosts" not in done.stdout
    assert done.stderr.startswith(f"sharkstat: plugin file {other} ignored: others can write to it")


def test_plugin_and_no_plugins_contradict_each_other(tmp_path: Path) -> None:
    folder, _ = in_folder(tmp_path)
    done = sharkstat("list", "--no-plugins", "--plugin", folder / "sent.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "sharkstat: --plugin and --no-plugins exclude each other: give only one\n"


def test_why_a_plugin_did_not_load_is_said(tmp_path: Path) -> None:
    path = plugin(tmp_path, "import no_such_module\n")
    done = sharkstat("plugins", "--plugin", path, "--format", "json")
    rows = json.loads(done.stdout)["tables"][0]["rows"]
    (row,) = (row for row in rows if row["from"] == str(path))
    assert row["problem"] == "ModuleNotFoundError: No module named 'no_such_module' (mine.py, line 1)"


def test_nothing_is_loaded_from_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "sent.py").write_text(SENT.replace("hosts,sent", "sent,hosts"))
    metadata = tmp_path / "sent-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: sent\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[sharkstat]\nsent = sent\n")
    look = "from sharkstat import Registry; print('sent,hosts' in Registry.default().statistics)"
    # python -c searches the current directory first.
    for env, found in (({}, "False"), ({"PYTHONPATH": str(tmp_path)}, "True")):
        where = tmp_path if not env else DATA
        done = subprocess.run(
            [sys.executable, "-c", look],
            cwd=where,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == found


def test_loading_the_plugins_imports_no_pyshark() -> None:
    look = "import sys; from sharkstat import Registry; Registry.default(); print('pyshark' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_help_loads_no_plugin(tmp_path: Path) -> None:
    folder, env = in_folder(tmp_path)
    witness = tmp_path / "loaded"
    (folder / "sent.py").write_text(f"open({str(witness)!r}, 'w').close()\n" + SENT.replace("hosts,sent", "sent,hosts"))
    for options in (["--help"], ["run", "--help"], ["--version"], []):
        sharkstat(*options, env=env)
        assert not witness.exists(), options
    look = "import sys; from sharkstat.commands import cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout.split()
    assert not {"sharkstat.statistics.registry", "sharkstat_plugins", "importlib.metadata"} & set(loaded)
    sharkstat("plugins", env=env)
    assert witness.exists()


FAILS = SENT.replace(
    "    def packet(self, packet):\n", "    def packet(self, packet):\n        self.check(packet)\n"
).replace("    def rows(self):", "    def check(self, packet):\n        %s\n\n    def rows(self):")


def test_a_counter_that_fails_at_a_packet_ends_alone(tmp_path: Path) -> None:
    path = plugin(tmp_path, FAILS % "assert packet.number != 5, 'no more'")
    command = ("run", HTTP, "--plugin", path, "-z", "hosts,sent", "-z", "io,stat,0", "--format", "csv")
    done = sharkstat(*command)
    assert done.returncode == 7
    assert done.stdout.splitlines()[0].startswith("start,") and "204" in done.stdout
    assert done.stderr == "sharkstat: hosts,sent failed at packet 5: AssertionError: no more (mine.py, line 17)\n"
    debugged = sharkstat(*command, "--debug")
    assert (debugged.returncode, debugged.stdout) == (7, done.stdout)
    assert f'File "{path}", line ' in debugged.stderr and "in check" in debugged.stderr
    assert debugged.stderr.endswith(done.stderr)


FAILING = [
    (
        "Packets(Counter)",
        "Packets(lambda arguments: Counter())",
        "{name}: the statistic failed to start: TypeError: ",
    ),
    ("def columns(self, arguments)", "def columns(self)", "{name}: the statistic failed to start: TypeError: "),
    ("return self.seen.items()", "return self.unseen", "{name} failed: AttributeError: "),
    ("self.seen = {}", "self.start = 1 / 0", "{name}: the statistic failed to start: ZeroDivisionError: "),
    ("    def rows", "    def begin(self):\n        {}[0]\n\n    def rows", "{name} failed: KeyError: 0"),
]


def changed(folder: Path, changes: Sequence[tuple[str, str, str]]) -> tuple[list[Path], list[str], list[object]]:
    """A plugin for each change of SENT, the names of their statistics, and the options that run them."""
    assert all(old in SENT for old, _, _ in changes)
    names = [f"hosts,sent,{number}" for number in range(len(changes))]
    paths = [
        plugin(folder, SENT.replace(old, new).replace("hosts,sent", name), f"mine{number}")
        for number, (name, (old, new, _)) in enumerate(zip(names, changes, strict=True))
    ]
    return paths, names, [*given(paths), *(word for name in names for word in ("-z", name))]


def test_whatever_of_a_counter_fails_is_told_in_one_line(tmp_path: Path) -> None:
    paths, names, options = changed(tmp_path, FAILING)
    command = ("run", HTTP, *options, "-z", "io,stat,0")
    done = sharkstat(*command)
    assert (done.returncode, done.stderr.count("\n")) == (7, 1) and "204" in done.stdout  # the other one goes on
    debugged = sharkstat(*command, "--debug").stderr
    for path, name, (old, _, said) in zip(paths, names, FAILING, strict=True):
        assert said.format(name=name) in done.stderr
        assert f'File "{path}", line ' in debugged or "columns" in old or "start" in said


def test_whole_packets_are_slow_and_it_is_said_which_line_to_add(tmp_path: Path) -> None:
    path = plugin(tmp_path, SENT.replace('fields = ("ip.src",)', "fields = None"))
    done = sharkstat("run", DATA / "dns.pcapng", "--plugin", path, "-z", "hosts,sent,ip", "--format", "json")
    warning = (
        "hosts,sent,ip: complete packets are slow (some hundred per second): declare in Counter which fields it reads, "
        'e.g. fields = ("ip.src", "tcp.len")'
    )
    assert (done.returncode, done.stderr) == (0, f"sharkstat: {warning}\n")
    (table,) = json.loads(done.stdout)["tables"]
    assert table["warnings"] == [warning]
    (known,) = tables(DATA / "dns.pcapng", "-z", "endpoints,ip")
    assert sum(row["packets"] for row in table["rows"]) == sum(row["tx_packets"] for row in known["rows"])


def test_the_parameters_of_a_statistic_are_shown(tmp_path: Path) -> None:
    tap = lua(tmp_path, ASKED.replace("-- field:", "-- parameter: way up|down up which way\n-- field:", 1))
    declared = plugin(
        tmp_path,
        "import sharkstat\n\nclass Slow(sharkstat.Declared):\n    name = title = 'slow'\n"
        "    parameters = (\n        sharkstat.Parameter('over', 'duration', '100ms', 'what is slow'),\n"
        "        sharkstat.Parameter('host'),\n    )\n"
        "\n@sharkstat.hookimpl\ndef register_statistics(register):\n    register(Slow())\n",
    )
    for path, name, rows in [
        (tap, "dns,asked", [("way", "text", "up", "up, down", "which way")]),
        (declared, "slow", [("over", "duration", "100ms", "", "what is slow"), ("host", "text", "", "", "")]),
    ]:
        shown, columns = json.loads(sharkstat("show", name, "--plugin", path, "--format", "json").stdout)["tables"]
        assert [tuple(row.values()) for row in shown["rows"]] == rows
        assert list(shown["rows"][0]) == ["parameter", "type", "default", "choices", "description"]
        assert columns["title"] == f"Columns of {name}"
    assert "Parameters of slow" in sharkstat("show", "slow", "--plugin", declared).stdout
    assert len(json.loads(sharkstat("show", "io,phs", "--format", "json").stdout)["tables"]) == 1


ASKED = (DATA.parent.parent / "docs" / "examples" / "dns_asked.lua").read_text(encoding="utf-8")
DNS = DATA / "dns.pcapng"


def lua(folder: Path, text: str) -> Path:
    path = folder / "asked.lua"
    path.write_text(text)
    return path


def test_a_taps_file_is_a_plugin_by_itself(tmp_path: Path) -> None:
    path = lua(tmp_path, ASKED)
    (table,) = tables(DNS, "--plugin", path, "-z", "dns,asked,ip")
    asked = oracle.fields(DNS, ("dns.qry.name",), "-Y", "dns.flags.response == 0 && ip")
    assert {row["name"]: row["count"] for row in table["rows"]} == Counter(name for (names,) in asked for name in names)
    columns = [(c["name"], c["type"], c["role"], c["merge"], c["unit"]) for c in table["columns"]]
    assert columns == [("name", "text", "key", "", ""), ("count", "integer", "measure", "sum", "packets")]
    assert "Names asked for" in sharkstat("list", "--plugin", path).stdout


def test_a_taps_file_in_the_users_folder_runs_beside_the_rest_and_merges(tmp_path: Path) -> None:
    folder, env = in_folder(tmp_path)
    lua(folder, ASKED)
    both = tables(DNS, "-z", "dns,asked", "-z", "conv,udp", "-z", "sent,hosts", env=env)
    assert [t["engine"] for t in both] == ["lua", "lua", "packets"]
    assert all(t["rows"] for t in both)
    registry = library.Registry.default([folder / "asked.lua"])
    (one,) = library.run(DNS, "dns,asked", registry=registry)
    merged = library.Table.merge([one, one])
    assert {r["name"]: r["count"] for r in merged.rows} == {r["name"]: 2 * int(str(r["count"])) for r in one.rows}


def test_every_value_of_a_taps_row_arrives_as_it_was(tmp_path: Path) -> None:
    wholes = [0, 7, 7, 999, 1000, 1001, -1, -1000, 2**53 - 1, 1 - 2**53]
    parts = [0.5, -0.25, 1e-9, 0.1, 999.5]
    texts = ["5", "", "a\\b", "tab\tnew\nline\r", "nul\0del\x7fbell\x07", "grüße", "\\N", "\\e", "x" * 300]

    def in_lua(text: str) -> str:
        return '"' + "".join(f"\\{byte:03d}" for byte in text.encode()) + '"'

    path = lua(
        tmp_path,
        "-- name: exact\n-- title: Exact\n-- arguments: none\n-- column: at integer key\n-- column: whole integer sum\n"
        "-- column: part number sum\n-- column: text text key\n"
        'local sharkstat = require "sharkstat"\n'
        f"local wholes, parts = {{ {', '.join(map(str, wholes))} }}, {{ {', '.join(map(str, parts))} }}\n"
        f"local texts = {{ {', '.join(map(in_lua, texts))} }}\n"
        "sharkstat.tap(__FILE__, function(run)\n  run:listen('frame', function() end)\n  return function()\n"
        "    for at = 1, 10 do run:row { at, wholes[at], parts[at], texts[at] } end\n  end\nend)\n",
    )
    (table,) = tables(DNS, "--plugin", path, "-z", "exact")
    for column, values in (("whole", wholes), ("part", parts), ("text", texts)):
        expected = [*values, *[None] * (10 - len(values))]
        assert [row[column] for row in sorted(table["rows"], key=lambda row: row["at"])] == expected


HEADERS = [
    ("-- name: dns,asked\n", "", "the header lacks the required key 'name'"),
    ("-- title: Names asked for\n", "", "the header lacks the required key 'title'"),
    ("-- title: N", "-- titel: N", "unknown key 'titel' in the header; known keys: name, title, "),
    ("-- usage: ", "-- title: ", "'title' occurs twice in the header"),
    (
        "name text key",
        "name string key",
        "invalid column 'name string key': write NAME TYPE RULE [UNIT]",
    ),
    ("count integer sum", "count integer add", "invalid column 'count integer add packets'"),
    (
        "-- field:",
        "-- layer: link\n-- field:",
        "layer must be application, messages, http or transport, not 'link'",
    ),
]


def test_a_bad_header_names_the_file_and_the_fix(tmp_path: Path) -> None:
    paths = []
    for number, (old, new, _) in enumerate(HEADERS):
        paths.append(tmp_path / f"asked{number}.lua")
        paths[-1].write_text(ASKED.replace(old, new, 1))
    done = sharkstat("run", DNS, *given(paths), "-z", "conv,ip")
    assert done.returncode == 0, "the others work"
    for line, path, (_, _, said) in zip(done.stderr.splitlines(), paths, HEADERS, strict=True):
        assert f"{path.name}: {said}" in line


def test_an_error_in_a_taps_file_names_file_and_line_and_ends_it_alone(tmp_path: Path) -> None:
    line = ASKED.splitlines().index("    local name = asked().value") + 1
    path = lua(tmp_path, ASKED.replace("asked().value", "nothing.value"))
    done = sharkstat("run", DNS, "--plugin", path, "-z", "dns,asked", "-z", "io,stat,0", "--format", "csv")
    assert done.returncode == 7
    assert f"asked.lua:{line}:" in done.stderr and done.stderr.startswith("sharkstat: dns,asked failed at packet ")
    assert "frames,bytes" in done.stdout


def test_a_taps_own_complaint_of_its_arguments_is_shown(tmp_path: Path) -> None:
    text = ASKED.replace("-- field:", "-- arguments: text\n-- field:").replace(
        "run.filter = run.arguments", 'error("dns,asked: give a number, not " .. run.arguments, 0)'
    )
    done = sharkstat("run", DNS, "--plugin", lua(tmp_path, text), "-z", "dns,asked,much")
    assert (done.returncode, done.stderr) == (2, "sharkstat: dns,asked: give a number, not much\n")
    text = ASKED.replace("-- field:", "-- arguments: none\n-- field:")
    done = sharkstat("run", DNS, "--plugin", lua(tmp_path, text), "-z", "dns,asked,much")
    assert (done.returncode, done.stderr) == (2, "sharkstat: dns,asked takes no arguments: leave out 'much'\n")


DECLARED = """
import sharkstat


class Mine(sharkstat.Declared):
    name = "mine"
    title = "Mine"
    filter = "ip"
    keys = ("ip.src",)


class Other(sharkstat.Declared):
    name = "other"
    title = "Other"
    filter = "ip"
    keys = ("ip.dst",)


@sharkstat.hookimpl
def register_statistics(register):
    register(Mine())
    register(Other())


@sharkstat.hookimpl
def register_exporters(register):
    register("mine", lambda tables: (f"{table.name}\\n" for table in tables))
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("register(Mine())", "register(Mine)", "mine.py, line 5: Mine is a class: register(Mine()), an object of it"),
        ("register(Mine())", "register('mine')", "register('mine'): it is not a sharkstat.Statistic"),
        ('    filter = "ip"\n    keys = ("ip.src",)', '    filtr = "dns"\n    keys = ("ip.src",)', "filter is meant?"),
        ('register("mine", lambda', 'register("json", lambda', "the format json is sharkstat's own"),
        (
            'register("mine", lambda tables: (f"{table.name}\\n" for table in tables))',
            'register("mine", 3)',
            "exporter",
        ),
    ],
)
def test_a_fault_leaves_out_what_has_it_alone(old: str, new: str, said: str, tmp_path: Path) -> None:
    path = plugin(tmp_path, DECLARED.replace(old, new))
    assert old in DECLARED
    done = sharkstat("list", "--plugin", path, "--format", "csv")
    assert done.returncode == 0 and "\nother," in done.stdout
    assert said in done.stderr and done.stderr.count("\n") == 1 and "it is left out" in done.stderr
    assert ("\nmine," in done.stdout) == ("format" in said or "exporter" in said)


def test_a_plugin_that_fails_says_what_else_is_not_there(tmp_path: Path) -> None:
    path = plugin(tmp_path, DECLARED.replace("    register(Other())", "    register(Other())\n    1 / 0"))
    done = sharkstat("list", "--plugin", path, "--format", "csv")
    assert done.stderr.startswith(
        f"sharkstat: plugin mine ({path}) failed to load: ZeroDivisionError: division by zero"
    )
    assert "(mine.py, line 23)" in done.stderr and "so mine, other is missing, too" in done.stderr


def test_what_a_plugin_prints_is_no_result(tmp_path: Path) -> None:
    path = plugin(tmp_path, "print('hello')\n" + DECLARED)
    done = sharkstat("run", HTTP, "--plugin", path, "-z", "mine", "--format", "json")
    assert json.loads(done.stdout)["tables"][0]["name"] == "mine" and "hello" in done.stderr


def test_an_exporter_that_fails_is_one_line(tmp_path: Path) -> None:
    for text, said in (("(1 / 0 for table in tables)", "ZeroDivisionError: division by zero"), ("[3]", "neither text")):
        path = plugin(tmp_path, DECLARED.replace('(f"{table.name}\\n" for table in tables)', text))
        done = sharkstat("run", HTTP, "--plugin", path, "-z", "mine", "--format", "mine")
        assert (done.returncode, done.stderr.count("\n")) == (5, 1)
        assert "the format mine of plugin mine failed: " in done.stderr and said in done.stderr


EMITTED = [
    (
        'sharkstat.Column("packets", "integer", "packets")',
        'sharkstat.Column("packets", "int")',
        "unknown type 'int'",
    ),
    (
        'sharkstat.Column("packets", "integer", "packets")',
        'sharkstat.Column("packets", "integer", merge="add")',
        "unknown merge 'add'",
    ),
    (
        'sharkstat.Column("packets", "integer", "packets")',
        'sharkstat.Column("packets", "text", merge="sum")',
        "text has no sum",
    ),
    (
        'sharkstat.Column("packets", "integer", "packets")',
        'sharkstat.Column("address", "integer")',
        "two columns are called address",
    ),
    ("return self.seen.items()", "return [('a', 'b')]", "the column packets has 'b', and its type is integer"),
    ("return self.seen.items()", "return [('a', 1), ('a', 2)]", "two rows have the key address='a'"),
    ('fields = ("ip.src",)', 'fields = ("ip.src")', "write fields = ('ip.src',)"),
]


def test_what_is_emitted_is_checked(tmp_path: Path) -> None:
    _, names, options = changed(tmp_path, EMITTED)
    done = sharkstat("run", HTTP, *options, "-z", "io,stat,0", "--format", "csv")
    assert (done.returncode, done.stderr.count("\n")) == (7, 1) and "204" in done.stdout
    for name, (_, _, said) in zip(names, EMITTED, strict=True):
        (told,) = re.findall(rf"{name}(?:: the statistic)? failed.*?(?=; hosts,sent,|$)", done.stderr, re.MULTILINE)
        assert said in told


def test_a_packets_statistic_has_parameters(tmp_path: Path) -> None:
    text = SENT.replace("def __init__(self, filter):", "def __init__(self, filter, least):\n        self.least = least")
    text = text.replace("return self.seen.items()", "return [(a, n) for a, n in self.seen.items() if n >= self.least]")
    text = text.replace(
        "    engines =", "    parameters = (sharkstat.Parameter('least', 'integer', '1'),)\n    engines ="
    )
    path = plugin(tmp_path, text)
    registry = library.Registry.default([path])
    whole, some, filtered = library.run(
        HTTP, ["hosts,sent", "hosts,sent,least=80", "hosts,sent,least=80,tcp.srcport == 80"], registry=registry
    )
    assert [row for row in whole if int(row["packets"]) >= 80] == some.rows  # type: ignore[arg-type]
    assert 0 < len(filtered) < len(some)
    for asked, said in (
        ("leest=3", "has no parameter leest; it has least"),
        ("least=x", "least=x: give a whole integer"),
    ):
        with pytest.raises(library.RequestError, match=said):
            library.run(HTTP, f"hosts,sent,{asked}", registry=registry)


FAULTS = """
import sharkstat

class Field(sharkstat.Declared):
    name, title, keys = "my,field", "T", ("ip.srcc",)

class Filter(sharkstat.Declared):
    name, title, keys, filter = "my,filter", "T", ("ip.src",), "dns &&"

class Findings(sharkstat.Declared):
    name, title, keys, section = "my,findings", "T", ("ip.src",), sharkstat.Section(350)
    def findings(self, table):
        return ["a text"]

@sharkstat.hookimpl
def register_statistics(register):
    for one in (Field, Filter, Findings):
        register(one())
"""
NO_TAP = """-- name: my,tap
-- title: T
-- column: name text key
require("sharkstat").tap(__FILE__, function(run)
  run:listen("framee", function() end)
end)
"""


def test_a_fault_of_a_plugin_ends_its_statistic_alone(tmp_path: Path) -> None:
    tap = tmp_path / "no_tap.lua"
    tap.write_text(NO_TAP)
    registry = library.Registry.default([plugin(tmp_path, FAULTS), tap])
    with pytest.raises(library.StatisticError) as failed:
        library.run(HTTP, ["my,field", "my,filter", "my,tap", "io,stat,0"], registry=registry)
    assert [len(table) for table in failed.value.tables] == [1]
    for said in (
        "no such field: ip.srcc; did you mean ip.src",
        'invalid display filter "dns &&"',
        "no_tap.lua:5: tshark",
    ):
        assert said in str(failed.value)
    with pytest.raises(library.RequestError, match="invalid display filter"):
        library.run(HTTP, ["my,findings,dns &&", "io,stat,0"], registry=registry)
    done = library.overview(HTTP, registry=registry)
    assert done.parts and "findings gave 'a text', which is no HealthFinding" in str(done.failures[0])
