"""The template of an HTTP path, as lua/sharkstat_lua/path_template.lua makes it.

docs/path-templates.md says what becomes of what, and tests/data/path-templates.tsv has an example of each.
"""

from __future__ import annotations

import re

from sharkstat.tshark.records import bytes_of

_WORD = "[A-Za-z0-9]"
_END = f"(?!{_WORD})"
# What is written as it is; the rest is percent-encoded.
_UNSAFE = re.compile(r"""[^!"$&'()*+,\-.0-9:;<=>@A-Z\[\]^_`a-z|~\\]""")
_HEX = "[0-9A-Fa-f]"
_ENCODED = re.compile(f"%({_HEX}{{2}})")
_UUID = re.compile(f"{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}{_END}")
_DATE_START = re.compile(r"([0-9]{4})([-_.]?)([0-9]{2})")
_DAY = re.compile(r"[0-9]{2}")
_CLOCK = re.compile(r"[Tt _]?[012][0-9]:?[0-5][0-9]:?[0-5][0-9]|[Tt ]?[012][0-9]:?[0-5][0-9]")
_FRACTION = re.compile(r"\.[0-9]+")
_ZONE = re.compile(r"[Zz]|[+-][0-9]{2}:?[0-9]{2}")
_BASE64 = re.compile(r"([A-Za-z0-9+/_-]+)=*")
_VERSION = re.compile(f"[vV][0-9]{{1,3}}{_END}")
_WHOLE_VERSION = re.compile(f"[vV][0-9.]*[0-9]{_END}")
_RUN = re.compile(f"{_WORD}+")
_NEXT_NUMBER = re.compile(f"\\.[0-9]+{_END}")
_AUTHORITY = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*://[^/]*)(.*)", re.DOTALL)


def path_template(target: str) -> str:
    """The template of a request's target. What is neither a path nor an address with one stays as it is.

    >>> path_template("/shop/v2/orders/1027?page=2&lang=en")
    '/shop/v2/orders/{n}?lang&page'
    """
    path, _, query = target.partition("?")
    found = _AUTHORITY.fullmatch(path)
    if not found and not path.startswith("/"):
        return path
    authority, rest = found.groups() if found else ("", path)
    names = _of_query(_as_bytes(query))
    return authority + _of_path(_as_bytes(rest)) + (f"?{names}" if names else "")


def _as_bytes(text: str) -> str:
    """A character a byte, which is what the rules look at."""
    return bytes_of(text).decode("latin-1")


def _encoded(text: str) -> str:
    return _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", text)


def _is_year(digits: str) -> bool:
    return "1970" <= digits <= "2099"


def _is_month(digits: str) -> bool:
    return "01" <= digits <= "12"


def _is_day(digits: str) -> bool:
    return "01" <= digits <= "31"


def _ends_word(text: str, at: int) -> bool:
    """Whether no letter or digit goes on here, as one must have come before."""
    return not re.match(_WORD, text[at : at + 1]) and bool(re.match(_WORD, text[at - 1 : at]))


def _end_of_date(text: str, at: int) -> int | None:
    """Where the date ends that begins here: 2024-01-18, 20240118, 2024-01, most also with a time behind it."""
    found = _DATE_START.match(text, at)
    if not found or not _is_year(found[1]) or not _is_month(found[3]):
        return None
    separator, after = found[2], found.end()
    day = _DAY.match(text, after + len(separator)) if text.startswith(separator, after) else None
    if not day or not _is_day(day[0]):
        return after if separator == "-" and _ends_word(text, after) else None
    stop = day.end()
    clock = _CLOCK.match(text, stop)
    if clock:
        end = clock.end()
        for pattern in (_FRACTION, _ZONE):
            more = pattern.match(text, end)
            end = more.end() if more else end
        if not re.match(_WORD, text[end : end + 1]):
            return end
    return stop if _ends_word(text, stop) else None


def _is_random(text: str) -> bool:
    """Words change seldom between letters and digits, or from lower to upper case; random texts do all the time."""
    between = len(re.findall(r"[A-Za-z](?=[0-9])|[0-9](?=[A-Za-z])", text))
    upper = len(re.findall(r"[a-z](?=[A-Z])", text))
    return between >= 4 or (between >= 2 and between + upper >= 4 and between + upper >= len(text) / 4)


def _of_run(run: str) -> str:
    """A run of letters and digits, with nothing of the kind around it."""
    if run.isdigit():
        return "{n}"
    if re.fullmatch(f"{_HEX}+", run) and (len(run) >= 16 or (len(run) >= 7 and re.search("[0-9]", run))):
        return "{hash}"
    if len(run) >= 40 or (len(run) >= 10 and _is_random(run)):
        return "{id}"
    return re.sub("[0-9]{2,}", "{n}", run)  # one digit beside letters is part of a name: s3, mp4, oauth2


def _is_base64(word: str) -> bool:
    return (
        len(word) >= 16
        and all(re.search(kind, word) for kind in ("[0-9]", "[A-Z]", "[a-z]"))
        and not re.search(f"{_HEX}{{4}}-{_HEX}{{4}}-", word)
        and not re.search("(?<![0-9])[12][0-9]{3}[-_]?[01][0-9][-_]?[0-3][0-9](?![0-9])", word)
        and _is_random(word)
    )


def _of_part(part: str) -> str:
    """One part of a path, or the name of a parameter."""
    text = _ENCODED.sub(lambda found: chr(int(found[1], 16)), part)
    out: list[str] = []
    at = word_ends = 0
    while at < len(text):
        word = None
        if at >= word_ends:
            word = _BASE64.match(text, at)
            word_ends = word.end() if word else at + 1
        if word and _is_base64(word[1]):
            out.append("{id}")
            at = word.end()
            continue
        run = _RUN.match(text, at)
        if not run:
            out.append(_encoded(text[at]))
            at += 1
            continue
        uuid = _UUID.match(text, at)
        date = None if uuid else _end_of_date(text, at)
        if uuid:
            out.append("{uuid}")
            at = uuid.end()
        elif date:
            out.append("{date}")
            at = date
        elif _VERSION.match(text, at):
            whole = _WHOLE_VERSION.match(text, at)
            assert whole
            out.append(whole[0])
            at = whole.end()
        else:
            replaced, at = _of_run(run[0]), run.end()
            while replaced == "{n}" and (more := _NEXT_NUMBER.match(text, at)):
                at = more.end()
            out.append(replaced)
    return "".join(out)


def _parts_of_date(parts: list[str], at: int) -> int:
    """A year, a month and a day (or the first two) that are parts of their own: how many parts they are."""
    year, month, day = (*parts[at : at + 3], "", "")[:3]
    if not re.fullmatch("[0-9]{4}", year) or not _is_year(year) or not re.fullmatch("[0-9]{1,2}", month):
        return 0
    if not _is_month(month.zfill(2)):
        return 0
    if re.fullmatch("[0-9]{1,2}", day) and _is_day(day.zfill(2)):
        return 3
    return 2 if len(month) == 2 else 0


def _of_path(path: str) -> str:
    parts = path.split("/")
    out: list[str] = []
    at = 0
    while at < len(parts):
        count = _parts_of_date(parts, at)
        out.append("{date}" if count else _of_part(parts[at]))
        at += max(count, 1)
    return "/".join(out)


def _of_query(query: str) -> str:
    """The names of a query's parameters, sorted, each once."""
    names = (_of_part(parameter.partition("=")[0]).replace("&", "%26") for parameter in query.split("&"))
    return "&".join(sorted({name for name in names if name}))
