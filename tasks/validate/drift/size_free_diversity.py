"""How much texts repeat each other, measured so that the number of texts does not matter.

Distinct n-grams and nearest neighbours depend on how many texts there are; what is measured here does not, so that sets
of different sizes can be compared. That is what a slow collapse over nights is seen by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import regex
from numpy.typing import NDArray
from scipy.special import gammaln

SHINGLE = 5
"""Characters."""
SMALLEST_DRAW = 256
"""Pairs of words in the smallest draw that distinct shares are told for."""
WORD = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
    r"|[^\W\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]+"
)
"""A word, or a character of a script that sets no spaces between words."""
_POWERS = np.power(np.uint64(0x9E3779B97F4A7C15), np.arange(1, SHINGLE + 1, dtype=np.uint64))


def mean_similarity(texts: Sequence[str]) -> float | None:
    """The mean cosine similarity of two different texts: 0 (nothing shared) to 1 (all the same).

    Each text is the set of its character 5-grams, case folded; the cosine of two sets is shared / sqrt(n * m) (Ochiai
    1957). The mean is over all pairs; its inverse is the diversity of order 2 of Leinster and Cobbold (2012, Ecology
    93:477), but for the texts' likeness to themselves, which is left out so that the number of texts does not matter.
    Time grows with the characters, not with the pairs. None for fewer than two texts that are not empty.
    """
    sets = [found for found in map(_shingles, texts) if len(found)]
    if len(sets) < 2:
        return None
    sizes = np.array([len(found) for found in sets])
    _, numbers = np.unique(np.concatenate(sets), return_inverse=True)
    sum_of_units = np.bincount(numbers, weights=np.repeat(1 / np.sqrt(sizes), sizes))
    pairs = len(sets) * (len(sets) - 1)
    return float(np.clip((sum_of_units @ sum_of_units - len(sets)) / pairs, 0, 1))


def distinct_shares(texts: Sequence[str]) -> dict[int, float]:
    """How many of so many pairs of neighbouring words are distinct, from 0 to 1, by the number drawn.

    Distinct-2 (Li et al. 2016, arXiv:1510.03055) falls with the size of a set. Here it is the expectation for a draw
    without replacement of 256, 512, 1,024 ... pairs (Hurlbert 1971, Ecology 52:577), so that two sets are compared at
    the largest draw that both have.
    """
    counted: Counter[tuple[str, str]] = Counter()
    for text in texts:
        counted.update(pairwise(WORD.findall(text.casefold())))
    counts, times = np.unique(np.array(list(counted.values()), dtype=np.int64), return_counts=True)
    total = int(counts @ times)
    shares = {}
    drawn = SMALLEST_DRAW
    while drawn <= total:
        shares[drawn] = float(times @ (1 - _never_drawn(counts, total, drawn)) / drawn)
        drawn *= 2
    return shares


def _never_drawn(counts: NDArray[np.int64], total: int, drawn: int) -> NDArray[np.float64]:
    """The chance that nothing of ``counts`` like ones among ``total`` is in a draw: C(total - n, m) / C(total, m)."""
    left = total - counts
    enough = left >= drawn
    left = np.where(enough, left, drawn)
    logarithm = gammaln(left + 1) - gammaln(left - drawn + 1) - gammaln(total + 1) + gammaln(total - drawn + 1)
    return np.where(enough, np.exp(logarithm), 0.0)


def _shingles(text: str) -> NDArray[np.uint64]:
    """Hashes of a text's character 5-grams, each once; of a shorter text of the whole."""
    plain = " ".join(text.casefold().split())
    codes = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    if not len(codes):
        return codes
    if len(codes) < SHINGLE:
        codes = np.pad(codes, (0, SHINGLE - len(codes)))
    windows = np.lib.stride_tricks.sliding_window_view(codes, SHINGLE)
    return np.unique(windows @ _POWERS)
