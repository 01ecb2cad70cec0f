"""How far the training set moved from the published ones before it, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flows.report.record import RunRecord
from tasks.core.details import Measure, TrainingSetDetails

SINCE_BASELINE = "_since_baseline"
SEVERITIES = ("critical", "warning", "info")
HEAD = ("drift", "since the last", "since the baseline", "verdict", "what moved")


def drift_of(record: RunRecord) -> Mapping[str, Measure]:
    """A run's measures of drift by name, including those that stopped the run."""
    found = TrainingSetDetails.model_validate(record.stages.get("check_training_set", {})).drift
    evidence = Path(record.evidence.get("check_training_set", ""), "drift.json")
    if not found and "check_training_set" in record.evidence and evidence.is_file():
        found = TrainingSetDetails.model_validate_json(evidence.read_bytes()).drift
    return found


def drift_table(record: RunRecord) -> list[tuple[str, ...]]:
    """One row under HEAD for each measure: value and limit against both publications, the verdict, and what moved."""
    found = drift_of(record)
    names = dict.fromkeys(name.removesuffix(SINCE_BASELINE) for name in found)
    return [_row(name, found.get(name), found.get(name + SINCE_BASELINE)) for name in names]


def _row(name: str, last: Measure | None, baseline: Measure | None) -> tuple[str, ...]:
    measures = [measure for measure in (last, baseline) if measure is not None]
    broken = [measure for measure in measures if not measure.holds]
    worst = min((str(measure.severity) for measure in broken), key=SEVERITIES.index, default="")
    is_limited = any(measure.limit is not None for measure in measures)
    verdict = f"over a limit ({worst})" if broken else "holds" if is_limited else "-"
    shown = broken[0] if broken else last
    return name.replace("_", " "), _value(last), _value(baseline), verdict, shown.said if shown else ""


def _value(measure: Measure | None) -> str:
    if measure is None:
        return "-"
    limit = "" if measure.limit is None else f", limit {measure.limit:g}"
    return f"{measure.value:.3f}{limit}"
