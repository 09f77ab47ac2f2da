"""For the tests of a plugin: run a statistic on a capture, and check what holds for every good statistic.

The names are those of `sharkstat.testing.checks`, loaded on first use, since pytest loads this package in every
project that has sharkstat installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharkstat.testing.checks import (
        CAPTURES,
        Capture,
        Check,
        Mutants,
        Run,
        StrPath,
        assert_balanced,
        assert_engines_agree,
        assert_merges,
        assert_survives,
        capture,
        mutants,
        run,
    )

__all__ = [
    "CAPTURES",
    "Capture",
    "Check",
    "Mutants",
    "Run",
    "StrPath",
    "assert_balanced",
    "assert_engines_agree",
    "assert_merges",
    "assert_survives",
    "capture",
    "mutants",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from sharkstat.testing import checks

        value = getattr(checks, name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
