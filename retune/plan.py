"""``retune plan``: whether a recipe's model fits this machine, and how long its training takes."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from flows.recipe.checks import check_data
from flows.recipe.recipe import Recipe
from flows.report.record import latest_artifacts
from retune.terminal import out, show
from tasks.core.artifacts import MANIFEST
from tasks.core.details import TrainDetails
from tasks.core.home import Home
from tasks.core.models import model_digest
from tasks.train.config import TrainConfig, device_refusals
from tasks.train.devices import MemoryDevice, devices_present
from tasks.train.planner import TrainingPlan, plan_training, planned_evaluations, planned_steps

Manifest = dict[str, Any]
GB = 10**9
EVALUATION_COST = 0.5
"""Of a token of training: 2 of 4 FLOPs a parameter with a frozen base (:func:`tasks.train.throughput.mfu`)."""
PARTS = {
    "weights": "weights",
    "quantisation": "constants of the 4-bit blocks",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "activations": "activations",
    "logits": "logits and loss",
    "cache": "keys and values",
    "allocator": "allocator's gaps",
    "runtime": "runtime and libraries",
    "loading": "while loading, instead",
}


@dataclass(frozen=True)
class Workload:
    """How much there is to train, over all subsets of the learning curve.

    Attributes:
        rows: of the recipe's last training set; None before its first run.
        steps, tokens: optimizer steps, and tokens in them; None if they depend on rows that are not known yet.
        evaluated_tokens: in all evaluations of the validation split, of about so many rows as its fraction says.
        tokens_are: ``counted``: from the mean length that an earlier training found in these rows; ``bound``: at most,
            if each row is as long as ``max_length`` allows.
        tokens_per_second: of the newest training of this model, method and device in this RETUNE_HOME, or None.
    """

    rows: int | None
    trainings: int
    steps: int | None
    tokens: int | None
    evaluated_tokens: int
    tokens_are: Literal["counted", "bound"]
    tokens_per_second: float | None

    @property
    def seconds(self) -> float | None:
        """Time of the steps and evaluations, without loading the model."""
        if not self.tokens or not self.tokens_per_second:
            return None
        return (self.tokens + EVALUATION_COST * self.evaluated_tokens) / self.tokens_per_second


@dataclass(frozen=True)
class Plan:
    """Everything that ``retune plan`` reports; a run on this machine would stop with the ``refusals``."""

    recipe: str
    model: str
    training: TrainingPlan
    workload: Workload
    refusals: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain data; bytes, seconds."""
        work = {**asdict(self.workload), "seconds": self.workload.seconds}
        head = {"recipe": self.recipe, "model": self.model}
        return {**head, **self.training.as_json(), "workload": work, "refusals": self.refusals}


def plan_recipe(
    recipe: Recipe, home: Home, config_file: Path | None = None, devices: tuple[MemoryDevice, ...] | None = None
) -> Plan:
    """Plan a recipe's training on this machine, without weights and without a network.

    Raises RetuneError: the recipe's sources, prompts, contracts or task are wrong, the model's config is not on this
    machine, or the model has no layer of a wanted name.

    Args:
        home: holds the training sets and speeds of earlier runs.
        config_file: the model's ``config.json``, if neither its folder nor the catalogue has it.
        devices: None: those of this machine.
    """
    check_data(recipe)
    devices = devices or devices_present()
    planned = plan_training(recipe.model, recipe.train, recipe.evaluate.server, devices, config_file)
    refused = tuple(device_refusals(recipe.train, planned.device.kind))
    return Plan(recipe.name, recipe.model.path, planned, _workload(recipe, planned, home), refused)


def _workload(recipe: Recipe, planned: TrainingPlan, home: Home) -> Workload:
    earlier = _trainings_of(recipe, home)
    config = recipe.train
    manifests = (_manifest(folder) for _, folder in latest_artifacts(home, recipe.name, "validate"))
    validated = next(filter(None, manifests), None)
    rows = validated["summary"]["accepted"] if validated else None
    held = round((rows or 0) * config.validation_fraction)
    trainings = _trainings(config, rows, held)
    digest = validated["digest"] if validated else None
    lengths = (_mean_length(done) for done in earlier if digest in [given["digest"] for given in done["inputs"]])
    # A packed sequence is always full, however long its rows are.
    length = None if config.packing else next((found for found in lengths if found), None)
    steps = tokens = None
    evaluated = 0
    if trainings is not None:  # a step is never larger than the training set
        steps, mean = sum(trainings), length or config.max_length
        per_step = config.batch_size * config.accumulation_steps * config.processes
        tokens = round(steps * min(per_step, rows - held if rows else per_step) * mean)
        evaluated = round(sum(planned_evaluations(config, each) for each in trainings) * held * mean)
    speed = next((speed for done in earlier if (speed := _speed(done, planned))), None)
    return Workload(rows, len(config.fractions), steps, tokens, evaluated, "counted" if length else "bound", speed)


def _trainings(config: TrainConfig, rows: int | None, held: int) -> list[int] | None:
    """Optimizer steps over each subset; None if epochs are counted and the rows are not known."""
    if rows is None and config.max_steps is None:
        return None
    return [planned_steps(config, max(1, math.floor(((rows or 0) - held) * part))) for part in config.fractions]


def _trainings_of(recipe: Recipe, home: Home) -> list[Manifest]:
    found = [manifest for folder in (home.artifacts / "train").glob("*") if (manifest := _manifest(folder))]
    if not found:
        return []
    found.sort(key=lambda manifest: str(manifest["created"]), reverse=True)
    digest = model_digest(recipe.model)
    return [manifest for manifest in found if manifest["determinants"]["files"].get("model") == digest]


def _manifest(folder: Path) -> Manifest | None:
    """An artifact's manifest; None if it is damaged or being written: a plan does not depend on it."""
    try:
        manifest: Manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest


def _mean_length(training: Manifest) -> float | None:
    details = _details(training)
    tokens, rows = details.tokens, details.training_rows or training["summary"]["accepted"]
    return tokens / rows if tokens and rows else None


def _speed(training: Manifest, planned: TrainingPlan) -> float | None:
    details = _details(training)
    device = "cpu" if planned.device.kind == "cpu" else planned.device.name
    is_same = (details.method, details.device) == (planned.method, device)
    return details.tokens_per_second if is_same else None


def _details(training: Manifest) -> TrainDetails:
    return TrainDetails.model_validate(training["summary"]["details"])


def print_plan(planned: Plan) -> None:
    """Print one page: parameters, memory by parts, devices, and the work ahead."""
    training = planned.training
    share = training.trainable_parameters / training.shape.total_parameters
    show(f"{planned.recipe}: {training.method} of {planned.model} ({training.shape.family})")
    show(
        f"{training.shape.total_parameters:,} parameters, of which {training.trainable_parameters:,} are trained"
        f" ({share:.2%}); backend {training.backend}"
        + (f"; {training.processes} processes, memory of each:" if training.processes > 1 else "")
    )
    out.print(_memory(planned))
    for device in training.devices:
        show(f"{device.name}: {device.free / GB:.1f} of {device.total / GB:.1f} GB free")
    for name, fits in {"training": training.fits_training, "inference": training.fits_inference}.items():
        show(f"{name} {'fits' if fits else 'does not fit'}", "green" if fits else "red")
    for problem in planned.refusals:
        show(f"refused on this machine: {problem}", "red")
    for line in _work(planned.workload):
        show(line)


def _memory(planned: Plan) -> Table:
    columns = (planned.training.training, planned.training.inference)
    table = Table("memory at the peak, GB")
    for name in ("training", "inference"):
        table.add_column(name, justify="right")
    splits = [column.splits() for column in columns]
    for part, name in PARTS.items():
        if any(split.get(part) for split in splits):
            table.add_row(name, *(f"{split.get(part, 0) / GB:.2f}" for split in splits))
    table.add_row("peak", *(f"{column.total / GB:.2f}" for column in columns), style="bold")
    return table


def _work(work: Workload) -> list[str]:
    unknown = "rows unknown: no run of this recipe has made a training set yet"
    rows = unknown if work.rows is None else f"{work.rows:,} rows"
    if work.steps is None or work.tokens is None:
        return [f"{rows}, so steps, tokens and time are unknown too"]
    at_most = "at most " if work.tokens_are == "bound" else ""
    over = f" over {work.trainings} trainings" if work.trainings > 1 else ""
    evaluated = f", and {at_most}{work.evaluated_tokens:,} tokens in evaluations" if work.evaluated_tokens else ""
    lines = [f"{rows}; {work.steps:,} steps{over}, {at_most}{work.tokens:,} tokens{evaluated}"]
    if work.tokens_per_second is None or work.seconds is None:
        return [*lines, "time: not measured here; a first training of this model on this device measures it"]
    speed = f"{work.tokens_per_second:,.0f} tokens a second, as the last training of this model ran here"
    return [*lines, f"time: {at_most}{work.seconds / 60:,.1f} minutes at {speed}"]
