"""Plan the requests: a pure function of documents, prompts, teacher and seed.

A row's id consists of its prompt's name, its document and its number, so that it survives every edit. A request's id
covers everything that determines its answer, so that no request is sent twice.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tasks.core.errors import GenerationError
from tasks.core.files import canonical_json, digest_of
from tasks.core.json_text import strict_json
from tasks.core.prompts import DocumentField, FewShot, Prompt, Sampler
from tasks.core.prompts.rendering import Rendered, Renderer
from tasks.core.vllm.request import Request
from tasks.generate.sampling import Document, ExamplePool, draw_value

SEED_RANGE = 2**31
TYPES: dict[str, tuple[type, ...]] = {"number": (int, float), "boolean": (bool,), "list": (list,), "object": (dict,)}


@dataclass(frozen=True)
class Teacher:
    """The model that answers: its path or hub id, and the digest of its files, or of hub id and commit.

    ``engine``: name and version of the server software, and the settings that shape its answers.
    """

    name: str
    digest: str
    engine: str


@dataclass(frozen=True)
class PlannedRow:
    """A row to write or to judge.

    Attributes:
        row_id: stable across nights and template edits: prompt's name, document and index.
        values: initial fields: those of its document (for a judge, of the written row), overridden by sampled values.
        request: None if the template could not be rendered; ``problem`` says why.
        drawn: drawn values by variable: a sampler's value, or the ids of few-shot documents.
    """

    row_id: str
    prompt: Prompt
    values: Document
    request: Request | None
    problem: str = ""
    drawn: Mapping[str, str | list[str]] = field(default_factory=dict)


def plan_rows(
    documents: Iterable[Document],
    prompts: Iterable[Prompt],
    teacher: Teacher,
    seed: int,
    renderer: Renderer,
    pool: ExamplePool | None = None,
) -> list[PlannedRow]:
    """Plan, prompt by prompt, ``rows_per_document`` rows of every document, with different draws and seeds.

    ``pool`` has the training documents for few-shot draws; None: ``documents`` alone. Raises GenerationError: two rows
    would have the same id.
    """
    documents = list(documents)
    pool = pool or ExamplePool(documents)
    planned = []
    for prompt in prompts:
        drafts = [
            _draft(prompt, document, f"{prompt.name}:{document['document_id']}:{index}", seed, pool)
            for document in documents
            for index in range(prompt.head.rows_per_document)
        ]
        planned += _render(prompt, drafts, teacher, seed, renderer)
    twice = [row_id for row_id, count in Counter(row.row_id for row in planned).items() if count > 1]
    if twice:
        row = next(row for row in planned if row.row_id == twice[0])
        raise GenerationError(
            f"Two rows of the prompt {row.prompt.name!r} have the same id, {twice[0]}",
            where=f"document {row.values['document_id']}",
            remedy="name each prompt once; document ids must differ",
        )
    return planned


def plan_judging(
    judge: Prompt, rows: Sequence[Mapping[str, Any]], teacher: Teacher, seed: int, renderer: Renderer
) -> list[PlannedRow]:
    """One request to a judge for each written row (``raw``: the answer to judge); ``row_id`` is the judgement's own."""
    pool = ExamplePool([])
    drafts = [_draft(judge, row, f"{judge.name}:{row['row_id']}:{row['raw']}", seed, pool) for row in rows]
    return _render(judge, drafts, teacher, seed, renderer)


def retry(row: PlannedRow, attempt: int) -> PlannedRow:
    """The same row with another seed: the same ``row_id``, another ``request_id``; ``attempt`` 1 is the row itself."""
    if row.request is None or attempt == 1:
        return row
    digest = digest_of([row.request.request_id, row.request.seed, attempt])
    again = replace(row.request, request_id=digest, seed=int(digest[:12], 16) % SEED_RANGE)
    return replace(row, request=again)


def in_prefix_order(requests: Iterable[Request]) -> list[Request]:
    """Sort requests so that common beginnings are adjacent, for the server's prefix cache."""

    def beginning(request: Request) -> tuple[list[tuple[str, str]], str]:
        return [(turn["role"], turn["content"]) for turn in request.messages], request.request_id

    return sorted(requests, key=beginning)


@dataclass(frozen=True)
class _Draft:
    """A row before rendering: ``name`` determines its id and seed, ``given`` are the template's variables."""

    name: str
    values: Document
    given: Mapping[str, Any]
    drawn: Mapping[str, str | list[str]]
    problem: str = ""


class _Unfit(Exception):
    """A row lacks what its template needs; the message says what."""


def _draft(prompt: Prompt, document: Document, name: str, seed: int, pool: ExamplePool) -> _Draft:
    """Draw a row's values. Each draw has its own key, so that no variable affects another."""
    variables = prompt.head.variables
    keys = {variable: canonical_json([seed, name, variable]) for variable in variables}
    samplers = {variable: spec for variable, spec in variables.items() if isinstance(spec, Sampler)}
    sampled = {variable: draw_value(spec.values, keys[variable]) for variable, spec in samplers.items()}
    values = {**document, **sampled}
    drawn: dict[str, str | list[str]] = {**sampled}
    given: dict[str, Any] = {**sampled}
    try:
        for variable, spec in variables.items():
            if isinstance(spec, DocumentField):
                given[variable] = _typed(_field(document, spec.field or variable), spec)
            elif isinstance(spec, FewShot):
                examples = pool.draw(values, spec.count, keys[variable], spec.same, spec.fields)
                if not examples:
                    group = f" with the {spec.same} {values.get(spec.same)!r}" if spec.same else ""
                    raise _Unfit(f"no other training document{group} can serve as an example")
                given[variable] = [{field: _text(_field(one, field)) for field in spec.fields} for one in examples]
                drawn[variable] = [str(one["document_id"]) for one in examples]
    except _Unfit as unfit:
        return _Draft(name, values, {}, drawn, f"variable {variable!r}: {unfit}")
    return _Draft(name, values, given, drawn)


def _field(document: Document, name: str) -> Any:
    if name not in document:
        raise _Unfit(f"the document has no field {name!r}")
    return document[name]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _typed(value: Any, spec: DocumentField) -> Any:
    """A template's variable from a field: text unchanged, other types read as JSON and checked."""
    if spec.type == "text":
        return _text(value)
    try:
        read = strict_json(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        read = None
    is_odd = isinstance(read, bool) or (isinstance(read, float) and not math.isfinite(read))
    # Python counts True and infinity as numbers.
    if not isinstance(read, TYPES[spec.type]) or (spec.type == "number" and is_odd):
        raise _Unfit(f"{str(value)[:80]!r} is not of type {spec.type}")
    return read


def _render(
    prompt: Prompt, drafts: Sequence[_Draft], teacher: Teacher, seed: int, renderer: Renderer
) -> list[PlannedRow]:
    rendered = iter(renderer.render(prompt, [draft.given for draft in drafts if not draft.problem]))
    return [
        _planned(prompt, draft, Rendered(None, draft.problem) if draft.problem else next(rendered), teacher, seed)
        for draft in drafts
    ]


def _planned(prompt: Prompt, draft: _Draft, rendered: Rendered, teacher: Teacher, seed: int) -> PlannedRow:
    row_id = digest_of(draft.name)[:16]
    if rendered.messages is None:
        return PlannedRow(row_id, prompt, draft.values, None, rendered.problem, draft.drawn)
    sampling, output = prompt.head.sampling, prompt.head.output
    row_seed = int(digest_of([seed, draft.name])[:12], 16) % SEED_RANGE
    schema = output.json_schema if output.format == "json" else None
    # As text, because the teacher writes a schema's properties in their order.
    shaping = [sampling.model_dump(), row_seed, schema and json.dumps(schema)]
    request_id = digest_of([teacher.digest, teacher.engine, rendered.messages, *shaping])
    request = Request(request_id, rendered.messages, sampling, row_seed, schema)
    return PlannedRow(row_id, prompt, draft.values, request, "", draft.drawn)
