"""How much texts repeat each other, by measures that do not depend on the number of texts.

Sets of different sizes can be compared, which detects gradual mode collapse over nights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import regex
from numpy.typing import NDArray
from scipy.special import gammaln

from tasks.validate.similarity import UNSPACED

SHINGLE = 5
"""Characters."""
SMALLEST_DRAW = 256
"""Word pairs in the smallest draw."""
WORD = regex.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
"""A word, or a character of a script without spaces between words."""
_POWERS = np.power(np.uint64(0x9E3779B97F4A7C15), np.arange(1, SHINGLE + 1, dtype=np.uint64))


def words(text: str) -> list[str]:
    """The words of a text, case folded; in a script without spaces, its characters."""
    found: list[str] = WORD.findall(text.casefold())
    return found


def mean_similarity(texts: Sequence[str]) -> float | None:
    """The mean cosine similarity over all pairs of texts: 0 (nothing shared) to 1 (all equal).

    Each text is the set of its case-folded character 5-grams; the cosine of two sets is shared / sqrt(n * m) (Ochiai
    1957). The inverse of the mean is the diversity of order 2 of Leinster and Cobbold (2012, Ecology 93:477) without
    each text's similarity to itself, which would depend on the number of texts. Time grows with the characters, not
    with the pairs. None for fewer than two texts that are not empty.
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
    """The expected share of distinct word pairs in a draw of 256, 512, 1,024 ... pairs, by the size of the draw.

    Distinct-2 (Li et al. 2016, arXiv:1510.03055) falls with the size of a set. A draw of fixed size without replacement
    (Hurlbert 1971, Ecology 52:577) makes two sets comparable at the largest draw that both have.
    """
    counted: Counter[tuple[str, str]] = Counter()
    for text in texts:
        counted.update(pairwise(words(text)))
    counts, times = np.unique(np.array(list(counted.values()), dtype=np.int64), return_counts=True)
    total = int(counts @ times)
    shares = {}
    drawn = SMALLEST_DRAW
    while drawn <= total:
        shares[drawn] = float(times @ (1 - _never_drawn(counts, total, drawn)) / drawn)
        drawn *= 2
    return shares


def _never_drawn(counts: NDArray[np.int64], total: int, drawn: int) -> NDArray[np.float64]:
    """The chance that a draw has no item of a kind of n among ``total``: C(total - n, drawn) / C(total, drawn)."""
    left = total - counts
    enough = left >= drawn
    left = np.where(enough, left, drawn)
    logarithm = gammaln(left + 1) - gammaln(left - drawn + 1) - gammaln(total + 1) + gammaln(total - drawn + 1)
    return np.where(enough, np.exp(logarithm), 0.0)


def _shingles(text: str) -> NDArray[np.uint64]:
    """Hashes of a text's distinct character 5-grams; a shorter text is one 5-gram."""
    plain = " ".join(text.casefold().split())
    codes = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    if not len(codes):
        return codes
    if len(codes) < SHINGLE:
        codes = np.pad(codes, (0, SHINGLE - len(codes)))
    windows = np.lib.stride_tricks.sliding_window_view(codes, SHINGLE)
    return np.unique(windows @ _POWERS)
