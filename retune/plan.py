"""What a recipe's training takes: parameters, memory, tokens, steps and time, before anything is started."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from flows.recipe.recipe import Recipe
from flows.report.record import RECORD, RunRecord, read_record
from tasks.core.artifacts import MANIFEST
from tasks.core.errors import RecipeError
from tasks.core.home import Home
from tasks.core.models import model_digest
from tasks.train.config import TrainConfig, device_refusals
from tasks.train.devices import MemoryDevice, devices_present
from tasks.train.planner import TrainingPlan, plan_training, planned_steps

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Workload:
    """How much there is to train, over all subsets of the learning curve.

    Attributes:
        rows: of the recipe's last training set, or None where no run has made one yet.
        trainings: one, or a subset of the rows each.
        steps: of the optimizer, or None where they depend on rows that nobody knows yet.
        tokens: that the steps go through, or None with the steps.
        tokens_are: counted: at the mean length that an earlier training found in these rows; bound: at most, with each
            row as long as ``max_length`` allows.
        tokens_per_second: of the newest training of this model, method and device in this RETUNE_HOME, or None.
    """

    rows: int | None
    trainings: int
    steps: int | None
    tokens: int | None
    tokens_are: Literal["counted", "bound"]
    tokens_per_second: float | None

    @property
    def seconds(self) -> float | None:
        """Of the steps; loading the model comes on top."""
        return self.tokens / self.tokens_per_second if self.tokens and self.tokens_per_second else None


@dataclass(frozen=True)
class Plan:
    """All that ``retune plan`` says; ``refusals`` is what a run would be refused for on this machine's device."""

    recipe: str
    model: str
    training: TrainingPlan
    workload: Workload
    refusals: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain data; bytes, seconds."""
        work = {**asdict(self.workload), "seconds": self.workload.seconds}
        return {
            "recipe": self.recipe,
            "model": self.model,
            **self.training.as_json(),
            "workload": work,
            "refusals": self.refusals,
        }


def plan_recipe(
    recipe: Recipe, home: Home, config_file: Path | None = None, devices: tuple[MemoryDevice, ...] | None = None
) -> Plan:
    """Plan a recipe's training on this machine, without weights and without a network.

    Args:
        recipe: what is to be trained.
        home: where earlier runs left their training sets and speeds.
        config_file: the model's ``config.json``, where neither its folder nor the catalogue has it.
        devices: instead of those that are present.

    Raises:
        ModelError: the model's config is not at hand, or the model has no layer of a wanted name.
    """
    devices = devices or devices_present()
    planned = plan_training(recipe.model, recipe.train, recipe.evaluate.server, devices, config_file)
    refused = tuple(device_refusals(recipe.train, planned.device.kind))
    return Plan(recipe.name, recipe.model.path, planned, _workload(recipe, planned, home), refused)


def _workload(recipe: Recipe, planned: TrainingPlan, home: Home) -> Workload:
    earlier = _trainings_of(recipe, home)
    config, validated = recipe.train, _last_training_set(home, recipe.name)
    rows = validated["summary"]["accepted"] if validated else None
    steps = _steps(config, rows)
    lengths = (_mean_length(done) for done in earlier if validated and _reads(done, validated))
    # A packed sequence is filled up, whatever the rows' own lengths.
    length = None if config.packing else next((found for found in lengths if found), None)
    tokens = None if steps is None else _tokens(config, steps, rows, length or config.max_length)
    return Workload(
        rows=rows,
        trainings=len(config.fractions),
        steps=steps,
        tokens=tokens,
        tokens_are="counted" if length else "bound",
        tokens_per_second=next((speed for done in earlier if (speed := _speed(done, planned))), None),
    )


def _steps(config: TrainConfig, rows: int | None) -> int | None:
    """Optimizer steps over all subsets; None where epochs are counted and the rows are not known."""
    if rows is None and config.max_steps is None:
        return None
    return sum(planned_steps(config, max(1, math.floor((rows or 0) * part))) for part in config.fractions)


def _tokens(config: TrainConfig, steps: int, rows: int | None, length: float) -> int:
    """Tokens of the steps; a step is never larger than the training set."""
    per_step = config.batch_size * config.accumulation_steps * config.processes
    return round(steps * min(per_step, rows or per_step) * length)


def _trainings_of(recipe: Recipe, home: Home) -> list[Manifest]:
    """The manifests of earlier trainings of the recipe's model, the newest first."""
    folders = (home.artifacts / "train").glob("*")
    found = [manifest for folder in folders if (manifest := _manifest(folder))]
    if not found:
        return []
    found.sort(key=lambda manifest: str(manifest["created"]), reverse=True)
    digest = model_digest(recipe.model)
    return [manifest for manifest in found if manifest["determinants"]["files"].get("model") == digest]


def _last_training_set(home: Home, recipe: str) -> Manifest | None:
    """The manifest of the last training set that a run of the recipe accepted."""
    for record in sorted(_records(home), key=lambda record: record.started, reverse=True):
        if record.recipe == recipe and "validate" in record.stages:
            folder = Path(record.stages["validate"]["path"])
            if manifest := _manifest(folder):
                return manifest
    return None


def _records(home: Home) -> Iterator[RunRecord]:
    """Of every run that can be read."""
    for file in home.runs.glob(f"*/{RECORD}"):
        with contextlib.suppress(RecipeError):
            yield read_record(home, file.parent.name)


def _manifest(folder: Path) -> Manifest | None:
    """An artifact's manifest; one that is damaged or being written is passed over: a plan can do without."""
    try:
        manifest: Manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest


def _reads(training: Manifest, validated: Manifest) -> bool:
    return any(given["digest"] == validated["digest"] for given in training["inputs"])


def _mean_length(training: Manifest) -> float | None:
    """Tokens of a row, as a training counted them."""
    tokens, rows = training["summary"]["details"].get("tokens"), training["summary"]["accepted"]
    return tokens / rows if tokens and rows else None


def _speed(training: Manifest, planned: TrainingPlan) -> float | None:
    """Tokens a second of an earlier training, if it ran by the same method on the same kind of device."""
    details = training["summary"]["details"]
    device = "cpu" if planned.device.kind == "cpu" else planned.device.name
    if details.get("method") != planned.method or details.get("device") != device:
        return None
    speed: float | None = details.get("tokens_per_second")
    return speed
