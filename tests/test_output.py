"""Where results go: whole or not at all, in the format of the suffix, and never over what somebody wants to keep."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path

import pytest
import tabulate
from tests.command import DATA, ended, in_namespaces, may_mount, pcap, public_folder, requests, sharkstat, started

import sharkstat as library
from sharkstat import Column, OutputError, RequestError, Table
from sharkstat.tables import view
from sharkstat.tables.export import to_json
from sharkstat.tables.output import Output, format_for

HTTP = DATA / "http.pcapng"
needs_mounts = pytest.mark.skipif(not may_mount(), reason="needs root and mounts of its own: NOT TESTED HERE")
TABLE = Table("x", "X", "x,y", (Column("a", "integer"),), [{"a": 1}])


def one_line(text: str) -> str:
    assert text.startswith("sharkstat: ") and text.count("\n") == 1, text
    return text[len("sharkstat: ") : -1]


def test_the_suffix_says_the_format(tmp_path: Path) -> None:
    for name, wanted, style in (
        ("a.json", "", "json"),
        ("a.CSV", "", "csv"),
        ("a.md", "", "markdown"),
        ("a.txt", "", "table"),
        ("a", "", "table"),
        ("a.json", "csv", "csv"),
        ("a.xyz", "tsv", "tsv"),
        ("/dev/stdout", "", "table"),
        ("", "", "table"),
    ):
        assert format_for(name, wanted, {}) == style
    with pytest.raises(RequestError, match=r"unknown suffix \.xyz: give --format"):
        format_for("a.xyz", "", {})
    done = sharkstat("run", HTTP, "-z", "io,stat,0", "--output", tmp_path / "a.json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads((tmp_path / "a.json").read_text())["tables"][0]["rows"][0]["frames"] == 204


def test_what_is_there_stays_there_without_force(tmp_path: Path) -> None:
    kept, link, hard = tmp_path / "kept.json", tmp_path / "link.json", tmp_path / "hard.pcapng"
    kept.write_text("old")
    kept.chmod(0o640)
    link.symlink_to(kept)
    hard.hardlink_to(kept)
    with pytest.raises(OutputError, match="already exists: choose another name, or overwrite it with --force"):
        Output(str(kept))
    with pytest.raises(OutputError, match="is an input file"):
        Output(str(kept), force=True, read=[str(hard)])
    for force in (False, True):
        with pytest.raises(OutputError, match=r"link\.json is a symbolic link"):
            Output(str(link), force=force)
    place = Output(str(tmp_path / "new.json"))
    (tmp_path / "new.json").write_text("came meanwhile")
    with pytest.raises(OutputError, match="already exists"):
        place.write([TABLE], to_json)
    place = Output(str(tmp_path / "later.json"), force=True)
    (tmp_path / "later.json").symlink_to(kept)
    with pytest.raises(OutputError, match="symbolic link"):
        place.write([TABLE], to_json)
    folder = Output(f"{tmp_path}/", "json")
    (tmp_path / "x_y.json").write_text("old")
    with pytest.raises(OutputError, match=r"x_y\.json already exists"):
        folder.expect(["x,y"])
    assert (kept.read_text(), (tmp_path / "new.json").read_text()) == ("old", "came meanwhile")
    Output(str(kept), force=True).write([TABLE], to_json)
    assert json.loads(kept.read_text())["tables"][0]["rows"] == [{"a": 1}]
    assert kept.stat().st_mode & 0o777 == 0o640
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_capture_is_never_written_over(tmp_path: Path) -> None:
    capture = tmp_path / "c.pcapng"
    capture.write_bytes(HTTP.read_bytes())
    done = sharkstat(
        "run", capture, "-z", "conv,ip", "--format", "csv", "--force", "--output", f"{tmp_path}/./c.pcapng"
    )
    assert done.returncode == 5 and one_line(done.stderr).endswith("is an input file: choose another name")
    assert capture.read_bytes() == HTTP.read_bytes()


def test_a_run_that_fails_leaves_the_old_results(tmp_path: Path) -> None:
    kept, bad = tmp_path / "kept.json", tmp_path / "bad.pcap"
    kept.write_text("old")
    bad.write_bytes(b"no capture at all")
    done = sharkstat("run", bad, "-z", "conv,ip", "--force", "--output", kept)
    assert (done.returncode, kept.read_text()) == (4, "old")
    assert sharkstat("run", bad, "-z", "conv,ip", "--format", "json").stdout == ""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture whose table is larger than any pipe."""
    path = tmp_path_factory.mktemp("wide") / "wide.pcap"
    path.write_bytes(requests(*((b"host-%d.example.net" % n, b"/" + b"x" * 800) for n in range(700))))
    return path


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_everything_is_written_or_told(unbuffered: str, wide: Path) -> None:
    env = {"PYTHONUNBUFFERED": unbuffered}
    asked = ["run", wide, "-z", "http,requests", "--format", "csv"]
    whole = sharkstat(*asked, env=env)
    assert whole.returncode == 0 and whole.stdout.count("\n") == 701 and len(whole.stdout) > 500_000
    process = started(*asked, env={**os.environ, **env})
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert (process.wait(timeout=60), process.stderr.read()) == (141, b"")
    process.stderr.close()


@needs_mounts
def test_a_full_disk_is_told_without_buffers_too(wide: Path) -> None:
    with public_folder() as folder:
        under = in_namespaces(f'mount -t tmpfs -o size=128k none "{folder}"\nexec >"{folder}/out.csv"')
        done = sharkstat(
            "run", wide, "-z", "http,requests", "--format", "csv", under=under, env={"PYTHONUNBUFFERED": "1"}
        )
    assert (done.returncode, one_line(done.stderr)) == (
        5,
        "standard output: No space left on device: results are incomplete",
    )


def test_commands_that_print_tell_a_full_output() -> None:
    for command in (["--help"], ["show", "conv,tcp"], ["list"], ["taps", "path"]):
        with Path("/dev/full").open("w") as full:
            done = sharkstat(*command, stdout=full)
        assert done.returncode == 5, command
        assert "No space left on device" in one_line(done.stderr)


def test_a_name_that_cannot_be() -> None:
    for name in ("x" * 260 + ".json", "a\0b.json"):
        with pytest.raises(OutputError, match="choose another name"):
            Output(name)
    Output("x" * 250 + ".json")  # and no longer where it is written


def test_a_device_or_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = started("run", HTTP, "-z", "io,stat,0", "--format", "csv", "--output", pipe)
    assert "204" in pipe.read_text()
    assert process.wait(timeout=60) == 0
    done = sharkstat("run", HTTP, "-z", "io,stat,0", "--format", "csv", "--output", "/dev/stdout")
    assert "204" in done.stdout and done.returncode == 0


# Names act as names


NAMES = ["-w.pcap", "--help", "-", "a b;c.pcap", "new\nline.pcap", "$(touch x).pcap", "\x1b[31m.pcap", "%s{}.pcap"]


@pytest.mark.parametrize("several", [False, True])
def test_a_file_is_a_file_whatever_it_is_called(several: bool, tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(HTTP.read_bytes())
    here = [[f"./{name}" for name in NAMES]] if several else [[f"./{name}"] for name in NAMES]
    before = sorted(tmp_path.iterdir())
    for names in here:
        asked = [word for name in ("conv,ip", "io,stat,0") for word in ("-z", name)]
        done = sharkstat("run", *asked, "--format", "json", "--", *names, cwd=tmp_path)
        assert done.returncode == 0 and (several or not done.stderr), done.stderr  # several are copies, which is said
        table = json.loads(done.stdout)["tables"][1]
        assert table["rows"][0]["frames"] == 204 * len(names)
        assert table["read"]["sources"] == names
    assert sorted(tmp_path.iterdir()) == before
    done = sharkstat("run", "-2", "-R", "tcp", "-z", "io,stat,0", "--", "--help", "-w.pcap", cwd=tmp_path)
    assert done.returncode == 0 and "I/O statistics" in done.stdout
    (tmp_path / "bad\x1b[2J\n.pcap").write_bytes(b"no capture")
    done = sharkstat("run", "-z", "io,stat,0", "bad\x1b[2J\n.pcap", cwd=tmp_path)
    assert one_line(done.stderr).startswith("bad\\x1b[2J\\x0a.pcap is not a capture file")


def test_a_dash_is_standard_input_also_where_a_file_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "-").write_bytes(pcap([]))
    far = HTTP.read_bytes()
    done = sharkstat("run", "-", "-z", "io,stat,0", "--format", "csv", given=far, cwd=tmp_path)
    assert done.returncode == 0 and ",204," in done.stdout


@pytest.mark.parametrize("text", ["conv,ip -w x.pcap", "conv,ip,-w x.pcap", "conv,tcp,ip -X lua_script:x", "-w,x"])
def test_a_request_cannot_smuggle_an_option(text: str, tmp_path: Path) -> None:
    for engine in ("lua", "tshark"):
        with pytest.raises(library.SharkstatError):
            library.run(HTTP, text, engine=engine)
    assert subprocess.run(["ls", "-A", tmp_path], capture_output=True, check=True).stdout == b""


SMUGGLED: list[tuple[str, ...]] = [
    (str(HTTP), "-Y", "-w out"),
    (str(HTTP), "-o", "-X lua_script:out"),
    (str(HTTP), "-d", "tcp.port==80,-w out"),
    (str(HTTP), "-N", "-w"),
    (str(HTTP), "-C", "../out"),
    ("-i", "-wout", "-a", "duration:1"),
    ("-i", "|touch out", "-a", "duration:1"),
    ("-i", "lo", "-a", "duration:1 -w out"),
    ("-i", "lo", "-a", "duration:1", "-f", "-w out"),
]


def test_no_value_of_an_option_smuggles_another(tmp_path: Path) -> None:
    running = [started("run", *words, "-z", "io,stat,0", cwd=tmp_path) for words in SMUGGLED]
    for words, process in zip(SMUGGLED, running, strict=True):
        done = ended(process)
        assert done.returncode in (2, 4) and done.stdout == "" and one_line(done.stderr), (words, done)
    assert not list(tmp_path.iterdir())
    # What needs quotes elsewhere is a value: nothing is taken apart at commas or blanks.
    hosts = 'http.host == "a,b -w out" || frame contains "--help"'
    (table,) = library.run(HTTP, ["io,stat,0"], display_filter=f"!({hosts})")
    assert table.rows[0]["frames"] == 204


def test_every_command_takes_a_file_of_any_name(tmp_path: Path) -> None:
    for name in ("-w.pcap", "http:x.pcap", "@x", "s3:x", "s3::x"):
        (tmp_path / name).write_bytes(HTTP.read_bytes())
    diff = sharkstat("diff", "--", "-w.pcap", "http:x.pcap", cwd=tmp_path)
    assert diff.returncode == 0 and diff.stdout.startswith("Nothing changed"), diff.stderr
    group = sharkstat("group", "--by", "ip.src", "--count", "--format", "csv", "--", "@x", cwd=tmp_path)
    assert group.returncode == 0 and "192.0.2.10," in group.stdout, group.stderr
    overview = sharkstat("overview", "--", "-w.pcap", "s3:x", cwd=tmp_path)
    assert overview.returncode == 0 and "408 packets" in overview.stdout, overview.stderr
    done = sharkstat("run", "s3::x", "-z", "io,stat,0", "--engine", "headers", "--format", "csv", cwd=tmp_path)
    assert done.returncode == 0 and "0,204," in done.stdout, done.stderr


# How it looks, and what numbers it has


def test_the_view_is_tabulates_own() -> None:
    """A table is drawn by ourselves, in a tenth of the time, and looks as tabulate draws it."""
    draw = random.Random(1)

    def some(most: int) -> str:
        return "".join(draw.choice("ab │├─└日本é µ→ .1") for _ in range(draw.randint(1, most)))

    for _ in range(300):
        types = [draw.choice(["text", "integer", "duration", "path"]) for _ in range(draw.randint(2, 5))]
        columns = [Column(f"c{at}", kind) for at, kind in enumerate(types)]  # type: ignore[arg-type]
        headings = ["\n".join(some(6).strip() or "h" for _ in range(draw.randint(1, 3))) for _ in types]
        rows = [[some(9) for _ in types] for _ in range(draw.randint(1, 6))]
        theirs = tabulate.tabulate(
            rows,
            headers=headings,
            tablefmt="simple",
            disable_numparse=True,
            preserve_whitespace=True,
            colalign=["right" if kind in ("integer", "duration") else "left" for kind in types],
        )
        assert view.lay_out(view.Grid(columns, list(headings), rows), "simple") == theirs


def test_only_numbers_have_a_total() -> None:
    (table,) = library.run(HTTP, "conv,tcp")
    assert table.total("packets") > 0
    with pytest.raises(TypeError, match="address_a is of type address; only numbers have a total"):
        table.total("address_a")
    with pytest.raises(TypeError, match="start is of type time"):
        table.total("start")
    with pytest.raises(KeyError):
        table.total("nothing")
