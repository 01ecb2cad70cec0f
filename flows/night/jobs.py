"""The stages' jobs, each made from a recipe and the artifacts of the stages before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.recipe.named_files import contract_context, control_tokens_of, document_fields, row_fields
from flows.recipe.recipe import Recipe
from tasks.collect.collect import CollectJob
from tasks.core.artifacts import ArtifactRef
from tasks.core.home import Home
from tasks.core.merging.trained import MergeSettings
from tasks.evaluate.curve import Smaller
from tasks.evaluate.evaluate import EvaluateJob, Rival
from tasks.generate.generate import GenerateJob
from tasks.publish.publish import PublishJob
from tasks.train.train import InitialAdapter, TrainJob
from tasks.validate.check_documents import CheckDocumentsJob
from tasks.validate.check_training_set import CheckTrainingSetJob, Publications
from tasks.validate.validate import ValidateJob


def collect_job(recipe: Recipe, home: Home) -> CollectJob:
    tokens, replay = control_tokens_of(recipe), recipe.train.mix.replay
    return CollectJob(recipe.collect, recipe.task, tokens, recipe.name, home, replay)


def documents_job(recipe: Recipe, collected: ArtifactRef) -> CheckDocumentsJob:
    return CheckDocumentsJob(recipe.validate_, collected, document_fields(recipe), contract_context(recipe))


def generate_job(recipe: Recipe, documents: ArtifactRef) -> GenerateJob:
    """The job of a recipe that has a ``generate`` section."""
    assert recipe.generate is not None
    fields, tokens = document_fields(recipe), control_tokens_of(recipe)
    return GenerateJob(recipe.generate, recipe.model, recipe.task, documents, fields, recipe.seed, tokens)


def validate_job(
    recipe: Recipe, collected: ArtifactRef, documents: ArtifactRef, generated: ArtifactRef | None
) -> ValidateJob:
    context, fields, replay = contract_context(recipe), row_fields(recipe), recipe.train.mix.replay
    return ValidateJob(recipe.validate_, collected, documents, generated, fields, context, recipe.seed, replay)


def training_set_job(recipe: Recipe, validated: ArtifactRef, publications: Publications) -> CheckTrainingSetJob:
    context = contract_context(recipe)
    return CheckTrainingSetJob(recipe.validate_, validated, publications, row_fields(recipe), context)


def train_job(
    recipe: Recipe, validated: ArtifactRef, initial: InitialAdapter | None = None, fraction: float = 1.0
) -> TrainJob:
    return TrainJob(recipe.train, recipe.model, validated, recipe.seed, fraction, initial)


def smaller_train_jobs(
    recipe: Recipe, validated: ArtifactRef, initial: InitialAdapter | None = None
) -> tuple[TrainJob, ...]:
    """Trainings on parts of the training set, for the learning curve; smallest first."""
    return tuple(train_job(recipe, validated, initial, fraction) for fraction in recipe.train.fractions[:-1])


def evaluate_job(
    recipe: Recipe,
    documents: ArtifactRef,
    trained: ArtifactRef,
    champion: Rival | None,
    smaller: tuple[Smaller, ...] = (),
) -> EvaluateJob:
    config, replay = recipe.evaluate, recipe.train.mix.replay
    merging = MergeSettings(**_training(recipe), dtype=recipe.publish.dtype)
    return EvaluateJob(config, recipe.model, recipe.task, documents, trained, champion, smaller, replay, merging)


def publish_job(recipe: Recipe, artifacts: Mapping[str, ArtifactRef]) -> PublishJob:
    """The job that publishes what a night made; ``artifacts`` are by the names of their stages."""
    return PublishJob(
        recipe.publish,
        recipe.name,
        recipe.model,
        _training(recipe),
        artifacts["collect"],
        artifacts.get("generate"),
        artifacts["validate"],
        artifacts["train"],
        artifacts["evaluate"],
        (artifacts["check_documents"], artifacts["check_training_set"]),
    )


def _training(recipe: Recipe) -> dict[str, Any]:
    return recipe.train.model_dump(include={"method", "quant_type", "double_quantisation"})
