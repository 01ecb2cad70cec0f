"""Every measure of drift moves with what it is for, and with nothing else."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from tasks.validate.drift.drift import DRIFT_COLUMNS, MEASURES, SINCE_BASELINE, distance, explain, measure_drift
from tasks.validate.drift.profile import Counts, Lengths
from tests.unit.validate.drift.profiles import counts, made_up

MANY = 10**9
"""So many rows that chance explains nothing."""


def lengths(**bins: int) -> Lengths:
    return Lengths(characters={"p50": 40}, words={"p50": 8}, bins=counts(**bins))


def test_a_set_has_not_drifted_from_itself() -> None:
    assert set(measure_drift(made_up(), made_up(), made_up()).values()) == {0.0}


def test_nothing_is_measured_where_there_is_nothing_to_compare_with() -> None:
    assert measure_drift(made_up(), None, None) == dict.fromkeys(DRIFT_COLUMNS)
    half = measure_drift(made_up(), made_up(rows=2_000), None)
    assert half["row_count_change"] == -0.5 and half[f"row_count_change{SINCE_BASELINE}"] is None


@pytest.mark.parametrize(
    ("measure", "then", "now", "expected"),
    [
        ("row_count_change", {"rows": 400}, {"rows": 600}, 0.5),
        ("refusal_share_change", {"refusals": 0}, {"refusals": 100}, pytest.approx(0.1, abs=0.021)),
        ("self_similarity_change", {"self_similarity": 0.05}, {"self_similarity": 0.1}, pytest.approx(1)),
        ("self_similarity_change", {"self_similarity": 0.0001}, {"self_similarity": 0.0101}, pytest.approx(1)),
        ("distinct_change", {"distinct": {256: 0.9, 512: 0.8}}, {"distinct": {256: 0.1, 512: 0.4}}, -0.5),
        ("distinct_change", {"distinct": {256: 0.8}}, {"distinct": {256: 0.4, 512: 0.1}}, -0.5),
        ("label_distance", {"answers": counts(a=1_000)}, {"answers": counts(b=1_000)}, pytest.approx(1, abs=0.01)),
        ("source_distance", {"sources": counts(a=1_000)}, {"sources": counts(b=1_000)}, pytest.approx(1, abs=0.01)),
        ("prompt_distance", {"prompts": counts(a=1_000)}, {"prompts": counts(b=1_000)}, pytest.approx(1, abs=0.01)),
        ("language_distance", {"languages": counts(en=99)}, {"languages": counts(de=99)}, pytest.approx(1, abs=0.02)),
        ("user_length_distance", {"user": lengths(a=999)}, {"user": lengths(b=999)}, pytest.approx(1, abs=0.01)),
        (
            "assistant_length_distance",
            {"assistant": lengths(a=999)},
            {"assistant": lengths(b=999)},
            pytest.approx(1, abs=0.01),
        ),
    ],
)
def test_a_measure_moves_with_what_it_is_for_and_the_others_stay(
    measure: str, then: dict[str, object], now: dict[str, object], expected: float
) -> None:
    found = measure_drift(made_up(**now), made_up(**then), None)
    assert found[measure] == expected
    assert all(found[name] == 0 for name in MEASURES if name != measure)


def test_what_cannot_be_measured_is_left_out() -> None:
    found = measure_drift(made_up(self_similarity=None, distinct={}, rows=10, sample=0), made_up(rows=0), None)
    assert [name for name, value in found.items() if value is None and not name.endswith(SINCE_BASELINE)] == [
        "row_count_change", "refusal_share_change", "self_similarity_change", "distinct_change",
    ]  # fmt: skip
    assert distance(counts(), counts(a=1)) is None


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=8))
def test_of_many_rows_the_distance_is_that_of_jensen_and_shannon(rows: list[tuple[int, int]]) -> None:
    one, other = ([pair[side] for pair in rows] for side in (0, 1))
    if not sum(one) or not sum(other):
        return
    first, second = (counts(**{str(at): count * MANY for at, count in enumerate(side)}) for side in (one, other))
    found = distance(first, second)
    assert found == pytest.approx(jensenshannon(one, other, base=2), abs=1e-3)
    assert found == distance(second, first)


@pytest.mark.parametrize(("rows", "labels"), list(product((40, 200, 1_000, 5_000), (2, 8, 150))))
def test_two_draws_from_one_source_are_told_apart_hardly_ever(rows: int, labels: int) -> None:
    rng = np.random.default_rng(rows + labels)
    shares = rng.dirichlet(np.ones(labels))
    found = []
    for _ in range(100):
        draws = (rng.multinomial(rows, shares) for _ in range(2))
        one, other = (Counts(rows=rows, names={str(at): int(n) for at, n in enumerate(draw)}) for draw in draws)
        found.append(distance(one, other) or 0.0)
    assert np.quantile(found, 0.9) < 0.06
    assert max(found) < 0.2, "the nightly limit of the shipped contract"


def test_a_shift_is_seen_in_small_sets_as_well() -> None:
    even, odd = counts(a=50, b=50, c=50, d=50), counts(a=125, b=25, c=25, d=25)
    assert (distance(even, odd) or 0) > 0.2


def test_refusals_of_small_samples_are_not_told_from_chance() -> None:
    few = measure_drift(made_up(refusals=1, sample=40), made_up(refusals=0, sample=40), None)
    assert few["refusal_share_change"] == 0
    less = measure_drift(made_up(refusals=0), made_up(refusals=100), None)
    assert (less["refusal_share_change"] or 0) < -0.07


def test_every_measure_says_what_stands_behind_it() -> None:
    then = made_up(answers=counts(cards=500, bills=500), rows=1_000)
    now = made_up(answers=counts(cards=300, bills=100), rows=400, self_similarity=None)
    said = {name: explain(name, now, then) for name in DRIFT_COLUMNS}
    assert said["label_distance"] == "bills 50.0% then, 25.0% now; cards 50.0% then, 75.0% now"
    assert said["row_count_change_since_baseline"] == "1000 rows then, 400 now"
    assert said["user_length_distance"] == "median 40 characters then, 40 now"
    assert said["refusal_share_change"] == "10 of 1000 answers then, 10 of 1000 now"
    assert said["self_similarity_change"] == "mean similarity of two rows 0.050 then, - now"
    assert said["distinct_change"] == "distinct pairs of words, of 512 drawn: 0.800 then, 0.800 now"
