"""The plugins in docs/examples/packages, installed as strangers' are: their own tests, and how they are found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.command import DATA, PROJECT, sharkstat, tables
from tests.packages import BRIEFLY, installed, run_tests

PACKAGES = sorted(path.parent for path in PROJECT.glob("docs/examples/packages/*/pyproject.toml"))
STATISTICS = {"mtu_paths": "mtu,paths", "tcp_handshakes": "tcp,handshakes", "tls_versions": "tls,versions"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which they are installed."""
    return installed(PACKAGES, tmp_path_factory.mktemp("examples") / "site")


@pytest.mark.parametrize("chosen", [BRIEFLY, pytest.param((), marks=pytest.mark.long)], ids=["briefly", "all"])
def test_their_tests_pass(site: dict[str, str], chosen: tuple[str, ...]) -> None:
    assert [package.name for package in PACKAGES] == list(STATISTICS)
    assert "passed" in run_tests(PACKAGES, site, *chosen)


def test_they_are_found_listed_and_shown(site: dict[str, str]) -> None:
    rows = json.loads(sharkstat("plugins", "--format", "json", env=site).stdout)["tables"][0]["rows"]
    found = {row["plugin"]: (row["from"], row["statistics"], row["problem"]) for row in rows}
    listed = json.loads(sharkstat("list", "--format", "json", env=site).stdout)["tables"][0]["rows"]
    origins = {row["name"]: row["from"] for row in listed}
    for name, statistic in STATISTICS.items():
        origin = f"sharkstat-{name.replace('_', '-')} 0.1.0"
        assert found[name] == (origin, statistic, "")
        assert origins[statistic] == origin
    assert "rows=suite|server" in sharkstat("show", "tls,versions", env=site).stdout


def test_they_run_beside_built_in_statistics_on_their_engines(site: dict[str, str]) -> None:
    requests = [word for name in [*STATISTICS.values(), "conv,tcp"] for word in ("-z", name)]
    results = tables(DATA / "tls.pcapng", *requests, env=site)
    assert [table["engine"] for table in results] == ["lua", "packets", "lua", "lua"]
    assert all(table["rows"] for table in results)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_each_says_what_it_is(package: Path) -> None:
    text = (package / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# sharkstat-{package.name.replace('_', '-')}\n")
    assert f"-z {STATISTICS[package.name]}" in text
