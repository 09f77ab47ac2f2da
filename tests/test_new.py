"""`sharkstat new`: the package that it makes is installed, found, and passes its own tests and checks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.command import PROJECT, sharkstat, tables
from tests.packages import BRIEFLY, installed, run_in, run_tests

TOOLS = Path(sys.executable).parent
NAMES = {
    "declared": "asked-names",
    "packets": "Dns.Answered",
    "tap": "sharkstat-dns_lost",
    "exporter": "sharkstat-row-blocks",
}
STATISTICS = {"declared": "asked,names", "packets": "dns,answered", "tap": "dns,lost", "exporter": "row-blocks"}
REQUESTS = {**STATISTICS, "exporter": "dns,names --format row-blocks"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("new") / "deep" / "er"
    for kind, name in NAMES.items():
        done = sharkstat("new", name, "--kind", kind, "--folder", folder)
        assert (done.returncode, done.stderr) == (0, "")
        what, following, *commands = done.stdout.splitlines()
        assert what.startswith(
            f"created {folder / name} with the {'format' if kind == 'exporter' else 'statistic'} {STATISTICS[kind]}: "
            ".gitignore, README.md, "
        )
        assert following == "next:"
        assert commands == [
            f"  cd {folder / name} && python -m pip install -e '.[test]'",
            f"  sharkstat run tests/dns.pcapng -z {REQUESTS[kind]}",
            "  python -m pytest",
        ]
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES.values())
    return {kind: folder / name for kind, name in NAMES.items()}


@pytest.mark.parametrize("chosen", [BRIEFLY, pytest.param((), marks=pytest.mark.long)], ids=["briefly", "all"])
def test_what_was_made_is_installed_found_and_tested(
    made: dict[str, Path], tmp_path: Path, chosen: tuple[str, ...]
) -> None:
    env = installed(list(made.values()), tmp_path / "site")
    assert "passed" in run_tests(list(made.values()), env, *chosen)
    listed = json.loads(sharkstat("plugins", "--format", "json", env=env).stdout)["tables"][0]["rows"]
    found = {row["statistics"] or row["formats"]: (row["from"], row["problem"]) for row in listed}
    for kind, name in NAMES.items():
        assert found[STATISTICS[kind]] == (f"{name} 0.1.0", "")
    requests = [word for kind, name in STATISTICS.items() if kind != "exporter" for word in ("-z", name)]
    results = tables(made["tap"] / "tests" / "dns.pcapng", *requests, env=env)
    assert [len(table["rows"]) for table in results] == [9, 9, 9]
    assert [table["engine"] for table in results] == ["lua", "packets", "lua"]
    sharkstat(
        "run",
        made["tap"] / "tests" / "dns.pcapng",
        "-z",
        "dns,names",
        "--output",
        f"{tmp_path}/blocks/",
        "--format",
        "row-blocks",
        env=env,
    )
    assert "Name: www.example.net" in (tmp_path / "blocks" / "dns_names.row-blocks").read_text()


@pytest.mark.parametrize("kind", NAMES)
def test_what_was_made_is_tidy(kind: str, made: dict[str, Path]) -> None:
    run_in(made[kind], TOOLS / "ruff", "format", "--check", "--no-cache", ".")
    run_in(made[kind], TOOLS / "ruff", "check", "--no-cache", ".")
    for path in made[kind].rglob("*"):
        if path.is_file() and path.suffix not in (".pcapng", ".pyc"):
            text = path.read_text(encoding="utf-8")
            assert "my" not in text.replace("_", " ").replace("-", " ").replace(",", " ").lower().split(), path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-dns"], "No such option: -d"),
        (["--", "-dns"], "'-dns' is not a valid package name: use letters and digits, separated by - or _"),
        (["../dns"], "'../dns' is not a valid package name: "),
        (["dns slow"], "'dns slow' is not a valid package name: "),
        (["größe"], "'größe' is not a valid package name: "),
        (["3dns"], "3dns: 3dns is not a valid module name: start with a letter"),
        (["class"], "class: class is not a valid module name: "),
        (["json"], "json: a module json already exists: choose another name"),
        (["sharkstat"], "sharkstat: a module sharkstat already exists: choose another name"),
        (["conv-tcp"], "the statistic conv,tcp already exists: choose another name with --statistic"),
        (
            ["mine", "--statistic", "my stat"],
            "--statistic my stat: not a valid name; use words separated by commas, e.g. dns,slow",
        ),
        (["mine", "--kind", "lua"], "--kind lua: no such kind; choose declared, packets, tap or exporter"),
        (["mine", "--folder", "/dev/null"], "cannot create /dev/null/mine: "),
        (["there"], "there already exists: choose another NAME or --folder"),
    ],
)
def test_what_cannot_be_made_is_told_in_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    done = sharkstat("new", *arguments, cwd=tmp_path)
    assert done.returncode in (2, 5) and done.stdout == ""
    assert done.stderr.startswith(f"sharkstat: {said}") and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there"], "nothing is left behind"
    assert not list((tmp_path / "there").iterdir())


@pytest.mark.long
def test_in_a_fresh_environment_it_passes_its_tests_and_checks(tmp_path: Path) -> None:
    """As a stranger does it: sharkstat from its wheel, in an environment that has nothing else."""
    run_in(tmp_path, sys.executable, "-m", "venv", tmp_path / "venv")
    bin_ = tmp_path / "venv" / "bin"
    run_in(tmp_path, bin_ / "pip", "install", "-qq", PROJECT)
    for kind, name in NAMES.items():
        between = "-" if kind == "exporter" else ","
        run_in(tmp_path, bin_ / "sharkstat", "new", name, "--kind", kind, "--statistic", f"fresh{between}{kind}")
        run_in(tmp_path / name, bin_ / "pip", "install", "-qq", "-e", ".[test]")
        assert "passed" in run_in(tmp_path / name, bin_ / "python", "-m", "pytest", "-q")
        run_in(tmp_path / name, bin_ / "ruff", "check", ".")
        run_in(tmp_path / name, bin_ / "ruff", "format", "--check", ".")
        run_in(tmp_path / name, bin_ / "mypy", "--strict")
        asked = ["-z", "dns,names", "--format", "fresh-exporter"] if kind == "exporter" else ["-z", f"fresh,{kind}"]
        shown = run_in(tmp_path / name, bin_ / "sharkstat", "run", "tests/dns.pcapng", *asked)
        assert "www.example.net" in shown
