"""What the stages reported, in sentences: one line for each thing worth knowing in the morning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.report.training_lines import train_lines
from tasks.core import tables
from tasks.core.details import (
    CollectDetails,
    DocumentsDetails,
    EngineStats,
    GenerateDetails,
    TrainDetails,
    TrainingSetDetails,
    ValidateDetails,
)

SHOWN_NOTES = 5
SHOWN_CHARACTERS = 160
MEASURES = {"self_bleu": "self-BLEU", "vendi": "Vendi score"}

Stage = Mapping[str, Any]


def percent(rate: float | None) -> str:
    """A fraction as a percentage."""
    return "-" if rate is None else f"{rate:.1%}"


def stage_lines(stages: Mapping[str, Stage]) -> list[str]:
    """The lines of all stages of a run's record, in the order of the stages."""
    lines: list[str] = []
    if stage := stages.get("collect"):
        lines += collect_lines(CollectDetails.model_validate(stage), stage["path"])
    if stage := stages.get("check_documents"):
        lines += document_lines(DocumentsDetails.model_validate(stage))
    if stage := stages.get("generate"):
        lines += generate_lines(GenerateDetails.model_validate(stage), stage["cached"])
    if stage := stages.get("validate"):
        lines += validate_lines(ValidateDetails.model_validate(stage), stage.get("leak"))
    if stage := stages.get("check_training_set"):
        lines += training_set_lines(TrainingSetDetails.model_validate(stage))
    if stage := stages.get("train", {}).get("training"):
        lines += train_lines(TrainDetails.model_validate(stage))
    for name, verb in (("train", "Training"), ("evaluate", "Evaluation")):
        if rules := stages.get(name, {}).get("rules"):
            lines.append(f"{verb} set aside: {_counts(rules)}.")
    if stage := stages.get("evaluate"):
        lines += evaluate_lines(stage.get("replay_unasked"))
    return lines


def collect_lines(found: CollectDetails, path: str) -> list[str]:
    """What hygiene found, what was not read, why rows were quarantined, and how many documents are held out.

    Held-out documents do not go on to generation and training. Those that left the sources are not in collect's counts,
    but are in those of the next stage. Notes name sources without rows.
    """
    lines = []
    if found.found:
        lines.append(f"Found in the documents: {_counts(found.found)}.")
    if found.ignored:
        names = [f"{name} {rows}" for name, rows in found.ignored.items()]
        lines.append(f"Not read from the sources (rows): {_first(names)}.")
    if found.rules:
        lines.append(f"Collect quarantined: {_counts(found.rules)}; see {path}/{tables.QUARANTINE}.")
    if held_out := found.splits.get("holdout"):
        gone = found.gone_but_held_out
        lines.append(
            f"Held out for the evaluation: {held_out}{f', of which {gone} are no longer in the sources' * bool(gone)}."
        )
    return lines + [f"{_first(found.notes)}."] * bool(found.notes)


def document_lines(found: DocumentsDetails) -> list[str]:
    """Which documents broke their contracts."""
    lines = []
    if found.rules:
        lines.append(f"Documents that broke their contract: {_counts(found.rules)}.")
    if unasked := found.by_contract.get("evaluations", {}).get("quarantined"):
        lines.append(f"Held-out documents that will not be asked, because they broke their contract: {unasked}.")
    return lines + _warnings("Warnings of the documents' contracts", found.warnings)


def generate_lines(found: GenerateDetails, cached: bool) -> list[str]:
    """What the teacher was asked, how many rows were kept, and what it cost."""
    kept = "; ".join(f"{name} {counts['kept']} of {counts['requests']}" for name, counts in found.by_prompt.items())
    lines = [f"Rows kept by prompt: {kept}. Requests: {found.asked} asked, {found.reused} reused."]
    if found.stopped:
        lines.append(f"Generation stopped at the limit {found.stopped}: {found.unasked} not asked.")
    if found.failed:
        lines.append(f"Requests without an answer, which the next night asks again: {found.failed}.")
    lines += [f"Judge {name}: {_counts(judge)}." for name, judge in found.judges.items()]
    if found.stats and not cached and found.stats.asked:
        lines.append(_speed(found.stats))
    return lines


def validate_lines(found: ValidateDetails, leak: Mapping[str, Any] | None = None) -> list[str]:
    """Why rows were lost, and what is left; ``leak`` is the example of a contaminated row in the run's record."""
    lines = []
    if found.rules:
        lines.append(f"Rows that broke a contract: {_counts(found.rules)}.")
    lines += _warnings("Warnings of the rows' contracts", found.warnings)
    if found.contamination:
        lines.append(f"Rows that repeat an evaluation text: {_counts(found.contamination)}{_example(leak)}.")
    if found.duplicate_kinds:
        lines.append(f"Duplicates: {_counts(found.duplicate_kinds)}.")
    lines += _floors(found)
    if found.control:
        lines.append(f"Control set: {found.control} unfiltered rows.")
    return lines + _diversity(found.diversity)


def training_set_lines(found: TrainingSetDetails) -> list[str]:
    """What the training set was compared with, and the warnings of its contract; the measures are in a table."""
    versions = " and ".join(f"{role} {version}" for role, version in found.compared_with.items())
    compared = f"with {versions}" if versions else "with nothing: none was published before"
    return [
        f"The training set was compared {compared}.",
        *_warnings("Warnings of the training set's contract", found.warnings),
    ]


def evaluate_lines(unasked: int | None) -> list[str]:
    """How many held-out documents of replay sources were not asked."""
    return [f"Held-out documents of replay sources, which are not asked: {unasked}."] * bool(unasked)


def _floors(found: ValidateDetails) -> list[str]:
    floors = dict(found.floors)
    rows, required = floors.pop("minimum_rows", (0, 0))
    parts = [f"{rows} rows, {required} required"] if required > 1 else []
    if floors:
        label, (rows, required) = min(floors.items(), key=lambda item: item[1][0] - item[1][1])
        parts.append(f"nearest to its floor is the answer {label!r}: {rows}, {required} required")
    return [f"Floors: {'; '.join(parts)}."] * bool(parts)


def _diversity(measured: Mapping[str, float | None]) -> list[str]:
    values = ", ".join(
        f"{MEASURES.get(name, name.replace('_', '-'))} {value:.3g}"
        for name, value in measured.items()
        if name != "sample" and value is not None
    )
    return [f"Diversity of {measured.get('sample')} rows of the training set: {values}."] * bool(values)


def _warnings(title: str, found: Mapping[str, str]) -> list[str]:
    return [f"{title}: {_first([f'{rule} ({observed})' for rule, observed in found.items()])}."] * bool(found)


def _first(notes: list[str]) -> str:
    more = [f"and {len(notes) - SHOWN_NOTES} more"] if len(notes) > SHOWN_NOTES else []
    return "; ".join([*notes[:SHOWN_NOTES], *more])


def _example(leak: Mapping[str, Any] | None) -> str:
    if not leak:
        return ""
    shared = " ".join(leak["shared"].split())
    shown = shared if len(shared) <= SHOWN_CHARACTERS else shared[: SHOWN_CHARACTERS - 1] + "\u2026"
    of_text = f"{percent(leak['coverage'])} of {leak['evaluation_id']!r} ({leak['set']})"
    return f"; for example, row {leak['row_id']} has {of_text}: \u201c{shown}\u201d"


def _speed(stats: EngineStats) -> str:
    parts = [
        f"{stats.prompt_tokens:,} tokens in, {stats.completion_tokens:,} out",
        f"{stats.tokens_per_second:,.0f} tokens a second",
    ]
    if stats.prefix_cache_hit_rate is not None:
        parts.append(f"{percent(stats.prefix_cache_hit_rate)} of the prompts' tokens from the prefix cache")
    if stats.latency_seconds:
        parts.append("latency " + ", ".join(f"{name} {value:.2f} s" for name, value in stats.latency_seconds.items()))
    if stats.restarts:
        causes = f" ({'; '.join(dict.fromkeys(stats.deaths))})" if stats.deaths else ""
        parts.append(f"the server was restarted {stats.restarts} times{causes}")
    return "; ".join(parts) + "."


def _counts(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in counts.items() if value not in (None, 0))
