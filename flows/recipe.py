"""The whole recipe: composed of the stages' configurations; read, resolved and checked here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError, field_validator

from flows.recipe_checks import check_recipe
from flows.recipe_paths import with_absolute_paths
from tasks.collect.collect import CollectJob
from tasks.collect.config import SOURCE_KINDS, CollectConfig
from tasks.collect.documents import fields_in
from tasks.core.artifacts import ArtifactRef
from tasks.core.config import ChatTask, ModelSource, Name, Section
from tasks.core.control_tokens import control_tokens
from tasks.core.errors import RecipeError
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.merging.trained import MergeSettings
from tasks.core.prompts import Prompt, read_prompt
from tasks.core.yaml_tree import doubled_keys
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.curve import Smaller
from tasks.evaluate.evaluate import EvaluateJob, Rival
from tasks.generate.config import GenerateConfig
from tasks.generate.generate import GenerateJob
from tasks.generate.rows import columns_of_rows
from tasks.publish.config import PublishConfig
from tasks.publish.publish import PublishJob
from tasks.train.chat_templates import template_marks
from tasks.train.config import TrainConfig
from tasks.train.train import InitialAdapter, TrainJob
from tasks.validate.check_documents import CheckDocumentsJob
from tasks.validate.check_training_set import CheckTrainingSetJob, Publications
from tasks.validate.config import ValidateConfig
from tasks.validate.contract import ContractContext
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

    def check(self) -> None:
        """Find what is wrong with the files a recipe names before anything is started.

        Raises:
            RetuneError: a missing source or column, a broken prompt or contract, an incomplete model, no vLLM.
        """
        check_recipe(self)


def recipe_path(name: str) -> Path:
    """The file of a recipe: a path, or a name in ``deployments/recipes``.

    Raises:
        RecipeError: there is none; with those there are.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in RECIPES.glob("*.yaml"))
        near = difflib.get_close_matches(name, known, 1)
        raise RecipeError(
            f"There is no recipe {name!r}",
            where=str(path),
            remedy=(f"did you mean {near[0]!r}? " if near else "") + f"recipes are: {', '.join(known)}",
        )
    return path.resolve()


def read_recipe(name: str) -> Recipe:
    """Read a recipe by name or path, and make its paths absolute.

    Raises:
        RecipeError: no such recipe, no YAML, an unknown key or a wrong value; with file and line.
    """
    path = recipe_path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"The recipe is not UTF-8: {error}", where=str(path), remedy="save it as UTF-8") from error
    try:
        data = yaml.safe_load(text)
        node = yaml.compose(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"The recipe is no YAML: {error}", where=str(path)) from error
    if not isinstance(data, dict):
        raise RecipeError(
            "The recipe is empty or no mapping", where=str(path), remedy="copy one from deployments/recipes"
        )
    for key in doubled_keys(node):
        raise RecipeError(
            f"The key {key.value!r} stands twice",
            where=f"{path}:{key.start_mark.line + 1}",
            remedy="remove one of the two",
        )
    if "validate" in data:
        data["validate_"] = data.pop("validate")
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise _readable(error, path, node) from error
    return with_absolute_paths(recipe, path.parent)


def _readable(error: ValidationError, path: Path, node: Any) -> RecipeError:
    """The first problem of a recipe in a reader's words, with the line of its key."""
    first = error.errors()[0]
    keys = _keys(first["loc"])
    line = _line_of(node, keys)
    name = ".".join(str(key) for key in keys) or "the recipe"
    others = f" ({error.error_count() - 1} more problems follow)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _known_keys(keys[:-1])
        near = difflib.get_close_matches(str(keys[-1]), known, 1)
        remedy = (f"did you mean {near[0]!r}? " if near else "") + f"keys here are: {', '.join(known)}"
        return RecipeError(f"Unknown key {name!r}{others}", where=f"{path}:{line}", remedy=remedy)
    message = first["msg"].removeprefix("Value error, ")
    return RecipeError(
        f"{name}: {message}{others}", where=f"{path}:{line}", remedy="docs/recipes.md says what each key takes"
    )


def _keys(place: Sequence[int | str]) -> list[int | str]:
    """The keys of a recipe that lead to a place; pydantic's own names the kind of a source behind its number."""
    keys: list[int | str] = ["validate" if key == "validate_" else key for key in place]
    if keys[:2] == ["collect", "sources"] and len(keys) > 3 and keys[3] in SOURCE_KINDS:
        del keys[3]
    return keys


def _known_keys(keys: list[Any]) -> list[str]:
    """The keys that may stand at a place of a recipe."""
    sections: list[type[Section]] = [Recipe]
    for key in keys:
        if isinstance(key, str):
            name = "validate_" if key == "validate" else key
            fields = [section.model_fields[name] for section in sections if name in section.model_fields]
            sections = [section for field in fields for section in _sections(field.annotation)]
    names = (name for section in sections for name in section.model_fields)
    return list(dict.fromkeys("validate" if name == "validate_" else name for name in names))


def _sections(annotation: Any) -> list[type[Section]]:
    """The sections that a type allows, through unions and tuples."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for inner in get_args(annotation) for section in _sections(inner)]


def _line_of(node: Any, keys: list[Any]) -> int:
    """The line of the innermost key that the YAML tree still has."""
    line = 1
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == str(key)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
    return line
