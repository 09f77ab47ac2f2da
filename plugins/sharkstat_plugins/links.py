"""links: on what kinds of links the traffic was captured."""

from __future__ import annotations

from collections.abc import Iterator

from sharkstat import Table, hookimpl
from sharkstat_plugins.shipped_tap import ShippedTap

NAMES = {
    "eth": "Ethernet",
    "sll": "Linux cooked",
    "wlan": "802.11",
    "radiotap": "802.11 with radiotap",
    "wlan_radio": "802.11 with radio data",
    "ppi": "802.11 with PPI",
    "prism": "802.11 with prism",
    "null": "loopback",
    "raw": "raw IP",
    "ip": "raw IP",
    "ipv6": "raw IP",
    "ppp": "PPP",
    "usb": "USB",
    "fddi": "FDDI",
    "tr": "Token Ring",
    "bluetooth": "Bluetooth",
    "exported_pdu": "exported PDUs",
    "fr": "Frame Relay",
    "atm": "ATM",
}


class Links(ShippedTap):
    def facts(self, table: Table) -> Iterator[str]:
        names = dict.fromkeys(NAMES.get(str(link), str(link)) for link in table["link"])
        if names:
            yield " and ".join(list(names)[:3]) + (f" and {len(names) - 3} more links" if len(names) > 3 else "")


@hookimpl
def register_statistics(register):  # type: ignore[no-untyped-def]
    register(Links("links.lua"))
