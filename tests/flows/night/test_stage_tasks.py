"""How a stage's task ends in Prefect, on a real server: made, found, tried again, failed, or as part of a curve."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import State, flow, get_client, task
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from prefect.states import Running
from prefect.testing.utilities import prefect_test_harness

from flows.night.dead_runs import end_dead_runs, end_dead_runs_of_server
from flows.night.run import Night
from flows.recipe.read import read_recipe
from flows.report.page import report_markdown
from flows.report.record import RunRecord, end_killed_records, read_record
from tasks.core.artifacts import StageKey, Summary
from tasks.core.errors import ChildError, ContractViolation, RetuneError
from tasks.core.home import Home
from tasks.core.lock import run_lock
from tasks.core.stage import StageContext, StageResult
from tasks.core.task import finish_stage, task_policy


@dataclass(frozen=True)
class OneRow:
    """A job that fails with each of its errors, then makes an artifact of one row."""

    name: str
    errors: list[RetuneError] = field(default_factory=list)

    def key(self) -> StageKey:
        return StageKey("collect", 1, {"name": self.name})

    def fill(self, folder: Path, context: StageContext) -> Summary:
        if self.errors:
            raise self.errors.pop()
        return Summary(rows_in=1, accepted=1)


@task(**{**task_policy("collect"), "retry_delay_seconds": 0})
def collect_one(job: OneRow, run_id: str) -> State[StageResult]:
    return finish_stage(job, run_id)


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


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("prefect")
    with (
        pytest.MonkeyPatch.context() as patch,
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_LOCAL_STORAGE_PATH: folder}),
    ):
        patch.setenv("RETUNE_HOME", str(folder / "home"))
        yield folder


def run(*jobs: OneRow) -> list[State[Any]]:
    """The final state of each job's task."""
    ended: list[State[Any]] = []

    @flow(persist_result=False)
    def run_all() -> None:
        ended.extend(collect_one(job, "run", return_state=True) for job in jobs)

    run_all()
    return ended


def recorded(state: State[Any]) -> tuple[str, int]:
    """The name of a task run's state on the server, and how many times it ran."""
    assert state.state_details.task_run_id is not None
    with get_client(sync_client=True) as client:
        ended = client.read_task_run(state.state_details.task_run_id)
    assert ended.state is not None
    return str(ended.state.name), ended.run_count


def test_a_stage_whose_artifact_exists_ends_as_cached_with_the_same_artifact(storage: Path) -> None:
    made, found = run(OneRow("twice"), OneRow("twice"))
    assert (made.name, found.name) == ("Completed", "Cached")
    assert (made.result().cached, found.result().cached) == (False, True)
    assert made.result().ref == found.result().ref
    assert [recorded(state) for state in (made, found)] == [("Completed", 1), ("Cached", 1)]
    assert [path.name for path in storage.iterdir()] == ["home"], "Prefect stores no results"


def test_a_stage_whose_artifact_was_damaged_is_made_again(storage: Path) -> None:
    (made,) = run(OneRow("damaged"))
    (Path(made.result().ref.path) / "manifest.json").unlink()
    (again,) = run(OneRow("damaged"))
    assert (again.name, again.result().cached) == ("Completed", False)


def test_a_lost_child_is_tried_again_and_a_broken_contract_is_not(storage: Path) -> None:
    lost, broken = run(OneRow("lost", [ChildError("It died")]), OneRow("broken", [ContractViolation("It is broken")]))
    assert lost.result().ref.rows == 1 and recorded(lost)[1] == 2
    with pytest.raises(ContractViolation, match="It is broken"):
        broken.result()
    assert recorded(broken) == ("Failed", 1)


def test_each_part_is_trained_under_its_own_name_and_found_the_next_night(storage: Path) -> None:
    home = Home(storage / "home")

    @flow(persist_result=False)
    def two_nights() -> list[tuple[RunRecord, Any]]:
        nights = []
        for _ in range(2):
            one = Night(read_recipe("embedded"), home, RunRecord.start(home, "embedded", ""))
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


@dataclass(frozen=True)
class Timed(OneRow):
    """As the flow sees a job: with a time limit."""

    @property
    def config(self) -> Any:
        return SimpleNamespace(timeout_minutes=1)


def test_a_retry_is_said_with_its_cause_on_the_terminal_in_the_record_and_on_the_page(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(storage / "home")
    cause = "It died; the cause in line 7 of its log:\n    RuntimeError: einsum(): no"
    record = RunRecord.start(home, "embedded", "")

    @flow(persist_result=False)
    def one_night() -> None:
        night = Night(read_recipe("embedded"), home, record)
        night.stage(collect_one, Timed("said", [ChildError(cause), ChildError("It died first")]))

    one_night()
    assert [(one["stage"], one["attempt"]) for one in record.attempts] == [("collect", 1), ("collect", 2)]
    assert read_record(home, record.run_id).attempts == record.attempts
    said = capsys.readouterr().err
    for text in (said, report_markdown(record)):
        assert "collect: attempt 1 failed, and is followed by another: It died first" in text
        assert f"collect: attempt 2 failed, and is followed by another: {cause}" in text
    assert record.stages["collect"]["accepted"] == 1


def test_a_run_that_was_killed_is_ended_in_prefect_and_in_its_record_by_the_next(storage: Path) -> None:
    home = Home(storage / "killed")

    @flow(persist_result=False)
    def some_night() -> None: ...

    with get_client(sync_client=True) as client:
        dead, living = (client.create_flow_run(some_night, state=Running()) for _ in range(2))
        killed = RunRecord.start(home, "embedded", str(dead.id))
        own = RunRecord.start(home, "embedded", str(living.id))
        gone = RunRecord.start(home, "embedded", str(uuid.uuid4()))
        end_dead_runs(home, own.run_id)
        states = [client.read_flow_run(run.id).state for run in (dead, living)]
        assert [state.type.name for state in states if state] == ["CRASHED", "RUNNING"]
        with run_lock(home, str(living.id)):
            end_dead_runs_of_server(home)
            assert client.read_flow_run(living.id).state == states[1]
        end_dead_runs_of_server(home)
        ended = client.read_flow_run(living.id).state
    assert ended is not None and ended.is_crashed()
    found = {one.run_id: read_record(home, one.run_id) for one in (killed, gone)}
    assert all(one.status == "failed" and "was killed" in one.reason for one in found.values())
    assert end_killed_records(home, own.run_id) == []
