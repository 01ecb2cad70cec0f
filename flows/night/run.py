"""One run's bookkeeping: the lock, the record that is written after every stage, and the report at its end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prefect import Task, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run

from flows.night.champion import check_champion, initial_adapter, rival
from flows.night.document_changes import document_changes
from flows.night.generation_metrics import log_generation
from flows.recipe.checks import check_recipe
from flows.recipe.read import read_recipe
from flows.recipe.recipe import Recipe
from flows.report.page import evaluation_markdown, samples_markdown, write_page
from flows.report.record import RunRecord, rows_table
from flows.report.waterfall_tables import waterfall_table
from tasks.collect.collect import CollectJob
from tasks.collect.config import place_of
from tasks.core import tables
from tasks.core.artifacts import ArtifactRef
from tasks.core.details import CollectDetails, Counts, DocumentsDetails, GenerateDetails
from tasks.core.errors import ContractViolation, SourceError, StageTimeout
from tasks.core.home import Home
from tasks.core.lock import alone
from tasks.core.progress import say
from tasks.core.stage import StageResult
from tasks.evaluate.answers import read_holdout
from tasks.evaluate.curve import Smaller
from tasks.evaluate.evaluate import Rival
from tasks.generate.generate import GenerateJob
from tasks.publish.history import TRAINING_PROFILE, champions_before
from tasks.publish.publish import PublishJob
from tasks.publish.registry import Registry
from tasks.publish.task import PublishResult, publish_candidate
from tasks.train.train import InitialAdapter, TrainJob
from tasks.validate.check_training_set import Publications, choose_publications

SECONDS_A_MINUTE = 60


class Night:
    """A run in progress: executes stages and records what came of them."""

    def __init__(self, recipe: Recipe, home: Home, record: RunRecord) -> None:
        self.recipe, self.home, self.record = recipe, home, record
        self.artifacts: dict[str, ArtifactRef] = {}

    def fetch(self, task: Task[Any, None], job: CollectJob) -> None:
        """Bring the snapshots of remote sources up to date; a recipe without any has nothing to fetch."""
        if job.is_remote:
            say(f"{task.name}")
            timeout = job.config.timeout_minutes
            limited = task.with_options(timeout_seconds=timeout * SECONDS_A_MINUTE)
            state: Any = limited(job, self.record.run_id, return_state=True)
            _result_of(state, "collect", timeout)

    def stage(self, task: Task[Any, StageResult], job: Any, part: str = "") -> ArtifactRef:
        """Run a stage's task under the recipe's timeout and record its rows, seconds and whether it was cached.

        Args:
            part: told beside the stage's name, where a stage runs more than once.
        """
        name = f"{task.name} {part}".strip()
        say(name)
        started = time.monotonic()
        timeout = getattr(getattr(job, "config", None), "timeout_minutes", None)
        limited = task.with_options(task_run_name=name, timeout_seconds=timeout * SECONDS_A_MINUTE if timeout else None)
        state: Any = limited(job, self.record.run_id, return_state=True)
        result: StageResult = _result_of(state, str(task.name), timeout)
        cached = result.cached or state.name == "Cached"
        self._note(name, result.ref, time.monotonic() - started, cached)
        return result.ref

    def smaller(self, task: Task[Any, StageResult], jobs: Sequence[TrainJob]) -> tuple[Smaller, ...]:
        """Train on parts of the training set, for the learning curve."""
        return tuple(Smaller(job.fraction, self.stage(task, job, f"{job.fraction:.4g}")) for job in jobs)

    def publish(self, job: PublishJob) -> None:
        """Run the publish task and record the champion."""
        say("publish")
        started = time.monotonic()
        limited = publish_candidate.with_options(timeout_seconds=job.config.timeout_minutes * SECONDS_A_MINUTE)
        state: Any = limited(job, self.record.run_id, return_state=True)
        result: PublishResult = _result_of(state, "publish", job.config.timeout_minutes)
        self._note("publish", result.stage.ref, time.monotonic() - started, result.stage.cached and not result.promoted)
        self.record.published(result, Registry(self.home, job.config.name).champion())

    def require_holdout(self, collected: ArtifactRef, documents: ArtifactRef) -> None:
        """Stop before a model is started if the holdout is too small for the gate to decide anything.

        Held-out documents of replay sources are not asked, and do not count.

        Raises:
            ContractViolation: with the numbers.
        """
        rows = documents.details(DocumentsDetails).conversations["holdout"]
        if replay := self.recipe.train.mix.replay:
            rows -= read_holdout(documents.folder / tables.HOLDOUT, None, replay)[1]
        needed = self.recipe.evaluate.gate.minimum_rows
        if rows < needed:
            beside = " beside those of replay sources" if replay else ""
            raise ContractViolation(
                f"The holdout has {rows} conversations{beside}, and the gate wants {needed}",
                where="evaluate.gate.minimum_rows",
                remedy="collect more documents, or raise collect.holdout_fraction before the first night"
                + _what_was_lost(collected, collected.details(CollectDetails).rules)
                + _what_was_lost(documents, documents.details(DocumentsDetails).rules),
            )

    def require_documents(self, collected: ArtifactRef) -> None:
        """Stop where no source gave a document: there is nothing to learn from, whatever was held out before.

        Raises:
            SourceError: with why there is none.
        """
        summary = collected.manifest()["summary"]
        if summary["accepted"]:
            return
        details = collected.details(CollectDetails)
        where = ", ".join(map(place_of, self.recipe.collect.sources))
        if summary["rows_in"]:
            rules = _counts(details.rules)
            what = f"None of the {summary['rows_in']} rows that the sources hold became a document ({rules})"
            where = str(collected.folder / tables.QUARANTINE)
            remedy = "mend the rows, or correct collect in the recipe"
        elif left_out := details.left_out:
            what = f"collect.where wants none of the {left_out} rows that the sources hold"
            remedy = "correct collect.where in the recipe"
        else:
            what = "The sources are empty: they hold no row, at most a header"
            remedy = "see why nothing was written to them, or correct collect.sources in the recipe"
        raise SourceError(what, where=where, remedy=remedy)

    def publications(self, validated: ArtifactRef) -> Publications:
        """The published training sets that tonight's is compared with: the last, and one ``drift_window`` back."""
        registry = Registry(self.home, self.recipe.publish.name)
        before = champions_before(registry, validated.digest)
        return choose_publications(
            ((one.version, Path(one.path) / TRAINING_PROFILE) for one in before), self.recipe.validate_.drift_window
        )

    def rival(self, trained: ArtifactRef) -> Rival | None:
        """Whom the candidate has to beat: the champion, or the one whom it replaced itself."""
        return rival(Registry(self.home, self.recipe.publish.name), trained)

    def initial_adapter(self, validated: ArtifactRef) -> InitialAdapter | None:
        """The champion's adapter to go on from, where the recipe wants that; see ``flows.night.champion``."""
        found = initial_adapter(Registry(self.home, self.recipe.publish.name), self.recipe, validated)
        if found is not None:
            say(f"  training goes on from version {found.version} of {self.recipe.publish.name}")
        return found

    def collect(self, task: Task[Any, StageResult], job: CollectJob) -> ArtifactRef:
        """Run the collect stage, and record what is new since the run before.

        Raises:
            SourceError: the sources gave no document.
        """
        collected = self.stage(task, job)
        self.require_documents(collected)
        changes = document_changes(self.home, self.recipe.name, self.record.run_id, collected.folder)
        if changes is not None:
            self.record.changes = changes.said
            say(f"  {changes.said}")
        return collected

    def generate(self, task: Task[Any, StageResult], job: GenerateJob) -> ArtifactRef:
        """Run the generate stage, and log what it took to MLflow."""
        generated = self.stage(task, job)
        stats = generated.details(GenerateDetails).stats
        if stats is not None and not self.record.stages["generate"]["cached"]:
            try:
                log_generation(self.home, self.record.run_id, self.recipe.name, stats.model_dump())
            except Exception as error:  # the rows are there, whatever the tracking store says
                say(f"  the numbers of generation could not be logged: {type(error).__name__}: {error}")
        return generated

    def _note(self, stage: str, ref: ArtifactRef, seconds: float, cached: bool) -> None:
        self.artifacts[stage] = ref
        line = self.record.stage(stage, ref, seconds, cached)
        say(f"  {line}")
        get_run_logger().info("%s: %s", stage, line)


def _what_was_lost(artifact: ArtifactRef, rules: Counts) -> str:
    """Where most rows went, if most of them went to quarantine: then that is what has to be mended."""
    summary = artifact.manifest()["summary"]
    if summary["quarantined"] * 2 < summary["rows_in"] or not summary["quarantined"]:
        return ""
    lost = f"{summary['quarantined']} of {summary['rows_in']} rows were quarantined ({_counts(rules)})"
    return f"; but first: {artifact.stage}: {lost}, see {artifact.folder / 'quarantine.parquet'}"


def _counts(rules: Counts) -> str:
    return ", ".join(f"{rule} {count}" for rule, count in rules.items())


@contextlib.contextmanager
def night(recipe_name: str) -> Iterator[Night]:
    """Check the recipe, take the lock, and leave a record of the run behind, however it ends.

    Raises:
        RetuneError: the recipe or a file it names is wrong, it does not fit the champion that it goes on from, or
            another run is under way in this RETUNE_HOME.
    """
    home = Home.from_environment()
    with alone(home):
        record = RunRecord.start(home, recipe_name, str(flow_run.id or ""))
        try:
            recipe = read_recipe(recipe_name)
            record.recipe = recipe.name
            check_recipe(recipe)
            check_champion(Registry(home, recipe.publish.name), recipe)
            one = Night(recipe, home, record)
            yield one
            record.write()
        except BaseException as error:
            record.fail(error)
            raise
        finally:
            write_page(record)
    try:
        _show(one)
    except Exception as error:  # what the night did stands, whatever Prefect's server says to its artifacts
        say(f"the run's Prefect artifacts could not be written: {type(error).__name__}: {error}")


def _result_of(state: Any, stage: str, timeout: float | None) -> Any:
    """A finished task's result, or its error; running over the time is an error that names the recipe's key."""
    try:
        return state.result()
    except TimeoutError as error:
        raise StageTimeout(
            f"The {stage} stage ran over its {timeout:g} minutes and was ended",
            where=f"{stage}.timeout_minutes",
            remedy="raise it in the recipe, or make the work smaller; the next run goes on from what is done",
        ) from error


def _show(one: Night) -> None:
    """The run's Prefect artifacts: row counts, what became of every row, the evaluation, samples."""
    name = one.recipe.name.lower().replace("_", "-").replace(".", "-")
    create_table_artifact(key=f"{name}-rows", table=rows_table(one.record), description="Rows per stage")
    waterfall = waterfall_table(one.record)
    create_table_artifact(key=f"{name}-waterfall", table=waterfall, description="What became of every row")
    create_markdown_artifact(
        key=f"{name}-evaluation", markdown=evaluation_markdown(one.record), description="Base against candidate"
    )
    create_markdown_artifact(
        key=f"{name}-samples", markdown=samples_markdown(one.artifacts), description="Rows the teacher wrote"
    )
