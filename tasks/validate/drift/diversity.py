"""How varied a set of texts is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_array

from tasks.validate.drift.size_free_diversity import WORD
from tasks.validate.similarity import Texts, as_array, normalise_texts, shingle_hashes

SAMPLE = 1_000
"""Texts that are measured: self-BLEU and the Vendi score compare each with each."""
SAMPLE_CHARACTERS = 2_000
"""Of each of them."""
SHINGLE = 5
"""Characters; what the validate stage compares by default."""
BLEU_ORDER = 4
VENDI_ORDERS = (1, 2)
Gram = tuple[str, ...]


def diversity(texts: Texts, seed: int) -> dict[str, Any]:
    """The diversity of a sample, by measure; None where nothing can be said.

    All measures change with the number of texts. Between sets of at least :data:`SAMPLE` texts they can be compared,
    and between smaller ones of one size.

    Args:
        texts: at most :data:`SAMPLE` of them are measured, drawn at random; of each the first
            :data:`SAMPLE_CHARACTERS` characters.
        seed: of the draw.

    Returns:
        ``sample`` (texts measured), ``distinct_1`` to ``distinct_3`` (:func:`distinct`), ``self_bleu``
        (:func:`self_bleu`) and ``vendi`` (:func:`vendi_score`).
    """
    drawn = _draw(texts, seed)
    found = {f"distinct_{n}": distinct(drawn, n) for n in (1, 2, 3)}
    return {"sample": len(drawn), **found, "self_bleu": self_bleu(drawn), "vendi": vendi_score(drawn)}


def _draw(texts: Texts, seed: int) -> list[str]:
    count = len(texts)
    chosen = np.sort(np.random.default_rng(seed).choice(count, min(count, SAMPLE), replace=False))
    drawn = (
        texts.take(pa.array(chosen)) if isinstance(texts, pa.Array | pa.ChunkedArray) else [texts[n] for n in chosen]
    )
    cut: list[str] = pc.utf8_slice_codeunits(as_array(drawn), 0, SAMPLE_CHARACTERS).to_pylist()
    return cut


def words(text: str) -> list[str]:
    """The words of a text, case folded; of a script without spaces, its characters."""
    found: list[str] = WORD.findall(text.casefold())
    return found


def distinct(texts: Sequence[str], n: int) -> float | None:
    """Distinct n-grams of words over all of them (Li et al. 2016, arXiv:1510.03055), from 0 to 1.

    It falls as texts are added, so only sets of one size can be compared. None where there is no n-gram.
    """
    found = [gram for text in texts for gram in _grams(words(text), n)]
    return len(set(found)) / len(found) if found else None


def self_bleu(texts: Sequence[str]) -> float | None:
    """Mean BLEU-4 of each text with all others as its references: 0 (no word shared) to 1 (Zhu et al. 2018,
    arXiv:1802.01886).

    Sentence BLEU as sacreBLEU computes it for words that are split already: with effective order, and exponential
    smoothing (Chen and Cherry 2014, method 3). None for fewer than two texts.
    """
    if len(texts) < 2:
        return None
    split = [words(text) for text in texts]
    lengths = sorted(map(len, split))
    matches = [_matches([Counter(_grams(said, n)) for said in split]) for n in range(1, BLEU_ORDER + 1)]
    scores = [
        _bleu([matched[at] for matched in matches], len(said), _nearest_length(len(said), lengths))
        for at, said in enumerate(split)
    ]
    return sum(scores) / len(scores)


def vendi_score(texts: Sequence[str]) -> float | None:
    """How many texts wholly unlike each other would be as diverse: 1 to their number.

    The Vendi score of Friedman and Dieng (2023, arXiv:2210.02410): the exponential of the entropy of the eigenvalues of
    K / n. K is the mean of the cosine similarities of the texts' counts of single words and of pairs of words; a text
    shorter than that counts as one n-gram. None where there is no text.
    """
    if not texts:
        return None
    split = [words(text) for text in texts]
    kernel = sum(_cosines([_grams(said, n) or [tuple(said)] for said in split]) for n in VENDI_ORDERS)
    shares = np.linalg.eigvalsh(kernel / (len(VENDI_ORDERS) * len(texts)))
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def self_similarity(texts: Sequence[str]) -> float | None:
    """Mean Jaccard similarity of each text to the nearest other one, from 0 (nothing shared) to 1 (all the same).

    By character shingles of the normalised texts; every pair is compared, so time grows with the square of their
    number. None for fewer than two texts.
    """
    if len(texts) < 2:
        return None
    hashes, offsets = shingle_hashes(normalise_texts(texts), SHINGLE)
    counts = _incidence(hashes, np.diff(offsets))
    counts.data[:] = 1
    shared = (counts @ counts.T).toarray()
    sizes = shared.diagonal().copy()
    similarity = shared / (sizes[:, None] + sizes[None, :] - shared)
    np.fill_diagonal(similarity, 0)
    return float(similarity.max(axis=1).mean())


def _grams(said: Sequence[str], n: int) -> list[Gram]:
    return [tuple(said[at : at + n]) for at in range(len(said) - n + 1)]


def _matches(counts: Sequence[Counter[Gram]]) -> list[tuple[int, int]]:
    """For every text how many of its n-grams one of the others has as often, and how many it has."""
    best: dict[Gram, tuple[int, int]] = {}
    for own in counts:
        for gram, count in own.items():
            first, second = best.get(gram, (0, 0))
            best[gram] = (count, first) if count > first else (first, max(second, count))
    matched = []
    for own in counts:
        others = (best[gram][1] if best[gram][0] == count else best[gram][0] for gram, count in own.items())
        clipped = sum(min(count, other) for count, other in zip(own.values(), others, strict=True))
        matched.append((clipped, own.total()))
    return matched


def _nearest_length(length: int, lengths: Sequence[int]) -> int:
    """The length of another text nearest that of one, of two the shorter; lengths are sorted, the one's among them."""
    at = int(np.searchsorted(lengths, length))
    before, after = lengths[max(at - 1, 0)], lengths[min(at + 1, len(lengths) - 1)]
    others = ([before] if at else []) + ([after] if at + 1 < len(lengths) else [])
    return min(others, key=lambda other: (abs(other - length), other))


def _bleu(matches: Sequence[tuple[int, int]], length: int, reference: int) -> float:
    """BLEU from the matched n-grams of each order and how many there are."""
    if not matches[0][0]:
        return 0.0
    logarithms, smoothing = [], 1.0
    for matched, total in matches:
        if total:
            smoothing = smoothing if matched else smoothing * 2
            logarithms.append(np.log((matched or 1 / smoothing) / total))
    penalty = min(0.0, 1 - reference / length)
    return float(np.exp(penalty + sum(logarithms) / len(logarithms)))


def _cosines(grams: Sequence[Sequence[Gram]]) -> NDArray[np.float64]:
    """Cosine similarity of the counts of every two lists."""
    numbers: dict[Gram, int] = {}
    flat = np.array([numbers.setdefault(gram, len(numbers)) for own in grams for gram in own])
    counts = _incidence(flat, np.array([len(own) for own in grams]))
    products = (counts @ counts.T).toarray()
    norms = np.sqrt(products.diagonal())
    cosines: NDArray[np.float64] = products / np.outer(norms, norms)
    return cosines


def _incidence(features: NDArray[Any], lengths: NDArray[np.int64]) -> csr_array:
    """How often (columns) each feature is in each run (rows) of features."""
    distinct_ones, columns = np.unique(features, return_inverse=True)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    shape = (len(lengths), len(distinct_ones))
    found = csr_array((np.ones(len(columns)), (rows, columns)), shape=shape)
    found.sum_duplicates()
    return found
