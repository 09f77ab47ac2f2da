"""The taps of what tshark lacks, in plain tshark: real -z names, a row for each that sharkstat has."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from tests import oracle
from tests.command import requests
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
OTHERS = {
    "tcp,health": ("tcp_health.lua", "retransmissions.pcapng"),
    "tcp,servers": ("tcp_servers.lua", "story-after.pcapng"),
    "tcp,connections": ("tcp_connections.lua", "connections.pcapng"),
    "apps": ("apps.lua", "story-after.pcapng"),
    "services": ("services.lua", "story-after.pcapng"),
    "traffic": ("traffic.lua", "story-after.pcapng"),
    "talkers": ("talkers.lua", "story-after.pcapng"),
    "latency": ("latency.lua", "waits.pcapng"),
    "loss": ("loss.lua", "rtp.pcapng"),
    "sharkstat,conv,tcp": ("conversations.lua", "story-after.pcapng"),
    "sharkstat,endpoints,ip": ("endpoints.lua", "story-after.pcapng"),
    "sharkstat,http,tree": ("http.lua", "story-after.pcapng"),
    "sharkstat,io,stat,1": ("io_stat.lua", "story-after.pcapng"),
}
# A window asks for the result whenever it is drawn. This does so after every packet, and shows nothing of it.
REDRAWN = r"""
package.path = (__DIR__ or debug.getinfo(1, "S").source:match("@(.*[/\\])")) .. "?.lua;" .. package.path
local sharkstat = require "sharkstat"
local register = sharkstat.register
local function nothing() end
function sharkstat.register(statistic)
  local start = statistic.start
  function statistic.start(run)
    local finish = start(run)
    run.redrawn = true
    local drawn = Listener.new("frame")
    function drawn.packet()
      run.row = nothing
      finish()
      run.row = nil
    end
    return finish
  end
  register(statistic)
end
"""


@pytest.mark.parametrize("name", TAPS)
def test_a_tap_by_itself_prints_as_many_rows(name: str) -> None:
    tap, capture = TAPS[name]
    tables = sharkstat.run(DATA / capture, [name, f"{name},max=2"])
    asked = [word for table in tables for word in (f"{table.request},format=rows", table.request)]
    *texts, _ = re.split(r"\n\n(?=\S)", plain_tshark(tap, asked, DATA / capture, prefix="") + "\n\nend")
    assert len(texts) == 4
    for table, shown, printed in zip(reversed(tables), texts[::2], texts[1::2], strict=True):
        head, *rows = printed.strip().splitlines()
        assert len(rows) == len(table.rows) > 1
        assert head.split("\t")[0] == table.columns[0].name
        assert shown.strip().startswith(table.title)


@pytest.mark.parametrize("capture", dict.fromkeys(capture for _, capture in (TAPS | OTHERS).values()))
def test_a_result_may_be_asked_for_at_any_time(capture: str, tmp_path: Path) -> None:
    """What a window draws while packets come changes nothing of what it draws in the end."""
    taps = {name: tap for name, (tap, its) in (TAPS | OTHERS).items() if its == capture}
    (tmp_path / "redrawn.lua").write_text(REDRAWN)
    asked = [name if name.startswith("sharkstat,io") else f"{name},format=rows" for name in taps]

    def drawn(before: Path | None) -> list[list[str]]:
        files = list(dict.fromkeys(taps.values()))
        texts = plain_tshark(files, asked, DATA / capture, prefix="", before=before).rstrip("\n").split("\n\n")
        return [sorted(text.splitlines()) for text in texts]

    once, often = drawn(None), drawn(tmp_path / "redrawn.lua")
    assert len(once) == len(asked) and all(len(lines) > 2 for lines in once)
    assert often == once


def test_no_name_acts_on_a_terminal_or_in_a_window(tmp_path: Path) -> None:
    names = ["a\x1b[31mb", "a\u202eb", "a\xadb", "a\u034fb", "a\u2800b", "a\U000e0041b", "é日", "a\ufe0f\u3164b"]
    path = tmp_path / "names.pcap"
    path.write_bytes(requests(*((name.encode(), b"/") for name in names)))
    shown = plain_tshark("http_requests.lua", ["http,requests"], path, prefix="")
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf") and c != "\n"]
    if oracle.version() >= (4, 4):  # tshark itself replaces what is no ASCII in this field
        return
    for name in (
        r"a\x1b[31mb",
        r"a\u202eb",
        r"a\xadb",
        r"a\u034fb",
        r"a\u2800b",
        r"a\U000e0041b",
        "é日",
        r"a\ufe0f\u3164b",
    ):
        assert name in shown


def test_an_empty_capture_has_no_matching_packets() -> None:
    text = plain_tshark([tap for tap, _ in TAPS.values()], list(TAPS), DATA / "empty.pcap", prefix="")
    assert text.count("no matching packets") == len(TAPS)


@pytest.mark.parametrize("request_", TAPS)
def test_a_wrong_parameter_is_refused_and_named(request_: str) -> None:
    with pytest.raises(sharkstat.RequestError, match="most"):
        sharkstat.run(DATA / "dns.pcapng", f"{request_},most=3")
