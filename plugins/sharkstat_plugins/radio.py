"""mac-lte,stat mac-3gpp,stat rlc-lte,stat rlc-3gpp,stat: what each mobile phone and the common channels carried.

tshark prints a part for the common channels and a table with a row a phone (UE); here each common channel is a row
of its own. tshark 4.0 has the names with "lte", for LTE alone; 4.4 has those with "3gpp", for 5G NR, too.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable

from sharkstat import Column, Parsed, Statistic, Table, TextError, TsharkText, Value, hookimpl, sort_rows, text_of

_RAT = Column("rat", "text", role="key", title="RAT", description="radio access technology: LTE or NR")


class Radio(Statistic):
    """What the statistics of both layers share: the parts of the text, and the order of the rows."""

    layer_name = ""
    shared = ""  # the channel of the rows that are phones

    def __init__(self, name: str) -> None:
        self.name = name
        self.engines = (TsharkText(self.parse),)
        self.usage = f"{name}[,FILTER]"
        self.with_rat = "3gpp" in name
        self.title = f"{self.layer_name} {'LTE and NR' if self.with_rat else 'LTE'} traffic"

    @abstractmethod
    def parse(self, text: bytes, arguments: str) -> Parsed:
        """Read what tshark printed."""

    def _phones(self, text: str, header: str, title: str) -> list[list[str]]:
        """The cells of the rows that are phones. `title` has a group for their number, modulo 65536."""
        number = re.fullmatch(title, text.partition("\n")[0])
        _, rule, titles, *lines = text.split("\n") if text.count("\n") > 2 else [""] * 3
        if number is None or set(rule) != {"="} or titles.split() != header.split() or lines.pop() != "":
            raise TextError("its table of phones has not the header that is known")
        rows = [line.split() for line in lines]
        if len(rows) % 65536 != int(number[1]):
            raise TextError("it has not as many phones as it says")
        return rows

    def order(self, table: Table) -> None:
        def key(row: dict[str, Value]) -> tuple[Value, ...]:
            frames = sum(row[f"{way}_frames"] or 0 for way in ("ul", "dl"))  # type: ignore[misc]
            phone = tuple(row.get(name) or 0 for name in ("ueid", "rnti"))
            return row["channel"] == self.shared, row["channel"], -frames, row.get("rat") or "", *phone

        sort_rows(table, key)


def _direction(way: str, *others: Column) -> tuple[Column, ...]:
    """The columns of the uplink or the downlink."""
    return (
        Column(f"{way}_frames", "integer", "frames"),
        Column(f"{way}_bytes", "integer", "bytes"),
        Column(f"{way}_rate", "number", "Mb/s", merge="none", approximate=True),
        *others,
    )


def _padding(way: str) -> Column:
    return Column(f"{way}_padding", "number", "percent", merge="none", approximate=True)


def _whole(cell: str) -> int:
    if not re.fullmatch(r"[0-9]+", cell):
        raise TextError(f"{cell!r} is no number")
    return int(cell)


def _decimal(cell: str) -> float:
    if not re.fullmatch(r"-?[0-9]+\.[0-9]{6}", cell):
        raise TextError(f"{cell!r} is no decimal number")
    return float(cell)


class Mac(Radio):
    layer_name = "MAC"
    shared = "UL/DL-SCH"
    description = (
        "MAC frames per UE (RNTI and UE identity) on the uplink and downlink shared channels. The rows BCH, SIB, PCH "
        "and RAR have broadcast frames: master and system information, paging, random access responses; the row TTI "
        "has the maximum number of UEs in one TTI. Retransmissions and CRC errors are only counted. "
        "(Enable tshark's heuristic dissector for MAC frames in UDP.)"
    )

    _CHECKS = ("dl_crc_high_code_rate", "dl_crc_pdsch_lost", "dl_crc_duplicate")

    def columns(self, arguments: str) -> tuple[Column, ...]:
        checks = () if self.with_rat else self._CHECKS
        return (
            Column("channel", "text", role="key"),
            *((_RAT,) if self.with_rat else ()),
            Column("rnti", "integer", role="key", title="RNTI"),
            Column("ueid", "integer", role="key", title="UEId"),
            Column("rnti_type", "text", merge="first"),
            *_direction("ul", _padding("ul"), Column("ul_retransmissions", "integer", "frames")),
            *_direction("dl", _padding("dl"), Column("dl_crc_failures", "integer", "frames")),
            *(Column(name, "integer", "frames") for name in checks),
            Column("dl_retransmissions", "integer", "frames"),
            Column("paging_ids", "integer"),
            Column("rar_entries", "integer"),
            Column("max_ul_ues", "integer", merge="max", description="maximum number of UEs in one TTI"),
            Column("max_dl_ues", "integer", merge="max", description="maximum number of UEs in one TTI"),
        )

    def parse(self, text: bytes, arguments: str) -> Parsed:
        head = re.match(
            r"System data:\n={12}\nMax UL UEs/TTI: (\d+)     Max DL UEs/TTI: (\d+)\n\n"
            r"Common channel data:\n={20}\nMIBs: (\d+)    SIB Frames: (\d+)    SIB Bytes: (\d+)    "
            r"PCH Frames: (\d+)    PCH Bytes: (\d+)    PCH Paging IDs: (\d+)    "
            r"RAR Frames: (\d+)    RAR Entries: (\d+)\n\n",
            text_of(text),
            re.ASCII,
        )
        if head is None:
            raise TextError("it does not begin with the common channels")
        ul_ues, dl_ues, mibs, sibs, sib_bytes, pages, page_bytes, paging_ids, rars, entries = map(int, head.groups())
        common: list[dict[str, Value]] = [
            {"channel": "BCH", "dl_frames": mibs},
            {"channel": "SIB", "dl_frames": sibs, "dl_bytes": sib_bytes},
            {"channel": "PCH", "dl_frames": pages, "dl_bytes": page_bytes, "paging_ids": paging_ids},
            {"channel": "RAR", "dl_frames": rars, "rar_entries": entries},
            {"channel": "TTI", "max_ul_ues": ul_ues, "max_dl_ues": dl_ues},
        ]
        names = [column.name for column in self.columns("")]
        rows: list[list[Value]] = [
            [row.get(name) for name in names] for row in common if any(value for value in list(row.values())[1:])
        ]
        checks = "" if self.with_rat else "DL CRC HCR DL CRC PDSCH Lost DL CRC DupNonZeroRV"
        header = (
            f"{'RAT' if self.with_rat else ''} RNTI Type UEId UL Frames UL Bytes UL Mb/sec UL Pad % UL ReTX DL Frames "
            f"DL Bytes DL Mb/sec DL Pad % DL CRC Fail {checks} DL ReTX"
        )
        title = r"UL/DL-SCH data \(([0-9]+) entries - [0-9]+ unique RNTIs, [0-9]+ unique UEIds\):"
        for cells in self._phones(text_of(text)[head.end() :], header, title):
            rows.append([self.shared, *self._phone(cells)] + [None] * 4)
        if len({tuple(row[:4]) for row in rows}) != len(rows):
            raise TextError("a phone is there twice")
        return Parsed(rows)

    def _phone(self, cells: list[str]) -> list[Value]:
        rat, cells = (cells[:1], cells[1:]) if self.with_rat else ([], cells)
        if rat not in ([], ["LTE"], ["NR"]) or len(cells) != (14 if self.with_rat else 17):
            raise TextError(f"the line {' '.join(rat + cells)!r} is no phone")
        rnti, rnti_type, ueid, *counts = cells
        if rnti_type not in ("C-RNTI", "SPS-RNTI"):
            raise TextError(f"{rnti_type!r} is no type of RNTI")
        values: list[Value] = [_whole(cell) for cell in counts if "." not in cell]
        for at in (2, 3, 7, 8):
            values.insert(at, _decimal(counts[at]))
        return [*rat, _whole(rnti), _whole(ueid), rnti_type, *values]


class Rlc(Radio):
    layer_name = "RLC"
    shared = "UE"
    description = (
        "RLC frames per UE on the uplink and downlink, with ACKs, NACKs and missing frames. The rows BCCH and PCCH "
        "have broadcast and paging frames. (RLC frames are found in MAC frames; for RLC frames in UDP, enable tshark's "
        "heuristic dissector.)"
    )

    def columns(self, arguments: str) -> tuple[Column, ...]:
        def answers(way: str) -> tuple[Column, ...]:
            return tuple(Column(f"{way}_{name}", "integer") for name in ("acks", "nacks", "missed"))

        return (
            Column("channel", "text", role="key"),
            *((_RAT,) if self.with_rat else ()),
            Column("ueid", "integer", role="key", title="UEId"),
            *_direction("ul", *answers("ul")),
            *_direction("dl", *answers("dl")),
        )

    def parse(self, text: bytes, arguments: str) -> Parsed:
        head = re.match(
            r"Common Data:\n={14}\nBCCH Frames: (\d+)   BCCH Bytes: (\d+)   PCCH Frames: (\d+)   PCCH Bytes: (\d+)\n\n",
            text_of(text),
            re.ASCII,
        )
        if head is None:
            raise TextError("it does not begin with the common channels")
        counts = list(map(int, head.groups()))
        names = [column.name for column in self.columns("")]
        common: list[dict[str, Value]] = [
            {"channel": "BCCH", "dl_frames": counts[0], "dl_bytes": counts[1]},
            {"channel": "PCCH", "dl_frames": counts[2], "dl_bytes": counts[3]},
        ]
        rows: list[list[Value]] = [[row.get(name) for name in names] for row in common if row["dl_frames"]]
        header = (
            f"{'RAT' if self.with_rat else ''} UEId UL Frames UL Bytes UL Mbs UL ACKs UL NACKs UL Missed "
            "DL Frames DL Bytes DL Mbs DL ACKs DL NACKs DL Missed"
        )
        rest = text_of(text)[head.end() :]
        title = r"Per UE Data - ([0-9]+) UEs \(([0-9]+) frames\)"
        rows += ([self.shared, *self._phone(cells)] for cells in self._phones(rest, header, title))
        total = re.match(title, rest)
        ways = [names.index("ul_frames"), names.index("dl_frames")]
        if total is None or sum(row[way] or 0 for row in rows for way in ways) != int(total[2]):  # type: ignore[misc]
            raise TextError("its rows do not add up to their total")
        if len({tuple(row[: ways[0]]) for row in rows}) != len(rows):
            raise TextError("a phone is there twice")
        return Parsed(rows)

    def _phone(self, cells: list[str]) -> list[Value]:
        rat, cells = (cells[:1], cells[1:]) if self.with_rat else ([], cells)
        if rat not in ([], ["LTE"], ["NR"]) or len(cells) != 13:
            raise TextError(f"the line {' '.join(rat + cells)!r} is no phone")
        return [*rat, *(_decimal(cell) if at in (3, 9) else _whole(cell) for at, cell in enumerate(cells))]


def take(name: str) -> Statistic | None:
    """The statistic of that name, if it is of this family."""
    kinds: dict[str, Callable[[str], Radio]] = {
        "mac-lte,stat": Mac,
        "mac-3gpp,stat": Mac,
        "rlc-lte,stat": Rlc,
        "rlc-3gpp,stat": Rlc,
    }
    return kinds[name](name) if name in kinds else None


@hookimpl
def register_families(register):  # type: ignore[no-untyped-def]
    register("radio", take)
