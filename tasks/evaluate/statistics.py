"""Intervals and tests for the scores of two models on the same rows.

scipy takes a second to import, so functions import it on use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Interval = tuple[float, float]
Metric = Literal["accuracy", "token_f1"]
Scores = Sequence[float]

RESAMPLES = 9999
BATCH = 500
"""Resamples in memory at a time."""
SEED = 3407


@dataclass(frozen=True)
class Difference:
    """Mean score of one model less another's on the same rows, a fraction; ``p_value``: two-sided, of no difference."""

    difference: float
    ci_low: float
    ci_high: float
    p_value: float


def mean_interval(metric: Metric, scores: Scores, confidence: float) -> Interval:
    """Interval of a model's mean score: Wilson's for accuracy, a bootstrap for graded scores."""
    if metric == "accuracy":
        return wilson(round(sum(scores)), len(scores), confidence)
    return _bootstrap(scores, confidence, widest=(0.0, 1.0))


def paired_difference(metric: Metric, scores: Scores, reference: Scores, confidence: float) -> Difference:
    """How much higher ``scores`` are than ``reference``, row by row."""
    compare = paired_accuracy if metric == "accuracy" else paired_means
    return compare(scores, reference, confidence)


def wilson(successes: int, n: int, confidence: float) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927, JASA 22:209)."""
    from scipy import stats

    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def paired_accuracy(scores: Scores, reference: Scores, confidence: float) -> Difference:
    """Difference of two accuracies on the same rows; scores are 0 or 1.

    The interval is method 10 of Newcombe (1998), Statistics in Medicine 17:2635; the test is McNemar's, exact.
    """
    from scipy import stats

    pairs = [(bool(one), bool(other)) for one, other in zip(scores, reference, strict=True)]
    n, both, neither = len(pairs), pairs.count((True, True)), pairs.count((False, False))
    gained, lost = pairs.count((True, False)), pairs.count((False, True))
    rate, other_rate = (both + gained) / n, (both + lost) / n
    low, high = wilson(both + gained, n, confidence)
    other_low, other_high = wilson(both + lost, n, confidence)
    phi = _phi(both, gained, lost, neither)
    difference = rate - other_rate
    return Difference(
        difference,
        max(-1.0, difference - _joined(rate - low, other_high - other_rate, phi)),
        min(1.0, difference + _joined(high - rate, other_rate - other_low, phi)),
        float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0,
    )


def _phi(both: int, gained: int, lost: int, neither: int) -> float:
    """Correlation of two models' answers; a positive one has Newcombe's continuity correction."""
    scale = math.sqrt((both + gained) * (lost + neither) * (both + lost) * (gained + neither))
    if scale == 0:
        return 0.0
    product, half = both * neither - gained * lost, (both + gained + lost + neither) / 2
    return (product if product < 0 else max(product - half, 0.0)) / scale


def _joined(width: float, other_width: float, phi: float) -> float:
    """Distance to a bound from the distances of two correlated rates; never below zero by rounding."""
    return math.sqrt(max(width**2 - 2 * phi * width * other_width + other_width**2, 0.0))


def paired_means(scores: Scores, reference: Scores, confidence: float) -> Difference:
    """Difference of two mean scores on the same rows: bootstrap of the rows' differences, permutation within rows."""
    from scipy import stats

    one, other = np.asarray(scores, dtype=float), np.asarray(reference, dtype=float)
    if len(one) < 2:
        return Difference(float((one - other).mean()), -1.0, 1.0, 1.0)
    low, high = _bootstrap(list(one - other), confidence, widest=(-1.0, 1.0))
    test = stats.permutation_test(
        (one, other),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=BATCH,
        rng=np.random.default_rng(SEED),
    )
    return Difference(float((one - other).mean()), low, high, float(test.pvalue))


def _bootstrap(values: Scores, confidence: float, widest: Interval) -> Interval:
    """Percentile bootstrap of a mean (Efron 1979); a single value has the widest interval."""
    from scipy import stats

    if len(values) < 2:
        return widest
    result = stats.bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        n_resamples=RESAMPLES,
        batch=BATCH,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    low, high = sorted(float(bound) for bound in result.confidence_interval)  # equal scores round to low > high
    return low, high
