"""my,statistic: an output format, a block of lines for each row."""

from collections.abc import Iterator, Sequence

import sharkstat


def export(tables: Sequence[sharkstat.Table]) -> Iterator[str]:
    for table in tables:
        yield f"{table.title} ({table.request})\n"
        for row in table:
            yield "\n"
            for column in table.columns:
                if column.shown:
                    # Values come from packets: `shown` escapes what would act on a terminal.
                    yield f"{table.heading(column.name)}: {table.shown(row, column.name)}\n"


@sharkstat.hookimpl
def register_exporters(register: sharkstat.RegisterExporter) -> None:
    register("my,statistic", export)
