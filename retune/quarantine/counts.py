"""How many rows a run set aside, by stage, outcome, rule, prompt and document source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from retune.quarantine.lost_rows import read_lost_rows
from retune.quarantine.run_files import RunFiles, position

GROUPS = ("stage", "outcome", "rule", "prompt", "source")


@dataclass(frozen=True)
class Line:
    """Rows of one prompt and source that one rule removed."""

    stage: str
    outcome: str
    rule: str
    prompt: str
    source: str
    rows: int


@dataclass(frozen=True)
class LostCounts:
    """What a run set aside.

    Attributes:
        rows: by stage, rows by outcome; each row counts once.
        lines: a row that broke several rules counts under each; in the stages' order, most rows first.
        gone: stages whose artifact no longer exists.
    """

    run_id: str
    rows: Mapping[str, Mapping[str, int]]
    lines: tuple[Line, ...]
    gone: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def count_lost_rows(files: RunFiles) -> LostCounts:
    """Count everything that a run set aside."""
    lost = read_lost_rows(files)
    rows: dict[str, dict[str, int]] = {stage: {} for stage in files.folders}
    for stage, outcome, count in _value_counts(lost.select(["stage", "outcome"])):
        rows[stage][outcome] = count
    lines = [Line(*row) for row in _value_counts(_one_row_per_rule(lost))]
    lines.sort(key=lambda line: (position(line.stage), -line.rows, line.rule, line.prompt, line.source))
    return LostCounts(files.record.run_id, rows, tuple(lines), files.gone)


def merge_sources(lines: Iterable[Line]) -> tuple[Line, ...]:
    """The same lines with all sources of a stage, rule and prompt added up, in the stages' order; most rows first."""
    groups: dict[tuple[str, str, str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.stage, line.outcome, line.rule, line.prompt), []).append(line)
    merged = (
        Line(*key, of[0].source if len(of) == 1 else f"({len(of)} sources)", sum(line.rows for line in of))
        for key, of in groups.items()
    )
    return tuple(sorted(merged, key=lambda line: (position(line.stage), -line.rows)))


def _one_row_per_rule(lost: pa.Table) -> pa.Table:
    rules = lost["rules"].combine_chunks()
    repeated = lost.select(["stage", "outcome", "prompt", "source"]).take(pc.list_parent_indices(rules))
    return repeated.append_column("rule", pc.list_flatten(rules)).select(GROUPS)


def _value_counts(table: pa.Table) -> list[tuple[Any, ...]]:
    found = table.group_by(table.column_names).aggregate([([], "count_all")])
    return list(zip(*(found[name].to_pylist() for name in (*table.column_names, "count_all")), strict=True))
