"""Draw values and examples for a row, seeded by the row alone, so that the plan is reproducible.

Every draw is a hash of the row's key and the candidates, and changes as little as possible when they change: a value
added to a sampler takes its share of the rows and leaves the others unchanged; a document moves only draws near it.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.core.files import canonical_json

WINDOW = 32
"""Few-shot examples are the best of this many documents (or of four per example, if more)."""
READ_AT_ONCE = 4096

Document = Mapping[str, Any]


def hash_of(key: str, text: str) -> int:
    """64 evenly distributed bits of a key and a text."""
    joined = f"{len(key)}:{key}{text}".encode("utf-8", "surrogatepass")  # no two pairs have equal bytes
    return int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest())


def draw_value(weights: Mapping[str, float], key: str) -> str:
    """Draw a value with probability proportional to its weight.

    Each value gets an exponential arrival time with its weight as the rate, and the first wins ("exponential race",
    Efraimidis and Spirakis, 2006): exact, independent of the order, and adding or removing a value changes no other
    time. At least one weight is above 0.
    """
    return min((value for value in weights if weights[value] > 0), key=lambda value: _time(key, value, weights[value]))


def _time(key: str, value: str, weight: float) -> tuple[float, str]:
    uniform = ((hash_of(key, value) >> 11) + 1) / 2**53  # in (0, 1], exactly
    return -math.log(uniform) / weight, value


class ExamplePool:
    """Documents for few-shot draws, on a ring ordered by the hashes of their ids.

    Ranking all documents for every row would cost documents times rows. So a row's hash picks a place on the ring, and
    only a window of documents behind it is ranked, by a hash of row and document. A document's probability is the mean
    gap of the window before it: even to about one part in six. A ring takes 16 bytes a document.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents
        self._rings: dict[tuple[str | None, tuple[str, ...]], dict[str, _Ring]] = {}

    def draw(
        self, row: Document, count: int, key: str, same: str | None = None, fields: tuple[str, ...] = ()
    ) -> list[Document]:
        """Up to ``count`` different documents, never the row's own.

        Only documents with the row's value in the field ``same`` (None: all) and with one of ``fields``, to exclude
        other forms (none: all), are drawn.
        """
        if (same, fields) not in self._rings:
            self._rings[same, fields] = _rings(self._documents, same, fields)
        ring = self._rings[same, fields].get(_group(row, same))
        if ring is None:
            return []
        begin = int(np.searchsorted(ring.hashes, np.uint64(hash_of(key, "place"))))
        size = min(len(ring.hashes), max(WINDOW, 4 * count) + 1)  # one more, since the row's own may be among them
        window = (begin + np.arange(size)) % len(ring.hashes)
        own = _ring_hash(row)
        ranked = sorted(
            (hash_of(key, str(other)), index)
            for other, index in zip(ring.hashes[window].tolist(), ring.indices[window].tolist(), strict=True)
            if other != own
        )
        return [self._documents[index] for _, index in ranked[:count]]


class _Ring(NamedTuple):
    hashes: npt.NDArray[np.uint64]
    indices: npt.NDArray[np.int64]


def _rings(documents: Sequence[Document], same: str | None, fields: tuple[str, ...]) -> dict[str, _Ring]:
    """A ring for each value of the field ``same``, over documents that have it and one of ``fields``."""
    groups: dict[str, tuple[array[int], array[int]]] = {}
    for start in range(0, len(documents), READ_AT_ONCE):
        for index, document in enumerate(documents[start : start + READ_AT_ONCE], start):
            fit = not fields or any(document.get(name) is not None for name in fields)
            if fit and (same is None or document.get(same) is not None):
                hashes, indices = groups.setdefault(_group(document, same), (array("Q"), array("q")))
                hashes.append(_ring_hash(document))
                indices.append(index)
    rings = {}
    for group, (hashes, indices) in groups.items():
        unsorted = np.frombuffer(hashes, dtype=np.uint64)
        order = np.argsort(unsorted, kind="stable")
        rings[group] = _Ring(unsorted[order], np.frombuffer(indices, dtype=np.int64)[order])
    return rings


def _ring_hash(document: Document) -> int:
    return hash_of("ring", str(document["document_id"]))


def _group(document: Document, same: str | None) -> str:
    return "" if same is None else canonical_json(document.get(same))
