"""Names from packets that were made to look like rows of tshark's text: none becomes a row of a table.

The captures are made here, byte by byte; what tshark prints of them is asked of tshark itself, so that each case is
known to be one.
"""

from __future__ import annotations

import base64
import io
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests import oracle
from tests.command import DATA, frame, pcap
from tests.traffic.capturefiles import tcp_frame, write_pcap

import sharkstat
from sharkstat import Table, TextError
from sharkstat.engines.text import LINES
from sharkstat_plugins.tree import tree_rows

LOGIN = b"eve\n9          IMAP             admin           "  # in tshark's table a row of its own
DECODED = ("smtp.decryption:TRUE",)


def datagram(payload: bytes, source_port: int, port: int) -> bytes:
    """A UDP datagram from 192.0.2.1 to 192.0.2.2."""
    udp = struct.pack("!4H", source_port, port, 8 + len(payload), 0) + payload
    addresses = bytes([192, 0, 2, 1, 192, 0, 2, 2])
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + addresses + udp
    return bytes.fromhex("020000000001020000000002") + b"\x08\x00" + ip


def answer(name: bytes, address: Sequence[int]) -> bytes:
    """A DNS answer: the address of a name of one label."""
    label = bytes([len(name)]) + name + b"\0"
    question = label + b"\0\1\0\1"
    record = question + struct.pack("!IH", 60, 4) + bytes(address)
    return datagram(struct.pack("!6H", address[-1], 0x8180, 1, 1, 0, 0) + question + record, 53, 40000 + address[-1])


def request(header: bytes, user: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: h\r\n" + header + b": Basic " + base64.b64encode(user + b":secret") + b"\r\n\r\n"


def said(lines: Sequence[tuple[bool, bytes]], port: int) -> list[bytes]:
    """The segments of a connection: what the client (True) and the server said."""
    at = {True: 1, False: 1}
    frames = []
    for client, text in lines:
        segment = bytearray(frame(text, source_port=41000, port=port, sequence=at[client]))
        segment[42:46] = struct.pack("!I", at[not client])
        if not client:
            segment[26:34] = segment[30:34] + segment[26:30]
            segment[34:38] = segment[36:38] + segment[34:36]
        at[client] += len(text)
        frames.append(bytes(segment))
    return frames


def mail(user: bytes) -> list[bytes]:
    encoded = [base64.b64encode(word) + b"\r\n" for word in (user, b"secret")]
    return said(
        [
            *((False, b"220 hi ESMTP\r\n"), (True, b"EHLO x\r\n"), (False, b"250 AUTH LOGIN PLAIN\r\n")),
            *((True, b"AUTH LOGIN\r\n"), (False, b"334 VXNlcm5hbWU6\r\n"), (True, encoded[0])),
            *((False, b"334 UGFzc3dvcmQ6\r\n"), (True, encoded[1]), (False, b"235 ok\r\n")),
        ],
        port=25,
    )


def zmtp(user: bytes) -> list[bytes]:
    greeting = b"\xff" + bytes(8) + b"\x7f" + b"\3\0" + b"PLAIN".ljust(20, b"\0") + bytes(32)
    hello = b"\5HELLO" + bytes([len(user)]) + user + b"\6secret"
    return said([(True, greeting), (False, greeting), (True, b"\4" + bytes([len(hello)]) + hello)], port=5555)


def collectd(host: bytes) -> bytes:
    def text(kind: int, value: bytes) -> bytes:
        return struct.pack("!HH", kind, 5 + len(value)) + value + b"\0"

    values = struct.pack("!HHHBd", 6, 15, 1, 1, 1.0)
    named = text(0, host) + struct.pack("!HHQ", 1, 12, 1700000000) + text(2, b"cpu") + text(4, b"cpu")
    return datagram(named + values, 40000, 25826)


def capture(folder: Path, frames: Sequence[bytes]) -> Path:
    path = folder / "hostile.pcap"
    path.write_bytes(pcap(frames))
    return path


def printed(path: Path, name: str, *options: str) -> list[bytes]:
    return oracle.output("tshark", "-q", "-n", *options, "-r", str(path), "-z", name).split(b"\n")


def is_unparsed(table: Table, packet: int) -> bool:
    (warning,) = table.warnings
    assert f"cannot be parsed reliably, so it is shown unparsed (the content of packet {packet}" in warning
    return table.columns == LINES


@pytest.mark.parametrize("header", [b"Authorization", b"Proxy-Authorization"])
def test_a_user_name_in_http_makes_no_row(tmp_path: Path, header: bytes) -> None:
    path = capture(tmp_path, [frame(request(header, b"alice"), source_port=40001), frame(request(header, LOGIN))])
    assert any(line.startswith(b"9          IMAP             admin") for line in printed(path, "credentials"))
    (table,) = sharkstat.run(path, "credentials")
    assert is_unparsed(table, 2)


def test_user_names_without_a_line_end_are_read(tmp_path: Path) -> None:
    users = [b"alice", b"bob  smith", b"9          IMAP             admin"]
    path = capture(
        tmp_path,
        [frame(request(b"Authorization", user), source_port=40000 + n) for n, user in enumerate(users)],
    )
    (table,) = sharkstat.run(path, "credentials")
    assert not table.warnings
    assert [(row["packet"], row["username"]) for row in table] == [(n, u.decode()) for n, u in enumerate(users, 1)]


def test_a_user_name_in_mail_makes_no_row(tmp_path: Path) -> None:
    path = capture(tmp_path, mail(LOGIN))
    assert any(line.startswith(b"9 ") for line in printed(path, "credentials", "-o", DECODED[0]))
    (table,) = sharkstat.run(path, "credentials", preferences=DECODED)
    assert is_unparsed(table, 6)
    (table,) = sharkstat.run(path, "credentials")  # left in Base64
    assert [row["username"] for row in table] == [base64.b64encode(LOGIN).decode()]
    (table,) = sharkstat.run(capture(tmp_path, mail(b"alice")), "credentials", preferences=DECODED)
    assert [row["username"] for row in table] == ["alice"]


@pytest.mark.skipif(oracle.version() < (4, 2), reason="tshark 4.0 knows no ZMTP")
def test_a_user_name_in_zmtp_makes_no_row(tmp_path: Path) -> None:
    options = ("tcp.port==5555,zmtp",)
    path = capture(tmp_path, zmtp(LOGIN))
    assert any(line.startswith(b"9 ") for line in printed(path, "credentials", "-d", options[0]))
    (table,) = sharkstat.run(path, "credentials", decode_as=options)
    assert is_unparsed(table, 3)
    (table,) = sharkstat.run(capture(tmp_path, zmtp(b"alice")), "credentials", decode_as=options)
    assert [row["username"] for row in table] == ["alice"]


def test_a_name_in_dns_makes_no_row(tmp_path: Path) -> None:
    good, evil = answer(b"good", [10, 0, 0, 1]), answer(b"evil\n10.6.6.6\tbank", [10, 0, 0, 2])
    path = capture(tmp_path, [good, evil])
    assert b"10.6.6.6\tbank" in printed(path, "hosts", "-N", "d")
    (table,) = sharkstat.run(path, "hosts")
    assert is_unparsed(table, 2)


@pytest.mark.parametrize("name", [b"a b", b"tab\there", "ü".encode(), b"back\\slash", b"\x7f"])
def test_a_strange_name_without_a_line_end_is_read(tmp_path: Path, name: bytes) -> None:
    (table,) = sharkstat.run(capture(tmp_path, [answer(b"good", [10, 0, 0, 1]), answer(name, [10, 0, 0, 2])]), "hosts")
    assert {row["address"]: row["name"] for row in table} == {"10.0.0.1": "good", "10.0.0.2": name.decode()}


def test_a_name_in_dns_makes_no_row_of_another_statistic(tmp_path: Path) -> None:
    row = b"b\nx  <-> y    1 42 bytes   1 42 bytes"
    for name in ("ip_hosts,tree", "conv,ip"):
        evil = capture(tmp_path, [answer(row, [192, 0, 2, 2])])
        (table,) = sharkstat.run(evil, name, engine="tshark", resolve="dn")
        assert is_unparsed(table, 1)
        (table,) = sharkstat.run(evil, name, engine="tshark")  # without names it can say nothing
        assert table.columns != LINES
        honest = capture(tmp_path, [answer(b"good", [192, 0, 2, 2])] * 2)
        (table,) = sharkstat.run(honest, name, engine="tshark", resolve="dn")
        assert table.columns != LINES
        assert ("good" in str(table.rows)) == name.startswith("conv")


def test_a_node_whose_name_begins_with_a_blank_hangs_below_no_other(tmp_path: Path) -> None:
    path = capture(tmp_path, [collectd(b"a"), collectd(b" b")])
    lines = printed(path, "collectd,tree")
    assert [line for line in lines if line.startswith(b"   b ")]  # a level deeper than `a`
    (table,) = sharkstat.run(path, "collectd,tree")
    assert is_unparsed(table, 2)
    (table,) = sharkstat.run(capture(tmp_path, [collectd(b"a"), collectd(b"b c")]), "collectd,tree")
    assert {row["path"][-1] for row in table if len(row["path"]) == 3} == {"cpu", "a", "b c"}  # type: ignore[arg-type, index]


def test_a_tree_of_the_future_is_read_where_its_counts_tell() -> None:
    text = oracle.output("tshark", "-q", "-n", "-r", str(DATA / "http.pcapng"), "-z", "plen,tree")
    assert list(tree_rows(io.BytesIO(text), known=False)) == list(tree_rows(io.BytesIO(text)))
    # Here 80 packets of a host are 80 of their only parent, as they would be of a neighbour.
    text = oracle.output("tshark", "-q", "-n", "-r", str(DATA / "story-after.pcapng"), "-z", "http_req,tree")
    assert list(tree_rows(io.BytesIO(text)))
    with pytest.raises(TextError, match="may begin with a blank"):
        list(tree_rows(io.BytesIO(text), known=False))


LARGE = """
import re, sys, sharkstat
(table,) = sharkstat.run(sys.argv[1], ["http_req,tree"], engine="tshark")
names = {row["path"][-1]: row["count"] for row in table.rows}
assert len(names) == 3002 and set(names.values()) == {1, 3000}, len(names)
assert names["/" + "a" * 20_000] == 1
# Its own peak: ru_maxrss begins with that of the process which started it.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) // 1024)
"""


def test_a_text_much_larger_than_its_capture_is_read_as_a_stream(tmp_path: Path) -> None:
    """tshark pads each of 3,000 names to the longest, so its text has 60 MB: held whole, it took 198 MB, now 64."""
    targets = [*(b"/%d" % number for number in range(2999)), b"/" + b"a" * 20_000]
    requests = [b"GET %b HTTP/1.1\r\nHost: a.example\r\n\r\n" % target for target in targets]
    frames = [
        tcp_frame(("192.0.2.1", 20_000 + number), ("192.0.2.2", 80), request) for number, request in enumerate(requests)
    ]
    write_pcap(tmp_path / "long.pcap", [(number, frame) for number, frame in enumerate(frames)])
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path / "long.pcap")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 130


def test_what_is_watched_for_changes_no_other_table() -> None:
    path = DATA / "http.pcapng"
    alone = [sharkstat.run(path, name)[0] for name in ("io,phs", "expert", "http,stat")]
    together = sharkstat.run(path, ["io,phs", "expert", "http,stat", "credentials", "collectd,tree", "dns,tree"])
    assert [table.rows for table in together[:3]] == [table.rows for table in alone]
