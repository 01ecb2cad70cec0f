"""The learning curve: the score of models trained on less data, and whether more data is worth it."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.core.artifacts import ArtifactRef
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.statistics import Difference, Interval, mean_interval, paired_difference

CURVE_PICTURE = "curve.png"
SMALL_GAIN = 0.01
"""Gain of a doubling: with an upper bound below this, more of the same data hardly helps."""
WIDE_RANGE = 4
"""Ratio of the largest to the smallest number of rows from which the axis is logarithmic."""


@dataclass(frozen=True)
class Smaller:
    """A model trained on a part of the training set (``fraction``: below 1), nested in the candidate's."""

    fraction: float
    trained: ArtifactRef

    @property
    def name(self) -> str:
        return f"fraction_{self.fraction:g}"


@dataclass(frozen=True)
class Point:
    fraction: float
    rows: int
    score: float
    interval: Interval


@dataclass(frozen=True)
class Gain:
    """The effect of the last enlargement of the training set, by ``factor``; ``per_doubling`` is scaled to factor 2."""

    factor: float
    per_doubling: float
    over_smaller: Difference
    sentence: str


def learning_curve(
    answers: pd.DataFrame, smaller: Sequence[Smaller], candidate: ArtifactRef, config: EvaluateConfig
) -> dict[str, Any]:
    """The keys ``curve`` and ``curve_gain`` of evaluation.json; none with a single training set.

    ``answers`` has the columns ``candidate_score`` and ``NAME_score`` of each smaller model, ``smaller`` is in order of
    size, ``candidate`` is the artifact trained on all rows.
    """
    if not smaller:
        return {}
    models = [(one.name, one.fraction, one.trained.rows) for one in smaller] + [("candidate", 1.0, candidate.rows)]
    scores = [[float(score) for score in answers[f"{name}_score"]] for name, _, _ in models]
    points = [
        Point(fraction, rows, sum(found) / len(found), mean_interval(config.metric, found, config.confidence))
        for (_, fraction, rows), found in zip(models, scores, strict=True)
    ]
    over = paired_difference(config.metric, scores[-1], scores[-2], config.confidence)
    gain = last_gain(points[-2], points[-1], over, config)
    return {"curve": [asdict(point) for point in points], "curve_gain": asdict(gain)}


def last_gain(before: Point, last: Point, over: Difference, config: EvaluateConfig) -> Gain:
    """The effect of the last step, and whether more data is worth it.

    The last two models can have equal numbers of rows, where a share of a small set is rounded up; that step shows
    nothing.
    """
    factor = last.rows / max(before.rows, 1)
    doublings = math.log2(factor) if factor > 1 else 1.0
    per_doubling = over.difference / doublings
    step = "Doubling the rows" if abs(factor - 2) < 0.1 else f"{factor:.2g} times the rows"
    interval = f"{100 * config.confidence:g}% interval {_points(over.ci_low)} to {_points(over.ci_high)}"
    sentence = (
        f"{step}, from {before.rows:,} to {last.rows:,}, changed {config.metric} by {_points(over.difference)} points"
        f" ({interval}): {_advice(over, doublings)}."
    )
    if last.rows <= before.rows:
        sentence = (
            f"The last step added no rows, {last.rows:,} before and after: it does not show the effect of more data."
        )
    return Gain(factor, per_doubling, over, sentence)


def _advice(over: Difference, doublings: float) -> str:
    if over.ci_low > 0:
        return "more data looks worth it"
    if over.ci_high < 0:
        return "the added rows did harm; check them before adding more"
    if over.ci_high / doublings < SMALL_GAIN:
        return "more of the same data hardly helps"
    return "this holdout cannot tell whether more data is worth it; a larger one could"


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.1f}"


def write_curve(path: Path, curve: Sequence[dict[str, Any]]) -> None:
    """Write the curve as a table: fraction, rows, score and interval."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["fraction", "rows", "score", "ci_low", "ci_high"])
        table.writerows([point["fraction"], point["rows"], point["score"], *point["interval"]] for point in curve)


def draw_curve(evaluation: dict[str, Any], path: Path) -> None:
    """Draw a PNG: score with interval against training rows, and the base's score."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curve = evaluation["curve"]
    rows, scores = [point["rows"] for point in curve], [point["score"] for point in curve]
    spans = [
        [max(point["score"] - point["interval"][0], 0.0) for point in curve],
        [max(point["interval"][1] - point["score"], 0.0) for point in curve],
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"text.parse_math": False, "font.size": 10}):
        figure = Figure(figsize=(7.0, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.axhspan(*evaluation["intervals"]["base"], color="0.9", linewidth=0)
        axes.axhline(evaluation["base"], color="0.45", linestyle="--", linewidth=1)
        axes.errorbar(rows, scores, yerr=spans, marker="o", capsize=4, color="#1f5f8b")
        if min(rows) > 0 and max(rows) >= WIDE_RANGE * min(rows):
            axes.set_xscale("log", base=2)
        axes.set_xticks(rows, [f"{count:,}\n{point['fraction']:.4g}" for count, point in zip(rows, curve, strict=True)])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(lambda score, _: f"{score:.0%}")
        axes.annotate("base", (1, evaluation["base"]), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                      xytext=(-4, 2), textcoords="offset points", color="0.35")  # fmt: skip
        axes.set_xlabel("training rows (and fraction of the training set)")
        axes.set_ylabel(f"{evaluation['metric']} with {100 * evaluation['confidence']:g}% interval")
        axes.set_title(f"Learning curve, {evaluation['n']:,} held-out rows", loc="left", fontweight="bold")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, dpi=110, metadata={"Software": None})
