"""How many rows a run set aside, by stage, outcome, rule, prompt and document source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from retune.quarantine.lost_rows import read_lost_rows
from retune.quarantine.run_files import STAGES, RunFiles

GROUPS = ("stage", "outcome", "rule", "prompt", "source")


@dataclass(frozen=True)
class Line:
    """Rows of one prompt and source that one rule took."""

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
        run_id: the run.
        rows: by stage, rows by outcome; each row counts once.
        lines: a row that broke several rules counts under each of them; in the stages' order, most rows first.
        gone: stages whose artifact is there no more.
    """

    run_id: str
    rows: Mapping[str, Mapping[str, int]]
    lines: tuple[Line, ...]
    gone: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """JSON-like."""
        return asdict(self)


def count_lost_rows(files: RunFiles) -> LostCounts:
    """Count everything that a run set aside."""
    lost = read_lost_rows(files)
    rows: dict[str, dict[str, int]] = {stage: {} for stage in files.folders}
    for stage, outcome, count in _counted(lost.select(["stage", "outcome"])):
        rows[stage][outcome] = count
    lines = [Line(*row) for row in _counted(_by_rule(lost))]
    lines.sort(key=lambda line: (STAGES.index(line.stage), -line.rows, line.rule, line.prompt, line.source))
    return LostCounts(files.record.run_id, rows, tuple(lines), files.gone)


def sources_added_up(lines: Iterable[Line]) -> tuple[Line, ...]:
    """The same lines with all sources of a stage, rule and prompt as one, in their order; most rows first."""
    groups: dict[tuple[str, str, str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.stage, line.outcome, line.rule, line.prompt), []).append(line)
    sources = {key: of[0].source if len(of) == 1 else f"({len(of)} sources)" for key, of in groups.items()}
    merged = (Line(*key, sources[key], sum(line.rows for line in of)) for key, of in groups.items())
    return tuple(sorted(merged, key=lambda line: (STAGES.index(line.stage), -line.rows)))


def _by_rule(lost: pa.Table) -> pa.Table:
    """A row for each rule that a row broke."""
    rules = lost["rules"].combine_chunks()
    repeated = lost.select(["stage", "outcome", "prompt", "source"]).take(pc.list_parent_indices(rules))
    return repeated.append_column("rule", pc.list_flatten(rules)).select(GROUPS)


def _counted(table: pa.Table) -> list[tuple[Any, ...]]:
    """Each distinct row of a table, with how often it is there behind it."""
    found = table.group_by(table.column_names).aggregate([([], "count_all")])
    return list(zip(*(found[name].to_pylist() for name in (*table.column_names, "count_all")), strict=True))
