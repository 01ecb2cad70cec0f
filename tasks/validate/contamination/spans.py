"""Find where a row and an evaluation text are equal, for people to look at."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import regex

from tasks.validate.similarity import UNSPACED

WORD = regex.compile(rf"[{UNSPACED}]|[^\s\p{{P}}{UNSPACED}]+")
"""A word, without the signs and code that a normal form keeps: people see these in the text."""
MOST_WORDS = 20_000
"""Words of either text that are searched."""


@dataclass(frozen=True)
class Span:
    """Characters of a row and of an evaluation text that are equal, ends excluded."""

    row_start: int
    row_end: int
    evaluation_start: int
    evaluation_end: int


def common_spans(row: str, evaluation: str, least: int) -> tuple[Span, ...]:
    """The runs of words that both texts have, in the evaluation text's order, without case and punctuation.

    The longest runs are found first; no run is used twice. ``least``: words in a run; if none is as long, the longest.
    """
    ours, theirs = list(_words(row)), list(_words(evaluation))
    matcher = difflib.SequenceMatcher(None, [word for word, _, _ in theirs], [word for word, _, _ in ours], False)
    blocks = [block for block in matcher.get_matching_blocks() if block.size]
    longest = max((block.size for block in blocks), default=0)
    return tuple(
        Span(ours[b][1], ours[b + size - 1][2], theirs[a][1], theirs[a + size - 1][2])
        for a, b, size in blocks
        if size >= min(least, longest)
    )


def _words(text: str) -> Iterator[tuple[str, int, int]]:
    for number, match in enumerate(WORD.finditer(text)):
        if number == MOST_WORDS:
            return
        yield unicodedata.normalize("NFKC", match[0]).casefold(), match.start(), match.end()
