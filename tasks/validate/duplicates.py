"""Rows that say again what an earlier row says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.validate.config import NearDuplicates
from tasks.validate.similarity import SimilarTexts, normalise


@dataclass(frozen=True)
class Duplicate:
    """A row to drop, and the row that stays in its place.

    Attributes:
        position: of the dropped row.
        original: position of the row that is kept.
        kind: exact (equal once normalised) or near.
    """

    position: int
    original: int
    kind: Literal["exact", "near"]


def find_duplicates(texts: Sequence[str], config: NearDuplicates) -> list[Duplicate]:
    """The rows that duplicate an earlier one; the first of its kind always stays, and no original is itself dropped.

    Args:
        texts: what is compared, in order of precedence.
        config: when two texts are near.
    """
    first: dict[str, int] = {}
    for position, text in enumerate(map(normalise, texts)):
        first.setdefault(text, position)
    kept_for = _nearest_kept(first, config)
    duplicates = []
    for position, text in enumerate(map(normalise, texts)):
        original = kept_for.get(first[text], first[text])
        if original != position:
            duplicates.append(Duplicate(position, original, "exact" if original == first[text] else "near"))
    return duplicates


def _nearest_kept(first: dict[str, int], config: NearDuplicates) -> dict[int, int]:
    """Of the distinct texts that are near an earlier kept one: whose place is taken by whom, by position."""
    index = SimilarTexts(config.threshold, config.shingle, config.permutations)
    kept: list[int] = []
    kept_for: dict[int, int] = {}
    for text, sketch in index.sketches(list(first)):
        near = index.nearest(text, sketch)
        if near is None:
            index.add(text, sketch)
            kept.append(first[text])
        else:
            kept_for[first[text]] = kept[near]
    return kept_for
