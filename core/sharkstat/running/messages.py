"""Which pairs of hosts may send each other HTTP that tshark would find, and which surely do not.

tshark takes for HTTP what is on one of HTTP's ports. On any other port a connection becomes HTTP with a segment whose
first line has `HTTP/`, and so does what another protocol carries. So where no packet has this word, there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sharkstat.running.pairs import Looked
from sharkstat.running.walking import Packets, columns

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# Those for which tshark 4.0, 4.4 or 4.6 has HTTP by the port alone, and some that it had before.
PORTS = (80, 631, 1900, 2710, 2869, 3128, 3132, 3689, 5985, 7627, 8008, 8080, 8088, 11371)
_WORD = b"http/"


def pairs_with_http(view: Array, packets: Packets, looked: Looked, rows: Array, ports: Array) -> set[int]:
    """The pairs of those of these plain packets that may have a part of HTTP; `ports` has both ports of each.

    A packet of which only the beginning was captured may.
    """
    import numpy as np

    known = np.zeros(65536, bool)
    known[[*PORTS]] = True
    low = np.uint64(0xFFFF)
    may = known[(ports & low).astype(np.int64)] | known[(ports >> np.uint64(16) & low).astype(np.int64)]
    may |= packets.kept[rows] < packets.lengths[rows]
    # The word may be in two segments: its end begins one, or its beginning ends one.
    first = columns(view, looked.payloads[rows], 4) | 0x20
    last = columns(view, np.maximum(looked.ends[rows] - 4, 0), 4) | 0x20
    for size in (2, 3, 4):
        may |= _equal(first[:, :size], _WORD[-size:])
    for size in (3, 4):
        may |= _equal(last[:, -size:], _WORD[:size])
    found = set(np.unique(looked.pairs[rows[may]]).tolist())
    at = np.nonzero(view == _WORD[-1])[0]
    at = at[at >= 4]
    at = at[_equal(columns(view, at - 4, 4) | 0x20, _WORD[:4])]
    at = at[at >= packets.starts[0]]
    return found | set(np.unique(looked.pairs[np.searchsorted(packets.starts, at, "right") - 1]).tolist())


def _equal(some: Array, word: bytes) -> Array:
    """Which of the rows are the word, whose letters are small; a slash is one with this bit set, too."""
    import numpy as np

    equal: Array = (some == np.frombuffer(word, np.uint8)).all(axis=1)
    return equal
