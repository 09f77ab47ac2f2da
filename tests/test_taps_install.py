"""The taps in Wireshark's plugin folders: installed, found by plain tshark, costing nothing, and gone again.

Every test has a home of its own; nothing of this machine's is touched. tshark runs as an unprivileged user, since 4.4
loads no Lua as root.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.command import DATA, NOBODY, PROJECT, TSHARK, in_namespaces, may_mount, sharkstat
from tests.test_taps import cells, rows_of

import sharkstat as library
from sharkstat.errors import OutputError, RequestError
from sharkstat.statistics import installed_taps as taps
from sharkstat.statistics.tapfile import TapFile
from sharkstat.tables.export import plain_value
from sharkstat.tables.figures import seconds
from sharkstat.tshark.process import Tshark, find_tshark
from sharkstat.tshark.users import User

EXAMPLES = PROJECT / "docs" / "examples"
USER = User(NOBODY, NOBODY) if os.geteuid() == 0 else None


class Home:
    """A home folder, and what tshark says to its owner."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.taps = path / ".local" / "lib" / "wireshark" / "plugins" / "sharkstat"

    def run(self, *arguments: object, succeeds: bool = True) -> str:
        """sharkstat's standard output."""
        done = sharkstat(*arguments, env={"HOME": str(self.path)})
        assert (done.returncode == 0) is succeeds, done.stderr
        return done.stdout

    def tshark(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [TSHARK, *map(str, arguments)],
            env={"HOME": str(self.path), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=100,
            cwd="/",
            user=USER.uid if USER else None,
            group=USER.gid if USER else None,
            extra_groups=[] if USER else None,
        )

    def counted(self, capture: str, *requests: str) -> str:
        """What plain tshark prints of a capture, which its user may read: the last request first."""
        copy = self.path / capture
        shutil.copyfile(DATA / capture, copy)
        done = self.tshark("-q", "-n", "-r", copy, *(word for request in requests for word in ("-z", request)))
        assert done.returncode == 0, done.stderr
        assert "Lua" not in done.stderr, done.stderr
        return done.stdout

    def files(self) -> list[Path]:
        return sorted(path for path in self.path.rglob("*") if "plugins" in path.parts and path.is_file())


@contextmanager
def made_home() -> Iterator[Home]:
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # pytest's own are closed to other users
        path = Path(folder)
        if USER:
            os.chown(path, USER.uid, USER.gid)
        path.chmod(0o755)
        yield Home(path)


@pytest.fixture
def home() -> Iterator[Home]:
    with made_home() as home:
        yield home


@pytest.fixture(scope="module")
def equipped() -> Iterator[Home]:
    """A home with all taps, for tests that only use them."""
    with made_home() as home:
        home.run("taps", "install", EXAMPLES / "dns_slow.lua", EXAMPLES / "dns_asked.lua")
        yield home


def installed_names(home: Home) -> set[str]:
    done = home.tshark("-z", "help")  # 4.0 lists them on standard error
    return {line.strip() for line in [*done.stderr.splitlines(), *done.stdout.splitlines()]}


def test_installed_taps_are_names_of_plain_tshark_and_gone_after_uninstall(home: Home) -> None:
    before = installed_names(home)
    said = home.run("taps", "install")
    assert str(home.taps) in said
    listed = json.loads(home.run("taps", "list", "--format", "json"))["tables"][0]["rows"]
    names = {row["name"] for row in listed}
    assert {row["installed"] for row in listed} == {"user"}
    assert {"sharkstat,conv,tcp", "sharkstat,io,stat"} <= names
    assert installed_names(home) - before == names
    home.run("taps", "uninstall")
    assert home.files() == []
    assert not (home.path / ".local").exists(), "the folders that were made for it"
    assert installed_names(home) == before


def test_installed_taps_count_what_sharkstat_counts(equipped: Home) -> None:
    tables = library.run(DATA / "http.pcapng", ["conv,tcp,tcp.port == 80", "endpoints,ipv6", "http_req,tree"])
    asked = [table.request.replace(table.name, f"sharkstat,{table.name},format=rows", 1) for table in tables]
    texts = equipped.counted("http.pcapng", *asked).rstrip("\n").split("\n\n")
    for table, text in zip(tables, reversed(texts), strict=True):
        assert table.rows
        assert rows_of(text) == cells(table)


def test_no_field_is_made_until_a_tap_that_reads_it_is_asked_for(home: Home) -> None:
    """Nor does any file say anything: each is loaded as a script, those of the library too."""
    home.run("taps", "install", EXAMPLES / "dns_slow.lua")
    (home.taps.parent / "probe.lua").write_text(
        """
        local seen = Listener.new("frame")
        local names = {}
        function seen.packet()
          for _, info in ipairs { all_field_infos() } do names[info.name] = info.name:find(".", 1, true) and true end
        end
        function seen.draw()
          for name in pairs(names) do print("field", name) end
        end
        """
    )
    assert "field" not in home.counted("dns.pcapng", "sharkstat,conv,tcp")
    assert "field\tdns.time" in home.counted("dns.pcapng", "dns,slow")


def test_a_field_that_a_file_reads_outside_of_start_costs_as_little(home: Home, tmp_path: Path) -> None:
    text = (EXAMPLES / "dns_asked.lua").read_text().replace("name: dns,asked", "name: early,asked")
    line = 'local asked = sharkstat.field "dns.qry.name"\n'
    assert line in text
    text = text.replace(line, "").replace("sharkstat.tap(", f"{line}sharkstat.tap(")
    (tmp_path / "early.lua").write_text(text)
    home.run("taps", "install", tmp_path / "early.lua", EXAMPLES / "dns_asked.lua")
    (home.taps.parent / "probe.lua").write_text(
        """
        local seen, found = Listener.new("frame"), false
        function seen.packet()
          for _, info in ipairs { all_field_infos() } do found = found or info.name == "dns.qry.name" end
        end
        function seen.draw() print("field", found) end
        """
    )
    assert "field\tfalse" in home.counted("dns.pcapng", "sharkstat,conv,tcp")
    asked = home.counted("dns.pcapng", "early,asked,format=rows")
    assert "field\ttrue" in asked
    assert sorted(asked.splitlines()) == sorted(home.counted("dns.pcapng", "dns,asked,format=rows").splitlines())


def test_an_own_tap_is_installed_beside_the_built_in_ones_and_stays(home: Home) -> None:
    home.run("taps", "install", EXAMPLES / "dns_slow.lua", EXAMPLES / "dns_asked.lua")
    home.run("taps", "install")
    [table] = library.run(
        DATA / "dns.pcapng", "dns,slow,over=150us", registry=library.Registry.default([EXAMPLES / "dns_slow.lua"])
    )
    text = home.counted("dns.pcapng", "dns,slow,over=150us,format=rows")
    names = [column.name for column in table.columns]
    assert text.splitlines()[0].split("\t") == names
    shown = [line.split("\t") for line in text.splitlines()[1:]]
    assert [row[0] for row in shown] == [row["name"] for row in table], "in the header's order"
    for line, row in zip(shown, table, strict=True):
        assert int(line[1]) == row["answers"]
        assert [round(float(value) * 1e9) for value in line[2:]] == [row["total_time"], row["mean_time"]]
    rows = json.loads(home.run("taps", "list", "--format", "json"))["tables"][0]["rows"]
    assert ("dns,slow", "user") in {(row["name"], row["installed"]) for row in rows}
    home.run("taps", "uninstall")
    assert home.files() == []


HEADERS = [
    *(
        s
        for s in library.Registry.default(only_built_in=True).statistics.values()
        if isinstance(s, TapFile) and s.by_connection != "only"
    ),
    *(TapFile(EXAMPLES / f"{name}.lua") for name in ("dns_asked", "dns_slow")),
]
CAPTURES = [
    *("dns.pcapng", "http.pcapng", "retransmissions.pcapng"),
    *(pytest.param(name, marks=pytest.mark.long) for name in ("tls.pcapng", "icmp-errors.pcapng", "tunnel.pcapng")),
]


@pytest.mark.parametrize("capture", CAPTURES)
def test_every_tap_that_a_header_describes_counts_alike(equipped: Home, capture: str) -> None:
    own = [path for tap in HEADERS if (path := tap.engines[0].file) is not None and path.parent == EXAMPLES]
    tables = library.run(DATA / capture, [tap.name for tap in HEADERS], registry=library.Registry.default(own))
    texts = equipped.counted(capture, *(f"{table.name},format=rows" for table in tables)).rstrip("\n").split("\n\n")
    for table, text in zip(tables, reversed(texts), strict=True):
        # A set that nobody is shown is left out of sharkstat's.
        columns = {c.name: c for c in table.columns if c.role != "derived" or c.computed}
        head, *lines = (line.split("\t") for line in text.splitlines())
        assert set(head) <= set(columns), table.name

        def value(column: library.Column, row: library.Row, table: library.Table = table) -> str:
            found = row[column.name]
            if column.type == "time" and column.role == "key" and isinstance(found, int):
                return "interval"  # of the clock here; by itself a tap has no exact time of the first packet
            if column.type == "time" and isinstance(found, int):
                return seconds(found - (table.reading.start or 0))
            return f"{found:.9g}" if isinstance(found, float) else plain_value(column, found)

        def alike(text: str) -> str:  # the last digits of a quotient may differ
            return f"{float(text):.9g}" if "." in text else text

        expected = [[value(columns[name], row) for name in head] for row in table]
        numbers = [columns[name].type == "number" for name in head]
        shown = [[alike(t) if is_number else t for t, is_number in zip(line, numbers, strict=True)] for line in lines]
        clock = [at for at, name in enumerate(head) if columns[name].type == "time" and columns[name].role == "key"]
        if clock:  # so its intervals begin elsewhere, and only their sums are the same
            sums = [at for at, name in enumerate(head) if columns[name].merge == "sum"]
            assert [sum(int(line[at]) for line in shown) for at in sums if columns[head[at]].type == "integer"] == [
                sum(int(line[at]) for line in expected) for at in sums if columns[head[at]].type == "integer"
            ], table.name
            continue
        assert sorted(shown) == sorted(expected), table.name


def test_the_readable_table_has_derived_columns_units_and_order_and_no_hidden_ones(equipped: Home) -> None:
    title, head, more, _, first, *_ = equipped.counted("dns.pcapng", "dns,slow,over=1us").strip().splitlines()
    assert title == "Slow DNS answers  [over=1us]"
    assert head.split() == ["Name", "Answers", "Mean"]
    assert more.split() == ["Time"]
    assert first.split() == ["www.example.net", "10", "169", "µs"]
    assert "no matching packets" in equipped.counted("dns.pcapng", "dns,slow,tcp")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("over=fast", "dns,slow: over=fast: not a value of type duration"),
        ("under=1s", "dns,slow has no parameter under"),
        ("over=1s,over=2s", "dns,slow: over is given twice"),
        ("udp ===", 'dns,slow: Filter "udp ===" is invalid'),
    ],
)
def test_a_wrong_argument_is_one_line_and_a_status(equipped: Home, arguments: str, reason: str) -> None:
    shutil.copyfile(DATA / "dns.pcapng", equipped.path / "dns.pcapng")
    done = equipped.tshark("-q", "-r", equipped.path / "dns.pcapng", "-z", f"dns,slow,{arguments}")
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.strip().splitlines()
    assert line.startswith(f"tshark: {reason}")


def test_a_second_install_says_that_all_is_there(home: Home) -> None:
    home.run("taps", "install")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in home.files() if path.suffix == ".lua"}
    assert "already installed" in home.run("taps", "install")
    assert before == {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in home.files() if p.suffix == ".lua"}


def test_what_others_wrote_is_never_overwritten(home: Home) -> None:
    home.taps.mkdir(parents=True)
    (home.taps / "http.lua").write_text("-- mine\n")
    (home.taps / "other.lua").write_text("-- mine, too\n")
    done = sharkstat("taps", "install", env={"HOME": str(home.path)})
    assert done.returncode == OutputError.exit_status
    assert "http.lua: sharkstat did not install it" in done.stderr
    home.run("taps", "uninstall")
    assert {path.name: path.read_text() for path in home.files()} == {
        "http.lua": "-- mine\n",
        "other.lua": "-- mine, too\n",
    }


def test_a_file_that_was_changed_since_is_kept_and_told(home: Home) -> None:
    home.run("taps", "install")
    changed = home.taps / "http.lua"
    changed.write_text(changed.read_text() + "-- changed\n")
    for command in ("install", "uninstall"):
        done = sharkstat("taps", command, env={"HOME": str(home.path)})
        assert done.returncode == 0
        assert "http.lua: it was changed since it was installed" in done.stderr
    assert home.files() == [changed]


def test_a_new_version_replaces_its_own_files_and_removes_stale_ones(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "a.lua").write_text("-- one\n")
    (old / "b.lua").write_text("-- one\n")
    (old / "own.lua").write_text("-- own\n")
    new = tmp_path / "new"
    new.mkdir()
    (new / "a.lua").write_text("-- two\n")
    (new / "c.lua").write_text("-- two\n")
    plugins = tmp_path / "plugins"
    taps.Installation(plugins).install([old / "a.lua", old / "b.lua"], [old / "own.lua"])
    report = taps.Installation(plugins).install([new / "a.lua", new / "c.lua"])
    assert (report.replaced, report.written, report.removed) == (["a.lua"], ["c.lua"], ["b.lua"])
    left = {path.name: path.read_text() for path in (plugins / "sharkstat").glob("*.lua")}
    assert left == {"a.lua": "-- two\n", "c.lua": "-- two\n", "own.lua": "-- own\n"}
    taps.Installation(plugins).uninstall()
    assert not plugins.exists()


def test_an_installation_that_was_broken_off_is_mended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up after the first file: none is left without an owner."""
    sources = taps.shipped()
    written = taps._write
    count = 0

    def fails(path: Path, content: bytes) -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise OSError(28, "No space left on device")
        written(path, content)

    monkeypatch.setattr(taps, "_write", fails)
    with pytest.raises(OutputError, match="No space left"):
        taps.Installation(tmp_path / "plugins").install(sources)
    monkeypatch.undo()
    report = taps.Installation(tmp_path / "plugins").install(sources)
    assert report.there
    assert report.written
    assert not report.foreign
    taps.Installation(tmp_path / "plugins").uninstall()
    assert not (tmp_path / "plugins").exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "sharkstat").symlink_to(elsewhere)
    with pytest.raises(OutputError, match="is a symbolic link"):
        taps.Installation(tmp_path / "plugins").install(taps.shipped())
    assert list(elsewhere.iterdir()) == []


def test_a_forged_note_removes_nothing_outside(tmp_path: Path) -> None:
    plugins, victim, empty = tmp_path / "plugins", tmp_path / "victim", tmp_path / "empty"
    taps.Installation(plugins).install(taps.shipped())
    victim.write_text("precious")
    empty.mkdir()
    note = plugins / "sharkstat" / ".sharkstat-taps.json"
    noted = json.loads(note.read_text())
    noted["files"]["../../victim"] = [hashlib.sha256(b"precious").hexdigest()]
    noted["made"].append(str(empty))
    note.write_text(json.dumps(noted))
    report = taps.Installation(plugins).uninstall()
    assert report.removed and victim.read_text() == "precious" and empty.is_dir()


def test_what_is_no_tap_is_refused(home: Home, tmp_path: Path) -> None:
    (tmp_path / "http.lua").write_text("-- name: x\n-- title: x\n-- column: a text key\n")
    (tmp_path / "nothing.lua").write_text("print(1)\n")
    with pytest.raises(RequestError, match="is the name of a built-in file"):
        taps.check_own(find_tshark(), [tmp_path / "http.lua"])
    with pytest.raises(RequestError, match="registers no statistic"):
        taps.check_own(find_tshark(), [tmp_path / "nothing.lua"])
    (tmp_path / "mine.lua").write_text("-- name: x\n-- title: x\n-- column: a text key\nlocal x = = 3\n")
    with pytest.raises(RequestError, match=r"mine\.lua is not installed: .*mine\.lua:4: unexpected symbol"):
        taps.check_own(find_tshark(), [tmp_path / "mine.lua"])
    assert home.run("taps", "install", tmp_path / "none.lua", succeeds=False) == ""
    assert home.files() == []


def test_the_folders_are_those_that_tshark_names(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home.path))
    assert taps.plugin_folder(Tshark(TSHARK), "user") / "sharkstat" == home.taps
    system = taps.plugin_folder(Tshark(TSHARK), "system")
    assert system.name == "plugins"
    assert home.path not in system.parents


@pytest.mark.skipif(not may_mount(), reason="needs root and mounts of its own: NOT TESTED HERE")
def test_taps_for_all_users_serve_all_users(home: Home) -> None:
    """In the folder of all users tshark 4.0 tells a script neither its __DIR__ nor its __FILE__."""
    system = taps.plugin_folder(Tshark(TSHARK), "system")
    capture = home.path / "http.pcapng"
    shutil.copyfile(DATA / "http.pcapng", capture)
    look = '"$@" >&2\nexec setpriv --reuid=65534 --regid=65534 --clear-groups "$TSHARK" -q -n -r "$CAPTURE" -z "$Z"'
    done = sharkstat(
        *("taps", "install", "--system"),
        under=[
            *in_namespaces(f'mkdir -p "{system}"\nmount -t tmpfs -o mode=755 none "{system}"'),
            "sh",
            "-ec",
            look,
            "sh",
        ],
        env={"TSHARK": TSHARK, "CAPTURE": str(capture), "Z": "sharkstat,conv,tcp", "HOME": str(home.path)},
    )
    assert done.returncode == 0, done.stderr
    assert "Lua" not in done.stderr, done.stderr
    assert "TCP conversations" in done.stdout and "192.0.2.10" in done.stdout


def test_the_path_serves_a_tap_that_is_not_installed(home: Home) -> None:
    folder = Path(home.run("taps", "path").strip())
    assert (folder / "sharkstat.lua").is_file()
    assert (folder / "host.lua").is_file()


def test_both_places_contradict_each_other(home: Home) -> None:
    home.run("taps", "install", "--user", "--system", succeeds=False)
