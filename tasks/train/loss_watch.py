"""Watches the loss while a model trains, and stops a run that learns nothing or diverges."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from tasks.core.errors import TrainingError

RECENT = 10  # losses per median, and the logged steps in a row that must show a fault
BEGINNING = 3  # losses at the start, before a much too high learning rate shows
DIVERGED = 2.0  # a run diverges when a later median exceeds the best one by this factor
NO_GRADIENT = 1e-7
LEARNT = 0.05  # nats: a loss below this cannot fall much further
PATIENCE = 100  # steps after warm-up before a loss can count as flat
SHORTEST_WINDOW, WINDOW_SHARE = 50, 0.25
SMALLEST_FALL, NOTICEABLE_FALL = 0.005, 0.03
"""Shares of the first mean: a smaller fall counts as none; a larger one would be visible."""


class LossWatch:
    """Stops a training whose loss is not finite, diverges, or stays flat.

    Diverging, for 10 logged steps in a row: the median of the last 10 losses exceeds twice the best such median and
    the first one, and nearly all of these losses exceed nearly all of the best 10; or the same against the first 3.
    Flat, for 20 logged steps in a row: the mean of the latest window (50 steps, or a quarter of a longer run) is not
    lower than the first window's by half a percent or one standard error, although a fall by 3 % would have been
    visible, and not noticeably lower than the mean of the first 3, 5, 10, 20 or 50 steps.

    On synthetic losses, medians alone stopped 78 % of healthy runs whose losses scatter by a factor of 2, and windows
    alone over a quarter of runs that fall from 1.4 to 1.0 within 20 of 800 steps. The other conditions make that 3 %
    and 0.3 %, and still stop every run that climbs to 2.5 times its loss. A short run with a noisy loss is rarely
    called flat: it looks like one that learns slowly, and the evaluation decides. The loss of a run that ``continues``
    a trained adapter need not fall.
    """

    def __init__(self, planned_steps: int, warmup_steps: int, continues: bool = False) -> None:
        self._warmup, self._continues = warmup_steps, continues
        self._window = max(SHORTEST_WINDOW, math.ceil(WINDOW_SHARE * planned_steps))
        self._steps: list[int] = []
        self._losses: list[float] = []
        self._first: list[float] = []
        self._best: list[float] = []
        self._had_gradient = False
        self._in_a_row = {"no gradient": 0, "diverging": 0, "flat": 0}

    def recall(self, history: Iterable[Mapping[str, Any]]) -> None:
        """Load the log of a resumed run (``log_history`` of a trainer's state) without checking it again."""
        for entry in history:
            if "loss" in entry:
                self._note(int(entry["step"]), float(entry["loss"]), entry.get("grad_norm"))

    def check(self, step: int, loss: float, grad_norm: float | None) -> None:
        """Raise a TrainingError if the run should stop after this loss (nats per token); a norm of None is unknown."""
        require_finite(step, {"loss": loss, "gradient": grad_norm})
        self._note(step, loss, grad_norm)
        self._require_gradient(step, loss)
        self._require_no_divergence(step)
        self._require_fall(step)

    def _note(self, step: int, loss: float, grad_norm: float | None) -> None:
        self._steps.append(step)
        self._losses.append(loss)
        if grad_norm is not None:
            self._count("no gradient", grad_norm < NO_GRADIENT)
            self._had_gradient |= grad_norm >= NO_GRADIENT
        if len(self._losses) >= RECENT:
            latest = self._losses[-RECENT:]
            self._first = self._first or latest
            if not self._best or median(latest) < median(self._best):
                self._best = latest
            self._count("diverging", self._is_diverging(latest))

    def _count(self, fault: str, shows: bool) -> int:
        self._in_a_row[fault] = self._in_a_row[fault] + 1 if shows else 0
        return self._in_a_row[fault]

    def _is_diverging(self, latest: Sequence[float]) -> bool:
        beginning = self._losses[:BEGINNING]
        came_apart = len(self._losses) >= RECENT + BEGINNING and _is_far_above(latest, beginning, max(beginning))
        is_above_best = _is_far_above(latest, self._best, sorted(self._best)[-2])
        return came_apart or (is_above_best and median(latest) > median(self._first))

    def _require_gradient(self, step: int, loss: float) -> None:
        has_learnt_all = self._had_gradient and loss <= LEARNT
        if self._in_a_row["no gradient"] >= RECENT and not has_learnt_all:
            raise TrainingError(
                f"Nothing is being trained: the gradient was below {NO_GRADIENT:g} for {RECENT} logged steps in a row,"
                f" with a loss of {loss:.3g}",
                where=f"step {step}",
                remedy="check that masking.json marks the tokens to train on, else change train.train_on or"
                " train.chat_template; check that train.target_modules names layers that the model uses; or try"
                " compute_dtype: float32",
            )

    def _require_no_divergence(self, step: int) -> None:
        if self._in_a_row["diverging"] >= RECENT:
            raise TrainingError(
                f"The loss diverges: the median of the last {RECENT} logged steps is"
                f" {median(self._losses[-RECENT:]):.3g}, after {median(self._best):.3g} at best and"
                f" {median(self._losses[:BEGINNING]):.3g} at first",
                where=f"step {step}",
                remedy="lower train.learning_rate, for example to a third, raise train.warmup_steps, or lower"
                " train.rank; with compute_dtype bfloat16, try float32",
            )

    def _require_fall(self, step: int) -> None:
        if self._continues or step < self._warmup + PATIENCE:
            return
        first = self._losses[: bisect_right(self._steps, self._steps[0] + self._window - 1)]
        after = bisect_right(self._steps, step - self._window)
        latest = self._losses[after:]
        if after >= len(first) and self._count("flat", _is_flat(first, latest)) >= 2 * RECENT:
            raise TrainingError(
                f"The loss stays flat: {fmean(latest):.4g} on average over the last {self._window} steps, and"
                f" {fmean(first):.4g} over the first {self._window}",
                where=f"step {step}",
                remedy="raise train.learning_rate, three to ten times, or train.rank; check in masking.json that the"
                " trained tokens follow from those before them, and that train.chat_template is the model's; if the"
                " base can do the task already, train fewer steps",
            )


def _is_far_above(latest: Sequence[float], before: Sequence[float], highest: float) -> bool:
    return median(latest) > DIVERGED * median(before) and sorted(latest)[1] > highest


def _is_flat(first: Sequence[float], latest: Sequence[float]) -> bool:
    if min(len(first), len(latest)) < RECENT or fmean(latest) <= LEARNT:
        return False
    mean = fmean(first)
    fall, error = _fall(first, latest)
    if fall + 2 * error >= NOTICEABLE_FALL * mean or fall > max(SMALLEST_FALL * mean, error):
        return False
    # A run that learns fast falls in its first steps only, a small part of a long window.
    early = [_fall(first[:count], latest) for count in (3, 5, RECENT, 2 * RECENT, 5 * RECENT)]
    return all(fall <= max(NOTICEABLE_FALL * mean, error) for fall, error in early)


def _fall(begin: Sequence[float], latest: Sequence[float]) -> tuple[float, float]:
    error = math.sqrt(_variance(begin) / len(begin) + _variance(latest) / len(latest))
    return fmean(begin) - fmean(latest), error


def _variance(values: Sequence[float]) -> float:
    """Of the sample; statistics.variance is hundreds of times slower."""
    mean = fmean(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def require_finite(step: int, values: Mapping[str, float | None]) -> None:
    """Raise a TrainingError for a value, by name, that is not a finite number; None is unknown."""
    for name, value in values.items():
        if value is not None and not math.isfinite(value):
            remedy = "lower train.learning_rate, raise train.warmup_steps, or try compute_dtype: float32"
            raise TrainingError(f"The {name} became {value} at step {step}", where=f"step {step}", remedy=remedy)
