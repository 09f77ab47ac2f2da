"""Keys that are expressions, on both engines: against tshark's own fields and what they become by other means."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address, ip_interface
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests import oracle
from tests.command import DATA, sharkstat
from tests.measure import engines
from tests.traffic.capturefiles import tcp_frame, udp_frame, write_pcap

import sharkstat as library
from sharkstat import Group, Key, Registry, bucket, conversation, host, lower, regex, second_level, segment, subnet
from sharkstat.statistics.path_template import path_template

REGISTRY = Registry.default()

NAMES = {
    "www.Example.co.uk": "example.co.uk",
    "example.co.uk": "example.co.uk",
    "a.b.c.example.COM": "example.com",
    "deep.bucket.s3.amazonaws.com": "amazonaws.com",
    "co.uk": "co.uk",
    "localhost": "localhost",
    "_http._tcp.x.example.org": "example.org",
    "www.city.kawasaki.jp": "city.kawasaki.jp",  # an exception to *.kawasaki.jp
}
PATHS = ["/api/v2/users?id=1", "/api/v2/users?id=2", "/API", "/", "http://proxied.example/img/cat.png", "*"]
FIRST = dict(zip(PATHS, ["api", "api", "api", "", "img", "*"], strict=True))


def query(name: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)


def ipv6_udp(source: str, target: str, payload: bytes) -> bytes:
    datagram = struct.pack("!4H", 5353, 9, 8 + len(payload), 0) + payload
    ends = IPv6Address(source).packed + IPv6Address(target).packed
    return b"\2" * 12 + struct.pack("!HIHBB", 0x86DD, 6 << 28, len(datagram), 17, 64) + ends + datagram


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = [udp_frame((f"192.0.{n}.7", 5000), ("198.51.100.53", 53), query(name)) for n, name in enumerate(NAMES)]
    for n, path in enumerate(PATHS):
        asked = f"GET {path} HTTP/1.1\r\nHost: Store.Example\r\nUser-Agent: curl/8.{n % 2}, (x)\r\n\r\n".encode()
        frames.append(tcp_frame((f"10.1.{n}.1", 40000 + n), ("10.2.0.1", 80), asked))
    ends = [("2001:db8:1:2::1", "2001:db8:1:3::1"), ("2001:db8:1:3::1", "2001:db8:1:2::1"), ("fe80::1", "fe80::1")]
    frames += [ipv6_udp(*pair, bytes(size)) for size, pair in enumerate(ends)]
    frames.append(b"\1" * 6 + b"\2" * 6 + b"\x88\xb5" + bytes(50))  # no address at all
    made = tmp_path_factory.mktemp("keys") / "keys.pcap"
    write_pcap(made, [(n * 10**6, frame) for n, frame in enumerate(frames)])
    return made


def counted(values: Iterable[str], change: Callable[[str], str | None]) -> Counter[str | None]:
    """What becomes of the field's values, None where a packet has none."""
    return Counter(change(value) if value else None for value in values)


def test_expressions_are_what_becomes_of_the_fields(capture: Path) -> None:
    names = ("ip.src", "ipv6.src", "dns.qry.name", "http.request.uri", "http.user_agent", "frame.len", "http.host")
    fields = [[values[0] if values else "" for values in packet] for packet in oracle.fields(capture, names)]
    sources, sources6, asked, uris, agents, lengths, hosts = map(list, zip(*fields, strict=True))

    def network(bits4: int, bits6: int) -> Callable[[str], str]:
        return lambda text: str(ip_interface(f"{text}/{bits6 if ':' in text else bits4}").network)

    def last_part(text: str) -> str:
        return urlsplit(text).path.rpartition("/")[2]

    def number_of(text: str) -> str:
        return "below 70" if int(text) < 70 else "70 to 90" if int(text) < 90 else "from 90"

    agent = {f"curl/8.{n}, (x)": f"8.{n}" for n in (0, 1)}
    both = [four or six for four, six in zip(sources, sources6, strict=True)]
    expected = {
        "ip.src/16": counted(sources, network(16, 0)),
        "subnet(ipv6.src, 64)": counted(sources6, network(0, 64)),
        "ip.src/ipv6.src/9/48": counted(both, network(9, 48)),
        "second_level(dns.qry.name)": counted(asked, lambda text: NAMES[text]),
        "lower(http.host)": counted(hosts, lambda text: "store.example"),
        r'regex(http.user_agent, "curl/([0-9.]+), \(")': counted(agents, lambda text: agent[text]),
        'regex(http.user_agent, "nobody")': counted(agents, lambda text: None),
        "segment(http.request.uri, -1)": counted(uris, last_part),
        'segment(dns.qry.name, 1, ".")': counted(asked, lambda text: text.split(".")[0]),
        "template(http.request.uri)": counted(uris, path_template),
        "bucket(frame.len, 70, 90)": counted(lengths, number_of),
        "lower(segment(http.request.uri, 1))": counted(uris, lambda text: FIRST[text]),
    }
    requests = [f"group,by={text} as found,count,sum=frame.len" for text in expected]
    for tables_ in engines(capture, requests):
        for (text, counts), table in zip(expected.items(), tables_, strict=True):
            assert {row["found"]: row["packets"] for row in table} == counts, text
            assert table.total("bytes") == sum(map(int, lengths))
            assert len(counts) > 1 or "nobody" in text
    bucketed = [row["found"] for row in tables_[list(expected).index("bucket(frame.len, 70, 90)")]]
    assert bucketed == ["below 70", "70 to 90", "from 90"], "in the order of the bounds"


def test_all_values_of_a_packet_count_once_for_each_result() -> None:
    """Two addresses of one network in an answer are one row, and the packet counts in it once."""
    answers = [addresses for (addresses,) in oracle.fields(DATA / "dns.pcapng", ("dns.a",), "-Y", "dns")]
    expected: Counter[str | None] = Counter()
    for addresses in answers:
        expected.update({str(ip_interface(f"{one}/16").network) for one in addresses} or [None])
    for [table] in engines(DATA / "dns.pcapng", ["group,by=dns.a/16:all,dns"]):
        assert {row["dns_a_subnet_16"]: row["packets"] for row in table} == expected


def test_both_ends_and_both_directions(capture: Path) -> None:
    names = ("ip.src", "ipv6.src", "ip.dst", "ipv6.dst", "frame.len")
    packets = [[values[0] if values else "" for values in packet] for packet in oracle.fields(capture, names)]
    sent: Counter[tuple[str | None, str]] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    hosts: Counter[str | None] = Counter()
    for four, six, to_four, to_six, length in packets:
        source, target = four or six, to_four or to_six
        pairs[source, target] += int(length)
        for name in {source or None, target or None}:
            hosts[name] += int(length)
        if source:
            sent[source, "out"] += int(length)
            sent[target, "in"] += int(length)
    ends = "ip.src/ipv6.src, ip.dst/ipv6.dst"
    for of_hosts, of_pairs, explicit in engines(
        capture,
        ["group,by=host,sum=frame.len,count", "group,by=conversation,sum=frame.len", f"group,by=host({ends}),count"],
    ):
        assert {row["host"]: row["bytes"] for row in of_hosts} == hosts
        for row in of_hosts:
            for way in ("in", "out"):
                assert row[f"bytes_{way}"] == sent.get((str(row["host"]), way))
        assert of_hosts.column("host").type == of_pairs.column("address_a").type == "address"
        assert of_hosts["packets_out"] and of_hosts.total("packets_out") == len(packets) - 1
        rows = {(row["address_a"], row["address_b"]): row for row in of_pairs}
        assert len(rows) == len({frozenset(pair) for pair in pairs})
        for (a, b), row in rows.items():
            if a is not None:
                ahead, back = pairs.get((str(a), str(b))), pairs.get((str(b), str(a))) if a != b else None
                assert (row["bytes_a_to_b"], row["bytes_b_to_a"]) == (ahead, back)
                assert row["bytes"] == (ahead or 0) + (back or 0)
        assert {row["host"]: row["packets"] for row in explicit} == {row["host"]: row["packets"] for row in of_hosts}


def test_objects_and_text_are_the_same_group() -> None:
    made = Group(
        keys=(
            Key(subnet("ip.src", 24), "net"),
            lower(segment("http.request.uri", 2, "/")),
            Key(regex("http.host", r'^"(\w+)\."'), occurrence="last"),
            bucket("dns.time", "1ms", 2),
            second_level("dns.qry.name"),
            conversation("ip.src/16", lower("http.host")),
        )
    )
    text = made.text("tcp")
    assert Group.parse(text) == Group(made.keys, made.measures, "tcp")
    assert Group.parse(text).text("tcp") == text
    assert Group.parse("by=host").keys == (host(),)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("subnett(ip.src, 24)", "no function subnett: did you mean subnet?"),
        ("subnet(ip.src)", "too few arguments: write subnet(FIELD, PREFIX[, PREFIX6])"),
        ("lower(ip.src, 24)", "too many arguments: write lower(FIELD)"),
        ("lower(24)", "its first argument is a field: write lower(FIELD)"),
        ("subnet(ip.src, 33)", "an IPv4 prefix is at most 32"),
        ('subnet(ip.src, "24")', '"24" does not fit: write subnet'),
        ('regex(ip.src, "(a")', "not a regular expression: missing )"),
        ('regex(ip.src, "(a)(b)")', "it has several groups"),
        ("lower(ip.src", "a ) is missing"),
        ("lower(ip.scr)", "no such field: ip.scr; did you mean ip.src"),
        ("bucket(frame.len, 30, 20)", "write its bounds in rising order"),
        ("bucket(ip.src, 3)", "ip.src: the field is an address, not"),
        ("bucket(frame.len, 3ms)", "frame.len: the field is an integer, not duration"),
        ("host,by=conversation", "host and conversation exclude each other"),
        ("host(ip.src)", "write host or host(SOURCE, DESTINATION)"),
    ],
)
def test_what_is_wrong_is_one_line_before_reading(key: str, said: str) -> None:
    for engine in ("lua", "packets"):
        with pytest.raises(library.RequestError) as caught:
            library.run(DATA / "dns.pcapng", f"group,by={key}", engine=engine, registry=REGISTRY)
        assert said in str(caught.value) and "\n" not in str(caught.value)


def test_the_command_line_takes_expressions() -> None:
    done = sharkstat(
        "group",
        DATA / "dns.pcapng",
        "--by",
        'regex(dns.qry.name, "([^.,]+),?[.]net$")',
        "--by",
        "ip.src/24",
        "--format",
        "json",
    )
    [table] = json.loads(done.stdout)["tables"]
    assert {row["ip_src_subnet_24"] for row in table["rows"]} >= {"192.0.2.0/24"}
    done = sharkstat("group", DATA / "dns.pcapng", "--by", "lower(ip.src),lower(ip.dst)")
    assert done.returncode == 2 and "one field per option" in done.stderr
