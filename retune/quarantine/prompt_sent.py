"""The messages of the request for a row: rendered again from the same template, document and draws.

They are not stored, because they follow from what is stored. The id of the request tells whether they are the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from flows.recipe.paths import Project
from flows.recipe.read import read_recipe
from flows.report.record import RunRecord
from retune.revisions import SHORT, TEMPLATE, committed, revisions_of
from tasks.core.artifacts import ArtifactRef
from tasks.core.errors import RetuneError
from tasks.core.prompts import SUFFIX, FewShot, Prompt, read_prompt
from tasks.core.prompts.rendering import Renderer
from tasks.generate.documents import TrainingDocuments
from tasks.generate.request_plan import PlannedRow, Teacher, plan_rows, retry
from tasks.generate.sampling import ExamplePool

MOST_REVISIONS = 100
"""Commits of the templates' folder that are searched for the template that was used."""


@dataclass(frozen=True)
class Sent:
    """The request for a row.

    Attributes:
        messages: as (role, text); empty if they cannot be rendered.
        note: how reliable they are, and where the template was found.
        seed, sampling: of the request; None if unknown.
    """

    messages: tuple[tuple[str, str], ...]
    note: str
    seed: int | None = None
    sampling: Mapping[str, Any] | None = None


def prompt_sent(row: Mapping[str, Any], generated: ArtifactRef, documents: Path, record: RunRecord) -> Sent:
    """Render a row's prompt again.

    Args:
        row: ``row_id``, ``prompt``, ``prompt_digest``, ``request_id``, ``document_id`` and ``attempts``.
        generated: the artifact of the generate stage that the row is from.
        documents: the training documents that the row was generated from.
    """
    determined = generated.manifest()["determinants"]
    with contextlib.ExitStack() as stack:
        template, found = stack.enter_context(_template(row["prompt"], row["prompt_digest"], record))
        if template is None:
            return Sent((), found)
        plan = _planned(row, template, documents, determined)
        if plan is None:
            return Sent((), f"{found}; its document is no longer among the training documents")
        if plan.request is None:
            return Sent((), f"{found}; it could not be rendered: {plan.problem}")
        plan = retry(plan, row["attempts"] or 1)
        assert plan.request is not None
        messages = tuple((turn["role"], str(turn["content"])) for turn in plan.request.messages)
        same = "the request's id is the same, so this is what was sent"
        other = "but the request's id differs, so this may differ from what was sent"
        note = f"{found}; {same if plan.request.request_id == row['request_id'] else other}"
        return Sent(messages, note, plan.request.seed, plan.request.sampling.model_dump())


@contextlib.contextmanager
def _template(name: str, digest: str, record: RunRecord) -> Iterator[tuple[Prompt | None, str]]:
    paths = _template_paths(name, record)
    for path in paths:
        if (prompt := _read(path)) and prompt.digest == digest:
            yield prompt, f"rendered again from {path}"
            return
    for path in paths:
        for revision in revisions_of(path.parent, MOST_REVISIONS):
            with committed(path, revision, TEMPLATE) as copy:
                if (prompt := _read(copy.path)) and prompt.digest == digest:
                    yield prompt, f"the template has changed since: rendered again from {path.name} of {copy.revision}"
                    return
    is_there = any(path.is_file() for path in paths)
    changed = "has changed since, and Git does not have it as it was" if is_there else "is gone"
    yield None, f"the template of this row (digest {digest[:SHORT]}) {changed}"


def _template_paths(name: str, record: RunRecord) -> list[Path]:
    named: Sequence[str] = ()
    with contextlib.suppress(RetuneError):
        recipe = read_recipe(record.started_as or record.recipe)
        named = recipe.generate.prompts if recipe.generate else ()
    here = Project().prompts / f"{name}{SUFFIX}"
    return list(dict.fromkeys([*(path for path in map(Path, named) if path.stem == name), here]))


def _read(path: Path) -> Prompt | None:
    with contextlib.suppress(RetuneError, OSError):
        return read_prompt(path)
    return None


def _planned(
    row: Mapping[str, Any], prompt: Prompt, documents: Path, determined: Mapping[str, Any]
) -> PlannedRow | None:
    """The row as it was planned; few-shot examples are drawn from all documents, as they were then."""
    config = determined["config"]
    fields = [*config["fields"], *prompt.head.document_fields]
    names = [name for name in dict.fromkeys(["document_id", *fields]) if name in pq.read_schema(documents).names]
    found = pq.read_table(documents, columns=names, filters=[("document_id", "==", row["document_id"])]).to_pylist()
    draws_examples = any(isinstance(variable, FewShot) for variable in prompt.head.variables.values())
    pool = ExamplePool(TrainingDocuments(documents, fields) if draws_examples else found)
    teacher = Teacher("", determined["files"]["teacher"], config["engine"])
    with Renderer() as renderer:
        plans = plan_rows(found, [prompt], teacher, config["seed"], renderer, pool)
    planned_id = row["row_id"].partition("-")[0]  # an answer with several rows numbers them after a dash
    return next((plan for plan in plans if plan.row_id == planned_id), None)
