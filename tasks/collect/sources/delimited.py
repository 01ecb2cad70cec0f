"""CSV and TSV: a header, then rows; a quoted field may span lines."""

from __future__ import annotations

import csv
from collections import Counter, deque
from collections.abc import Iterator

from tasks.collect.records import Record
from tasks.collect.sources.json_rows import raw_text
from tasks.collect.sources.lines import RAW_BYTES, Line
from tasks.collect.sources.row_values import Fit, Unfit
from tasks.core.errors import SourceError

LONGEST_ROW = 4
"""Longest row, as a multiple of the largest field."""
MOST_READ_AGAIN = 8
"""Bytes read again after unclosed quotes, as a multiple of the longest row. Beyond that, a row must end on its own
line, so that a damaged file cannot take forever."""


class _Unreadable(Exception):
    """The current row cannot be completed: a line has a problem, or the row is too long."""


class _Feed:
    """Feeds lines to the parser; remembers those of the current row, to read them again after an unclosed quote."""

    def __init__(self, lines: Iterator[Line], longest: int) -> None:
        self._lines, self._longest = lines, longest
        self._again: deque[Line] = deque()
        self._size = 0
        self._read_again = 0
        self.row: list[Line] = []

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self._size += len(line.content)
        if line.problem or (self.row and self._size > self._longest):
            self.row.append(line)
            raise _Unreadable(line.problem or f"a quoted field is longer than {self._longest:,} bytes")
        if self.row and self._read_again > MOST_READ_AGAIN * self._longest:
            self.row.append(line)
            raise _Unreadable("a quoted field does not end on its line, and too many in this file never end")
        self.row.append(line)
        return line.content.decode("utf-8", errors="surrogateescape") + "\n"

    def begin_row(self) -> None:
        self.row, self._size = [], 0

    def set_aside_first(self) -> Line:
        """Drop the first line of a failed row; its other lines are read again."""
        first, *others = self.row
        if others:
            self._again.extendleft(reversed(others))
            self._read_again += sum(len(line.content) + 1 for line in others)
        return first


def read_delimited(lines: Iterator[Line], source: str, fit: Fit, delimiter: str, where: str) -> Iterator[Record]:
    """A record for every non-blank row, located at its first line.

    A quoted field must end at a delimiter or the end of the row: if it does not, the row's first line is set aside, and
    its other lines are read as rows of their own.
    """
    feed = _Feed(lines, LONGEST_ROW * fit.max_field_bytes)
    csv.field_size_limit(2**31 - 1)  # the limit is global and not recoverable: the feed bounds a row instead
    rows = csv.reader(feed, delimiter=delimiter, strict=True)
    header = _header(rows, where)
    width = len(header)
    while True:
        feed.begin_row()
        try:
            row = next(rows, None)
        except (csv.Error, _Unreadable) as error:
            first = feed.set_aside_first()
            yield Record(source, first.number, None, raw_text(first.content), f"unreadable CSV: {error}")
            continue
        if row is None:
            return
        if not row:
            continue
        number = feed.row[0].number
        try:
            if len(row) != width:
                raise Unfit(f"{len(row)} fields where the header has {width}{_extent(feed.row)}")
            yield Record(source, number, fit.row(dict(zip(header, row, strict=True))))
        except Unfit as reason:
            raw = b"\n".join(line.content for line in feed.row)
            yield Record(source, number, None, raw_text(raw), str(reason))


def header_of(lines: Iterator[Line], fit: Fit, delimiter: str, where: str) -> list[str]:
    feed = _Feed(lines, LONGEST_ROW * fit.max_field_bytes)
    return _header(csv.reader(feed, delimiter=delimiter, strict=True), where)


def _header(rows: Iterator[list[str]], where: str) -> list[str]:
    try:
        header = next((row for row in rows if row), [])
        Fit(RAW_BYTES).row(dict.fromkeys(header))
    except (csv.Error, _Unreadable, Unfit) as error:
        raise SourceError(f"The header cannot be read: {error}", where=where, remedy="save it as UTF-8 CSV") from error
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        remedy = "give each column a unique name"
        raise SourceError(f"The header repeats a column: {', '.join(map(repr, twice))}", where=where, remedy=remedy)
    return header


def _extent(row: list[Line]) -> str:
    return f" (lines {row[0].number} to {row[-1].number})" if len(row) > 1 else ""
