"""A training that is killed, stopped or starved ends as one that nothing disturbs."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tasks.core.artifacts import ArtifactRef
from tasks.train.checkpoints import step_of
from tests.unit.train import forked
from tests.unit.train.trial import settings

pytestmark = pytest.mark.slow

STEPS, SAVED_EVERY = 12, 3
killed: dict[str, list[bool]] = {"chosen": [], "random": []}
"""For each moment, whether the training was still running."""
CHOSEN = ((3, 0.0), (3, 0.02), (6, 0.01), (9, 0.0), (9, 0.03), (12, 0.01))
"""Around the writes of checkpoints, which follow the log of a step, and from step 9 on around a prune."""
RANDOM = forked.moments(seed=3407, count=20, steps=STEPS, longest=0.3)
MOMENTS = [
    *(("chosen", number, moment) for number, moment in enumerate(CHOSEN)),
    *(pytest.param("random", number, moment, marks=pytest.mark.faults) for number, moment in enumerate(RANDOM)),
]


def new_job(folder: Path, model: Path, training_set: ArtifactRef, store: Path, packing: bool) -> dict[str, Any]:
    config = settings(
        dropout=0.1,
        neftune_alpha=5.0,
        packing=packing,
        max_steps=STEPS,
        save_steps=SAVED_EVERY,
        batch_size=1 if packing else 4,
    )
    return forked.new_job(config, folder, model, training_set, store)


@pytest.fixture(scope="module")
def undisturbed(
    tiny_model: Path, training_set: ArtifactRef, store: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[bool, dict[str, str]]:
    """The adapter's digests without and with packing."""
    found = {}
    for packing in (False, True):
        folder = tmp_path_factory.mktemp("undisturbed")
        job = new_job(folder, tiny_model, training_set, store, packing)
        assert forked.run(job, folder / "log")["details"]["packing"] is packing
        found[packing] = forked.adapter(job)
    return found


@pytest.mark.parametrize(("kind", "number", "moment"), MOMENTS)
def test_a_training_killed_at_any_moment_ends_with_the_same_adapter(
    kind: str,
    number: int,
    moment: tuple[int, float],
    undisturbed: dict[bool, dict[str, str]],
    tiny_model: Path,
    training_set: ArtifactRef,
    store: Path,
    tmp_path: Path,
) -> None:
    packing = bool(number % 2)
    job = new_job(tmp_path, tiny_model, training_set, store, packing)
    step, delay = moment
    code = forked.run_and_signal(job, tmp_path / "killed.log", step, delay)
    assert code in (-signal.SIGKILL, 0)
    killed[kind].append(code != 0)
    reached = forked.steps_in(tmp_path / "killed.log")
    result = forked.run(job, tmp_path / "log")
    assert forked.adapter(job) == undisturbed[packing]
    # At most one interval of work is lost, and the checkpoint of the step at which it was killed may be unfinished.
    resumed_from = result["details"]["resumed_from"] or 0
    assert resumed_from >= reached - reached % SAVED_EVERY - (SAVED_EVERY if reached % SAVED_EVERY == 0 else 0)
    checkpoints = sorted(step_of(path) for path in Path(job["work"]).glob("checkpoint-*"))
    assert checkpoints == [STEPS - SAVED_EVERY, STEPS]


def test_a_training_killed_behind_its_last_step_trains_no_step_more(
    undisturbed: dict[bool, dict[str, str]], tiny_model: Path, training_set: ArtifactRef, store: Path, tmp_path: Path
) -> None:
    job = new_job(tmp_path, tiny_model, training_set, store, packing=False)
    first = forked.run(job, tmp_path / "first.log")
    shutil.rmtree(tmp_path / "out" / "adapter")
    (tmp_path / "out" / "loss.csv").rename(tmp_path / "loss.csv")
    result = forked.run(job, tmp_path / "log")
    assert result["details"]["steps"] == first["details"]["steps"] == STEPS
    assert forked.adapter(job) == undisturbed[False]
    assert (tmp_path / "out" / "loss.csv").read_text() == (tmp_path / "loss.csv").read_text()
    assert forked.steps_in(tmp_path / "log") == 0


@pytest.mark.parametrize("kind", ["chosen", pytest.param("random", marks=pytest.mark.faults)])
def test_most_of_the_moments_were_before_the_end(kind: str) -> None:
    assert sum(killed[kind]) >= 0.8 * len(killed[kind])


def test_a_flipped_bit_in_the_newest_checkpoint_falls_back_to_the_one_before(
    undisturbed: dict[bool, dict[str, str]], tiny_model: Path, training_set: ArtifactRef, store: Path, tmp_path: Path
) -> None:
    job = new_job(tmp_path, tiny_model, training_set, store, packing=False)
    forked.run(job, tmp_path / "first.log")
    shutil.rmtree(tmp_path / "out" / "adapter")
    weights = Path(job["work"]) / f"checkpoint-{STEPS}" / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-7] ^= 4
    weights.write_bytes(data)
    result = forked.run(job, tmp_path / "log")
    assert result["details"]["resumed_from"] == STEPS - SAVED_EVERY
    assert forked.adapter(job) == undisturbed[False]
    notes = [event["note"] for event in forked.events_in(tmp_path / "log") if "note" in event]
    assert f"the checkpoint of step {STEPS} is damaged: adapter_model.safetensors has changed; it is not used" in notes


def test_sigterm_saves_a_checkpoint_of_the_step_and_the_next_run_goes_on_from_it(
    undisturbed: dict[bool, dict[str, str]], tiny_model: Path, training_set: ArtifactRef, store: Path, tmp_path: Path
) -> None:
    job = new_job(tmp_path, tiny_model, training_set, store, packing=False)
    code = forked.run_and_signal(job, tmp_path / "stopped.log", step=4, delay=0, number=signal.SIGTERM)
    assert code == 1
    assert "asked to stop" in (tmp_path / "stopped.log").read_text()
    reached = forked.steps_in(tmp_path / "stopped.log")
    assert reached < STEPS
    result = forked.run(job, tmp_path / "log")
    assert result["details"]["resumed_from"] == reached
    assert forked.adapter(job) == undisturbed[False]


def test_a_training_that_was_divided_for_want_of_memory_goes_on_over_the_same_rows(
    tiny_model: Path, training_set: ArtifactRef, store: Path, tmp_path: Path
) -> None:
    """Batches of 4, then from step 6 on 2 and 2: the loss of every step is that of the undivided training."""
    jobs = [new_job(tmp_path / name, tiny_model, training_set, store, packing=False) for name in ("whole", "divided")]
    for job in jobs:
        job["config"] |= {"dropout": 0.0, "neftune_alpha": None}
    forked.run(jobs[0], tmp_path / "whole.log")
    forked.run_and_signal(jobs[1], tmp_path / "divided.log", step=7, delay=0)
    jobs[1]["config"] |= {"batch_size": 2, "accumulation_steps": 2}
    result = forked.run(jobs[1], tmp_path / "log")
    assert result["details"]["resumed_from"] in (3, 6)
    curves = [
        [float(line.split(",")[1]) for line in Path(job["out"], "loss.csv").read_text().splitlines()[1:]]
        for job in jobs
    ]
    assert curves[1] == pytest.approx(curves[0], abs=1e-4)
    assert json.loads(Path(jobs[1]["work"], "result.json").read_text())["details"]["batch_size"] == 2
