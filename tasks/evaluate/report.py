"""The evaluation as a Markdown page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from tasks.evaluate.curve import CURVE_PICTURE

ROWS = {
    "base": "base",
    "base_restricted": "base, only labels allowed (by likelihood)",
    "base_few_shot": "base, with examples in its prompt",
    "candidate": "candidate",
    "champion": "champion",
}
MAX_MISTAKES = 10
MAX_LABELS = 20
"""A larger confusion table is not readable."""
OTHER = "(something else)"


def evaluation_report(
    evaluation: dict[str, Any], answers: pd.DataFrame, probes: list[dict[str, str | None]], labels: Sequence[str]
) -> str:
    """Decision, rates, probes, confusion table and some of the candidate's mistakes."""
    parts = [
        f"# Evaluation: {evaluation['decision']}",
        evaluation["reason"],
        _rates(evaluation),
        *_curve(evaluation),
        "## Probes",
        _table(["prompt", "base", "candidate", "champion"], (probe.values() for probe in probes)),
    ]
    if 0 < len(labels) <= MAX_LABELS:
        parts += ["## What the candidate answered for each label", _confusion(answers, labels)]
    mistakes = answers[answers["candidate_score"] < 1].head(MAX_MISTAKES)
    parts += [f"## The candidate's mistakes (the first {MAX_MISTAKES})"]
    columns = ["question", "reference", "candidate", "base"]
    parts += ["None."] if mistakes.empty else [_table(columns, mistakes[columns].itertuples(index=False))]
    return "\n\n".join(parts) + "\n"


def _rates(evaluation: dict[str, Any]) -> str:
    percent = f"{100 * evaluation['confidence']:g}%"
    rows = [
        [title, _points(evaluation[reading]), " to ".join(_points(bound) for bound in evaluation["intervals"][reading])]
        for reading, title in ROWS.items()
        if evaluation[reading] is not None
    ]
    rows.append(["**candidate less base**", *_difference(evaluation)])
    if evaluation["against_champion"]:
        rows.append(["**candidate less champion**", *_difference(evaluation["against_champion"])])
    heading = f"{evaluation['metric']} on {evaluation['n']} rows"
    return _table([heading, "%", f"{percent} interval"], rows)


def _curve(evaluation: dict[str, Any]) -> list[str]:
    if "curve" not in evaluation:
        return []
    heading = ["fraction", "training rows", "%", f"{100 * evaluation['confidence']:g}% interval"]
    rows = [
        [point["fraction"], point["rows"], _points(point["score"]), " to ".join(map(_points, point["interval"]))]
        for point in evaluation["curve"]
    ]
    picture = f"![Learning curve]({CURVE_PICTURE})"
    return ["## Learning curve", evaluation["curve_gain"]["sentence"], _table(heading, rows), picture]


def _difference(found: dict[str, Any]) -> list[str]:
    bounds = f"{100 * found['ci_low']:+.1f} to {100 * found['ci_high']:+.1f} (p = {found['p_value']:.2g})"
    return [f"{100 * found['difference']:+.1f}", bounds]


def _points(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _confusion(answers: pd.DataFrame, labels: Sequence[str]) -> str:
    """Counts: a row per reference label, a column per answer."""
    by_folded = {label.strip().casefold(): label for label in labels}

    def named(texts: pd.Series[str]) -> pd.Series[str]:
        return texts.map(lambda text: by_folded.get(text.strip().casefold(), OTHER))

    counts = pd.crosstab(named(answers["reference"]), named(answers["candidate"]))
    columns = [label for label in (*labels, OTHER) if label in counts.columns]
    rows = [
        [label, *(counts.loc[label, column] for column in columns)]
        for label in (*labels, OTHER)
        if label in counts.index
    ]
    return _table(["reference", *columns], rows)


def _table(heading: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(escape(cell) for cell in line) + " |" for line in lines)


def escape(cell: Any) -> str:
    """A value as the text of a table cell, without markup."""
    text = "" if cell is None or cell is pd.NA else str(cell)
    for mark, escaped in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("`", "\\`"), ("[", "\\[")):
        text = text.replace(mark, escaped)
    return " ↵ ".join(text.splitlines())
