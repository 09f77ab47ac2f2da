"""Which two hosts a packet is of, and whether it is plain: TCP or UDP over IP, with nothing unusual about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sharkstat.running.walking import Packets, Unsplittable, columns

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

HEAD = 144  # bytes from the network header on that are looked at for tunnels, and what ICMP errors quote
USUAL = 56  # those of a plain packet that are: IPv6, and TCP without options
# By link type (LINKTYPE_...): where the type of the network layer is, and where that begins.
_ENCAPSULATIONS: dict[int, tuple[int | None, int]] = {
    1: (12, 14),
    113: (14, 16),
    276: (0, 20),
    101: (None, 0),
    228: (None, 0),
    229: (None, 0),
}

# Ports of protocols that carry packets of other hosts, depend on what others said, or go to many.
TUNNELS = (
    *(67, 68, 111, 135, 137, 138, 434, 500, 546, 547, 593, 1080, 1194, 1701, 1723, 1812, 1813, 1900, 1967, 2002, 2049),
    *(2055, 2123, 2152, 2268, 2362, 2855, 3074, 3260, 3386, 3478, 3479, 3503, 3544, 3653, 3702, 4305, 4341, 4342, 4500),
    *(4739, 4789, 4790, 5072, 5246, 5247, 5349, 5353, 5355, 5555, 6000, 6080, 6081, 6343, 6633, 6635, 6653, 8472, 8805),
    *(8847, 9899, 9996, 10000, 11111, 12222, 12223, 37008, 47808, 51820),
)
# Those of protocols that announce conversations which others will have.
ANNOUNCERS = (
    *(21, 69, 161, 162, 554, 1719, 1720, 2000, 2427, 2727, 2944, 2945, 4569, 5000, 5004, 5005, 5060, 5061, 5070, 5094),
    *(5500, 5501, 5800, 5801, 5900, 5901, 5902, 5903, 7000, 7070, 8554, 10161, 10162),
)

# Odd numbers without a pattern: a pair's number is the sum of what its ends give, and so the same both ways.
_MIX = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)


def _of_ends(words: Array) -> Array:
    """The number of each end: one or four words of an address."""
    import numpy as np

    total = np.zeros(len(words), np.uint64)
    for at in range(words.shape[1]):
        total = (total + words[:, at] + np.uint64(1)) * np.uint64(_MIX[at])
        total ^= total >> np.uint64(29)
    mixed: Array = (total * np.uint64(_MIX[3])) ^ (total >> np.uint64(31))
    return mixed


def _pair_numbers(a: Array, b: Array) -> Array:
    import numpy as np

    numbers: Array = np.maximum(_of_ends(a) + _of_ends(b), np.uint64(1))
    return numbers


def pair_number(a: bytes, b: bytes) -> int:
    """The number of a pair of IP addresses."""
    import numpy as np

    words = [np.frombuffer(end, ">u4").astype(np.uint64).reshape(1, -1) for end in (a, b)]
    return int(_pair_numbers(*words)[0])


@dataclass
class Looked:
    """What the headers of some packets say.

    `pairs` has the number of each packet's two hosts (0: none), `rests` the pairs that stay together. `announces` says
    whether any packet announces conversations, `hides` whether tshark may begin streams of TCP that no packet tells. Of
    the packets that are `tcp` or `udp` and nothing else, `head` has the first bytes from the network header on, `inner`
    where the transport header begins in it, and `tags` their VLANs; `payloads` and `ends` are where what TCP carries
    begins, and where it ends, as far as it was captured.
    """

    pairs: Array
    rests: set[int]
    announces: bool
    hides: bool
    tcp: Array
    udp: Array
    v4: Array
    head: Array
    inner: Array
    tags: Array
    payloads: Array
    ends: Array


def pairs_of(view: Array, packets: Packets) -> Looked:
    """What the headers of all packets in these bytes say, which are followed by at least HEAD more."""
    import numpy as np

    if packets.link not in _ENCAPSULATIONS:
        raise Unsplittable("its link type is none whose hosts are known")
    kind_at, network_at = _ENCAPSULATIONS[packets.link]
    count = len(packets.begins)
    network = packets.starts + network_at
    tags = np.zeros(count, np.int64)
    if kind_at is None:
        version = view[network] >> 4
        kind = np.where(version == 4, 0x0800, np.where(version == 6, 0x86DD, 0))
    else:
        kind = view[packets.starts + kind_at].astype(np.int64) << 8 | view[packets.starts + kind_at + 1]
        for _ in range(2):
            tagged = np.nonzero((kind == 0x8100) | (kind == 0x88A8))[0]
            at = network[tagged]
            tags[tagged] = tags[tagged] << 16 | (view[at].astype(np.int64) & 15) << 8 | view[at + 1] | 0x8000
            kind[tagged] = view[at + 2].astype(np.int64) << 8 | view[at + 3]
            network[tagged] += 4
    room = packets.starts + packets.kept - network  # bytes of it that were captured
    real = packets.starts + packets.lengths - network
    head = columns(view, network, USUAL)
    nibble = head[:, 0] >> 4
    v4 = (kind == 0x0800) & (room >= 20) & (nibble == 4)
    v6 = (kind == 0x86DD) & (room >= 40) & (nibble == 6)
    words = head.view(">u4")
    pairs = np.zeros(count, np.uint64)
    for some, begin, each in ((v4, 3, 1), (v6, 2, 4)):
        rows = np.nonzero(some)[0]
        ends = words[rows, begin : begin + 2 * each].astype(np.uint64)
        pairs[rows] = _pair_numbers(ends[:, :each], ends[:, each:])

    shorts = head.view(">u2")
    length = np.where(v4, shorts[:, 1], shorts[:, 2] + np.int64(40))
    header = np.where(v4, 20, 40)
    protocol = np.where(v4, head[:, 9], head[:, 6])
    whole = (v4 & (head[:, 0] == 0x45) & (shorts[:, 3] & 0xBFFF == 0)) | v6
    fits = whole & (length <= real) & (length > header)
    tcp, udp = fits & (protocol == 6), fits & (protocol == 17)
    ports = [np.where(v4, shorts[:, 10 + at], shorts[:, 20 + at]) for at in (0, 1)]
    offset = (np.where(v4, head[:, 32], head[:, 52]) >> 4) * 4
    tcp &= (offset >= 20) & (header + offset <= np.minimum(length, room))
    said = np.where(v4, shorts[:, 12], shorts[:, 22])
    udp &= (said >= 8) & (header + said <= length) & (room >= header + 8)
    special = np.zeros(65536, bool)
    special[[0, *TUNNELS, *ANNOUNCERS]] = True
    plain = (tcp | udp) & ~special[ports[0]] & ~special[ports[1]]
    having = np.nonzero(tcp & plain & (offset > 20))[0]
    plain[having] = _usual_options(view, network[having] + header[having] + 20, offset[having] - 20)
    payload = columns(view, network + header + offset, 4).view(">u4")[:, 0]
    plain &= ~(tcp & (payload == _RFB))
    hides = tcp & (~plain | special[ports[0]] | special[ports[1]])
    others = np.nonzero(~plain)[0]
    wide = columns(view, network[others], HEAD)
    wide[np.arange(HEAD) >= room[others, None]] = 0  # what follows is another packet's
    rests = set(np.unique(pairs[others]).tolist())
    rests |= _inside(wide, real[others])
    rests |= _quoted(wide, (v4 & (protocol == 1))[others], (v6 & (protocol == 58))[others])
    announcing = np.zeros(65536, bool)
    announcing[[*ANNOUNCERS]] = True
    announces = (tcp | udp) & (announcing[ports[0]] | announcing[ports[1]])
    return Looked(
        pairs,
        rests,
        bool(announces.any()),
        bool(hides.any()),
        tcp & plain,
        udp & plain,
        v4,
        head,
        header,
        tags,
        network + header + offset,
        network + np.minimum(length, room),
    )


# "RFB ", by which tshark knows VNC on any port, and then begins a stream of its own.
_RFB = 0x52464220
# By kind: how long the TCP options are that every tshark reads as they are.
_OPTIONS = {2: (4,), 3: (3,), 4: (2,), 5: (10, 18, 26, 34), 8: (10,)}


def _usual_options(view: Array, begins: Array, sizes: Array) -> Array:
    """Whether the TCP options that begin there are whole and well-known: in others tshark may find an error."""
    import numpy as np

    known = np.zeros((256, 256), bool)
    for option, lengths in _OPTIONS.items():
        known[option, lengths] = True
    usual: Array = (columns(view, begins, 4).view(">u4")[:, 0] == 0x0101080A) & (
        sizes == 12
    )  # time stamps, as nearly all have
    rows = np.nonzero(~usual)[0]
    at, size = begins[rows], sizes[rows].astype(np.int64)
    while len(rows):
        kind, length = view[at], view[at + 1]
        length = np.where(kind == 1, 1, length)
        good = (kind == 1) | (known[kind, length] & (length <= size))
        left = np.where(good, size - length, -1)
        ended = (kind == 0) | (left == 0)
        usual[rows[ended]] = True
        more = ~ended & (left > 0)
        rows, at, size = rows[more], at[more] + length[more], left[more]
    return usual


# What may follow an IPv6 header.
_NEXT_HEADERS = (0, 4, 6, 17, 41, 43, 44, 47, 50, 51, 58, 59, 60, 89, 103, 132)


def _inside(head: Array, real: Array) -> set[int]:
    """The pairs of IP headers that seem to be inside of packets, as in tunnels.

    What only seems to be a header costs nothing but that its pair is read with the rest.
    """
    import numpy as np

    found: set[int] = set()
    for at in range(2, HEAD - 40, 2):
        for version, first, words in ((4, 12, 1), (6, 8, 4)):
            rows = np.nonzero(head[:, at] == 0x45 if version == 4 else head[:, at] >> 4 == 6)[0]
            inner = head[rows, at : at + 40].astype(np.int64)
            if version == 4:
                total = sum(inner[:, byte] << 8 | inner[:, byte + 1] for byte in range(0, 20, 2))
                good = (total % 0xFFFF == 0) | (at + (inner[:, 2] << 8 | inner[:, 3]) == real[rows])
            else:
                left = real[rows] - at - 40 - (inner[:, 4] << 8 | inner[:, 5])
                good = np.isin(inner[:, 6], _NEXT_HEADERS) & (left <= 8)
                good &= (left >= 0) | (inner[:, 0] << 8 == 0x6000)
            rows = rows[good]
            ends = np.ascontiguousarray(head[rows, at + first : at + first + 8 * words]).view(">u4").astype(np.uint64)
            found.update(np.unique(_pair_numbers(ends[:, :words], ends[:, words:])).tolist())
    return found


def _quoted(head: Array, icmp: Array, icmp6: Array) -> set[int]:
    """The pairs whose packets ICMP errors quote: tshark takes the quotes for a part of their conversations."""
    import numpy as np

    words = head.view(">u4").astype(np.uint64)
    four = icmp & np.isin(head[:, 20], (3, 4, 5, 11, 12)) & (head[:, 28] >> 4 == 4)
    six = icmp6 & (head[:, 40] >= 1) & (head[:, 40] <= 4) & (head[:, 48] >> 4 == 6)
    return {
        *np.unique(_pair_numbers(words[four, 10:11], words[four, 11:12])).tolist(),
        *np.unique(_pair_numbers(words[six, 14:18], words[six, 18:22])).tolist(),
    }
