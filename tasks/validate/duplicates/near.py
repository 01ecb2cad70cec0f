"""Which of many texts stay when no two of them may be near each other."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa

from tasks.validate.config import NearDuplicates
from tasks.validate.duplicates.minhash import agreements, agreements_needed, buckets, sketch
from tasks.validate.similarity import Positions, begins_of, each_once, similarities, spread, starts

BLOCK = 512
"""Texts that are decided together."""
MOST_KEPT = 128
"""Texts of one bucket that may stay before it is given up. A bucket of more holds texts from one mould, alike but not
near; those near each other share other buckets too."""
MOST_VERIFIED = 32
"""Candidates of one text, the likeliest first, whose true similarity is computed."""


def stand_ins(texts: pa.LargeStringArray, config: NearDuplicates) -> Positions:
    """For each of different normalised texts the one that stays in its place, itself or an earlier one that is near.

    A text is dropped if and only if it is near an earlier one that is not: the greedy choice in order of precedence.
    Each text is compared with those alone that stay, so that thousands near one another are compared with one, and not
    each with each. The bounds above keep time from growing with the square of any cluster; where one is met, what is
    near may stay, and nothing else is dropped.
    """
    choice = _Choice(texts, config)
    choice.make()
    return choice.stays_for


class _Choice:
    """The choice, made in blocks of texts.

    Attributes:
        stays_for: what was decided, for each text.
    """

    def __init__(self, texts: pa.LargeStringArray, config: NearDuplicates) -> None:
        self._texts, self._config = texts, config
        sketches = sketch(texts, config)
        self._minima = sketches.minima
        self._members, self._buckets = buckets(sketches.bands)
        sizes = np.bincount(self._buckets)
        # For each bucket a list of the texts that stay in it, one behind the other: where it begins, how long it is.
        self._kept = np.empty(len(self._buckets), dtype=np.int64)
        self._begins, self._counts = starts(sizes), np.zeros_like(sizes)
        self._is_decided = np.zeros(len(texts), dtype=bool)
        self.stays_for = np.arange(len(texts))

    def make(self) -> None:
        """Decide every text that shares a bucket; the others stay anyway."""
        firsts = np.flatnonzero(begins_of(self._members))
        edges = [*firsts[::BLOCK], len(self._members)]
        for begin, end in pairwise(edges):
            self._decide(self._members[begin:end], self._buckets[begin:end])

    def _decide(self, members: Positions, numbers: Positions) -> None:
        """Decide a block: compare it with what stays of the blocks before, then its texts with each other, in rounds.

        In each round the texts that are the first in all their buckets stay, and all others of these buckets are
        compared with them.
        """
        known = self._counts[numbers]
        self._drop(np.repeat(members, known), self._kept[spread(known, self._begins[numbers])])
        order = np.argsort(numbers, kind="stable")
        members, numbers = members[order], numbers[order]
        while True:
            open_still = ~self._is_decided[members] & (self._counts[numbers] < MOST_KEPT)
            members, numbers = members[open_still], numbers[open_still]
            if not len(members):
                return
            leads = begins_of(numbers)
            leaders = members[leads]
            waits = np.zeros(int(members.max() - members.min()) + 1, dtype=bool)
            waits[members[~leads] - members.min()] = True
            stays = ~waits[leaders - members.min()]
            self._keep(leaders[stays], numbers[leads][stays])
            led_by = np.where(stays, leaders, -1)[np.cumsum(leads) - 1]
            behind = ~leads & (led_by >= 0)
            self._drop(members[behind], led_by[behind])

    def _keep(self, members: Positions, numbers: Positions) -> None:
        """Note that texts stay, in buckets that are all different."""
        self._kept[self._begins[numbers] + self._counts[numbers]] = members
        self._counts[numbers] += 1
        self._is_decided[members] = True

    def _drop(self, candidates: Positions, kept: Positions) -> None:
        """Drop the candidates that are near a text that stays; pairs may be given more than once."""
        config = self._config
        one, other = np.divmod(each_once(candidates * len(self._texts) + kept), len(self._texts))
        shared = agreements(self._minima, one, other)
        likely = np.lexsort((-shared, one))
        likely = likely[shared[likely] >= agreements_needed(config.threshold, config.permutations)]
        likely = likely[_rank(one[likely]) < MOST_VERIFIED]
        similarity = similarities(self._texts, one[likely], other[likely], config.shingle)
        near = likely[similarity >= config.threshold]
        best = np.lexsort((-similarity[similarity >= config.threshold], one[near]))
        near = near[best][begins_of(one[near][best])]
        self.stays_for[one[near]] = other[near]
        self._is_decided[one[near]] = True


def _rank(values: Positions) -> Positions:
    """Of each of some sorted values, how many equal ones are before it."""
    begins = begins_of(values)
    places = np.arange(len(values))
    return places - np.maximum.accumulate(np.where(begins, places, 0))
