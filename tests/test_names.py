"""hosts and credentials, against DNS and log-in fields; and texts that were made to mislead."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests import oracle
from tests.command import DATA, TSHARK, ended, frame, pcap, started
from tests.measure import CORPUS
from tests.readers import asked
from tests.test_workspace import child

import sharkstat
from sharkstat import Registry, RequestError, TextError
from sharkstat.tshark.process import data_of
from sharkstat_plugins.names import CREDENTIALS_HEAD, CREDENTIALS_RULE, HOSTS_HEAD, Credentials, Hosts

corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="needs the captures beside the checkout")


@corpus
@pytest.mark.corpus
@pytest.mark.parametrize(
    "name", ["ndpi/dns_fragmented.pcap", "ndpi/dns_ambiguous_names.pcap", "ndpi/dns-invalid-chars.pcap"]
)
def test_hosts_are_the_answers_of_dns(name: str) -> None:
    packets = oracle.fields(
        CORPUS / name, ["dns.resp.name", "dns.a", "dns.aaaa", "dns.cname"], "-Y", "dns.flags.response == 1"
    )
    names = {text for packet in packets for text in packet[0] + packet[3]}
    addresses = {text for packet in packets for text in packet[1] + packet[2]}
    table = sharkstat.run(CORPUS / name, "hosts", resolve="d")[0]
    assert [column.name for column in table.columns] == ["address", "name"] and table.rows
    assert {row["address"] for row in table.rows} <= addresses
    # oracle.fields shows control characters escaped
    assert {row["name"] for row in table.rows if str(row["name"]).isprintable()} <= names
    fours = sharkstat.run(CORPUS / name, "hosts,ipv4", resolve="d")[0]
    assert fours.rows == [row for row in table.rows if "." in str(row["address"])]


def hosts(*lines: str) -> bytes:
    return (f"{HOSTS_HEAD}x.pcap\n\n" + "".join(f"{line}\n" for line in lines)).encode()


def test_hosts_are_read_strictly() -> None:
    assert Hosts().parse(hosts("10.0.0.1\ta b\tc", "::1\tlo"), "").rows == [["10.0.0.1", "a b\tc"], ["::1", "lo"]]
    assert Hosts().parse(hosts(), "").rows == []
    bad = [
        *(b"", hosts("10.0.0.1 a"), hosts("10.0.0\ta"), hosts("10.0.0.1\ta", "10.0.0.1\tb")),
        *(hosts("10.0.0.1\ta\nb"), hosts("::1\tb")[:-1]),
    ]
    for text in bad:
        with pytest.raises(TextError):
            Hosts().parse(text, "")


def test_hosts_takes_kinds_and_no_filter() -> None:
    assert asked(Hosts(), "ipv4", "") == "hosts,ipv4" and asked(Hosts(), "", "") == "hosts"
    with pytest.raises(RequestError):
        Hosts().columns("ipv5")
    with pytest.raises(RequestError):
        asked(Hosts(), "", "ip")


@corpus
@pytest.mark.corpus
@pytest.mark.parametrize(
    ("name", "protocol", "field"),
    [("ndpi/imap.pcap", "IMAP", "imap.request.username"), ("ndpi/emotet.pcap", "SMTP", "smtp.auth.username")],
)
def test_user_names_are_those_sent(name: str, protocol: str, field: str) -> None:
    sent = {value for packet in oracle.fields(CORPUS / name, [field], "-Y", field) for value in packet[0]}
    rows = sharkstat.run(CORPUS / name, "credentials")[0].rows
    assert rows and {row["protocol"] for row in rows} == {protocol}
    assert {row["username"] for row in rows} == sent


def row(packet: int, protocol: str, username: str, info: str = "") -> str:
    return f"{packet:<10} {protocol:<16} {username:<16} {info:<16}"


def credentials(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in (*CREDENTIALS_HEAD, *lines, CREDENTIALS_RULE)).encode()


def test_user_names_may_hold_blanks_and_notes() -> None:
    given = [
        (4, "FTP", "a  b", "Username in packet: 3"),
        (5, "FTP", "c Username in packet: 9", "Username in packet: 5"),
        (6, "IMAP", "bob Username in packet: 6", ""),
        (12345678901 // 10, "POP3", "a name longer than its column", "Username in packet 7"),
    ]
    found = Credentials().parse(credentials(*(row(*line) for line in given)), "")
    assert [tuple(line[1:]) for line in found.rows] == given and not found.warnings


@pytest.mark.parametrize(
    "lines",
    [
        [row(4, "HTTP basic auth", "x\ny")],
        [row(4, "HTTP basic auth", "x") + "\n" + CREDENTIALS_RULE],
        [row(4, "IMAP", "x")[:-1]],
        [row(4, "IMAP", "x", "Username in packet: 3")[:-1]],
        [row(4, "FTP", "x")],
        [row(4, "Telepathy", "x")],
        [row(4, "IMAP", "x"), row(3, "IMAP", "y")],
        [f"x{row(4, 'IMAP', 'x')}"],
    ],
)
def test_other_lines_are_not_read(lines: list[str]) -> None:
    with pytest.raises(TextError):
        Credentials().parse(credentials(*lines), "")


def test_credentials_takes_nothing() -> None:
    with pytest.raises(RequestError):
        Credentials().columns("tcp")
    with pytest.raises(RequestError):
        asked(Credentials(), "", "tcp")


MAKERS = """\
-- name: card,makers
-- title: Makers of network cards
-- column: maker text key
-- column: packets integer sum packets
-- layer: transport

local sharkstat = require "sharkstat"

sharkstat.tap(__FILE__, function(run)
  local maker, counts = sharkstat.field "eth.src.oui_resolved", {}
  run:listen("frame", function()
    local name = maker().value
    counts[name] = (counts[name] or 0) + 1
  end)
  return function()
    for name, packets in pairs(counts) do run:row { name, packets } end
  end
end)
"""


def test_makers_of_network_cards_have_names_for_all_who_ask(tmp_path: Path) -> None:
    """tshark 4.0 starts without its tables of names where nobody can ask for one."""
    capture, tap = tmp_path / "makers.pcap", tmp_path / "makers.lua"
    rest = frame(b"x")[12:]
    capture.write_bytes(pcap([bytes.fromhex(f"020000000001{maker}000001") + rest for maker in ("00000c", "005056")]))
    tap.write_text(MAKERS)
    names = Counter(packet[0][0] for packet in oracle.fields(capture, ["eth.src.oui_resolved"]))
    assert len(names) == 2
    registry = Registry.default([tap])

    def counted(request: str, **options: Any) -> dict[str, int]:
        table = sharkstat.run(capture, request, registry=registry, **options)[0]
        return {str(row[table.columns[0].name]): int(str(row.get("packets", row.get("count")))) for row in table.rows}

    assert counted("card,makers") == names
    for engine in ("lua", "packets"):
        assert counted("group,by=eth.src.oui_resolved,count", engine=engine) == names
    (one,) = (name for name in names if name.startswith("Cisco"))
    assert sum(counted(f'endpoints,ip,eth.src.oui_resolved == "{one}"').values()) == 2
    assert sum(counted("endpoints,ip").values()) == 4


def test_a_start_without_its_tables_of_names_changes_no_value_and_no_name() -> None:
    """Any preference, even one at its default, has tshark read them."""
    shown = oracle.output("tshark", "-n", "-r", str(DATA / "dhcp.pcapng"), "-T", "pdml").decode()
    fields = sorted(set(re.findall(r'field name="((?:eth|ip|udp|dhcp)\.[\w.]+)"', shown)))
    asked = [f"group,by={name}:all,count" for name in fields if not re.search(r"checksum|_stream", name)]
    assert len(asked) > 40
    lean, full = (
        sharkstat.run(DATA / "dhcp.pcapng", asked[:50], preferences=preferences)
        for preferences in ((), ("ip.defragment:TRUE",))
    )
    for one, other in zip(lean, full, strict=True):
        assert one == other, one.request


def test_tshark_4_0_starts_without_its_tables_of_names() -> None:
    data = data_of(TSHARK)
    assert (data is not None) == (oracle.version() < (4, 2))
    process = started("run", "-", "-z", "conv,ip", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write((DATA / "dns.pcapng").read_bytes())
    process.stdin.flush()  # and there may be more
    tshark = child(process, "tshark")
    given = dict(word.partition(b"=")[::2] for word in Path(f"/proc/{tshark}/environ").read_bytes().split(b"\0"))
    if data is None:
        assert b"WIRESHARK_DATA_DIR" not in given
    else:
        there = {path.name for path in Path(given[b"WIRESHARK_DATA_DIR"].decode()).iterdir()}
        assert there < {path.name for path in data.iterdir()} and "init.lua" in there and "manuf" not in there
    assert ended(process).returncode == 0
