"""The comparison of two templates as one HTML file, without scripts and without other files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from retune.display_text import Piece, shortened, visible, word_changes
from retune.prompts.comparison_lines import footnote, readings, reasons, sentence
from retune.prompts.report import DiffReport, Sample, outcome_counts
from retune.prompts.trials import Trial, judgement_text, verdict
from tasks.core.errors import MachineError
from tasks.core.files import write_text

MOST_SAMPLES = 60
LINE_KINDS = {"+": "added", "-": "removed", "@": "place"}


@dataclass(frozen=True)
class Side:
    """One template's half of a sample: its verdict, its answer in pieces, and what was sent."""

    title: str
    kept: bool
    verdict: str
    pieces: list[Piece]
    judges: list[tuple[str, bool, str]]
    turns: list[tuple[str, str]]


@dataclass(frozen=True)
class Scale:
    """The yield's interval on a line 200 wide, with zero at 100; ``limit`` is in points of yield at either end."""

    limit: float
    low: float
    middle: float
    high: float


def diff_page(report: DiffReport) -> str:
    """The page as HTML; all text of models, documents and authors is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_without_control_codes,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = report.by_outcome[:MOST_SAMPLES]
    values: dict[str, Any] = {
        "report": report,
        "readings": readings(report.comparison),
        "sentence": sentence(report.comparison),
        "footnote": footnote(report.comparison),
        "reasons": reasons(report.comparison),
        "scale": _scale(report),
        "counts": outcome_counts(report.samples),
        "changes": [
            (change.name, [(LINE_KINDS.get(line[:1], "same"), line) for line in change.lines])
            for change in report.changes
        ],
        "samples": [(number, sample, *_sides(sample)) for number, sample in enumerate(shown, 1)],
        "left_out": len(report.samples) - len(shown),
    }
    return environment.get_template("page.html.jinja").render(values)


def write_page(report: DiffReport, path: Path) -> Path:
    """Write the page atomically; returns its path."""
    try:
        write_text(path, diff_page(report))
    except OSError as error:
        raise MachineError(
            f"The page cannot be written: {error.strerror}", where=str(path), remedy="name another place with --html"
        ) from error
    return path.resolve()


def _without_control_codes(value: Any) -> Any:
    """Each value before it is escaped; the result of a macro was treated already."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _scale(report: DiffReport) -> Scale:
    change = report.comparison.yield_change
    widest = max(abs(change.ci_low), abs(change.ci_high), abs(change.difference))
    limit = next(step for step in (0.05, 0.1, 0.25, 0.5, 1.0) if widest <= step or step == 1.0)
    return Scale(100 * limit, *(100 + 100 * at / limit for at in (change.ci_low, change.difference, change.ci_high)))


def _sides(sample: Sample) -> tuple[Side, Side]:
    texts = [shortened(trial.answer or "") for trial in (sample.before, sample.after)]
    left, right = word_changes(*texts)
    return _side("committed", sample.before, left), _side("edited", sample.after, right)


def _side(title: str, trial: Trial, pieces: list[Piece]) -> Side:
    problems = [row.rule for row in trial.rows if row.rule is not None]
    judgements = [judgement for row in trial.rows for judgement in row.judgements]
    return Side(
        title,
        bool(trial.kept),
        verdict(trial),
        pieces if trial.answer is not None else [Piece("same", problems[0] if problems else "")],
        [(found.judge, found.passed, shortened(judgement_text(found), 300)) for found in judgements],
        [(turn["role"], shortened(str(turn["content"]))) for turn in trial.messages],
    )
