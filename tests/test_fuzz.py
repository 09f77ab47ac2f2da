"""Sixty damaged captures: every run ends as documented, its books balance, and no value is impossible."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import fuzzing
from tests.command import DATA

EACH = 10  # captures of one test, so that several processes share them


@pytest.mark.parametrize("first", range(0, 60, EACH))
def test_damaged_captures_give_right_numbers_or_one_line(first: int, tmp_path: Path) -> None:
    sources = [path for path in fuzzing.captures() if DATA in path.parents]
    asked = fuzzing.requests()
    outcomes = [fuzzing.tried(seed, sources, asked, tmp_path) for seed in range(first, first + EACH)]
    assert not [(o.seed, o.capture, o.kind, o.faults) for o in outcomes if o.faults]
    assert sum(outcome.tables for outcome in outcomes) > 0


def test_the_judge_finds_what_must_not_be() -> None:
    """A fuzzer that finds nothing proves nothing, unless it would."""
    columns = [
        {"name": name, "type": kind, "unit": unit, "role": role}
        for name, kind, unit, role in (
            ("client", "text", "", "key"),
            ("min_time", "duration", "seconds", "measure"),
            ("mean_time", "duration", "seconds", "derived"),
            ("max_time", "duration", "seconds", "measure"),
            ("answered", "number", "percent", "derived"),
        )
    ]
    good = {"client": "a", "min_time": 0.1, "mean_time": 0.2, "max_time": 0.3, "answered": 100.0}
    bad = ({"min_time": -0.1}, {"mean_time": 0.4}, {"answered": 100.5})
    for spoilt in ({}, *bad):
        table = {"name": "t", "request": "t", "columns": columns, "rows": [{**good, **spoilt}]}
        assert bool(list(fuzzing._impossible(table))) == bool(spoilt)
