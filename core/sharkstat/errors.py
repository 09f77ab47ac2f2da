"""Everything that can go wrong, each with the exit status that the command line gives it.

The message of every error is one line that says what is wrong and how to mend it.
"""

from __future__ import annotations

from typing import Any, ClassVar


class SharkstatError(Exception):
    """The base of all errors that sharkstat raises on purpose.

    `exit_status` is what the command line ends with; see docs/exit-statuses.md.
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, *, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class RequestError(SharkstatError):
    """A request, a filter or an option that cannot be carried out as it stands."""

    exit_status = 2


class TsharkError(SharkstatError):
    """tshark (or dumpcap, or mergecap) is missing, too old, cannot run Lua, or died."""

    exit_status = 3


class SourceError(SharkstatError):
    """What was to be read cannot be read: a file, standard input, an interface."""

    exit_status = 4


class OutputError(SharkstatError):
    """The results cannot be written where they should go."""

    exit_status = 5


class StatisticError(SharkstatError):
    """A statistic failed on the way; `tables` holds the results (each a `Table`) of the others."""

    exit_status = 7

    def __init__(self, message: str, tables: list[Any] | None = None, *, traceback: str = "") -> None:
        super().__init__(message, traceback=traceback)
        self.tables = tables or []


class TextError(SharkstatError):
    """A text of tshark's that has not the layout that is known; it is shown as it is."""

    exit_status = 7


class MergeError(SharkstatError):
    """Tables that cannot be made one without saying something wrong."""

    exit_status = 2


# Exit statuses that are no exceptions: results were printed, but they are not whole.
EXIT_INCOMPLETE = 6
# `diff --fail-over`: the results are whole, and traffic changed by more than was allowed.
EXIT_CHANGED = 8
EXIT_INTERRUPTED = 130
