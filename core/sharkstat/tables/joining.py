"""Two tables of one statistic as one: before, after, and what changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sharkstat.errors import RequestError
from sharkstat.tables.column import Column, Row, Value
from sharkstat.tables.selection import walked
from sharkstat.tables.table import Table, merge_rows
from sharkstat.tables.wording import SECOND, Scale

# Ports from here on are given to clients anew for each connection (Linux; others begin later).
DYNAMIC = 32768
_NUMERIC = ("integer", "number", "duration")


def joined(before: Table, after: Table, scale: Scale, by: str = "") -> Table:
    """A row for every key that either table has, sorted by the change of the measure `by`.

    Without `by` that is bytes, or else the first that adds up. Keys that mean something in one capture only
    (`Column.local`, and all times) are summed over first. RequestError for tables that do not compare.
    """
    if (before.name, before.request) != (after.name, after.request):
        raise RequestError(f"cannot compare {before.request} with {after.request}: the requests must be equal")
    for table in (before, after):
        if table.omitted:
            raise RequestError(f"{table.request}: the saved result lacks rows: save it without --top")
    sides = [_over_local(table) for table in (before, after)]
    keys = [c for c in before.columns if c.role == "key" and not _is_local(c)]
    values = [c for c in _common(before, after) if c.role != "key" and c.type in _NUMERIC and _compares(c)]
    main = _main(values, by, before.request)
    values.sort(key=lambda column: column is not main)  # a narrow terminal shows the first ones
    found: dict[tuple[Value, ...], list[Row | None]] = {}
    for side, given in enumerate(sides):
        for row in given:
            found.setdefault(tuple(row[c.name] for c in keys), [None, None])[side] = row
    told = [any(key[at] is not None for key in found) for at in range(len(keys))]
    columns = [replace(c, local="", shown=c.shown and known) for c, known in zip(keys, told, strict=True)]
    rows: list[Row] = []
    if keys:
        columns.append(Column("state", "text", role="derived", title="", description="new, gone, or empty"))
    for column in values:
        columns += _columns(column, main, scale)
    # Of a tree, the roots are the whole.
    roots = [pair for key, pair in found.items() if not key or not isinstance(key[0], tuple) or len(key[0]) == 1]
    totals = [sum(_number((pair[side] or {}).get(main.name)) for pair in roots) for side in (0, 1)]
    change = _scaled(main, totals[1], 1, scale) - _scaled(main, totals[0], 0, scale)
    for key, pair in found.items():
        row = dict(zip((c.name for c in keys), key, strict=True))
        if keys:
            row["state"] = "new" if pair[0] is None else "gone" if pair[1] is None else None
        for column in values:
            row.update(_compared(column, pair, main, scale, change))
        rows.append(row)
    rows.sort(key=lambda row: (-abs(_number(row[f"{main.name}_change"])), str([row[c.name] for c in keys])))
    return replace(
        after,
        title=f"{after.title}, before and after",
        columns=tuple(columns),
        rows=_as_tree(rows, keys),
        complete=before.complete and after.complete,
        warnings=[*before.warnings, *after.warnings],
        names={**before.names, **after.names},
        engine="+".join(sorted({before.engine, after.engine})),
        tshark="+".join(sorted({before.tshark, after.tshark})),
        statistic=None,
    )


def _as_tree(rows: list[Row], keys: Sequence[Column]) -> list[Row]:
    """Of a tree's rows the children behind their parents, each level by its change."""
    if not keys or keys[0].type != "path":
        return rows
    return walked(rows, keys[0].name)


def _is_local(column: Column) -> bool:
    return column.local == "always" or column.type == "time"


def _over_local(table: Table) -> list[Row]:
    """The rows summed over what means something in this capture only, with what is derived of the sums."""
    local = [c for c in table.keys if _is_local(c)]
    ports = [c for c in table.keys if c.local == "dynamic"]
    if not local and not ports:
        return table.rows
    lasting = _lasting(table, ports)
    rows = []
    for row in table.rows:
        dropped: Row = {c.name: None for c in local}
        for column in ports:
            port = row[column.name]
            if isinstance(port, int) and port >= DYNAMIC and (_owner(table, column, row), port) not in lasting:
                dropped[column.name] = None
        rows.append({**row, **dropped})
    merged = replace(table, rows=merge_rows(table.columns, rows))
    derived = [c for c in table.columns if c.role == "derived"]
    if table.statistic is not None and derived:
        table.statistic.derive(merged)
    else:
        for row in merged.rows:
            for column in derived:
                row[column.name] = column.derived_from(row) if column.computed else None
    return merged.rows


def _owner(table: Table, port: Column, row: Row) -> Value:
    """The address that the port belongs to: the column before or behind it that is one."""
    names = [c.name for c in table.columns]
    at = names.index(port.name)
    near = [table.columns[i] for i in (at - 1, at + 1) if 0 <= i < len(names)]
    return next((row[c.name] for c in near if c.type == "address"), None)


def _lasting(table: Table, ports: Sequence[Column]) -> set[tuple[Value, Value]]:
    """High ports at which an address has several partners: servers listen there."""
    counts: dict[tuple[Value, Value], int] = {}
    for row in table.rows:
        for column in ports:
            end = (_owner(table, column, row), row[column.name])
            counts[end] = counts.get(end, 0) + 1
    return {end for end, count in counts.items() if count > 1} if len(ports) > 1 else set()


def _common(before: Table, after: Table) -> list[Column]:
    there = {column.name for column in after.columns}
    return [column for column in before.columns if column.name in there]


def _compares(column: Column) -> bool:
    return column.merge != "none" and column.unit != "percent"


def _adds_up(column: Column) -> bool:
    return (
        column.merge == "sum"
        or bool(column.share)
        or (column.role == "derived" and not column.computed and column.unit in ("bytes", "packets"))
    )


def _main(values: Sequence[Column], by: str, request: str) -> Column:
    sums = [column for column in values if _adds_up(column)]
    for column in values:
        if by and column.name == by:
            return column
    if by and by not in ("bytes", "packets", "connections", "requests"):
        raise RequestError(f"{request} has no numeric column {by!r}; it has {', '.join(c.name for c in values)}")
    if not sums and not values:
        raise RequestError(f"{request} has no numbers to compare")
    named = {column.name: column for column in sums}
    shown = [column for column in sums if column.shown] or sums
    return named.get("bytes") or (shown[0] if shown else values[0])


def _columns(column: Column, main: Column, scale: Scale) -> list[Column]:
    rates = scale.rates and _adds_up(column)
    unit = f"{column.unit} per second".strip() if rates else column.unit
    kind = "number" if rates else column.type
    heading = column.heading
    shown = column.shown and (column is main or _adds_up(column))

    def one(name: str, title: str, **told: object) -> Column:
        fitted: dict[str, object] = {"type": kind, "unit": unit, "shown": shown, **told}
        return Column(f"{column.name}_{name}", title=title, role="derived", **fitted)  # type: ignore[arg-type]

    found = [one("before", f"{heading}\nbefore"), one("after", f"{heading}\nafter")]
    found.append(one("change", f"{heading}\nchange", shown=column is main))
    if column is main:
        found.append(one("factor", "Factor", type="number", unit="times"))
        found.append(one("share", "Share of\nchange", type="number", unit="percent"))
    return found


def _number(value: Value) -> int | float:
    return value if isinstance(value, (int, float)) else 0


def _scaled(column: Column, value: int | float, side: int, scale: Scale) -> int | float:
    if not scale.rates or not _adds_up(column):
        return value
    rate = value * SECOND / scale.spans[side]
    return rate / SECOND if column.type == "duration" else rate


def _compared(
    column: Column, pair: Sequence[Row | None], main: Column, scale: Scale, total: int | float
) -> Mapping[str, Value]:
    name, sides = column.name, []
    for side, row in enumerate(pair):
        value = None if row is None else row[name]
        if value is None and _adds_up(column):
            value = 0
        sides.append(_scaled(column, value, side, scale) if isinstance(value, (int, float)) else None)
    before, after = sides
    change = after - before if before is not None and after is not None else None
    found: dict[str, Value] = {f"{name}_before": before, f"{name}_after": after, f"{name}_change": change}
    if column is main:
        found[f"{name}_factor"] = after / before if before and after is not None else None
        found[f"{name}_share"] = 100 * change / total if total and change is not None else None
    return found
