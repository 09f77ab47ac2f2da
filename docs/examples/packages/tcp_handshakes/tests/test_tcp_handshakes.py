"""tcp,handshakes on real connections, and on what a small capture cannot have."""

from pathlib import Path

import sharkstat
from sharkstat.testing import Capture, Check, Run

REFUSED = Path(__file__).with_name("icmp-errors.pcapng")
CLIENT, SERVER = ("192.0.2.10", "50000"), ("192.0.2.20", "80")
MILLISECOND = 10**6


def test_each_connection_is_an_attempt(sharkstat_run: Run, sharkstat_capture: Capture) -> None:
    http = sharkstat_capture("http")
    table = sharkstat_run(http, "tcp,handshakes")
    conversations = sharkstat_run(http, "conv,tcp")
    servers = {(row["address_b"], row["port_b"]) for row in conversations}
    assert {(row["address"], row["port"]) for row in table} == servers
    assert table.total("attempts") == table.total("completed") == len(conversations)


def test_what_is_refused_is_told(sharkstat_run: Run) -> None:
    table = sharkstat_run(REFUSED, "tcp,handshakes")
    found = {row["address"]: (row["attempts"], row["refused"], row["unanswered"]) for row in table}
    assert found == {"192.0.2.20": (2, 2, 0), "2001:db8::20": (1, 1, 0)}


def segment(ends: tuple[tuple[str, str], tuple[str, str]], flags: str, at: int, stream: int) -> sharkstat.Packet:
    fields = {f"tcp.flags.{flag}": str(int(flag in flags.split())) for flag in ("syn", "ack", "reset")}
    (source, source_port), (destination, destination_port) = ends
    hit = (source, source_port, destination, destination_port)
    return sharkstat.Packet.made({"tcp.stream": str(stream), **fields}, time_ns=at, hits=[[hit]])


def test_time_counts_from_the_first_syn_and_what_gets_no_answer_is_told(
    sharkstat_registry: sharkstat.Registry,
) -> None:
    packets = sharkstat_registry.find("tcp,handshakes")[0].engine("packets")
    assert isinstance(packets, sharkstat.Packets)
    counter = packets.counter("")
    there, back = (CLIENT, SERVER), (SERVER, CLIENT)
    for ends, flags, at, stream in [
        (back, "ack", 0, 0),  # its beginning is not in the capture
        (there, "syn", 1 * MILLISECOND, 1),
        (there, "syn", 4 * MILLISECOND, 1),
        (there, "syn", 5 * MILLISECOND, 2),
        (back, "syn ack", 6 * MILLISECOND, 1),
        (there, "ack", 8 * MILLISECOND, 1),
        (there, "reset", 9 * MILLISECOND, 1),
    ]:
        counter.packet(segment(ends, flags, at, stream))
    (row,) = counter.rows()
    assert row == (
        "192.0.2.20",
        80,
        2,
        0,
        1,
        1,
        1,
        5 * MILLISECOND,
        5 * MILLISECOND,
        1,
        2 * MILLISECOND,
        2 * MILLISECOND,
    )


def test_pairs_of_hosts_merge_to_the_whole(assert_merges: Check, sharkstat_capture: Capture) -> None:
    assert_merges(sharkstat_capture("http"), "tcp,handshakes", by="pair")


def test_it_survives_spoilt_captures(assert_survives: Check) -> None:
    assert_survives(REFUSED, "tcp,handshakes")
