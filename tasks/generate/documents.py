"""The training documents that prompts read: the needed columns alone, as Python objects a few at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.core.prompts import DocumentField, FewShot, Prompt
from tasks.generate.sampling import Document


def needed_fields(prompt: Prompt) -> tuple[str, ...]:
    """The fields that a prompt needs from a document, or a judge from a row."""
    variables = prompt.head.variables.items()
    return tuple(variable.field or name for name, variable in variables if isinstance(variable, DocumentField))


def alternatives(prompt: Prompt) -> list[tuple[str, ...]]:
    """Groups of fields of which a document has at least one: a needed field, or those of a few-shot draw."""
    shown = [variable.fields for variable in prompt.head.variables.values() if isinstance(variable, FewShot)]
    return [*((field,) for field in needed_fields(prompt)), *shown]


def applies(prompt: Prompt, document: Document) -> bool:
    """Whether a prompt applies to a document. Fields are null in documents from sources of another form."""
    return all(any(document.get(name) is not None for name in fields) for fields in alternatives(prompt))


class TrainingDocuments(Sequence[Document]):
    """The rows of ``train.parquet`` in the order of a hash of their ids.

    So a limit that stops the work early leaves a fair sample of all documents, whatever the order of their files.
    """

    def __init__(self, path: Path, fields: Iterable[str]) -> None:
        present = pq.read_schema(path).names
        wanted = dict.fromkeys(["document_id", *fields])
        table = pq.read_table(path, columns=[name for name in wanted if name in present])
        ids = table.column("document_id").to_pylist()
        order = sorted(range(len(ids)), key=lambda row: hashlib.sha256(ids[row].encode()).digest())
        self._table = table.take(pa.array(order, pa.int64())).combine_chunks()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            rows: list[Document] = self._table.slice(start, max(0, stop - start)).to_pylist()
            return rows
        at = range(len(self))[index]
        return self[at : at + 1][0]

    def applicable(self, prompt: Prompt) -> int:
        """How many documents a prompt applies to; see :func:`applies`."""
        fit = pa.array([True] * len(self), pa.bool_())
        for fields in alternatives(prompt):
            has = pa.array([False] * len(self), pa.bool_())
            for field in set(fields).intersection(self._table.column_names):
                has = pc.or_(has, pc.is_valid(self._table.column(field)))
            fit = pc.and_(fit, has)
        return int(pc.sum(fit).as_py() or 0)
