"""``retune plan`` on shipped recipes and on the traces that earlier runs left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.recipe.read import read_recipe
from flows.recipe.recipe import Recipe
from flows.report.record import RunRecord
from retune.plan import Plan, plan_recipe
from tasks.core.artifacts import ArtifactRef, ArtifactStore, StageKey, Summary
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.models import model_digest
from tasks.train.devices import MemoryDevice
from tasks.train.planner import size_table
from tests.flows.conftest import WriteRecipe
from tests.retune.command import retune

ROWS, TOKENS = 320, 9_600
CPU = MemoryDevice("CPU", "cpu", 16 * 10**9, 12 * 10**9)
GPU = MemoryDevice("NVIDIA L4", "cuda", 24 * 10**9, 23 * 10**9)


def write(home: Home, key: StageKey, rows: int, details: dict[str, Any]) -> ArtifactRef:
    def fill(folder: Path) -> Summary:
        (folder / "content.txt").write_text(json.dumps(details), encoding="utf-8")
        return Summary(rows_in=rows, accepted=rows, details=details)

    return ArtifactStore(home.artifacts).write(key, fill)


def training_set(home: Home, recipe: Recipe, rows: int = ROWS) -> ArtifactRef:
    """A run's record with an accepted training set."""
    validated = write(home, StageKey("validate", 1, {"rows": rows}), rows, {"kept": rows})
    RunRecord.start(home, recipe.name, "").stage("validate", validated, 1.0, False)
    return validated


def earlier_training(home: Home, recipe: Recipe, rows: ArtifactRef, **details: Any) -> None:
    found = {"method": "qlora", "device": "cpu", "tokens": TOKENS, "tokens_per_second": 150.0, **details}
    key = StageKey("train", 1, {"details": found}, [rows], {"model": model_digest(recipe.model)})
    write(home, key, rows.rows, found)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def recipe() -> Recipe:
    """150 steps of 16 rows of at most 128 tokens, all of which are trained on."""
    recipe = read_recipe("embedded")
    train = recipe.train.model_copy(update={"validation_fraction": 0.0, "keep": "last"})
    return recipe.model_copy(update={"train": train})


def plan(recipe: Recipe, home: Home, *devices: MemoryDevice) -> Plan:
    return plan_recipe(recipe, home, devices=devices or (CPU,))


@pytest.mark.parametrize("name", ["embedded", "qwen2.5-0.5b-cpu", "llama-3.1-8b-qlora", "llama-3.1-8b-qlora-2gpu"])
def test_every_shipped_recipe_is_planned_as_json(tmp_path: Path, name: str) -> None:
    done = retune(tmp_path, "plan", "--recipe", name, "--json")
    assert done.returncode == 0, done.stderr
    planned = json.loads(done.stdout)
    assert set(planned) >= {"trainable_parameters", "total_parameters", "memory_bytes", "fits"}
    assert 0 < planned["trainable_parameters"] < planned["total_parameters"]
    assert isinstance(planned["fits"], bool)
    for what, total in planned["memory_bytes"].items():
        split = planned["memory_splits"][what]
        work = sum(size for part, size in split.items() if part not in ("loading", "runtime"))
        assert total == split["runtime"] + max(work, split["loading"])
    if name.startswith("llama-3.1-8b"):
        assert planned["trainable_parameters"] == 20_971_520


def test_the_page_shows_parameters_memory_devices_and_what_is_not_known(tmp_path: Path) -> None:
    done = retune(tmp_path, "plan", "--recipe", "embedded")
    assert done.returncode == 0, done.stderr
    assert "368,640 are trained" in done.stdout
    for shown in ("activations", "optimizer", "peak", "training fits", "inference fits", "not measured here"):
        assert shown in done.stdout
    assert done.stderr == "", "what the libraries say while a model is built is not for the user"


def test_a_model_that_is_not_at_hand_is_refused_with_what_to_pass(tmp_path: Path, write_recipe: WriteRecipe) -> None:
    path = write_recipe(lambda recipe: recipe["model"].update(path="somebody/unknown"))
    refused = retune(tmp_path, "plan", "--recipe", path)
    assert refused.returncode == 1
    assert "is not available offline" in refused.stderr and "--model-config FILE" in refused.stderr
    config = str(PROJECT_ROOT / "seedling" / "model" / "config.json")
    given = retune(tmp_path, "plan", "--recipe", path, "--model-config", config, "--json")
    assert json.loads(given.stdout)["trainable_parameters"] == 368_640


def test_the_table_in_the_docs_is_what_the_planner_computes() -> None:
    assert size_table() in (PROJECT_ROOT / "docs" / "planning.md").read_text(encoding="utf-8")


def test_without_a_run_tokens_are_a_bound_and_time_is_not_guessed(home: Home, recipe: Recipe) -> None:
    work = plan(recipe, home).workload
    assert (work.rows, work.steps, work.tokens_are) == (None, 150, "bound")
    assert work.tokens == 150 * 16 * 128
    assert work.tokens_per_second is None and work.seconds is None


def test_epochs_of_unknown_rows_are_not_guessed(home: Home, recipe: Recipe) -> None:
    epochs = recipe.model_copy(
        update={"train": recipe.train.model_copy(update={"max_steps": None, "epochs": 2.0, "batch_size": 8})}
    )
    assert plan(epochs, home).workload.steps is None
    training_set(home, epochs)
    work = plan(epochs, home).workload
    assert (work.rows, work.steps, work.tokens) == (ROWS, 80, ROWS * 2 * 128)


def test_an_earlier_training_tells_length_and_speed(home: Home, recipe: Recipe) -> None:
    earlier_training(home, recipe, training_set(home, recipe))
    work = plan(recipe, home).workload
    assert work.tokens_are == "counted"
    assert work.tokens == 150 * 16 * TOKENS // ROWS
    assert work.seconds == pytest.approx(work.tokens / 150.0)


def test_lengths_of_other_rows_are_not_taken_and_their_speed_is(home: Home, recipe: Recipe) -> None:
    earlier_training(home, recipe, training_set(home, recipe))
    training_set(home, recipe, rows=500)
    work = plan(recipe, home).workload
    assert (work.rows, work.tokens_are, work.tokens_per_second) == (500, "bound", 150.0)


@pytest.mark.parametrize("details", [{"device": "NVIDIA L4"}, {"method": "lora"}, {"tokens_per_second": None}], ids=str)
def test_the_speed_of_another_device_or_method_is_not_taken(
    home: Home, recipe: Recipe, details: dict[str, Any]
) -> None:
    earlier_training(home, recipe, training_set(home, recipe), **details)
    assert plan(recipe, home, CPU).workload.seconds is None


def test_the_speed_of_another_model_is_not_taken(home: Home, recipe: Recipe) -> None:
    earlier_training(home, recipe, training_set(home, recipe))
    other = read_recipe("qwen2.5-0.5b-cpu").model_copy(update={"train": recipe.train})
    assert plan(other, home).workload.tokens_per_second is None


def test_every_subset_of_a_learning_curve_is_work(home: Home, recipe: Recipe) -> None:
    curve = recipe.model_copy(update={"train": recipe.train.model_copy(update={"fractions": (0.25, 1.0)})})
    work = plan(curve, home).workload
    assert (work.trainings, work.steps) == (2, 300)


def test_evaluations_are_in_the_time(home: Home, recipe: Recipe) -> None:
    earlier_training(home, recipe, training_set(home, recipe))
    plain = plan(recipe, home).workload
    evaluated = recipe.model_copy(update={"train": recipe.train.model_copy(update={"validation_fraction": 0.25})})
    work = plan(evaluated, home).workload
    assert plain.evaluated_tokens == 0 and work.tokens == plain.tokens
    # Before the first step, and every 25 of 150 steps: a quarter of the rows.
    assert work.evaluated_tokens == 7 * TOKENS // 4
    assert work.tokens is not None
    assert work.seconds == pytest.approx((work.tokens + 7 * TOKENS // 4 / 2) / 150.0)


def test_packed_sequences_are_counted_as_full(home: Home, recipe: Recipe) -> None:
    earlier_training(home, recipe, training_set(home, recipe))
    packed = recipe.model_copy(update={"train": recipe.train.model_copy(update={"packing": True})})
    work = plan(packed, home).workload
    assert (work.tokens, work.tokens_are) == (150 * 16 * 128, "bound")


def test_what_this_machine_would_refuse_is_said(home: Home, recipe: Recipe) -> None:
    paged = recipe.model_copy(update={"train": recipe.train.model_copy(update={"optimizer": "paged_adamw_8bit"})})
    assert "there is none: use adamw_8bit" in plan(paged, home).refusals[0]
    assert plan(paged, home, GPU).refusals == ()


def test_damaged_traces_of_runs_are_passed_over(home: Home, recipe: Recipe) -> None:
    earlier_training(home, recipe, training_set(home, recipe))
    for broken in (
        home.runs / "20990101T000000Z-abcdef" / "report.json",
        home.artifacts / "train" / "x" / "manifest.json",
    ):
        broken.parent.mkdir(parents=True)
        broken.write_text("{", encoding="utf-8")
    assert plan(recipe, home).workload.rows == ROWS


def test_a_shared_model_needs_less_of_each_gpu_and_as_many_gpus_as_processes(home: Home) -> None:
    shared = read_recipe("llama-3.1-8b-qlora-2gpu")
    whole = shared.model_copy(update={"train": shared.train.model_copy(update={"sharding": "none"})})
    parts, all_of_it = plan(shared, home, GPU, GPU, CPU), plan(whole, home, GPU, GPU, CPU)
    assert parts.training.training.weights < 0.6 * all_of_it.training.training.weights
    assert parts.training.fits_training and all_of_it.training.fits_training
    assert not plan(shared, home, GPU, CPU).training.fits_training
    assert parts.workload.tokens == 60 * 2 * 2 * 2 * 1024


def test_what_fits_is_decided_by_the_free_memory_of_the_device_that_trains(home: Home) -> None:
    llama = read_recipe("llama-3.1-8b-qlora")
    assert plan(llama, home, GPU, CPU).training.fits
    full = MemoryDevice("NVIDIA L4", "cuda", GPU.total, 2 * 10**9)
    assert not plan(llama, home, full, CPU).training.fits
    assert not plan(llama, home, CPU).training.fits_training
