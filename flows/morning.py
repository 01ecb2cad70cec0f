"""The morning report: on one page what the night did, and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.report import COUNTS, RunRecord, rows_table
from tasks.core.artifacts import ArtifactRef
from tasks.core.files import write_text

PAGE = "report.md"
SHOWN_NOTES = 5


def write_page(record: RunRecord) -> None:
    """Write the report of a run that ended beside its record."""
    write_text(Path(record.folder) / PAGE, report_markdown(record))


def percent(rate: float | None) -> str:
    """A fraction as a percentage."""
    return "-" if rate is None else f"{rate:.1%}"


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


def evaluation_markdown(record: RunRecord) -> str:
    """The evaluation as Markdown, or why there is none."""
    if record.evaluation is None:
        return "No evaluation in this run."
    found = record.evaluation
    level = f"{found['confidence']:.0%}"
    lines = [
        f"**{found['metric']}** on {found['n']} held-out documents; decision: **{found['decision']}**",
        "",
        f"| model | {found['metric']} | {level} interval |",
        "|---|---|---|",
        *(f"| {name} | {rate} | {interval} |" for name, rate, interval in evaluation_rows(found)),
        "",
        f"Tuned less base: {percent(found['difference'])} ({level} interval {percent(found['ci_low'])} to"
        f" {percent(found['ci_high'])}, p = {found['p_value']:.2g}). {found['reason']}",
        "",
        "| probe | base | tuned |",
        "|---|---|---|",
        *(f"| {_cell(p['prompt'])} | {_cell(p['base'])} | {_cell(p['candidate'])} |" for p in found["probes"]),
    ]
    return "\n".join(lines)


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
    lines = [f"# {record.recipe}: {record.status}", "", record.reason, ""]
    if record.error:
        lines += ["```", record.error, "```", ""]
    lines += [f"Run {record.run_id}, {record.seconds:.0f} s. {record.changes}".strip(), ""]
    if record.stages:
        lines += ["| stage | in | accepted | quarantined | duplicates | seconds | |", "|---|---|---|---|---|---|---|"]
        for row in rows_table(record):
            counts = " | ".join(str(row[count]) for count in COUNTS)
            lines.append(f"| {row['stage']} | {counts} | {row['seconds']} | {'cached' if row['cached'] else ''} |")
        lines.append("")
    for name, describe in (("collect", collect_lines), ("generate", generate_lines)):
        if said := describe(record.stages.get(name, {})):
            lines += [*(f"- {line}" for line in said), ""]
    if record.evaluation:
        lines += [evaluation_markdown(record), ""]
    if record.champion:
        lines.append(f"Champion: {record.champion['name']} version {record.champion['version']}")
        lines.append(f"in {record.champion['path']}")
    return "\n".join(lines) + "\n"


def collect_lines(stage: Mapping[str, Any]) -> list[str]:
    """What the sources gave beside documents: what hygiene found, why rows went to quarantine, files passed over."""
    lines = []
    if stage.get("found"):
        lines.append("Found in the documents: " + _counts(stage["found"]) + ".")
    if stage.get("rules"):
        lines.append("Collect quarantined: " + _counts(stage["rules"]) + f"; see {stage['path']}/quarantine.parquet.")
    notes = stage.get("notes", [])
    more = [f"and {len(notes) - SHOWN_NOTES} more"] if len(notes) > SHOWN_NOTES else []
    return lines + ["; ".join([*notes[:SHOWN_NOTES], *more]) + "."] * bool(notes)


def generate_lines(stage: Mapping[str, Any]) -> list[str]:
    """What the teacher was asked, what came of it, and what it took."""
    if not stage:
        return []
    kept = "; ".join(
        f"{name} {prompt['kept']} of {prompt['requests']}" for name, prompt in stage.get("by_prompt", {}).items()
    )
    lines = [f"Rows kept by prompt: {kept}. Requests: {stage.get('asked', 0)} asked, {stage.get('reused', 0)} reused."]
    if stage.get("stopped"):
        lines.append(f"Generation stopped at the limit {stage['stopped']}: {stage.get('unasked', 0)} not asked.")
    if stage.get("failed"):
        lines.append(f"Requests without an answer, which the next night asks again: {stage['failed']}.")
    for name, judge in stage.get("judges", {}).items():
        lines.append(f"Judge {name}: " + _counts(judge) + ".")
    stats = stage.get("stats")
    if stats and not stage["cached"] and stats["asked"]:
        lines.append(_speed(stats))
    return lines


def _speed(stats: Mapping[str, Any]) -> str:
    said = [
        f"{stats['prompt_tokens']:,} tokens in, {stats['completion_tokens']:,} out",
        f"{stats['tokens_per_second']:,.0f} tokens a second",
    ]
    if stats["prefix_cache_hit_rate"] is not None:
        said.append(f"{percent(stats['prefix_cache_hit_rate'])} of the prompts' tokens from the prefix cache")
    if stats["latency_seconds"]:
        said.append("latency " + ", ".join(f"{name} {value:.2f} s" for name, value in stats["latency_seconds"].items()))
    if stats["restarts"]:
        said.append(f"the server was restarted {stats['restarts']} times")
    return "; ".join(said) + "."


def _counts(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in counts.items() if value not in (None, 0))
