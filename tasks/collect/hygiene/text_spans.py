"""A span of a text that must be replaced."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class TextSpan(NamedTuple):
    """A span from ``start`` to ``end`` (excluded), in characters; the mark replaces it."""

    start: int
    end: int
    kind: str
    mark: str


def without_overlaps(spans: Iterable[TextSpan]) -> list[TextSpan]:
    """Sort spans by place; among overlapping ones the first given stays, so give the most certain first."""
    spans = list(spans)
    taken = bytearray(max((span.end for span in spans), default=0))
    kept = []
    for span in spans:
        if not any(taken[span.start : span.end]):
            taken[span.start : span.end] = b"\1" * (span.end - span.start)
            kept.append(span)
    return sorted(kept)


def redacted(text: str, spans: Iterable[TextSpan]) -> str:
    parts, done = [], 0
    for span in sorted(spans):
        parts += [text[done : span.start], span.mark]
        done = span.end
    return "".join([*parts, text[done:]])
