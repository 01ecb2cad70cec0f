"""A night that trains on parts of its training set: each part is a task and an artifact of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import State, flow, task
from prefect.testing.utilities import prefect_test_harness

from flows.night.jobs import smaller_train_jobs, train_job
from flows.night.run import Night
from flows.recipe.read import read_recipe
from flows.report.record import RunRecord
from tasks.core.artifacts import ArtifactRef, StageKey, Summary
from tasks.core.home import Home
from tasks.core.stage import StageContext, StageResult
from tasks.core.task import finish_stage, task_policy
from tests.flows.conftest import WriteRecipe

VALIDATED = ArtifactRef("validate", "v", "/v", "digest", 100)


@dataclass(frozen=True)
class TinyTraining:
    """What the flow sees of a training: its fraction, its time limit, and an artifact."""

    fraction: float

    @property
    def config(self) -> Any:
        return SimpleNamespace(timeout_minutes=1)

    def key(self) -> StageKey:
        return StageKey("train", 1, {"fraction": self.fraction})

    def fill(self, folder: Path, context: StageContext) -> Summary:
        rows = round(100 * self.fraction)
        return Summary(rows_in=rows, accepted=rows)


@task(**task_policy("train"))
def train_tiny(job: TinyTraining, run_id: str) -> State[StageResult]:
    return finish_stage(job, run_id)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setenv("RETUNE_HOME", str(tmp_path / "home"))
    with prefect_test_harness(server_startup_timeout=120):
        yield Home(tmp_path / "home")


def test_each_part_is_trained_under_its_own_name_and_found_the_next_night(server: Home) -> None:
    @flow(persist_result=False)
    def two_nights() -> list[tuple[RunRecord, Any]]:
        nights = []
        for _ in range(2):
            one = Night(read_recipe("embedded"), server, RunRecord.start(server, "embedded", ""))
            jobs: Any = [TinyTraining(0.25), TinyTraining(0.5)]
            smaller = one.smaller(train_tiny, jobs)
            one.stage(train_tiny, TinyTraining(1.0))
            nights.append((one.record, smaller))
        return nights

    (first, smaller), (second, again) = two_nights()
    assert list(first.stages) == ["train 0.25", "train 0.5", "train"]
    assert [(one.fraction, one.trained.rows) for one in smaller] == [(0.25, 25), (0.5, 50)]
    assert [stage["cached"] for stage in (*first.stages.values(), *second.stages.values())] == [False] * 3 + [True] * 3
    assert again == smaller
    assert len({one.trained.key for one in smaller}) == 2


def test_a_recipe_trains_on_its_fractions_and_the_whole_is_not_one_of_them(write_recipe: WriteRecipe) -> None:
    plain = read_recipe(write_recipe(lambda recipe: None))
    assert smaller_train_jobs(plain, VALIDATED) == ()
    recipe = read_recipe(write_recipe(lambda recipe: recipe["train"].update(fractions=[0.25, 0.5, 1.0])))
    assert [job.fraction for job in smaller_train_jobs(recipe, VALIDATED)] == [0.25, 0.5]
    jobs = (*smaller_train_jobs(recipe, VALIDATED), train_job(recipe, VALIDATED))
    keys = {job.key().hex for job in jobs}
    assert len(keys) == 3
    assert train_job(plain, VALIDATED).key().hex == train_job(recipe, VALIDATED).key().hex, (
        "a curve trains nothing anew"
    )
