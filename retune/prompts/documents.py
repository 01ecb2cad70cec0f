"""The documents that a template is tried on: its example, those of the recipe's last night, or a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.lib
import pyarrow.parquet as pq

from flows.night.jobs import collect_job
from flows.recipe.named_files import document_fields, row_fields
from flows.recipe.recipe import Recipe
from flows.report.record import latest_artifacts
from retune.prompts.lint_examples import example_path, is_shots, read_examples
from retune.prompts.lint_template import open_template
from tasks.core import tables
from tasks.core.errors import PromptError, SourceError
from tasks.core.findings import first_error
from tasks.core.home import Home
from tasks.core.progress import say
from tasks.core.prompts import DocumentField, FewShot, Prompt
from tasks.core.stage import run_stage
from tasks.core.tables import ROWS
from tasks.generate.documents import TrainingDocuments, applies, needed_fields
from tasks.generate.parse import is_storable

EXAMPLE, RECIPE = "example", "recipe"
RUN = "prompts"
"""The run id of a stage that runs to try a template."""

Document = Mapping[str, Any]
Spec = TypeVar("Spec", DocumentField, FewShot)


@dataclass(frozen=True)
class Material:
    """What a template is tried on.

    ``pool``: documents that few-shot examples are drawn from. ``origin``: where they come from, in words.
    """

    documents: Sequence[Document]
    pool: Sequence[Document]
    origin: str


def find_documents(source: str, prompt: Prompt, recipe: Recipe, home: Home, most: int) -> Material:
    """The first ``most`` documents that a template applies to.

    ``source``: ``example``: the template's own (examples/NAME.json next to it); ``recipe``: training documents of the
    recipe's last night, or for a judge the rows that it wrote; else a file: JSON (an object or a list), JSONL, CSV or
    Parquet. Raises PromptError: the template has no usable example; SourceError: the file cannot be read, or no
    document has the fields that the template reads.
    """
    if source == RECIPE:
        return _of_recipe(prompt, recipe, home, most)
    if source == EXAMPLE:
        return _of_examples(prompt, recipe, most)
    origin = f"the rows of {source}"
    documents = _read(Path(source))
    collected = _last_artifact(home, recipe.name, "collect")
    pool = _training_documents(collected, prompt, recipe) if collected else documents
    chosen = _chosen(documents, prompt, most, origin)
    return Material([_completed(document, prompt, recipe) for document in chosen], pool, origin)


def _chosen(documents: Iterable[Document], prompt: Prompt, most: int, origin: str) -> list[Document]:
    chosen: list[Document] = []
    skipped = 0
    for document in documents:
        if len(chosen) == most:
            break
        if applies(prompt, document):
            chosen.append(document)
        else:
            skipped += 1
    if not chosen:
        raise SourceError(
            f"None of the documents has all fields that the template reads: {', '.join(needed_fields(prompt))}",
            where=origin,
            remedy="name others with --documents, or correct the template's variables",
        )
    if skipped:
        say(f"skipped {skipped} of {origin}: they lack a field that the template reads")
    return chosen


def _completed(document: Document, prompt: Prompt, recipe: Recipe) -> Document:
    """A document with all fields of the recipe; a missing one has its name in brackets as its value: ``(queue)``."""
    return {**{name: f"({name})" for name in (*document_fields(recipe), *prompt.head.document_fields)}, **document}


def _training_documents(collected: Path, prompt: Prompt, recipe: Recipe) -> TrainingDocuments:
    return TrainingDocuments(collected / tables.TRAIN, [*document_fields(recipe), *prompt.head.document_fields])


def _of_recipe(prompt: Prompt, recipe: Recipe, home: Home, most: int) -> Material:
    collected = _last_artifact(home, recipe.name, "collect")
    origin = "the training documents of the recipe's last night"
    if collected is None:
        say(f"the recipe {recipe.name} has had no night yet: collecting its documents")
        collected = run_stage(collect_job(recipe, home), home, RUN).ref.folder
        origin = "the recipe's training documents"
    pool = _training_documents(collected, prompt, recipe)
    candidates: Sequence[Document] = pool
    if prompt.head.judge is not None:
        generated = _last_artifact(home, recipe.name, "generate")
        if generated is None:
            what, remedy = "No night has written rows for the judge yet", "run a night, or name rows with --documents"
            raise SourceError(what, where=f"recipe {recipe.name}", remedy=remedy)
        origin = "the rows that the recipe's last night kept"
        columns = ("row_id", "raw", *row_fields(recipe))
        candidates = TrainingDocuments(generated / ROWS, columns)
    return Material(_chosen(candidates, prompt, most, origin), pool, origin)


def _last_artifact(home: Home, recipe: str, stage: str) -> Path | None:
    return next((folder for _, folder in latest_artifacts(home, recipe, stage)), None)


def _of_examples(prompt: Prompt, recipe: Recipe, most: int) -> Material:
    """A template's examples as documents, with their few-shot examples as the pool.

    Values of samplers in an example are for the linter only: here they are drawn, as in a night.
    """
    template, findings = open_template(prompt.path)
    examples, found = read_examples(template) if template else ([], findings)
    if not examples:
        fault = first_error(found) or found[0]
        remedy = "; ".join(filter(None, [fault.remedy, "--documents recipe takes the recipe's own documents"]))
        raise PromptError(fault.what, where=fault.where, remedy=remedy)
    fields = [(name, spec.field or name) for name, spec in _variables(prompt, DocumentField)]
    documents = [
        _completed(one, prompt, recipe)
        for one in _named("example", [{field: one[name] for name, field in fields if name in one} for one in examples])
    ]
    shots = [
        # As if these documents had the same value as this one in the field that examples must share.
        {**({spec.same: document[spec.same]} if spec.same else {}), **item}
        for document, example in zip(documents, examples, strict=True)
        for name, spec in _variables(prompt, FewShot)
        if is_shots(shown := example.get(name))
        for item in shown
    ]
    return Material(documents[:most], _named("shot", shots), f"the examples in {example_path(prompt.path)}")


def _variables(prompt: Prompt, kind: type[Spec]) -> list[tuple[str, Spec]]:
    return [(name, spec) for name, spec in prompt.head.variables.items() if isinstance(spec, kind)]


def _named(prefix: str, rows: Sequence[Document]) -> list[Document]:
    return [{"document_id": f"{prefix}-{number}", **row} for number, row in enumerate(rows, 1)]


def _read(path: Path) -> list[Document]:
    """The rows of a file; the id of a row without a ``document_id`` is the file's name and its number."""
    readers = {".json": _json, ".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise SourceError(
            "The format of the documents is not supported",
            where=str(path),
            remedy=f"'{EXAMPLE}', '{RECIPE}', or a file that ends with {', '.join(readers)}",
        )
    try:
        rows = reader(path)
    except (OSError, ValueError, csv.Error, pyarrow.lib.ArrowException, RecursionError) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise SourceError(f"The documents cannot be read: {what}", where=str(path)) from error
    if not all(isinstance(row, dict) for row in rows):
        raise SourceError("A document is not an object", where=str(path), remedy='write its fields: {"topic": "..."}')
    if not is_storable(json.dumps(rows, ensure_ascii=False, default=str)):
        raise SourceError("A document holds half of a surrogate pair, which is not a character", where=str(path))
    return _named(path.name, rows)


def _json(path: Path) -> list[Any]:
    data = json.loads(path.read_text(encoding="utf-8-sig"))
    return data if isinstance(data, list) else [data]


def _jsonl(path: Path) -> list[Any]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            raise ValueError(f"line {number} is not valid JSON: {error}") from error
    return rows


def _csv(path: Path) -> list[Any]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [
            {name: value for name, value in row.items() if name and value is not None} for row in csv.DictReader(file)
        ]


def _parquet(path: Path) -> list[Any]:
    rows: list[Any] = pq.read_table(path).to_pylist()
    return rows
