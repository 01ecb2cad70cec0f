"""Tables that a JSON object holds by column, as pandas' ``DataFrame.to_json`` and ``to_dict`` write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tasks.core.errors import SourceError

LARGEST_TABLE = 256 * 2**20
"""In bytes: a table by column is held in memory."""
BY_ROWS = "write it by row: df.to_json(FILE, orient='records', lines=True)"
SPLIT = {"columns", "index", "data", "index_names", "column_names"}
"""The members of pandas' orients ``split`` and ``tight``; their ``data`` are lists of values."""


def rows_by_column(values: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]] | None:
    """The rows of a table; None for an object that is not a table by column.

    A table has only members of one kind: lists of one length, or objects whose keys are the same row numbers
    (``{"letter": {"0": "..."}}``). pandas' orients ``split``, ``tight`` and ``index`` are read as well. Raises
    SourceError: the columns differ in length or in their row numbers.
    """
    members = list(values.values())
    if not members:
        return None
    if {"columns", "data"} <= values.keys() <= SPLIT and _are(list, values["data"]) and _are(str, values["columns"]):
        return _split(values["columns"], values["data"], where)
    if _are(list, members):
        lengths = {name: len(column) for name, column in values.items()}
        _require_equal(lengths, where)
        return (dict(zip(values, row, strict=True)) for row in zip(*members, strict=True))
    if not _are(Mapping, members) or not any(members):
        return None
    if all(key.isdecimal() for column in members for key in column):
        numbers = {name: list(column) for name, column in values.items()}
        _require_equal({name: len(column) for name, column in numbers.items()}, where)
        _require_equal({name: sorted(column) for name, column in numbers.items()}, where, "row numbers")
        return ({name: column[number] for name, column in values.items()} for number in next(iter(numbers.values())))
    return iter(members) if all(key.isdecimal() for key in values) else None


def _are(kind: type, found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(item, kind) for item in found)


def _split(columns: Sequence[str], rows: Sequence[Sequence[Any]], where: str) -> Iterator[dict[str, Any]]:
    _require_equal(
        {"columns": len(columns), **{f"row {number}": len(row) for number, row in enumerate(rows, 1)}}, where
    )
    return (dict(zip(columns, row, strict=True)) for row in rows)


def _require_equal(found: Mapping[str, Any], where: str, what: str = "length") -> None:
    first = next(iter(found))
    if odd := next((name for name, value in found.items() if value != found[first]), None):
        shown = f": {found[first]} and {found[odd]}" if what == "length" else ""
        raise SourceError(
            f"The JSON object is a table by column, but {first!r} and {odd!r} differ in {what}{shown}",
            where=where,
            remedy=f"repair the table, or {BY_ROWS}",
        )
