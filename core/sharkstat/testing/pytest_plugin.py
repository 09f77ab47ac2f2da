"""The pytest plugin: the functions of sharkstat.testing as fixtures, for tests of plugins. See docs/testing.md.

pytest loads it wherever sharkstat is installed, so it imports nothing until a fixture is used.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sharkstat import Registry
    from sharkstat.testing import Capture, Check, Mutants, Run, StrPath

FILES = "sharkstat_plugins"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(FILES, "Files of sharkstat plugins to test that are not installed.", type="paths")


@pytest.fixture(scope="session")
def sharkstat_registry(pytestconfig: pytest.Config) -> Registry:
    """The registry of installed plugins and of the files in the ini option sharkstat_plugins.

    A plugin that fails to load gives a warning.
    """
    from sharkstat import Registry

    registry = Registry.default([Path(path) for path in pytestconfig.getini(FILES)])
    for text in registry.warnings:
        warnings.warn(text, stacklevel=1)
    return registry


@pytest.fixture(scope="session")
def sharkstat_capture() -> Capture:
    """sharkstat.testing.capture: a small capture that comes with sharkstat."""
    from sharkstat import testing

    return testing.capture


@pytest.fixture
def sharkstat_mutants(tmp_path: Path) -> Mutants:
    """sharkstat.testing.mutants, in the test's own folder."""
    from sharkstat import testing

    def mutants(capture: StrPath, seeds: Sequence[int] = (0, 1)) -> Iterator[Path]:
        return testing.mutants(capture, tmp_path, seeds)

    return mutants


@pytest.fixture(scope="session")
def sharkstat_run(sharkstat_registry: Registry) -> Run:
    """sharkstat.testing.run: the table of one statistic on a capture."""
    from sharkstat import testing

    return functools.partial(testing.run, registry=sharkstat_registry)


@pytest.fixture(scope="session")
def assert_engines_agree(sharkstat_registry: Registry) -> Check:
    """sharkstat.testing.assert_engines_agree."""
    from sharkstat import testing

    return functools.partial(testing.assert_engines_agree, registry=sharkstat_registry)


@pytest.fixture(scope="session")
def assert_balanced(sharkstat_registry: Registry) -> Check:
    """sharkstat.testing.assert_balanced."""
    from sharkstat import testing

    return functools.partial(testing.assert_balanced, registry=sharkstat_registry)


@pytest.fixture(scope="session")
def assert_merges(sharkstat_registry: Registry) -> Check:
    """sharkstat.testing.assert_merges."""
    from sharkstat import testing

    return functools.partial(testing.assert_merges, registry=sharkstat_registry)


@pytest.fixture(scope="session")
def assert_survives(sharkstat_registry: Registry) -> Check:
    """sharkstat.testing.assert_survives."""
    from sharkstat import testing

    return functools.partial(testing.assert_survives, registry=sharkstat_registry)
