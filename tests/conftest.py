"""What several test modules share: each capture's measurements, taken once for all tests that want them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests import known_gaps
from tests.measure import CORPUS, PROJECT, TWINS, Measured, corpus_captures, data_captures, measure

_ENDINGS = (".pcap", ".pcapng", ".gz")
_NO_CORPUS = pytest.mark.skip(reason="the large captures are not there: ../shared/captures beside the checkout")


def _captures() -> list[object]:
    long = [pytest.mark.long]
    here = [
        pytest.param(path, id=path.relative_to(PROJECT).as_posix(), marks=long if path.name in TWINS else [])
        for path in data_captures()
    ]
    # Every hundred-and-twentieth by default; script/test-long has the others.
    large = [
        pytest.param(
            path,
            id=path.relative_to(CORPUS).as_posix(),
            marks=[pytest.mark.corpus, *(long if number % 120 else [])],
        )
        for number, path in enumerate(corpus_captures())
    ]
    return [*here, *(large or [pytest.param(CORPUS, id="corpus", marks=[pytest.mark.corpus, _NO_CORPUS])])]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means: a process more than there are processors, since tests of live captures mostly wait."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that take minutes run only where -m names them (script/test-long).

    In several processes (pytest -n 2 --dist loadgroup) what is measured or captured once stays with one of them.
    """
    if "long" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    for item in items:
        gap = known_gaps.reason(getattr(item, "originalname", None) or item.name)
        if gap:
            item.add_marker(pytest.mark.xfail(reason=gap, strict=False))
        if not CORPUS.exists() and item.get_closest_marker("corpus"):
            item.add_marker(_NO_CORPUS)
        if item.get_closest_marker("xdist_group"):
            continue
        capture = _capture_of(item)
        if capture:
            item.add_marker(pytest.mark.xdist_group(capture))
        elif any(
            definitions[-1].scope == "module"
            for definitions in item._fixtureinfo.name2fixturedefs.values()  # type: ignore[attr-defined]
        ):
            item.add_marker(pytest.mark.xdist_group(item.path.name))


def _capture_of(item: pytest.Item) -> str:
    """The file name of the capture that a test is given; "" where it is given none."""
    given = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return next((Path(str(one)).name for one in given if str(one).endswith(_ENDINGS)), "")


@pytest.fixture(scope="session", params=_captures())
def measured(request: pytest.FixtureRequest) -> Measured:
    """A capture with all that sharkstat and the oracles say of it."""
    return measure(request.param)
