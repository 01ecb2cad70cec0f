"""Print rows that were set aside. Text of a model or a source is never markup or a control code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from retune.quarantine.counts import LostCounts, merge_sources
from retune.quarantine.lost_rows import HELD_OUT, KEPT, TRAINING_DOCUMENT, shown_outcome, shown_rule
from retune.terminal import plain
from tasks.core.files import canonical_json

if TYPE_CHECKING:
    from retune.quarantine.details import LostRow
    from retune.quarantine.replay import Recovered, Replay
    from retune.quarantine.row_trace import RowTrace, Written
    from retune.quarantine.samples import Sample

MOST_LINES = 60
MOST_SAMPLED, MOST_TRACED = 600, 4_000
"""Characters of one text of a sampled and of a traced row."""
OUTCOMES = {
    KEPT: "kept in the training set",
    HELD_OUT: "held out for the evaluation, trains nothing",
    TRAINING_DOCUMENT: "a training document",
}
"""Outcomes of rows that were not set aside."""
SEVERITY_STYLES = {"critical": "red", "warning": "yellow"}


def print_counts(console: Console, counts: LostCounts) -> None:
    """Print the counts of each stage, then a line for each rule, prompt and source."""
    console.print(plain(f"run {counts.run_id}", "bold"))
    for stage, outcomes in counts.rows.items():
        listed = ", ".join(f"{rows:,} {outcome}" for outcome, rows in outcomes.items()) or "nothing set aside"
        console.print(plain(f"{stage}: {listed}"))
    for stage in counts.gone:
        console.print(plain(f"{stage}: its artifact is gone", "yellow"))
    if not counts.lines:
        return
    table = Table()
    for name in ("stage", "rule", "prompt", "source", "rows"):
        table.add_column(name, overflow="fold")
    lines = counts.lines if len(counts.lines) <= MOST_LINES else merge_sources(counts.lines)
    for line in lines[:MOST_LINES]:
        rule = shown_rule(line.rule, line.outcome)
        table.add_row(*map(plain, (line.stage, rule, line.prompt, line.source)), f"{line.rows:,}")
    console.print(table)
    if len(lines) > MOST_LINES:
        console.print(plain(f"and {len(lines) - MOST_LINES} more lines: --json has all"))
    console.print(plain("a row that broke several rules counts under each of them", "dim"))


def print_sample(console: Console, sample: Sample) -> None:
    """Print each row with its text and why it was set aside."""
    for row in sample.rows:
        _print_row(console, row, MOST_SAMPLED)
    console.print(plain(f"\n{len(sample.rows)} of {sample.of:,} rows of run {sample.run_id}", "bold"))
    show = f"{sample.shown_by} traces a row back to its prompt and document"
    console.print(plain(show, "dim"), soft_wrap=True)


def print_trace(console: Console, trace: RowTrace) -> None:
    """Print a row, the rules it broke, its request, and its document."""
    _print_row(console, trace.row, MOST_TRACED)
    if trace.written:
        _print_written(console, trace.written)
    if trace.document:
        console.print(plain("document:", "cyan"))
        _print_values(console, trace.document)
    if trace.same_id:
        places = _cut(", ".join(trace.same_id), MOST_TRACED)
        console.print(plain(f"set aside by collect under the same id: {places}"), soft_wrap=True)
    console.print(plain(f"run {trace.run_id}", "dim"))


def print_replay(console: Console, done: Replay) -> None:
    """Print the rows that were recovered and newly quarantined, and what the next run does with them."""
    _print_recovered(console, "documents", done.documents)
    if done.rows is None:
        console.print(plain("the run had generated no rows yet: only its documents were checked", "bold"))
    else:
        _print_recovered(console, "rows", done.rows)
        was = "there was none" if done.before is None else f"it had {done.before:,}"
        console.print(plain(f"training set: {done.training_set:,} rows ({was} in run {done.run_id})", "bold"))
    if done.was_there:
        console.print(plain("this result was stored already: neither contracts nor rows have changed"))
    continues = "continues from here, as long as documents, prompts and teacher stay as they are"
    asks = "asks the teacher for the rows that are missing for the remaining documents, and validates again"
    then = asks if done.asks_again else continues
    console.print(plain(f"the next `{done.run_again}` {then}"), soft_wrap=True)
    console.print(plain(f"in {done.path}", "dim"), soft_wrap=True)


def _print_recovered(console: Console, what: str, found: Recovered) -> None:
    now_in = ", ".join(f"{place} {rows:,}" for place, rows in found.went_to.items() if rows)
    for change, rules in (("recovered", found.recovered), ("newly quarantined", found.quarantined)):
        by_rule = ", ".join(f"{rule} {rows:,}" for rule, rows in rules.items())
        now = f"; now: {now_in}" if change == "recovered" and now_in else ""
        console.print(plain(f"{what} {change}: {sum(rules.values()):,}" + (f" ({by_rule}{now})" if rules else "")))


def _print_row(console: Console, row: LostRow, most: int) -> None:
    outcome = OUTCOMES.get(row.outcome) or shown_outcome(row.outcome)
    console.rule(plain(f"row {row.row_id}: {outcome}, {row.stage}", "bold"), align="left")
    document = f", document {row.document_id}" if row.document_id else ""
    console.print(plain(f"prompt {row.prompt}, source {row.source}{document}", "dim"), soft_wrap=True)
    for reason in row.reasons:
        of_contract = " of ".join(filter(None, [reason.column, reason.contract]))
        head = f"{reason.rule} ({reason.severity}, {of_contract})" if of_contract else reason.rule
        console.print(plain(head, SEVERITY_STYLES.get(reason.severity, "")))
        _print_text(console, reason.said, most)
    for role, text in (*row.turns, *([("raw", row.raw)] if row.raw else [])):
        console.print(plain(f"{role}:", "cyan"))
        _print_text(console, text, most)


def _print_written(console: Console, written: Written) -> None:
    console.print(plain(f"prompt {written.prompt}, as it was sent:", "cyan"))
    for role, text in written.sent.messages:
        console.print(Padding(plain(f"{role}:", "cyan"), (0, 0, 0, 2)))
        _print_text(console, text, MOST_TRACED, inset=4)
    _print_text(console, written.sent.note, MOST_TRACED, style="dim")
    for judgement in written.judgements:
        verdict, style = ("passed", "green") if judgement["passed"] else ("refused", "red")
        reasons = _cut(str(judgement.get("problem") or judgement["reasons"]), MOST_TRACED)
        console.print(plain(f"judge {judgement['judge']}: {verdict}, {reasons}", style))
    console.print(plain("written:", "cyan"))
    values = {
        "prompt digest": written.prompt_digest,
        "teacher": written.teacher,
        "teacher revision": written.teacher_revision,
        "sampling": written.sampling and canonical_json(written.sampling),
        "seed": written.seed,
        "attempts": written.attempts,
        "drawn": written.drawn and canonical_json(written.drawn),
        "request": written.request_id,
        "asked by run": written.run_id,
    }
    _print_values(console, values)


def _print_values(console: Console, values: Mapping[str, object]) -> None:
    for name, value in values.items():
        if value not in (None, "", {}):
            console.print(plain(f"  {name}: {_cut(str(value), MOST_TRACED)}"), soft_wrap=True)


def _print_text(console: Console, text: str, most: int, inset: int = 2, style: str = "") -> None:
    if text:
        console.print(Padding(plain(_cut(text, most), style), (0, 0, 0, inset)))


def _cut(text: str, most: int) -> str:
    left_out = len(text) - most
    return text if left_out <= 0 else f"{text[:most]} [... {left_out:,} more characters: --json has them]"
