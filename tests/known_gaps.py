"""Tests that are known to fail on a tshark or a Python that the product does not serve in full yet, with the reason.

They still run, and are reported as expected failures (pytest -rx lists them). A line leaves when its gap is closed.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys

# By the name of the test, for tshark from this version on.
_TSHARK: dict[tuple[int, int], dict[str, str]] = {}
_PYTHON: dict[tuple[int, int], dict[str, str]] = {
    (3, 14): {"test_whole_packets_are_what_stock_pyshark_gives": "stock pyshark does not run on Python 3.14"},
}


@functools.cache
def _tshark() -> tuple[int, int]:
    done = subprocess.run(["tshark", "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"(\d+)\.(\d+)\.", done.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def reason(test: str) -> str:
    """Why a test fails here; "" where it must pass."""
    for version, table in ((_tshark(), _TSHARK), (sys.version_info[:2], _PYTHON)):
        for since, names in table.items():
            if version >= since and test in names:
                return names[test]
    return ""
