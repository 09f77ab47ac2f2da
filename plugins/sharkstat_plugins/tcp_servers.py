"""tcp,servers: how TCP connections to each server fare."""

from __future__ import annotations

from sharkstat import hookimpl
from sharkstat_plugins.shipped_tap import ShippedTap

HEADINGS = {
    "server_address": "Server",
    "server_port": "Port",
    "retransmissions": "Re-\ntrans",
    "fast_retransmissions": "Fast",
    "spurious_retransmissions": "Spurious",
    "duplicate_acks": "Dup\nACKs",
    "out_of_order": "Out of\norder",
    "lost_segments": "Lost\nbefore",
    "zero_windows": "Zero\nwin",
    "min_handshake": "Handshake\nmin",
    "mean_handshake": "Handshake\nmean",
    "max_handshake": "Handshake\nmax",
    "min_rtt": "RTT\nmin",
    "mean_rtt": "RTT\nmean",
    "max_rtt": "RTT\nmax",
    "goodput": "Goodput\nbytes/s",
    "connections": "Connec-\ntions",
}


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(ShippedTap("tcp_servers.lua", HEADINGS))
