"""hosts: the names that the capture gives addresses. credentials: the user names sent in clear text."""

from __future__ import annotations

import re
from ipaddress import ip_address

from sharkstat import (
    Column,
    Parsed,
    RequestError,
    Row,
    Statistic,
    Table,
    TextError,
    TsharkText,
    Value,
    hookimpl,
    text_of,
)
from sharkstat_plugins.tshark_text import distinct

HOSTS_HEAD = "# TShark hosts output\n#\n# Host data gathered from "
HOSTS_KINDS = ("ip", "ipv4", "ipv6")


class Hosts(Statistic):
    name = "hosts"
    title = "Resolved addresses"
    usage = "hosts[,ipv4|ipv6]"
    description = (
        "Every IPv4 and IPv6 address with a name known to tshark, from DNS answers and name resolution blocks in the "
        "capture. It enables name resolution (-N d). If a name in an answer contains a line end, the list is shown as "
        "lines."
    )

    def __init__(self) -> None:
        # The field has line ends escaped, where tshark's list has them as they are.
        doubts = (r'(dns.a || dns.aaaa) && dns.resp.name matches "\\\\n|\\n"',)
        self.engines = (TsharkText(self.parse, self.native, takes_filter=False, resolve="d", doubts=doubts),)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        if arguments.strip() and not set(_words(arguments)) <= set(HOSTS_KINDS):
            raise RequestError(f"hosts,{arguments}: give hosts,ipv4, hosts,ipv6, or hosts for both")
        return (Column("address", "address", role="key"), Column("name", "text", role="key"))

    def filters(self, arguments: str) -> tuple[str, ...]:
        return ()

    def native(self, arguments: str, display_filter: str) -> str:
        return ",".join([self.name, *_words(arguments)])

    def parse(self, text: bytes, arguments: str) -> Parsed:
        whole = text_of(text)
        head, blank, body = whole.partition("\n\n")
        if not blank or not f"{head}\n".startswith(HOSTS_HEAD) or not (body.endswith("\n") or not body):
            raise TextError("the list has not its heading")
        rows: list[list[Value]] = []
        for line in body.split("\n")[:-1]:
            address, tab, name = line.partition("\t")
            if not tab or not name or not _is_address(address):
                raise TextError(f"no address and name in {line!r:.80}")
            rows.append([address, name])
        return Parsed(distinct(rows, keys=1))

    def order(self, table: Table) -> None:
        def place(row: Row) -> tuple[int, bytes, str]:
            address = ip_address(str(row["address"]))
            return address.version, address.packed, str(row["name"])

        table.rows.sort(key=place)


def _words(arguments: str) -> list[str]:
    return [word.strip() for word in arguments.split(",") if word.strip()]


def _is_address(text: str) -> bool:
    try:
        return bool(ip_address(text))
    except ValueError:
        return False


CREDENTIALS_RULE = "=" * 67
CREDENTIALS_HEAD = [
    CREDENTIALS_RULE,
    f"{'Packet':<10} {'Protocol':<16} {'Username':<16} {'Info':<16}",
    "------     --------         --------         --------",
]
# What tshark's dissectors say beside a user name.
NOTES = {
    "FTP": r"Username in packet: \d+",
    "HTTP basic auth": "",
    "IMAP": "",
    "POP3": r"Username in packet \d+",
    "SAP Router Route String password": "",
    "SMTP": r"Username in packet \d+",
    "ZMTP": "PLAIN: username/password",
}
# The names that may hold line ends, and so what looks like further rows: all others end with their line.
FREE = ("http.authbasic", "smtp.auth.username", "smtp.auth.username_password", "zmtp.username")
_PACKET = re.compile(r"(\d{1,10}) *")


class Credentials(Statistic):
    name = "credentials"
    title = "Credentials"
    usage = "credentials"
    description = (
        "Every user name sent with a password in clear text, with its packet and protocol. tshark's text loses spaces "
        "at the end of a name."
    )

    def __init__(self) -> None:
        doubts = [rf'{name} matches "[\\n\\r]"' for name in FREE]
        self.engines = (TsharkText(self.parse, takes_filter=False, doubts=doubts),)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        if arguments.strip():
            raise RequestError(f"tshark's credentials takes no arguments: leave out {arguments!r}")
        return (
            Column("number", "integer", role="key", local="always", description="number of the row", shown=False),
            Column("packet", "integer", merge="none"),
            Column("protocol", "text", merge="none"),
            Column("username", "text", merge="none"),
            Column("info", "text", merge="none"),
        )

    def filters(self, arguments: str) -> tuple[str, ...]:
        return ()

    def parse(self, text: bytes, arguments: str) -> Parsed:
        lines = text_of(text).split("\n")
        if lines[:3] != CREDENTIALS_HEAD or lines[-2:] != [CREDENTIALS_RULE, ""] or len(lines) < 5:
            raise TextError("the table has not its frame")
        rows = [_credential(line) for line in lines[3:-2]]
        packets = [row[0] for row in rows]
        if packets != sorted(packets):
            raise TextError("the packets' numbers do not rise: a user name may hold what looks like a row")
        return Parsed([[number, *row] for number, row in enumerate(rows, 1)])

    def align(self, tables):  # type: ignore[no-untyped-def]
        raise self.refuse_merge("its rows are single packets: read the files in one run instead")


def _credential(line: str) -> tuple[int, str, str, str]:
    """Packet, protocol, user name and note: those that tshark prints exactly so."""
    packet = _PACKET.match(line)
    if packet:
        number, rest = int(packet[1]), line[max(11, len(packet[1]) + 1) :]
        for protocol, pattern in NOTES.items():
            head = f"{protocol:<16} "
            tail = re.search(rf" ({pattern or ' ' * 16})$", rest)
            if not rest.startswith(head) or not tail or tail.start() < len(head):
                continue
            username, info = rest[len(head) : tail.start()].rstrip(" "), tail[1].strip()
            again = f"{rest[len(head) : tail.start()]:<16}"
            if line == f"{number:<10} {head}{again} {info:<16}":
                return number, protocol, username, info
    raise TextError(f"no packet, protocol and user name in {line!r:.80}")


@hookimpl
def register_families(register):  # type: ignore[no-untyped-def]
    for statistic in (Hosts(), Credentials()):
        register(statistic.name, lambda name, statistic=statistic: statistic if name == statistic.name else None)
