"""Texts that look like short messages to a counting program: for the benchmarks, made fast and from a seed.

Words follow Zipf and Mandelbrot's law (Mandelbrot 1953: frequency proportional to 1 / (rank + 2.7) ** 1.07); three of
five words follow from the one before, and a third of the texts begin as many others do, so that runs of words repeat as
they do in a language. The commonest words are those of the embedded recipe's messages, the others are syllables.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

MESSAGES = Path(__file__).resolve().parents[1] / "deployments" / "recipes" / "data" / "support_messages.csv"
CONSONANTS, VOWELS, ENDINGS = list("bcdfglmnprstvz"), list("aeiou"), ["", "", "n", "r"]
WORDS = 20_000
FOLLOWERS = 12
OPENINGS = 300
LONGEST = 72
"""Words drawn for a text before it is cut."""


@dataclass(frozen=True)
class Language:
    """A vocabulary and how its words follow each other.

    Attributes:
        words: by rank.
        cumulated: probability of a word or a commoner one, by rank.
        followers: (words, 12), the words that like to follow each word, the likeliest first.
        openings: (300, 6), the words that many texts begin with.
    """

    words: pa.Array
    cumulated: NDArray[np.float64]
    followers: NDArray[np.int32]
    openings: NDArray[np.int32]

    @classmethod
    def of(cls, seed: int) -> Language:
        """The language of a seed."""
        draw = np.random.default_rng(seed)
        words = _vocabulary(draw)
        shares = 1 / (np.arange(len(words)) + 2.7) ** 1.07
        cumulated = np.cumsum(shares / shares.sum())
        followers = np.searchsorted(cumulated, draw.random((len(words), FOLLOWERS))).astype(np.int32)
        openings = np.searchsorted(cumulated, draw.random((OPENINGS, 6))).astype(np.int32)
        return cls(pa.array(words), cumulated, np.minimum(followers, len(words) - 1), openings)

    def texts(self, count: int, draw: np.random.Generator, least: int = 40, most: int = 300) -> pa.Array:
        """So many texts of ``least`` to ``most`` characters, most of them of 60 to 160."""
        chosen = np.empty((count, LONGEST), dtype=np.int32)
        current = self._fresh(count, draw)
        for place in range(LONGEST):
            chosen[:, place] = current
            likely = self.followers[current, (FOLLOWERS * draw.random(count) ** 2).astype(np.int64)]
            current = np.where(draw.random(count) < 0.6, likely, self._fresh(count, draw))
        opened = np.flatnonzero(draw.random(count) < 1 / 3)
        chosen[opened, :6] = self.openings[(OPENINGS * draw.random(len(opened)) ** 3).astype(np.int64)]
        ends = np.cumsum(np.asarray(pc.utf8_length(self.words))[chosen] + 1, axis=1) - 1
        wanted = np.clip(np.exp(draw.normal(np.log(100), 0.5, count)), least, most)
        taken = np.minimum((ends < wanted[:, None]).sum(axis=1) + 1, LONGEST)
        kept = chosen[np.arange(LONGEST) < taken[:, None]]
        offsets = np.concatenate([[0], np.cumsum(taken)]).astype(np.int32)
        joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), self.words.take(pa.array(kept))), " ")
        return pc.utf8_trim_whitespace(pc.utf8_slice_codeunits(joined, 0, most))

    def _fresh(self, count: int, draw: np.random.Generator) -> NDArray[np.int64]:
        return np.minimum(np.searchsorted(self.cumulated, draw.random(count)), len(self.words) - 1)


def _vocabulary(draw: np.random.Generator) -> list[str]:
    """The words of the embedded recipe's messages by their frequency, then made ones."""
    messages = pd.read_csv(MESSAGES)["message"].str.casefold().str.findall(r"[a-z']+")
    known = [word for word, _ in Counter(word for words in messages for word in words).most_common()]
    drawn = zip(*(draw.choice(letters, (2 * WORDS, 3)) for letters in (CONSONANTS, VOWELS, ENDINGS)), strict=True)
    made = ("".join(np.stack(letters, axis=1).ravel()[: 3 * (2 + number % 2)]) for number, letters in enumerate(drawn))
    return list(dict.fromkeys([*known, *made]))[:WORDS]
