"""The whole recipe: composed of the stages' configurations; read, resolved and checked here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import field_validator

from tasks.collect.collect import CollectJob
from tasks.collect.config import CollectConfig
from tasks.collect.documents import fields_in
from tasks.core.artifacts import ArtifactRef
from tasks.core.config import ChatTask, ModelSource, Name, Section
from tasks.core.control_tokens import control_tokens
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.merging.trained import MergeSettings
from tasks.core.prompts import Prompt, read_prompt
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.curve import Smaller
from tasks.evaluate.evaluate import EvaluateJob, Rival
from tasks.generate.config import GenerateConfig
from tasks.generate.generate import GenerateJob
from tasks.generate.written_rows import columns_of_rows
from tasks.publish.config import PublishConfig
from tasks.publish.publish import PublishJob
from tasks.train.chat_templates import template_marks
from tasks.train.config import TrainConfig
from tasks.train.train import InitialAdapter, TrainJob
from tasks.validate.check_documents import CheckDocumentsJob
from tasks.validate.check_training_set import CheckTrainingSetJob, Publications
from tasks.validate.config import ValidateConfig
from tasks.validate.contracts.rule import ContractContext
from tasks.validate.validate import ValidateJob

RECIPES = PROJECT_ROOT / "deployments" / "recipes"


class Recipe(Section):
    """Everything one nightly run needs, a section per stage; paths are absolute once it is read."""

    name: Name
    description: str = ""
    seed: int = 3407
    model: ModelSource
    task: ChatTask = ChatTask()
    collect: CollectConfig
    generate: GenerateConfig | None = None
    validate_: ValidateConfig
    train: TrainConfig
    evaluate: EvaluateConfig
    publish: PublishConfig

    @field_validator("description", mode="before")
    @classmethod
    def _one_line(cls, value: str) -> str:
        return " ".join(str(value).split())

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns of a document, as prompts and contracts name them."""
        return fields_in(self.collect)

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """What must not be written in data: the special tokens of base, teacher and chat template."""
        teacher = self.generate.teacher if self.generate else None
        found = {token for model in (self.model, teacher) if model for token in control_tokens(model)}
        return tuple(sorted(found | set(template_marks(self.train.chat_template))))

    @property
    def contract_context(self) -> ContractContext:
        """What the rules of contracts need to know of the recipe."""
        return ContractContext(self.model.path, self.control_tokens, self.task.labels)

    def collect_job(self, home: Home) -> CollectJob:
        return CollectJob(self.collect, self.task, self.control_tokens, self.name, home, self.train.mix.replay)

    def documents_job(self, collected: ArtifactRef) -> CheckDocumentsJob:
        return CheckDocumentsJob(self.validate_, collected, self.fields, self.contract_context)

    def generate_job(self, documents: ArtifactRef) -> GenerateJob:
        assert self.generate is not None
        return GenerateJob(self.generate, self.model, self.task, documents, self.fields, self.seed, self.control_tokens)

    def validate_job(
        self, collected: ArtifactRef, documents: ArtifactRef, generated: ArtifactRef | None
    ) -> ValidateJob:
        context, fields, replay = self.contract_context, self.row_fields, self.train.mix.replay
        return ValidateJob(self.validate_, collected, documents, generated, fields, context, self.seed, replay)

    def training_set_job(self, validated: ArtifactRef, publications: Publications) -> CheckTrainingSetJob:
        return CheckTrainingSetJob(self.validate_, validated, publications, self.row_fields, self.contract_context)

    def train_job(
        self, validated: ArtifactRef, initial: InitialAdapter | None = None, fraction: float = 1.0
    ) -> TrainJob:
        return TrainJob(self.train, self.model, validated, self.seed, fraction, initial)

    def smaller_train_jobs(self, validated: ArtifactRef, initial: InitialAdapter | None = None) -> tuple[TrainJob, ...]:
        """Trainings on parts of the training set, for the learning curve; smallest first."""
        return tuple(self.train_job(validated, initial, fraction) for fraction in self.train.fractions[:-1])

    def evaluate_job(
        self, documents: ArtifactRef, trained: ArtifactRef, champion: Rival | None, smaller: tuple[Smaller, ...] = ()
    ) -> EvaluateJob:
        replay, merging = self.train.mix.replay, MergeSettings(**self._training, dtype=self.publish.dtype)
        return EvaluateJob(self.evaluate, self.model, self.task, documents, trained, champion, smaller, replay, merging)

    def publish_job(self, artifacts: Mapping[str, ArtifactRef]) -> PublishJob:
        return PublishJob(
            self.publish,
            self.name,
            self.model,
            self._training,
            artifacts["collect"],
            artifacts.get("generate"),
            artifacts["validate"],
            artifacts["train"],
            artifacts["evaluate"],
            (artifacts["check_documents"], artifacts["check_training_set"]),
        )

    @property
    def _training(self) -> dict[str, Any]:
        """What the merge has to know of the training."""
        return self.train.model_dump(include={"method", "quant_type", "double_quantisation"})

    @property
    def prompts(self) -> list[Prompt]:
        """The prompts that write rows."""
        return [read_prompt(Path(path)) for path in self.generate.prompts] if self.generate else []

    @property
    def judges(self) -> list[Prompt]:
        """The prompts that judge rows."""
        return [read_prompt(Path(path)) for path in self.generate.judges] if self.generate else []

    @property
    def row_fields(self) -> tuple[str, ...]:
        """The columns of a generated row."""
        return columns_of_rows(self.fields, self.prompts)
