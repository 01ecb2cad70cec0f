"""What the stages found, in sentences: one line for each thing that somebody should know in the morning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.report.training_lines import train_lines
from tasks.core import tables

SHOWN_NOTES = 5
SHOWN_SHARED = 160
MEASURES = {"self_bleu": "self-BLEU", "vendi": "Vendi score"}

Stage = Mapping[str, Any]


def percent(rate: float | None) -> str:
    """A fraction as a percentage."""
    return "-" if rate is None else f"{rate:.1%}"


def stage_lines(stages: Mapping[str, Stage]) -> list[str]:
    """Of all stages that a run finished, in their order."""
    describe = {
        "collect": collect_lines,
        "check_documents": document_lines,
        "generate": generate_lines,
        "validate": validate_lines,
        "check_training_set": training_set_lines,
        "train": train_lines,
        "evaluate": evaluate_lines,
    }
    return [line for name, lines in describe.items() if name in stages for line in lines(stages[name])]


def collect_lines(stage: Stage) -> list[str]:
    """What hygiene found, why rows went to quarantine, how many documents are held out, and what gave no rows.

    Those held out do not go on to generation and training; those gone from the sources are in no count of collect, and
    come back in the next stage's.
    """
    lines = []
    if stage.get("found"):
        lines.append("Found in the documents: " + _counts(stage["found"]) + ".")
    if stage.get("rules"):
        lines.append("Collect quarantined: " + _counts(stage["rules"]) + f"; see {stage['path']}/{tables.QUARANTINE}.")
    if held := stage.get("splits", {}).get("holdout"):
        gone = stage.get("gone_but_held_out")
        lines.append(
            f"Held out for the evaluation: {held}{f', of which {gone} are no longer in the sources' * bool(gone)}."
        )
    notes = stage.get("notes", [])
    more = [f"and {len(notes) - SHOWN_NOTES} more"] if len(notes) > SHOWN_NOTES else []
    return lines + ["; ".join([*notes[:SHOWN_NOTES], *more]) + "."] * bool(notes)


def document_lines(stage: Stage) -> list[str]:
    """Which documents broke their contracts."""
    lines = []
    if stage.get("rules"):
        lines.append("Documents that broke their contract: " + _counts(stage["rules"]) + ".")
    if unasked := stage.get("by_contract", {}).get("evaluations", {}).get("quarantined"):
        lines.append(f"Held-out documents that will not be asked, because they broke their contract: {unasked}.")
    return lines + _warnings("Warnings of the documents' contracts", stage)


def generate_lines(stage: Stage) -> list[str]:
    """What the teacher was asked, what came of it, and what it took."""
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


def validate_lines(stage: Stage) -> list[str]:
    """What rows were lost to, and what is left."""
    lines = []
    if stage.get("rules"):
        lines.append("Rows that broke a contract: " + _counts(stage["rules"]) + ".")
    lines += _warnings("Warnings of the rows' contracts", stage)
    if stage.get("contamination"):
        lines.append("Rows that repeat an evaluation text: " + _counts(stage["contamination"]) + _example(stage) + ".")
    if stage.get("duplicate_kinds"):
        lines.append("Duplicates: " + _counts(stage["duplicate_kinds"]) + ".")
    lines += _floors(stage)
    if stage.get("control"):
        lines.append(f"Kept beside the training set: a control of {stage['control']} unfiltered rows.")
    return lines + _diversity(stage.get("diversity", {}))


def training_set_lines(stage: Stage) -> list[str]:
    """What the training set was compared with, and what its contract warns of; the measures are in a table."""
    against = [f"{what} {version}" for what, version in stage.get("compared_with", {}).items()]
    lines = [f"The training set was compared with {' and '.join(against)}." if against
             else "The training set was compared with nothing: none was published before."]  # fmt: skip
    return lines + _warnings("Warnings of the training set's contract", stage)


def evaluate_lines(stage: Stage) -> list[str]:
    """Held-out documents that were not asked."""
    unasked = stage.get("replay_unasked")
    return [f"Held-out documents of replay sources, which are not asked: {unasked}."] * bool(unasked)


def _floors(stage: Stage) -> list[str]:
    """How near the floors are: in all, and for the label that has least to spare."""
    floors = dict(stage.get("floors", {}))
    have, wanted = floors.pop("minimum_rows", (0, 0))
    said = [f"{have} rows, of {wanted} wanted"] if wanted > 1 else []
    if floors:
        label, (have, wanted) = min(floors.items(), key=lambda item: item[1][0] - item[1][1])
        said.append(f"least with the answer {label!r}: {have}, of {wanted} wanted")
    return [f"Floors: {'; '.join(said)}."] * bool(said)


def _diversity(measured: Mapping[str, Any]) -> list[str]:
    names = {name: MEASURES.get(name, name.replace("_", "-")) for name in measured if name != "sample"}
    said = [f"{names[name]} {value:.3g}" for name, value in measured.items() if name in names and value is not None]
    return [f"Diversity of {measured.get('sample')} rows of the training set: {', '.join(said)}."] * bool(said)


def _warnings(what: str, stage: Stage) -> list[str]:
    found = stage.get("warnings", {})
    said = [f"{rule} ({observed})" for rule, observed in found.items()]
    more = [f"and {len(said) - SHOWN_NOTES} more"] if len(said) > SHOWN_NOTES else []
    return [f"{what}: " + "; ".join([*said[:SHOWN_NOTES], *more]) + "."] * bool(said)


def _example(stage: Stage) -> str:
    leak = stage.get("leak")
    if not leak:
        return ""
    shared = " ".join(leak["shared"].split())
    shown = shared if len(shared) <= SHOWN_SHARED else shared[: SHOWN_SHARED - 1] + "\u2026"
    of_text = f"{percent(leak['coverage'])} of {leak['evaluation_id']!r} ({leak['set']})"
    return f"; for one, row {leak['row_id']} has {of_text}: \u201c{shown}\u201d"


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
    return ", ".join(f"{name} {value}" for name, value in counts.items() if value not in (None, 0))
