"""Which two hosts a packet is of, and whether it is plain: TCP or UDP over IP, with nothing unusual about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sharkstat.running.walking import Packets, Unsplittable, columns

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

HEAD = 144  # bytes from the network header on that are looked at: for tunnels, and what ICMP errors quote
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


def pairs_of(view: Array, packets: Packets) -> tuple[Array, set[int], bool]:
    """The pair of each packet, the pairs that belong to the rest, and whether any announces conversations."""
    import numpy as np

    if packets.link not in _ENCAPSULATIONS:
        raise Unsplittable("its link type is none whose hosts are known")
    kind_at, network_at = _ENCAPSULATIONS[packets.link]
    count = len(packets.begins)
    network = packets.starts + network_at
    if kind_at is None:
        version = view[network] >> 4
        kind = np.where(version == 4, 0x0800, np.where(version == 6, 0x86DD, 0))
    else:
        kind = view[packets.starts + kind_at].astype(np.int64) << 8 | view[packets.starts + kind_at + 1]
        for _ in range(2):
            tagged = (kind == 0x8100) | (kind == 0x88A8)
            kind = np.where(
                tagged, view[network + 2].astype(np.int64) << 8 | view[np.minimum(network + 3, len(view) - 1)], kind
            )
            network = np.where(tagged, network + 4, network)
    room = packets.starts + packets.kept - network  # bytes of it that were captured
    real = packets.starts + packets.lengths - network
    head = columns(view, network, HEAD)
    wide = head.astype(np.int64)

    def short(at: int) -> Array:
        return wide[:, at] << 8 | wide[:, at + 1]

    v4 = (kind == 0x0800) & (room >= 20) & (head[:, 0] >> 4 == 4)
    v6 = (kind == 0x86DD) & (room >= 40) & (head[:, 0] >> 4 == 6)
    words = head[:, : HEAD // 4 * 4].view(">u4").astype(np.uint64)
    pairs = np.zeros(count, np.uint64)
    pairs[v4] = _pair_numbers(words[v4, 3:4], words[v4, 4:5])
    pairs[v6] = _pair_numbers(words[v6, 2:6], words[v6, 6:10])

    length = np.where(v4, short(2), short(4) + 40)
    header = np.where(v4, 20, 40)
    protocol = np.where(v4, wide[:, 9], wide[:, 6])
    whole = (v4 & (head[:, 0] == 0x45) & (short(6) & 0xBFFF == 0)) | v6
    fits = whole & (length <= real) & (length > header)
    tcp, udp = fits & (protocol == 6), fits & (protocol == 17)
    inner = np.where(v4[:, None], wide[:, 20:36], wide[:, 40:56])
    ports = inner[:, 0] << 8 | inner[:, 1], inner[:, 2] << 8 | inner[:, 3]
    offset = (inner[:, 12] >> 4) * 4
    tcp &= (offset >= 20) & (header + offset <= np.minimum(length, room))
    said = inner[:, 4] << 8 | inner[:, 5]
    udp &= (said >= 8) & (header + said <= length) & (room >= header + 8)
    special = np.zeros(65536, bool)
    special[[0, *TUNNELS, *ANNOUNCERS]] = True
    plain = (tcp | udp) & ~special[ports[0]] & ~special[ports[1]]
    rests = set(np.unique(pairs[~plain]).tolist())
    rests |= _inside(head[~plain], real[~plain])
    rests |= _quoted(words, wide, v4 & (protocol == 1), v6 & (protocol == 58))
    announcing = (tcp | udp) & (np.isin(ports[0], ANNOUNCERS) | np.isin(ports[1], ANNOUNCERS))
    return pairs, rests, bool(announcing.any())


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


def _quoted(words: Array, wide: Array, icmp: Array, icmp6: Array) -> set[int]:
    """The pairs whose packets ICMP errors quote: tshark takes the quotes for a part of their conversations."""
    import numpy as np

    four = icmp & np.isin(wide[:, 20], (3, 4, 5, 11, 12)) & (wide[:, 28] >> 4 == 4)
    six = icmp6 & (wide[:, 40] >= 1) & (wide[:, 40] <= 4) & (wide[:, 48] >> 4 == 6)
    return {
        *np.unique(_pair_numbers(words[four, 10:11], words[four, 11:12])).tolist(),
        *np.unique(_pair_numbers(words[six, 14:18], words[six, 18:22])).tolist(),
    }
