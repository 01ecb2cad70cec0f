"""Read all sources once into a table of documents, and remember a few bytes of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tasks.collect.config import CollectConfig, SourceSection
from tasks.collect.documents import Document, document_schema, harmless_id, is_wanted, to_document
from tasks.collect.held_out_documents import HeldBefore
from tasks.collect.holdout_ledger import is_held_out
from tasks.collect.hygiene import Cleaner
from tasks.collect.identity import spelled
from tasks.collect.records import Reader, Record, Rejected
from tasks.collect.splits import Index
from tasks.core.config import ChatTask
from tasks.core.files import canonical_json, storable
from tasks.core.progress import progress
from tasks.core.sources import is_any_of
from tasks.core.table_writer import TableWriter

ROWS_A_STEP = 1_000
MOST_RAW = 100_000
"""Characters kept of a rejected row."""
MOST_NAME, MOST_NAMES, OTHERS = 80, 50, "others"
"""Characters of an ignored key, and keys that are counted under their own names."""


@dataclass
class Reading:
    """The result of reading all rows.

    Attributes:
        rows: number of rows read.
        left_out: rows filtered out by ``where``, counted only here.
        sources: rows by source.
        given: rows by number of the recipe's source, including those filtered out.
        rules: rejected rows by rule.
        ignored: rows by what they hold and their documents do not.
    """

    rows: int = 0
    left_out: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    given: Counter[int] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)

    def ignore(self, names: Iterable[str], cleaner: Cleaner) -> None:
        """Count what a document leaves out of its row; of many names, the first ones."""
        for name in sorted(names):
            shown = cleaner.masked(storable(name)[:MOST_NAME])
            self.ignored[shown if shown in self.ignored or len(self.ignored) < MOST_NAMES else OTHERS] += 1

    index: Index = field(default_factory=Index)


def read_documents(
    readers: Sequence[Reader],
    config: CollectConfig,
    task: ChatTask,
    cleaner: Cleaner,
    fields: Sequence[str],
    file: Path,
    quarantine: TableWriter,
    held: HeldBefore,
    replay: Collection[str] = (),
) -> Reading:
    """Write every usable document to ``file`` in reading order, and every rejected row to the quarantine.

    ``held``: the documents held out before. Answers of the sources in ``replay`` need not be labels of the task.
    """
    reading = Reading()
    general = task.model_copy(update={"labels": ()})
    with TableWriter(file, document_schema(fields)) as documents, progress("reading documents", None) as advance:
        for number, record, source in _records(readers, config):
            reading.given[number] += 1
            if not is_wanted(record, config.where_of(source)):
                reading.left_out += 1
                continue
            reading.rows += 1
            reading.sources[record.source] += 1
            if reading.rows % ROWS_A_STEP == 0:
                advance(reading.rows, record.source)
            try:
                own = general if is_any_of(record.source, replay) else task
                document = to_document(record, source, config, own, cleaner, with_former=held.keeps_former)
            except Rejected as rejection:
                reading.rules[str(rejection).partition(":")[0]] += 1
                quarantine.add(rejected(record, str(rejection), cleaner))
                continue
            if document.former in held.inputs:
                document = replace(document, input=document.former)
            if not document.named:
                document.row["document_id"] = f"{document.input.hex()}-{document.content.hex()[:8]}"
            reading.ignore(document.ignored, cleaner)
            hashed = _hashed(document, held, cleaner)
            _remember(reading.index, document, number, record.version, config, hashed)
            documents.add(document.row)
    return reading


def _records(readers: Sequence[Reader], config: CollectConfig) -> Iterator[tuple[int, Record, SourceSection]]:
    for number, (reader, source) in enumerate(zip(readers, config.sources, strict=True)):
        for record in reader.records():
            yield number, record, source


def _hashed(document: Document, held: HeldBefore, cleaner: Cleaner) -> list[str]:
    """The texts of which all must hash to the holdout."""
    name: str = document.row["document_id"]
    if document.written is None:
        return [digest.hex() for digest in (document.input, document.former) if digest]
    plain = spelled(document.written)
    ways = [harmless_id(way, cleaner) if way != plain else name for way in held.hashed(plain, document.written)]
    held.renamed.update({text: name for text in (plain, *ways) if text != name and text in held.ids})
    return ways


def _remember(
    index: Index, document: Document, source: int, version: int, config: CollectConfig, hashed: Sequence[str]
) -> None:
    index.ids.append(document.row["document_id"])
    index.named.append(document.named)
    index.inputs.append(document.input)
    index.contents.append(document.content)
    index.sources.append(source)
    index.versions.append(version)
    index.held.append(all(is_held_out(text, config.holdout_fraction, config.holdout_salt) for text in hashed))


def rejected(record: Record, rule: str, cleaner: Cleaner) -> dict[str, Any]:
    raw = cleaner.masked(storable(record.raw or _as_text(record.values))[:MOST_RAW])
    return {"source": record.source, "line": record.line, "rule": cleaner.masked(storable(rule)), "raw": raw}


def _as_text(values: Mapping[str, Any] | None) -> str:
    try:
        return canonical_json(values)
    except (RecursionError, ValueError):  # nested too deeply, or a number with more digits than Python writes
        return "(cannot be written as JSON)"
