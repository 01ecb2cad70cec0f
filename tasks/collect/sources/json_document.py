"""JSON: one document whose rows are cut out of the text one by one, so that its size does not matter.

A whole-document parser stops at the first fault and gives no line numbers. Here each row is parsed separately: a bad
row costs only itself, and its line is known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from tasks.collect.records import Record
from tasks.collect.sources.json_columns import BY_ROWS, LARGEST_TABLE, rows_by_column
from tasks.collect.sources.json_items import AFTER_THE_END, json_items
from tasks.collect.sources.json_rows import read_json_lines
from tasks.collect.sources.lines import Line, read_lines, read_whole
from tasks.collect.sources.row_values import Fit
from tasks.collect.sources.unpack import BrokenStream
from tasks.core.errors import SourceError
from tasks.core.json_text import strict_json

LONGEST_ROW = 4
"""Longest text of a row, as a multiple of the largest field."""
TURNS = ({"role", "content"}, {"from", "value"})
"""The keys of a turn."""

LIST_OF_OBJECTS = re.compile(rb'"(?:[^"\\]++|\\.)*+"\s*:\s*\[(?=\s*\{)', re.DOTALL)
LIST_OR_OBJECT = re.compile(rb'"(?:[^"\\]++|\\.)*+"\s*:\s*[\[{]', re.DOTALL)


def read_json(blocks: Callable[[], Iterator[bytes]], source: str, fit: Fit, where: str) -> Iterator[Record]:
    """A record for every row of a JSON document.

    - A list: its items are the rows.
    - An object with one member that is a list of objects, such as ``{"data": [{...}, ...]}``: that list's items. A list
      of turns (``role`` and ``content``, or ``from`` and ``value``) does not count as such a member.
    - A table by column, such as ``{"letter": {"0": "..."}}`` or ``{"letter": ["..."]}``: its rows.
    - Any other object, and any that holds a conversation: one row.
    - Several objects in sequence: JSON Lines under another name.

    ``blocks``: opens the text.
    """
    longest = LONGEST_ROW * fit.max_field_bytes
    match _first_byte(blocks()):
        case b"":
            return
        case b"[":
            lines = json_items(blocks(), longest)
        case b"{":
            lines = _rows_near_object(blocks, longest, where)
        case _:
            raise SourceError("The file holds neither a JSON list nor a JSON object", where=where)
    yield from read_json_lines(lines, source, fit)


def _first_byte(blocks: Iterator[bytes]) -> bytes:
    try:
        return next((text[:1] for block in blocks if (text := block.lstrip())), b"")
    except BrokenStream:
        return b"["  # and the reader of a list says where it breaks


def _rows_near_object(blocks: Callable[[], Iterator[bytes]], longest: int, where: str) -> Iterator[Line]:
    lists: dict[int, str] = {}
    is_row, members, containers = False, 0, 0
    for number, member in enumerate(json_items(blocks(), longest)):
        if member.problem == AFTER_THE_END and member.content.startswith(b"{"):
            return read_lines(blocks(), longest)
        first = _first_object(member, longest)
        if first is not None:
            is_row = is_row or any(turn <= first for turn in TURNS)
            lists[number] = member.content[:100].decode(errors="replace").partition(":")[0].strip()
        members += 1
        containers += LIST_OR_OBJECT.match(member.content) is not None
    if members == containers and not is_row and (not lists or len(lists) == 1 < members):
        table = _table(blocks, where, is_certain=not lists)
        if table is not None:
            return (Line(number, json.dumps(row).encode()) for number, row in enumerate(table, 1))
    if is_row or not lists:
        return iter([read_whole(blocks(), longest)])
    if len(lists) > 1:
        what = f"The JSON object has several lists of rows: {', '.join(lists.values())}"
        raise SourceError(what, where=where, remedy="keep one of them, or put each into a separate file")
    return json_items(blocks(), longest, next(iter(lists)))


def _table(blocks: Callable[[], Iterator[bytes]], where: str, is_certain: bool) -> Iterator[dict[str, Any]] | None:
    """The rows of an object of lists or objects, if it is a table by column.

    ``is_certain``: columns of different length are an error, as nothing else in the object can be its rows.
    """
    whole = read_whole(blocks(), LARGEST_TABLE)
    if whole.problem and is_certain and whole.problem.startswith("a text of"):
        what = (
            f"The JSON object has only lists and objects, as a table by column, and more than {LARGEST_TABLE:,} bytes"
        )
        raise SourceError(what, where=where, remedy=BY_ROWS)
    try:
        values = strict_json(whole.content.decode())
    except (ValueError, RecursionError):
        return None  # and the reader of its one row reports why
    if not is_certain and len({len(column) for column in values.values()}) > 1:
        return None
    return rows_by_column(values, where)


def _first_object(member: Line, longest: int) -> set[str] | None:
    found = LIST_OF_OBJECTS.match(member.content)
    if found is None:
        return None
    first = next(json_items([member.content[found.end() - 1 :]], longest))
    try:
        values = json.loads(first.content)
    except (ValueError, RecursionError):
        return set()
    return set(values)
