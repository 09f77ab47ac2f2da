"""`sharkstat diff`: the story's cause in its first lines; sides, formats, joined tables and statuses of the command."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.command import DATA, sharkstat
from tests.traffic.changes import office

import sharkstat as library
from sharkstat import Column, Diff, RequestError, Table
from sharkstat.tables.joining import joined
from sharkstat.tables.wording import Scale

BEFORE, AFTER = DATA / "story-before.pcapng", DATA / "story-after.pcapng"
LISTING = "GET /backup?list-type&max-keys&prefix[&continuation-token]"
SECOND = 10**9


@pytest.fixture(scope="module")
def story() -> Diff:
    return library.diff(BEFORE, AFTER)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What `sharkstat run` saved of both, for tests whose subject is what is shown."""
    folder = tmp_path_factory.mktemp("saved")
    for capture, name in ((BEFORE, "before"), (AFTER, "after")):
        requests = ["-z", "traffic", "-z", "conv,tcp"]
        done = sharkstat("run", capture, *requests, "--format", "json", "--output", folder / f"{name}.json")
        assert done.returncode == 0, done.stderr
    return folder / "before.json", folder / "after.json"


def test_the_first_cause_of_the_story_is_the_listing(story: Diff) -> None:
    """Six listings became 21 (truth.json), and each is larger: how much comes of which is told apart."""
    finding = story.findings[0]
    assert finding.path == ("http store.example.net:80 (198.51.100.80)", LISTING)
    assert (finding.unit, finding.count, finding.by) == ("requests", (6, 21), "bytes")
    assert finding.share > 0.99
    sizes = [round(size) for size in finding.size]
    assert finding.sentence == f"{', '.join(finding.path)}: requests 6 → 21, 1.8 → 5.2 kB each" and sizes[0] < sizes[1]
    assert finding.change_by_count + finding.change_by_size == pytest.approx(finding.change)
    # By number 15 more at the mean size, by size the rest.
    assert finding.change_by_count == pytest.approx(15 * sum(finding.size) / 2)
    first, second, *_ = str(story).split("\n")
    assert first.startswith("Bytes 36 → 135 kB (3.7 times), packets 125 → 243 (+94 %), requests 30 → 45")
    assert second == f"100 % of it: {finding.sentence}"


def test_what_is_said_of_the_listing_is_what_http_requests_counts(story: Diff) -> None:
    """The requests are those of another statistic, and the bytes of all are those of the capture."""
    counts = []
    for capture in (BEFORE, AFTER):
        (table,) = library.run(
            capture, "http,requests,path=template", display_filter='http.request.uri contains "list-type"'
        )
        counts.append(table.total("requests"))
    assert tuple(counts) == story.findings[0].count
    total = story.tables[0].where(measure="bytes").rows[0]
    assert (total["before"], total["after"]) == tuple(
        library.run(capture, "io,stat,0")[0].total("bytes") for capture in (BEFORE, AFTER)
    )


@pytest.mark.parametrize("output_format", ["json", "csv", "markdown", "html"])
def test_every_format_has_the_causes(output_format: str, story: Diff, saved: tuple[Path, Path]) -> None:
    done = sharkstat("diff", *saved, "--format", output_format)
    assert done.returncode == 0, done.stderr
    sentence = story.findings[0].sentence
    if output_format == "json":
        change, causes = json.loads(done.stdout)["tables"]
        assert [row["measure"] for row in change["rows"]] == ["bytes", "packets", "connections", "requests"]
        row = causes["rows"][1]
        assert (row["sentence"], row["kind"], row["count_before"], row["count_after"]) == (sentence, "changed", 6, 21)
        types = {column["name"]: (column["type"], column["unit"]) for column in causes["columns"]}
        assert types["change"] == ("integer", "bytes") and types["share"] == ("number", "percent")
        assert causes["rows"][0]["change"] == sum(r["change"] for r in causes["rows"] if len(r["cause"]) == 2)
    elif output_format == "csv":
        rows = list(csv.DictReader(io.StringIO(done.stdout.split("\n\n")[1].partition("\n")[2])))
        assert rows[1]["sentence"] == sentence
    else:
        assert "store.example.net:80" in done.stdout and "continuation-token" in done.stdout


def test_saved_results_compare_as_the_captures_do(story: Diff, saved: tuple[Path, Path]) -> None:
    before, _ = saved
    assert library.diff(before, AFTER).findings == library.diff(*saved).findings == story.findings
    joined_, fresh = (library.diff(*pair, "conv,tcp") for pair in (saved, (BEFORE, AFTER)))
    assert joined_.tables[0].rows == fresh.tables[0].rows
    with pytest.raises(RequestError, match=r"has no conv,udp: save it with `sharkstat run CAPTURE -z conv,udp"):
        library.diff(before, AFTER, "conv,udp")


def test_tables_are_joined_on_what_both_captures_can_have(story: Diff) -> None:
    """The client's ports differ, and the streams' numbers mean nothing: the four connections are two services."""
    (table,) = library.diff(BEFORE, AFTER, "conv,tcp").tables
    sides = [library.run(capture, "conv,tcp")[0] for capture in (BEFORE, AFTER)]
    assert "stream" not in (c.name for c in table.columns) and "start_before" not in (c.name for c in table.columns)
    assert [(row["address_b"], row["port_b"], row["port_a"]) for row in table] == [
        ("198.51.100.80", 80, None),
        ("198.51.100.44", 443, None),
    ]
    for side, name in zip(sides, ("bytes_before", "bytes_after"), strict=True):
        assert table.total(name) == side.total("bytes")
        web = [row for row in side if row["port_b"] == 80]
        assert table.rows[0][name] == sum(row["bytes"] for row in web)  # type: ignore[misc]
    assert sum(table["bytes_share"]) == pytest.approx(100)  # type: ignore[arg-type]
    assert table.rows[0]["bytes_factor"] == pytest.approx(129312 / 30411)


def test_new_and_gone_rows_trees_and_rates() -> None:
    tree, totals = library.diff(BEFORE, AFTER, ["http_req,tree", "io,stat,2"], per="second").tables
    states = [row["state"] for row in tree]
    assert states.count("new") > 5 and states.count("gone") == 3
    paths = [row["path"] for row in tree]
    assert all(path[:-1] in paths[:at] for at, path in enumerate(paths) if len(path) > 1)  # type: ignore[index, arg-type]
    assert tree.rows[0]["count_share"] == pytest.approx(100)
    (row,) = totals.rows  # intervals are of one capture
    assert (
        row["bytes_before"] == pytest.approx(35986 / 5.800057492)
        and totals.column("bytes_before").unit == "bytes per second"
    )


def test_rows_of_high_ports_are_kept_where_several_use_them() -> None:
    keys: list[Column] = []
    for end in "ab":
        keys.append(Column(f"address_{end}", "address", role="key"))
        keys.append(Column(f"port_{end}", "integer", role="key", local="dynamic"))

    def table(*rows: tuple[str, int, str, int, int]) -> Table:
        names = ("address_a", "port_a", "address_b", "port_b", "bytes")
        columns = (*keys, Column("bytes", "integer", "bytes"))
        return Table("x", "X", "x", columns, [dict(zip(names, row, strict=True)) for row in rows])

    before = table(("a", 40001, "s", 50051, 10), ("b", 40002, "s", 50051, 20))
    after = table(("a", 41001, "s", 50051, 15), ("b", 41002, "s", 50051, 20))
    found = joined(before, after, Scale((SECOND, SECOND), False))
    assert [(row["address_a"], row["port_a"], row["port_b"], row["bytes_change"]) for row in found] == [
        ("a", None, 50051, 5),
        ("b", None, 50051, 0),
    ]


def test_a_threshold_ends_with_a_status_of_its_own(saved: tuple[Path, Path]) -> None:
    done = sharkstat("diff", BEFORE, AFTER, "--fail-over", "20%")
    assert done.returncode == 8 and LISTING in done.stdout
    assert sharkstat("diff", *saved, "--fail-over", "300", "--by", "bytes").returncode == 0
    same = sharkstat("diff", saved[1], saved[1], "--fail-over", "1%")
    assert same.returncode == 0 and same.stdout.startswith("Nothing changed: bytes 135 → 135 kB (as before)")


def test_sides_of_several_files_and_one_cut_in_two(tmp_path: Path) -> None:
    """A capture in files of its own gives what the whole gives; gaps between the files do not count as time."""
    day = office(5).wire
    first, second = (day.between(*ends).save(tmp_path / f"{ends[0]}.pcap") for ends in ((0, 20), (40, 60)))
    done = sharkstat("diff", "--before", first, second, "--after", second, "--format", "json", "--per", "second")
    assert done.returncode == 0, done.stderr
    found = library.diff([first, second], second, per="second")
    assert 38 < found.before.span / SECOND < 40 and 19 < found.after.span / SECOND < 20
    packets = json.loads(done.stdout)["tables"][0]["rows"][1]
    whole = library.run([first, second], "io,stat,0")[0].reading.packets
    assert packets["before"] * found.before.span / SECOND == pytest.approx(whole)
    cut = library.diff(day.save(tmp_path / "whole.pcap"), at="20s", requests="io,stat,0", per="capture").tables[0]
    assert cut.rows[0]["frames_before"] == library.run(first, "io,stat,0")[0].reading.packets


def test_a_filter_changes_no_span() -> None:
    found = library.diff(BEFORE, AFTER, display_filter="dns")
    assert found.nothing_changed and found.before.span == pytest.approx(5.8 * SECOND, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "give two captures"),
        ((BEFORE,), "--at TIME"),
        ((BEFORE, AFTER, DATA / "dns.pcapng"), "--before and --after"),
        ((BEFORE, AFTER, "--at", "3s"), "--at splits one capture"),
        ((BEFORE, "--at", "1h"), "--at 1h: outside the capture"),
        ((BEFORE, "--at", "noon"), "e.g. 300s or 5m"),
        ((BEFORE, AFTER, "--by", "colour"), "--by 'colour': choose bytes"),
        ((BEFORE, AFTER, "-z", "conv,ip", "--by", "colour"), "no numeric column 'colour'"),
        ((BEFORE, AFTER, "--per", "hour"), "--per 'hour': choose second or capture"),
        ((BEFORE, AFTER, "--fail-over", "much"), "--fail-over 'much': give a percentage"),
        (("--before", BEFORE), "give both"),
        ((BEFORE, AFTER, "-z", "flow,tcp,standard"), ""),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_line(arguments: tuple[object, ...], word: str) -> None:
    done = sharkstat("diff", *arguments)
    if not word:  # a statistic without a number still says one line, or has one
        assert done.returncode in (0, 2)
        return
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert word in done.stderr and done.stderr.count("\n") == 1


def test_a_cut_capture_and_hostile_names_do_no_harm(tmp_path: Path, story: Diff) -> None:
    done = sharkstat("diff", DATA / "cut.pcapng", DATA / "cut.pcapng")
    assert done.returncode == 6 and done.stdout.startswith("Nothing changed") and "INCOMPLETE" in done.stdout
    hostile = replace(story.tables[1], rows=[{**story.tables[1].rows[0], "cause": ("a\x1b[31m",)}])
    assert "\x1b" not in str(hostile)
    assert story._repr_html_().startswith('<pre style="white-space: pre-wrap">Bytes 36 → 135 kB')
