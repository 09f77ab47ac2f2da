"""The checks for authors of statistics: they hold for the built-in ones, and find what is wrong with bad ones."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.command import DATA, PROJECT
from tests.traffic.capturefiles import read_pcap

import sharkstat
from sharkstat import Column, Packet, PacketCounter, Packets, Registry, Row, Statistic, Table, Value, testing
from sharkstat.testing import Capture, Check, Mutants, Run, checks
from sharkstat.testing.cutting import Records


@pytest.mark.parametrize(
    ("request_", "more"),
    [
        ("conv,ip", {"display_filter": "ip"}),
        ("conv,eth", {}),
        ("endpoints,ip", {"display_filter": "ip", "packets": "tx_packets", "bytes": "tx_bytes"}),
        ("io,stat,1", {"packets": "frames"}),
        pytest.param("group,by=ip.src,count,sum=frame.len", {}, marks=pytest.mark.long),
        pytest.param("group,every=100ms,count,sum=frame.len", {}, marks=pytest.mark.long),
        ("group,tree=ip.src+tcp.dstport,count,sum=frame.len", {"display_filter": "ip"}),
    ],
)
def test_the_built_in_statistics_keep_their_books(
    request_: str, more: dict[str, str], assert_balanced: Check, sharkstat_capture: Capture
) -> None:
    assert_balanced(sharkstat_capture("http"), request_, **more)


@pytest.mark.parametrize(
    "request_",
    ["conv,tcp", "endpoints,udp", "io,stat,1,tcp,MAX(frame.len)frame.len", "group,by=dns.qry.name,mean=dns.time"],
)
def test_the_engines_of_the_built_in_statistics_agree(request_: str, assert_engines_agree: Check) -> None:
    assert_engines_agree(DATA / "story-after.pcapng", request_)


@pytest.mark.parametrize(
    ("request_", "more"),
    [
        ("conv,ip", {}),
        ("conv,tcp", {"by": "pair", "without": ["stream"]}),
        pytest.param("endpoints,ipv6", {"parts": 7}, marks=pytest.mark.long),
        ("group,by=ip.src,mean=frame.len,distinct=tcp.dstport,seen", {}),
        pytest.param(
            "group,by=ip.src,mean=frame.len,distinct=tcp.dstport,seen", {"by": "pair"}, marks=pytest.mark.long
        ),
    ],
)
def test_the_built_in_statistics_merge(request_: str, more: dict[str, object], assert_merges: Check) -> None:
    assert_merges(DATA / "http.pcapng", request_, **more)


@pytest.mark.parametrize(
    "request_", ["conv,udp", pytest.param("group,by=dns.qry.name:all,seen", marks=pytest.mark.long)]
)
def test_the_built_in_statistics_survive(request_: str, assert_survives: Check, sharkstat_capture: Capture) -> None:
    assert_survives(sharkstat_capture("dns"), request_, seeds=[3])


def test_the_example_of_the_documentation_passes() -> None:
    folder = PROJECT / "docs" / "examples"
    options = ["-q", "-p", "no:cacheprovider", "-W", "error", "-o", f"sharkstat_plugins={folder / 'dns_seen.py'}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(folder / "test_dns_seen.py")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_a_plugin_that_does_not_load_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine.lua").write_text("-- name: mine\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nsharkstat_plugins = mine.lua\n")
    (tmp_path / "test_mine.py").write_text(
        "def test_mine(sharkstat_run, sharkstat_capture):\n    sharkstat_run(sharkstat_capture('dns'), 'mine')\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "plugin mine (" in done.stdout and "mine.lua: the header lacks the required key 'title'" in done.stdout
    assert "unknown statistic 'mine'" in done.stdout


def test_pytest_imports_nothing_of_sharkstats_that_is_slow(tmp_path: Path) -> None:
    """Its plugin is loaded in every project that has sharkstat beside it."""
    test = tmp_path / "test_other.py"
    test.write_text("import sys\n\ndef test_other():\n    print(*(n for n in sys.modules if n.startswith('shark')))\n")
    options = ["-q", "-s", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(test)], capture_output=True, text=True, check=True
    )
    loaded = {name for name in done.stdout.split() if name.startswith("sharkstat")}
    assert "sharkstat.testing.pytest_plugin" in loaded
    assert not loaded & {
        "sharkstat.testing.checks",
        "sharkstat.statistics.registry",
        "sharkstat.running.runner",
        "sharkstat.commands.cli",
        "sharkstat_plugins",
    }


def test_a_capture_that_comes_with_sharkstat_is_that_of_the_tests(sharkstat_capture: Capture) -> None:
    """script/make-captures writes both."""
    for path in testing.CAPTURES.iterdir():
        assert sharkstat_capture(path.stem).read_bytes() == (DATA / path.name).read_bytes()
    with pytest.raises(ValueError, match=re.escape("sharkstat has no capture 'smtp': choose one of dns, http, tls")):
        sharkstat_capture("smtp")


# Cutting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dns.pcapng", "http.pcap.gz", "nanosecond.pcap", "snaplen.pcapng", "years.pcap"])
def test_records_are_those_of_the_file(name: str) -> None:
    records = Records.of(DATA / name)
    ours = read_pcap(records.written())
    (table,) = sharkstat.run(DATA / name, "io,stat,0")
    assert (len(records.packets), ours.bytes) == (table.reading.packets, table.reading.bytes)
    assert records.packets[0].time == table.reading.start


def test_parts_hold_each_packet_once() -> None:
    records = Records.of(DATA / "unordered.pcap")
    for count in (1, 2, 3, len(records.packets), len(records.packets) + 5):
        parts = records.in_parts(count)
        assert len(parts) == min(count, len(records.packets))
        together = [packet for part in parts for packet in part.packets]
        assert together == sorted(records.packets, key=lambda packet: packet.time)
    owners = ["abc"[number % 3] for number in range(len(records.packets))]
    shares = records.shared_out(owners, 2)
    assert [len(share.packets) for share in shares] == [owners.count("a") + owners.count("c"), owners.count("b")]


def test_no_capture_to_cut_is_told() -> None:
    with pytest.raises(sharkstat.SourceError, match=r"cannot split .*garbage\.pcap: editcap says "):
        Records.of(DATA / "garbage.pcap")


def test_equal_seeds_give_equal_mutants(tmp_path: Path, sharkstat_mutants: Mutants) -> None:
    one = {path.name: path.read_bytes() for path in sharkstat_mutants(DATA / "dns.pcapng", seeds=[5])}
    other = {path.name: path.read_bytes() for path in testing.mutants(DATA / "dns.pcapng", tmp_path, seeds=[5])}
    assert one == other
    assert len(set(one.values())) == len(one) == 6
    assert one["dns-flipped-5.pcap"] != next(
        path.read_bytes() for path in sharkstat_mutants(DATA / "dns.pcapng", seeds=[6]) if "flipped" in path.name
    )


# What is wrong is found --------------------------------------------------------------------------------------


class Sources(Statistic):
    """Packets by source, with one fault."""

    name, title = "sources", "Packets by source"

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.engines = (Packets(lambda arguments: SourceCounter(fault)),)

    def columns(self, arguments: str) -> tuple[Column, ...]:
        return (
            Column("source", "text", role="key"),
            Column("packets", "integer", "packets", merge="max" if self.fault == "merge" else "sum"),
            Column("bytes", "integer", "bytes"),
        )


class SourceCounter(PacketCounter):
    fields = ("eth.src", "dns.qry.name", "dns.count.queries")

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.counts: dict[str, list[int]] = {}

    def packet(self, packet: Packet) -> None:
        if self.fault == "lost" and packet.number == 4:
            return
        if self.fault == "trust" and int(packet.value("dns.count.queries") or 0) != len(packet.values("dns.qry.name")):
            raise LookupError("there must be a name")
        counts = self.counts.setdefault(packet.value("eth.src") or "", [0, 0])
        counts[0] += 1
        counts[1] += packet.length

    def rows(self) -> Iterable[tuple[Value, ...]]:
        for source, (packets, size) in self.counts.items():
            yield source, str(packets) if self.fault == "type" else packets, size


def registry(fault: str = "") -> Registry:
    found = Registry()

    class Plugin:
        @sharkstat.hookimpl
        def register_statistics(self, register: Callable[[Statistic], None]) -> None:
            register(Sources(fault))

    found.add("mine", "here", Plugin)
    return found


def test_what_is_right_passes() -> None:
    dns = testing.capture("dns")
    testing.assert_balanced(dns, "sources", registry=registry())
    testing.assert_merges(dns, "sources", registry=registry())
    testing.assert_survives(dns, "sources", registry=registry(), seeds=[1])


def test_a_value_of_another_type_is_told() -> None:
    with pytest.raises(
        sharkstat.StatisticError, match=r"sources failed: .*: the column packets has '\d+', and its type is integer"
    ):
        testing.run(testing.capture("dns"), "sources", registry=registry("type"))


def test_a_lost_packet_is_told() -> None:
    with pytest.raises(AssertionError, match="sources: packets adds up to 56, but 57 were read"):
        testing.assert_balanced(testing.capture("dns"), "sources", registry=registry("lost"))


def test_a_merge_that_is_not_the_whole_is_told() -> None:
    with pytest.raises(
        AssertionError,
        match=r"sources merged of 3 parts:\n  the row source '[0-9a-f:]+': packets is \d+, in the whole \d+",
    ):
        testing.assert_merges(testing.capture("dns"), "sources", registry=registry("merge"))


def test_a_refused_merge_is_told() -> None:
    with pytest.raises(
        AssertionError, match=r"conv,tcp: .*two of the captures.* \(by=\"pair\" splits no conversation\)"
    ):
        testing.assert_merges(DATA / "retransmissions.pcapng", "conv,tcp")


def test_a_failure_names_the_packet_and_the_capture_which_is_kept() -> None:
    with pytest.raises(AssertionError) as caught:
        testing.assert_survives(testing.capture("dns"), "sources", registry=registry("trust"), seeds=range(20))
    said = str(caught.value)
    found = re.match(
        r"sources on packets, of (\S+): sources failed at packet \d+: LookupError: there must be a name \(.*\)\n", said
    )
    assert found, said
    assert 'raise LookupError("there must be a name")' in said
    kept = Path(found[1])
    with pytest.raises(sharkstat.StatisticError):
        testing.run(kept, "sources", registry=registry("trust"))
    kept.unlink()
    kept.parent.rmdir()


def test_a_bad_request_is_no_failure_of_the_statistic(assert_survives: Check, sharkstat_run: Run) -> None:
    for check in (assert_survives, sharkstat_run):
        with pytest.raises(sharkstat.RequestError, match="invalid display filter"):
            check(testing.capture("dns"), "conv,ip,no such")
    with pytest.raises(sharkstat.RequestError, match="sources runs only on packets: nothing to compare"):
        testing.assert_engines_agree(testing.capture("dns"), "sources", registry=registry())


def test_all_differences_of_two_tables_are_found() -> None:
    columns = (Column("name", "text", role="key"), Column("mean", "number"))

    def table(*rows: tuple[Value, Value]) -> Table:
        listed: list[Row] = [{"name": name, "mean": mean} for name, mean in rows]
        return Table("made", "Made", "made", columns, listed)

    def said(one: Table, other: Table) -> str:
        try:
            checks._assert_equal(one, other, "made on packets", "on lua")
        except AssertionError as problem:
            return str(problem).removeprefix("made on packets:")
        return ""

    assert said(table(("a", 1), ("b", None)), table(("b", None), ("a", 1))) == "", "order does not matter"
    assert said(table(("a", 0.1 + 0.2)), table(("a", 0.3))) == ""
    assert said(table(("a", 1)), table(("a", None))) == "\n  the row name 'a': mean is None, on lua 1"
    assert said(table(("a", 1), ("a", 2)), table(("a", 2), ("a", 1))) == "", "keys may repeat"
    assert said(table(("a", 1), ("a", 2)), table(("a", 1))) == "\n  the row name 'a' occurs 1 times, on lua 2 times"
    assert said(table(), table(("a", 1))) == "\n  the row name 'a' is missing on lua"
    many = table(*((str(number), 1) for number in range(9)))
    assert said(many, table()).endswith("\n  … and 4 more")
    other = replace(table(), columns=(columns[0], replace(columns[1], merge="max")))
    assert "columns differ: name text key, mean number measure max; on lua: name" in said(table(), other)
