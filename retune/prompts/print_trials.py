"""Print trials and comparisons of templates. Text of a model is never markup or a control code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from retune.display_text import Piece, shortened, word_changes
from retune.prompts.comparison_lines import footnote, readings, reasons, sentence
from retune.prompts.preview import Preview
from retune.prompts.report import DiffReport, Sample, outcome_counts
from retune.prompts.trials import Trial, judgement_text, verdict
from retune.terminal import plain

MOST_SAMPLES = 6
MOST_CHARACTERS = 600
STYLES = {"+": "green", "-": "red", "@": "cyan"}
PIECE_STYLES = {"same": "", "removed": "red strike", "added": "green"}
JUDGEMENTS = {"better": "green", "worse": "red", "": ""}


def print_diff(console: Console, report: DiffReport) -> None:
    """Print the comparison with a few samples; the page has more."""
    changed = f"against {report.revision}, “{report.subject}”"
    console.print(plain(report.prompt, "bold") + plain(f": {report.path} {changed}"), soft_wrap=True)
    requests = report.comparison.after.requests
    where = f"recipe {report.recipe}, teacher {report.teacher}; {requests} requests each, on {report.document_count} of"
    console.print(plain(f"{where} {report.documents}"), soft_wrap=True)
    console.print(plain(f"\n{sentence(report.comparison)}", "bold"))
    console.print(_measures(report))
    console.print(plain(footnote(report.comparison), "dim"))
    if report.comparison.before.reasons or report.comparison.after.reasons:
        console.print(_reasons(report))
    for change in report.changes:
        console.print(plain(f"\n{change.name}", "bold"))
        console.print(Group(*(plain(line, STYLES.get(line[:1], "")) for line in change.lines)))
    counts = "; ".join(f"{outcome}: {count}" for outcome, count in outcome_counts(report.samples))
    console.print(plain("\nanswers side by side", "bold") + plain(f"  ({counts})"))
    for sample in report.by_outcome[:MOST_SAMPLES]:
        console.print(_sample(sample))


def _measures(report: DiffReport) -> Table:
    table = Table("measure", "committed", "edited", "change")
    for reading in readings(report.comparison):
        style = JUDGEMENTS[reading.judgement]
        table.add_row(reading.name, reading.before, reading.after, Text(reading.change, style))
    return table


def _reasons(report: DiffReport) -> Table:
    table = Table("rejected rows by rule", "committed", "edited")
    for rule, before, after in reasons(report.comparison):
        table.add_row(plain(rule), str(before), str(after))
    return table


def _sample(sample: Sample) -> Table:
    title = f"{sample.outcome}: document {sample.before.document_id}, row {sample.before.index}"
    table = Table(title=plain(title), title_justify="left", expand=True, show_header=True)
    sides = (sample.before, sample.after)
    for name, trial in zip(("committed", "edited"), sides, strict=True):
        style = "green" if trial.kept else "red"
        table.add_column(plain(f"{name}: {verdict(trial)}", style), ratio=1, overflow="fold")
    texts = [shortened(trial.answer or "", MOST_CHARACTERS) for trial in sides]
    table.add_row(*(_pieces(pieces) for pieces in word_changes(*texts)))
    return table


def _pieces(pieces: Iterable[Piece]) -> Text:
    return Text.assemble(*(plain(piece.text, PIECE_STYLES[piece.kind]) for piece in pieces))


def print_preview(console: Console, shown: Preview) -> None:
    """Print what a template sends for each row and, if the teacher was asked, the rows and how long it took."""
    print_trials(console, shown.trials)
    origin = f"recipe {shown.recipe}, {shown.documents}"
    if not shown.asked:
        console.print(plain(f"\n{origin}; --run asks the teacher", "dim"), soft_wrap=True)
        return
    rows = [row for trial in shown.trials for row in trial.rows]
    kept = sum(row.is_kept for row in rows)
    console.print(plain(f"\n{kept} of {len(rows)} rows kept, in {shown.seconds:.1f} s", "bold"))
    console.print(plain(f"{origin}, teacher {shown.teacher}", "dim"), soft_wrap=True)


def print_trials(console: Console, trials: Sequence[Trial]) -> None:
    """Print each row: its prompt, unless an earlier row has the same, and its outcome."""
    for number, trial in enumerate(trials, 1):
        title = f"row {number} of {len(trials)}: document {trial.document_id}, row {trial.index} of it"
        console.rule(plain(title, "bold"), align="left")
        twin = next((at for at, other in enumerate(trials[: number - 1], 1) if other.messages == trial.messages), None)
        if twin is not None and trial.messages:
            console.print(plain(f"the same prompt as row {twin}, with another seed", "dim"))
        else:
            for turn in trial.messages:
                console.print(plain(f"{turn['role']}:", "cyan"))
                console.print(_inset(plain(str(turn["content"]))))
        console.print(_cost(trial))
        console.print(Group(*_outcome(trial)))


def _cost(trial: Trial) -> Text:
    counted = "tokens not counted" if trial.prompt_tokens is None else f"{trial.prompt_tokens} tokens"
    if trial.answer is None:
        return plain(counted, "dim")
    known = ", stored by an earlier run" if trial.was_stored else ""
    return plain(f"{counted} in, {trial.completion_tokens} out{known}", "dim")


def _outcome(trial: Trial) -> Iterable[RenderableType]:
    if trial.answer is not None:
        yield plain(f"answer ({trial.finish_reason or 'no reason to stop given'}):", "cyan")
        yield _inset(plain(trial.answer))
    for row in trial.rows:
        yield plain("row: kept", "green") if row.rule is None else plain(f"row: {row.rule}", "red")
        for name, value in row.fields.items():
            yield _inset(plain(f"{name}: {value}"))
        for judgement in row.judgements:
            mark = "passed" if judgement.passed else "refused"
            yield _inset(
                plain(f"{judgement.judge}: {mark}, {judgement_text(judgement)}", "green" if judgement.passed else "red")
            )


def _inset(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2))
