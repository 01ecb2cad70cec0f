"""The documents that a template is tried on: its example, those of the recipe's last night, or a file's."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.lib
import pyarrow.parquet as pq

from flows.recipe.recipe import Recipe
from retune.prompts.lint_examples import example_path, is_shots, read_examples
from retune.prompts.lint_template import open_template
from tasks.core import tables
from tasks.core.errors import PromptError, SourceError
from tasks.core.findings import first_error
from tasks.core.home import Home
from tasks.core.progress import say
from tasks.core.prompts import DocumentField, FewShot, Prompt
from tasks.core.stage import run_stage
from tasks.generate.documents import TrainingDocuments, applies, needed_fields
from tasks.generate.parse import is_storable

EXAMPLE, RECIPE = "example", "recipe"
RUN = "prompts"
"""Stands for a run's id where a stage runs for the sake of a template."""

Document = Mapping[str, Any]
Spec = TypeVar("Spec", DocumentField, FewShot)


@dataclass(frozen=True)
class Material:
    """What a template is tried on.

    Attributes:
        documents: those that are tried, in order.
        pool: those that few-shot examples are drawn from.
        said: where they come from, in words.
    """

    documents: Sequence[Document]
    pool: Sequence[Document]
    said: str


def find_documents(source: str, prompt: Prompt, recipe: Recipe, home: Home, most: int) -> Material:
    """The documents that a template applies to, at most so many.

    Args:
        source: ``example``: the template's own (examples/NAME.json beside it); ``recipe``: training documents of the
            recipe's last night, a fair sample, and for a judge the rows that it wrote; else a file: JSON (an object or
            a list), JSONL, CSV or Parquet.

    Raises:
        PromptError: the template has no usable example.
        SourceError: the file cannot be read, or no document has the fields that the template reads.
    """
    if source == RECIPE:
        return _of_recipe(prompt, recipe, home, most)
    if source == EXAMPLE:
        return _of_examples(prompt, recipe, most)
    said = f"the rows of {source}"
    documents = _read(Path(source))
    collected = _last_artifact(home, recipe.name, "collect")
    pool = _training_documents(collected, prompt, recipe) if collected else documents
    return Material([_completed(one, prompt, recipe) for one in _chosen(documents, prompt, most, said)], pool, said)


def _chosen(documents: Iterable[Document], prompt: Prompt, most: int, said: str) -> list[Document]:
    """The first documents that a template applies to.

    Raises:
        SourceError: it applies to none.
    """
    chosen: list[Document] = []
    passed_over = 0
    for document in documents:
        if len(chosen) == most:
            break
        if applies(prompt, document):
            chosen.append(document)
        else:
            passed_over += 1
    if not chosen:
        raise SourceError(
            f"None of the documents has all fields that the template reads: {', '.join(needed_fields(prompt))}",
            where=said,
            remedy="name others with --documents, or correct the template's variables",
        )
    if passed_over:
        say(f"{passed_over} of {said} lack a field that the template reads, and were passed over")
    return chosen


def _completed(document: Document, prompt: Prompt, recipe: Recipe) -> Document:
    """A document with all fields that the night's have: those that it lacks stand in brackets, as ``(queue)``."""
    return {**{name: f"({name})" for name in (*recipe.fields, *prompt.head.document_fields)}, **document}


def _training_documents(collected: Path, prompt: Prompt, recipe: Recipe) -> TrainingDocuments:
    return TrainingDocuments(collected / tables.TRAIN, [*recipe.fields, *prompt.head.document_fields])


def _of_recipe(prompt: Prompt, recipe: Recipe, home: Home, most: int) -> Material:
    collected = _last_artifact(home, recipe.name, "collect")
    said = "the training documents of the recipe's last night"
    if collected is None:
        say(f"the recipe {recipe.name} has had no night yet: collecting its documents")
        collected = run_stage(recipe.collect_job(home), home, RUN).ref.folder
        said = "the recipe's training documents"
    pool = _training_documents(collected, prompt, recipe)
    candidates: Sequence[Document] = pool
    if prompt.head.judge is not None:
        generated = _last_artifact(home, recipe.name, "generate")
        said = "the rows that the recipe's last night kept"
        candidates = _written_rows(generated, recipe) if generated else []
    return Material(_chosen(candidates, prompt, most, said), pool, said)


def _written_rows(generated: Path, recipe: Recipe) -> Sequence[Document]:
    """The rows of a generate artifact, as a judge gets them."""
    return TrainingDocuments(generated / tables.ROWS, ("row_id", "raw", *recipe.row_fields))


def _last_artifact(home: Home, recipe: str, stage: str) -> Path | None:
    """The folder that a stage wrote in the latest run of a recipe that got so far and still has it."""
    for report in sorted(home.runs.glob("*/report.json"), reverse=True):
        try:
            record = json.loads(report.read_text(encoding="utf-8"))
        except ValueError:
            continue
        path = record.get("stages", {}).get(stage, {}).get("path")
        if record.get("recipe") == recipe and path and (Path(path) / "manifest.json").is_file():
            return Path(path)
    return None


def _of_examples(prompt: Prompt, recipe: Recipe, most: int) -> Material:
    """A template's examples as documents; few-shot examples are drawn from those that they hold.

    What an example gives a sampler is for the linter: here it is drawn, as the night draws it.

    Raises:
        PromptError: there is no usable example.
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
        # They stand for documents that share with this one what they have to share.
        {**({spec.same: document[spec.same]} if spec.same else {}), **item}
        for document, example in zip(documents, examples, strict=True)
        for name, spec in _variables(prompt, FewShot)
        if is_shots(shown := example.get(name))
        for item in shown
    ]
    said = f"the examples in {example_path(prompt.path)}"
    return Material(documents[:most], _named("shot", shots), said)


def _variables(prompt: Prompt, kind: type[Spec]) -> list[tuple[str, Spec]]:
    """The variables of one kind, by name."""
    return [(name, spec) for name, spec in prompt.head.variables.items() if isinstance(spec, kind)]


def _named(prefix: str, rows: Sequence[Document]) -> list[Document]:
    """The same rows, each with a ``document_id``."""
    return [{"document_id": f"{prefix}-{number}", **row} for number, row in enumerate(rows, 1)]


def _read(path: Path) -> list[Document]:
    """The rows of a file; a row without a ``document_id`` is known by the file's name and its number."""
    readers = {".json": _json, ".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise SourceError(
            "The documents are in no format that can be read here",
            where=str(path),
            remedy=f"'{EXAMPLE}', '{RECIPE}', or a file that ends with {', '.join(readers)}",
        )
    try:
        rows = reader(path)
    except (OSError, ValueError, csv.Error, pyarrow.lib.ArrowException, RecursionError) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise SourceError(f"The documents cannot be read: {what}", where=str(path)) from error
    if not all(isinstance(row, dict) for row in rows):
        raise SourceError("A document is no object", where=str(path), remedy='write its fields: {"topic": "..."}')
    if not is_storable(json.dumps(rows, ensure_ascii=False, default=str)):
        raise SourceError("A document holds half of a surrogate pair, which is no character", where=str(path))
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
            raise ValueError(f"line {number} is no JSON: {error}") from error
    return rows


def _csv(path: Path) -> list[Any]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [
            {name: value for name, value in row.items() if name and value is not None} for row in csv.DictReader(file)
        ]


def _parquet(path: Path) -> list[Any]:
    rows: list[Any] = pq.read_table(path).to_pylist()
    return rows
