"""The check on texts that repeat themselves, as a model in a loop does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from tasks.validate.contracts.expectations.own import WIDE_LETTERS, Arguments, Mask, RowCheck, Share, text_batches

if TYPE_CHECKING:
    import pandas as pd

BETWEEN_WORDS = r"[^\pL\pM\pN]+"


class Repetition(Arguments):
    """The largest share of a text that may be repeated, and the words of a run."""

    max_share: Share = 0.3
    ngram: int = Field(4, ge=1, le=50)


def repeats_itself(values: pd.Series[Any], arguments: Repetition) -> Mask:
    """Texts of which more than ``max_share`` is repetition, by :func:`repeated_shares`.

    Above the default are 1 of 23,700 requests (CLINC150) and 2 of 999 answers (Alpaca's demo); a loop soon has 0.8.
    Does not find letters that repeat inside one word.
    """
    return repeated_shares(values, arguments.ngram) > arguments.max_share


def repeated_shares(values: pd.Series[Any], ngram: int) -> NDArray[np.float64]:
    """The share of each text's letters and digits in runs of ``ngram`` words that occurred before; 0 without words.

    The duplicate n-gram character fraction of Rae et al. (2021, appendix A.1.1), ignoring case and punctuation. The
    first of equal runs does not count: a text written twice has one half. Where a script has no spaces between words,
    each character is a word.
    """
    return np.concatenate([np.zeros(0), *(_shares(texts, ngram) for texts in text_batches(values))])


def _shares(texts: pa.Array, ngram: int) -> NDArray[np.float64]:
    words, rows = _words(texts)
    if len(words) < ngram:
        return np.zeros(len(texts))
    lengths = pc.utf8_length(words).to_numpy(zero_copy_only=False)
    covered = _is_repeated(pc.dictionary_encode(words).indices.to_numpy().astype(np.uint64), rows, ngram)
    repeated = np.bincount(rows, lengths * covered, minlength=len(texts))
    return repeated / np.maximum(np.bincount(rows, lengths, minlength=len(texts)), 1)


def _words(texts: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    lower = pc.utf8_lower(texts)
    spaced = pc.replace_substring_regex(lower, rf"({WIDE_LETTERS})", r" \1 ")
    lists = pc.ascii_split_whitespace(pc.replace_substring_regex(spaced, BETWEEN_WORDS, " "))
    words, rows = pc.list_flatten(lists), pc.list_parent_indices(lists)
    is_word = pc.not_equal(words, "")
    return words.filter(is_word), rows.filter(is_word).to_numpy().astype(np.int64)


def _is_repeated(words: NDArray[np.uint64], rows: NDArray[np.int64], ngram: int) -> Mask:
    import pandas as pd

    starts = len(words) - ngram + 1
    runs = _mixed(rows[:starts].astype(np.uint64))
    for offset in range(ngram):
        runs = _mixed(runs ^ words[offset : offset + starts])
    in_one_text = np.flatnonzero(rows[:starts] == rows[ngram - 1 :])
    again = np.zeros(starts, bool)
    again[in_one_text] = pd.Series(runs[in_one_text]).duplicated()
    covered = np.zeros(len(words), bool)
    for offset in range(ngram):
        covered[offset : offset + starts] |= again
    return covered


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread numbers over 64 bits: the finaliser of SplitMix64 (Steele et al., 2014)."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _sentence(given: Repetition) -> str:
    return f"values must not repeat more than {given.max_share:.0%} of their text (runs of {given.ngram} words)"


CHECKS = (RowCheck("expect_column_values_to_not_repeat_themselves", Repetition, repeats_itself, _sentence),)
