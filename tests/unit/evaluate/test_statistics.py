"""Intervals and tests: against published numbers, by their properties, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from tasks.evaluate.statistics import (
    Difference,
    mean_interval,
    paired_accuracy,
    paired_difference,
    paired_means,
    wilson,
)

pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200)
graded = st.lists(
    st.tuples(st.floats(0, 1, allow_subnormal=False), st.floats(0, 1, allow_subnormal=False)), min_size=2, max_size=30
)


def table(both: int, gained: int, lost: int, neither: int) -> Difference:
    one = [1.0] * both + [1.0] * gained + [0.0] * lost + [0.0] * neither
    other = [1.0] * both + [0.0] * gained + [1.0] * lost + [0.0] * neither
    return paired_accuracy(one, other, 0.95)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_matches_the_published_examples(successes: int, n: int, low: float, high: float) -> None:
    """Newcombe (1998), Statistics in Medicine 17:857, table I, method 3."""
    assert wilson(successes, n, 0.95) == pytest.approx((low, high), abs=5e-5)


def test_the_paired_interval_matches_a_published_example() -> None:
    """Airway hyper-responsiveness (Bentur et al. 2009): 1, 1, 7, 12; Fagerland et al. 2014, square-and-add."""
    found = table(1, 1, 7, 12)
    assert found.difference == pytest.approx(-6 / 21)
    assert (found.ci_low, found.ci_high) == pytest.approx((-0.507, -0.026), abs=5e-4)
    assert found.p_value == pytest.approx(stats.binomtest(1, 8).pvalue)


@given(pairs)
def test_bounds_are_ordered_and_hold_the_difference(rows: list[tuple[bool, bool]]) -> None:
    one, other = ([float(pair[side]) for pair in rows] for side in (0, 1))
    found = paired_accuracy(one, other, 0.95)
    assert -1 <= found.ci_low <= found.difference <= found.ci_high <= 1
    assert 0 < found.p_value <= 1
    low, high = mean_interval("accuracy", one, 0.95)
    assert 0 <= low <= sum(one) / len(one) <= high <= 1


@given(pairs)
def test_swapping_the_models_mirrors_the_interval(rows: list[tuple[bool, bool]]) -> None:
    one, other = ([float(pair[side]) for pair in rows] for side in (0, 1))
    forth, back = paired_accuracy(one, other, 0.95), paired_accuracy(other, one, 0.95)
    assert (back.difference, back.ci_low, back.ci_high) == pytest.approx(
        (-forth.difference, -forth.ci_high, -forth.ci_low)
    )
    assert back.p_value == pytest.approx(forth.p_value)


@given(pairs)
def test_more_confidence_is_a_wider_interval(rows: list[tuple[bool, bool]]) -> None:
    one, other = ([float(pair[side]) for pair in rows] for side in (0, 1))
    narrow, wide = (paired_accuracy(one, other, confidence) for confidence in (0.9, 0.99))
    assert wide.ci_low <= narrow.ci_low and narrow.ci_high <= wide.ci_high


@pytest.mark.parametrize("rates", [(0.6, 0.25, 0.05), (0.3, 0.1, 0.1), (0.05, 0.85, 0.02)])
def test_the_paired_interval_covers_the_truth_about_95_times_in_100(rates: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(1)
    both, gained, lost = rates
    draws = rng.multinomial(100, [both, gained, lost, 1 - sum(rates)], size=600)
    found = [table(*(int(count) for count in draw)) for draw in draws]
    covered = np.mean([one.ci_low <= gained - lost <= one.ci_high for one in found])
    assert 0.92 <= covered <= 0.985


@settings(max_examples=15, deadline=None)
@example([(0.17896359488976124, 0.0)] * 2)
@given(graded)
def test_graded_scores_mirror_when_swapped_and_never_leave_their_range(rows: list[tuple[float, float]]) -> None:
    one, other = ([pair[side] for pair in rows] for side in (0, 1))
    forth, back = paired_means(one, other, 0.95), paired_means(other, one, 0.95)
    assert back.difference == pytest.approx(-forth.difference, abs=1e-9)
    assert back.p_value == pytest.approx(forth.p_value, abs=0.02)
    assert forth.ci_low <= forth.ci_high
    low, high = mean_interval("token_f1", one, 0.95)
    assert -1e-9 <= low <= high <= 1 + 1e-9


def test_the_bootstrap_agrees_with_the_t_interval_where_both_hold() -> None:
    rng = np.random.default_rng(2)
    other = rng.uniform(0, 0.6, 200)
    one = np.clip(other + rng.normal(0.1, 0.1, 200), 0, 1)
    found = paired_difference("token_f1", list(one), list(other), 0.95)
    expected = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high), abs=2e-3)
    assert found.p_value < 0.001


def test_a_bootstrap_gives_the_same_answer_twice() -> None:
    one, other = [0.1, 0.5, 0.9, 0.4], [0.0, 0.5, 0.7, 0.6]
    assert paired_means(one, other, 0.95) == paired_means(one, other, 0.95)


def test_one_graded_row_proves_nothing() -> None:
    assert paired_means([1.0], [0.0], 0.95) == Difference(1.0, -1.0, 1.0, 1.0)
    assert mean_interval("token_f1", [0.5], 0.95) == (0.0, 1.0)
