"""Losses that are healthy, however noisy, are left alone; each fault stops the run and says what to change."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable

import pytest

from tasks.core.errors import TrainingError
from tasks.train.loss_watch import LossWatch

SEEDS = range(12)
Curve = Callable[[int, random.Random], float]


def falling(start: float, end: float, steps: float, noise: float) -> Curve:
    """An exponential fall with Gaussian noise in proportion to the loss."""
    return lambda step, rng: abs((end + (start - end) * math.exp(-step / steps)) * (1 + noise * rng.gauss(0, 1)))


def scattered(start: float, end: float, steps: float, factor: float) -> Curve:
    """A fall with log-normal noise, as the losses of a few short answers have."""
    return lambda step, rng: (
        (end + (start - end) * math.exp(-step / steps)) * math.exp(math.log(factor) * rng.gauss(0, 1))
    )


def stopped(watch: LossWatch, losses: Iterable[float], first_step: int = 1, gradient: float | None = 1.0) -> str | None:
    """Where and why a run is stopped."""
    for step, loss in enumerate(losses, first_step):
        try:
            watch.check(step, loss, gradient)
        except TrainingError as error:
            return f"{error}"
    return None


def drawn(curve: Curve, steps: int, seed: int) -> list[float]:
    rng = random.Random(seed)
    return [curve(step, rng) for step in range(1, steps + 1)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("curve", "steps"),
    [
        (falling(1.0, 1.0, 1, 0.3), 60),
        (falling(1.8, 1.0, 15, 0.3), 60),
        (falling(1.8, 1.0, 15, 0.3), 150),
        (falling(1.4, 1.0, 20, 0.2), 400),
        (falling(2.5, 0.01, 30, 0.1), 400),
        (falling(1.3, 1.0, 200, 0.1), 400),
        (scattered(3.0, 0.1, 20, 2.0), 300),
        (scattered(3.0, 0.001, 20, 3.0), 300),
    ],
)
def test_healthy_losses_never_stop_a_run(curve: Curve, steps: int, seed: int) -> None:
    assert stopped(LossWatch(steps, warmup_steps=5), drawn(curve, steps, seed)) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_losses_that_only_scatter_do_not_diverge(seed: int) -> None:
    watch = LossWatch(300, warmup_steps=5, continues=True)
    assert stopped(watch, drawn(scattered(0.3, 0.3, 1, 1.6), 300, seed)) is None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("warm", "noise"), [(1.0, 0.3), (0.02, 0.5)])
def test_a_loss_that_climbs_and_stays_up_stops_within_forty_steps(seed: int, warm: float, noise: float) -> None:
    losses = drawn(falling(warm, warm, 1, noise), 30, seed) + drawn(falling(2.6, 2.6, 1, 0.2), 40, seed)
    said = stopped(LossWatch(200, warmup_steps=5), losses)
    assert said is not None
    assert "diverges" in said and "step" in said
    assert "lower train.learning_rate" in said and "warmup_steps" in said


def test_the_numbers_of_a_divergence_are_in_the_message() -> None:
    said = stopped(LossWatch(100, 0), [2.0] * 10 + [1.0] * 20 + [5.0] * 20)
    assert said is not None
    assert "is 5, after 1 at best and 2 at first" in said
    assert "where:  step 48" in said  # nine of ten are above the best from step 39 on


def test_a_loss_that_comes_apart_within_the_first_steps_is_stopped_too() -> None:
    said = stopped(LossWatch(100, 0), [2.0, 2.2, 1.9, 4.0] + [9.0, 11.0] * 20)
    assert said is not None
    assert "is 10, after 9 at best and 2 at first" in said
    assert "step 22" in said


def test_a_spike_of_a_few_steps_is_not_a_divergence() -> None:
    assert stopped(LossWatch(100, 0), [1.0] * 30 + [9.0] * 5 + [1.0] * 30) is None


def test_a_rise_after_everything_was_learnt_is_no_divergence_below_the_first_loss() -> None:
    assert stopped(LossWatch(90, 0), [3.0] * 10 + [0.001] * 40 + [0.4] * 40) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_a_loss_that_does_not_move_stops_soon_after_a_hundred_steps(seed: int) -> None:
    said = stopped(LossWatch(160, warmup_steps=5), drawn(falling(2.0, 2.0, 1, 0.01), 160, seed))
    assert said is not None
    assert "stays flat" in said and "over the first 50" in said
    assert "raise train.learning_rate" in said and "masking.json" in said and "chat_template" in said


def test_a_rising_loss_counts_as_flat() -> None:
    said = stopped(LossWatch(200, 5), [1.0 + step / 1000 for step in range(200)])
    assert said is not None and "stays flat: 1.099" in said


def test_a_long_run_is_judged_by_windows_of_a_quarter() -> None:
    watch = LossWatch(2000, warmup_steps=0)
    said = stopped(watch, [1.0] * 2000)
    assert said is not None and "over the last 500 steps" in said and "step 1019" in said


def test_a_flat_loss_is_no_fault_when_going_on_or_when_all_is_learnt_or_the_run_is_short() -> None:
    assert stopped(LossWatch(300, 5, continues=True), [1.0] * 300) is None
    assert stopped(LossWatch(300, 5), [0.04] * 300) is None
    assert stopped(LossWatch(100, 5), [1.0] * 100) is None


def test_ten_steps_without_a_gradient_stop_the_run() -> None:
    watch = LossWatch(100, 5)
    assert stopped(watch, [1.0] * 9, gradient=0.0) is None
    said = stopped(watch, [1.0], first_step=10, gradient=0.0)
    assert said is not None
    assert "Nothing is being trained" in said and "step 10" in said and "target_modules" in said


def test_a_gradient_now_and_then_is_one_and_none_is_needed_where_all_is_learnt() -> None:
    watch = LossWatch(100, 5)
    for step in range(1, 60):
        watch.check(step, 1.5 - step / 100, 0.0 if step % 10 else 1.0)
    learnt = LossWatch(200, 5)
    assert stopped(learnt, [2.0] * 5) is None
    assert stopped(learnt, [0.0] * 50, first_step=6, gradient=0.0) is None


def test_a_gradient_that_is_not_logged_is_not_missed() -> None:
    assert stopped(LossWatch(40, 5), [1.0] * 39, gradient=None) is None


@pytest.mark.parametrize(
    ("loss", "gradient", "named"), [(math.nan, 1.0, "loss became nan"), (1.0, math.inf, "gradient became inf")]
)
def test_what_is_no_number_stops_at_once(loss: float, gradient: float, named: str) -> None:
    with pytest.raises(TrainingError, match=rf"{named} at step 3(.|\n)*learning_rate(.|\n)*float32"):
        LossWatch(100, 5).check(3, loss, gradient)


def test_a_resumed_run_is_stopped_where_an_undisturbed_one_is() -> None:
    losses = [2.0] * 10 + [1.0] * 20 + [5.0] * 20
    resumed = LossWatch(100, 0)
    resumed.recall([{"step": step, "loss": loss, "grad_norm": 1.0} for step, loss in enumerate(losses[:40], 1)])
    resumed.recall([{"step": 40, "train_runtime": 3.0}])
    assert stopped(resumed, losses[40:], first_step=41) == stopped(LossWatch(100, 0), losses)
