"""Select texts so that no two of them are near duplicates."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa

from tasks.validate.config import NearDuplicates
from tasks.validate.duplicates.minhash import agreements, agreements_needed, buckets, sketch
from tasks.validate.normal_form import unaccented
from tasks.validate.similarity import Positions, begins_of, similarities, sorted_distinct, spread, starts

BLOCK = 512
"""Texts that are decided together."""
MOST_KEPT = 128
"""Kept texts of one bucket, after which the bucket is ignored. A larger bucket holds texts from one template that are
alike but not near; near duplicates share other buckets too."""
MOST_VERIFIED = 32
"""Candidates of one text, the likeliest first, whose true similarity is computed."""


def representatives(texts: pa.LargeStringArray, groups: Positions, config: NearDuplicates) -> Positions:
    """For each of these distinct normal forms, the position of the text that is kept: itself, or an earlier one.

    A text is dropped if and only if it is near an earlier kept text of its group (greedy selection in order of
    precedence) and the two differ in more than accents. Each text is compared with kept texts only, and the bounds
    above keep time from growing with the square of a cluster's size. If a bound is reached, near duplicates may be
    kept; nothing else is ever dropped.
    """
    selection = _Selection(texts, groups, config)
    selection.run()
    return selection.kept_for


class _Selection:
    """Greedy selection, in blocks of texts; ``kept_for``: for each text, the kept text that represents it."""

    def __init__(self, texts: pa.LargeStringArray, groups: Positions, config: NearDuplicates) -> None:
        self._texts, self._config = texts, config
        self._bare = unaccented(texts).dictionary_encode().indices.to_numpy()
        sketches = sketch(texts, groups, config)
        self._minima = sketches.minima
        self._members, self._buckets = buckets(sketches.bands)
        sizes = np.bincount(self._buckets)
        # A list of kept texts for each bucket, one list after the other: where each begins, and its length.
        self._kept = np.empty(len(self._buckets), dtype=np.int64)
        self._begins, self._counts = starts(sizes), np.zeros_like(sizes)
        self._is_decided = np.zeros(len(texts), dtype=bool)
        self.kept_for = np.arange(len(texts))

    def run(self) -> None:
        """Decide every text that shares a bucket; all others are kept."""
        firsts = np.flatnonzero(begins_of(self._members))
        for begin, end in pairwise([*firsts[::BLOCK], len(self._members)]):
            self._decide(self._members[begin:end], self._buckets[begin:end])

    def _decide(self, members: Positions, numbers: Positions) -> None:
        """Compare a block with the kept texts of earlier blocks, then its texts with each other, in rounds.

        Each round keeps the texts that come first in all their buckets, and compares the others of these buckets with
        them.
        """
        known = self._counts[numbers]
        self._drop(np.repeat(members, known), self._kept[spread(known, self._begins[numbers])])
        order = np.argsort(numbers, kind="stable")
        members, numbers = members[order], numbers[order]
        while True:
            is_open = ~self._is_decided[members] & (self._counts[numbers] < MOST_KEPT)
            members, numbers = members[is_open], numbers[is_open]
            if not len(members):
                return
            leads = begins_of(numbers)
            leaders = members[leads]
            waits = np.zeros(int(members.max() - members.min()) + 1, dtype=bool)
            waits[members[~leads] - members.min()] = True
            is_kept = ~waits[leaders - members.min()]
            self._keep(leaders[is_kept], numbers[leads][is_kept])
            led_by = np.where(is_kept, leaders, -1)[np.cumsum(leads) - 1]
            behind = ~leads & (led_by >= 0)
            self._drop(members[behind], led_by[behind])

    def _keep(self, members: Positions, numbers: Positions) -> None:
        self._kept[self._begins[numbers] + self._counts[numbers]] = members
        self._counts[numbers] += 1
        self._is_decided[members] = True

    def _drop(self, candidates: Positions, kept: Positions) -> None:
        config = self._config
        one, other = np.divmod(sorted_distinct(candidates * len(self._texts) + kept), len(self._texts))
        differ = self._bare[one] != self._bare[other]
        one, other = one[differ], other[differ]
        shared = agreements(self._minima, one, other)
        likely = np.lexsort((-shared, one))
        likely = likely[shared[likely] >= agreements_needed(config.threshold, config.permutations)]
        likely = likely[_rank(one[likely]) < MOST_VERIFIED]
        similarity = similarities(self._texts, one[likely], other[likely], config.shingle)
        near = likely[similarity >= config.threshold]
        best = np.lexsort((-similarity[similarity >= config.threshold], one[near]))
        near = near[best][begins_of(one[near][best])]
        self.kept_for[one[near]] = other[near]
        self._is_decided[one[near]] = True


def _rank(values: Positions) -> Positions:
    places = np.arange(len(values))
    return places - np.maximum.accumulate(np.where(begins_of(values), places, 0))
