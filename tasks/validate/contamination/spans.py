"""Where a row and an evaluation text say the same, for people to look at."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import regex

from tasks.validate.contamination.word_runs import UNSPACED

WORD = regex.compile(rf"[{UNSPACED}]|[^\s\p{{P}}{UNSPACED}]+")
"""A word as :mod:`tasks.validate.contamination.word_runs` counts them."""
MOST_WORDS = 20_000
"""Of either text: what stands behind them is not searched."""


@dataclass(frozen=True)
class Span:
    """Where a row and an evaluation text say the same: characters of both, end excluded."""

    row_start: int
    row_end: int
    evaluation_start: int
    evaluation_end: int


def common_spans(row: str, evaluation: str, least: int) -> tuple[Span, ...]:
    """The runs of words that both texts have, in the evaluation text's order; case and punctuation do not count.

    Args:
        row: searched.
        evaluation: whose runs are looked for, the longest first; none is used twice.
        least: words in a run; where no run is as long, the longest there are.
    """
    ours, theirs = list(_words(row)), list(_words(evaluation))
    matcher = difflib.SequenceMatcher(None, [word for word, _, _ in theirs], [word for word, _, _ in ours], False)
    blocks = [block for block in matcher.get_matching_blocks() if block.size]
    longest = max((block.size for block in blocks), default=0)
    return tuple(
        Span(
            ours[block.b][1],
            ours[block.b + block.size - 1][2],
            theirs[block.a][1],
            theirs[block.a + block.size - 1][2],
        )
        for block in blocks
        if block.size >= min(least, longest)
    )


def _words(text: str) -> Iterator[tuple[str, int, int]]:
    """Words as they are compared, with their place in the text."""
    for number, match in enumerate(WORD.finditer(text)):
        if number == MOST_WORDS:
            return
        yield unicodedata.normalize("NFKC", match[0]).casefold(), match.start(), match.end()
