"""How varied a set of texts is, by measures that depend on the number of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_array

from tasks.validate.drift.size_free_diversity import words
from tasks.validate.normal_form import normalise_texts
from tasks.validate.similarity import (
    Positions,
    Texts,
    as_array,
    begins_of,
    shingle_hashes,
    spread,
    starts,
)

SAMPLE = 1_000
"""Texts that are measured: self-BLEU and the Vendi score compare every pair."""
SAMPLE_CHARACTERS = 2_000
"""Characters that are read from each text of the sample."""
SHINGLE = 5
"""Characters; the default of the validate stage."""
BLEU_ORDER = 4
VENDI_ORDERS = (1, 2)


def diversity(texts: Texts, seed: int) -> dict[str, Any]:
    """Measure the diversity of a random sample; a measure that is undefined is None.

    All measures change with the number of texts: compare only sets of equal size or of at least :data:`SAMPLE` texts.
    Of each text the first :data:`SAMPLE_CHARACTERS` characters are read.

    Returns:
        ``sample`` (texts measured), ``distinct_1`` to ``distinct_3`` (:func:`distinct`), ``self_bleu``
        (:func:`self_bleu`) and ``vendi`` (:func:`vendi_score`).
    """
    sample = _draw(texts, seed)
    coded = WordCodes(sample)
    shares = {f"distinct_{n}": distinct(coded, n) for n in (1, 2, 3)}
    return {"sample": len(sample), **shares, "self_bleu": self_bleu(coded), "vendi": vendi_score(coded)}


def _draw(texts: Texts, seed: int) -> list[str]:
    chosen = np.sort(np.random.default_rng(seed).choice(len(texts), min(len(texts), SAMPLE), replace=False))
    drawn = (
        texts.take(pa.array(chosen)) if isinstance(texts, pa.Array | pa.ChunkedArray) else [texts[n] for n in chosen]
    )
    cut: list[str] = pc.utf8_slice_codeunits(as_array(drawn), 0, SAMPLE_CHARACTERS).to_pylist()
    return cut


def self_similarity(texts: Sequence[str]) -> float | None:
    """Mean Jaccard similarity of each text to its nearest neighbour: 0 (nothing shared) to 1 (all equal).

    Compares the shingles of all pairs of normalised texts: quadratic in their number. None for fewer than two texts.
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


class WordCodes:
    """The words of all texts as numbers from 1, equal words with equal codes; ``lengths``: words of each text."""

    def __init__(self, texts: Sequence[str]) -> None:
        split = [words(text) for text in texts]
        known: dict[str, int] = {}
        self.codes = np.array([known.setdefault(word, len(known) + 1) for text in split for word in text], np.int64)
        self.lengths = np.array([len(text) for text in split], np.int64)

    def ngrams(self, n: int, *, pad: bool = False) -> tuple[Positions, Positions]:
        """A code for every n-gram, and how many each text has; ``pad``: a text of fewer words is one n-gram."""
        padded = np.maximum(self.lengths, n)
        cells = np.zeros(padded.sum(), np.int64)
        cells[spread(self.lengths, starts(padded))] = self.codes
        counts = np.where(pad | (self.lengths >= n), padded - n + 1, 0)
        begins = spread(counts, starts(padded))
        codes = cells[begins]
        for offset in range(1, n):
            codes = np.unique((codes << 32) | cells[begins + offset], return_inverse=True)[1]
        return codes, counts


def distinct(texts: WordCodes, n: int) -> float | None:
    """Distinct word n-grams / all word n-grams (Li et al. 2016, arXiv:1510.03055), from 0 to 1.

    The share falls as texts are added: compare only sets of equal size. None if there is no n-gram.
    """
    codes, _ = texts.ngrams(n)
    return len(np.unique(codes)) / len(codes) if len(codes) else None


def self_bleu(texts: WordCodes) -> float | None:
    """Mean BLEU-4 of each text with all others as references (Zhu et al. 2018, arXiv:1802.01886): 0 to 1.

    Sentence BLEU as sacreBLEU computes it for words that are already split: with effective order and exponential
    smoothing (Chen and Cherry 2014, method 3). None for fewer than two texts.
    """
    if len(texts.lengths) < 2:
        return None
    matches = [_clipped_matches(*texts.ngrams(n)) for n in range(1, BLEU_ORDER + 1)]
    by_text = zip(np.transpose(matches).tolist(), texts.lengths.tolist(), _nearest_lengths(texts.lengths), strict=True)
    scores = [_bleu(list(zip(*orders, strict=True)), length, nearest) for orders, length, nearest in by_text]
    return sum(scores) / len(scores)


def _clipped_matches(codes: Positions, counts: Positions) -> tuple[Positions, Positions]:
    """For every text, how many of its n-grams another single text has as often, and how many n-grams it has."""
    texts = np.repeat(np.arange(len(counts)), counts)
    keys, own = np.unique((codes << 32) | texts, return_counts=True)
    order = np.lexsort((-own, keys >> 32))
    ngram, text, own = keys[order] >> 32, keys[order] & 0xFFFFFFFF, own[order]
    first = np.flatnonzero(begins_of(ngram))
    sizes = np.diff(np.append(first, len(ngram)))
    best = np.repeat(own[first], sizes)
    second = np.repeat(np.where(sizes > 1, np.append(own, 0)[first + 1], 0), sizes)
    others = np.where(own == best, second, best)
    clipped = np.bincount(text, weights=np.minimum(own, others), minlength=len(counts))
    return clipped.astype(np.int64), counts


def _nearest_lengths(lengths: Positions) -> list[int]:
    """For each text, the length of another text that is nearest to its own; the shorter if two are equally near."""
    order = np.argsort(lengths, kind="stable")
    padded = np.concatenate([[-np.inf], lengths[order], [np.inf]])
    shorter, longer = padded[:-2], padded[2:]
    nearest = np.empty(len(lengths), np.int64)
    nearest[order] = np.where(padded[1:-1] - shorter <= longer - padded[1:-1], shorter, longer)
    return nearest.tolist()


def _bleu(matches: Sequence[tuple[int, int]], length: int, reference: int) -> float:
    if not matches[0][0]:
        return 0.0
    logarithms, smoothing = [], 1.0
    for matched, total in matches:
        if total:
            smoothing = smoothing if matched else smoothing * 2
            logarithms.append(np.log((matched or 1 / smoothing) / total))
    penalty = min(0.0, 1 - reference / length)
    return float(np.exp(penalty + sum(logarithms) / len(logarithms)))


def vendi_score(texts: WordCodes) -> float | None:
    """The effective number of different texts: 1 (all equal) to their number (nothing shared); None without a text.

    The Vendi score of Friedman and Dieng (2023, arXiv:2210.02410): the exponential of the entropy of the eigenvalues of
    K / n. K is the mean of the cosine similarities of the counts of words and of word pairs.
    """
    if not len(texts.lengths):
        return None
    kernel = sum(_cosines(*texts.ngrams(n, pad=True)) for n in VENDI_ORDERS)
    shares = np.linalg.eigvalsh(kernel / (len(VENDI_ORDERS) * len(texts.lengths)))
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _cosines(codes: Positions, counts: Positions) -> NDArray[np.float64]:
    incidence = _incidence(codes, counts)
    products = (incidence @ incidence.T).toarray()
    norms = np.sqrt(products.diagonal())
    cosines: NDArray[np.float64] = products / np.outer(norms, norms)
    return cosines


def _incidence(features: NDArray[Any], counts: Positions) -> csr_array:
    """How often each text (row) has each distinct feature (column)."""
    known, columns = np.unique(features, return_inverse=True)
    rows = np.repeat(np.arange(len(counts)), counts)
    found = csr_array((np.ones(len(columns)), (rows, columns)), shape=(len(counts), len(known)))
    found.sum_duplicates()
    return found
