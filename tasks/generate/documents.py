"""The training documents that prompts read: one Arrow table that creates Python objects a few at a time.

A million documents fit because only the needed columns are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.core.prompts import DocumentField, FewShot, Prompt

Document = Mapping[str, Any]


def needed_fields(prompt: Prompt) -> tuple[str, ...]:
    """The fields that a prompt needs from a document, or a judge from a row."""
    variables = prompt.head.variables.items()
    return tuple(variable.field or name for name, variable in variables if isinstance(variable, DocumentField))


def shown_fields(prompt: Prompt) -> list[tuple[str, ...]]:
    """The fields of each few-shot draw; a document without any of them has another form."""
    return [variable.fields for variable in prompt.head.variables.values() if isinstance(variable, FewShot)]


def applies(prompt: Prompt, document: Document) -> bool:
    """Whether a prompt applies to a document. Fields are null in documents from sources of another form."""
    needed = all(document.get(field) is not None for field in needed_fields(prompt))
    return needed and all(any(document.get(name) is not None for name in fields) for fields in shown_fields(prompt))


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
        return _Row(self._table, range(len(self))[index])

    def applicable(self, prompt: Prompt) -> int:
        """How many documents a prompt applies to; see :func:`applies`."""
        fit = pa.array([True] * len(self), pa.bool_())
        for fields in [*((field,) for field in needed_fields(prompt)), *shown_fields(prompt)]:
            fit = pc.and_(fit, self._has_any(fields))
        return int(pc.sum(fit).as_py() or 0)

    def _has_any(self, fields: Sequence[str]) -> pa.BooleanArray:
        has = pa.array([False] * len(self), pa.bool_())
        for field in fields:
            if field in self._table.column_names:
                has = pc.or_(has, pc.is_valid(self._table.column(field)))
        return has


class _Row(Mapping[str, Any]):
    """A row of the table; its values become Python objects on access."""

    __slots__ = ("_number", "_table")

    def __init__(self, table: pa.Table, number: int) -> None:
        self._table, self._number = table, number

    def __getitem__(self, name: str) -> Any:
        if name not in self._table.column_names:
            raise KeyError(name)
        return self._table.column(name)[self._number].as_py()

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.column_names)

    def __len__(self) -> int:
        return len(self._table.column_names)
