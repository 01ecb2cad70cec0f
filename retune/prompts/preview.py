"""``retune prompts preview``: what a template sends for a few documents, and the rows of the teacher's answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from flows.recipe.paths import Project
from flows.recipe.project import read_recipes
from flows.recipe.read import read_recipe
from flows.recipe.recipe import Recipe
from retune.lint_report import LintReport
from retune.prompts.documents import EXAMPLE, find_documents
from retune.prompts.lint import lint_prompts
from retune.prompts.lint_budget import cached_file
from retune.prompts.run_trials import Try, bench, plan_tries, unasked
from retune.prompts.trials import Trial
from retune.teacher import served_model
from tasks.core.config import ModelSource
from tasks.core.home import Home
from tasks.core.progress import say
from tasks.core.prompts import SUFFIX, read_prompt
from tasks.core.prompts.rendering import Renderer
from tasks.generate.request_plan import Teacher

OF_EXAMPLES = ("missing-example", "example-json", "example-variable", "render")
"""Findings that do not matter if other documents are used."""
DEFAULT = "embedded"
NO_TEACHER = Teacher("", "", "")
"""Plans requests that are only shown: their messages do not depend on the teacher."""


@dataclass(frozen=True)
class Preview:
    """A template tried on a few documents, one trial a row.

    Attributes:
        teacher: the model that answered; empty if it was not asked.
        documents: where the documents come from, in words.
        seconds: how long asking took, with the start of a teacher; 0 if it was not asked.
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
        return asdict(self)


def recipe_for(template: Path, named: str | None) -> str | None:
    """The recipe that a template is tried with: the one that is named, else one that names the template, or None.

    The recipe ``embedded`` is preferred among several.
    """
    if named is not None:
        return named
    found = [recipe.content.reference for recipe in read_recipes(Project(), [template])[0] if recipe.names(template)]
    if not found:
        say(
            f"columns not checked, as no recipe that names {template.name} was found: trying it with {DEFAULT};"
            " name one with --recipe"
        )
    return DEFAULT if DEFAULT in found else next(iter(found), None)


def template_path(name: str) -> Path:
    """The file of a template: a path, or a name in ``prompts/``."""
    return Path(name) if name.endswith(SUFFIX) or "/" in name else Project().prompts / f"{name}{SUFFIX}"


def template_faults(path: Path, recipe: str | None, documents: str) -> LintReport:
    """The linter's findings in a template, for a recipe if one is known; those in its example only if it is used."""
    report = lint_prompts([str(path)], recipe)
    if documents == EXAMPLE:
        return report
    return replace(report, findings=tuple(found for found in report.findings if found.code not in OF_EXAMPLES))


def preview(name: str, recipe_name: str, home: Home, *, rows: int, documents: str, run: bool) -> Preview:
    """Render a template for a few documents and, with ``run``, ask the teacher and the recipe's judges.

    ``documents``: ``example``, ``recipe``, or a file. Raises RetuneError: the template, the recipe or the documents are
    not valid, or the teacher does not answer.
    """
    prompt = read_prompt(template_path(name))
    recipe = read_recipe(recipe_name)
    material = find_documents(documents, prompt, recipe, home, rows)
    teacher, seconds, started = "", 0.0, time.monotonic()
    if run:
        with bench(recipe, home) as tried:
            tries = plan_tries(prompt, material, tried.teacher, recipe.seed, tried.renderer, rows)
            trials, teacher = tried.ask(prompt, tries), tried.teacher.name
        seconds = round(time.monotonic() - started, 2)
    else:
        with Renderer() as renderer:
            trials = _counted(plan_tries(prompt, material, NO_TEACHER, recipe.seed, renderer, rows), recipe)
    return Preview(prompt.name, str(prompt.path), recipe.name, teacher, material.origin, run, seconds, tuple(trials))


def _counted(tries: Sequence[Try], recipe: Recipe) -> list[Trial]:
    served = served_model(recipe)
    assert recipe.generate is not None
    trials = [unasked(attempt) for attempt in tries]
    if recipe.generate.endpoints:
        return trials
    return [replace(trial, prompt_tokens=_text_tokens(served, trial.messages)) for trial in trials]


def _text_tokens(model: ModelSource, messages: Sequence[Mapping[str, Any]]) -> int | None:
    """Tokens of all turns' texts, without the few that a chat template adds; None without the model's tokenizer."""
    tokenizer = _tokenizer(model)
    if tokenizer is None:
        return None
    texts = [str(turn["content"]) for turn in messages]
    return sum(len(encoding.ids) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False))


@cache
def _tokenizer(model: ModelSource) -> Any:
    """The bare tokenizer: importing transformers for it would take seconds."""
    from tokenizers import Tokenizer

    path = Path(model.path) / "tokenizer.json" if model.is_local else cached_file(model, "tokenizer.json")
    if path is None or not path.is_file():
        return None
    try:
        return Tokenizer.from_file(str(path))
    except Exception:  # of its Rust code, which has no type of its own for a file that it cannot read
        return None
