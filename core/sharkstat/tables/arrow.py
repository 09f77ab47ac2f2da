"""Tables as Arrow data: what pandas, polars, DuckDB, Parquet files and notebooks take as it is.

| column type | Arrow type |
| --- | --- |
| text, address | dictionary of string |
| integer | int64; decimal128(38, 0) where a value is larger |
| number | double; int64 where every value is a whole number |
| boolean | bool |
| time | timestamp[ns, UTC] |
| duration | duration[ns] |
| path, set | list of string |

No value is null. A field's metadata says its `type`, `unit`, `role` and the rest of its column; the schema's metadata
(`sharkstat`) what the JSON layout says of the table. https://arrow.apache.org/docs/format/Columnar.html
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from sharkstat.errors import OutputError, RequestError
from sharkstat.tables.column import Column, Value

if TYPE_CHECKING:
    import pyarrow

    from sharkstat.tables.table import Table

_INT64 = range(-(2**63), 2**63)


def library(name: str) -> Any:
    """Import an optional library. Raises OutputError, with how to install it, if it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        extra = "sharkstat[arrow]" if name.startswith("pyarrow") else name
        raise OutputError(f"data frames, Parquet and Arrow files need {name}: pip install '{extra}'") from None


def to_arrow(table: Table) -> pyarrow.Table:
    """The table as a `pyarrow.Table`. Raises OutputError if pyarrow is not installed."""
    from sharkstat.tables.export import described

    arrow = library("pyarrow")
    about = described(table)
    arrays, fields = [], []
    for column, says in zip(table.columns, about["columns"], strict=True):
        array = _array(arrow, column, [row[column.name] for row in table.rows])
        arrays.append(array)
        metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in says.items()}
        fields.append(arrow.field(column.name, array.type, metadata=metadata))
    schema = arrow.schema(fields, metadata={"sharkstat": json.dumps(about)})
    return arrow.Table.from_arrays(arrays, schema=schema)


def to_parquet(tables: Sequence[Table]) -> Iterator[bytes]:
    """One table as a Parquet file. RequestError for several, OutputError where pyarrow is not installed."""
    table = _only(tables, "Parquet")
    out = library("pyarrow").BufferOutputStream()
    library("pyarrow.parquet").write_table(to_arrow(table), out, compression="zstd")
    yield out.getvalue().to_pybytes()


def to_ipc(tables: Sequence[Table]) -> Iterator[bytes]:
    """One table as an Arrow IPC file (also called Feather): not compressed, so that it can be mapped into memory.

    RequestError for several tables, OutputError where pyarrow is not installed.
    Source: https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format
    """
    data = to_arrow(_only(tables, "Arrow"))
    arrow = library("pyarrow")
    out = arrow.BufferOutputStream()
    with library("pyarrow.ipc").new_file(out, data.schema) as writer:
        writer.write_table(data)
    yield out.getvalue().to_pybytes()


def _only(tables: Sequence[Table], kind: str) -> Table:
    if len(tables) != 1:
        raise RequestError(f"one {kind} file holds one table: ask for one statistic, or name a folder: --output DIR/")
    return tables[0]


def from_file(path: str, kind: Literal["parquet", "arrow"]) -> tuple[dict[str, Any], list[dict[str, Value]]]:
    """What the JSON layout says of the table in a Parquet or Arrow IPC file, and its rows, as they were exported.

    ValueError for a file of another kind; OutputError where pyarrow is not installed.
    """
    arrow = library("pyarrow")
    try:
        if kind == "parquet":
            data = library("pyarrow.parquet").read_table(path)
        else:
            with library("pyarrow.ipc").open_file(path) as reader:
                data = reader.read_all()
        about = json.loads((data.schema.metadata or {})[b"sharkstat"], parse_float=Decimal)
    except (arrow.ArrowInvalid, KeyError) as problem:
        raise ValueError(str(problem).splitlines()[0]) from None
    columns = {}
    for field in data.schema:
        values = data.column(field.name)
        if arrow.types.is_timestamp(field.type) or arrow.types.is_duration(field.type):
            values = values.cast(arrow.int64())
        found = values.to_pylist()
        if arrow.types.is_decimal(field.type):
            found = [None if value is None else int(value) for value in found]
        elif arrow.types.is_list(field.type):
            found = [None if value is None else tuple(value) for value in found]
        columns[field.name] = found
    names = list(columns)
    return about, [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _array(arrow: Any, column: Column, values: Sequence[Value]) -> Any:
    if column.type in ("path", "set"):
        lists = [None if value is None else [_valid(part) for part in value] for value in values]  # type: ignore[union-attr]
        return arrow.array(lists, arrow.list_(arrow.string()))
    if column.type in ("text", "address"):
        texts = [None if value is None else _valid(str(value)) for value in values]
        return arrow.array(texts, arrow.string()).dictionary_encode()
    if column.type == "boolean":
        return arrow.array(values, arrow.bool_())
    numbers = [value for value in values if value is not None]
    if column.type == "number" and not (numbers and all(isinstance(value, int) for value in numbers)):
        return arrow.array([None if value is None else float(value) for value in values], arrow.float64())  # type: ignore[arg-type]
    if not all(value in _INT64 for value in numbers):
        # What int64 does not hold stays exact: sums of 64-bit fields, times of damaged files.
        whole = [None if value is None else Decimal(value) for value in values]  # type: ignore[arg-type]
        return arrow.array(whole, arrow.decimal128(38, 0))
    kinds = {"time": arrow.timestamp("ns", "UTC"), "duration": arrow.duration("ns")}
    return arrow.array(values, arrow.int64()).cast(kinds.get(column.type, arrow.int64()))


def _valid(text: str) -> str:
    r"""Arrow's strings are UTF-8: a surrogate that stands for a byte that is none is written out, as `\udc9b`."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
