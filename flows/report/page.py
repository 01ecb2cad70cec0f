"""The morning report: on one page what the night did, and why."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flows.report.artifact_files import evaluation_in, pages_in, picture_in
from flows.report.drift_table import HEAD, drift_table
from flows.report.record import COUNTS, RunRecord, rows_table
from flows.report.stage_lines import percent, stage_lines
from flows.report.training_lines import CURVE, training_markdown
from flows.report.waterfall_tables import waterfall_markdown
from tasks.core import tables
from tasks.core.artifacts import REPORT_FOLDER, ArtifactRef
from tasks.core.files import write_text

PAGE = "report.md"


def write_page(record: RunRecord) -> None:
    """Write the report of a run that ended beside its record."""
    write_text(Path(record.folder) / PAGE, report_markdown(record))


def evaluation_rows(evaluation: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Reading, rate and interval, in the order a reader wants them."""
    names = {
        "base": "base, free answer",
        "base_restricted": "base, labels by likelihood",
        "candidate": "tuned (candidate)",
        "champion": "champion before",
    }
    rows = []
    for key, name in names.items():
        if evaluation.get(key) is not None:
            low, high = evaluation["intervals"][key]
            rows.append((name, percent(evaluation[key]), f"{percent(low)} to {percent(high)}"))
    return rows


def labels_line(evaluation: Mapping[str, Any]) -> list[str]:
    """A caution where the base, allowed the labels alone, is better than the tuned model's free answers."""
    restricted, candidate = evaluation.get("base_restricted"), evaluation["candidate"]
    if restricted is None or restricted <= candidate or percent(restricted) == percent(candidate):
        return []
    rates = f"{evaluation['metric']} {percent(restricted)}, more than the tuned model's {percent(candidate)}"
    return [f"The base, allowed the labels alone, reaches {rates}; the decision compares free answers."]


def evaluation_markdown(record: RunRecord) -> str:
    """The evaluation as Markdown, or why there is none."""
    if record.evaluation is None:
        return "No evaluation in this run."
    found = record.evaluation
    level = f"{100 * found['confidence']:g}%"
    lines = [
        f"**{found['metric']}** on {found['n']} held-out documents; decision: **{found['decision']}**",
        "",
        f"| model | {found['metric']} | {level} interval |",
        "|---|---|---|",
        *(f"| {name} | {rate} | {interval} |" for name, rate, interval in evaluation_rows(found)),
        "",
        f"Tuned less base: {percent(found['difference'])} ({level} interval {percent(found['ci_low'])} to"
        f" {percent(found['ci_high'])}, p = {found['p_value']:.2g}). {found['reason']}",
        *labels_line(found),
        "",
        "| probe | base | tuned |",
        "|---|---|---|",
        *(f"| {_cell(p['prompt'])} | {_cell(p['base'])} | {_cell(p['candidate'])} |" for p in found["probes"]),
    ]
    return "\n".join(lines + curve_lines(found))


def curve_lines(evaluation: Mapping[str, Any]) -> list[str]:
    """The learning curve as Markdown, where there is one."""
    if "curve" not in evaluation:
        return []
    head = ["", evaluation["curve_gain"]["sentence"], ""]
    table = [f"| fraction | training rows | {evaluation['metric']} | interval |", "|---:|---:|---|---|"]
    return head + table + [f"| {' | '.join(row)} |" for row in curve_rows(evaluation)]


def curve_rows(evaluation: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Fraction, training rows, rate and interval of every model on the learning curve."""
    return [
        (
            f"{point['fraction']:.4g}",
            f"{point['rows']:,}",
            percent(point["score"]),
            " to ".join(map(percent, point["interval"])),
        )
        for point in evaluation.get("curve", [])
    ]


def samples_markdown(artifacts: Mapping[str, ArtifactRef]) -> str:
    """Some of the rows that the teacher wrote, as a Markdown table."""
    if "generate" not in artifacts:
        return "This recipe generates nothing."
    samples = artifacts["generate"].manifest()["summary"]["details"]["samples"]
    rows = [f"| {_cell(s['prompt'])} | {_cell(s['input'])} | {_cell(s['output'])} |" for s in samples]
    return "\n".join(["| prompt | input | output |", "|---|---|---|", *rows])


def _cell(text: str | None) -> str:
    return (text or "-").replace("|", "\\|").replace("\n", " ")


def report_markdown(record: RunRecord) -> str:
    """The morning report, one page."""
    lines = [f"# {record.recipe}: {record.status}", ""]
    lines += ["```", record.error, "```", ""] if record.error else [record.reason, ""]
    lines += _evidence(record)
    changes = "" if record.changes in record.reason else record.changes
    lines += [f"Run {record.run_id}, {record.seconds:.0f} s. {changes}".strip(), ""]
    if record.stages:
        names = [count.replace("_", " ").removeprefix("rows ") for count in COUNTS]
        lines += [f"| stage | {' | '.join(names)} | seconds | |", "|---|" + "---:|" * len(COUNTS) + "---:|---|"]
        for row in rows_table(record):
            counts = " | ".join(str(row[count]) for count in COUNTS)
            lines.append(f"| {row['stage']} | {counts} | {row['seconds']} | {'cached' if row['cached'] else ''} |")
        lines.append("")
    if said := stage_lines(record.stages):
        lines += [*(f"- {line}" for line in said), ""]
    lines += _drift(record)
    lines += _yield(record)
    lines += _training(record)
    if record.evaluation:
        lines += ["## Evaluation", "", evaluation_markdown(record), ""]
        lines += _answers(record)
        if picture := record.stages.get("evaluate", {}).get("curve"):
            lines += [f"![Learning curve]({_relative(record, picture)})", ""]
    if record.champion:
        lines.append(f"Champion: {record.champion['name']} version {record.champion['version']}")
        lines.append(f"in {record.champion['path']}")
    return "\n".join(lines) + "\n"


def _evidence(record: RunRecord) -> list[str]:
    """Of a run that validation stopped, what lies where."""
    lines = []
    for stage, folder in record.evidence.items():
        pages = [_link(record, f"Data Docs of {name}", page) for name, page in pages_in(Path(folder)).items()]
        tables = [_link(record, path.name, str(path)) for path in sorted(Path(folder).glob("*.parquet"))]
        lines.append(f"- What the stage {stage} found: {', '.join([*pages, *tables]) or _link(record, folder, folder)}")
    if lines:
        lines.append(
            f"- `retune quarantine list --run {record.run_id}` counts the rows that were set aside, `retune quarantine"
            f" sample --run {record.run_id}` shows some; after a contract was mended, `retune quarantine replay --run"
            f" {record.run_id}` validates the same rows again."
        )
    return [*lines, ""] * bool(lines)


def _drift(record: RunRecord) -> list[str]:
    rows = drift_table(record)
    table = [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    return ["## Drift", "", f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|", *table, ""] * bool(rows)


def _yield(record: RunRecord) -> list[str]:
    """The waterfall with its picture, and the Data Docs of every contract."""
    lines = []
    picture = record.stages.get("validate", {}).get("picture")
    if picture is None and "validate" in record.evidence:
        picture = picture_in(Path(record.evidence["validate"]))
    if table := waterfall_markdown(record):
        lines += ["## What became of the rows", "", *table, ""]
    if picture:
        lines += [f"![What became of the rows]({_relative(record, picture)})", ""]
    pages = [
        _link(record, f"{name}: {contract}", page)
        for name, stage in record.stages.items()
        for contract, page in stage.get("pages", {}).items()
    ]
    return lines + [f"Data Docs of the contracts: {', '.join(pages)}.", ""] * bool(pages)


def _training(record: RunRecord) -> list[str]:
    stage = record.stages.get("train")
    if stage is None:
        return []
    return training_markdown(stage, _relative(record, str(Path(stage["path"]) / REPORT_FOLDER / CURVE)))


def _answers(record: RunRecord) -> list[str]:
    """Links to the evaluation's page and to every answer."""
    stage = record.stages.get("evaluate")
    page = evaluation_in(Path(stage["path"])) if stage else None
    if stage is None or page is None:
        return []
    answers = _link(record, "every answer", f"{stage['path']}/{tables.ANSWERS}")
    return [f"More on it: {_link(record, 'labels mixed up, and mistakes', page)}; {answers}.", ""]


def _link(record: RunRecord, name: str, path: str) -> str:
    return f"[{name}]({_relative(record, path)})"


def _relative(record: RunRecord, path: str) -> str:
    """A path as seen from the page, so that links live as long as RETUNE_HOME, wherever it is moved."""
    return quote(os.path.relpath(path, record.folder))
