"""The errors that sharkstat raises, with the exit status of each on the command line.

The message of every error is one line that says what is wrong and how to fix it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class SharkstatError(Exception):
    """The base class of sharkstat's errors.

    `exit_status` is the command line's exit status; see docs/exit-statuses.md.
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class RequestError(SharkstatError):
    """A request, filter or option is invalid."""

    exit_status = 2


class TsharkError(SharkstatError):
    """tshark, dumpcap or mergecap is missing, too old, cannot run Lua, or crashed."""

    exit_status = 3


class SourceError(SharkstatError):
    """A file, standard input or an interface cannot be read."""

    exit_status = 4


class OutputError(SharkstatError):
    """The results cannot be written."""

    exit_status = 5


class StatisticError(SharkstatError):
    """A statistic failed during the run; `tables` holds the results (each a `Table`) of the others.

    `failed` says of each request that failed why.
    """

    exit_status = 7

    def __init__(
        self,
        message: str,
        tables: list[Any] | None = None,
        *,
        failed: dict[str, str] | None = None,
        traceback: str = "",
    ) -> None:
        super().__init__(message, traceback=traceback)
        self.tables = tables or []
        self.failed = failed or {}

    @classmethod
    def of(cls, failures: Mapping[str, Any], tables: list[Any] | None = None) -> StatisticError:
        """The error of several requests: each failure has a `message` and a `traceback`."""
        said = {request: failure.message for request, failure in failures.items()}
        traces = "\n".join(filter(None, (failure.traceback for failure in failures.values())))
        return cls("; ".join(said.values()), tables, failed=said, traceback=traces)


class TextError(SharkstatError):
    """tshark's text does not have the expected layout; it is shown unchanged."""

    exit_status = 7


class MergeError(SharkstatError):
    """Tables that cannot be merged without giving wrong numbers."""

    exit_status = 2


# Exit statuses without an exception: results were printed, but they are incomplete.
EXIT_INCOMPLETE = 6
# `diff --fail-over`: the results are complete, and traffic changed by more than the limit.
EXIT_CHANGED = 8
EXIT_INTERRUPTED = 130
