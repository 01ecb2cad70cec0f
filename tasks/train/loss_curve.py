"""The loss curve as a picture: the loss of every step, its trend, the validation loss, and the learning rate below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tasks.train.validation_loss import evaluations

Values = npt.NDArray[np.float64]
WIDTH, HEIGHT = 11.0, 5.6  # inches
TREND_SHARE, SHORTEST_TREND, LONGEST_TREND = 0.03, 2.0, 40.0
"""Standard deviation of the trend's window: a share of the steps, with a minimum and a maximum."""
RAW, TREND, RATE, RESUMED, VALIDATION = "#BBBBBB", "#0072B2", "#E69F00", "#D55E00", "#009E73"
"""From Okabe and Ito's palette for the colour-blind; the steps themselves are grey."""
HIGHEST_QUANTILE, HEADROOM = 0.99, 1.5
"""A loss above this multiple of the quantile is cut off, as it would flatten the rest."""


def draw_loss_curve(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw a PNG of a trainer's log: its entries with ``loss`` or ``eval_loss``; ``resumed`` marks where it resumed."""
    logged, validation = [entry for entry in history if "loss" in entry], evaluations(history)
    resumed = sorted({int(entry["resumed"]) for entry in history if "resumed" in entry})
    if not logged:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"text.parse_math": False, "font.size": 10}):
        figure = Figure(figsize=(WIDTH, HEIGHT))
        FigureCanvasAgg(figure)
        figure.set_layout_engine("constrained", w_pad=0.15, h_pad=0.12)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        _draw_loss(upper, logged, validation)
        _draw_rate(lower, logged)
        _mark_resumed(upper, lower, resumed)
        figure.savefig(path, dpi=110, metadata={"Software": None})


def trend(values: Values) -> Values:
    """A centred moving average with Gaussian weights, truncated at the ends."""
    deviation = min(max(SHORTEST_TREND, TREND_SHARE * len(values)), LONGEST_TREND)
    reach = int(min(3 * deviation, len(values) - 1))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    inside = slice(reach, reach + len(values))
    total, weight = (np.convolve(sums, weights)[inside] for sums in (values, np.ones(len(values))))
    return np.asarray(total / weight)


def _draw_loss(axes: Axes, logged: Sequence[Mapping[str, Any]], validation: Sequence[tuple[int, float]]) -> None:
    steps = np.array([entry["step"] for entry in logged], dtype=np.float64)
    losses = np.array([entry["loss"] for entry in logged], dtype=np.float64)
    smooth = trend(losses)
    marker = "." if len(steps) == 1 else ""
    axes.plot(steps, losses, color=RAW, linewidth=1.0, marker=marker, label="each logged step")
    axes.plot(steps, smooth, color=TREND, linewidth=2.2, label="trend")
    axes.annotate(
        _format_loss(smooth[-1]), (steps[-1], smooth[-1]), (6, 0), textcoords="offset points", va="center", color=TREND
    )
    measured = [loss for _, loss in validation]
    if validation:
        axes.plot(*zip(*validation, strict=True), color=VALIDATION, linewidth=2, marker="o", label="validation")
    usual = max(float(np.quantile(losses, HIGHEST_QUANTILE)), float(smooth.max()), *measured)
    every = [*losses.tolist(), *measured]
    highest = max(min(HEADROOM * usual, max(every) * 1.05), 1e-6)
    lowest = min(every)
    axes.set_ylim(0 if lowest < highest / 2 else lowest * 0.95, highest)
    axes.set_ylabel("loss (nats a token)")
    span = f"{_format_loss(smooth[0])} \u2192 {_format_loss(smooth[-1])}"
    axes.set_title(f"Loss, its trend: {span} in {steps[-1]:,.0f} steps", loc="left", fontweight="bold")
    axes.legend(loc="upper right", frameon=False)
    _bare(axes)


def _draw_rate(axes: Axes, logged: Sequence[Mapping[str, Any]]) -> None:
    known = [entry for entry in logged if entry.get("learning_rate") is not None]
    axes.plot([entry["step"] for entry in known], [entry["learning_rate"] for entry in known], color=RATE, linewidth=2)
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=False)
    axes.set_ylabel("learning rate")
    axes.set_xlabel("optimizer step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    axes.margins(x=0.015)
    _bare(axes)


def _mark_resumed(upper: Axes, lower: Axes, steps: Sequence[int]) -> None:
    for step in steps:
        for axes in (upper, lower):
            axes.axvline(step, color=RESUMED, linewidth=1.6, linestyle=(0, (4, 3)), zorder=1)
        upper.annotate(
            "resumed", (step, 1), (4, -4), xycoords=("data", "axes fraction"), textcoords="offset points",
            color=RESUMED, rotation=90, va="top", fontsize=9,
        )  # fmt: skip


def _format_loss(loss: float) -> str:
    return f"{loss:.3g}" if loss >= 0.001 else "<0.001"


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#EEEEEE", linewidth=0.8)
    axes.set_axisbelow(True)
