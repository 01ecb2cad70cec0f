"""``retune prompts preview``: what a template sends for a few documents, and what the teacher makes of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flows.recipe.paths import PROMPTS
from flows.recipe.read import read_recipe
from flows.recipe.recipe import Recipe
from retune.lint_report import LintReport
from retune.prompts.documents import EXAMPLE, find_documents
from retune.prompts.lint import lint_prompts
from retune.prompts.run_trials import Try, bench, plan_tries, unasked
from retune.prompts.tokens import text_tokens
from retune.prompts.trials import Trial
from retune.teacher import served_model
from tasks.core.home import Home
from tasks.core.prompts import SUFFIX, read_prompt
from tasks.core.prompts.rendering import Renderer
from tasks.generate.request_plan import Teacher

OF_EXAMPLES = ("missing-example", "example-json", "example-variable", "render")
"""Findings that do not matter where other documents are used."""
NOBODY = Teacher("", "", "")
"""Plans what is only looked at: what is sent does not depend on who answers."""


@dataclass(frozen=True)
class Preview:
    """A template tried on a few documents.

    Attributes:
        prompt: its name.
        path: its file.
        recipe: whose teacher, judges and documents.
        teacher: the model that answered; empty where nobody was asked.
        documents: where the documents come from, in words.
        asked: whether the teacher was asked.
        seconds: what asking took, the start of a teacher included; 0 where it was not asked.
        trials: a row each.
    """

    prompt: str
    path: str
    recipe: str
    teacher: str
    documents: str
    asked: bool
    seconds: float
    trials: tuple[Trial, ...]

    def as_json(self) -> dict[str, Any]:
        """The same as JSON-like data."""
        return asdict(self)


def template_path(name: str) -> Path:
    """The file of a template: a path, or a name in ``prompts/``."""
    return Path(name) if name.endswith(SUFFIX) or "/" in name else PROMPTS / f"{name}{SUFFIX}"


def template_faults(path: Path, recipe: str, documents: str) -> LintReport:
    """What the linter says against trying a template; what it finds in its example only where that is used."""
    report = lint_prompts([str(path)], recipe)
    if documents == EXAMPLE:
        return report
    kept = tuple(finding for finding in report.findings if finding.code not in OF_EXAMPLES)
    return replace(report, findings=kept)


def preview(name: str, recipe_name: str, home: Home, *, rows: int, documents: str, run: bool) -> Preview:
    """Render a template for a few documents and, with ``run``, ask the teacher and the recipe's judges.

    Args:
        name: of the template, or its path.
        rows: how many at most.
        documents: ``example``, ``recipe``, or a file.

    Raises:
        RetuneError: the template, the recipe or the documents are no good, or the teacher does not answer.
    """
    prompt = read_prompt(template_path(name))
    recipe = read_recipe(recipe_name)
    material = find_documents(documents, prompt, recipe, home, rows)
    teacher = ""
    started = time.monotonic()
    if run:
        with bench(recipe, home) as tried:
            tries = plan_tries(prompt, material, tried.teacher, recipe.seed, tried.renderer, rows)
            trials, teacher = tried.ask(prompt, tries), tried.teacher.name
        seconds = time.monotonic() - started
    else:
        with Renderer() as renderer:
            trials = _counted(plan_tries(prompt, material, NOBODY, recipe.seed, renderer, rows), recipe)
        seconds = 0.0
    return Preview(
        prompt.name, str(prompt.path), recipe.name, teacher, material.said, run, round(seconds, 2), tuple(trials)
    )


def _counted(tries: Sequence[Try], recipe: Recipe) -> list[Trial]:
    """What is sent, with its tokens where the teacher's tokenizer is at hand."""
    served = served_model(recipe)
    assert recipe.generate is not None
    trials = [unasked(one) for one in tries]
    if recipe.generate.endpoints:
        return trials
    return [replace(trial, prompt_tokens=text_tokens(served, trial.messages)) for trial in trials]
