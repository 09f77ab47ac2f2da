"""What a start loads: the plugin that is asked for, found in an index that may be wrong, and never matters."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.command import DATA, NOBODY, sharkstat
from tests.test_plugins import SENT

from sharkstat import Registry
from sharkstat.statistics import index

HTTP = DATA / "http.pcapng"


class Place:
    """A plugin that says when it is loaded, installed or in the user's folder, and a cache folder of its own."""

    def __init__(self, folder: Path, installed: bool) -> None:
        self.site, self.witness = folder / "site", folder / "witness"
        self.cache, self.config = folder / "cache", folder / "config"
        self.own = self.config / "sharkstat" / "plugins"
        for made in (self.site, self.cache, self.own):
            made.mkdir(parents=True)
        self.own.chmod(0o755)
        self.env = {"XDG_CACHE_HOME": str(self.cache), "XDG_CONFIG_HOME": str(self.config)}
        self.code = (self.site if installed else self.own) / "slow_plugin.py"
        self.write("slow,one")
        if not installed:
            return
        self.env["PYTHONPATH"] = str(self.site)
        metadata = self.site / "slow_plugin-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-plugin\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text("[sharkstat]\nslow = slow_plugin\n")

    def write(self, name: str, title: str = "Packets sent by each host") -> None:
        code = SENT.replace("hosts,sent", name).replace("Packets sent by each host", title)
        self.code.write_text(f"open({str(self.witness)!r}, 'a').write('loaded\\n')\n{code}")
        old = self.code.stat().st_mtime_ns - 10**9  # not just now
        os.utime(self.code, ns=(old, old))

    @property
    def loaded(self) -> int:
        """How often it was."""
        return len(self.witness.read_text().splitlines()) if self.witness.exists() else 0

    @property
    def index(self) -> Path:
        (found,) = (self.cache / "sharkstat").iterdir()
        return found

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return sharkstat(*arguments, env=self.env)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, installed=True)


@pytest.fixture
def own(tmp_path: Path) -> Place:
    return Place(tmp_path, installed=False)


def test_a_plugin_that_is_not_asked_for_costs_nothing(own: Place) -> None:
    listed = own.run("list").stdout
    assert own.loaded == 1 and "slow,one" in listed
    asked = (
        ["run", HTTP, "-z", "conv,tcp", "-z", "io,phs", "--format", "csv"],
        ["show", "conv,ip"],
        ["list"],
        ["doctor"],
    )
    for command in asked:
        done = own.run(*command)
        assert (done.returncode, own.loaded) == (0, 1), command
    assert own.run("list").stdout == listed
    assert sum("sharkstat_plugins." in line for line in imported(own, "run", HTTP, "-z", "talkers")) < 4
    done = own.run("run", HTTP, "-z", "slow,one", "--format", "json")
    assert own.loaded == 2
    assert {row["address"] for row in json.loads(done.stdout)["tables"][0]["rows"]} == {"192.0.2.10", "192.0.2.20"}
    done = own.run("plugins", "--format", "json")
    assert own.loaded == 3
    rows = {row["plugin"]: row for row in json.loads(done.stdout)["tables"][0]["rows"]}
    assert rows["slow_plugin"]["statistics"] == "slow,one" and all(row["load_time"] > 0 for row in rows.values())


def imported(place: Place, *arguments: object) -> list[str]:
    """What Python says of the imports of a command."""
    program = Path(sys.executable).with_name("sharkstat")
    command = [sys.executable, "-X", "importtime", str(program), *map(str, arguments)]
    env = {**os.environ, **place.env}
    subprocess.run(command, env=env, capture_output=True, check=True)  # makes the index, if there is none
    said: str = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stderr
    return said.splitlines()


def test_what_changed_is_seen(place: Place) -> None:
    assert place.run("run", HTTP, "-z", "slow,one").returncode == 0
    place.write("slow,two", "Another title")
    assert "'slow,one'" in place.run("run", HTTP, "-z", "slow,one").stderr
    assert "Another title (slow,two)" in place.run("run", HTTP, "-z", "slow,two").stdout
    (place.own / "sent.py").write_text(SENT.replace("hosts,sent", "slow,two,more"))
    assert "(slow,two,more)" in place.run("run", HTTP, "-z", "slow,two,more").stdout, "the longest name wins"
    (place.own / "sent.py").unlink()
    assert "invalid display filter" in place.run("run", HTTP, "-z", "slow,two,more").stderr
    shutil.rmtree(place.site / "slow_plugin-1.0.dist-info")
    assert "unknown statistic 'slow,two'" in place.run("run", HTTP, "-z", "slow,two").stderr


def test_a_plugin_that_fails_is_told_each_time_and_mended_at_once(own: Place) -> None:
    own.code.write_text(f"{own.code.read_text()}\nimport no_such_module\n")
    for _ in range(2):
        done = own.run("run", HTTP, "-z", "conv,ip")
        assert done.returncode == 0
        assert done.stderr.startswith(f"sharkstat: plugin slow_plugin ({own.code}) failed to load: ModuleNotFoundError")
    own.write("slow,one")
    done = own.run("run", HTTP, "-z", "slow,one")
    assert (done.returncode, done.stderr) == (0, "")


# An index that is wrong ----------------------------------------------------------------------------------


@pytest.fixture
def here(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The same place for this process, with an index."""
    for name, value in place.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(place.site)
    monkeypatch.delitem(sys.modules, "slow_plugin", raising=False)
    Registry.default()
    sys.modules.pop("slow_plugin")
    assert place.index.stat().st_mode & 0o777 == 0o600 and place.loaded == 1
    yield place
    sys.modules.pop("slow_plugin", None)


def told(registry: Registry) -> dict[str, list[object]]:
    """What there is, as the registry knows it without loading anything."""
    return {name: [said, origin] for name, said, origin in registry.described(discovered=False)}


def rewritten(change: Callable[[dict[str, object]], None]) -> Callable[[Place], None]:
    """An index that says something else, with the checksum that belongs to it."""

    def rewrite(place: Place) -> None:
        said = json.loads(place.index.read_bytes().partition(b"\n")[2])
        change(said)
        text = json.dumps(said).encode()
        place.index.write_bytes(b"%08x\n%b" % (zlib.crc32(text), text))

    return rewrite


def forgets_the_plugin(said: dict) -> None:  # type: ignore[type-arg]
    said["found"] = [found for found in said["found"] if found[0] != "slow"]


def swaps_owners(said: dict) -> None:  # type: ignore[type-arg]
    known = said["known"]
    slow, conversations = "slow_plugin", "sharkstat_plugins.conversations"
    known[slow], known[conversations] = known[conversations], known[slow]


def promises_more(said: dict) -> None:  # type: ignore[type-arg]
    statistics = said["known"]["slow_plugin"]["statistics"]
    statistics["conv,tcp,ip"] = statistics["slow,one"]


def damaged(text: Callable[[bytes], bytes]) -> Callable[[Place], None]:
    return lambda place: (place.index.write_bytes(text(place.index.read_bytes())), None)[1]


def in_its_place(make: Callable[[Path], object]) -> Callable[[Place], None]:
    def replace(place: Place) -> None:
        path = place.index
        path.unlink()
        make(path)

    return replace


def linked(place: Place) -> None:
    path = place.index
    path.symlink_to(path.rename(place.cache / "elsewhere"))


UNREADABLE = {
    "cut": damaged(lambda text: text[:-100]),
    "empty": damaged(lambda text: b""),
    "noise": damaged(lambda text: os.urandom(5000)),
    "edited": damaged(lambda text: text.replace(b"slow,one", b"slow,two")),
    "nested": in_its_place(lambda path: path.write_bytes(b"%08x\n" % zlib.crc32(b"[" * 10**5) + b"[" * 10**5)),
    "another layout": rewritten(lambda said: said.clear()),
    "wrong types": rewritten(lambda said: said.update(known={"slow_plugin": [1, {}]}, found=[[1, 2]], tshark=3)),
    "huge": damaged(lambda text: text + bytes(index.LARGEST)),
    "a link": linked,
    "a folder": in_its_place(os.mkdir),
    "a pipe": in_its_place(os.mkfifo),
    "others can write": lambda place: place.index.chmod(0o666),
    "others can write to the folder": lambda place: place.index.parent.chmod(0o777),
    "another's": lambda place: os.chown(place.index, NOBODY, NOBODY),
    "another's folder": lambda place: os.chown(place.index.parent, NOBODY, NOBODY),
}
LIES = {"swaps owners": rewritten(swaps_owners), "promises more": rewritten(promises_more)}


@pytest.mark.parametrize("kind", [*UNREADABLE, *LIES, "forgets"])
def test_a_wrong_index_changes_nothing(kind: str, here: Place) -> None:
    if kind.startswith("another's") and os.geteuid() != 0:
        pytest.skip("only root can give files away")
    good = told(Registry.default())
    {**UNREADABLE, **LIES, "forgets": rewritten(forgets_the_plugin)}[kind](here)
    if kind in UNREADABLE:
        assert told(Registry.default()) == good
        assert here.loaded == 2, "it is not trusted"
    registry = Registry.default()
    for request, owner in (("conv,tcp,ip", "sharkstat_plugins.conversations"), ("slow,one,ip", "slow_plugin")):
        statistic, arguments = registry.find(request)
        assert (type(statistic).__module__, arguments) == (owner, "ip")
    assert [plugin.problem for plugin in registry.plugins if plugin.problem] == []


def test_without_a_place_for_it_everything_works(place: Place, tmp_path: Path) -> None:
    strangers = tmp_path / "strangers"
    strangers.mkdir()
    if os.geteuid() == 0:
        os.chown(strangers, NOBODY, NOBODY)
    before = sorted(tmp_path.rglob("*"))
    # /proc takes no folders; the others are none, and, for root, a home that is not ours.
    for home in ("/proc", "/nonexistent", "", "relative", *([str(strangers)] if os.geteuid() == 0 else [])):
        env = {**place.env, "HOME": home}
        env.pop("XDG_CACHE_HOME")
        done = subprocess.run(
            [Path(sys.executable).with_name("sharkstat"), "show", "slow,one"],
            env={**{k: v for k, v in os.environ.items() if k != "XDG_CACHE_HOME"}, **env},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), home
    assert sorted(path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts) == [*before, place.witness]


def test_what_is_known_is_what_is_listed() -> None:
    registry = Registry.default()
    loaded = {
        name: dataclasses.astuple(index.Described(s.title, s.usage, s.family, tuple(e.name for e in s.engines)))
        for name, s in registry.all().items()
    }
    assert {
        name: dataclasses.astuple(said) for name, said, _ in Registry.default().described(discovered=True)
    } == loaded
