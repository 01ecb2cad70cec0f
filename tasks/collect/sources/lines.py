"""The lines of a text file, each bounded in length."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tasks.collect.sources.unpack import BLOCK_BYTES, BrokenStream, begun

RAW_BYTES = 100_000
"""Bytes kept of an unreadable row."""


class Line(NamedTuple):
    """A line without its end; if it has a problem (too long, damaged file), only its beginning."""

    number: int
    content: bytes
    problem: str = ""


def read_lines(blocks: Iterable[bytes], longest: int) -> Iterator[Line]:
    """Split at newlines, or at carriage returns in a file that has no newline; marks of joined files are removed.

    A line beyond ``longest`` bytes is skipped, not held.
    """
    first, blocks = begun(iter(blocks), BLOCK_BYTES)
    newline = b"\r" if b"\r" in first and b"\n" not in first else b"\n"
    number, head, dropped = 1, bytearray(), 0
    kept = min(RAW_BYTES, longest)
    try:
        for block in blocks:
            start = 0
            while (end := block.find(newline, start)) >= 0:
                if head or dropped:
                    head += block[start:end]
                    yield _line(number, head, dropped, longest)
                    head, dropped = bytearray(), 0
                else:
                    yield Line(number, _bare(block[start:end]))
                number, start = number + 1, end + 1
            head += block[start:]
            if len(head) > longest:
                dropped += len(head) - kept
                del head[kept:]
    except BrokenStream as broken:
        yield Line(number, bytes(head[:RAW_BYTES]), str(broken))
        return
    if head or dropped:
        yield _line(number, head, dropped, longest)


def _line(number: int, head: bytearray, dropped: int, longest: int) -> Line:
    if dropped or len(head) > longest:
        return Line(number, bytes(head[:RAW_BYTES]), f"a line of {len(head) + dropped:,} bytes, more than {longest:,}")
    return Line(number, _bare(bytes(head)))


def _bare(line: bytes) -> bytes:
    """A line without its end, and without the byte order mark of a file that was joined to others."""
    return line.rstrip(b"\r").removeprefix(codecs.BOM_UTF8)


def read_whole(blocks: Iterable[bytes], longest: int) -> Line:
    """A whole text as one line; too long or damaged, it has a problem."""
    head, size = bytearray(), 0
    kept = min(RAW_BYTES, longest)
    try:
        for block in blocks:
            size += len(block)
            head += block
            if size > longest:
                del head[kept:]
    except BrokenStream as broken:
        return Line(1, bytes(head[:kept]), str(broken))
    return Line(1, bytes(head), f"a text of {size:,} bytes, more than {longest:,}" if size > longest else "")
