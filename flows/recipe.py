"""The whole recipe: composed of the stages' configurations; read, resolved and checked here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError, field_validator

from flows.recipe_checks import check_recipe
from tasks.collect.collect import CollectJob
from tasks.collect.config import (
    SOURCE_KINDS,
    CollectConfig,
    DatasetInfoSource,
    FileSource,
    HubSource,
    Source,
    SqlSource,
)  # fmt: skip
from tasks.collect.documents import fields_in
from tasks.collect.sources import resolved
from tasks.core.artifacts import ArtifactRef
from tasks.core.config import ChatTask, ModelSource, Name, Section
from tasks.core.control_tokens import control_tokens
from tasks.core.errors import RecipeError
from tasks.core.home import PROJECT_ROOT, Home
from tasks.core.prompts import SUFFIX, Prompt, read_prompt
from tasks.core.yaml_tree import doubled_keys
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.evaluate import EvaluateJob, Rival
from tasks.generate.config import GenerateConfig
from tasks.generate.generate import GenerateJob
from tasks.generate.rows import columns_of_rows
from tasks.publish.config import PublishConfig
from tasks.publish.publish import PublishJob
from tasks.train.chatml import CHATML_TOKENS
from tasks.train.config import TrainConfig
from tasks.train.train import TrainJob
from tasks.validate.config import ValidateConfig
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
        return fields_in(self.collect)

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """What must not be written in data: the special tokens of base, teacher and chat template."""
        teacher = self.generate.teacher if self.generate else None
        found = {token for model in (self.model, teacher) if model for token in control_tokens(model)}
        return tuple(sorted(found | set(CHATML_TOKENS if self.train.chat_template == "chatml" else ())))

    def collect_job(self, home: Home) -> CollectJob:
        return CollectJob(self.collect, self.task, self.control_tokens, self.name, home)

    def generate_job(self, collected: ArtifactRef) -> GenerateJob:
        assert self.generate is not None
        return GenerateJob(self.generate, self.model, self.task, collected, self.fields, self.seed, self.control_tokens)

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
    return _resolved(recipe, path.parent)


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


def _resolved(recipe: Recipe, folder: Path) -> Recipe:
    """The same recipe with paths relative to its file made absolute, and prompts and contracts found by name."""

    def absolute(path: str) -> str:
        return str((folder / path).resolve())

    def local(path: str) -> str:
        return absolute(path) if path.startswith((".", "/")) or (folder / path).is_dir() else path

    def model(source: ModelSource) -> ModelSource:
        return source.model_copy(update={"path": local(source.path)})

    def documents(source: Source) -> Source:
        if isinstance(source, FileSource):
            return source.model_copy(update={"path": absolute(source.path)})
        if isinstance(source, HubSource):
            return source.model_copy(update={"hub": local(source.hub)})
        if isinstance(source, DatasetInfoSource):
            return resolved(source.model_copy(update={"dataset_info": absolute(source.dataset_info)}))
        if isinstance(source, SqlSource):
            return source.model_copy(update={"sql": local_database(source.sql)})
        return source

    def local_database(url: str) -> str:
        """A SQLite file is found relative to the recipe, like every other file."""
        scheme, mark, path = url.partition(":///")
        is_relative = scheme.startswith("sqlite") and mark and path and not path.startswith(("/", "$", "file:"))
        return f"{scheme}:///{absolute(path)}" if is_relative else url

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
                "judges": tuple(named(name, PROMPTS, SUFFIX) for name in recipe.generate.judges),
                "teacher": model(recipe.generate.teacher) if recipe.generate.teacher else None,
                "adapter": absolute(recipe.generate.adapter) if recipe.generate.adapter else None,
            }
        )
    return recipe.model_copy(update=update)
