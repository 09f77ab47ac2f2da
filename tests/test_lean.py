"""What tshark is told to leave out: it changes no number (test_books has it for every capture), and cannot."""

from __future__ import annotations

import pytest
from tests import oracle
from tests.measure import ADDRESSES, CORPUS, DATA, TREES, engines

import sharkstat
from sharkstat import Registry, Source
from sharkstat.running.plan import make_plan
from sharkstat.tshark.sparing import LEAF_PORTS, LEAF_PORTS_BESIDE_HTTP

# None of them carries IP, nor announces conversations on other ports as SIP, FTP, TFTP, SNMP and SOCKS do.
HARMLESS = {
    "amqp", "bgp", "cldap", "cql", "dhcp", "dns", "git", "http", "imap", "kafka", "kerberos", "ldap",
    "llmnr", "lpd", "mdns", "memcache", "mongo", "mqtt", "mysql", "nbdgm", "nbns", "nbss", "ntp", "pgsql",
    "pop", "radius", "resp", "rsh", "rsync", "smtp", "ssdp", "ssh", "syslog", "tds", "telnet", "tls", "tns",
    "tpkt", "xmpp",
}  # fmt: skip
HTTP_IN_IT = {"http", "ssdp", "tls"}


@pytest.fixture(scope="module")
def decodes() -> dict[tuple[str, str], set[str]]:
    """Which dissectors tshark has for a port, without any option."""
    found: dict[tuple[str, str], set[str]] = {}
    for line in oracle.output("tshark", "-G", "decodes").decode().splitlines():
        table, port, name = line.split("\t")
        found.setdefault((table, port), set()).add(name)
    return found


@pytest.mark.parametrize("ports", [LEAF_PORTS, LEAF_PORTS_BESIDE_HTTP])
def test_every_port_left_out_belongs_to_a_protocol_that_carries_no_packets(
    ports: dict[str, tuple[int, ...]], decodes: dict[tuple[str, str], set[str]]
) -> None:
    for table, numbers in ports.items():
        for port in numbers:
            assert decodes.get((table, str(port)), set()) and decodes[table, str(port)] <= HARMLESS, (table, port)


def test_where_http_is_asked_for_no_port_of_it_is_left_out(decodes: dict[tuple[str, str], set[str]]) -> None:
    for table, numbers in LEAF_PORTS_BESIDE_HTTP.items():
        for port in numbers:
            assert not decodes[table, str(port)] & HTTP_IN_IT, (table, port)


@pytest.mark.parametrize(
    ("requests", "options", "leaves_out"),
    [
        (["conv,tcp", "io,stat,1,tcp.port == 80"], {}, "tcp.port==80"),
        (["conv,tcp", "http,tree"], {}, "tcp.port==22"),
        (["conv,tcp", "conv,udp,dns"], {}, "media_type==text/html"),
        (["io,stat,1,SUM(dns.time)"], {}, "media_type==text/html"),
        (["io,stat,1,SUM(smb2.time)"], {}, ""),
        (["conv,tcp"], {"display_filter": "tls"}, "media_type==text/html"),
        (["conv,tcp"], {"display_filter": "xml"}, ""),
        (["conv,tcp"], {"display_filter": "${private_macro}"}, ""),
        (["conv,tcp"], {"keylog": "keys"}, ""),
        (["conv,tcp"], {"preferences": ("tcp.desegment_tcp_streams:FALSE",)}, ""),
        (["conv,tcp"], {"decode_as": ("tcp.port==80,vxlan",)}, ""),
    ],
)
@pytest.mark.parametrize("engine", ["lua", "packets"])
def test_only_what_nobody_asked_about_is_left_out(
    requests: list[str], options: dict[str, object], leaves_out: str, engine: str
) -> None:
    source = Source(files=("x.pcap",), **options)  # type: ignore[arg-type]
    leaf = make_plan(source, requests, engine, Registry.default()).leaf_options()
    assert f"{leaves_out},data" in leaf if leaves_out else not leaf


IN_FLIGHT = "tcp.analysis.bytes_in_flight"


@pytest.mark.parametrize(
    ("request_", "options"),
    [
        (f"io,stat,0,SUM({IN_FLIGHT})", {}),
        (f"io,stat,0,SUM(tcp.len){IN_FLIGHT} > 1000", {}),
        ("io,stat,0,SUM(tcp.len)", {"display_filter": f"{IN_FLIGHT} > 1000"}),
    ],
)
def test_bytes_in_flight_are_tracked_where_someone_looks(request_: str, options: dict[str, object]) -> None:
    capture = DATA / "story-after.pcapng"
    found = oracle.fields(capture, ("tcp.len", IN_FLIGHT))
    flights = [int(value) for _, values in found for value in values]
    lengths = [int(length) for (length,), values in (f for f in found if f[0]) if values and int(values[0]) > 1000]
    expected = sum(flights) if request_.endswith(f"SUM({IN_FLIGHT})") else sum(lengths)
    assert expected > 0
    for (table,) in engines(capture, [request_], **options):
        assert list(table.rows[0].values())[-1] == expected


def test_bytes_in_flight_are_not_tracked_where_nobody_looks() -> None:
    plan = make_plan(Source(files=("x.pcap",)), ["conv,tcp", "http,tree"], "", Registry.default())
    assert "tcp.track_bytes_in_flight:FALSE" in plan.leaf_options()


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.exists(), reason="the large captures are not there")
@pytest.mark.parametrize("name", ["FAX-Call-t38-CA-TDM-SIP-FB-1.pcap", "snmp.pcap", "socks.pcap"])
def test_protocols_that_announce_conversations_are_never_left_out(name: str) -> None:
    capture = CORPUS / "ndpi" / name
    lean = sharkstat.run(capture, ADDRESSES)
    http = sharkstat.run(capture, [*ADDRESSES, *TREES])
    full = sharkstat.run(capture, ADDRESSES, preferences=("ip.defragment:TRUE",))
    for one, two, three in zip(lean, http, full, strict=False):
        assert one.rows == two.rows == three.rows
