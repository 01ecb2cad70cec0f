"""The recipes of a project as its templates and contracts see them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from flows.recipe.paths import CONTRACT_SUFFIX, Project
from flows.recipe.read import read_recipe, recipe_path
from flows.recipe.recipe import Recipe
from tasks.core.config import ModelSource
from tasks.core.errors import RetuneError
from tasks.core.findings import Finding
from tasks.core.yaml_tree import Place, find_node

BOUNDARIES = ("documents", "evaluations", "rows", "training_set")
"""Where a night checks a contract, in its order; the keys of a recipe's ``validate.contracts``."""


@dataclass(frozen=True)
class ProjectRecipe:
    """A recipe, its file and its project."""

    path: Path
    project: Project
    content: Recipe

    @property
    def name(self) -> str:
        return self.content.name

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields of its documents."""
        from tasks.collect.documents import fields_in  # slow to import

        return fields_in(self.content.collect)

    @cached_property
    def writers(self) -> tuple[Path, ...]:
        """The templates that write its rows."""
        return tuple(Path(path).resolve() for path in self.content.generate.prompts) if self.content.generate else ()

    @cached_property
    def judges(self) -> tuple[Path, ...]:
        """The templates that judge its rows."""
        return tuple(Path(path).resolve() for path in self.content.generate.judges) if self.content.generate else ()

    @property
    def teacher(self) -> ModelSource | None:
        """The model that is started to answer; None where remote servers are asked."""
        generate = self.content.generate
        return None if generate is None or generate.endpoints else generate.teacher or self.content.model

    def contract(self, boundary: str) -> Path:
        """The file of the contract at a boundary."""
        return Path(getattr(self.content.validate_.contracts, boundary))

    def contract_name(self, boundary: str) -> str:
        """The name of a contract of the project, or a path."""
        path = self.contract(boundary)
        return path.name.removesuffix(CONTRACT_SUFFIX) if path.parent == self.project.contracts else str(path)

    def place_of(self, boundary: str) -> Place:
        """Line and column of a contract's name in the recipe, or of the section that leaves it out."""
        tree = yaml.compose(self.path.read_text(encoding="utf-8"), yaml.SafeLoader)
        return find_node(tree, ("validate", "contracts", boundary))[0]

    def names(self, template: Path) -> bool:
        """Whether it uses a template."""
        return template.resolve() in {*self.writers, *self.judges}


def read_project_recipe(name: str, project: Project) -> ProjectRecipe:
    """Read a recipe by name or path. Raises RetuneError: there is none, or it is malformed."""
    return ProjectRecipe(recipe_path(name, project), project, read_recipe(name, project))


def read_recipes(project: Project) -> tuple[list[ProjectRecipe], list[Finding]]:
    """The project's recipes, and a warning for each that cannot be read."""
    found: list[ProjectRecipe] = []
    unreadable: list[Finding] = []
    for path in sorted(project.recipes.glob("*.yaml")):
        try:
            found.append(read_project_recipe(str(path), project))
        except RetuneError as error:
            line = error.where.removeprefix(f"{path.resolve()}:")
            what = f"The recipe cannot be read: {error.what}"
            remedy = f"{error.remedy}; until then its templates and contracts are not checked for it"
            place = (int(line) if line.isdigit() else 1, 1)
            unreadable.append(Finding("recipe", what, str(path), *place, remedy, "warning"))
    return found, unreadable
