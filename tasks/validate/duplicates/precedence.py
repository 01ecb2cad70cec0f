"""Which of several duplicates is kept: collected before generated rows, then by the judges' score."""

from __future__ import annotations

import json
from statistics import fmean

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.validate.conversations import by_batches
from tasks.validate.rows import COLLECTED


def precedence(rows: pa.Table) -> NDArray[np.int64]:
    """Positions in order of precedence: collected before generated rows, then by falling score, then in table order.

    Rows without a score come last. ``rows`` has the columns ``origin`` and ``judgements``.
    """
    is_generated = pc.not_equal(pc.fill_null(rows["origin"], ""), COLLECTED).to_numpy()
    scores = by_batches(_scores, rows["judgements"], pa.float64()).to_numpy()
    return np.lexsort((np.where(np.isnan(scores), np.inf, -scores), is_generated))


def _scores(judgements: pa.Array) -> pa.Array:
    """The mean judge score of each row, from the generate stage's verdicts; NaN without a score."""
    is_scored = pc.fill_null(pc.match_substring(judgements, '"score"'), False).to_numpy(zero_copy_only=False)
    scores = np.full(len(judgements), np.nan)
    for number in np.flatnonzero(is_scored):
        scores[number] = _mean_score(judgements[int(number)].as_py())
    return pa.array(scores)


def _mean_score(text: str) -> float:
    try:
        return fmean(float(verdict["score"]) for verdict in json.loads(text) if verdict.get("score") is not None)
    except (ValueError, TypeError, AttributeError):  # statistics.StatisticsError is a ValueError
        return float("nan")
