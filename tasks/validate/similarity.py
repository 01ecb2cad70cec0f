"""When two texts say the same: normalised equality, and Jaccard similarity of character shingles.

Candidates come from MinHash with locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman and Ullman, *Mining of
Massive Datasets*, chapter 3); each is verified by its real Jaccard similarity, so nothing is dropped on an estimate.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

SEED = 42
CHUNK = 5_000
MISSED_AT_MOST = 1e-6
"""Chance that a pair just at the threshold shares no band, and so is never compared."""


def normalise(text: str) -> str:
    """The text without what does not change its meaning: case, compatibility forms, punctuation and white space.

    A text of nothing but punctuation keeps it, so that "?" and "!" stay apart.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _gaps().sub(" ", folded).strip() or folded.strip()


def shingles(text: str, size: int) -> set[str]:
    """Every run of ``size`` characters; of a shorter text the text itself."""
    return {text[start : start + size] for start in range(max(1, len(text) - size + 1))}


def jaccard(one: set[str], other: set[str]) -> float:
    """Shared over all shingles: 0 to 1."""
    union = len(one | other)
    return len(one & other) / union if union else 1.0


class SimilarTexts:
    """An index of normalised texts that finds the nearest one above a threshold.

    Args:
        threshold: Jaccard similarity from which two texts are similar.
        size: characters in a shingle.
        permutations: MinHash permutations.
    """

    def __init__(self, threshold: float, size: int, permutations: int = 128) -> None:
        from rensa import RMinHashLSH

        self._threshold, self._size, self._permutations = threshold, size, permutations
        self._index = RMinHashLSH(threshold, permutations, bands(threshold, permutations))
        self._texts: list[str] = []

    def sketches(self, texts: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """Each text with its MinHash, computed in chunks."""
        from rensa import RMinHash

        for start in range(0, len(texts), CHUNK):
            chunk = texts[start : start + CHUNK]
            tokens = [sorted(shingles(text, self._size)) for text in chunk]
            yield from zip(chunk, RMinHash.from_token_sets(tokens, self._permutations, SEED), strict=True)

    def add(self, text: str, sketch: Any) -> int:
        """Put a text into the index; its number counts from 0."""
        number = len(self._texts)
        self._index.insert(number, sketch)
        self._texts.append(text)
        return number

    def nearest(self, text: str, sketch: Any) -> int | None:
        """The number of the most similar text at or above the threshold (of equals the first), or None."""
        own = shingles(text, self._size)
        scored = [
            (jaccard(own, shingles(self._texts[number], self._size)), -number) for number in self._index.query(sketch)
        ]
        best, number = max(scored, default=(0.0, 0))
        return -number if scored and best >= self._threshold else None


@cache
def bands(threshold: float, permutations: int) -> int:
    """The fewest bands (hence the fewest false candidates) that miss a pair at the threshold almost never.

    A pair of similarity s shares one of b bands of r rows with probability 1 - (1 - s^r)^b.
    """
    divisors = [count for count in range(1, permutations + 1) if permutations % count == 0]
    sure = (count for count in divisors if (1 - threshold ** (permutations // count)) ** count <= MISSED_AT_MOST)
    return next(sure, permutations)


@cache
def _gaps() -> re.Pattern[str]:
    """White space and every punctuation character of Unicode."""
    points = (chr(code) for code in range(sys.maxunicode + 1))
    punctuation = "".join(char for char in points if unicodedata.category(char).startswith("P"))
    return re.compile(rf"[\s{re.escape(punctuation)}]+")
