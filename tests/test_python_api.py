"""What is for Python alone: packets without a statistic, statistics that fail beside others, options that are typed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from tests import oracle
from tests.command import DATA

import sharkstat
from sharkstat import Source
from sharkstat.running.source import Options

STORY = DATA / "story-after.pcapng"


def test_packets_are_those_of_tshark() -> None:
    fields = ["frame.number", "frame.time_epoch", "ip.src", "tcp.len", "http.host"]
    asked = [word for field in fields for word in ("-e", field)]
    text = oracle.output("tshark", "-n", "-r", str(STORY), "-Y", "tcp", "-T", "fields", "-E", "separator=;", *asked)
    found = [
        ";".join([str(p.number), p.sniff_timestamp, *(p.value(field) or "" for field in fields[2:])])
        for p in sharkstat.packets(STORY, fields[2:], display_filter="tcp")
    ]
    assert found == text.decode().splitlines()


def test_whole_packets_are_pysharks() -> None:
    for packet in sharkstat.packets(STORY, None, display_filter="http.request.method == HEAD"):
        assert packet.http.request_method == "HEAD" and packet.ip.src == "192.0.2.10"
        break
    else:
        pytest.fail("there is no such packet")


def children() -> list[str]:
    """The tsharks that this process runs (proc(5): pid, name, state, parent)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            name, _, rest = path.read_text().partition("(")[2].rpartition(")")
            if name == "tshark" and rest.split()[1] == str(os.getpid()):
                found.append(name)
    return found


def test_a_loop_that_is_left_leaves_no_tshark() -> None:
    before = children()  # what other tests have
    each = sharkstat.packets([STORY] * 3, ["ip.src"])
    next(each)
    assert children() != before
    each.close()  # type: ignore[attr-defined]
    assert children() == before
    with pytest.raises(StopIteration):
        next(each)


def test_a_source_that_is_cut_short_is_told_after_its_last_packet(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcapng"
    path.write_bytes(STORY.read_bytes()[:5000])
    (table,) = sharkstat.run(path, "io,stat,0")
    numbers = []
    with pytest.raises(sharkstat.SourceError, match="cut short"):
        for packet in sharkstat.packets(path):
            numbers.append(packet.number)
    assert numbers == list(range(1, int(table.total("frames")) + 1))


def test_what_cannot_be_read_is_an_error_before_the_first_packet() -> None:
    for asked, message in (
        (lambda: sharkstat.packets("/no/such/file"), "no such file"),
        (lambda: sharkstat.packets(STORY, ["ip.srcc"]), "no such field: ip.srcc; did you mean ip.src"),
        (lambda: sharkstat.packets(STORY, "ip.src"), "fields is a list of names"),
        (lambda: sharkstat.packets([]), "nothing to read"),
    ):
        with pytest.raises(sharkstat.SharkstatError, match=message):
            list(asked())  # type: ignore[no-untyped-call]


class Fails(sharkstat.PacketCounter):
    def packet(self, packet: sharkstat.Packet) -> None:
        if int(packet.number) == 7:
            raise ValueError("what a shame")

    def rows(self) -> list[tuple[int]]:
        return [(1,)]


class Failing(sharkstat.Statistic):
    name = "failing"
    title = "Fails"
    engines = (sharkstat.Packets(lambda _: Fails()),)

    def columns(self, arguments: str) -> tuple[sharkstat.Column, ...]:
        return (sharkstat.Column("packets", "integer"),)


class Plugin:
    @sharkstat.hookimpl
    def register_statistics(self, register) -> None:  # type: ignore[no-untyped-def]
        register(Failing())


def test_one_statistic_that_fails_hides_no_other() -> None:
    registry = sharkstat.Registry.default()
    registry.add("failing", "here", Plugin)
    requests = ["conv,tcp", "failing", "apps"]
    with pytest.raises(
        sharkstat.StatisticError, match="failing failed at packet 7: ValueError: what a shame"
    ) as raised:
        sharkstat.run(STORY, requests, registry=registry)
    conversations, failed, apps = sharkstat.run(STORY, requests, registry=registry, errors="keep")
    assert [table.request for table in raised.value.tables] == ["conv,tcp", "apps"]
    assert [table.rows for table in raised.value.tables] == [conversations.rows, apps.rows]
    assert (failed.rows, failed.complete) == ([], False)
    assert failed.warnings[0].startswith(
        "failing failed at packet 7: ValueError: what a shame (test_python_api.py, line "
    )
    assert "INCOMPLETE" in str(failed)


def test_a_statistic_that_cannot_start_is_kept_as_well() -> None:
    class Unready(Failing):
        name = "unready"

        def columns(self, arguments: str) -> tuple[sharkstat.Column, ...]:
            raise LookupError("no columns today")

    class Brings:
        @sharkstat.hookimpl
        def register_statistics(self, register) -> None:  # type: ignore[no-untyped-def]
            register(Unready())

    registry = sharkstat.Registry.default()
    registry.add("unready", "here", Brings)
    (alone,) = sharkstat.run(STORY, "unready", registry=registry, errors="keep")
    assert not alone.complete and "LookupError: no columns today" in alone.warnings[0]
    first, second = sharkstat.run(STORY, ["unready", "apps"], registry=registry, errors="keep")
    assert (first.warnings, bool(second.rows)) == (alone.warnings, True)


def test_a_misspelt_option_is_found_by_mypy_and_when_it_runs() -> None:
    # mypy, which is strict about needless comments, complains where it does not find these.
    with pytest.raises(TypeError, match="display_fliter"):
        sharkstat.run(STORY, "apps", display_fliter="tcp")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="packts"):
        sharkstat.overview(STORY, packts=3)  # type: ignore[call-arg]
    assert set(Options.__annotations__) == {*Source.__dataclass_fields__} - {"files"}
