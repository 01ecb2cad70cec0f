"""Cut the items of a JSON list or object out of a stream of bytes, each with its first line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tasks.collect.sources.lines import RAW_BYTES, Line
from tasks.collect.sources.unpack import BrokenStream

TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+("?)|[{}\[\],]', re.DOTALL)
REST_OF_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+("?)', re.DOTALL)
AFTER_THE_END = "content follows the end of the JSON document"
NO_ITEM = "an item is missing between two commas"
BEFORE_THE_END = "the JSON document ends too early"


def json_items(blocks: Iterable[bytes], longest: int, member: int | None = None) -> Iterator[Line]:
    """The text of every item of a document that begins with a bracket; only brackets and strings are parsed.

    An item longer than ``longest`` bytes keeps its beginning and has a problem; so do content after the document and
    the end of a truncated one. ``member``: yield the items of this value of the document's object (from 0). None: the
    document's own items.
    """
    cutter = _Cutter(longest, member)
    try:
        for block in blocks:
            yield from cutter.cut(block)
            if cutter.ended and cutter.text.strip():
                yield cutter.take(len(cutter.text), AFTER_THE_END)
                return
    except BrokenStream as broken:
        yield from cutter.break_off(str(broken))
    else:
        if not cutter.ended:
            yield from cutter.break_off(BEFORE_THE_END)


class _Cutter:
    """Tracks brackets and strings across blocks; holds the text since the last cut, or what follows the document."""

    def __init__(self, longest: int, member: int | None) -> None:
        self._longest, self._kept = longest, min(RAW_BYTES, longest)
        self._member, self._depth = member, 1 if member is None else 2
        self._members = 0
        self._in_string = False
        self._at = 0
        self._line, self._dropped, self._dropped_lines = 1, 0, 0
        self.text, self.level, self.ended = bytearray(), 0, False

    def cut(self, block: bytes) -> Iterator[Line]:
        self.text += block
        while not self.ended and (token := self._next_token()):
            if token in b"[{":
                self.level += 1
                if self.level == self._depth:
                    self._forget(self._at)
            elif token == b",":
                if self._is_item():
                    yield self.take(self._at - 1, "" if self._holds_item() else NO_ITEM)
                    self._forget(1)
                self._members += self.level == 1
            else:
                if self._is_item() and self._holds_item():
                    yield self.take(self._at - 1)
                    self._forget(1)
                self.level -= 1
                if self.level <= 0:
                    self.ended = True
                    self._forget(self._at)
        self._shorten()

    def take(self, end: int, problem: str = "") -> Line:
        content = bytes(self.text[:end])
        before = len(content) - len(content.lstrip())
        if self._dropped:
            size = f"{len(content) - before + self._dropped:,}"
            problem = problem or f"an item of {size} bytes, more than {self._longest:,}"
        line = Line(self._line + content.count(b"\n", 0, before), content[before:], problem)
        self._forget(end)
        return line

    def break_off(self, problem: str) -> Iterator[Line]:
        """Yield the last item if it is whole, then the problem."""
        if self._is_item() and not self._in_string and self.text.strip():
            yield self.take(len(self.text))
        yield self.take(len(self.text), problem)

    def _is_item(self) -> bool:
        return self.level == self._depth and self._member in (None, self._members)

    def _holds_item(self) -> bool:
        return bool(self._dropped or self.text[: self._at - 1].strip())

    def _next_token(self) -> bytes:
        while True:
            token = (REST_OF_STRING if self._in_string else TOKEN).search(self.text, self._at)
            if token is None:
                self._at = len(self.text)
                return b""
            self._at = token.end()
            if token[1] is None:
                return token[0]
            self._in_string = not token[1]
            if self._in_string:
                return b""

    def _forget(self, end: int) -> None:
        self._line += self.text.count(b"\n", 0, end) + self._dropped_lines
        self._dropped, self._dropped_lines = 0, 0
        del self.text[:end]
        self._at = max(0, self._at - end)

    def _shorten(self) -> None:
        if not self.ended and self.level < self._depth:
            self._forget(self._at)
        if len(self.text) > self._longest:
            self._dropped_lines += self.text.count(b"\n", self._kept, self._at)
            self._dropped += self._at - self._kept
            del self.text[self._kept : self._at]
            self._at = self._kept
