"""What a template's recipes know of it: the fields of its rows, the teacher that it is sent to, the contract it feeds.

Only the sections that templates depend on are read, by the models that a run reads them with: importing everything that
a whole recipe needs takes seconds, which is too long for a check before each commit.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.collect.config import CollectConfig, DatasetInfoSource, Source
from tasks.core.config import ModelSource
from tasks.core.errors import RecipeError
from tasks.core.home import PROJECT_ROOT
from tasks.core.prompts import SUFFIX
from tasks.core.prompts.findings import Finding
from tasks.generate.config import GenerateConfig
from tasks.validate.config import ValidateConfig

CONTRACT_SUFFIX = ".odcs.yaml"


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
    """The sections of a recipe that templates depend on; the others are left to the run."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    model: ModelSource
    collect: CollectConfig
    generate: GenerateConfig | None = None
    validate_: ValidateConfig = Field(alias="validate")


@dataclass(frozen=True)
class TemplateRecipe:
    """A recipe as its templates see it."""

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
        model = generate.teacher or self.sections.model
        folder = (self.path.parent / model.path).resolve()
        return model.model_copy(update={"path": str(folder)}) if folder.is_dir() else model

    @property
    def context_limit(self) -> int | None:
        """The context length that the recipe gives its teacher; None: the model's own."""
        generate = self.sections.generate
        return generate.server.max_model_len if generate else None

    @property
    def contract_name(self) -> str:
        """As the recipe writes it: a name, or a path."""
        return self.sections.validate_.contract

    @property
    def contract(self) -> Path:
        """Its file."""
        name = self.contract_name
        if name.endswith(CONTRACT_SUFFIX):
            return (self.path.parent / name).resolve()
        return self.project.contracts / f"{name}{CONTRACT_SUFFIX}"

    def names(self, template: Path) -> bool:
        """Whether it uses a template."""
        return template.resolve() in {*self.writers, *self.judges}

    def _template(self, name: str) -> Path:
        path = self.path.parent / name if name.endswith(SUFFIX) else self.project.prompts / f"{name}{SUFFIX}"
        return path.resolve()


def read_recipe_of_templates(name: str, project: Project) -> TemplateRecipe:
    """Read a recipe by name or path.

    Raises:
        RecipeError: there is none, or a section that templates depend on is malformed.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else project.recipes / f"{name}.yaml"
    try:
        sections = _Sections.model_validate(yaml.safe_load(path.read_bytes()))
        return TemplateRecipe(path.resolve(), project, _with_forms(sections, path.resolve().parent))
    except FileNotFoundError as error:
        known = sorted(file.stem for file in project.recipes.glob("*.yaml"))
        remedy = f"{nearest(name, known)}recipes are: {', '.join(known)}"
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


def recipes_of(templates: Iterable[Path], project: Project) -> tuple[list[TemplateRecipe], list[Finding]]:
    """The project's recipes that use one of the templates, and what is wrong with those that cannot be read."""
    wanted = {path.resolve() for path in templates}
    found: list[TemplateRecipe] = []
    unreadable: list[Finding] = []
    for path in sorted(project.recipes.glob("*.yaml")):
        try:
            recipe = read_recipe_of_templates(str(path), project)
        except RecipeError as error:
            remedy = f"{error.remedy}; until then its templates are not checked for it"
            unreadable.append(Finding("recipe", error.what, str(path), 1, 1, remedy, "warning"))
            continue
        if wanted & {*recipe.writers, *recipe.judges}:
            found.append(recipe)
    return found, unreadable


def nearest(name: str, known: Iterable[str]) -> str:
    """``did you mean 'x'? `` where a known name resembles this one, or nothing."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {near[0]!r}? " if near else ""


def _problem(error: Exception) -> str:
    """One line on why a recipe cannot be read."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"The recipe cannot be read: {'.'.join(map(str, first['loc'])) or 'the recipe'}: {first['msg']}"
    return f"The recipe cannot be read: {' '.join(str(error).split())}"
