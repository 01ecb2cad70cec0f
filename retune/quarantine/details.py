"""One row that a run set aside, with everything that its file stores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retune.quarantine.lost_rows import CONTAMINATED, DUPLICATES, FILES
from retune.quarantine.run_files import RunFiles
from tasks.core.messages import plain, turn_text
from tasks.core.suggestions import did_you_mean

Stored = Mapping[str, Any]
TRAIN = "train"


@dataclass(frozen=True)
class Reason:
    """Why a row was set aside, or a warning about it.

    Attributes:
        rule: a contract's rule, a rule of collect or generate, an evaluation set, a kind of duplicate.
        said: the value that broke the rule, or the rule's message.
        severity: critical if the row was set aside for it.
    """

    rule: str
    said: str
    severity: str = "critical"
    contract: str = ""
    column: str = ""


@dataclass(frozen=True)
class LostRow:
    """A row that was set aside.

    Attributes:
        prompt: in brackets if no prompt wrote the row.
        reasons: every rule that it broke, critical ones first.
        turns: its conversation as (role, text); empty if it never was a conversation.
        raw: what it was made from: the teacher's answer, a document's conversation, a source's row.
        stored: everything that the file holds.
    """

    stage: str
    outcome: str
    row_id: str
    prompt: str
    source: str
    document_id: str
    reasons: tuple[Reason, ...]
    turns: tuple[tuple[str, str], ...] = ()
    raw: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    stored: Stored = field(default_factory=dict, repr=False)

    def as_json(self) -> dict[str, Any]:
        """JSON-like, without ``stored``."""
        return {name: value for name, value in asdict(self).items() if name != "stored"}


def read_details(files: RunFiles, lost: pa.Table) -> list[LostRow]:
    """Read rows of :func:`retune.quarantine.lost_rows.read_lost_rows` whole, in their order."""
    known = lost.to_pylist()
    by_file: dict[tuple[str, str], list[int]] = {}
    for row in known:
        by_file.setdefault((row["stage"], row["outcome"]), []).append(row["at"])
    stored = {
        (*file, at): found
        for file, positions in by_file.items()
        for at, found in _rows_at(files.folders[file[0]] / FILES[file[1]], positions)
    }
    labels = labels_of(files)
    return [_details(row, stored[row["stage"], row["outcome"], row["at"]], labels) for row in known]


def labels_of(files: RunFiles) -> tuple[str, ...]:
    """The labels of the task, as the run's artifacts have them."""
    for stage in ("validate", "check_documents"):
        if artifact := files.artifact(stage):
            return tuple(artifact.manifest()["determinants"]["config"]["context"]["labels"])
    return ()


def turns_of(messages: Iterable[Stored] | None) -> tuple[tuple[str, str], ...]:
    """A stored conversation as (role, text)."""
    filled = [{**turn, "role": turn["role"] or ""} for turn in messages or () if turn]
    return tuple((turn["role"], turn_text(turn)) for turn in plain(filled))


def _rows_at(path: Path, positions: Iterable[int]) -> Iterable[tuple[int, Stored]]:
    """Rows of a Parquet file by their positions; only the row groups that hold them are read."""
    wanted, start = sorted(positions), 0
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            here = [at for at in wanted if start <= at < start + rows]
            if here:
                taken = file.read_row_group(group).take(pa.array([at - start for at in here], pa.int64()))
                yield from zip(here, taken.to_pylist(), strict=True)
            start += rows


def _details(row: Stored, stored: Stored, labels: Sequence[str]) -> LostRow:
    origin = {name: row[name] for name in ("stage", "outcome", "row_id", "prompt", "source", "document_id")}
    if row["stage"].startswith(TRAIN):  # its raw text is the conversation, as JSON
        stored = {**stored, "messages": json.loads(stored["raw"]), "raw": ""}
    return LostRow(**origin, reasons=_reasons(row, stored, labels), turns=_turns(stored), raw=stored.get("raw") or "",
                   fields=json.loads(stored.get("fields") or "{}"), stored=stored)  # fmt: skip


def _turns(stored: Stored) -> tuple[tuple[str, str], ...]:
    if "messages" in stored:
        return turns_of(stored["messages"])
    return (("text", stored["text"] or ""),) if "text" in stored else ()


def _reasons(row: Stored, stored: Stored, labels: Sequence[str]) -> tuple[Reason, ...]:
    if row["outcome"] == CONTAMINATED:
        spans = "; ".join(f"\u201c{span['text']}\u201d" for span in stored["spans"] or [])
        text = (
            f"{stored['coverage']:.0%} of {stored['evaluation_id']}, \u201c{stored['evaluation_text']}\u201d: {spans}"
        )
        return (Reason(stored["set"], text),)
    if row["outcome"] == DUPLICATES:
        original = f", \u201c{stored['original']}\u201d" if stored.get("original") else ""
        return (Reason(stored["kind"], f"repeats row {stored['duplicate_of']}{original}"),)
    if "breaches" in stored:
        return tuple(
            Reason(
                breach["rule"],
                _with_label(breach["rule"], breach["value"] or "", labels),
                breach["severity"],
                breach["contract"],
                breach["column"] or "",
            )
            for breach in stored["breaches"] or ()
        )
    rule, _, detail = (stored["rule"] or "").partition(":")
    return (Reason(rule, detail.strip() or stored.get("value") or ""),)


def _with_label(rule: str, value: str, labels: Sequence[str]) -> str:
    """A value that is not in a rule's set, with the label that it resembles."""
    is_of_set = rule.endswith("to_be_in_set") and value not in labels
    return f"{value} {did_you_mean(value, labels)}".rstrip() if is_of_set else value
