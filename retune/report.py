"""The report of a run in the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.report.artifact_files import evaluation_in, pages_in, picture_in
from flows.report.drift_table import HEAD, drift_table
from flows.report.page import PAGE, caution_lines, curve_rows, evaluation_rows
from flows.report.record import COUNTS, RunRecord, attempt_line, rows_table
from flows.report.stage_lines import percent, stage_lines
from flows.report.waterfall_tables import step_names, waterfall_by_prompt
from retune.terminal import out, plain, show
from tasks.core.details import EvaluateDetails

HEADS = {
    "rows_in": "rows in",
    "accepted": "accepted",
    "quarantined": "quaran-\ntined",
    "duplicates": "dupli-\ncates",
    "contaminated": "contami-\nnated",
    "uncontaminated": "uncon-\ntaminated",
}
"""Hyphenated so that the table fits into 80 columns."""


def print_report(record: RunRecord) -> None:
    """Print rows per stage, the waterfall by prompt, base against tuned, the decision, and where the files are."""
    recipe = escape(record.recipe)
    out.print(f"\n{recipe}: [bold]{record.status}[/] in {record.seconds:.0f} s (run {record.run_id})", soft_wrap=True)
    if record.stages:
        out.print(_rows(record))
    for line in stage_lines(record.stages):
        show(line)
    _print_drift(record)
    _print_yield(record)
    if found := record.evaluated:
        out.print(_evaluation(found))
        if found.curve_gain:
            out.print(_curve(found))
            show(found.curve_gain.sentence)
        if found.probes:
            out.print(_probes(found))
        for line in caution_lines(found):
            show(line)
        show(f"on {found.n} held-out documents; decision: {found.decision}")
    for attempt in record.attempts:
        show(attempt_line(attempt))
    show(record.error or record.reason)
    if record.changes and record.changes not in record.reason:
        show(record.changes)
    if record.champion:
        place = record.champion
        show(f"champion: {place['name']} version {place['version']}, in {place['path']}")
    _print_places(record)


def _rows(record: RunRecord) -> Table:
    table = _table("stage", *map(HEADS.__getitem__, COUNTS), "seconds")
    for row in rows_table(record):
        counts = (str(row[count]) for count in COUNTS)
        table.add_row(row["stage"], *counts, "cached" if row["cached"] else f"{row['seconds']:.1f}")
    return table


def _table(*heads: str) -> Table:
    table = Table()
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


def _print_drift(record: RunRecord) -> None:
    rows = drift_table(record)
    if rows:
        table = _table(*HEAD[:-1])
        for *shown, _ in rows:
            table.add_row(*map(Text, shown))
        out.print(table)


def _print_yield(record: RunRecord) -> None:
    """The waterfall by prompt, without steps that removed nothing; the page has it whole and by source."""
    found = waterfall_by_prompt(record)
    if found is None or not found.groups:
        return
    groups = [*found.groups, *([found.total] if len(found.groups) > 1 else [])]
    names = step_names(found)
    first, *_, last = names
    steps = [step for step in names if step in (first, last, *found.total.lost)]
    table = _table("prompt", *(HEADS.get(step, names[step]) for step in steps))
    for group in groups:
        table.add_row(Text(group.prompt), *(str(group.counts[step]) for step in steps))
    out.print(table)


def _evaluation(found: EvaluateDetails) -> Table:
    table = Table("model", found.metric, f"{100 * found.confidence:g}% interval")
    for reading in evaluation_rows(found):
        table.add_row(*reading)
    interval = f"{percent(found.ci_low)} to {percent(found.ci_high)}"
    table.add_row("tuned less base", percent(found.difference), interval, style="bold")
    return table


def _probes(found: EvaluateDetails) -> Table:
    table = _table("probe", "base", "tuned")
    for probe in found.probes:
        table.add_row(*map(plain, (probe.prompt, probe.base or "-", probe.candidate or "-")))
    return table


def _curve(found: EvaluateDetails) -> Table:
    table = Table("fraction", "training rows", found.metric, f"{100 * found.confidence:g}% interval")
    for row in curve_rows(found):
        table.add_row(*row)
    return table


def _print_places(record: RunRecord) -> None:
    for stage, folder in record.evidence.items():
        show(f"findings of stage {stage}, which stopped the run: {folder}")
    folders = {stage: done["path"] for stage, done in record.stages.items()} | dict(record.evidence)
    for stage, folder in folders.items():
        for contract, page in pages_in(Path(folder)).items():
            show(f"data docs, {stage}, {contract}: {page}")
        if picture := record.stages.get(stage, {}).get("picture") or picture_in(Path(folder)):
            show(f"waterfall: {picture}")
        if evaluation := evaluation_in(Path(folder)):
            show(f"evaluation: {evaluation}")
    if curve := record.stages.get("evaluate", {}).get("curve"):
        show(f"learning curve: {curve}")
    if record.evidence or any(row[count] for row in rows_table(record) for count in COUNTS[2:]):
        show(f"rows set aside: {record.command('quarantine', 'list')}")
    whole = Path(record.folder) / PAGE
    if whole.is_file():
        show(f"page: {whole}")
