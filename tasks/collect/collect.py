"""Documents out of sources, and the holdout set apart for good."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.collect.config import CollectConfig, FileSource, HubSource
from tasks.collect.readers import Record, read_records, readable, source_files
from tasks.core.artifacts import StageKey, Summary
from tasks.core.config import ChatTask
from tasks.core.files import canonical_json, digest_of, file_digest, folder_digests
from tasks.core.messages import MESSAGES, Message, to_messages, why_invalid
from tasks.core.stage import StageContext

VERSION = 1
BATCH_ROWS = 5_000
HOLDOUT, TRAIN, QUARANTINE = "holdout", "train", "quarantine"
QUARANTINE_SCHEMA = pa.schema(
    [("source", pa.string()), ("line", pa.int64()), ("rule", pa.string()), ("raw", pa.string())]
)


class _Rejected(Exception):
    """A row that goes to quarantine: (rule,)."""


@dataclass(frozen=True)
class CollectJob:
    """Reads the sources of a recipe into ``train.parquet``, ``holdout.parquet`` and ``quarantine.parquet``."""

    config: CollectConfig
    task: ChatTask

    def key(self) -> StageKey:
        """Determined by the configuration and the bytes of every source file."""
        files = {
            f"{number}:{name}": digest
            for number, source in enumerate(self.config.sources)
            for name, digest in _digests(source).items()
        }
        config = self.config.model_dump(mode="json")
        for plain, source in zip(config["sources"], self.config.sources, strict=True):
            plain.pop("path", None)
            if isinstance(source, HubSource):
                plain["hub"] = source.name
        return StageKey("collect", VERSION, {"collect": config, "task": self.task}, files=files, libraries=["pyarrow"])

    def fill(self, folder: Path, context: StageContext) -> Summary:
        """Stream every row into the file it belongs to."""
        summary = Summary()
        sources: Counter[str] = Counter()
        rules: Counter[str] = Counter()
        labels: Counter[str] = Counter()
        document_schema = pa.schema(
            [("document_id", pa.string()), ("source", pa.string()), ("line", pa.int64())]
            + [(name, pa.string()) for name in self.config.columns]
            + [("messages", MESSAGES)]
        )
        seen: dict[str, str] = {}
        counts: Counter[str] = Counter()
        with ExitStack() as stack:
            writers = {
                name: stack.enter_context(_Writer(folder / f"{name}.parquet", schema))
                for name, schema in (
                    (TRAIN, document_schema),
                    (HOLDOUT, document_schema),
                    (QUARANTINE, QUARANTINE_SCHEMA),
                )
            }
            for record in self._wanted(read_records(self.config)):
                summary.rows_in += 1
                sources[record.source] += 1
                try:
                    document = self._document(record)
                    if self._is_duplicate(document, seen):
                        summary.duplicates += 1
                        continue
                except _Rejected as rejection:
                    rule = str(rejection)
                    summary.quarantined += 1
                    rules[rule.split(":")[0]] += 1
                    raw = record.raw or readable(canonical_json(record.values))
                    row = {"source": record.source, "line": record.line, "rule": rule, "raw": raw}
                    writers[QUARANTINE].add(row)
                    continue
                split = HOLDOUT if self.is_holdout(document["document_id"]) else TRAIN
                writers[split].add(document)
                summary.accepted += 1
                counts[split] += 1
                if self.task.labels:
                    labels[document["messages"][-1]["content"]] += 1
        summary.details = {
            "sources": dict(sources),
            "splits": {TRAIN: counts[TRAIN], HOLDOUT: counts[HOLDOUT]},
            "rules": dict(rules),
            "labels": dict(labels),
        }
        return summary

    def is_holdout(self, document_id: str) -> bool:
        """Whether a document is set aside: decided by a hash of its id alone, so that new data never moves one."""
        hashed = hashlib.sha256(f"{self.config.holdout_salt}:{document_id}".encode()).digest()
        return int.from_bytes(hashed[:8], "big") / 2**64 < self.config.holdout_fraction

    def _wanted(self, records: Iterator[Record]) -> Iterator[Record]:
        for record in records:
            values = record.values
            if values is None or all(str(values.get(name)) in kept for name, kept in self.config.where.items()):
                yield record

    def _document(self, record: Record) -> dict[str, Any]:
        """The document of a record.

        Raises:
            _Rejected: with the rule it breaks.
        """
        if record.values is None:
            raise _Rejected(f"unreadable: {record.problem}")
        fields: dict[str, str] = {}
        if self.config.conversations is None:
            fields = {name: _text(record.values, column) for name, column in self.config.columns.items()}
            messages = to_messages(self.task, fields)
        else:
            messages = self._conversation(record.values)
        if self.task.labels and messages[-1]["content"] not in self.task.labels:
            raise _Rejected(f"unknown_label: {messages[-1]['content']!r}")
        if reason := why_invalid(messages):
            raise _Rejected(f"messages: {reason}")
        content = {"fields": fields, "messages": messages}
        named = _text(record.values, self.config.id_column) if self.config.id_column else digest_of(content)[:16]
        return {"document_id": named, "source": record.source, "line": record.line, **fields, "messages": messages}

    def _conversation(self, values: Mapping[str, Any]) -> list[Message]:
        form = self.config.conversations
        assert form is not None
        turns = values.get(form.column)
        if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
            raise _Rejected(f"conversation: {form.column!r} is no list of turns")
        messages = []
        for turn in turns:
            role = form.roles.get(str(turn.get(form.role_key)))
            if role is None:
                raise _Rejected(f"conversation: unknown role {turn.get(form.role_key)!r}")
            messages.append({"role": role, "content": _text(turn, form.content_key)})
        if messages and messages[0]["role"] != "system" and self.task.system:
            messages.insert(0, {"role": "system", "content": self.task.system})
        return messages

    @staticmethod
    def _is_duplicate(document: Mapping[str, Any], seen: dict[str, str]) -> bool:
        """True for a second copy.

        Raises:
            _Rejected: another document has the same id.
        """
        content = digest_of(document["messages"])
        name = document["document_id"]
        if seen.get(f"id:{name}", content) != content:
            raise _Rejected(f"duplicate_id: {name!r} names two different documents")
        if f"content:{content}" in seen:
            return True
        seen[f"id:{name}"] = content
        seen[f"content:{content}"] = name
        return False


def _digests(source: FileSource | HubSource) -> dict[str, str]:
    """Of the files of a source, by path below the folder that holds them all; a hub's data set is named, not read."""
    if isinstance(source, HubSource):
        return folder_digests(Path(source.hub)) if source.is_local else {}
    files = source_files(source)
    root = os.path.commonpath([file.parent for file in files])
    return {file.relative_to(root).as_posix(): file_digest(file) for file in files}


def _text(values: Mapping[str, Any], column: str) -> str:
    value = values.get(column)
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        raise _Rejected(f"missing: {column!r} is empty")
    text = value if isinstance(value, str) else canonical_json(value)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _Rejected(f"encoding: {column!r} is not UTF-8") from error
    return text.strip()


@dataclass
class _Writer:
    """A Parquet file written batch by batch; it exists with its schema even when no row came."""

    path: Path
    schema: pa.Schema
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __enter__(self) -> _Writer:
        self._parquet = pq.ParquetWriter(self.path, self.schema)
        return self

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if len(self.rows) >= BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        self._parquet.write_table(pa.Table.from_pylist(self.rows, schema=self.schema))
        self.rows.clear()

    def __exit__(self, *exception: object) -> None:
        self._flush()
        self._parquet.close()
