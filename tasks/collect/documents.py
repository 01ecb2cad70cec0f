"""Turn a row of a source into a document: conversation, fields, identity, hygiene."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tasks.collect.config import CollectConfig, SourceSection
from tasks.collect.forms import FIELDS, Conversation, convert, fields_of
from tasks.collect.forms.values import at_path
from tasks.collect.hygiene import Cleaner, check_licence
from tasks.collect.identity import LostDigits, is_same, spelled, with_whole_numbers
from tasks.collect.records import Record, Rejected
from tasks.collect.sources.row_values import Unfit
from tasks.core import tables
from tasks.core.config import ChatTask
from tasks.core.files import canonical_json
from tasks.core.messages import Message, user_text, why_invalid

ID_BYTES = 8


def fields_in(config: CollectConfig) -> tuple[str, ...]:
    """The fields that documents of a recipe may have, in the order of its sources.

    A source whose form is detected row by row adds the fields of every form; a row leaves fields of other forms null.
    """
    per_source = []
    for source in config.sources:
        columns = config.columns_of(source)
        forms = [source.form] if source.form or columns else list(FIELDS)
        per_source += [fields_of(form, columns) for form in forms]
    return tuple(dict.fromkeys(field for fields in per_source for field in fields))


def document_schema(fields: Sequence[str]) -> pa.Schema:
    """Schema of the documents; ``messages`` is empty without a conversation, missing fields are null."""
    return tables.schema({**tables.DOCUMENT, **tables.texts(*fields), "messages": tables.ARRAY, "tools": tables.TEXT})


def is_wanted(record: Record, where: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether each named column (dots lead into nested values) has a given value; true for unreadable records.

    Values other than text are compared as JSON (``true``, ``1``); 1 and 1.0 are one value.
    """
    values = record.values
    return values is None or all(_is_one_of(at_path(values, name), kept) for name, kept in where.items())


def _is_one_of(value: Any, kept: tuple[str, ...]) -> bool:
    plain = value if isinstance(value, str) else canonical_json(value)
    return plain in kept or any(is_same(plain, one) for one in kept)


@dataclass(frozen=True)
class Document:
    """A document and its identity.

    Attributes:
        row: as stored; ``document_id`` is empty if the source does not give one.
        written: the id as the source writes it; None if the source gives none.
        input: digest of the input as the source wrote it, before redaction and escaping.
        content: digest of everything that can be learned from it.
        former: the input's digest as versions up to 0.4 read the row, if that was asked for and differs.
        ignored: what the source's row holds and the document does not, by name.
    """

    row: dict[str, Any]
    written: str | None
    input: bytes
    content: bytes
    ignored: frozenset[str]
    former: bytes | None = None

    @property
    def named(self) -> bool:
        """Whether the source gives an id."""
        return self.written is not None


def to_document(
    record: Record,
    source: SourceSection,
    config: CollectConfig,
    task: ChatTask,
    cleaner: Cleaner,
    with_former: bool = False,
) -> Document:
    """Turn a record into a document. ``with_former``: work out the former digest of its input."""
    if record.values is None:
        raise Rejected(f"{record.rule}: {record.problem}")
    values = with_whole_numbers(record.values)
    licence = _licence(values, source)
    check_licence(licence, config.hygiene.licences)
    written = convert(values, source, config.columns_of(source), task, config.named_columns(source))
    if written.messages and (reason := why_invalid(written.messages)):
        raise Rejected(f"messages: {reason}")
    conversation = cleaner.clean(written)
    written_id = _written_id(values, config.id_column_of(source))
    row = {
        "document_id": "" if written_id is None else harmless_id(spelled(written_id), cleaner),
        "source": record.source,
        "line": record.line,
        "licence": licence,
        **conversation.fields,
        "messages": conversation.messages,
        "tools": conversation.tools,
    }
    content = content_digest(conversation.messages, conversation.fields, conversation.tools)
    former = _former_input(record, source, config, task, written) if with_former else None
    return Document(row, written_id, input_digest(written.messages, written.fields), content, written.ignored, former)


def _former_input(
    record: Record, source: SourceSection, config: CollectConfig, task: ChatTask, written: Conversation
) -> bytes | None:
    """The input's digest as versions up to 0.4 read the row; None if they read the same, or rejected the row.

    They took a struct's filled keys and a class's number as they were, wrote 4.0 where a null had joined a column, and
    kept the turns after the last one to learn.
    """
    try:
        stored = record.former() if record.former else record.values or {}
        then = {name: canonical_json(value) if isinstance(value, float) else value for name, value in stored.items()}
        if then == record.values:
            return input_digest(written.uncut, {}) if written.uncut else None
        converted = convert(then, source, config.columns_of(source), task, config.named_columns(source))
    except (Rejected, Unfit):
        return None
    return input_digest(converted.uncut or converted.messages, converted.fields)


def input_digest(messages: Sequence[Message], fields: Mapping[str, str | None]) -> bytes:
    """Identify a document without an id: digest of the user's turns, or of its texts without a conversation.

    Case, white space and field names do not count.
    """
    text = user_text(messages) if messages else canonical_json(sorted(value for value in fields.values() if value))
    return _digest(" ".join(text.casefold().split()))


def content_digest(messages: Sequence[Message], fields: Mapping[str, str | None], tools: str | None) -> bytes:
    return _digest(canonical_json([messages, tools] if messages else fields))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:ID_BYTES]


def _licence(values: Mapping[str, Any], source: SourceSection) -> str | None:
    found = at_path(values, source.licence_column) if source.licence_column else None
    return str(found) if found is not None and str(found).strip() else source.licence


def _written_id(values: Mapping[str, Any], column: str | None) -> str | None:
    """The id as the source writes it, in text; None without an id column."""
    if column is None:
        return None
    value = at_path(values, column)
    if value is None or value != value or not str(value).strip():
        raise Rejected(f"missing: {column!r} is empty")
    try:
        spelled(value)
    except LostDigits as error:
        detail = f"{column!r} is {error}, a number without all its digits; store the column as whole numbers or text"
        raise Rejected(f"inexact_id: {detail}") from error
    return str(value).strip()


def harmless_id(name: str, cleaner: Cleaner) -> str:
    """An id, or its digest if it holds text that hygiene removes, such as an e-mail address."""
    harmless = cleaner.masked(name) == name and not cleaner.guard.find(name)
    return name if harmless else hashlib.sha256(name.encode()).hexdigest()[:32]
