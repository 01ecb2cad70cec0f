"""``retune prompts diff``: the same documents and seeds through the committed and the edited template."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.recipe.read import read_recipe
from flows.recipe.recipe import Recipe
from retune.prompts.documents import Material, find_documents
from retune.prompts.measure import compare
from retune.prompts.preview import template_path
from retune.prompts.report import DiffReport, FileChange, Sample, changed_lines
from retune.prompts.run_trials import Bench, bench, plan_tries
from retune.prompts.trials import Trial
from retune.revisions import TEMPLATE, Committed, committed
from tasks.core.errors import PromptError
from tasks.core.home import Home
from tasks.core.prompts import DocumentField, Prompt, read_prompt


@dataclass(frozen=True)
class Unchanged:
    """The template is the same as in a revision, so there is nothing to compare."""

    prompt: str
    revision: str

    def as_text(self) -> str:
        return f"{self.prompt} sends the same as in {self.revision}: there is nothing to compare"

    def as_json(self) -> dict[str, Any]:
        return {"prompt": self.prompt, "revision": self.revision, "changed": False}


def diff(name: str, recipe_name: str, home: Home, *, against: str, rows: int, documents: str) -> DiffReport | Unchanged:
    """Ask the teacher with both templates and compare the results.

    ``rows``: requests by each template, at most. ``documents``: ``recipe``, ``example``, or a file. Raises RetuneError:
    template, recipe, revision or documents are not valid, or the teacher does not answer.
    """
    edited = read_prompt(template_path(name))
    recipe = read_recipe(recipe_name)
    with committed(edited.path, against, TEMPLATE) as revision:
        if not revision.path.is_file():
            raise PromptError(
                f"The template is not in {against!r} ({revision.revision})",
                where=str(edited.path),
                remedy="a new template has nothing to compare with; try it: "
                + home.command("prompts", "preview", name, "--run", recipe=recipe.reference),
            )
        before = _read_committed(revision)
        if before.digest == edited.digest:
            return Unchanged(edited.name, revision.revision)
        material = _shared_documents(documents, before, edited, recipe, home, rows)
        with bench(recipe, home) as tried:
            pairs = _ask_both(before, edited, material, tried, rows)
            stats = tried.engine.stats
        return DiffReport(
            prompt=edited.name,
            path=str(edited.path),
            revision=revision.revision,
            subject=revision.subject,
            date=revision.date,
            recipe=recipe.name,
            teacher=tried.teacher.name,
            documents=material.origin,
            document_count=len({old.document_id for old, _ in pairs}),
            seed=recipe.seed,
            made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            asked=stats.asked,
            reused=stats.reused,
            comparison=compare([old for old, _ in pairs], [new for _, new in pairs], recipe.validate_.near_duplicates),
            samples=tuple(Sample(old, new) for old, new in pairs),
            changes=_changes(before, edited),
        )


def _read_committed(revision: Committed) -> Prompt:
    try:
        return read_prompt(revision.path)
    except PromptError as error:
        raise PromptError(
            f"The committed template cannot be read: {error.what}",
            where=revision.where(error.where),
            remedy="name another revision with --against",
        ) from error


def _shared_documents(source: str, before: Prompt, edited: Prompt, recipe: Recipe, home: Home, rows: int) -> Material:
    variables = dict(edited.head.variables)
    for name, spec in before.head.variables.items():
        if isinstance(spec, DocumentField):
            spec = spec.model_copy(update={"field": spec.field or name})
        # The same name may mean different fields in the two templates.
        variables[f"{name} (committed)" if name in variables else name] = spec
    both = replace(edited, head=edited.head.model_copy(update={"variables": variables}))
    return find_documents(source, both, recipe, home, rows)


def _ask_both(before: Prompt, edited: Prompt, material: Material, tried: Bench, rows: int) -> list[tuple[Trial, Trial]]:
    plans = [
        {(plan.document_id, plan.index): plan for plan in plan_tries(
            prompt, material, tried.teacher, tried.recipe.seed, tried.renderer, rows
        )}
        for prompt in (before, edited)
    ]  # fmt: skip
    old, new = (
        tried.ask(prompt, [plan for key, plan in plans[side].items() if key in plans[1 - side]])
        for side, prompt in enumerate((before, edited))
    )
    return list(zip(old, new, strict=True))


def _changes(before: Prompt, edited: Prompt) -> tuple[FileChange, ...]:
    names = [edited.path.name, *sorted({name for prompt in (before, edited) for name, _ in prompt.partials})]
    changes = [FileChange(name, changed_lines(_text(before.path, name), _text(edited.path, name))) for name in names]
    return tuple(change for change in changes if change.lines)


def _text(template: Path, name: str) -> str:
    file = template.parent / name
    return file.read_text(encoding="utf-8-sig") if file.is_file() else ""
