"""JSON: one document whose rows are cut out of the text one by one, so that its size does not matter.

A whole-document parser stops at the first fault and gives no line numbers. Here each row is parsed separately: a bad
row costs only itself, and its line is known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

from tasks.collect.records import Record
from tasks.collect.sources.json_items import AFTER_THE_END, json_items
from tasks.collect.sources.json_rows import read_json_lines
from tasks.collect.sources.lines import Line, read_lines, read_whole
from tasks.collect.sources.row_values import Fit
from tasks.collect.sources.unpack import BrokenStream
from tasks.core.errors import SourceError

LONGEST_ROW = 4
"""Longest text of a row, as a multiple of the largest field."""
TURNS = ({"role", "content"}, {"from", "value"})
"""The keys of a turn."""

LIST_OF_OBJECTS = re.compile(rb'"(?:[^"\\]++|\\.)*+"\s*:\s*\[(?=\s*\{)', re.DOTALL)


def read_json(blocks: Callable[[], Iterator[bytes]], source: str, fit: Fit, where: str) -> Iterator[Record]:
    """A record for every row of a JSON document.

    - A list: its items are the rows.
    - An object with one member that is a list of objects, such as ``{"data": [{...}, ...]}``: that list's items. A list
      of turns (``role`` and ``content``, or ``from`` and ``value``) does not count as such a member.
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
    is_row = False
    for number, member in enumerate(json_items(blocks(), longest)):
        if member.problem == AFTER_THE_END and member.content.startswith(b"{"):
            return read_lines(blocks(), longest)
        first = _first_object(member, longest)
        if first is not None:
            is_row = is_row or any(turn <= first for turn in TURNS)
            lists[number] = member.content[:100].decode(errors="replace").partition(":")[0].strip()
    if is_row or not lists:
        return iter([read_whole(blocks(), longest)])
    if len(lists) > 1:
        what = f"The JSON object has several lists of rows: {', '.join(lists.values())}"
        raise SourceError(what, where=where, remedy="keep one of them, or put each into a separate file")
    return json_items(blocks(), longest, next(iter(lists)))


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
