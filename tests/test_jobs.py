"""Several tsharks at one time give the tables of one, to the last digit."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.command import DATA
from tests.measure import CORPUS, OURS, corpus_captures

import sharkstat

REQUESTS = [*OURS, "services", "traffic", "timeline", "group,by=ip.src,distinct=tcp.stream,sum=frame.len"]


def _same(path: Path) -> None:
    one = sharkstat.run(path, REQUESTS, jobs=1)
    several = sharkstat.run(path, REQUESTS, jobs=3)
    for alone, table in zip(one, several, strict=True):
        assert alone == table, alone.request


@pytest.mark.parametrize("name", ["story-after.pcapng", "dns.pcapng"])
def test_more_jobs_change_no_digit(name: str) -> None:
    _same(DATA / name)


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.exists(), reason="the large captures are not there: ../shared/captures")
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.relative_to(CORPUS).as_posix(), marks=[pytest.mark.long] if number % 10 else [])
        for number, path in enumerate(corpus_captures())
    ],
)
def test_more_jobs_change_no_digit_of_a_large_capture(path: Path) -> None:
    _same(path)


def test_what_one_statistic_cannot_be_asked_is_the_error_of_the_run() -> None:
    with pytest.raises(sharkstat.RequestError, match="nosuch"):
        sharkstat.run(DATA / "http.pcapng", ["conv,tcp", "http,tree", "io,stat,1,nosuch.field"], jobs=2)
    with pytest.raises(sharkstat.RequestError, match="at least 1"):
        sharkstat.run(DATA / "http.pcapng", "conv,tcp", jobs=0)
