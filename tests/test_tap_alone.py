"""The taps of what tshark lacks, in plain tshark: real -z names, a row for each that sharkstat has."""

from __future__ import annotations

import pytest
from tests.measure import DATA
from tests.test_taps import plain_tshark

import sharkstat

TAPS = {
    "dns,names": ("dns_names.lua", "waits.pcapng"),
    "http,requests": ("http_requests.lua", "story-after.pcapng"),
    "tls,servers": ("tls_servers.lua", "handshakes.pcapng"),
    "quic,servers": ("quic_servers.lua", "quic.pcapng"),
    "arp,hosts": ("arp_hosts.lua", "arp.pcapng"),
    "dhcp,leases": ("dhcp_leases.lua", "dhcp.pcapng"),
}


@pytest.mark.parametrize("request_", [*TAPS, *(f"{name},max=2" for name in TAPS)])
def test_a_tap_by_itself_prints_as_many_rows(request_: str) -> None:
    tap, capture = TAPS[request_.removesuffix(",max=2")]
    [table] = sharkstat.run(DATA / capture, request_)
    head, *rows = plain_tshark(tap, [f"{request_},format=rows"], DATA / capture, prefix="").strip().splitlines()
    assert len(rows) == len(table.rows) > 1
    assert head.split("\t")[0] == table.columns[0].name
    assert plain_tshark(tap, [request_], DATA / capture, prefix="").strip().startswith(table.title)


@pytest.mark.parametrize("request_", TAPS)
def test_an_empty_capture_has_no_matching_packets(request_: str) -> None:
    assert "no matching packets" in plain_tshark(TAPS[request_][0], [request_], DATA / "empty.pcap", prefix="")


@pytest.mark.parametrize("request_", TAPS)
def test_a_wrong_parameter_is_refused_and_named(request_: str) -> None:
    with pytest.raises(sharkstat.RequestError, match="most"):
        sharkstat.run(DATA / "dns.pcapng", f"{request_},most=3")
