"""Candidates for near duplicates: MinHash with locality-sensitive hashing.

Minima are computed by rensa (Broder 1997; Dahlgaard, Knudsen and Thorup 2017, arXiv:1704.04370); for rows, bands and
buckets see Leskovec, Rajaraman and Ullman, *Mining of Massive Datasets*, chapter 3. The caller verifies candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.validate.config import NearDuplicates
from tasks.validate.similarity import MULTIPLIER, Hashes, Positions, begins_of, portions, shingle_hashes

SEED = 42
BATCH = 1_000
"""Texts whose minima are computed at a time, so that the work fits in the processor's cache."""
MISSED_AT_MOST = 1e-6
"""Chance that a pair just at the threshold shares no band and is never compared, where that is affordable."""
UNLIKE = 0.1
"""Similarity that unrelated texts of one subject and language may have."""
UNLIKE_CANDIDATES = 100
"""Unrelated texts that each text may be compared with."""
DEVIATIONS = 4
"""An estimate this many standard deviations below the threshold rules a pair out: 3 of 100,000 pairs that are just at
the threshold."""


@dataclass(frozen=True)
class Sketches:
    """Summaries of the minima of n texts.

    ``bands``: a key for each band of each text, (bands, n); equal if all minima of the band are. ``minima``: the lowest
    8 bits of each minimum, (n, permutations) (Li and König 2010, doi:10.1145/1772690.1772759).
    """

    bands: Hashes
    minima: NDArray[np.uint8]


def sketch(texts: pa.LargeStringArray, groups: Positions, config: NearDuplicates) -> Sketches:
    """The sketches of normal forms; texts of different groups share no band."""
    from rensa import RMinHash

    rows = band_rows(config.threshold, config.permutations, len(texts))
    count = config.permutations // rows
    bands = np.empty((count, len(texts)), dtype=np.uint64)
    minima = np.empty((len(texts), config.permutations), dtype=np.uint8)
    for start, part in portions(texts, BATCH):
        hashes, offsets = shingle_hashes(part, config.shingle)
        digest = RMinHash.digest_matrix_from_flat_token_hashes
        digests = digest(hashes, offsets.astype(np.uint64), config.permutations, SEED)
        values = np.array(digests.to_rows(), dtype=np.uint64)
        batch = slice(start, start + len(part))
        minima[batch] = values.astype(np.uint8)
        banded = values[:, : count * rows].reshape(-1, count, rows)
        keys = np.repeat(groups[batch, None].astype(np.uint64), count, axis=1)
        for row in range(rows):
            keys *= MULTIPLIER
            keys += banded[:, :, row]
        bands[:, batch] = keys.T
    return Sketches(bands, minima)


def band_rows(threshold: float, permutations: int, texts: int) -> int:
    """How many minima a pair must share in one band to be compared.

    The most that still find nearly every pair at the threshold (:data:`MISSED_AT_MOST`), or more if each text would
    otherwise be compared with too many unrelated ones. With the recipe's defaults: four for up to 31,000 texts, five
    for up to 400,000, then six. Six miss 17 of 10,000 pairs that are just at the threshold of 0.8, and 1 of a million
    from 0.9 on. Measured on 20,211 pairs between 0.8 and 1.0: none missed with four or five, two with six.
    """
    options = range(1, permutations + 1)
    sure = [rows for rows in options if missed(threshold, rows, permutations) <= MISSED_AT_MOST]
    affordable = (rows for rows in options if texts * (1 - missed(UNLIKE, rows, permutations)) <= UNLIKE_CANDIDATES)
    return max(max(sure, default=1), next(affordable, permutations))


def missed(similarity: float, rows: int, permutations: int) -> float:
    """The chance that two texts of a similarity share no band: (1 - s^r)^b."""
    return float((1 - similarity**rows) ** (permutations // rows))


def buckets(bands: Hashes) -> tuple[Positions, Positions]:
    """The texts that share a band (:class:`Sketches`) with another, and their buckets; sorted by text, then bucket."""
    members, numbers, known = [], [], 0
    for keys in bands:
        order = np.argsort(keys, kind="stable")
        begins = begins_of(keys[order])
        shared = ~(begins & np.append(begins[1:], True))
        members.append(order[shared].astype(np.int32))
        numbers.append((np.cumsum(begins[shared]) + known - 1).astype(np.int32))
        known += int(np.count_nonzero(begins[shared]))
    texts = np.concatenate(members)
    by_text = np.argsort(texts, kind="stable")
    return texts[by_text].astype(np.int64), np.concatenate(numbers)[by_text].astype(np.int64)


def agreements(minima: NDArray[np.uint8], left: Positions, right: Positions) -> Positions:
    """How many minima each pair of texts shares."""
    counts = np.empty(len(left), dtype=np.int64)
    for start in range(0, len(left), BATCH):
        pairs = slice(start, start + BATCH)
        counts[pairs] = np.count_nonzero(minima[left[pairs]] == minima[right[pairs]], axis=1)
    return counts


def agreements_needed(threshold: float, permutations: int) -> float:
    """Pairs that share fewer minima are not similar."""
    return permutations * threshold - DEVIATIONS * float(np.sqrt(permutations * threshold * (1 - threshold)))
