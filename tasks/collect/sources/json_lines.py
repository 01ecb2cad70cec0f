"""JSON Lines: one object a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tasks.collect.records import Record
from tasks.collect.sources.json_rows import json_record
from tasks.collect.sources.lines import Line
from tasks.collect.sources.row_values import Fit


def read_json_lines(lines: Iterable[Line], source: str, fit: Fit) -> Iterator[Record]:
    """A record for every line that is not blank."""
    for line in lines:
        if line.problem or line.content.strip():
            yield json_record(source, line, fit)
