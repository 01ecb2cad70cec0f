"""The whole recipe: composed of the stages' configurations; read, resolved and checked here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError, field_validator

from tasks.collect.collect import CollectJob
from tasks.collect.config import CollectConfig, FileSource, HubSource
from tasks.collect.readers import check_columns
from tasks.core.artifacts import ArtifactRef
from tasks.core.config import ChatTask, ModelSource, Name, Section
from tasks.core.errors import PromptError, RecipeError
from tasks.core.home import PROJECT_ROOT
from tasks.core.models import check_model
from tasks.core.prompts import SUFFIX, Prompt, read_prompt
from tasks.core.vllm.server import vllm_python
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.evaluate import EvaluateJob, Rival
from tasks.generate.config import GenerateConfig
from tasks.generate.generate import GenerateJob
from tasks.publish.config import PublishConfig
from tasks.publish.publish import PublishJob
from tasks.train.config import TrainConfig
from tasks.train.train import TrainJob
from tasks.validate.config import ValidateConfig
from tasks.validate.contract import check_contract, contract_columns
from tasks.validate.validate import ValidateJob

RECIPES = PROJECT_ROOT / "deployments" / "recipes"
PROMPTS = PROJECT_ROOT / "prompts"
CONTRACTS = PROJECT_ROOT / "data_contracts"
CONTRACT_SUFFIX = ".odcs.yaml"


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
        return tuple(self.collect.columns)

    def collect_job(self) -> CollectJob:
        return CollectJob(self.collect, self.task)

    def generate_job(self, collected: ArtifactRef) -> GenerateJob:
        assert self.generate is not None
        return GenerateJob(self.generate, self.model, self.task, collected, self.fields, self.seed)

    def validate_job(self, collected: ArtifactRef, generated: ArtifactRef | None) -> ValidateJob:
        return ValidateJob(self.validate_, collected, generated, self.row_fields)

    def train_job(self, validated: ArtifactRef) -> TrainJob:
        return TrainJob(self.train, self.model, validated, self.seed)

    def evaluate_job(self, collected: ArtifactRef, trained: ArtifactRef, champion: Rival | None) -> EvaluateJob:
        return EvaluateJob(self.evaluate, self.model, self.task, collected, trained, champion)

    def publish_job(self, artifacts: Mapping[str, ArtifactRef]) -> PublishJob:
        training = self.train.model_dump(include={"method", "quant_type", "double_quantisation"})
        return PublishJob(
            self.publish,
            self.name,
            self.model,
            training,
            artifacts["collect"],
            artifacts.get("generate"),
            artifacts["validate"],
            artifacts["train"],
            artifacts["evaluate"],
        )

    @property
    def prompts(self) -> list[Prompt]:
        """The prompts that write rows."""
        return [read_prompt(Path(path)) for path in self.generate.prompts] if self.generate else []

    @property
    def row_fields(self) -> tuple[str, ...]:
        """The columns of a generated row."""
        written = (name for prompt in self.prompts for name in prompt.head.output.fields)
        return tuple(dict.fromkeys([*self.fields, *written]))

    def check(self) -> None:
        """Find what is wrong with the files a recipe names before anything is started.

        Raises:
            RetuneError: a missing source or column, a broken prompt or contract, an incomplete model, no vLLM.
        """
        check_columns(self.collect)
        check_model(self.model)
        if self.generate and self.generate.teacher:
            check_model(self.generate.teacher)
        names = [prompt.name for prompt in self.prompts]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise RecipeError(
                f"Two of generate.prompts have the name {twice!r}: their rows would have the same ids",
                where=self.name,
                remedy="name each once; rows_per_document in the prompt's file asks for more rows",
            )
        for prompt in self.prompts:
            _check_prompt(prompt, self.fields)
        if self.generate and self.generate.check:
            check = read_prompt(Path(self.generate.check))
            _check_prompt(check, (*self.row_fields, "raw"))
            if check.head.output.accept is None:
                raise PromptError(
                    "A prompt used as generate.check needs output.accept",
                    where=str(check.path),
                    remedy="add the regular expression that a passing answer matches, such as accept: '^yes'",
                )
        check_contract(Path(self.validate_.contract), contract_columns(self.row_fields))
        for role, field in (("input", self.task.input), ("output", self.task.output)):
            fields = self.fields or self.row_fields
            if (self.collect.columns or self.generate) and field not in fields:
                raise RecipeError(
                    f"task.{role} names the field {field!r}, which no document has",
                    where=self.name,
                    remedy=f"map a column to it in collect.columns; fields are: {', '.join(fields) or 'none'}",
                )
        vllm_python()


def _check_prompt(prompt: Prompt, known: tuple[str, ...]) -> None:
    for variable in prompt.head.variables:
        if variable not in (*known, "document_id"):
            near = difflib.get_close_matches(variable, known, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise PromptError(
                f"The prompt's variable {variable!r} is no field of the recipe's rows",
                where=str(prompt.path),
                remedy=f"{hint}fields are: {', '.join(known)}",
            )


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
    if "validate" in data:
        data["validate_"] = data.pop("validate")
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise _readable(error, path, node) from error
    return _resolved(recipe, path.parent)


def _readable(error: ValidationError, path: Path, node: Any) -> RecipeError:
    """The first problem of a recipe in a reader's words, with the line of its key."""
    first = error.errors()[0]
    branches = {kind.__name__ for kind in (FileSource, HubSource)}  # pydantic's place of a source names its kind
    keys = ["validate" if key == "validate_" else key for key in first["loc"] if key not in branches]
    line = _line_of(node, keys)
    name = ".".join(str(key) for key in keys) or "the recipe"
    others = f" ({error.error_count() - 1} more problems follow)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _known_keys(keys[:-1])
        near = difflib.get_close_matches(str(keys[-1]), known, 1)
        remedy = (f"did you mean {near[0]!r}? " if near else "") + f"keys here are: {', '.join(known)}"
        return RecipeError(f"Unknown key {name!r}{others}", where=f"{path}:{line}", remedy=remedy)
    return RecipeError(f"{name}: {first['msg']}{others}", where=f"{path}:{line}")


def _known_keys(keys: list[Any]) -> list[str]:
    """The keys that may stand at a place of a recipe."""
    sections: list[type[Section]] = [Recipe]
    for key in keys:
        if isinstance(key, str):
            name = "validate_" if key == "validate" else key
            fields = [section.model_fields[name] for section in sections if name in section.model_fields]
            sections = [section for field in fields for section in _sections(field.annotation)]
    return ["validate" if name == "validate_" else name for section in sections for name in section.model_fields]


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


def _resolved(recipe: Recipe, folder: Path) -> Recipe:
    """The same recipe with paths relative to its file made absolute, and prompts and contracts found by name."""

    def absolute(path: str) -> str:
        return str((folder / path).resolve())

    def local(path: str) -> str:
        return absolute(path) if path.startswith((".", "/")) or (folder / path).is_dir() else path

    def model(source: ModelSource) -> ModelSource:
        return source.model_copy(update={"path": local(source.path)})

    def documents(source: FileSource | HubSource) -> FileSource | HubSource:
        update = {"hub": local(source.hub)} if isinstance(source, HubSource) else {"path": absolute(source.path)}
        return source.model_copy(update=update)

    def named(name: str, home: Path, suffix: str) -> str:
        return absolute(name) if name.endswith(suffix) else str(home / f"{name}{suffix}")

    sources = tuple(map(documents, recipe.collect.sources))
    update: dict[str, Any] = {
        "model": model(recipe.model),
        "collect": recipe.collect.model_copy(update={"sources": sources}),
        "validate_": recipe.validate_.model_copy(
            update={"contract": named(recipe.validate_.contract, CONTRACTS, CONTRACT_SUFFIX)}
        ),
    }
    if recipe.generate is not None:
        update["generate"] = recipe.generate.model_copy(
            update={
                "prompts": tuple(named(name, PROMPTS, SUFFIX) for name in recipe.generate.prompts),
                "check": named(recipe.generate.check, PROMPTS, SUFFIX) if recipe.generate.check else None,
                "teacher": model(recipe.generate.teacher) if recipe.generate.teacher else None,
            }
        )
    return recipe.model_copy(update=update)
