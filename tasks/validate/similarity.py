"""Compare texts: Jaccard similarity of character shingles.

Works on Arrow and NumPy arrays, a batch of texts at a time: a million texts are never a million Python objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Texts: TypeAlias = Sequence[str] | pa.Array | pa.ChunkedArray
Hashes = NDArray[np.uint64]
Positions = NDArray[np.int64]
Number = TypeVar("Number", np.int32, np.int64, np.uint64)

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー"
"""Scripts without spaces between words: each of their characters counts as a word."""
MOST_TEXTS = 4_096
"""Texts, or pairs of texts, whose distinct shingles are found at a time."""
BYTES = 2_000_000
"""Text that is processed at a time (or one longer text): its shingles take 70 bytes a character."""
NO_CHARACTER = 0x110000
"""Pads a text to the size of a shingle; not a code point of Unicode."""
_HASH_BITS = np.uint64(52)
_HASH = (np.uint64(1) << _HASH_BITS) - np.uint64(1)
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def portions(texts: pa.LargeStringArray, most: int) -> Iterator[tuple[int, pa.LargeStringArray]]:
    """Parts of at most ``most`` texts and at most :data:`BYTES` (or of one longer text), with their positions."""
    for begin, end in _ranges(pc.binary_length(texts).to_numpy(zero_copy_only=False), most):
        yield begin, texts.slice(begin, end - begin)


def as_array(texts: Texts) -> pa.LargeStringArray:
    """Texts as one Arrow array with 64-bit offsets; null becomes an empty text."""
    if isinstance(texts, pa.Array | pa.ChunkedArray):
        cast = pc.fill_null(texts.cast(pa.large_string()), "")
        return cast.combine_chunks() if isinstance(cast, pa.ChunkedArray) else cast
    # Half of a surrogate pair, which JSON can hold, has no UTF-8 form.
    return pa.array([text.encode("utf-8", "replace") for text in texts], pa.large_binary()).cast(pa.large_string())


def shingle_hashes(texts: pa.LargeStringArray, size: int) -> tuple[Hashes, Positions]:
    """A 64-bit hash of every run of ``size`` characters of every text, in order; a shorter text is one shingle.

    Returns the hashes of all texts one after the other, and the offset of each text's first one, (texts + 1,).
    """
    points = np.frombuffer("".join(texts.to_pylist()).encode("utf-32-le"), dtype=np.uint32)
    lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
    padded = np.maximum(lengths, size)
    cells = np.full(padded.sum(), NO_CHARACTER, dtype=np.uint64)
    cells[spread(lengths, starts(padded))] = points
    rolled = np.zeros(max(0, len(cells) - size + 1), dtype=np.uint64)
    for offset in range(size):
        rolled *= MULTIPLIER
        rolled += cells[offset : offset + len(rolled)]
    counts = padded - size + 1
    return mix(rolled[spread(counts, starts(padded))]), np.append(starts(counts), counts.sum())


def starts(lengths: Positions) -> Positions:
    """Where each of several consecutive runs begins."""
    return np.cumsum(lengths) - lengths


def spread(lengths: Positions, begins: Positions) -> Positions:
    """The positions begin, begin + 1, ... of every run, one run after the other."""
    return np.arange(lengths.sum()) + np.repeat(begins - starts(lengths), lengths)


def mix(values: Hashes) -> Hashes:
    """Spread every bit of a value over all 64 (the finaliser of splitmix64: Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def similarities(texts: pa.LargeStringArray, left: Positions, right: Positions, size: int) -> NDArray[np.float64]:
    """Jaccard similarity of the shingles of pairs of normalised texts; ``left`` and ``right`` are positions.

    Two shingles are equal if 52 bits of their hashes are: a collision in texts of 300 characters has a probability
    of 1e-11.
    """
    found = np.empty(len(left), dtype=np.float64)
    if not len(left):
        return found
    ends = np.frombuffer(texts.buffers()[1], dtype=np.int64)[texts.offset :]
    for begin, end in _ranges(ends[left + 1] - ends[left] + ends[right + 1] - ends[right], MOST_TEXTS):
        found[begin:end] = _similarities(texts, left[begin:end], right[begin:end], size)
    return found


def _ranges(lengths: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most ``most`` items and at most :data:`BYTES` (or of one longer item)."""
    behind = np.cumsum(lengths)
    begin = 0
    while begin < len(lengths):
        before = behind[begin] - lengths[begin]
        full = int(np.searchsorted(behind, before + BYTES, side="right"))
        end = max(begin + 1, min(begin + most, full))
        yield begin, end
        begin = end


def _similarities(texts: pa.LargeStringArray, left: Positions, right: Positions, size: int) -> NDArray[np.float64]:
    one, other = (_distinct(texts.take(pa.array(side)), size) for side in (left, right))
    both = np.sort(np.concatenate([one, other]), kind="stable")
    repeated = both[1:][both[1:] == both[:-1]]
    shared, total = (
        np.bincount((keys >> _HASH_BITS).astype(np.int64), minlength=len(left)) for keys in (repeated, both)
    )
    similarity: NDArray[np.float64] = shared / (total - shared)
    return similarity


def distinct_shingles(texts: pa.LargeStringArray, size: int) -> tuple[Positions, Hashes]:
    """The distinct shingles of at most :data:`MOST_TEXTS` normalised texts, sorted: text position, 52 bits."""
    keys = _distinct(texts, size)
    return (keys >> _HASH_BITS).astype(np.int64), keys & _HASH


def _distinct(texts: pa.LargeStringArray, size: int) -> Hashes:
    """Keys of the distinct shingles, sorted: the text's number in the upper 12 bits, 52 bits of the hash below."""
    hashes, offsets = shingle_hashes(texts, size)
    numbers = np.repeat(np.arange(len(texts), dtype=np.uint64), np.diff(offsets))
    return sorted_distinct((numbers << _HASH_BITS) | (hashes >> (np.uint64(64) - _HASH_BITS)))


def sorted_distinct(values: NDArray[Number]) -> NDArray[Number]:
    """The distinct values, sorted. Ten times as fast as numpy.unique (2.4), which hashes them."""
    values = np.sort(values)
    return values[begins_of(values)]


def position_in(known: NDArray[Number], values: NDArray[Number]) -> Positions:
    """The index of each value in ``known`` (sorted, distinct); -1 if it is not there."""
    if not len(known):
        return np.full(len(values), -1)
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[at] == values, at, -1)


def begins_of(values: NDArray[Number]) -> NDArray[np.bool_]:
    """True where a run of equal values begins."""
    return np.append(True, values[1:] != values[:-1])[: len(values)]


def first_of_each(texts: pa.LargeStringArray) -> tuple[Positions, Positions]:
    """The first position of each distinct text, ascending; and for every text, the number of its distinct text."""
    numbers = texts.dictionary_encode().indices.to_numpy().astype(np.int64)
    first = np.full(numbers.max(initial=-1) + 1, len(numbers))
    np.minimum.at(first, numbers, np.arange(len(numbers)))
    return first, numbers
