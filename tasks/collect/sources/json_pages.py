"""The rows of a JSON page, cut out as the server wrote them.

Rows are not parsed and rewritten here, so that later readers see the original, repeated keys included.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tasks.core.errors import SourceError

LARGEST_PAGE = 64 * 2**20
"""In bytes: a JSON page is held in memory, unlike JSONL."""
DECODER = json.JSONDecoder()
SPACE = re.compile(r"[ \t\r\n]*")
LINE_ENDS = str.maketrans("\r\n", "  ")


class Span(NamedTuple):
    key: str
    start: int
    end: int


class JsonPage:
    def __init__(self, file: Path, where: str) -> None:
        self.where = where
        if file.stat().st_size > LARGEST_PAGE:
            remedy = "ask for smaller pages, or for JSONL, which is streamed"
            raise SourceError(f"A page of JSON is larger than {LARGEST_PAGE // 2**20} MiB", where=where, remedy=remedy)
        content = file.read_bytes()
        encoding = json.detect_encoding(content)
        try:
            # Invalid UTF-8 is carried along: only its row is refused, when it is read.
            self.text = content.decode(encoding, "surrogateescape" if encoding.startswith("utf-8") else "strict")
            self.start = _skip(self.text, 0)
            end = _end(self.text, self.start)
            if _skip(self.text, end) != len(self.text):
                raise json.JSONDecodeError("Extra data", self.text, end)
        except (ValueError, RecursionError) as error:
            raise self._broken(error) from error

    def rows(self, rows_at: str | None) -> Iterator[bytes]:
        """Each row on a line, without the line's end; at a dotted path, or found."""
        start = self._found() if rows_at is None else self._at(rows_at.split("."))
        if start is None or self.text[start] != "[":
            what = f"The answer has no list at rows_at: {rows_at!r}" if rows_at else "The answer has no list of rows"
            remedy = f"state rows_at; the answer begins: {self.text[self.start : self.start + 200]!r}"
            raise SourceError(what, where=self.where, remedy=remedy)
        for span in _members(self.text, start):
            row = self.text[span.start : span.end].translate(LINE_ENDS)
            yield row.encode("utf-8", "surrogateescape")

    def value(self, path: str, *, required: bool) -> Any:
        """The value at a dotted path, or None."""
        *parents, name = path.split(".")
        inside = self._at(parents)
        if inside is None or self.text[inside] != "{":
            if not required:
                return None
            remedy = f"correct it; the answer begins: {self.text[self.start : self.start + 200]!r}"
            raise SourceError(f"The answer has no value at next_at: {path!r}", where=self.where, remedy=remedy)
        start = self._at([name], inside)
        return None if start is None else DECODER.raw_decode(self.text, start)[0]

    def _at(self, path: list[str], start: int | None = None) -> int | None:
        here = self.start if start is None else start
        for name in path:
            if self.text[here] not in "{[":
                return None
            spans = [span for span in _members(self.text, here) if span.key == name]
            if not spans:
                return None
            here = spans[-1].start
        return here

    def _found(self) -> int | None:
        if self.text[self.start] != "{":
            return self.start
        lists = [span for span in _members(self.text, self.start) if self.text[span.start] == "["]
        if len(lists) > 1:
            what = f"The answer has several lists: {', '.join(span.key for span in lists)}"
            raise SourceError(what, where=self.where, remedy="name the one with the rows: rows_at: NAME")
        return lists[0].start if lists else None

    def _broken(self, error: ValueError | RecursionError) -> SourceError:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        return SourceError(
            f"The answer is not valid JSON: {reason}",
            where=self.where,
            remedy="open the URL with another program; set format: jsonl if each line is an object",
        )


def _members(text: str, at: int) -> Generator[Span, None, int]:
    closing = "}" if text[at] == "{" else "]"
    at = _skip(text, at + 1)
    number = 0
    if text[at : at + 1] == closing:
        return at + 1
    while True:
        key = str(number)
        if closing == "}":
            if text[at : at + 1] != '"':
                raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
            key, at = DECODER.raw_decode(text, at)
            at = _expect(text, _skip(text, at), ":")
        end = _end(text, at)
        yield Span(key, at, end)
        at, number = _skip(text, end), number + 1
        if text[at : at + 1] == closing:
            return at + 1
        at = _expect(text, at, ",")


def _end(text: str, at: int) -> int:
    return DECODER.raw_decode(text, at)[1]


def _skip(text: str, at: int) -> int:
    space = SPACE.match(text, at)
    return space.end() if space else at


def _expect(text: str, at: int, character: str) -> int:
    if text[at : at + 1] != character:
        raise json.JSONDecodeError(f"Expecting {character!r} delimiter", text, at)
    return _skip(text, at + 1)
