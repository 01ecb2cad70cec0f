"""What is published beside an adapter: its lineage, and what its training set looked like."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.core.artifacts import ArtifactRef, ArtifactStore, StageKey, Summary
from tasks.core.config import ModelSource
from tasks.core.home import Home
from tasks.core.stage import run_stage
from tasks.publish.config import PublishConfig
from tasks.publish.history import TRAINING_PROFILE, learned_from
from tasks.publish.publish import PublishJob
from tasks.publish.registry import Published

LINEAGE = ("document_id", "prompt", "prompt_digest", "teacher", "teacher_revision", "run_id")
REJECTED = {"decision": "keep", "reason": "It is not better.", "metric": "accuracy", "n": 1, "base": 0.0,
            "candidate": 0.0, "intervals": {"candidate": [0.0, 1.0]}}  # fmt: skip


def artifact(home: Home, stage: str, fill: Callable[[Path], object] = lambda folder: None) -> ArtifactRef:
    def write(folder: Path) -> Summary:
        (folder / "stage.txt").write_text(stage, encoding="utf-8")
        fill(folder)
        return Summary()

    return ArtifactStore(home.artifacts).write(StageKey(stage, 1, {}), write)


def training_set(folder: Path) -> None:
    row = dict.fromkeys(LINEAGE, "x")
    pq.write_table(pa.Table.from_pylist([row]), folder / "training_set.parquet")
    (folder / "profile.json").write_text('{"rows": 1}', encoding="utf-8")


def job(home: Home, model: Path) -> PublishJob:
    def adapter(folder: Path) -> None:
        (folder / "adapter").mkdir()
        (folder / "adapter" / "weights").write_text("w", encoding="utf-8")

    return PublishJob(
        PublishConfig(name="router"),
        "embedded",
        ModelSource(path=str(model)),
        {"method": "lora"},
        artifact(home, "collect"),
        None,
        artifact(home, "validate", training_set),
        artifact(home, "train", adapter),
        artifact(home, "evaluate", lambda folder: (folder / "evaluation.json").write_text(json.dumps(REJECTED))),
        (artifact(home, "check_documents"), artifact(home, "check_training_set")),
    )


def test_the_training_sets_profile_outlives_the_artifact_that_it_was_measured_in(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    one = job(Home(tmp_path / "home"), tmp_path / "model")
    done = run_stage(one, Home(tmp_path / "home"), "run-1")
    (one.validated.folder / "profile.json").unlink()
    assert json.loads((done.ref.folder / TRAINING_PROFILE).read_text(encoding="utf-8")) == {"rows": 1}


def test_the_lineage_names_every_artifact_and_so_what_was_learned_from(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    one = job(Home(tmp_path / "home"), tmp_path / "model")
    done = run_stage(one, Home(tmp_path / "home"), "run-1")
    lineage = json.loads((done.ref.folder / "lineage.json").read_text(encoding="utf-8"))
    assert [ref["stage"] for ref in lineage["artifacts"]] == [
        "collect", "validate", "check_documents", "check_training_set", "train", "evaluate",
    ]  # fmt: skip
    published = Published("router", "1", done.ref.path, "t", "a", None)
    assert learned_from(published) == one.validated.digest
    assert learned_from(Published("router", "1", str(tmp_path / "gone"), "t", "a", None)) is None
