"""Tests that are known to fail on a tshark or a Python that the product does not serve in full yet, with the reason.

They still run, and are reported as expected failures (pytest -rx lists them). A line leaves when its gap is closed.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys

# By the name of the test, for tshark from this version on.
_TSHARK: dict[tuple[int, int], dict[str, str]] = {
    (4, 4): {
        "test_every_byte_of_a_packet_survives_json": "tshark replaces bytes that are no UTF-8 before anyone reads them",
        "test_every_packet_has_a_sender_and_a_receiver": "two packets of tunnels have other addresses",
        "test_remarks_are_those_of_tshark": "payload of one direction differs where headers are cut",
        "test_addresses_after_the_fortieth_are_not_told": "the flow graph has another layout: shown as lines",
    },
    (4, 6): {
        "test_garbage_on_standard_input": "an unknown file on standard input is refused in tshark's words",
        "test_what_is_no_capture_is_refused": "a text from a pipe is refused as cut short",
    },
}
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
