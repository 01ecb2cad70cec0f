"""The yield waterfall as tables: for Prefect, for the page, and a short one for the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.report.artifact_files import set_aside_by_training, waterfall_in
from flows.report.record import RunRecord
from tasks.validate.waterfall.yields import STEPS, TRAINED, Group, Waterfall, waterfall_from_json

MOST_GROUPS = 40
"""Rows of a table; the remaining groups are added up in one more row."""


def step_names(found: Waterfall) -> dict[str, str]:
    """The names of the steps; the last leaves the rows that are kept. The training's only if it set rows aside."""
    names = {step: step.replace("_", " ") for step in STEPS if step != TRAINED or step in found.total.lost}
    last = next(reversed(names))
    return names | {last: f"{names[last]}, kept"}


def waterfall_of(record: RunRecord) -> Waterfall | None:
    """A run's waterfall by prompt and source, also if validation stopped the run.

    If the artifact was removed, the waterfall by prompt from the record.
    """
    folder = record.stages.get("validate", {}).get("path") or record.evidence.get("validate")
    whole = waterfall_in(Path(folder)) if folder else None
    if whole is None:
        return waterfall_by_prompt(record)
    train = record.stages.get("train")
    return whole.with_training(set_aside_by_training(Path(train["path"]))) if train else whole


def waterfall_by_prompt(record: RunRecord) -> Waterfall | None:
    """A run's waterfall with the sources of each prompt added up; a record has that of its training too."""
    recorded = record.stages.get("validate", {}).get("waterfall")
    if recorded:
        return waterfall_from_json(recorded)
    whole = waterfall_in(Path(record.evidence["validate"])) if "validate" in record.evidence else None
    return whole.by_prompt() if whole else None


def waterfall_table(record: RunRecord) -> list[dict[str, Any]]:
    """One row for each prompt and source, and a total: rows after each step, and the reasons of the losses."""
    found = waterfall_of(record)
    if found is None or not found.groups:
        return []
    rows, names = [*_most(found), *([found.total] if len(found.groups) > 1 else [])], step_names(found)
    return [
        {"prompt": group.prompt, "source": group.source}
        | {name: group.counts[step] for step, name in names.items()}
        | {"lost to": losses(group)}
        for group in rows
    ]


def waterfall_markdown(record: RunRecord) -> list[str]:
    """The waterfall table as lines of Markdown."""
    rows = waterfall_table(record)
    if not rows:
        return []
    names = list(rows[0])
    numbers = len(names) - 3
    lines = [f"| {' | '.join(names)} |", f"|---|---|{'---:|' * numbers}---|"]
    return lines + [f"| {' | '.join(_cell(row[name]) for name in names)} |" for row in rows]


def losses(group: Group) -> str:
    """The reasons why a group lost rows, in the order of the steps."""
    return ", ".join(f"{rule} {count:,}" for rules in group.lost.values() for rule, count in rules.items())


def _most(found: Waterfall) -> list[Group]:
    if len(found.groups) <= MOST_GROUPS:
        return list(found.groups)
    largest = sorted(found.groups, key=lambda group: -group.asked)[:MOST_GROUPS]
    others = [group for group in found.groups if group not in largest]
    rest = Waterfall(tuple(others)).total
    named = Group(f"({len(others)} more)", "", rest.asked, rest.lost)
    return [*(group for group in found.groups if group in largest), named]


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|").replace("\n", " ")
