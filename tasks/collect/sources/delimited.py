"""CSV and TSV: a header, then rows; a quoted field may span lines.

Columns without a name are not read: spreadsheets and pandas write them. A header that comes again, where files were
joined, is set aside.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice

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

DELIMITERS = (",", ";", "\t", "|")
SEPARATOR_LINE = re.compile(r"\"?sep=([,;|\t])\"?", re.IGNORECASE)
LINES_LOOKED_AT = 20


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
    delimiter, lines = _separated(lines, delimiter)
    feed = _Feed(lines, LONGEST_ROW * fit.max_field_bytes)
    csv.field_size_limit(2**31 - 1)  # the limit is global and not recoverable: the feed bounds a row instead
    rows = csv.reader(feed, delimiter=delimiter, strict=True)
    header = _header(rows, where)
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
        if header.is_repeated_by(row, f"{where}:{number}"):
            yield Record(source, number, None, _raw(feed.row), "files were joined here", rule="repeated_header")
            continue
        try:
            yield Record(source, number, fit.row(header.values(row, _extent(feed.row))))
        except Unfit as reason:
            yield Record(source, number, None, _raw(feed.row), str(reason))


def header_of(lines: Iterator[Line], fit: Fit, delimiter: str, where: str) -> list[str]:
    """The names of the columns that have one."""
    delimiter, lines = _separated(lines, delimiter)
    feed = _Feed(lines, LONGEST_ROW * fit.max_field_bytes)
    return _header(csv.reader(feed, delimiter=delimiter, strict=True), where).names


@dataclass(frozen=True)
class _Header:
    row: list[str]

    @cached_property
    def names(self) -> list[str]:
        return [name for name in self.row if name.strip()]

    @cached_property
    def needed(self) -> int:
        """Fields up to the last column with a name."""
        return max((number for number, name in enumerate(self.row, 1) if name.strip()), default=0)

    def values(self, row: Sequence[str], extent: str) -> dict[str, str]:
        """The named values of a row; Unfit if it has too few fields, or a value beyond the header."""
        if len(row) < self.needed or any(row[len(self.row) :]):
            raise Unfit(f"{len(row)} fields where the header has {len(self.row)}{extent}")
        return {name: value for name, value in zip(self.row, row, strict=False) if name.strip()}

    def is_repeated_by(self, row: Sequence[str], where: str) -> bool:
        """Whether a row is this header again; a SourceError if it has the same names in another order."""
        found = [name for name in row if name.strip()]
        if not found or found[0] not in self.names:
            return False
        if found == self.names and len(row) >= self.needed:
            return True
        if len(found) == len(self.names) > 1 and sorted(found) == sorted(self.names):
            what = "The header comes again with its columns in another order: files of different shape were joined"
            raise SourceError(what, where=where, remedy="put each of them into a separate file")
        return False


def _header(rows: Iterator[list[str]], where: str) -> _Header:
    try:
        header = _Header(next((row for row in rows if row), []))
        Fit(RAW_BYTES).row(dict.fromkeys(header.row))
    except (csv.Error, _Unreadable, Unfit) as error:
        raise SourceError(f"The header cannot be read: {error}", where=where, remedy="save it as UTF-8 CSV") from error
    twice = [name for name, count in Counter(header.names).items() if count > 1]
    if twice:
        remedy = "give each column a unique name"
        raise SourceError(f"The header repeats a column: {', '.join(map(repr, twice))}", where=where, remedy=remedy)
    return header


def _separated(lines: Iterator[Line], delimiter: str) -> tuple[str, Iterator[Line]]:
    """The character between fields, and the lines from the header on.

    It is another than the file's name says if a first line ``sep=;``, as spreadsheets write it, names it, or if the
    header is one field with the first and has several with the other, as a row below has.
    """
    first = list(islice(lines, LINES_LOOKED_AT))
    again = chain(first, lines)
    texts = [line.content.decode("utf-8", "replace") for line in first if line.content.strip()]
    if not texts or any(line.problem for line in first[:1]):
        return delimiter, again
    if stated := SEPARATOR_LINE.fullmatch(texts[0]):
        rest = (line for line in again if line.content != first[0].content or line.number != first[0].number)
        return stated[1], rest
    if _width(texts[0], delimiter) != 1:
        return delimiter, again
    widths = {mark: _width(texts[0], mark) for mark in DELIMITERS}
    mark = max(DELIMITERS, key=lambda one: widths[one])
    fits = len(texts) == 1 or any(_width(text, mark) == widths[mark] for text in texts[1:])
    return (mark if widths[mark] > 1 and fits else delimiter), again


def _width(text: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([text], delimiter=delimiter), []))
    except csv.Error:
        return 0


def _raw(row: list[Line]) -> str:
    return raw_text(b"\n".join(line.content for line in row))


def _extent(row: list[Line]) -> str:
    return f" (lines {row[0].number} to {row[-1].number})" if len(row) > 1 else ""
