"""A night's record made of real artifacts and a real comparison, without running a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from flows.report.record import RunRecord
from tasks.core.artifacts import ArtifactRef, ArtifactStore, StageKey, Summary
from tasks.core.home import Home
from tasks.core.stage import StageResult
from tasks.evaluate.answers import READINGS
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.curve import Smaller, learning_curve
from tasks.evaluate.evaluate import compare
from tasks.publish.registry import Published
from tasks.publish.task import PublishResult

STAGES = ("collect", "generate", "validate", "train", "evaluate")
TRAINING: dict[str, Any] = {
    "method": "qlora",
    "backend": "unsloth",
    "device": "cpu",
    "dtype": "float32",
    "trainable_parameters": 12,
    "total_parameters": 345,
    "steps": 6,
    "final_loss": 0.1,
    "optimizer": "adamw_torch_fused",
    "batch_size": 4,
    "accumulation_steps": 2,
    "trained_token_share": 0.25,
    "tokens": 1234,
}
"""As the first version's records have it: later ones say more."""
SAMPLE = {"prompt": "write", "input": "a | b\nc", "output": "cards"}


def version(number: str, name: str = "router") -> Published:
    return Published(name, number, f"/artifacts/{number}", "trained", "adapter", None)


def write_artifact(home: Home, stage: str, summary: Summary) -> ArtifactRef:
    def fill(folder: Path) -> Summary:
        (folder / "rows.txt").write_text(stage, encoding="utf-8")
        return summary

    return ArtifactStore(home.artifacts).write(StageKey(stage, 1, {"details": summary.details}), fill)


def with_curve(evaluation: dict[str, Any], half: float = 0.5, rows: int = 100) -> dict[str, Any]:
    """The same evaluation with the learning curve of a model that half the training set made so good."""
    score = float(evaluation["candidate"])
    answers = {name: [float(at < rate * rows) for at in range(rows)] for name, rate in
               (("candidate_score", score), ("fraction_0.5_score", half))}  # fmt: skip
    smaller, all_rows = (ArtifactRef("train", "k", "/t", "d", count) for count in (60, 120))
    curve = learning_curve(pd.DataFrame(answers), [Smaller(0.5, smaller)], all_rows, EvaluateConfig())
    return {**evaluation, **curve}


def comparison(
    base: float = 0.1, candidate: float = 0.9, rows: int = 100, few_shot: float | None = None
) -> dict[str, Any]:
    """What the evaluate stage says when so large a share of the answers is right."""
    right = {"base": base, "base_restricted": base, "candidate": candidate}
    right |= {} if few_shot is None else {"base_few_shot": few_shot}
    scores = {
        f"{reading}_score": [float(number < right[reading] * rows) for number in range(rows)]
        if reading in right
        else [None] * rows
        for reading in READINGS
    }
    probes = [{"prompt": "What | now?", "base": "a\nb", "candidate": None}]
    return {**compare(pd.DataFrame(scores), EvaluateConfig(), None), "probes": probes}


def record_night(
    home: Home,
    evaluation: dict[str, Any],
    *,
    cached: bool = False,
    promoted: bool = True,
    known: Published | None = None,
    champion: Published | None = None,
    missing: str = "",
) -> RunRecord:
    """A whole run, recorded as the flow does it."""
    record = RunRecord.start(home, "embedded", "")
    details: dict[str, dict[str, Any]] = {
        "generate": {
            "asked": 9,
            "reused": 1,
            "by_prompt": {"write": {"requests": 10, "kept": 7}},
            "rules": {"empty": 3},
            "samples": [SAMPLE],
        },
        "train": TRAINING,
        "evaluate": evaluation,
    }
    for stage in STAGES:
        ref = write_artifact(home, stage, Summary(10, 7, 2, 1, details=details.get(stage, {})))
        record.stage(stage, ref, 1.234, cached)
    published = version("2")
    ref = write_artifact(home, "publish", Summary(1, 1))
    record.stage("publish", ref, 0.5, cached and not promoted)
    record.published(PublishResult(StageResult(ref, cached, 0.5), published, promoted, known), champion, missing)
    record.write()
    return record
