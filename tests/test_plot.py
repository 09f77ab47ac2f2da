"""--plot: what is drawn is what the tables hold."""

from __future__ import annotations

import re

import pytest
from tests.command import DATA, sharkstat

import sharkstat as library
from sharkstat.tables.figures import humanised_bytes
from sharkstat.tables.graphs import graph

STORY = DATA / "story-after.pcapng"


def drawn(text: str) -> list[str]:
    return [line for line in text.splitlines() if "█" in line or "│" in line]


def test_a_graph_over_time_has_the_largest_interval_at_its_top() -> None:
    counted, timeline, talkers = library.run(STORY, ["io,stat,0.5", "timeline", "talkers,every=1"])
    top, *_ = drawn(graph(counted))
    most = max(counted["bytes"])  # type: ignore[type-var]
    assert top.startswith(f"{humanised_bytes(most):>12} │")  # type: ignore[arg-type]
    columns = top.split("│")[1]
    starts = [int(start) // 500_000_000 for start in counted["start"]]  # type: ignore[arg-type]
    wide = (80 - 14) // (starts[-1] + 1)
    at = starts[counted["bytes"].index(most)]
    assert columns[at * wide : (at + 1) * wide] == "█" * wide
    for table in (counted, timeline, talkers):
        lines = graph(table, 100).splitlines()
        assert max(map(len, lines)) <= 100
    # Bytes of hosts are counted when they leave one, so no byte is drawn twice.
    outgoing: dict[object, int] = {}
    for row in talkers:
        outgoing[row["start"]] = outgoing.get(row["start"], 0) + int(row["bytes_out"])  # type: ignore[arg-type]
    assert drawn(graph(talkers))[0].split("│")[0].strip() == humanised_bytes(max(outgoing.values()))


def test_intervals_without_round_multiples_are_drawn() -> None:
    """0.07 s; and times of packets, which lie some odd number of nanoseconds apart."""
    requests = ["io,stat,0.07", "group,by=frame.time_epoch,count"]
    for table in library.run(STORY, requests):
        assert len(drawn(graph(table, 40))[0]) <= 40


def test_below_a_graph_each_of_the_largest_has_a_line() -> None:
    (services,) = library.run(STORY, "services,every=200ms")
    for unicode, levels in ((True, " ▁▂▃▄▅▆▇█"), (False, " .:=#")):
        lines = graph(services, 100, unicode).splitlines()
        assert max(map(len, lines)) <= 100 and all(line.isascii() for line in lines) != unicode
        [http] = [line for line in lines if line.startswith("http store.example.net")]
        marks = re.split("[│|]", http)[1]
        most: dict[object, int] = {}
        for row in services:
            if row["protocol"] == "http":
                most[row["start"]] = int(row["bytes"])  # type: ignore[arg-type]
        assert humanised_bytes(max(most.values())) in http
        # The same place as above, and as many intervals without any.
        first = min(int(start) for start in services["start"])  # type: ignore[arg-type]
        places = {(int(start) - first) // 200_000_000 for start in most}  # type: ignore[call-overload]
        wide = len(lines[-1].split("01", 1)[1]) + 2
        count = (max(int(start) for start in services["start"]) - first) // 200_000_000 + 1  # type: ignore[arg-type]
        wide = wide // count
        assert {at // wide for at, mark in enumerate(marks) if mark != " "} == places
        largest = [at for at in places if most[first + at * 200_000_000] == max(most.values())]
        assert {marks[at * wide : (at + 1) * wide] for at in largest} == {levels[-1] * wide}


def test_a_group_by_time_is_drawn_over_time() -> None:
    (group,) = library.run(STORY, "group,every=1s,by=ip.src,sum=frame.len")
    lines = graph(group).splitlines()
    assert lines[1] == "Bytes per 1 s" and lines[-1].split() == ["01:13:35", "01:13:42"]
    assert [line.split()[0] for line in lines if line.startswith("19")] == [
        "198.51.100.80", "192.0.2.10", "198.51.100.44", "192.0.2.53",
    ]  # fmt: skip


def test_bars_have_the_length_of_their_share() -> None:
    (table,) = library.run(STORY, "services")
    first, second, *_ = drawn(graph(table, 120))
    assert first.startswith("http store.example.net 198.51.100.80:80 tcp") and "129 kB" in first
    ratio = int(table["bytes"][1]) / int(table["bytes"][0])  # type: ignore[arg-type]
    assert abs(second.count("█") / first.count("█") - ratio) < 0.03
    (requests,) = library.run(STORY, "http_req,tree")
    assert "3 others" in graph(requests)


@pytest.mark.parametrize(("locale", "ascii_only"), [("C.UTF-8", False), ("C", True)])
def test_the_command_draws(locale: str, ascii_only: bool) -> None:
    asked = ["run", STORY, "-z", "io,stat,1", "-z", "services", "-z", "http,stat", "--plot"]
    done = sharkstat(*asked, env={"LC_ALL": locale})
    assert done.returncode == 0 and "\x1b" not in done.stdout
    assert ("█" in done.stdout) != ascii_only
    assert done.stdout.isascii() == ascii_only
    refused = sharkstat(*asked, "--format", "json")
    assert refused.returncode == 2 and "--plot draws on a terminal" in refused.stderr
