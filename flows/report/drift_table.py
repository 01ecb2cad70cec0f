"""How far the training set moved from those that were published before, as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.report.record import RunRecord

SINCE_BASELINE = "_since_baseline"
SEVERITIES = ("critical", "warning", "info")
HEAD = ("drift", "since the last", "since the baseline", "verdict", "what moved")

Measure = Mapping[str, Any]


def drift_of(record: RunRecord) -> Mapping[str, Measure]:
    """A run's measures of drift by name, also of a run that they stopped."""
    found: Mapping[str, Measure] = record.stages.get("check_training_set", {}).get("drift", {})
    kept = Path(record.evidence.get("check_training_set", ""), "drift.json")
    if not found and "check_training_set" in record.evidence and kept.is_file():
        found = json.loads(kept.read_text(encoding="utf-8"))["drift"]
    return found


def drift_table(record: RunRecord) -> list[tuple[str, ...]]:
    """One row for each measure under HEAD: against both publications value and limit, the verdict, and in words."""
    found = drift_of(record)
    names = dict.fromkeys(name.removesuffix(SINCE_BASELINE) for name in found)
    return [_row(name, found.get(name, {}), found.get(name + SINCE_BASELINE, {})) for name in names]


def _row(name: str, last: Measure, baseline: Measure) -> tuple[str, ...]:
    broken = [one for one in (last, baseline) if not one.get("holds", True)]
    worst = min((str(one["severity"]) for one in broken), key=SEVERITIES.index, default="")
    is_limited = any(one.get("limit") is not None for one in (last, baseline))
    verdict = f"over a limit ({worst})" if broken else "holds" if is_limited else "-"
    said = (broken or [last])[0].get("said", "")
    return name.replace("_", " "), _value(last), _value(baseline), verdict, str(said)


def _value(measure: Measure) -> str:
    if not measure:
        return "-"
    limit = "" if measure.get("limit") is None else f", limit {measure['limit']:g}"
    return f"{measure['value']:.3f}{limit}"
