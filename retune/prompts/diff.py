"""``retune prompts diff``: the same documents and seeds through the committed and the edited template."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.recipe.read import read_recipe
from flows.recipe.recipe import Recipe
from retune.prompts.documents import Material, find_documents
from retune.prompts.measure import compare
from retune.prompts.preview import template_path
from retune.prompts.report import DiffReport, FileChange, Sample, changed_lines
from retune.prompts.run_trials import Bench, Try, bench, plan_tries
from retune.prompts.trials import Trial
from retune.revisions import TEMPLATE, Committed, committed
from tasks.core.errors import PromptError
from tasks.core.home import Home
from tasks.core.prompts import DocumentField, Prompt, read_prompt


@dataclass(frozen=True)
class Unchanged:
    """There is nothing to compare: what the template sends, and how it is read, is the same.

    Attributes:
        prompt: the template's name.
        revision: the commit it was compared with, shortened.
    """

    prompt: str
    revision: str

    def as_text(self) -> str:
        """As a sentence."""
        return f"{self.prompt} sends the same as in {self.revision}: there is nothing to compare"

    def as_json(self) -> dict[str, Any]:
        """The same as JSON-like data."""
        return {"prompt": self.prompt, "revision": self.revision, "changed": False}


def diff(name: str, recipe_name: str, home: Home, *, against: str, rows: int, documents: str) -> DiffReport | Unchanged:
    """Ask the teacher by both templates and compare what came of it.

    Args:
        name: of the template, or its path.
        against: a Git revision.
        rows: requests by each template, at most.
        documents: ``recipe``, ``example``, or a file.

    Raises:
        RetuneError: a template, the recipe, the revision or the documents are no good, or the teacher does not answer.
    """
    edited = read_prompt(template_path(name))
    recipe = read_recipe(recipe_name)
    with committed(edited.path, against, TEMPLATE) as revision:
        if not revision.path.is_file():
            raise PromptError(
                f"The template is not in {against!r} ({revision.revision})",
                where=str(edited.path),
                remedy=f"a new template has nothing to compare with: try retune prompts preview {edited.name} --run",
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
            documents=material.said,
            document_count=len({one.document_id for one, _ in pairs}),
            seed=recipe.seed,
            made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            asked=stats.asked,
            reused=stats.reused,
            comparison=compare(
                [one for one, _ in pairs], [other for _, other in pairs], recipe.validate_.near_duplicates
            ),
            samples=tuple(Sample(one, other) for one, other in pairs),
            changes=_changes(before, edited),
        )


def _read_committed(revision: Committed) -> Prompt:
    try:
        return read_prompt(revision.path)
    except PromptError as error:
        raise PromptError(
            f"The committed template cannot be read: {error.what}",
            where=revision.where(error.where),
            remedy="name a revision in which it can, with --against",
        ) from error


def _shared_documents(source: str, before: Prompt, edited: Prompt, recipe: Recipe, home: Home, rows: int) -> Material:
    """Documents that both templates apply to: those of the edited one that have what the committed one reads too."""
    variables = dict(edited.head.variables)
    for name, spec in before.head.variables.items():
        if isinstance(spec, DocumentField):
            spec = spec.model_copy(update={"field": spec.field or name})
        # A name that both have may stand for other fields in each.
        variables[f"{name} (committed)" if name in variables else name] = spec
    both = replace(edited, head=edited.head.model_copy(update={"variables": variables}))
    return find_documents(source, both, recipe, home, rows)


def _ask_both(before: Prompt, edited: Prompt, material: Material, tried: Bench, rows: int) -> list[tuple[Trial, Trial]]:
    """The trials of both, in pairs of one document and index."""

    def plan(prompt: Prompt) -> list[Try]:
        return plan_tries(prompt, material, tried.teacher, tried.recipe.seed, tried.renderer, rows)

    old, new = plan(before), plan(edited)
    shared = _keys(old) & _keys(new)
    sides = [tried.ask(prompt, [one for one in tries if (one.document_id, one.index) in shared])
             for prompt, tries in ((before, old), (edited, new))]  # fmt: skip
    return list(zip(*sides, strict=True))


def _keys(tries: Sequence[Try]) -> set[tuple[str, int]]:
    return {(one.document_id, one.index) for one in tries}


def _changes(before: Prompt, edited: Prompt) -> tuple[FileChange, ...]:
    """The template's own text, then the partials of either."""
    names = [edited.path.name, *sorted({name for prompt in (before, edited) for name, _ in prompt.partials})]
    changes = [FileChange(name, changed_lines(_text(before.path, name), _text(edited.path, name))) for name in names]
    return tuple(change for change in changes if change.lines)


def _text(template: Path, name: str) -> str:
    """A file beside a template; nothing where there is none."""
    file = template.parent / name
    return file.read_text(encoding="utf-8-sig") if file.is_file() else ""
