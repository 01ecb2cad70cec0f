"""Read documents from sources, and set the holdout apart permanently.

The sources are read once, into a table of documents, with a few bytes remembered of each. Splits and duplicates are
then decided for all together, so the result does not depend on the order, and a million rows need little memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.collect.config import CollectConfig, HttpSource, ObjectSource, SqlSource, place_of
from tasks.collect.documents import document_schema, fields_in
from tasks.collect.held_out_documents import HeldBefore, ledger_rows, usable
from tasks.collect.holdout_ledger import Ledger
from tasks.collect.hygiene import Cleaner
from tasks.collect.reading import read_documents
from tasks.collect.records import Reader, ReaderSettings
from tasks.collect.sources import readers_of
from tasks.collect.splits import DUPLICATE, HOLDOUT, SAME_ID, SUPERSEDED, TRAIN, Index, resolve
from tasks.core import tables
from tasks.core.artifacts import StageKey, Summary
from tasks.core.config import ChatTask
from tasks.core.details import CollectDetails
from tasks.core.files import canonical_json
from tasks.core.home import Home
from tasks.core.progress import say
from tasks.core.sources import is_any_of
from tasks.core.stage import StageContext
from tasks.core.table_writer import TableWriter

VERSION = 3
LIBRARIES = ("pyarrow", "presidio-analyzer", "detect-secrets", "phonenumbers", "tldextract")
MOST_NOTES = 100
UNSHAPING = {
    "path", "hub", "dataset_info", "sql", "url", "object", "headers", "options", "allow_hosts", "timeout_seconds",
    "max_pages", "max_bytes",
}  # fmt: skip
"""Keys of a source that locate it and do not shape its rows; the digests of its bytes identify the rows."""


@dataclass(frozen=True)
class CollectJob:
    """Reads a recipe's sources into ``train.parquet``, ``holdout.parquet`` and ``quarantine.parquet``.

    Attributes:
        task: what the model learns.
        control_tokens: tokens of the models' chat templates, which documents must not contain.
        home: holds snapshots and the ledger.
        replay: sources of general data, whose answers need not be labels of the task.
    """

    config: CollectConfig
    task: ChatTask
    control_tokens: tuple[str, ...]
    recipe: str
    home: Home
    replay: tuple[str, ...] = ()

    @cached_property
    def readers(self) -> list[Reader]:
        return readers_of(self.config, ReaderSettings(self.home.snapshots, self.config.max_field_bytes))

    @property
    def is_remote(self) -> bool:
        """Whether a source must be asked for news."""
        return any(isinstance(source, SqlSource | HttpSource | ObjectSource) for source in self.config.sources)

    @property
    def fields(self) -> tuple[str, ...]:
        return fields_in(self.config)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.home.holdouts / self.recipe)

    def fetch(self) -> None:
        """Update the snapshots of remote sources; SourceUnavailable if another try can help."""
        for number, reader in enumerate(self.readers, 1):
            reader.fetch()
            if fetched := getattr(reader, "fetched", None):
                counts = ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in fetched.items())
                say(f"  source {number}: {counts}")

    def key(self) -> StageKey:
        """The key: configuration, the bytes of every source, and the documents held out before."""
        key = self._key_of_sources()
        before = self.ledger.before(key.hex)
        if before is None:
            return key
        return replace(key, files={**key.files, "held out before": before})

    def _key_of_sources(self) -> StageKey:
        files = {
            f"{number}:{name}": digest
            for number, reader in enumerate(self.readers)
            for name, digest in reader.digests().items()
        }
        shaping = {
            **self.config.model_dump(mode="json", exclude={"timeout_minutes", "sources"}),
            "sources": [source.model_dump(mode="json", exclude=UNSHAPING) for source in self.config.sources],
        }
        config = {"collect": shaping, "task": self.task, "control_tokens": self.control_tokens}
        if self.replay and self.task.labels:
            config["replay"] = sorted(self.replay)
        return StageKey("collect", VERSION, config, files=files, libraries=LIBRARIES)

    def fill(self, folder: Path, context: StageContext) -> Summary:
        """Stream every row into a table, then divide it; SourceError if a source or the ledger is unreadable."""
        sources = self._key_of_sources().hex
        before = self.ledger.before(sources)
        held = HeldBefore.read(self.ledger.file(before) if before else None)
        cleaner = Cleaner(self.config.hygiene, self.control_tokens)
        everything, ledger = folder / "everything.parquet", folder / "ledger.parquet"
        with TableWriter(folder / tables.QUARANTINE, tables.schema(tables.QUARANTINED["collect"])) as quarantine:
            reading = read_documents(
                self.readers, self.config, self.task, cleaner, self.fields, everything, quarantine, held, self.replay
            )
            held = held.under_todays_names()
            held.refuse_other_spellings(reading.index)
            outcome = resolve(reading.index, held.ids, held.inputs)
            gone = held.gone(reading.index, outcome)
            kept = list(usable(gone, self.fields, cleaner, self.config.hygiene.licences))
            division = self._divide(folder, everything, reading.index, outcome, kept, quarantine)
        now = pa.concat_tables([*division.held, gone, held.former([*division.held, gone])])
        pq.write_table(held.marked(now), ledger)
        everything.unlink()
        _write_index(folder / tables.INDEX, reading.index, outcome)
        self.ledger.keep(ledger, sources, before)
        counts = Counter(outcome.tolist())
        rules = reading.rules + Counter({SAME_ID: counts[SAME_ID]})
        return Summary(
            rows_in=reading.rows,
            accepted=counts[TRAIN] + counts[HOLDOUT],
            quarantined=rules.total(),
            duplicates=counts[DUPLICATE] + counts[SUPERSEDED],
            details=CollectDetails(
                sources=dict(reading.sources),
                left_out=reading.left_out,
                splits={TRAIN: counts[TRAIN], HOLDOUT: counts[HOLDOUT] + len(kept)},
                conversations={name: division.conversations[name] for name in (TRAIN, HOLDOUT)},
                gone_but_held_out=len(kept),
                superseded=counts[SUPERSEDED],
                rules=dict(rules),
                ignored=dict(reading.ignored.most_common()),
                found=dict(cleaner.kinds),
                labels=dict(division.labels),
                notes=self._notes(reading.given),
            ),
        )

    def _notes(self, given: Mapping[int, int]) -> list[str]:
        notes: list[str] = []
        for number, (reader, source) in enumerate(zip(self.readers, self.config.sources, strict=True)):
            own = list(reader.notes()) if hasattr(reader, "notes") else []
            notes += own or [f"source {number + 1} ({place_of(source)}): no rows"] * (number not in given)
        return notes[:MOST_NOTES]

    def _divide(
        self,
        folder: Path,
        everything: Path,
        index: Index,
        outcome: np.ndarray,
        gone: list[dict[str, Any]],
        quarantine: TableWriter,
    ) -> _Division:
        schema = document_schema(self.fields)
        division = _Division()
        with ExitStack() as stack:
            writers = {
                name: stack.enter_context(TableWriter(folder / file, schema))
                for name, file in ((TRAIN, tables.TRAIN), (HOLDOUT, tables.HOLDOUT))
            }
            for name, positions, batch in _divided(everything, outcome):
                if name == SAME_ID:
                    for row in batch.to_pylist():
                        quarantine.add(_same_id(row))
                if name not in writers:
                    continue
                writers[name].add_table(batch)
                turns = pc.list_value_length(batch.column("messages"))
                division.conversations[name] += int(pc.sum(pc.greater(turns, 0)).as_py() or 0)
                division.labels.update(self._labels(batch))
                if name == HOLDOUT:
                    division.held.append(ledger_rows(batch, positions, index, self.fields))
            for row in gone:
                writers[HOLDOUT].add(row)
                division.conversations[HOLDOUT] += bool(row["messages"])
        return division

    def _labels(self, batch: pa.Table) -> list[str]:
        if not self.task.labels:
            return []
        found = zip(*(batch.column(name).to_pylist() for name in ("source", "messages")), strict=True)
        return [
            messages[-1]["content"] for source, messages in found if messages and not is_any_of(source, self.replay)
        ]


@dataclass
class _Division:
    conversations: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    held: list[pa.Table] = field(default_factory=list)


def _divided(everything: Path, outcome: np.ndarray) -> Iterator[tuple[str, list[int], pa.Table]]:
    start = 0
    with pq.ParquetFile(everything) as parquet:
        for group in range(parquet.num_row_groups):
            table = parquet.read_row_group(group)
            here = outcome[start : start + table.num_rows]
            for name in sorted(set(here)):
                chosen = np.flatnonzero(here == name)
                yield name, (start + chosen).tolist(), table.take(pa.array(chosen))
            start += table.num_rows


def _write_index(path: Path, index: Index, outcome: np.ndarray) -> None:
    stands = np.isin(outcome, [TRAIN, HOLDOUT])
    columns = {
        "document_id": pa.array(np.array(index.ids, dtype=object)[stands], pa.string()),
        "content": pa.array(np.array(index.contents, dtype=object)[stands], pa.binary()),
        "split": pa.array(outcome[stands], pa.string()),
    }
    pq.write_table(pa.table(columns), path)


def _same_id(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "source": row["source"],
        "line": row["line"],
        "rule": f"{SAME_ID}: {row['document_id']!r} names two different documents",
        "raw": canonical_json(row),
    }
