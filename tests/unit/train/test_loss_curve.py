from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from tasks.train.loss_curve import RATE, RESUMED, TREND, VALIDATION, draw_loss_curve, trend


def history(steps: int, resumed: tuple[int, ...] = (), rates: bool = True) -> list[dict[str, Any]]:
    rng = random.Random(1)
    found: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        loss = (1 + math.exp(-step / 10)) * (1 + 0.2 * rng.gauss(0, 1))
        found.append({"step": step, "loss": loss} | ({"learning_rate": 2e-4 * (1.2 - step / steps)} if rates else {}))
        if step in resumed:
            found.append({"step": step, "resumed": step})
    return [*found, {"step": steps, "train_runtime": 3.0}]


def columns_with(picture: Path, colour: str) -> list[int]:
    """Columns of the picture that have a pixel of about this colour."""
    pixels = matplotlib.image.imread(picture)[..., :3]
    wanted = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    found: list[int] = np.flatnonzero((np.abs(pixels - wanted) < 0.03).all(axis=2).any(axis=0)).tolist()
    return found


def test_the_curve_and_the_rate_go_over_the_whole_width(tmp_path: Path) -> None:
    draw_loss_curve(history(150), tmp_path / "report" / "loss.png")
    for colour in (TREND, RATE):
        columns = columns_with(tmp_path / "report" / "loss.png", colour)
        assert max(columns) - min(columns) > 900
    assert columns_with(tmp_path / "report" / "loss.png", RESUMED) == []


def test_each_resumption_is_marked_where_it_was(tmp_path: Path) -> None:
    draw_loss_curve(history(100, resumed=(25, 75)), tmp_path / "loss.png")
    marked, rates = columns_with(tmp_path / "loss.png", RESUMED), columns_with(tmp_path / "loss.png", RATE)
    a_step = (max(rates) - min(rates)) / 99
    for step in (25, 75):
        assert any(abs(column - min(rates) - (step - 1) * a_step) <= 3 for column in marked)


def test_the_validation_loss_is_drawn_from_before_the_first_step_to_the_end(tmp_path: Path) -> None:
    evaluated = [{"step": step, "eval_loss": 2 - step / 100} for step in (0, 50, 100)]
    draw_loss_curve([*evaluated, *history(100)], tmp_path / "loss.png")
    columns = columns_with(tmp_path / "loss.png", VALIDATION)
    assert max(columns) - min(columns) > 900
    draw_loss_curve(history(100), tmp_path / "without.png")
    assert columns_with(tmp_path / "without.png", VALIDATION) == []


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_runs_have_a_picture_too(steps: int, tmp_path: Path) -> None:
    draw_loss_curve(history(steps, rates=False), tmp_path / "loss.png")
    assert matplotlib.image.imread(tmp_path / "loss.png").shape[:2] == (616, 1210)


def test_without_a_logged_step_there_is_no_picture(tmp_path: Path) -> None:
    draw_loss_curve([{"step": 1, "train_runtime": 1.0}], tmp_path / "loss.png")
    assert list(tmp_path.iterdir()) == []


def test_the_trend_keeps_a_level_and_takes_most_of_the_noise() -> None:
    assert trend(np.full(50, 3.0)) == pytest.approx(3.0)
    noise = np.random.default_rng(1).standard_normal(400)
    assert trend(1 + noise).std() < 0.25
    assert trend(1 + noise).mean() == pytest.approx(1, abs=0.15)
