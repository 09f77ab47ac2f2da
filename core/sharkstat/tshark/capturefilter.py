"""Translates a capture filter (pcap-filter syntax) that was given as a display filter, to say what was meant."""

from __future__ import annotations

import ipaddress
import re

_WORD = re.compile(r"\(|\)|&&|\|\||!|[^\s()!&|]+")
_OPERATORS = {"and": "&&", "&&": "&&", "or": "||", "||": "||"}
_PROTOCOLS = {"ip": "ip", "ip6": "ipv6", "tcp": "tcp", "udp": "udp", "sctp": "sctp", "arp": "arp", "ether": "eth"}
_PROTOCOLS |= {"icmp": "icmp", "icmp6": "icmpv6", "igmp": "igmp", "stp": "stp", "vlan": "vlan"}
_WITH_PORTS = ("tcp", "udp", "sctp")

# A display filter, and the operator that joins its parts: "" where it needs no parentheses.
Part = tuple[str, str]


class _Untranslatable(Exception):
    """Not a capture filter, or not one of the common forms."""


def display_filter_of(text: str) -> str:
    """The display filter that means the same as a capture filter; "" for any other text.

    >>> display_filter_of("port 80")
    'tcp.port == 80 || udp.port == 80'
    >>> display_filter_of("tcp and (src host 192.0.2.1 or not dst port 443)")
    'tcp && (ip.src == 192.0.2.1 || !(tcp.dstport == 443 || udp.dstport == 443))'
    >>> display_filter_of("net 192.0.2.0/24 and udp portrange 5000-5010")
    'ip.addr == 192.0.2.0/24 && udp.port in {5000..5010}'
    >>> display_filter_of("tcp.port == 80"), display_filter_of("no such"), display_filter_of("tcp port")
    ('', '', '')
    """
    words = _WORD.findall(text)
    try:
        (found, _), rest = _expression(words)
    except _Untranslatable:
        return ""
    return "" if rest else found


def _expression(words: list[str]) -> tuple[Part, list[str]]:
    """`and` and `or` have equal precedence in a capture filter, from left to right."""
    left, words = _term(words)
    while words and words[0] in _OPERATORS:
        operator = _OPERATORS[words[0]]
        right, words = _term(words[1:])
        left = (f"{_grouped(left, operator)} {operator} {_grouped(right, operator)}", operator)
    return left, words


def _grouped(part: Part, operator: str) -> str:
    return f"({part[0]})" if part[1] not in ("", operator) else part[0]


def _term(words: list[str]) -> tuple[Part, list[str]]:
    if words[:1] in (["not"], ["!"]):
        (text, _), words = _term(words[1:])
        return (f"!({text})" if " " in text else f"!{text}", ""), words
    if words[:1] == ["("]:
        found, words = _expression(words[1:])
        if words[:1] != [")"]:
            raise _Untranslatable
        return found, words[1:]
    return _primitive(words)


def _primitive(words: list[str]) -> tuple[Part, list[str]]:
    protocol = direction = ""
    if words and words[0] in _PROTOCOLS:
        protocol, words = words[0], words[1:]
    if words and words[0] in ("src", "dst"):
        direction, words = words[0], words[1:]
    kind = words[0] if words else ""
    if kind in ("host", "net", "port", "portrange") and len(words) > 1:
        value, words = words[1], words[2:]
    elif direction and kind:
        kind, value, words = "host", words[0], words[1:]
    elif protocol == "vlan" and kind.isdecimal():
        return (f"vlan.id == {kind}", ""), words[1:]
    elif protocol and not direction:
        return (_PROTOCOLS[protocol], ""), words
    else:
        raise _Untranslatable
    if kind in ("host", "net"):
        return (_address(protocol, direction, value), ""), words
    return _ports(protocol, direction, value), words


def _address(protocol: str, direction: str, value: str) -> str:
    if protocol == "ether" and re.fullmatch(r"[0-9A-Fa-f]{1,2}(?:[:-][0-9A-Fa-f]{1,2}){5}", value):
        return f"eth.{direction or 'addr'} == {value}"
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise _Untranslatable from None
    return f"{'ip' if network.version == 4 else 'ipv6'}.{direction or 'addr'} == {value}"


def _ports(protocol: str, direction: str, value: str) -> Part:
    first, _, last = value.partition("-")
    if not first.isdecimal() or (last and not last.isdecimal()):
        raise _Untranslatable
    field = f"{direction}port"
    test = f"in {{{first}..{last}}}" if last else f"== {first}"
    protocols = [protocol] if protocol in _WITH_PORTS else ["tcp", "udp"]
    return " || ".join(f"{name}.{field} {test}" for name in protocols), "||" if len(protocols) > 1 else ""
