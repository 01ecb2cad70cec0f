"""A training that stops early and keeps its best step does so too after it was killed, and tells what it kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tasks.core.artifacts import ArtifactRef
from tasks.train.checkpoints import step_of
from tests.unit.train import forked
from tests.unit.train.trial import settings

pytestmark = pytest.mark.slow

PLANNED, BEST, STOPPED = 8, 2, 5
"""The learning rate is far too high: the validation loss falls from 5.7 to 5.2 in two steps, and rises then."""


def new_job(folder: Path, model: Path, training_set: ArtifactRef, store: Path, **changes: Any) -> dict[str, Any]:
    wanted: dict[str, Any] = {
        "method": "lora",
        "dropout": 0.1,
        "max_steps": PLANNED,
        "save_steps": 1,
        "learning_rate": 0.04,
        "schedule": "constant",
        "validation_fraction": 0.4,
        "early_stopping": {"patience": STOPPED, "min_improvement": 0.7},
        "keep": "best",
        **changes,
    }
    return forked.new_job(settings(**wanted), folder, model, training_set, store)


def curve(job: dict[str, Any]) -> str:
    return (Path(job["out"]) / "loss.csv").read_text(encoding="utf-8")


def checkpoints(job: dict[str, Any]) -> list[int]:
    return sorted(step_of(path) for path in Path(job["work"]).glob("checkpoint-*"))


def notes(log: Path) -> list[str]:
    return [event["note"] for event in forked.events_in(log) if "note" in event]


def damage(job: dict[str, Any], step: int) -> None:
    weights = Path(job["work"]) / f"checkpoint-{step}" / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-7] ^= 4
    weights.write_bytes(data)


@pytest.fixture(scope="module")
def undisturbed(
    tiny_model: Path, training_set: ArtifactRef, store: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A job that ran without interruption, and the details of its result."""
    folder = tmp_path_factory.mktemp("undisturbed")
    job = new_job(folder, tiny_model, training_set, store)
    return job, forked.run(job, folder / "log")["details"]


def test_it_stops_early_and_the_best_step_becomes_the_adapter(
    undisturbed: tuple[dict[str, Any], dict[str, Any]],
    tiny_model: Path,
    training_set: ArtifactRef,
    store: Path,
    tmp_path: Path,
) -> None:
    job, details = undisturbed
    found = details["validation"]
    assert (details["steps"], found["planned_steps"]) == (STOPPED, PLANNED)
    assert (found["lowest_step"], found["kept_step"], found["fault"]) == (BEST, BEST, "")
    assert found["losses"]["lowest"] < min(found["losses"]["before"], found["losses"]["final"])
    assert checkpoints(job) == [BEST, STOPPED - 1, STOPPED], "the best one and the two newest"
    best = Path(job["work"]) / f"checkpoint-{BEST}" / "adapter_model.safetensors"
    assert (Path(job["out"]) / "adapter" / best.name).read_bytes() == best.read_bytes()

    last = new_job(tmp_path, tiny_model, training_set, store, keep="last", early_stopping=None, max_steps=STOPPED)
    assert forked.run(last, tmp_path / "log")["details"]["validation"] == found | {
        "kept_step": STOPPED, "planned_steps": STOPPED,
    }  # fmt: skip
    assert curve(last) == curve(job)
    assert forked.adapter(last) != forked.adapter(job)


@pytest.mark.parametrize("moment", [(1, 0.0), (2, 0.02), (3, 0.0), (4, 0.05), (5, 0.0)], ids=str)
def test_killed_at_any_moment_it_stops_at_the_same_step_with_the_same_losses_and_weights(
    moment: tuple[int, float],
    undisturbed: tuple[dict[str, Any], dict[str, Any]],
    tiny_model: Path,
    training_set: ArtifactRef,
    store: Path,
    tmp_path: Path,
) -> None:
    whole, details = undisturbed
    job = new_job(tmp_path, tiny_model, training_set, store)
    forked.run_and_signal(job, tmp_path / "killed.log", *moment)
    result = forked.run(job, tmp_path / "log")["details"]
    assert result["validation"] == details["validation"]
    assert (forked.adapter(job), curve(job), checkpoints(job)) == (
        forked.adapter(whole),
        curve(whole),
        checkpoints(whole),
    )


def test_killed_behind_its_last_step_it_trains_no_step_more(
    undisturbed: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path
) -> None:
    whole, details = undisturbed
    shutil.copytree(whole["work"], tmp_path / "work")
    (tmp_path / "out").mkdir()
    job = whole | {"work": str(tmp_path / "work"), "out": str(tmp_path / "out")}
    result = forked.run(job, tmp_path / "log")["details"]
    assert forked.steps_in(tmp_path / "log") == 0
    assert (result["steps"], result["validation"]) == (STOPPED, details["validation"])
    assert (forked.adapter(job), curve(job)) == (forked.adapter(whole), curve(whole))


@pytest.mark.parametrize("newest_too", [False, True])
def test_without_its_best_checkpoint_it_keeps_the_newest_that_is_intact_and_tells(
    newest_too: bool, undisturbed: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path
) -> None:
    whole, _ = undisturbed
    shutil.copytree(whole["work"], tmp_path / "work")
    (tmp_path / "out").mkdir()
    job = whole | {"work": str(tmp_path / "work"), "out": str(tmp_path / "out")}
    damage(job, BEST)
    if newest_too:  # its step is trained again
        damage(job, STOPPED)
    found = forked.run(job, tmp_path / "log")["details"]["validation"]
    fault = "is damaged: adapter_model.safetensors has changed"
    assert (found["kept_step"], found["lowest_step"], found["fault"]) == (STOPPED, BEST, fault)
    newest = Path(job["work"]) / f"checkpoint-{STOPPED}" / "adapter_model.safetensors"
    assert (tmp_path / "out" / "adapter" / newest.name).read_bytes() == newest.read_bytes()
    assert any(
        note.startswith(f"the checkpoint of step {BEST}, which had the lowest") for note in notes(tmp_path / "log")
    )


def test_the_curve_and_mlflow_have_every_evaluation(
    undisturbed: tuple[dict[str, Any], dict[str, Any]], store: Path
) -> None:
    from mlflow import MlflowClient

    job, details = undisturbed
    rows = [line.split(",") for line in curve(job).splitlines()]
    assert rows[0] == ["step", "loss", "learning_rate", "validation_loss"]
    evaluated = {int(row[0]): float(row[3]) for row in rows[1:] if row[3]}
    assert list(evaluated) == [0, 1, 2, 3, 4, 5]
    client = MlflowClient(f"sqlite:///{store}")
    logged = client.get_metric_history(details["mlflow_run_id"], "validation_loss")
    assert {metric.step: metric.value for metric in logged} == evaluated
    assert json.loads(Path(job["work"], "result.json").read_text(encoding="utf-8"))["details"] == details


def test_too_few_rows_for_a_split_end_the_training_before_its_first_step(
    tiny_model: Path, training_set: ArtifactRef, store: Path, tmp_path: Path
) -> None:
    job = new_job(tmp_path, tiny_model, training_set, store, validation_fraction=0.05)
    forked.run_and_signal(job, tmp_path / "log", step=PLANNED, delay=60)
    assert "rows aside" in (tmp_path / "log").read_text(encoding="utf-8")
    assert forked.steps_in(tmp_path / "log") == 0
