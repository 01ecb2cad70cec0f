"""Parse one JSON row, for JSON Lines and for lists of objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tasks.collect.records import Record
from tasks.collect.sources.lines import RAW_BYTES, Line
from tasks.collect.sources.row_values import Fit, Unfit
from tasks.core.json_text import strict_json

NO_OBJECT = ("unreadable JSON: ", "the row is not a JSON object")
"""How the problem of a row begins that is not an object of JSON."""


def raw_text(content: bytes) -> str:
    """Bytes as storable text: invalid UTF-8 becomes escapes; long rows are cut."""
    return content[:RAW_BYTES].decode("utf-8", errors="backslashreplace")


def json_record(source: str, line: Line, fit: Fit) -> Record:
    try:
        return Record(source, line.number, fit.row(_parsed(line)))
    except Unfit as reason:
        return Record(source, line.number, None, raw_text(line.content), str(reason))


def read_json_lines(lines: Iterable[Line], source: str, fit: Fit) -> Iterator[Record]:
    for line in lines:
        if line.problem or line.content.strip():
            yield json_record(source, line, fit)


def _parsed(line: Line) -> dict[str, Any]:
    if line.problem:
        raise Unfit(line.problem)
    try:
        values = strict_json(line.content.decode())
    except UnicodeDecodeError as error:
        raise Unfit(f"the row is not UTF-8: byte 0x{line.content[error.start]:02x} at {error.start + 1}") from error
    except (ValueError, RecursionError) as error:
        raise Unfit(f"{NO_OBJECT[0]}{error}") from error
    if not isinstance(values, dict):
        raise Unfit(NO_OBJECT[1])
    return values
