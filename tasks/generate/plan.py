"""What will be asked: a pure function of documents, prompts, teacher and seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.core.errors import PromptError
from tasks.core.files import digest_of
from tasks.core.prompts import Prompt
from tasks.core.vllm.client import Request

SEED_RANGE = 2**31


@dataclass(frozen=True)
class Teacher:
    """The model that answers.

    Attributes:
        name: its path or hub id, as the recipe says.
        digest: its revision: digest of its files, or of hub id and commit.
        engine: name and version of the server software, and the settings that shape its answers.
    """

    name: str
    digest: str
    engine: str


@dataclass(frozen=True)
class PlannedRow:
    """One row to be written.

    Attributes:
        row_id: stable across nights and template edits: prompt's name, document and index.
        values: the row's fields that the prompt may use.
        request: None where the template could not be rendered.
        problem: why not.
    """

    row_id: str
    prompt: Prompt
    values: Mapping[str, Any]
    request: Request | None
    problem: str = ""


def plan_rows(
    documents: Iterable[Mapping[str, Any]], prompts: Iterable[Prompt], teacher: Teacher, seed: int
) -> list[PlannedRow]:
    """Every prompt on every document, ``rows_per_document`` times with different seeds; prompt by prompt."""
    documents = list(documents)
    return [
        plan_row(prompt, f"{prompt.name}:{document['document_id']}:{index}", document, teacher, seed)
        for prompt in prompts
        for document in documents
        for index in range(prompt.head.rows_per_document)
    ]


def plan_row(prompt: Prompt, name: str, values: Mapping[str, Any], teacher: Teacher, seed: int) -> PlannedRow:
    """One request with a stable seed and an id made of everything that determines its answer."""
    row_id = digest_of(name)[:16]
    try:
        messages = prompt.render(values)
    except PromptError as error:
        return PlannedRow(row_id, prompt, values, None, error.what)
    row_seed = int(digest_of([seed, name])[:12], 16) % SEED_RANGE
    schema = prompt.head.output.json_schema if prompt.head.output.format == "json" else None
    sampling = prompt.head.sampling
    request_id = digest_of([teacher.digest, teacher.engine, messages, sampling.model_dump(), row_seed, schema])
    return PlannedRow(row_id, prompt, values, Request(request_id, messages, sampling, row_seed, schema))
