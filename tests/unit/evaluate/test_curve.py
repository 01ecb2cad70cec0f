"""What follows from the last step of a learning curve."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.curve import Point, draw_curve, last_gain
from tasks.evaluate.statistics import Difference


def gain(difference: float, low: float, high: float, rows: tuple[int, int] = (100, 200)) -> Any:
    before, last = (Point(share, count, 0.5, (0.4, 0.6)) for share, count in zip((0.5, 1.0), rows, strict=True))
    return last_gain(before, last, Difference(difference, low, high, 0.5), EvaluateConfig())


@pytest.mark.parametrize(
    ("low", "high", "advice"),
    [
        (0.01, 0.09, "more data looks worth it"),
        (-0.09, -0.01, "the added rows did harm"),
        (-0.01, 0.009, "hardly helps"),
        (-0.05, 0.05, "this holdout cannot tell"),
    ],
)
def test_the_interval_decides_what_is_advised(low: float, high: float, advice: str) -> None:
    assert advice in gain((low + high) / 2, low, high).sentence


def test_a_step_that_is_no_doubling_says_so_and_is_brought_to_one() -> None:
    found = gain(0.08, 0.02, 0.14, rows=(100, 400))
    assert found.sentence.startswith("4 times the rows, from 100 to 400, changed accuracy by +8.0 points")
    assert found.per_doubling == pytest.approx(0.04) and found.factor == 4
    small = gain(0.0, -0.015, 0.015, rows=(100, 400))
    assert "hardly helps" in small.sentence, "0.015 for two doublings is less than a point for each"


def test_a_step_that_added_no_rows_says_so_and_advises_nothing() -> None:
    found = gain(0.1, 0.05, 0.2, rows=(100, 100))
    assert math.isfinite(found.per_doubling)
    assert (
        found.sentence == "The last step added no rows, 100 before and after: it does not show the effect of more data."
    )


def test_an_interval_is_told_with_the_confidence_that_it_has() -> None:
    before, last = (Point(share, count, 0.5, (0.4, 0.6)) for share, count in ((0.5, 100), (1.0, 200)))
    found = last_gain(before, last, Difference(0.1, 0.05, 0.2, 0.5), EvaluateConfig(confidence=0.975))
    assert "(97.5% interval +5.0 to +20.0)" in found.sentence


def test_the_picture_is_drawn_also_where_nothing_is_known(tmp_path: Path) -> None:
    point = {"fraction": 0.5, "rows": 0, "score": 0.0, "interval": [0.0, 1.0]}
    evaluation = {"metric": "token_f1", "confidence": 0.9, "n": 1, "base": 0.0, "intervals": {"base": [0.0, 1.0]}}
    draw_curve({**evaluation, "curve": [point, {**point, "fraction": 1.0}]}, tmp_path / "report" / "curve.png")
    assert (tmp_path / "report" / "curve.png").stat().st_size > 1000
