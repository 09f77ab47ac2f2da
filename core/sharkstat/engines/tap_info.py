"""What tshark tells Lua of the headers and messages that its taps announce: the names of each tap's `info`.

Seen by script/tap-info in all captures at hand, with tshark 4.0, 4.4 and 4.6. Some names are only in newer versions, or
only where the message says something of the kind.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

INFO: Mapping[str, tuple[str, ...]] = {
    tap: tuple(names.split())
    for tap, names in {
        "frame": "",
        "eth": "dst src stream type",
        "ip": "ip_dst ip_id ip_len ip_off ip_proto ip_src ip_stream ip_sum ip_tos ip_ttl ip_ver",
        "ipv6": "",
        "tcp": "flagkarn ip_dst ip_src num_sack_ranges th_ack th_dport th_flags th_have_seglen th_hlen th_rawack "
        "th_rawseq th_seglen th_seq th_sport th_stream th_use_ace th_win",
        "udp": "ip_dst ip_src uh_dport uh_sport uh_stream uh_sum uh_sum_cov uh_ulen",
        "http": "framenum full_uri http_host location_base_uri location_target referer_uri request_method request_uri "
        "response_code",
        "bacapp": "instance_ident invoke_id object_ident service_type",
        "h225": "cs_type delta_time dialedDigits frame_label h245_address h245_port is_destinationInfo is_duplicate "
        "is_faststart is_h245 is_h245Tunneling msg_tag msg_type reason request_available requestSeqNum",
        "ldap": "is_request messageId protocolOpTag rep_frame req_frame req_time",
        "smb": "cmd info_count info_level nt_status request unicode unidir",
        "smb2": "flags ioctl_function opcode status tid",
        "wlan": "bssid dst src type",
    }.items()
}
# Those of which no other name is to be expected.
_WHOLE = ("frame", "eth", "ip", "ipv6", "tcp", "udp", "http")
OF_PACKET = ("pinfo.src", "pinfo.dst", "pinfo.src_port", "pinfo.dst_port")


def check(tap: str, names: Sequence[str]) -> None:
    """ValueError for a name that the tap's info does not have, with the nearest one."""
    if isinstance(names, str):
        raise ValueError(f'Listen("{tap}"): info is one text: write info=("{names}",)')
    if tap not in _WHOLE:
        return
    known = (*INFO[tap], *OF_PACKET)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            said = f"; did you mean {near[0]}?" if near else f"; it has {', '.join(known)}"
            raise ValueError(f'Listen("{tap}"): its info has no {name}{said}')
