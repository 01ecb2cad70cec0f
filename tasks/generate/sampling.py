"""Drawing values and examples for a row: seeded by the row alone, so that the same plan comes out every time.

Every draw is made by hashing, with no state between rows. It depends on the row's key and on what is drawn from, and
changes as little as possible when that does: a value added to a sampler takes over its share of the rows and leaves
the others as they are, and a document added moves only draws beside it.
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
"""Few-shot examples are the best ranked of this many documents (or four for each example, if that is more)."""
READ_AT_ONCE = 4096
"""Documents, when a ring is made."""

Document = Mapping[str, Any]


def hash_of(key: str, text: str) -> int:
    """64 evenly spread bits of a key and a text."""
    # The key's length first, so that no two pairs share their bytes.
    joined = f"{len(key)}:{key}{text}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest())


def draw_value(weights: Mapping[str, float], key: str) -> str:
    """One of the values, with the probability that its weight has in their sum.

    Each value's clock rings after an exponential time of its weight's rate, and the first wins ("exponential race",
    Efraimidis and Spirakis, 2006): exact, without regard to the values' order, and no other value's clock changes
    when one is added or taken away.

    Args:
        weights: value: weight, at least one above 0.
        key: names the draw.
    """
    return min((value for value in weights if weights[value] > 0), key=lambda value: _time(key, value, weights[value]))


def _time(key: str, value: str, weight: float) -> tuple[float, str]:
    uniform = ((hash_of(key, value) >> 11) + 1) / 2**53  # in (0, 1], exactly
    return -math.log(uniform) / weight, value


class ExamplePool:
    """Documents to draw few-shot examples from, in the order of the hashes of their ids, as on a ring.

    To rank all documents anew for every row would take documents times rows. So a row's hash picks a place on the
    ring, and only the documents of a window behind it are ranked, by a hash of row and document. A document's chance
    is the mean gap of a window before it: even to about one part in six. Beside the documents, which are read only
    where they are drawn, a ring takes 16 bytes for each.

    Args:
        documents: training documents, each with its ``document_id``; their order does not matter.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents
        self._rings: dict[tuple[str | None, tuple[str, ...]], dict[str, _Ring]] = {}

    def draw(
        self, row: Document, count: int, key: str, same: str | None = None, fields: tuple[str, ...] = ()
    ) -> list[Document]:
        """Different documents, never the row's own: ``count`` of them, or as many as there are.

        Args:
            row: with its ``document_id`` and the field ``same``.
            count: how many, at least 1.
            key: names the draw.
            same: draw only documents that have the row's value in this field; None: all.
            fields: draw only documents that have one of these, as those of another form do not; none: all.
        """
        if (same, fields) not in self._rings:
            self._rings[same, fields] = _rings(self._documents, same, fields)
        ring = self._rings[same, fields].get(_group(row, same))
        if ring is None:
            return []
        begin = int(np.searchsorted(ring.hashes, np.uint64(hash_of(key, "place"))))
        size = min(len(ring.hashes), max(WINDOW, 4 * count) + 1)  # one more: the row's own may be among them
        window = (begin + np.arange(size)) % len(ring.hashes)
        own = _ring_hash(row)
        ranked = sorted(
            (hash_of(key, str(other)), index)
            for other, index in zip(ring.hashes[window].tolist(), ring.indices[window].tolist(), strict=True)
            if other != own
        )
        return [self._documents[index] for _, index in ranked[:count]]


class _Ring(NamedTuple):
    """The sorted hashes of some documents' ids, and the documents' indices in that order."""

    hashes: npt.NDArray[np.uint64]
    indices: npt.NDArray[np.int64]


def _rings(documents: Sequence[Document], same: str | None, fields: tuple[str, ...]) -> dict[str, _Ring]:
    """A ring for each value of the field ``same``, of documents that have it and one of ``fields``."""
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
