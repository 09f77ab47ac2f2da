"""Causes of a change, on cells made by hand: they add up, mirror, and are none where nothing changed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sharkstat.tables.causes import Cause, Explanation, explain, split
from sharkstat.tables.cells import MEASURES, Amount, By, Cell, Sum, Weights
from sharkstat.tables.column import Reading
from sharkstat.tables.diff import causes_table, findings_of
from sharkstat.tables.moves import Spans
from sharkstat.tables.wording import Scale, times

NUMBERS = st.integers(0, 2000)
AMOUNTS = st.builds(
    lambda size, packets, connections, requests, parts, first: Amount(
        size,
        packets,
        connections,
        requests,
        parts if size else 0,
        float(size * size) / max(parts, 1),
        float(size * size),
        first,
        first + 50,
    ),
    NUMBERS,
    NUMBERS,
    st.integers(0, 9),
    st.integers(0, 30),
    st.integers(1, 9),
    st.integers(0, 1000),
)
CELLS = st.builds(
    lambda service, name, host, client, request, query, status, resent, before, after: Cell(
        {
            "service": service,
            "name": name,
            "host": host,
            "client": client,
            "request": request,
            "query": query if request else None,
            "status": status,
            "resent": resent,
            "port": (service[0], *service[2:]),
        },
        before,
        after,
    ),
    st.sampled_from(
        [("http", "a.example", 80, "tcp"), ("tls", "a.example", 443, "tcp"), ("dns", "192.0.2.53", 53, "udp")]
    ),
    st.sampled_from([None, "a.example"]),
    st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
    st.sampled_from(["192.0.2.10", "192.0.2.11", "192.0.2.12"]),
    st.sampled_from([None, ("GET", "/"), ("GET", "/list")]),
    st.sampled_from(["", "page", "lang&page"]),
    st.sampled_from([None, "200", "500"]),
    st.booleans(),
    AMOUNTS,
    AMOUNTS,
)
BY: st.SearchStrategy[By] = st.sampled_from(MEASURES)
SPANS = st.integers(1, 10**6)


def distinct(cells: list[Cell]) -> list[Cell]:
    """One cell of each kind, as a table has them."""
    return list({tuple(cell.values.items()): cell for cell in cells}.values())


def swapped(cells: list[Cell]) -> list[Cell]:
    return [Cell(cell.values, cell.after, cell.before) for cell in cells]


def levels(found: Explanation) -> list[tuple[Sum, list[Cause]]]:
    return [(found.total, found.causes), *((c.total, c.children) for top in found.causes for _, c in top.walk())]


@settings(max_examples=150, deadline=None)
@given(st.lists(CELLS, max_size=25).map(distinct), BY, SPANS, SPANS)
def test_the_causes_of_every_level_and_the_rest_add_up(cells: list[Cell], by: By, before: int, after: int) -> None:
    found = explain(cells, by, Weights(before, after), Spans((0, 5), (before, after)))
    for whole, causes in levels(found):
        if not causes:
            continue
        assert sum(found.change(cause.total) for cause in causes) == found.change(whole)
        for measure in MEASURES:  # no cell is in two causes of a level, and none in no cause
            assert sum(found.change(cause.total, measure) for cause in causes) == found.change(whole, measure)
        assert sorted(map(id, whole.cells)) == sorted(id(cell) for cause in causes for cell in cause.total.cells)
        assert sum(cause.kind == "rest" for cause in causes) <= 1


MIRRORED = {"new": "gone", "gone": "new", "changed": "changed", "moved": "moved", "rest": "rest"}


def told(found: Explanation, mirrored: bool) -> list[tuple[object, ...]]:
    sign, lines = (-1 if mirrored else 1), []
    for top in found.causes:
        for depth, cause in top.walk():
            kind = MIRRORED[cause.kind] if mirrored else cause.kind
            ends = (cause.target, cause.source) if mirrored else (cause.source, cause.target)
            lines.append((depth, cause.dimension, cause.value, kind, *ends, sign * found.change(cause.total)))
    return sorted(lines, key=str)


@settings(max_examples=150, deadline=None)
@given(st.lists(CELLS, max_size=25).map(distinct), BY, SPANS, SPANS)
def test_the_other_way_round_everything_is_mirrored(cells: list[Cell], by: By, before: int, after: int) -> None:
    weights = Weights(before, after)
    one = explain(cells, by, weights, Spans((0, 5), (before, after)))
    other = explain(swapped(cells), by, weights.swapped(), Spans((5, 0), (after, before)))
    assert told(one, False) == told(other, True)
    assert one.gross() == other.gross()


@settings(deadline=None)
@given(st.lists(CELLS, max_size=25).map(distinct), BY, SPANS)
def test_between_equals_nothing_changed(cells: list[Cell], by: By, span: int) -> None:
    same = [Cell(cell.values, cell.before, cell.before) for cell in cells]
    found = explain(same, by, Weights(span, span), Spans((0, 0), (span, span)))
    assert found.nothing and found.gross() == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(CELLS, max_size=25).map(distinct), BY, SPANS, SPANS)
def test_every_cause_can_be_said_and_its_number_and_size_add_up(
    cells: list[Cell], by: By, before: int, after: int
) -> None:
    scale = Scale((before * 10**6, after * 10**6), rates=before != after)
    found = explain(cells, by, scale.weights, Spans((0, 5), (before, after)))
    for finding in findings_of(found, scale):
        assert "\n" not in finding.sentence and finding.path
        whole = finding.change_by_count + finding.change_by_size
        assert abs(whole - finding.change) <= 1e-6 * (1 + abs(finding.before) + abs(finding.after))
    rows = causes_table(found, scale, Reading()).rows
    assert len({row["cause"] for row in rows}) == len(rows) == sum(1 for top in found.causes for _ in top.walk())


@given(st.integers(0, 100), st.integers(0, 100), st.floats(0, 1e9), st.floats(0, 1e9))
def test_the_split_into_number_and_size_mirrors(n: int, m: int, before: float, after: float) -> None:
    more, larger = split((n, m), (before, after))
    fewer, smaller = split((m, n), (after, before))
    slack = 1e-6 * (1 + before + after)
    assert abs(more + fewer) <= slack and abs(larger + smaller) <= slack
    assert abs(more + larger - (after - before)) <= slack


def test_factors_in_words() -> None:
    assert [times(1, 1.9), times(1, 2), times(3, 0)] == ["+90 %", "2.0 times", "gone"]
