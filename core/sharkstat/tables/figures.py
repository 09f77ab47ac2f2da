"""Figures for people: bytes, durations, times and numbers in few digits, with their units."""

from __future__ import annotations

from datetime import datetime, timezone


def humanised_bytes(count: int) -> str:
    """
    >>> humanised_bytes(999), humanised_bytes(12_345), humanised_bytes(1_500_000_000)
    ('999 B', '12.3 kB', '1.50 GB')
    """
    return _prefixed(count, "B")


def humanised_rate(rate: float) -> str:
    """Bytes per second.

    >>> humanised_rate(0.02), humanised_rate(999.4), humanised_rate(0.0)
    ('<1 B/s', '999 B/s', '0 B/s')
    """
    return f"{humanised_bytes(round(rate)) if rate == 0 or rate >= 0.5 else '<1 B'}/s"


def _prefixed(count: int | float, base: str) -> str:
    """Three digits and a prefix; whole numbers below 1000 as they are."""
    size = abs(count)
    if size < 1000 and isinstance(count, int):
        return f"{count} {base}"
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        # 999.95 kB must not read 1000 kB.
        text = f"{size:.2f}" if size < 9.995 else f"{size:.1f}" if size < 99.95 else f"{size:.0f}"
        if (prefix or isinstance(count, float)) and (float(text) < 1000 or prefix == "E"):
            return f"{'-' if count < 0 else ''}{text} {prefix}{base}"
        size /= 1000
    raise AssertionError


def seconds(nanoseconds: int) -> str:
    """Seconds in full: as many decimals as there are, none cut.

    >>> seconds(10_000_000_000), seconds(1_500_000)
    ('10', '0.0015')
    """
    sign, value = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    whole, rest = divmod(value, 10**9)
    return f"{sign}{whole}" + (f".{rest:09d}".rstrip("0") if rest else "")


def humanised_duration(nanoseconds: int) -> str:
    """
    >>> humanised_duration(1_234_000), humanised_duration(14_987_678_349), humanised_duration(93_784 * 10**9)
    ('1.23 ms', '14.99 s', '1 d 2 h 3 min')
    """
    value = abs(nanoseconds)
    sign = "-" if nanoseconds < 0 else ""
    if value == 0:
        return "0 s"
    if value < 1000:
        return f"{sign}{value} ns"
    if value < 10**6:
        return f"{sign}{value / 1e3:.3g} µs"
    if value < 999_500_000:
        return f"{sign}{value / 1e6:.3g} ms"
    if value < 100 * 10**9:
        return f"{sign}{value / 1e9:.2f} s"
    whole = round(value / 1e9)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    while parts[0][0] == 0:
        parts.pop(0)
    return sign + " ".join(f"{number} {unit}" for number, unit in parts[:3])


def clock(nanoseconds: int, pattern: str = "%Y-%m-%d %H:%M:%S") -> str | None:
    """The whole seconds of a time in UTC, by strftime's pattern; None beyond the years that a date can have.

    >>> clock(1_700_000_000_500_000_000)
    '2023-11-14 22:13:20'
    """
    try:
        return datetime.fromtimestamp(nanoseconds // 10**9, timezone.utc).strftime(pattern)
    except (OverflowError, ValueError, OSError):
        return None


# Units whose numbers are written with a prefix: of one or more of the base unit, and what follows the prefix.
_SCALED = {
    "bytes": (1, "B"),
    "bytes per second": (1, "B/s"),
    "bytes/s": (1, "B/s"),
    "bits per second": (1, "b/s"),
    "bits/s": (1, "b/s"),
    "Mb/s": (10**6, "b/s"),
}


def scaled(unit: str, value: int | float) -> str:
    """A number of bytes or bits as people write it; "" for another unit.

    >>> scaled("bytes per second", 15_960.9), scaled("Mb/s", 26.8661), scaled("bytes", 94.18), scaled("hosts", 3)
    ('16.0 kB/s', '26.9 Mb/s', '94.2 B', '')
    """
    if unit not in _SCALED:
        return ""
    factor, base = _SCALED[unit]
    return _prefixed(value * factor, base)


def plain_number(value: float) -> str:
    """Six digits, or all of the whole part; an exponent only where the number would be too long.

    >>> plain_number(101.3333), plain_number(26_866_100.25), plain_number(0.00001234), plain_number(1e22)
    ('101.333', '26,866,100', '1.234e-05', '1e+22')
    """
    return f"{value:,.0f}" if 1e6 <= abs(value) < 1e15 else f"{value:,.6g}"
