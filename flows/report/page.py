"""The morning report: what the night did and why, on one page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flows.report.artifact_files import evaluation_in, pages_in, picture_in
from flows.report.drift_table import HEAD, drift_table
from flows.report.record import COUNTS, RunRecord, attempt_line, rows_table
from flows.report.stage_lines import percent, stage_lines
from flows.report.training_lines import CURVE, training_markdown
from flows.report.waterfall_tables import waterfall_markdown
from tasks.core import tables
from tasks.core.artifacts import REPORT_FOLDER, ArtifactRef
from tasks.core.details import EvaluateDetails, GenerateDetails
from tasks.core.files import write_text

PAGE = "report.md"


def write_page(record: RunRecord) -> None:
    """Write the page of a run that ended, next to its record."""
    write_text(Path(record.folder) / PAGE, report_markdown(record))


def evaluation_rows(found: EvaluateDetails) -> list[tuple[str, str, str]]:
    """Reading, rate and interval, in the order of interest."""
    readings = {
        "base": ("base, free answer", found.base),
        "base_restricted": ("base, labels by likelihood", found.base_restricted),
        "base_few_shot": ("base, examples in its prompt", found.base_few_shot),
        "candidate": ("tuned (candidate)", found.candidate),
        "champion": ("champion before", found.champion),
    }
    return [
        (name, percent(rate), " to ".join(map(percent, found.intervals[reading] or ())))
        for reading, (name, rate) in readings.items()
        if rate is not None
    ]


def caution_lines(found: EvaluateDetails) -> list[str]:
    """Cautions: the base, better asked, is better than the tuned model; and what that has forgotten."""
    readings = {"restricted to the labels": found.base_restricted, "with examples in its prompt": found.base_few_shot}
    lines = [
        f"The base, {how}, reaches {found.metric} {percent(rate)}, more than the tuned model's"
        f" {percent(found.candidate)}; the decision compares plain answers."
        for how, rate in readings.items()
        if rate is not None and rate > found.candidate and percent(rate) != percent(found.candidate)
    ]
    if found.probes_kept is not None:
        labelled = f"; {found.probes_labelled} are answered with a bare label" if found.probes_labelled else ""
        lines.append(
            f"Probes: the tuned model's {len(found.probes)} answers share {percent(found.probes_kept)} of their words"
            f" with the base's (mean token F1){labelled}."
        )
    return lines


def evaluation_markdown(record: RunRecord) -> str:
    """The evaluation as Markdown."""
    found = record.evaluated
    if found is None:
        return "No evaluation in this run."
    level = f"{100 * found.confidence:g}%"
    lines = [
        f"**{found.metric}** on {found.n} held-out documents; decision: **{found.decision}**",
        "",
        f"| model | {found.metric} | {level} interval |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in evaluation_rows(found)),
        "",
        f"Tuned less base: {percent(found.difference)} ({level} interval {percent(found.ci_low)} to"
        f" {percent(found.ci_high)}, p = {found.p_value:.2g}). {found.reason}",
        *caution_lines(found),
        "",
        "| probe | base | tuned |",
        "|---|---|---|",
        *(f"| {_cell(p.prompt)} | {_cell(p.base)} | {_cell(p.candidate)} |" for p in found.probes),
    ]
    if found.curve_gain:
        lines += ["", found.curve_gain.sentence, ""]
        lines += [f"| fraction | training rows | {found.metric} | interval |", "|---:|---:|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in curve_rows(found)]
    return "\n".join(lines)


def curve_rows(found: EvaluateDetails) -> list[tuple[str, str, str, str]]:
    """Fraction, training rows, rate and interval of every model on the learning curve."""
    return [
        (f"{point.fraction:.4g}", f"{point.rows:,}", percent(point.score), " to ".join(map(percent, point.interval)))
        for point in found.curve
    ]


def samples_markdown(artifacts: Mapping[str, ArtifactRef]) -> str:
    """Some rows that the teacher wrote, as a Markdown table."""
    if "generate" not in artifacts:
        return "This recipe generates nothing."
    samples = artifacts["generate"].details(GenerateDetails).samples
    rows = [f"| {_cell(sample.prompt)} | {_cell(sample.input)} | {_cell(sample.output)} |" for sample in samples]
    return "\n".join(["| prompt | input | output |", "|---|---|---|", *rows])


def _cell(text: str | None) -> str:
    return (text or "-").replace("|", "\\|").replace("\n", " ")


def report_markdown(record: RunRecord) -> str:
    """The morning report, one page."""
    lines = [f"# {record.recipe}: {record.status}", ""]
    lines += ["```", record.error, "```", ""] if record.error else [record.reason, ""]
    lines += _evidence(record)
    for attempt in record.attempts:
        lines += ["```", attempt_line(attempt), "```", ""]
    changes = "" if record.changes in record.reason else record.changes
    lines += [f"Run {record.run_id}, {record.seconds:.0f} s. {changes}".strip(), ""]
    if record.stages:
        names = [count.replace("_", " ").removeprefix("rows ") for count in COUNTS]
        lines += [f"| stage | {' | '.join(names)} | seconds | |", "|---|" + "---:|" * len(COUNTS) + "---:|---|"]
        for row in rows_table(record):
            counts = " | ".join(str(row[count]) for count in COUNTS)
            lines.append(f"| {row['stage']} | {counts} | {row['seconds']} | {'cached' if row['cached'] else ''} |")
        lines.append("")
    if sentences := stage_lines(record.stages):
        lines += [*(f"- {line}" for line in sentences), ""]
    lines += _drift(record)
    lines += _yield(record)
    if stage := record.stages.get("train"):
        folder = Path(stage["path"])
        lines += training_markdown(folder, _relative(record, str(folder / REPORT_FOLDER / CURVE)))
    if record.evaluation:
        lines += ["## Evaluation", "", evaluation_markdown(record), ""]
    if stage := record.stages.get("evaluate"):
        lines += _evaluation_files(record, stage)
    if champion := record.champion:
        lines += [f"Champion: {champion['name']} version {champion['version']}", f"in {champion['path']}"]
    return "\n".join(lines) + "\n"


def _evidence(record: RunRecord) -> list[str]:
    lines = []
    for stage, folder in record.evidence.items():
        pages = [_link(record, f"Data Docs of {name}", page) for name, page in pages_in(Path(folder)).items()]
        tables = [_link(record, path.name, str(path)) for path in sorted(Path(folder).glob("*.parquet"))]
        lines.append(f"- What the stage {stage} found: {', '.join([*pages, *tables]) or _link(record, folder, folder)}")
    if lines:
        lines.append(
            f"- `{record.command('quarantine', 'list')}` counts the rows that were set aside;"
            f" `{record.command('quarantine', 'sample')}` shows some. After you fix a contract,"
            f" `{record.command('quarantine', 'replay')}` validates the same rows again."
        )
    return [*lines, ""] * bool(lines)


def _drift(record: RunRecord) -> list[str]:
    rows = drift_table(record)
    table = [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    return ["## Drift", "", f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|", *table, ""] * bool(rows)


def _yield(record: RunRecord) -> list[str]:
    lines = []
    picture = record.stages.get("validate", {}).get("picture")
    if picture is None and "validate" in record.evidence:
        picture = picture_in(Path(record.evidence["validate"]))
    if table := waterfall_markdown(record):
        lines += ["## Yield", "", *table, ""]
    if picture:
        lines += [f"![Yield]({_relative(record, picture)})", ""]
    pages = [
        _link(record, f"{name}: {contract}", page)
        for name, stage in record.stages.items()
        for contract, page in stage.get("pages", {}).items()
    ]
    return lines + [f"Data Docs of the contracts: {', '.join(pages)}.", ""] * bool(pages)


def _evaluation_files(record: RunRecord, stage: Mapping[str, Any]) -> list[str]:
    lines = []
    if page := evaluation_in(Path(stage["path"])):
        answers = _link(record, "every answer", f"{stage['path']}/{tables.ANSWERS}")
        lines += [f"More: {_link(record, 'confused labels and mistakes', page)}; {answers}.", ""]
    if picture := stage.get("curve"):
        lines += [f"![Learning curve]({_relative(record, picture)})", ""]
    return lines


def _link(record: RunRecord, name: str, path: str) -> str:
    return f"[{name}]({_relative(record, path)})"


def _relative(record: RunRecord, path: str) -> str:
    return quote(os.path.relpath(path, record.folder))
