"""A night in progress: it runs the stages' tasks and records the result of each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from prefect import Task, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run

from flows.night.champion import missing_champion
from flows.night.data_checks import require_documents
from flows.night.dead_runs import end_dead_runs
from flows.night.document_changes import document_changes
from flows.night.generation_metrics import log_generation
from flows.night.preparation import checked_recipe, recorded
from flows.recipe.recipe import Recipe
from flows.report.page import evaluation_markdown, samples_markdown
from flows.report.record import RunRecord, rows_table
from flows.report.waterfall_tables import waterfall_table
from tasks.collect.collect import CollectJob
from tasks.core.artifacts import ArtifactRef
from tasks.core.details import GenerateDetails
from tasks.core.errors import StageTimeout
from tasks.core.home import Home, recipe_in_messages
from tasks.core.lock import run_lock
from tasks.core.progress import say
from tasks.core.task import can_retry, failure_of
from tasks.evaluate.curve import Smaller
from tasks.generate.generate import GenerateJob
from tasks.publish.publish import PublishJob
from tasks.publish.registry import Registry
from tasks.publish.task import PublishResult
from tasks.train.train import TrainJob

SECONDS_A_MINUTE = 60
SECTIONS = {"fetch": "collect", "check_documents": "validate", "check_training_set": "validate"}
"""The recipe's sections of the tasks whose names differ from their section."""


class TimedJob(Protocol):
    """A stage's job; its ``config``, a section of the recipe, has ``timeout_minutes``."""

    @property
    def config(self) -> Any: ...


class Night:
    """A run in progress: a recipe, its registry, and the artifacts so far, by stage."""

    def __init__(self, recipe: Recipe, home: Home, record: RunRecord) -> None:
        self.recipe, self.home, self.record = recipe, home, record
        self.registry = Registry(home, recipe.publish.name)
        self.artifacts: dict[str, ArtifactRef] = {}

    def fetch(self, task: Task[Any, None], job: CollectJob) -> None:
        """Bring the snapshots of remote sources up to date, if the recipe has any."""
        if job.is_remote:
            self._run(task, job, task.name)

    def collect(self, task: Task[Any, Any], job: CollectJob) -> ArtifactRef:
        """Run the collect stage, and record what is new since the last run."""
        collected = self.stage(task, job)
        require_documents(self.recipe, collected)
        changes = document_changes(self.home, self.recipe.name, self.record.run_id, collected.folder)
        if changes:
            self.record.changes = changes
            say(f"  {changes}")
        return collected

    def generate(self, task: Task[Any, Any], job: GenerateJob) -> ArtifactRef:
        """Run the generate stage, and log its numbers to MLflow."""
        generated = self.stage(task, job)
        stats = generated.details(GenerateDetails).stats
        if stats is not None and not self.record.stages["generate"]["cached"]:
            try:
                log_generation(self.home, self.record.run_id, self.recipe.name, stats.model_dump())
            except Exception as error:  # a failing tracking store must not lose the rows
                say(f"  the numbers of generation could not be logged: {type(error).__name__}: {error}")
        return generated

    def smaller(self, task: Task[Any, Any], jobs: Sequence[TrainJob]) -> tuple[Smaller, ...]:
        """Train on parts of the training set, for the learning curve."""
        return tuple(Smaller(job.fraction, self.stage(task, job, f"{job.fraction:.4g}")) for job in jobs)

    def stage(self, task: Task[Any, Any], job: TimedJob, part: str = "") -> ArtifactRef:
        """Run a stage's task and record its artifact; ``part`` follows the stage's name if it runs more than once."""
        name, started = f"{task.name} {part}".strip(), time.monotonic()
        result = self._run(task, job, name)
        self._record(name, result.ref, time.monotonic() - started, result.cached)
        ref: ArtifactRef = result.ref
        return ref

    def publish(self, task: Task[Any, Any], job: PublishJob) -> None:
        """Run the publish task and record the champion."""
        started = time.monotonic()
        result: PublishResult = self._run(task, job, task.name)
        cached = result.stage.cached and not result.promoted
        self._record(task.name, result.stage.ref, time.monotonic() - started, cached)
        missing = missing_champion(self.registry, self.record.started_as)
        self.record.published(result, self.registry.champion(), missing)

    def _run(self, task: Task[Any, Any], job: TimedJob, name: str) -> Any:
        say(name)
        minutes = job.config.timeout_minutes

        def noting(task: object, task_run: object, state: Any) -> bool:
            """Prefect asks this after a failure, as long as tries are left."""
            is_retried = can_retry(task, task_run, state)
            if is_retried:
                say(f"  {self.record.failed_attempt(name, str(failure_of(state)))}")
            return is_retried

        limited = task.with_options(
            task_run_name=name, timeout_seconds=minutes * SECONDS_A_MINUTE, retry_condition_fn=noting
        )
        state: Any = limited(job, self.record.run_id, return_state=True)
        try:
            return state.result()
        except TimeoutError as error:
            raise StageTimeout(
                f"The {task.name} stage ran over its {minutes:g} minutes and was ended",
                where=f"{SECTIONS.get(task.name, task.name)}.timeout_minutes",
                remedy="raise it in the recipe, or make the work smaller; the next run continues from what is done",
            ) from error

    def _record(self, stage: str, ref: ArtifactRef, seconds: float, cached: bool) -> None:
        self.artifacts[stage] = ref
        line = self.record.stage(stage, ref, seconds, cached)
        say(f"  {line}")
        get_run_logger().info("%s: %s", stage, line)


@contextlib.contextmanager
def night(recipe_name: str) -> Iterator[Night]:
    """Take the lock, check the recipe, and leave a record of the run, however it ends.

    Raises RetuneError: the recipe or a file it names is wrong, it does not fit its champion, or another run uses this
    RETUNE_HOME.
    """
    home = Home.from_environment()
    flow_run_id = str(flow_run.id or "")
    with run_lock(home, flow_run_id), recorded(home, recipe_name, flow_run_id) as record:
        end_dead_runs(home, record.run_id)
        recipe = checked_recipe(recipe_name, home)
        record.recipe = recipe.name
        tonight = Night(recipe, home, record)
        with recipe_in_messages(recipe.reference):
            yield tonight
    try:
        _show_in_prefect(tonight)
    except Exception as error:  # the night's results do not depend on Prefect's server
        say(f"the run's Prefect artifacts could not be written: {type(error).__name__}: {error}")


def _show_in_prefect(tonight: Night) -> None:
    name = tonight.recipe.name.lower().replace("_", "-").replace(".", "-")
    record = tonight.record
    create_table_artifact(key=f"{name}-rows", table=rows_table(record), description="Rows per stage")
    waterfall = waterfall_table(record)
    create_table_artifact(key=f"{name}-waterfall", table=waterfall, description="What happened to every row")
    evaluation, samples = evaluation_markdown(record), samples_markdown(tonight.artifacts)
    create_markdown_artifact(key=f"{name}-evaluation", markdown=evaluation, description="Base against candidate")
    create_markdown_artifact(key=f"{name}-samples", markdown=samples, description="Rows the teacher wrote")
