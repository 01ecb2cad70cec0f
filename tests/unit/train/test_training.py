"""Real training of a tiny random model, in a child process, as the flow starts it."""

from __future__ import annotations

import csv
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from tasks.core.artifacts import ArtifactRef
from tasks.core.config import ModelSource
from tasks.core.errors import ChildError, MemoryShortage, ModelError, RecipeError, RetuneError, TrainingError
from tasks.core.home import Home
from tasks.core.stage import StageContext, StageResult, run_stage
from tasks.train import train
from tasks.train.config import TrainConfig
from tasks.train.memory import training_memory
from tasks.train.model_shape import model_shape, read_config
from tasks.train.train import TrainJob
from tests.unit.train.conftest import write_training_set
from tests.unit.train.trial import highest_memory_of_children, train_here

pytestmark = pytest.mark.slow


def new_job(model: Path, training_set: ArtifactRef, **changes: Any) -> TrainJob:
    settings: dict[str, Any] = {
        "backend": "transformers",
        "target_modules": "all-linear",
        "rank": 4,
        "dropout": 0.1,
        "batch_size": 4,
        "accumulation_steps": 1,
        "max_steps": 30,
        "learning_rate": 5e-3,
        "max_length": 128,
        "save_steps": 4,
        "timeout_minutes": 10,
        **changes,
    }
    return TrainJob(TrainConfig.model_validate(settings), ModelSource(path=str(model)), training_set, seed=7)


def details(result: StageResult) -> dict[str, Any]:
    found: dict[str, Any] = result.ref.manifest()["summary"]["details"]
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="module")
def measured(home: Home, tiny_model: Path, training_set: ArtifactRef) -> tuple[StageResult, int]:
    """A run that nothing disturbs, and the peak of its process's memory in bytes."""
    with highest_memory_of_children() as marks:
        result = run_stage(new_job(tiny_model, training_set), home, "night-1")
    return result, max(marks)


@pytest.fixture(scope="module")
def trained(measured: tuple[StageResult, int]) -> StageResult:
    return measured[0]


def test_training_quantises_learns_and_counts(trained: StageResult) -> None:
    summary, found = trained.ref.manifest()["summary"], details(trained)
    assert (summary["rows_in"], summary["accepted"], summary["quarantined"]) == (32, 30, 2)
    assert found["quantised_layers"] == 14
    # r (in + out) of the seven projections of two layers, hidden 64, intermediate 128, one key-value head of 32.
    assert found["trainable_parameters"] == 2 * 4 * (2 * 128 + 2 * 96 + 3 * 192)
    assert found["steps"] == 30
    assert (found["optimizer"], found["device"], found["dtype"]) == ("adamw_torch_fused", "cpu", "float32")
    assert found["resumed_from"] is None
    with (trained.ref.folder / "loss.csv").open() as file:
        curve = list(csv.DictReader(file))
    assert [int(row["step"]) for row in curve] == list(range(1, 31))
    assert float(curve[-1]["loss"]) < float(curve[0]["loss"]) - 1


def test_the_adapter_is_trained_in_full_precision(trained: StageResult) -> None:
    from safetensors.torch import load_file

    weights = load_file(trained.ref.folder / "adapter" / "adapter_model.safetensors")
    assert {str(tensor.dtype) for tensor in weights.values()} == {"torch.float32"}


def test_the_peak_of_memory_is_planned(
    measured: tuple[StageResult, int], tiny_model: Path, training_set: ArtifactRef
) -> None:
    """With so small a model it is mostly that of the libraries."""
    job = new_job(tiny_model, training_set)
    planned = training_memory(model_shape(read_config(job.model), job.config), job.config, "cpu").total
    assert planned == pytest.approx(measured[1], rel=0.25)


def test_rows_that_are_too_long_are_written_down(trained: StageResult) -> None:
    refused = pd.read_parquet(trained.ref.folder / "quarantine.parquet")
    assert refused["row_id"].tolist() == ["e30", "e31"]
    assert set(refused["rule"]) == {"too_long"}
    assert all(int(value) > 128 for value in refused["value"])
    assert json.loads(refused["raw"][0])[1]["content"] == "cards"


def test_the_masking_proof_comes_from_a_collated_batch(trained: StageResult) -> None:
    proof = json.loads((trained.ref.folder / "masking.json").read_text())
    assert proof["example"] == (
        "<|im_start|>user\nwhere is my cards number 0<|im_end|>\n<|im_start|>assistant\n[[cards<|im_end|>]]\n"
    )
    assert (proof["rows"], proof["rows_checked"]) == (30, 30)
    assert 0 < proof["trained_token_share"] == details(trained)["trained_token_share"] < 0.5


def test_the_run_and_its_curve_are_in_mlflow(trained: StageResult, home: Home) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=home.tracking_uri)
    run = client.get_run(details(trained)["mlflow_run_id"])
    assert (run.info.run_name, run.info.status) == ("night-1", "FINISHED")
    assert (run.data.params["rank"], run.data.params["method"]) == ("4", "qlora")
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 30


def test_nothing_is_left_but_the_artifact(trained: StageResult, home: Home) -> None:
    assert not list((home.work / "train").iterdir())
    adapter = {path.name for path in (trained.ref.folder / "adapter").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "chat_template.jinja", "tokenizer.json"} <= adapter
    assert not [name for name in adapter if name.endswith((".bin", ".pt", ".pth"))]


@pytest.mark.faults
def test_a_killed_training_resumes_and_ends_with_the_very_same_weights(
    trained: StageResult, tiny_model: Path, training_set: ArtifactRef, tmp_path: Path
) -> None:
    home, job = Home(tmp_path), new_job(tiny_model, training_set)
    work = StageContext(home, "night-1", job.key().hex).work_folder("train")
    failures: list[RetuneError] = []

    def first_attempt() -> None:
        try:
            run_stage(job, home, "night-1")
        except RetuneError as error:
            failures.append(error)

    thread = threading.Thread(target=first_attempt)
    thread.start()
    while thread.is_alive() and not list(work.glob("checkpoint-*/checkpoint.json")):
        time.sleep(0.02)
    for child in psutil.Process().children(recursive=True):
        if "tasks.train.worker" in " ".join(child.cmdline()):
            os.kill(child.pid, signal.SIGKILL)
    thread.join()
    assert isinstance(failures[0], ChildError)
    assert not list((home.artifacts / "train").iterdir())

    resumed = run_stage(job, home, "night-2")
    assert 4 <= details(resumed)["resumed_from"] < 30
    weights = "adapter/adapter_model.safetensors"
    assert (resumed.ref.folder / weights).read_bytes() == (trained.ref.folder / weights).read_bytes()
    assert (resumed.ref.folder / "loss.csv").read_text() == (trained.ref.folder / "loss.csv").read_text()
    assert details(resumed)["steps"] == 30


@pytest.mark.families
def test_unsloth_trains_with_the_same_mask(
    trained: StageResult, tiny_model: Path, training_set: ArtifactRef, tmp_path: Path
) -> None:
    result = run_stage(new_job(tiny_model, training_set, backend="unsloth", dropout=0.0), Home(tmp_path), "night-1")
    assert details(result)["backend"] == "unsloth"
    assert details(result)["quantised_layers"] == 14
    assert details(result)["trainable_parameters"] == details(trained)["trainable_parameters"]
    assert details(result)["optimizer"] == "adamw_torch_fused"
    masking = "masking.json"
    assert (result.ref.folder / masking).read_text() == (trained.ref.folder / masking).read_text()


def test_packed_rows_keep_their_mask_and_lora_needs_no_quantisation(
    tiny_model: Path, training_set: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = new_job(tiny_model, training_set, packing=True, method="lora", max_steps=6)
    found = train_here(job, tmp_path, monkeypatch)["details"]
    assert found["packing"] is True
    assert found["quantised_layers"] == 0
    assert json.loads((tmp_path / "out" / "masking.json").read_text())["example"].count("[[") == 1


def test_a_loss_that_is_no_number_ends_the_training(
    tiny_model: Path, training_set: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "model"
    broken.mkdir()
    for path in tiny_model.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][:] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingError, match="became nan at step 1"):
        train_here(new_job(broken, training_set), tmp_path, monkeypatch)
    assert not (tmp_path / "out" / "adapter").exists()


def test_an_unknown_layer_is_named_with_those_that_exist(
    tiny_model: Path, training_set: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="W_pack") as caught:
        train_here(new_job(tiny_model, training_set, target_modules=["W_pack"]), tmp_path, monkeypatch)
    assert "q_proj" in caught.value.remedy


def test_no_row_that_fits_is_an_error_that_names_the_setting(
    tiny_model: Path, training_set: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        TrainingError, match=r"None of the 32 training rows can be used, most often for too_long \(32 rows\)"
    ) as caught:
        train_here(new_job(tiny_model, training_set, max_length=16), tmp_path, monkeypatch)
    assert "max_length" in caught.value.remedy


def test_the_control_is_trained_on_in_place_of_the_training_set(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Started(Exception):
        """The worker would start now."""

    started: list[str] = []

    def start(module: str, job: dict[str, Any], **_: Any) -> dict[str, Any]:
        started.append(job["training_set"])
        raise Started

    monkeypatch.setattr(train, "run_worker", start)
    training_set = write_training_set(tmp_path / "set", rows=8)
    job = new_job(tiny_model, training_set, rows="control")
    with pytest.raises(RecipeError, match=r"kept no control\.parquet") as caught:
        run_stage(job, Home(tmp_path), "night-1")
    assert "validate.control: true" in caught.value.remedy
    control = training_set.folder / "control.parquet"
    (training_set.folder / "training_set.parquet").rename(control)
    with pytest.raises(Started):
        run_stage(job, Home(tmp_path), "night-1")
    assert started == [str(control)]


def test_too_little_memory_halves_the_batch_and_keeps_the_rows_per_step(
    tiny_model: Path, training_set: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[int, int]] = []

    def starved(module: str, job: dict[str, Any], **_: Any) -> dict[str, Any]:
        tried.append((job["config"]["batch_size"], job["config"]["accumulation_steps"]))
        raise MemoryShortage("Out of memory")

    monkeypatch.setattr(train, "run_worker", starved)
    with pytest.raises(MemoryShortage):
        run_stage(new_job(tiny_model, training_set), Home(tmp_path), "night-1")
    assert tried == [(4, 1), (2, 2), (1, 4)]
