"""How varied a set of texts is: distinct n-grams, and how near each text lies to its nearest neighbour."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tasks.validate.similarity import jaccard, normalise, shingles

WORD = re.compile(r"\w+")
SHINGLE = 5
"""Characters; what the validate stage compares by default."""


def words(text: str) -> list[str]:
    """The words of a text, case folded."""
    return WORD.findall(text.casefold())


def distinct(texts: Sequence[str], n: int) -> float | None:
    """Distinct n-grams of words over all of them (Li et al. 2016, arXiv:1510.03055), from 0 to 1.

    It falls as texts are added, so only sets of one size can be compared. None where there is no n-gram.
    """
    grams = [tuple(said[at : at + n]) for said in map(words, texts) for at in range(len(said) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def self_similarity(texts: Sequence[str]) -> float | None:
    """Mean Jaccard similarity of each text to the nearest other one, from 0 (nothing shared) to 1 (all the same).

    By character shingles of the normalised texts; every pair is compared, so time grows with the square of their
    number. None for fewer than two texts.
    """
    if len(texts) < 2:
        return None
    sets = [shingles(normalise(text), SHINGLE) for text in texts]
    nearest = [0.0] * len(sets)
    for one in range(len(sets)):
        for other in range(one):
            shared = jaccard(sets[one], sets[other])
            nearest[one], nearest[other] = max(nearest[one], shared), max(nearest[other], shared)
    return sum(nearest) / len(nearest)
