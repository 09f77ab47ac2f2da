"""cards: a block of lines for each row."""

from collections.abc import Iterator, Sequence

import sharkstat


def cards(tables: Sequence[sharkstat.Table]) -> Iterator[str]:
    for table in tables:
        yield f"# {table.title}\n"
        for row in table:
            yield "\n"
            for column in table.columns:
                if column.shown:
                    yield f"{table.heading(column.name)}: {table.shown(row, column.name)}\n"


@sharkstat.hookimpl
def register_exporters(register: sharkstat.RegisterExporter) -> None:
    register("cards", cards, ending="card")
