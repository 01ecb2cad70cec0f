"""A row of a source as a document: its conversation, its fields, its identity, and what must not come in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tasks.collect.config import CollectConfig, SourceSection
from tasks.collect.forms import FIELDS, convert, fields_of
from tasks.collect.forms.values import at_path
from tasks.collect.hygiene import Cleaner, check_licence
from tasks.collect.records import Record, Rejected
from tasks.core import tables
from tasks.core.config import ChatTask
from tasks.core.files import canonical_json
from tasks.core.messages import Message, user_text, why_invalid

ID_BYTES = 8


def fields_in(config: CollectConfig) -> tuple[str, ...]:
    """The fields that documents of a recipe may have, in the order of its sources.

    Where a source's form shall be detected row by row, those of every form: what a row's own form lacks is null.
    """
    per_source = []
    for source in config.sources:
        columns = config.columns_of(source)
        forms = [source.form] if source.form or columns else list(FIELDS)
        per_source += [fields_of(form, columns) for form in forms]
    return tuple(dict.fromkeys(field for fields in per_source for field in fields))


def document_schema(fields: Sequence[str]) -> pa.Schema:
    """The table of documents: ``messages`` is empty where one is no conversation, a field null where it has none."""
    return tables.schema({**tables.DOCUMENT, **tables.texts(*fields), "messages": tables.ARRAY, "tools": tables.TEXT})


def is_wanted(record: Record, where: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether a record's columns (with dots into nested values) have one of the named values, or it cannot be read.

    Values that are no text are compared as JSON writes them: ``true``, ``1``.
    """
    values = record.values
    return values is None or all(_plain(at_path(values, name)) in kept for name, kept in where.items())


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value)


@dataclass(frozen=True)
class Document:
    """A document and what identifies it.

    Attributes:
        row: as it is stored; ``document_id`` is empty where the source does not name it.
        named: whether the source names it.
        input: digest of what goes in, as the source wrote it, before anything was redacted or escaped.
        content: digest of all that can be learned from it.
    """

    row: dict[str, Any]
    named: bool
    input: bytes
    content: bytes


def to_document(
    record: Record, source: SourceSection, config: CollectConfig, task: ChatTask, cleaner: Cleaner
) -> Document:
    """The document of a record.

    Raises:
        Rejected: with the rule it breaks.
    """
    if record.values is None:
        raise Rejected(f"unreadable: {record.problem}")
    licence = _licence(record.values, source)
    check_licence(licence, config.hygiene.licences)
    written = convert(record.values, source, config.columns_of(source), task)
    if written.messages and (reason := why_invalid(written.messages)):
        raise Rejected(f"messages: {reason}")
    conversation = cleaner.clean(written)
    name = _id(record.values, config.id_column_of(source), cleaner)
    row = {
        "document_id": name or "",
        "source": record.source,
        "line": record.line,
        "licence": licence,
        **conversation.fields,
        "messages": conversation.messages,
        "tools": conversation.tools,
    }
    content = content_digest(conversation.messages, conversation.fields, conversation.tools)
    return Document(row, name is not None, input_digest(written.messages, written.fields), content)


def input_digest(messages: Sequence[Message], fields: Mapping[str, str | None]) -> bytes:
    """What identifies a document that has no id of its own: what the user says, or its texts if it is no conversation.

    Case, white space and the names of fields do not count.
    """
    text = user_text(messages) if messages else canonical_json(sorted(value for value in fields.values() if value))
    return _digest(" ".join(text.casefold().split()))


def content_digest(messages: Sequence[Message], fields: Mapping[str, str | None], tools: str | None) -> bytes:
    """Of everything in a document that can be learned from."""
    return _digest(canonical_json([messages, tools] if messages else fields))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:ID_BYTES]


def _licence(values: Mapping[str, Any], source: SourceSection) -> str | None:
    found = at_path(values, source.licence_column) if source.licence_column else None
    return str(found) if found is not None and str(found).strip() else source.licence


def _id(values: Mapping[str, Any], column: str | None, cleaner: Cleaner) -> str | None:
    """The id that a source gives; its digest where it holds what must not come in, such as an e-mail address."""
    if column is None:
        return None
    value = at_path(values, column)
    if value is None or value != value or not str(value).strip():
        raise Rejected(f"missing: {column!r} is empty")
    name = str(value).strip()
    harmless = cleaner.masked(name) == name and not cleaner.guard.find(name)
    return name if harmless else hashlib.sha256(name.encode()).hexdigest()[:32]
