"""The files of a project, and what its recipes say of templates and contracts, read quickly.

Only the sections that templates and contracts depend on are read, by the models that a run reads them with: importing
everything that a whole recipe needs takes seconds, which is too long for a check before each commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.collect.config import CollectConfig, DatasetInfoSource, Source
from tasks.core.config import ChatTask, ModelSource
from tasks.core.errors import RecipeError
from tasks.core.findings import Finding
from tasks.core.home import PROJECT_ROOT
from tasks.core.prompts import SUFFIX
from tasks.core.suggestions import did_you_mean
from tasks.generate.config import GenerateConfig
from tasks.validate.config import ValidateConfig

CONTRACT_SUFFIX = ".odcs.yaml"
BOUNDARIES = ("documents", "evaluations", "rows", "training_set")
"""Where a night checks a contract, in its order; the keys of a recipe's ``validate.contracts``."""


@dataclass(frozen=True)
class Project:
    """Where the files of a project lie."""

    root: Path = PROJECT_ROOT

    @property
    def prompts(self) -> Path:
        return self.root / "prompts"

    @property
    def recipes(self) -> Path:
        return self.root / "deployments" / "recipes"

    @property
    def contracts(self) -> Path:
        return self.root / "data_contracts"


class _Sections(BaseModel):
    """The sections of a recipe that templates and contracts depend on; the others are left to the run."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    model: ModelSource
    task: ChatTask = ChatTask()
    collect: CollectConfig
    generate: GenerateConfig | None = None
    validate_: ValidateConfig = Field(alias="validate")


@dataclass(frozen=True)
class ProjectRecipe:
    """A recipe as its templates and contracts see it."""

    path: Path
    project: Project
    sections: _Sections

    @property
    def name(self) -> str:
        return self.sections.name

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields of its documents."""
        from tasks.collect.documents import fields_in  # the stage's own idea of them; it loads pyarrow

        return fields_in(self.sections.collect)

    @cached_property
    def writers(self) -> tuple[Path, ...]:
        """The templates that write its rows."""
        generate = self.sections.generate
        return tuple(map(self._template, generate.prompts)) if generate else ()

    @cached_property
    def judges(self) -> tuple[Path, ...]:
        """The templates that judge its rows."""
        generate = self.sections.generate
        return tuple(map(self._template, generate.judges)) if generate else ()

    @property
    def teacher(self) -> ModelSource | None:
        """The model that is started to answer; None where remote servers are asked."""
        generate = self.sections.generate
        if generate is None or generate.endpoints:
            return None
        return self._found(generate.teacher or self.sections.model)

    @property
    def context_limit(self) -> int | None:
        """The context length that the recipe gives its teacher; None: the model's own."""
        generate = self.sections.generate
        return generate.server.max_model_len if generate else None

    @property
    def model(self) -> ModelSource:
        """The model that is trained."""
        return self._found(self.sections.model)

    @property
    def labels(self) -> tuple[str, ...]:
        """The closed set of answers, where the task has one."""
        return self.sections.task.labels

    def contract_name(self, boundary: str) -> str:
        """The contract at a boundary as the recipe writes it: a name, or a path."""
        name: str = getattr(self.sections.validate_.contracts, boundary)
        return name

    def contract(self, boundary: str) -> Path:
        """Its file."""
        return contract_path(self.contract_name(boundary), self.project, self.path.parent)

    def place_of(self, boundary: str) -> tuple[int, int]:
        """Line and column of a contract's name in the recipe, or of the section that leaves it out."""
        place, node = (1, 1), yaml.compose(self.path.read_text(encoding="utf-8"), yaml.SafeLoader)
        for key in ("validate", "contracts", boundary):
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            found = next(((name, value) for name, value in pairs if name.value == key), None)
            if found is None:
                return place
            mark, node = found[0].start_mark, found[1]
            place = (mark.line + 1, mark.column + 1)
        return place

    def names(self, template: Path) -> bool:
        """Whether it uses a template."""
        return template.resolve() in {*self.writers, *self.judges}

    def _found(self, model: ModelSource) -> ModelSource:
        folder = (self.path.parent / model.path).resolve()
        return model.model_copy(update={"path": str(folder)}) if folder.is_dir() else model

    def _template(self, name: str) -> Path:
        path = self.path.parent / name if name.endswith(SUFFIX) else self.project.prompts / f"{name}{SUFFIX}"
        return path.resolve()


def read_project_recipe(name: str, project: Project) -> ProjectRecipe:
    """Read a recipe by name or path.

    Raises:
        RecipeError: there is none, or a section that templates and contracts depend on is malformed.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else project.recipes / f"{name}.yaml"
    try:
        sections = _Sections.model_validate(yaml.safe_load(path.read_bytes()))
        return ProjectRecipe(path.resolve(), project, _with_forms(sections, path.resolve().parent))
    except FileNotFoundError as error:
        known = sorted(file.stem for file in project.recipes.glob("*.yaml"))
        remedy = f"{did_you_mean(name, known)}recipes are: {', '.join(known)}"
        raise RecipeError(f"There is no recipe {name!r}", where=str(path), remedy=remedy) from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RecipeError(
            _problem(error), where=str(path), remedy="correct the recipe; retune run names the line"
        ) from error


def _with_forms(sections: _Sections, folder: Path) -> _Sections:
    """The same sections; sources that a ``dataset_info.json`` describes have the form and the columns it states."""

    def with_form(source: Source) -> Source:
        if not isinstance(source, DatasetInfoSource):
            return source
        from tasks.collect.sources import resolved  # loads what reads every kind of source

        return resolved(source.model_copy(update={"dataset_info": str((folder / source.dataset_info).resolve())}))

    sources = tuple(map(with_form, sections.collect.sources))
    return sections.model_copy(update={"collect": sections.collect.model_copy(update={"sources": sources})})


def read_recipes(project: Project) -> tuple[list[ProjectRecipe], list[Finding]]:
    """The project's recipes, and a warning for each that cannot be read."""
    found: list[ProjectRecipe] = []
    unreadable: list[Finding] = []
    for path in sorted(project.recipes.glob("*.yaml")):
        try:
            found.append(read_project_recipe(str(path), project))
        except RecipeError as error:
            remedy = f"{error.remedy}; until then its templates and contracts are not checked for it"
            unreadable.append(Finding("recipe", error.what, str(path), 1, 1, remedy, "warning"))
    return found, unreadable


def contract_path(name: str, project: Project, folder: Path) -> Path:
    """The file of a contract: one of the project's by name, or by its path from a folder."""
    if name.endswith(CONTRACT_SUFFIX):
        return (folder / name).resolve()
    return project.contracts / f"{name}{CONTRACT_SUFFIX}"


def _problem(error: Exception) -> str:
    """One line on why a recipe cannot be read."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"The recipe cannot be read: {'.'.join(map(str, first['loc'])) or 'the recipe'}: {first['msg']}"
    return f"The recipe cannot be read: {' '.join(str(error).split())}"
