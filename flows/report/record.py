"""The record of a run: what every stage did, kept as JSON and written after each."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.report.artifact_files import (
    WATERFALL_PICTURE,
    curve_in,
    evidence_of,
    example_leak,
    pages_in,
    picture_in,
    rules_in,
    set_aside_by_training,
    waterfall_in,
    yield_by_prompt,
)
from tasks.core.artifacts import MANIFEST, ArtifactRef
from tasks.core.errors import RecipeError, RetuneError
from tasks.core.files import write_json
from tasks.core.home import Home
from tasks.core.lock import is_locked
from tasks.core.progress import say
from tasks.validate.waterfall.yields import waterfall_from_json

if TYPE_CHECKING:
    from tasks.core.details import EvaluateDetails
    from tasks.publish.registry import Published
    from tasks.publish.task import PublishResult

RECORD = "report.json"
SHOWN = (
    "asked", "reused", "by_prompt", "rules", "splits", "found", "notes", "labels", "merge", "quantised_layers",
    "stats", "judges", "unasked", "not_applicable", "stopped", "failed", "by_source", "by_contract", "warnings",
    "duplicate_kinds", "contamination", "diversity", "floors", "control", "drift", "compared_with",
    "replay_unasked", "gone_but_held_out", "ignored",
)  # fmt: skip
"""Details of a stage that the record repeats."""
COUNTS = ("rows_in", "accepted", "quarantined", "duplicates", "contaminated")


@dataclass
class RunRecord:
    """Everything that ``retune report`` shows of a run; written to the run's folder after every stage.

    Attributes:
        status: ``running``, then ``published``, ``rejected``, ``no-op`` or ``failed``.
        started_as: the recipe as the command named it.
        stages: by stage its counts, and its details as in ``SHOWN``.
        attempts: the failed attempts of stages that were tried again: ``stage``, ``attempt`` from 1, and ``error``.
        evidence: by stage that stopped the run, the folder in the run's logs with what the stage had found.
        evaluation: the details of evaluate; rates are fractions.
    """

    run_id: str
    recipe: str
    status: str
    started: float
    folder: str
    seconds: float = 0.0
    flow_run_id: str = ""
    started_as: str = ""
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    evidence: dict[str, str] = field(default_factory=dict)
    evaluation: dict[str, Any] | None = None
    champion: dict[str, Any] | None = None
    candidate: dict[str, Any] | None = None
    reason: str = ""
    changes: str = ""
    error: str | None = None

    @classmethod
    def start(cls, home: Home, recipe: str, flow_run_id: str) -> RunRecord:
        """A new record in its own folder; ``recipe`` is a name or the path of a file."""
        now = time.time()
        run_id = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now)) + f"-{(flow_run_id or uuid.uuid4().hex)[:6]}"
        folder = home.runs / run_id
        folder.mkdir(parents=True, exist_ok=True)
        named = str(Path(recipe).resolve()) if recipe.endswith((".yaml", ".yml")) else recipe
        record = cls(run_id, recipe, "running", now, str(folder), flow_run_id=flow_run_id, started_as=named)
        record.write()
        return record

    def stage(self, name: str, ref: ArtifactRef, seconds: float, cached: bool) -> str:
        """Record a finished stage; returns it as one line of text."""
        summary = ref.manifest()["summary"]
        details = summary["details"]
        counts = {count: summary.get(count, 0) for count in COUNTS}
        self.stages[name] = {"seconds": round(seconds, 2), **counts, "cached": cached, "path": ref.path}
        extras = {extra: details.get(extra) for extra in SHOWN} | {
            "pages": pages_in(ref.folder),
            "picture": picture_in(ref.folder),
            "curve": curve_in(ref.folder),
            "waterfall": yield_by_prompt(ref.folder),
            "leak": example_leak(ref.folder),
        }
        self.stages[name] |= {extra: value for extra, value in extras.items() if value not in (None, {}, [])}
        if cached and "asked" in details:
            self.stages[name] |= {"asked": 0, "reused": details["asked"] + details["reused"]}
        if name == "evaluate":
            self.evaluation, self.reason = details, details["reason"]
        if name == "train":
            self.stages[name]["training"] = details
            self._take_from_waterfall(ref)
        if summary["quarantined"] and "rules" not in self.stages[name]:
            self.stages[name]["rules"] = rules_in(ref.folder)
        self.write()
        numbers = ", ".join(f"{value} {count.replace('_', ' ')}" for count, value in counts.items())
        return f"{'cached' if cached else f'{seconds:.0f} s'}: {numbers}"

    def failed_attempt(self, stage: str, error: str) -> str:
        """Record an attempt after which the stage is tried again; returns it as text."""
        number = 1 + sum(attempt["stage"] == stage for attempt in self.attempts)
        self.attempts.append({"stage": stage, "attempt": number, "error": error})
        self.write()
        return attempt_line(self.attempts[-1])

    def _take_from_waterfall(self, trained: ArtifactRef) -> None:
        """Count the rows that the training set aside in the waterfall of validate, and draw it again."""
        validated = self.stages.get("validate", {})
        set_aside = set_aside_by_training(trained.folder)
        if not set_aside or "waterfall" not in validated:
            return
        by_prompt = waterfall_from_json(validated["waterfall"])
        lost = [(prompt, "all", rule) for prompt, _, rule in set_aside]
        validated["waterfall"] = by_prompt.with_training(lost).as_json()
        if whole := waterfall_in(Path(validated["path"])):
            from tasks.validate.waterfall.picture import draw_waterfall

            picture = Path(self.folder) / WATERFALL_PICTURE
            draw_waterfall(whole.with_training(set_aside), picture)
            validated["picture"] = str(picture)

    @property
    def evaluated(self) -> EvaluateDetails | None:
        """The evaluation as its model."""
        from tasks.core.details import EvaluateDetails  # here, because most commands read records without pydantic

        return None if self.evaluation is None else EvaluateDetails.model_validate(self.evaluation)

    def published(self, result: PublishResult, champion: Published | None, missing: str = "") -> None:
        """Record the outcome of publishing; ``missing`` explains why there is no champion."""
        self.champion = _place(champion)
        self.candidate = _place(result.published)
        if result.promoted:
            self.status = "published"
        elif all(stage["cached"] for stage in self.stages.values()):
            reason = "Nothing that determines the result has changed: every stage was done before."
            self.status, self.reason = "no-op", f"{reason} {self.changes}".strip()
        elif result.known is not None:
            reason = f"The same adapter was published before, as version {result.known.version}."
            self.status, self.reason = "no-op", f"{reason} {self.changes}".strip()
        else:
            self.status = "rejected"
        self.reason = f"{self.reason} {missing}".strip()
        self.write()

    def fail(self, error: BaseException) -> None:
        """Record how the run failed, and where the evidence is; a note on the error names the run's report."""
        error.add_note(f"run {self.run_id} failed; its report: {self.command('report')}")
        self.status = "failed"
        if isinstance(error, KeyboardInterrupt):
            self.error = f"The run was interrupted. The next one continues from the finished stages: {self.run_again}"
        else:
            self.error = str(error) if isinstance(error, RetuneError) else f"{type(error).__name__}: {error}"
        self.reason = self.error.partition("\n")[0]
        self.evidence = evidence_of(self.home, self.run_id)
        self.write()

    def was_killed(self) -> None:
        """Note that the run's process ended without a word."""
        self.status = "failed"
        self.reason = f"The run was killed. The next one continues from the finished stages: {self.run_again}"
        self.error = self.reason

    @property
    def home(self) -> Home:
        """The RETUNE_HOME that holds it."""
        return Home(Path(self.folder).parents[1])

    def command(self, *words: str) -> str:
        """A ``retune`` command about this run, for a message."""
        return self.home.command(*words, "--run", self.run_id)

    @property
    def run_again(self) -> str:
        """The command that runs its recipe again."""
        return self.home.command("run", recipe=self.started_as or self.recipe)

    def write(self) -> None:
        """Write the record atomically, with the seconds since the run started."""
        self.seconds = round(time.time() - self.started, 2)
        write_json(Path(self.folder) / RECORD, asdict(self))


def attempt_line(attempt: Mapping[str, Any]) -> str:
    """A failed attempt as text, with its cause."""
    return f"{attempt['stage']}: attempt {attempt['attempt']} failed, and is followed by another: {attempt['error']}"


def _place(published: Published | None) -> dict[str, Any] | None:
    if published is None:
        return None
    return {"name": published.name, "version": published.version, "path": published.path}


def read_record(home: Home, run_id: str | None = None) -> RunRecord:
    """The record of a run; without ``run_id``, the latest one that can be read.

    Raises RecipeError: the run does not exist, or its record is damaged.
    """
    records = sorted(home.runs.glob(f"{run_id or '*'}/{RECORD}"), reverse=True)
    if not records:
        raise RecipeError(
            f"There is no run {run_id!r}" if run_id else "There is no run yet",
            where=str(home.runs),
            remedy=f"start one: {home.command('run', recipe='embedded')}"
            if not run_id
            else "choose one of the folders there",
        )
    damaged: list[RecipeError] = []
    for path in records:
        try:
            record = _read(path)
        except RecipeError as error:
            damaged.append(error)
            continue
        if damaged:
            say(f"{damaged[0].what} ({damaged[0].where}): showing the run before it")
        if record.status == "running" and not is_locked(home):
            record.was_killed()
        return record
    raise damaged[0]


def end_killed_records(home: Home, own: str) -> list[RunRecord]:
    """Mark the records of killed runs as failed, and return them; the caller, run ``own``, holds the lock."""
    ended = []
    for path in sorted(home.runs.glob(f"*/{RECORD}")):
        with contextlib.suppress(RecipeError):
            record = _read(path)
            if record.status == "running" and record.run_id != own:
                record.was_killed()
                write_json(path, asdict(record))
                ended.append(record)
    return ended


def latest_artifacts(home: Home, recipe: str, stage: str, file: str = MANIFEST) -> Iterator[tuple[RunRecord, Path]]:
    """The runs of a recipe that finished a stage, newest first, each with the artifact's folder.

    Runs whose record is damaged are left out. ``file``: what the artifact must still have.
    """
    for path in sorted(home.runs.glob(f"*/{RECORD}"), key=_age, reverse=True):
        with contextlib.suppress(RecipeError):
            record = _read(path)
            folder = Path(record.stages.get(stage, {}).get("path", ""))
            if record.recipe == recipe and stage in record.stages and (folder / file).is_file():
                yield record, folder


def _age(path: Path) -> tuple[str, float]:
    """Sorts records by the second in the run's id, then by the time they were written."""
    return path.parent.name.partition("-")[0], path.stat().st_mtime


def _read(path: Path) -> RunRecord:
    try:
        return RunRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:  # half written when the machine stopped, or written by another version
        raise RecipeError(
            f"The record of run {path.parent.name} is damaged: {error}",
            where=str(path),
            remedy="the next run still finds what its stages wrote; to drop the record, remove its folder",
        ) from error


def rows_table(record: RunRecord) -> list[dict[str, Any]]:
    """The row counts, seconds and cache state, one row a stage."""
    return [
        {
            "stage": name,
            **{count: stage.get(count, 0) for count in COUNTS},
            "seconds": stage["seconds"],
            "cached": stage["cached"],
        }
        for name, stage in record.stages.items()
    ]
