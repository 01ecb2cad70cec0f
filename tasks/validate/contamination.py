"""Rows too near a holdout document: training on them would make the evaluation a memory test."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.validate.config import Contamination
from tasks.validate.similarity import SimilarTexts, normalise


def find_contamination(texts: Sequence[str], holdout: Sequence[str], config: Contamination) -> dict[int, int]:
    """For every text that is equal or near to a holdout text: its position, and the nearest holdout text's.

    Args:
        texts: the rows' user texts.
        holdout: the holdout's user texts.
        config: when two texts are too near.
    """
    index = SimilarTexts(config.threshold, config.shingle)
    for text, sketch in index.sketches([normalise(text) for text in holdout]):
        index.add(text, sketch)
    found: dict[int, int] = {}
    for position, (text, sketch) in enumerate(index.sketches([normalise(text) for text in texts])):
        nearest = index.nearest(text, sketch)
        if nearest is not None:
            found[position] = nearest
    return found
